# SPDX-License-Identifier: GPL-3.0-or-later
"""From boxes and clicks on a frame to that frame's mask."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .corrections import Said
from .finder import Finder
from .mask_store import MaskError, mask_box
from .subject import at_point, in_box

_COLOUR = 14  # levels of L, a and b by which the piece about a click may differ from it


def click_seed(
    finder: Finder, said: dict[int, Said], tint: np.ndarray | None = None
) -> tuple[int, np.ndarray]:
    """Where to begin: a box, else a click on the subject at which something stands out, else what stands out most;
    tint: colours that it should have."""
    for i, words in said.items():
        if words.boxes:
            return i, in_box(finder, i, words.boxes[-1])
    for i, words in said.items():
        for x, y in words.inside:
            blob = at_point(finder, i, x, y)
            if blob is not None:
                return i, blob
    return finder.best_seed(tint)


def anchors_from(
    finder: Finder, said: dict[int, Said], present: Sequence[np.ndarray | None]
) -> dict[int, np.ndarray]:
    """Masks (h, w) bool of the frames that something was said of; present: log-odds of each frame as found so far.

    Raises MaskError where what was said leaves nothing of the subject.
    """
    result = {}
    for i, words in said.items():
        if words.mask is not None:
            result[i] = words.mask
            continue
        odds = present[i]
        mask = np.zeros((finder.size[1], finder.size[0]), bool) if odds is None else odds > 0.0
        if words.boxes:
            box = words.boxes[-1]
            inside = np.zeros_like(mask)
            x0, y0, x1, y1 = (int(round(v)) for v in box)
            inside[y0:y1, x0:x1] = True
            kept = mask & inside
            # a mask that already fills the box is cut to it, any other is looked for anew
            fits = kept.any() and (mask_box(kept)[2:] - mask_box(kept)[:2]).prod() > 0.7 * (box[2:] - box[:2]).prod()
            mask = kept if fits else in_box(finder, i, box)
        if words.inside or words.outside:
            mask = _clicked(finder, i, mask, words)
        if not mask.any():
            frame = int(finder.clip.frame_index[i])
            raise MaskError(
                f"What was said of frame {frame} leaves nothing of the subject: click on it, or give a box round it"
            )
        result[i] = mask
    return result


def _clicked(finder: Finder, i: int, mask: np.ndarray, words: Said) -> np.ndarray:
    """mask (h, w) bool with places added or taken away: GrabCut (Rother et al. 2004) between the clicks."""
    for x, y in words.inside:
        if mask.any() and not mask[int(y), int(x)]:
            box = mask_box(mask)
            size = float((box[2:] - box[:2]).max())
            off = np.maximum(np.maximum(box[:2] - (x, y), (x, y) - box[2:]), 0.0)
            if np.hypot(*off) > 0.5 * size:  # not a part that was missed: another body
                mask = np.zeros_like(mask)
        if not mask.any():
            blob = at_point(finder, i, x, y)
            if blob is not None:
                mask = blob
    height, width = mask.shape
    disc = max(2, round(0.008 * max(finder.size)))
    reach = 2 * max(3, round(0.03 * max(finder.size))) + 1
    labels = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    # beyond the reach of clicks the mask stays
    free = np.zeros(mask.shape, np.uint8)
    for x, y in (*words.inside, *words.outside):
        cv2.circle(free, (int(x), int(y)), 4 * reach, (1,), -1)
    labels[(free == 0) & mask] = cv2.GC_FGD
    labels[(free == 0) & ~mask] = cv2.GC_BGD
    for places, label, likely in (
        (words.inside, cv2.GC_FGD, cv2.GC_PR_FGD),
        (words.outside, cv2.GC_BGD, cv2.GC_PR_BGD),
    ):
        for x, y in places:
            alike = _alike(finder.frames[i], x, y) & (free > 0) & (mask != (likely == cv2.GC_PR_FGD))
            labels[alike] = likely
            cv2.circle(labels, (int(x), int(y)), disc, (int(label),), -1)
    of_subject = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    if of_subject.any() and not of_subject.all():
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)
        cv2.grabCut(finder.frames[i], labels, (0, 0, 1, 1), *models, 3, cv2.GC_INIT_WITH_MASK)
    cut = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    # what was clicked away is the piece about the click, whatever the colours say
    count, pieces = cv2.connectedComponents(cut.astype(np.uint8))
    points = [pieces[min(int(y), height - 1), min(int(x), width - 1)] for x, y in words.inside]
    held = {int(k) for k in points if k > 0} | {int(k) for k in np.unique(pieces[cut & mask]) if k > 0}
    return np.isin(pieces, list(held)) if count > 1 else cut


def _alike(frame: np.ndarray, x: float, y: float) -> np.ndarray:
    """(h, w) bool: what hangs together with a place of frame (h, w, 3) and has its colour, a seed for GrabCut."""
    blurred = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2LAB), (0, 0), 2.0)
    filled = np.zeros((frame.shape[0] + 2, frame.shape[1] + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE
    cv2.floodFill(blurred, filled, (int(x), int(y)), (0, 0, 0), (_COLOUR,) * 3, (_COLOUR,) * 3, flags)
    return filled[1:-1, 1:-1] > 0
