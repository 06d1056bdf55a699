# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the frames of a batch come from: synthetic clips, a teacher's, or both in a fixed share."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .student.data import Batch, Shard
from .student.scores import TEACHER

if TYPE_CHECKING:
    from .train_config import TrainConfig


@dataclass(frozen=True)
class Source:
    """One shard and its share of every batch; whose: what its columns of the log begin with after 'val_'."""

    shard: Shard
    share: float = 1.0
    whose: str = ""

    def __str__(self) -> str:
        origins = Counter(str(clip.get("origin", "unknown")) for clip in self.shard.clips)
        words = ", ".join(f"{origin} {count}" for origin, count in origins.most_common())
        return f"{self.shard.folder}: {self.shard.rows} frames of {len(self.shard.clips)} clips ({words})"


def open_sources(config: TrainConfig) -> tuple[Source, ...]:
    """The shards of a run: the synthetic one first, then the teacher's if there is one.

    Raises ValueError for a share outside 0…1 and for shards that do not go together, OSError for missing ones.
    """
    own = _opened(config.shard, 25)
    if config.teacher is None:
        return (Source(own),)
    if not 0.0 < config.teacher_share < 1.0:
        raise ValueError(
            f"the teacher's share must lie between 0 and 1, not at {config.teacher_share:g}; to train on one shard "
            "alone, give it with --shard"
        )
    teacher = _opened(config.teacher, config.teacher_held_out)
    if own.sizes != teacher.sizes:
        raise ValueError(
            f"{config.teacher}: holds crops or targets of another shape than {config.shard}; pack both for the same "
            "category with the same crop"
        )
    return Source(own, 1.0 - config.teacher_share), Source(teacher, config.teacher_share, TEACHER)


def _opened(folder: Path, validation_every: int) -> Shard:
    shard = Shard(folder, validation_every)
    if not len(shard.training_rows):
        raise ValueError(f"{folder}: holds no frame to train on; pack more clips into it")
    return shard


def divide(sources: tuple[Source, ...], count: int, number: int) -> list[int]:
    """How many of the `count` rows of a run's batch `number` each source gives.

    Over all batches exactly its share, and in none more than a row from it: whatever n·share leaves over is
    carried to the next batch.
    """
    rest = [
        math.floor((number + 1) * count * s.share) - math.floor(number * count * s.share) for s in sources[1:]
    ]
    return [count - sum(rest), *rest]


def joined(batches: list[Batch]) -> Batch:
    """The rows of several batches as those of one."""
    return batches[0] if len(batches) == 1 else {k: torch.cat([b[k] for b in batches]) for k in batches[0]}


def draw(sources: tuple[Source, ...], count: int, number: int, generator: torch.Generator) -> Batch:
    """Stored rows of a run's batch `number`, `count` of them, drawn from the training clips of every source."""
    parts = []
    for source, some in zip(sources, divide(sources, count, number), strict=True):
        rows = source.shard.training_rows
        pick = torch.randint(len(rows), (some,), generator=generator).numpy()
        if some:
            parts.append(source.shard.batch(rows[pick]))
    return joined(parts)


def windows(source: Source, length: int, passes: int, seed: int) -> tuple[list[int], list[int]]:
    """First rows of stretches of `length` frames that cover the clips: those to train on, and at most 64 held out.

    Clips come in a random order, `passes` times; a clip that is shorter gives none.
    """
    shard = source.shard

    def of(clip: int) -> list[int]:
        start, rows = shard.clips[clip]["start"], shard.clips[clip]["rows"]
        return [int(start + at) for at in np.linspace(0, rows - length, rows // length).round()]

    order = np.random.default_rng(seed).permutation(shard.training_clips)
    train = [row for _ in range(passes) for clip in order for row in of(int(clip))]
    return train, [row for clip in shard.validation_clips for row in of(int(clip))][:64]
