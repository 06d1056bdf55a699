# SPDX-License-Identifier: GPL-3.0-or-later
"""How a student is trained: every choice, with what it does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..core.category import Category
from .errors import TrainingError
from .settings import above_zero, at_least, shares
from .student.config import StudentConfig
from .student.data import AugmentConfig
from .student.losses import LossConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a student is trained."""

    shard: Path
    """Packed clips (see `pack`)."""
    out: Path
    """Folder for the checkpoint, the log and its plot."""
    category: str = "quadruped"
    teacher: tuple[Path, ...] = ()
    """Packed clips of a teacher, or of several, to train on together with those of `shard`."""
    teacher_share: tuple[float, ...] = (0.3,)
    """Share of every batch that comes from each teacher's clips."""
    teacher_held_out: int = 8
    """Each n-th clip of a teacher is kept for validation; 0 for none."""
    recipe: Literal["student", "dasr", "dasr-lite0"] = "student"
    """Ours; or DASR's network, losses and rates as published, on ResNet-18 or on two of our pretrained backbones."""
    minutes: float = 60.0
    """Time for both stages together; only used where the number of steps is 0."""
    clock: Literal["wall", "cpu"] = "wall"
    """Minutes on the wall, or of `threads` processors' work: equal for runs compared on a busy machine."""
    frame_steps: int = 0
    """Steps of the first stage; 0: as many as fit."""
    clip_steps: int = 0
    """Steps of the second stage; 0: as many as fit."""
    clip_share: float = 0.16
    """Share of `minutes` for the second stage, its features included."""
    batch: int = 64
    """Frames a step, over all processes."""
    clip_batch: int = 32
    clip_frames: int = 12
    rate: float = 0.0
    """Highest learning rate; 0 for the recipe's own: 1.2e-3, DASR's 5e-4."""
    backbone_rate: float = 0.25
    """Learning rate of a pretrained backbone, as a share of that."""
    decay: float = 0.02
    seed: int = 0
    dropout: float = 0.1
    feature_noise: float = 0.05
    """Noise on the features of the second stage, as a share of their spread."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: half where a GPU has it, fp32 on processors."""
    threads: int = 2
    """Parts of a batch computed side by side; part of the recipe, as each has its own statistics. A GPU takes one."""
    checkpoint_minutes: float = 2.0
    patience: int = 0
    """End a stage after so many checkpoints in a row without a better validation, and keep the best; 0: never."""
    vertices: int = 500
    """Vertices of the body that the loss looks at."""
    imagenet: bool = True
    """Start from ImageNet weights."""
    frozen_blocks: int = 0
    """Leave the stem and this many blocks of the backbone as they are: with 5, training is 1.5 times as fast."""
    resume: bool = False
    """Go on with the training in `out`, if there is one."""
    plot: bool = True
    """Curves at every checkpoint: for TensorBoard where it is installed, else log.png."""
    start: Path | None = None
    """Begin with the weights of a checkpoint, a bundle or its predictor.onnx, as far as their shapes fit."""
    frames_from: Path | None = None
    """Take the whole first stage from another run's checkpoint, and do the second only."""
    heads: tuple[Literal["root", "joints", "morphology", "spread", "appearance"], ...] = ()
    """Train these answers of clips alone, leave all else as `start` has it, and do the second stage only."""
    width: int = 512
    hypotheses: int = 6
    surface: bool = True
    look_back: bool = True
    joint_maps: bool = False
    """Find where each joint lies in the crop, and let the joints attend to each other."""
    place: bool = True
    temporal: Literal["none", "conv", "attention"] = "conv"
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def clips_only(self) -> bool:
        """Whether there is no first stage."""
        return self.frames_from is not None or bool(self.heads)


def settled(config: TrainConfig) -> TrainConfig:
    """The configuration with what its recipe decides filled in. Raises TrainingError for what cannot be meant."""
    at_least(1, config, "batch", "clip_batch", "clip_frames", "threads", "vertices", "width", "hypotheses")
    whole = ("frame_steps", "clip_steps", "seed", "patience", "teacher_held_out", "frozen_blocks")
    at_least(0, config, *whole, "rate", "backbone_rate", "decay", "feature_noise")
    shares(config, "clip_share")
    if not (config.frame_steps and config.clip_steps):
        above_zero(config, "minutes")
    if not 0 <= config.dropout < 1:
        raise TrainingError(f"--dropout must be at least 0 and below 1, not {config.dropout:g}")
    if config.heads and (config.start is None or config.frames_from is not None or config.recipe != "student"):
        raise TrainingError("--heads goes on with a network of ours; name it with --start, without --frames-from")
    if config.recipe == "student":
        return replace(config, rate=config.rate or 1.2e-3)
    return replace(
        config, rate=config.rate or 5e-4, dropout=0.0, feature_noise=0.0, vertices=max(config.vertices, 1000)
    )


def sizes_of(config: TrainConfig, category: Category, crop: int) -> StudentConfig:
    """Sizes of the network that a training makes."""
    return StudentConfig(
        design="student" if config.recipe == "student" else "dasr",
        backbone="resnet18" if config.recipe == "dasr" else "lite0",
        joints=len(category.skeleton),
        morphology=len(category.morphology),
        appearance=len(category.body.appearance_basis),
        crop=crop,
        width=config.width,
        hypotheses=config.hypotheses,
        surface=config.surface,
        look_back=config.look_back,
        joint_maps=config.joint_maps,
        place=config.place,
        temporal=config.temporal,
    )
