# SPDX-License-Identifier: GPL-3.0-or-later
"""What videos teach: the subject's shape, and where it is in every frame, as clip folders a student trains on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...core.category import Category
from ..evaluate.scores import overlap
from ..teacher.clips import TeacherClip
from ..teacher.consensus import FinishConfig, fit_clips, shared_shape
from ..teacher.register import RegisterConfig, register
from .adopt import held_back

Array = np.ndarray
SHAPE = "shape.npz"
REGISTER, FINISH = RegisterConfig(), FinishConfig()


@dataclass(frozen=True, eq=False)
class Lesson:
    """The learnt shape, and the videos' motions with it.

    morphology ``(K,)``, relief ``(V,)`` metres: in terms of the body that looked; clips: with their poses and how far
    each frame is to be trusted; how: in words; colours ``(V, 3)``: where the teacher has them.
    """

    morphology: Array
    relief: Array
    clips: list[TeacherClip]
    how: str = "network, tracking and fit, one shape for all videos"
    colours: Array | None = None


def learn(
    category: Category,
    videos: Path,
    cache: Path,
    only: Sequence[str],
    workers: int,
    report: Callable[[str, int, int], None],
) -> Lesson:
    """Follow the subject through the videos with the category's student, agree on one shape, and fit poses with it."""
    clips = register(category, (videos,), cache, only=only, config=REGISTER, report=report)
    config = replace(FINISH, workers=workers)
    morphology, relief = shared_shape(category, clips, config)
    relief = held_back(category.body, relief)
    clips = fit_clips(category, clips, morphology, relief, config)
    return Lesson(morphology, relief, [judged(category, clip) for clip in clips])


def learn_by_field(
    category: Category,
    videos: Path,
    cache: Path,
    only: Sequence[str],
    minutes: float,
    out: Path,
    report: Callable[[float, str], None],
) -> Lesson:
    """The same from a neural field that explains all videos at once; `out` keeps its checkpoints and pictures."""
    from ..teacher.config import FieldConfig
    from ..teacher.run import TeachConfig, teach

    settings = TeachConfig(
        videos=(videos,), out=out, category=str(category.path), only=tuple(only), masks=cache,
        field=FieldConfig(steps=0, minutes=minutes), register=REGISTER, finish=FINISH,
    )  # fmt: skip
    taught = teach(settings, report)
    (morphology, relief), steps = taught.shapes[0], taught.facts["steps"]
    relief = held_back(category.body, relief)
    how = f"neural field ({steps} steps), then the fit with its shape"
    return Lesson(morphology, relief, taught.clips, how, taught.colours[0])


def judged(category: Category, clip: TeacherClip) -> TeacherClip:
    """The clip with its frames' quality as they agree with their masks now."""
    iou = overlap(category, clip.motion, clip.scene.masks)
    return replace(clip, quality=np.where(clip.quality > 0, np.nan_to_num(iou), 0.0))


def mean_iou(clips: Sequence[TeacherClip]) -> float:
    """Agreement with the masks over all frames that are used."""
    return float(np.mean(np.concatenate([clip.quality[clip.used] for clip in clips])))


def write_shape(lesson: Lesson, folder: Path) -> None:
    """Keep the learnt shape."""
    np.savez_compressed(folder / SHAPE, morphology=lesson.morphology, relief=lesson.relief)
