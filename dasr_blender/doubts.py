# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a reconstruction less sure, in sentences for the user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .core import Category, Motion
from .predict import TWIN_WORDS, Twin

UNSURE = 0.35  # confidence below which a frame is named


def find_warnings(
    motion: Motion,
    category: Category,
    interpolated: np.ndarray,
    boxes: np.ndarray,
    size: Sequence[int],
) -> list[str]:
    """Sentences on what makes this result less sure.

    interpolated: (T,) bool, frames without a mask of their own; boxes: (T, 4) x0, y0, x1, y1 of the masks in a
    picture of `size` (width, height).
    """
    found = []
    count = len(motion.frame_index)
    if count == 1:
        found.append("The clip has one frame: the rig is static")
    axis, ends = long_axis(category)
    facing = facing_camera(motion, axis)
    if np.mean(np.abs(facing) > 0.85) > 0.8:
        side = ends[0] if np.median(facing) > 0 else ends[1]
        if (facing > 0.85).any() and (facing < -0.85).any():
            side = " or ".join(ends)
        found.append(f"The subject is seen only from {side}: side views work better")
    unsure = motion.confidence < UNSURE
    if unsure.any():
        found.append(f"Low confidence in {frames(unsure, motion.frame_index)}")
    cut = ((boxes[:, :2] <= 1.0) | (boxes[:, 2:] >= np.asarray(size) - 1.0)).any(axis=1) & ~interpolated
    if cut.mean() > 0.1:
        found.append(
            f"The subject is cut by the picture's edge in {frames(cut, motion.frame_index)}: "
            "what is out of sight is guessed"
        )
    return found


def cut_warnings(cuts: np.ndarray, frame_index: np.ndarray) -> list[str]:
    """A sentence on the shots of the clip; cuts: positions (N,) in it of the frames that begin another one."""
    if not len(cuts):
        return []
    begin = np.zeros(len(frame_index), bool)
    begin[cuts] = True
    return [
        f"The clip is cut: another shot begins at {frames(begin, frame_index)}. All shots are taken to show one "
        "subject: where they do not, reconstruct each alone (Frame Range in Blender, --frames on the command line)"
    ]


def twin_warnings(twins: Sequence[Twin], frame_index: np.ndarray) -> list[str]:
    """Sentences on stretches that could hardly be told from their twins."""
    found = []
    for kind, words in TWIN_WORDS.items():
        close = np.zeros(len(frame_index), bool)
        for twin in twins:
            if twin.kind == kind and twin.close:
                close[twin.first : twin.last + 1] = True
        if close.any():
            found.append(f"{frames(close, frame_index).capitalize()} could nearly as well be {words}")
    return found


def long_axis(category: Category) -> tuple[np.ndarray, tuple[str, str]]:
    """Direction (3,) in which the trunk at rest is longest, and the names of its two ends: seen along it, limbs
    and head hide each other. An animal's runs from behind to the front, a person's upwards."""
    trunk = category.body.joints[[role in ("root", "spine", "head") for role in category.skeleton.roles]]
    if np.ptp(trunk[:, 2]) > np.ptp(trunk[:, 1]):
        return np.array([0.0, 0.0, 1.0]), ("above", "below")
    return np.array([0.0, -1.0, 0.0]), ("the front", "behind")


def facing_camera(motion: Motion, axis: np.ndarray | Sequence[float] = (0.0, -1.0, 0.0)) -> np.ndarray:
    """(T,) cosine of the angle between the body's `axis` (3,) and the way to the camera. By default the axis is
    where it looks, -Y: 1 seen from the front, -1 from behind, 0 from a side."""
    forward = motion.camera_from_root[:, :3, :3] @ np.asarray(axis)
    place = motion.camera_from_root[:, :3, 3]
    to_camera = -place / np.maximum(np.linalg.norm(place, axis=1, keepdims=True), 1e-9)
    return np.einsum("ti,ti->t", forward / np.linalg.norm(forward, axis=1, keepdims=True), to_camera)


def frames(chosen: np.ndarray, frame_index: np.ndarray) -> str:
    """Chosen frames as text: `frame 3`, or `frames` and `ranges`."""
    return f"{'frame' if chosen.sum() == 1 else 'frames'} {ranges(chosen, frame_index)}"


def ranges(chosen: np.ndarray, frame_index: np.ndarray) -> str:
    """Chosen frames as text: `3-7, 12`; runs are of neighbours in the clip's used frames, at most six shown."""
    places = np.flatnonzero(chosen)
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    texts = [
        f"{frame_index[r[0]]}" if len(r) == 1 else f"{frame_index[r[0]]}-{frame_index[r[-1]]}" for r in runs
    ]
    return ", ".join(texts[:6]) + (f" and {len(texts) - 6} more" if len(texts) > 6 else "")
