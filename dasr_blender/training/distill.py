# SPDX-License-Identifier: GPL-3.0-or-later
"""Train a category's student on pseudo ground truth, whoever made it: the synthetic clips or a teacher.

Two stages, as in DASR (CVPR 2023): first the network and its heads on single frames, then the temporal encoder on
features of whole clips, computed once (`stages`). Both run for a number of steps or for a number of minutes; the
learning rate follows the share of the work done, so it has always come down when the time is up (`trainer`). It takes
a GPU when there is one, and several with `torchrun` (`parallel`).
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..core.category import load_category
from .parallel import leave
from .student.checkpoint import load_student
from .student.schedule import learning_rate
from .train_config import TrainConfig
from .trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "learning_rate", "load_student", "main", "train"]


def train(config: TrainConfig) -> Path:
    """Train, or go on training; returns the checkpoint."""
    torch.set_num_threads(1)
    trainer = Trainer(config, load_category(config.category))
    try:
        trainer.run()
    finally:
        leave(trainer.team)
    return trainer.checkpoint


def main(argv: list[str] | None = None) -> int:
    """`train`: the student of a category from a shard."""
    import tyro

    config = tyro.cli(TrainConfig, args=argv, prog="train")
    checkpoint = train(config)
    print(f"checkpoint: {checkpoint}")
    return 0
