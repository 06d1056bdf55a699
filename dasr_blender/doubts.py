# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a reconstruction less sure, in sentences for the user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .core import Motion

UNSURE = 0.35  # confidence below which a frame is named


def find_warnings(
    motion: Motion, interpolated: np.ndarray, boxes: np.ndarray, size: Sequence[int]
) -> list[str]:
    """Sentences on what makes this result less sure.

    interpolated: (T,) bool, frames without a mask of their own; boxes: (T, 4) x0, y0, x1, y1 of the masks in a
    picture of `size` (width, height).
    """
    found = []
    count = len(motion.frame_index)
    if count == 1:
        found.append("The clip has one frame: the rig is static")
    facing = facing_camera(motion)
    if np.mean(np.abs(facing) > 0.85) > 0.8:
        side = "the front" if np.median(facing) > 0 else "behind"
        if (facing > 0.85).any() and (facing < -0.85).any():
            side = "the front or behind"
        found.append(f"The animal is seen only from {side}: side views work better")
    unsure = motion.confidence < UNSURE
    if unsure.any():
        found.append(f"Low confidence in frames {ranges(unsure, motion.frame_index)}")
    cut = ((boxes[:, :2] <= 1.0) | (boxes[:, 2:] >= np.asarray(size) - 1.0)).any(axis=1) & ~interpolated
    if cut.mean() > 0.1:
        found.append(
            f"The animal is cut by the picture's edge in frames {ranges(cut, motion.frame_index)}: "
            "what is out of sight is guessed"
        )
    return found


def facing_camera(motion: Motion) -> np.ndarray:
    """(T,) cosine of the angle between where the animal looks and the way to the camera: 1 seen from the front,
    -1 from behind, 0 from a side."""
    forward = -motion.camera_from_root[:, :3, 1]  # the body looks along its -Y
    place = motion.camera_from_root[:, :3, 3]
    to_camera = -place / np.maximum(np.linalg.norm(place, axis=1, keepdims=True), 1e-9)
    return np.einsum("ti,ti->t", forward / np.linalg.norm(forward, axis=1, keepdims=True), to_camera)


def ranges(chosen: np.ndarray, frame_index: np.ndarray) -> str:
    """Chosen frames as text: `3-7, 12`; runs are of neighbours in the clip's used frames, at most six shown."""
    places = np.flatnonzero(chosen)
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    texts = [
        f"{frame_index[r[0]]}" if len(r) == 1 else f"{frame_index[r[0]]}-{frame_index[r[-1]]}" for r in runs
    ]
    return ", ".join(texts[:6]) + (f" and {len(texts) - 6} more" if len(texts) > 6 else "")
