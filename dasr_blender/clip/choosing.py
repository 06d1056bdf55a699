# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the automatic masks, and how alike two blobs are."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .mask_store import mask_box


@dataclass(frozen=True)
class AutomaticConfig:
    """Settings of the automatic masks; lengths in pixels of the working picture."""

    work_side: int = 480  # longer side of the picture on which masks are compared and flow is computed
    threshold: float = 0.5  # saliency above which a pixel belongs to a blob
    smallest: float = 0.001  # share of the picture below which a blob is dust
    pad: float = 0.125  # the second look's margin on each side, so that its crop is 25 % wider
    confidence: float = 0.2  # weight of a candidate's mean saliency beside its overlap with the last mask
    lost: float = 0.2  # overlap under which no candidate is taken for the subject
    clear: float = 0.4  # and from which one look about it is enough where nothing else is near
    sure: float = 0.9  # that a network which knows the category's bodies sees one
    covered: float = 0.5  # share of the last mask that such a body covers, for being the subject
    own: float = 0.3  # and share of it that the last mask covers
    swollen: float = 1.5  # a first-look blob larger than this × the last mask does not lead the second look
    cut: float = 0.2  # taken from the score of a blob that the second look's crop cuts through
    alike: float = 0.35  # likeness (shape × colours × nearness) from which a lost subject is taken for found
    patience: int = 12  # frames, 30 a second, without it until the most salient blob is taken, unless it was named
    key_gap: int = 4  # most frames between two looks
    wide_gap: int = 4  # key frames from one that is seen whole, whatever it shows, to the next
    key_move: float = 0.02  # movement against the picture's own, in longer sides, after which to look again
    faint: float = 0.15  # saliency that is enough to be looked at again with the other frames' evidence
    background: float = 0.6  # weight of what the scene behind the subject tells
    keep: float = 0.5  # share of a neighbour's evidence that a frame takes over


def prominence(soft: np.ndarray, blob: np.ndarray) -> float:
    """How likely a blob is the clip's subject: sure, large (up to a quarter of the picture), not cut by the rim."""
    share = min(float(blob.mean()), 0.25)
    rim = [blob[0].any(), blob[-1].any(), blob[:, 0].any(), blob[:, -1].any()]
    return float(soft[blob].mean()) * share**0.5 * 0.75 ** sum(map(int, rim))


def grown(mask: np.ndarray, share: float) -> np.ndarray:
    """mask (h, w) bool, wider on all sides by a share of its size, the root of its area."""
    reach = 2 * max(2, round(share * float(np.sqrt(np.count_nonzero(mask))))) + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool masks, 0 where both are empty."""
    union = int(np.count_nonzero(a | b))
    return float(np.count_nonzero(a & b)) / union if union else 0.0


def shape_overlap(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Overlap of two (h, w) bool masks laid upon each other by the middles of their boxes, and those's distance."""
    shift = middle(a) - middle(b)
    return overlap(a, shifted(b, shift)), float(np.hypot(*shift))


def middle(mask: np.ndarray) -> np.ndarray:
    """(2,) middle of the box of mask (h, w) bool."""
    box = mask_box(mask)
    return 0.5 * (box[:2] + box[2:])


def shifted(mask: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """mask (h, w) bool moved by shift (2,) pixels."""
    matrix = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    size = (mask.shape[1], mask.shape[0])
    return cv2.warpAffine(mask.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST) > 0


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Bhattacharyya coefficient of two histograms whose sums are 1: 1 for equal ones."""
    return float(np.sqrt(a * b).sum())
