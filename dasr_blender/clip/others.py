# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the picture shows somebody else beside the subject that was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .choosing import grown

if TYPE_CHECKING:
    from .finder import Finder

_SIZE = 0.4  # of the subject's area, below which what stands out beside it is no second one
_SURE = 0.8  # mean saliency of a second one
_OFTEN = 0.4  # share of the frames looked at whole that it is seen in
_APART = 0.06  # of the subject's size, the least between the two


def another_subject(finder: Finder, masks: Sequence[np.ndarray | None]) -> list[str]:
    """A sentence that names its place and a frame, where something as striking stands apart from the subject for a good
    part of the clip; nothing otherwise.

    masks: log-odds (h, w) of every frame at working size, None where the subject is not seen.
    """
    looked, seen, best = 0, 0, (0.0, 0, np.zeros(2))
    for i in sorted(finder.wide):
        odds = masks[i]
        if odds is None or not (odds > 0.0).any():
            continue
        looked += 1
        own = odds > 0.0
        near = grown(own, _APART)
        soft = finder.saliency(i)
        for blob in finder.blobs(soft)[:3]:
            if blob.sum() < _SIZE * own.sum() or (blob & near).any() or soft[blob].mean() < _SURE:
                continue
            seen += 1
            if blob.sum() > best[0]:
                best = float(blob.sum()), i, _inmost(blob)
            break
    if not seen or seen < _OFTEN * looked:
        return []
    _, i, place = best
    x, y = (place + 0.5) * np.array(finder.clip.original_size) / np.array(finder.size)
    at, frame = f"{x:.0f},{y:.0f}", int(finder.clip.frame_index[i])
    return [
        f"Another subject seems to be at {at} in frame {frame}, beside the one that is followed because it stands out "
        f"more: to follow that one, pick it (Pick Subject in Blender, --subject {at}@{frame} on the command line)"
    ]


def _inmost(blob: np.ndarray) -> np.ndarray:
    """Column and row (2,) of the pixel of (h, w) bool that is farthest from its rim."""
    deep = cv2.distanceTransform(np.pad(blob.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(deep.argmax()), blob.shape)
    return np.array([column, row], np.float64)
