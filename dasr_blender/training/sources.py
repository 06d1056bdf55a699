# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the frames of a batch come from: synthetic clips, teachers', or all in fixed shares."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.category import Category
from ..core.errors import counted
from .errors import TrainingError
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
        count, every = len(self.shard.validation_clips), self.shard.validation_every
        kept = f"{counted(count, 'clip')} kept for validation"
        if not count:
            kept = f"none kept for validation, which each {every}th clip is" if every else "none kept for validation"
        return f"{self.shard.folder}: {self.shard.rows} frames of {len(self.shard.clips)} clips ({words}), {kept}"


_VALIDATION = 25  # each n-th synthetic clip


def open_sources(config: TrainConfig, category: Category) -> tuple[Source, ...]:
    """The shards of a run: the synthetic one first, then the teachers'.

    Raises TrainingError for shares that are not one to a teacher or leave nothing to the rest, and for shards that do
    not go together, are damaged or of another category, OSError for missing ones.
    """
    sources = _sources(config, category)
    if config.patience and not any(len(source.shard.validation_rows) for source in sources):
        raise TrainingError(
            f"--patience {config.patience} goes by clips kept for validation, each {_VALIDATION}th of a shard, and "
            f"{config.shard} has none: pack more clips into it, or leave --patience out"
        )
    return sources


def _sources(config: TrainConfig, category: Category) -> tuple[Source, ...]:
    own = _opened(config.shard, category, _VALIDATION)
    if not config.teacher:
        return (Source(own),)
    rest, *shares = shares_of(config.teacher, config.teacher_share, "one shard alone, give it with --shard")
    sources = [Source(own, rest)]
    for folder, share in zip(config.teacher, shares, strict=True):
        teacher = _opened(folder, category, config.teacher_held_out)
        if own.sizes != teacher.sizes:
            raise TrainingError(
                f"{folder}: holds crops or targets of another shape than {config.shard}; pack both for the same "
                "category with the same crop"
            )
        sources.append(Source(teacher, share, TEACHER))
    return tuple(sources)


def shares_of(teachers: tuple[Path, ...], shares: tuple[float, ...], alone: str) -> list[float]:
    """What share of the rows is not the teachers', and each teacher's.

    alone: how an error's advice ends, 'to train on …'. Raises TrainingError for shares that are not one to a teacher or
    leave nothing to the rest.
    """
    if not teachers:
        return [1.0]
    if len(teachers) != len(shares):
        raise TrainingError(
            f"--teacher names {len(teachers)} and --teacher-share {len(shares)}; give each teacher "
            "its share, in the same order"
        )
    for share in (*shares, sum(shares)):
        if not 0.0 < share < 1.0:
            raise TrainingError(
                f"a teacher's share, and that of all together, must lie between 0 and 1, not at {share:g}; to train on "
                f"{alone}"
            )
    return [1.0 - sum(shares), *shares]


def _opened(folder: Path, category: Category, validation_every: int) -> Shard:
    shard = Shard(folder, validation_every)
    shard.check(category)
    if not len(shard.training_rows):
        raise TrainingError(f"{folder}: holds no frame to train on; pack more clips into it")
    return shard


def given(shares: Sequence[float], rows: int) -> list[int]:
    """How many of the first `rows` rows of a run each source gives. Each takes its part of what those before it have
    left."""
    left, share = [rows], 1.0
    for one in shares[:-1]:
        left.append(math.floor(left[-1] * max(share - one, 0.0) / share))
        share -= one
    return [own - others for own, others in pairwise([*left, 0])]


def divide(shares: Sequence[float], count: int, number: int) -> list[int]:
    """How many of the `count` rows of a run's batch `number` each source gives.

    Over all batches exactly its share, and in none more than a row from it (two with several teachers): whatever
    n·share leaves over is carried to the next batch.
    """
    before, after = given(shares, number * count), given(shares, (number + 1) * count)
    return [b - a for a, b in zip(before, after, strict=True)]


def joined(batches: list[Batch]) -> Batch:
    """The rows of several batches as those of one."""
    return batches[0] if len(batches) == 1 else {k: torch.cat([b[k] for b in batches]) for k in batches[0]}


def draw(sources: tuple[Source, ...], count: int, number: int, generator: torch.Generator) -> Batch:
    """Stored rows of a run's batch `number`, `count` of them, drawn from the training clips of every source."""
    parts = []
    for source, some in zip(sources, divide([s.share for s in sources], count, number), strict=True):
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
