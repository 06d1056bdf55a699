# SPDX-License-Identifier: GPL-3.0-or-later
"""A training of three steps a stage, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import torch

from dasr_blender.training import distill


def three_steps(category: Path, shard: Path, clip_batch: int) -> distill.TrainConfig:
    """Settings of a run so small that a test can wait for it; `out` is still to be given."""
    return distill.TrainConfig(
        shard=shard,
        out=Path(),
        category=str(category),
        frame_steps=3,
        clip_steps=3,
        batch=8,
        clip_batch=clip_batch,
        width=64,
        imagenet=False,
        vertices=50,
        checkpoint_minutes=1e9,
        plot=False,
    )


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's student."""
    return torch.load(checkpoint, weights_only=True)["student"]
