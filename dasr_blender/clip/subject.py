# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user says of where the subject is, and the mask that this points at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .mask_store import MaskError
from .video import Clip

if TYPE_CHECKING:
    from .finder import Finder


@dataclass(frozen=True)
class Subject:
    """Which animal: a point on it or a box around it, in pixels of the original picture.

    frame counts as in the source (Clip.frame_index); where a step left it out, the nearest that was read is used.
    """

    frame: int
    point: tuple[float, float] | None = None  # x, y
    box: tuple[float, float, float, float] | None = None  # x, y, width, height

    def __post_init__(self) -> None:
        if (self.point is None) == (self.box is None):
            raise MaskError("Say where the subject is with either a point x,y or a box x,y,width,height")
        if self.box is not None and min(self.box[2:]) <= 0:
            raise MaskError(f"The subject's box {self.box} is empty: give x,y,width,height with both sides above 0")


def seed_frame(clip: Clip, subject: Subject) -> int:
    """Index of the frame that the subject is shown in, or of the nearest that was read.

    Raises MaskError for a frame outside the clip.
    """
    first, last = int(clip.frame_index[0]), int(clip.frame_index[-1])
    if not first <= subject.frame <= last:
        raise MaskError(
            f"The subject is shown in frame {subject.frame}, which is outside the clip's {first} to {last}: change "
            "its number"
        )
    return int(np.argmin(np.abs(clip.frame_index - subject.frame)))


def seed_from(finder: Finder, subject: Subject) -> tuple[int, np.ndarray]:
    """Seed frame and (h, w) bool reference from the user's click or box."""
    clip = finder.clip
    i = seed_frame(clip, subject)
    to_work = np.array(finder.size) / np.array(clip.original_size)
    width, height = finder.size
    if subject.box is not None:
        x, y, w, h = subject.box
        low, high = np.array([x, y]) * to_work, np.array([x + w, y + h]) * to_work
        box = np.concatenate([np.maximum(low, 0), np.minimum(high, finder.size)])
        if (box[2:] - box[:2] < 2).any():
            raise _outside(f"box {subject.box}", clip)
        return i, in_box(finder, i, box)
    x, y = np.array(subject.point) * to_work
    if not (0 <= x < width and 0 <= y < height):
        raise _outside(f"point {subject.point}", clip)
    blob = at_point(finder, i, x, y)
    if blob is not None:
        return i, blob
    raise MaskError(
        f"Nothing stands out at the point {subject.point} of frame {int(clip.frame_index[i])}: "
        "click the middle of the subject, or give a box around it"
    )


def at_point(finder: Finder, i: int, x: float, y: float) -> np.ndarray | None:
    """The blob (h, w) bool at a place of frame i, in pixels of the working picture; None where nothing stands out."""
    width, height = finder.size
    column, row = int(x), int(y)
    # the whole frame, then ever closer to the click: small subjects stand out only from near
    for reach in (None, 0.35, 0.2, 0.1):
        if reach is None:
            soft = finder.saliency(i)
        else:
            half = reach * max(finder.size)
            box = np.array([max(x - half, 0), max(y - half, 0), min(x + half, width), min(y + half, height)])
            soft = finder.closer(i, box, 0.0)
        for blob in finder.blobs(soft):
            if cv2.dilate(blob.astype(np.uint8), np.ones((7, 7), np.uint8))[row, column]:
                return blob
    return None


def in_box(finder: Finder, i: int, box: np.ndarray) -> np.ndarray:
    """What stands out within the user's box, else GrabCut (Rother et al. 2004), else an ellipse filling it."""
    x0, y0, x1, y1 = (int(round(v)) for v in box)
    inside = np.zeros((finder.size[1], finder.size[0]), bool)
    inside[y0:y1, x0:x1] = True
    found = [b & inside for b in finder.blobs(finder.closer(i, box, finder.config.pad))]
    if found and max(b.sum() for b in found) > 0.15 * inside.sum():
        return max(found, key=lambda b: b.sum())
    labels = np.zeros(inside.shape, np.uint8)
    if not inside.all():
        rectangle = (x0, y0, x1 - x0, y1 - y0)
        cv2.setRNGSeed(0)
        cv2.grabCut(finder.frames[i], labels, rectangle, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_RECT)
        cut = (labels == cv2.GC_PR_FGD) & inside
        if cut.sum() > 0.15 * inside.sum():
            return cut
    oval = np.zeros(inside.shape, np.uint8)
    middle, axes = ((x0 + x1) // 2, (y0 + y1) // 2), (max((x1 - x0) // 2, 1), max((y1 - y0) // 2, 1))
    cv2.ellipse(oval, middle, axes, 0, 0, 360, (1,), -1)
    return oval > 0


def _outside(what: str, clip: Clip) -> MaskError:
    return MaskError(
        f"The subject's {what} is outside the picture of {clip.original_size[0]}×{clip.original_size[1]} pixels: "
        "give pixels of the original picture"
    )
