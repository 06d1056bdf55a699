# SPDX-License-Identifier: GPL-3.0-or-later
"""A training of three steps a stage, what it starts from, and what it leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from toy_clips import write_clips

from dasr_blender.core import Category, load_category
from dasr_blender.training import distill
from dasr_blender.training.pack import pack


def bundle_and_shard(toy_category_folder: Path, folder: Path) -> Category:
    """The toy category in a bundle of its own, `toy` in folder, and three clips of it, packed into `shard` there."""
    category = load_category(shutil.copytree(toy_category_folder, folder / "toy"))
    write_clips(category, folder / "clips", 3)
    pack(folder / "clips", folder / "shard", category, crop=64)
    return category


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
