# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject's masks found without help, or from one click or box.

A salient-object network looks at each whole frame and again, closer, at a crop around the subject. Which of
the blobs it reports is the subject is decided frame by frame, going both ways from a seed frame: the one that
agrees best with the last mask carried over by optical flow. Because each mask is chosen among what the network
sees now, and not grown from the last one, errors do not add up as in plain propagation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .flow import flow, warp
from .mask_store import MaskError, Masks, mask_box
from .saliency import Saliency
from .subject import Subject, seed_from
from .video import Cancelled, Clip, Progress

# (h, w, 3) uint8 RGB -> (h', w') float32 saliency in 0…1, stretched over the same picture
Network = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class AutomaticConfig:
    """Settings of the automatic masks; lengths in pixels of the working picture."""

    work_side: int = 480  # longer side of the picture on which masks are compared and flow is computed
    threshold: float = 0.5  # saliency above which a pixel belongs to a blob
    smallest: float = 0.001  # share of the picture below which a blob is dust
    pad: float = 0.125  # the second look's margin on each side, so that its crop is 25 % wider
    confidence: float = 0.2  # weight of a candidate's mean saliency beside its overlap with the last mask
    lost: float = 0.2  # overlap under which no candidate is taken for the subject
    swollen: float = 1.5  # a first-look blob larger than this × the last mask does not lead the second look
    cut: float = 0.2  # taken from the score of a blob that the second look's crop cuts through
    alike: float = 0.35  # likeness (shape × colours × nearness) from which a lost subject is taken for found
    patience: int = 12  # frames without the subject after which the most salient blob is taken, unless it was named
    steady: float = 0.5  # weight of each neighbour's mask, carried by flow, in the final one


def automatic_masks(
    clip: Clip,
    subject: Subject | None = None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
    network: Network | None = None,
    config: AutomaticConfig = AutomaticConfig(),
) -> Masks:
    """Masks of the subject, by u2netp unless `network` is given.

    Frames where it is not found are interpolated and flagged. Raises MaskError when nothing stands out
    anywhere, when the subject's place is outside the picture, or when the network is not installed.
    """
    finder = Finder(clip, network or Saliency(), config, progress, cancel)
    finder.look()
    seed, reference = seed_from(finder, subject) if subject is not None else finder.best_seed()
    chosen: list[np.ndarray | None] = [None] * len(clip)  # soft masks, (h, w) uint8
    finder.advance("choosing the subject")
    chosen[seed] = finder.choose(seed, reference, anchored=True)
    if chosen[seed] is None:
        chosen[seed] = (reference * 255).astype(np.uint8)
    for order in (range(seed + 1, len(clip)), range(seed - 1, -1, -1)):
        finder.follow(order, chosen, named=subject is not None)
    finals = []
    for i in range(len(clip)):
        finder.check()
        finals.append(finder.finish(i, chosen))
    return Masks.pack(finals, "automatic")


class Finder:
    """One clip's frames, saliency and flow at working size, and the choices made on them."""

    def __init__(
        self, clip: Clip, network: Network, config: AutomaticConfig,
        progress: Progress | None, cancel: Callable[[], bool] | None,
    ) -> None:
        self.clip, self.network, self.config = clip, network, config
        self._progress, self._cancel = progress, cancel
        self._done = 0
        scale = min(1.0, config.work_side / max(clip.size))
        self.size = (max(1, round(clip.size[0] * scale)), max(1, round(clip.size[1] * scale)))
        self.grey: list[np.ndarray] = []
        self.wide: list[np.ndarray] = []  # first look, (h', w') uint8 as the network gave it

    def check(self) -> None:
        if self._cancel is not None and self._cancel():
            raise Cancelled("Stopped while looking for the subject")

    def advance(self, text: str) -> None:
        self.check()
        self._done += 1
        if self._progress is not None:
            self._progress(min(1.0, self._done / (2 * len(self.clip))), text)

    def look(self) -> None:
        """First look: every whole frame."""
        for i in range(len(self.clip)):
            frame = self.clip.frame(i)
            small = cv2.resize(frame, self.size, interpolation=cv2.INTER_AREA)
            self.grey.append(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
            self.wide.append((self.network(frame) * 255.0 + 0.5).astype(np.uint8))
            self.advance(f"looking for the subject, frame {i + 1} of {len(self.clip)}")

    def saliency(self, i: int) -> np.ndarray:
        """First look at frame i, (h, w) float32 at working size."""
        return cv2.resize(self.wide[i], self.size, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255.0

    def closer(self, i: int, box: np.ndarray, pad: float) -> np.ndarray:
        """Second look at frame i: saliency (h, w) float32 from the crop `pad` wider than box (4,) on each side."""
        to_clip = np.array(self.clip.size) / np.array(self.size)
        low, high = box[:2] * to_clip, box[2:] * to_clip
        margin = pad * (high - low)
        x0, y0 = np.maximum(np.floor(low - margin), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(high + margin), self.clip.size).astype(int)
        result = np.zeros((self.size[1], self.size[0]), np.float32)
        if x1 - x0 < 4 or y1 - y0 < 4:
            return result
        inside = self.network(self.clip.frame(i)[y0:y1, x0:x1]).astype(np.float32)
        # working index -> clip x = (index + .5) to_clip -> network index
        zoom = np.array([inside.shape[1] / (x1 - x0), inside.shape[0] / (y1 - y0)])
        slope = to_clip * zoom
        shift = (0.5 * to_clip - (x0, y0)) * zoom - 0.5
        matrix = np.column_stack([np.diag(slope), shift])
        shrinks = slope.max() > 1.0
        if shrinks:
            inside = cv2.blur(inside, tuple(int(max(1, round(s))) for s in slope))
        return cv2.warpAffine(
            inside, matrix, self.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(0.0,)
        )

    def blobs(self, soft: np.ndarray) -> list[np.ndarray]:
        """Connected regions of (h, w) saliency above the threshold, largest first, each (h, w) bool."""
        count, label, stats, _ = cv2.connectedComponentsWithStats((soft > self.config.threshold).astype(np.uint8))
        area = stats[:, cv2.CC_STAT_AREA]
        kept = [k for k in range(1, count) if area[k] >= self.config.smallest * label.size]
        return [label == k for k in sorted(kept, key=lambda k: -area[k])]

    def best_seed(self) -> tuple[int, np.ndarray]:
        """The frame whose blob stands out most, and that blob, (h, w) bool."""
        best: tuple[float, int, np.ndarray | None] = (0.0, 0, None)
        for i in range(len(self.clip)):
            soft = self.saliency(i)
            for blob in self.blobs(soft)[:3]:
                value = _prominence(soft, blob)
                if value > best[0]:
                    best = (value, i, blob)
        if best[2] is None:
            raise MaskError(
                f"Nothing stands out in any of the {len(self.clip)} frames of {self.clip.source}: "
                "say where the subject is with --subject, or give a folder of masks"
            )
        return best[1], best[2]

    def choose(self, i: int, reference: np.ndarray, anchored: bool = False) -> np.ndarray | None:
        """The candidate of frame i closest to `reference` (h, w) bool, as a soft mask (h, w) uint8.

        None when none overlaps it enough, unless `anchored` says that the reference is known to be right.
        """
        first = self.saliency(i)
        candidates = self._candidates(first, reference)
        near = max(candidates, key=lambda c: _overlap(c[1], reference), default=None)
        window = mask_box(reference)
        # the first look's blob shows limbs that the reference lacks, unless it has run into the background
        if (
            near is not None
            and _overlap(near[1], reference) > self.config.lost
            and near[1].sum() < self.config.swollen * reference.sum()
        ):
            window = mask_box(near[1])
        second = self.closer(i, window, self.config.pad)
        # what the second look's crop cut through is likely larger than it shows
        closer = self._candidates(second, reference)
        cut = [0.0] * len(candidates) + [self.config.cut * self._is_cut(blob, window) for _, blob in closer]
        margin = self.config.pad * (window[2:] - window[:2])
        x0, y0 = np.maximum(np.floor(window[:2] - margin), 0).astype(int)
        x1, y1 = np.ceil(window[2:] + margin).astype(int)
        both = first.copy()
        both[y0:y1, x0:x1] = 0.5 * (first + second)[y0:y1, x0:x1]
        fused = self._candidates(both, reference)
        candidates, cut = candidates + closer + fused, cut + [0.0] * len(fused)
        self.check()
        if not candidates:
            return None
        scores = [
            _overlap(blob, reference) + self.config.confidence * float(soft[blob].mean()) - penalty
            for (soft, blob), penalty in zip(candidates, cut, strict=True)
        ]
        soft, blob = candidates[int(np.argmax(scores))]
        if not anchored and blob.sum() > self.config.swollen * reference.sum():
            # it runs into the background in every look: what of it lies about where flow carried the subject;
            # the margin lets a mask that was too small grow again, frame by frame
            reach = 2 * max(2, round(0.06 * float(np.sqrt(reference.sum())))) + 1
            around = cv2.dilate(reference.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
            blob = blob & around
        if _overlap(blob, reference) < (0.05 if anchored else self.config.lost):
            return None
        # keep the soft rim of the chosen blob, not the other blobs
        rim = cv2.dilate(blob.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        return np.where(rim, soft * 255.0 + 0.5, 0.0).astype(np.uint8)

    def _is_cut(self, blob: np.ndarray, box: np.ndarray) -> bool:
        """Whether blob (h, w) bool ends at the crop around box (4,) and not at the picture's rim."""
        margin = self.config.pad * (box[2:] - box[:2])
        limit = np.concatenate([box[:2] - margin, box[2:] + margin])
        found = mask_box(blob)
        low = (limit[:2] > 2) & (found[:2] < limit[:2] + 2)
        high = (limit[2:] < np.array(self.size) - 2) & (found[2:] > limit[2:] - 2)
        return bool(low.any() or high.any())

    def _candidates(self, soft: np.ndarray, reference: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Blobs that touch the reference, and the union of those lying mostly on it (a subject cut by a pole)."""
        touching = [b for b in self.blobs(soft) if (b & reference).any()][:4]
        wide = cv2.dilate(reference.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        lying = [b for b in touching if (b & wide).sum() > 0.6 * b.sum()]
        union = [np.logical_or.reduce(lying)] if len(lying) > 1 else []
        return [(soft, blob) for blob in touching + union]

    def follow(self, order: range, chosen: list[np.ndarray | None], named: bool) -> None:
        """Fill `chosen` in `order`, each from the frame before it in that order."""
        if len(order) == 0:
            return
        at = seen = order[0] - order.step
        last = _binary(chosen[at])
        missed = 0
        for i in order:
            carried = warp(last.astype(np.uint8), flow(self.grey[i], self.grey[at])) > 0
            reference = carried if carried.sum() > 8 else last
            self.advance(f"following the subject, frame {i + 1} of {len(self.clip)}")
            soft = self.choose(i, reference)
            if soft is None:
                soft = self._recover(i, seen, chosen, missed, named)
            if soft is None:
                last, missed = reference, missed + 1
            else:
                chosen[i], last, missed, seen = soft, _binary(soft), 0, i
            at = i

    def _recover(
        self, i: int, seen: int, chosen: list[np.ndarray | None], missed: int, named: bool
    ) -> np.ndarray | None:
        """A subject that moved too far for flow, or was hidden: the blob most like it when last seen, not too far.

        After `patience` frames, unless it was named, the blob that stands out most.
        """
        soft = self.saliency(i)
        blobs = self.blobs(soft)[:6]
        last = _binary(chosen[seen])
        colours, size = self._colours(seen, last), float(np.sqrt(last.sum()))
        reach = size * (1.0 + 0.5 * missed)
        best: tuple[float, np.ndarray | None] = (self.config.alike, None)
        for blob in blobs:
            shape, distance = _shape_overlap(blob, last)
            # Bhattacharyya coefficient of the two colour histograms, 1 for equal ones
            tint = float(np.sqrt(self._colours(i, blob) * colours).sum())
            value = shape * tint * float(np.exp(-0.5 * (distance / reach) ** 2))
            if value > best[0]:
                best = (value, blob)
        found = best[1]
        if found is None and missed >= self.config.patience and not named and blobs:
            found = max(blobs, key=lambda b: _prominence(soft, b))
        return None if found is None else self.choose(i, found, anchored=True)

    def _colours(self, i: int, mask: np.ndarray) -> np.ndarray:
        """Histogram (8·8·8,) of the colours under mask (h, w) bool, its sum 1."""
        small = cv2.resize(self.clip.frame(i), self.size, interpolation=cv2.INTER_AREA)
        bins = (small[mask] // 32).astype(np.int64) @ np.array([64, 8, 1])
        return np.bincount(bins, minlength=512) / max(len(bins), 1)

    def finish(self, i: int, chosen: list[np.ndarray | None]) -> np.ndarray | None:
        """Final mask of frame i at clip size, (H, W) bool: steadied by its neighbours, holes closed."""
        own = chosen[i]
        if own is None:
            return None
        total, weight = own.astype(np.float32), 1.0
        for j in (i - 1, i + 1):
            other = chosen[j] if 0 <= j < len(chosen) else None
            if other is None or self.config.steady <= 0.0:
                continue
            carried = warp(other.astype(np.float32), flow(self.grey[i], self.grey[j]))
            if _overlap(carried > 127, own > 127) < 0.6:  # flow lost it between the two frames
                continue
            total += self.config.steady * carried
            weight += self.config.steady
        soft = cv2.resize(total / (255.0 * weight), self.clip.size, interpolation=cv2.INTER_LINEAR)
        return soft > self.config.threshold


def _prominence(soft: np.ndarray, blob: np.ndarray) -> float:
    """How likely a blob is the clip's subject: sure, large (up to a quarter of the picture), not cut by the rim."""
    share = min(float(blob.mean()), 0.25)
    rim = [blob[0].any(), blob[-1].any(), blob[:, 0].any(), blob[:, -1].any()]
    return float(soft[blob].mean()) * share**0.5 * 0.75 ** sum(map(int, rim))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    union = int(np.count_nonzero(a | b))
    return float(np.count_nonzero(a & b)) / union if union else 0.0


def _shape_overlap(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Overlap of two (h, w) bool masks laid upon each other by the middles of their boxes, and those's distance."""
    box_a, box_b = mask_box(a), mask_box(b)
    shift = 0.5 * (box_a[:2] + box_a[2:] - box_b[:2] - box_b[2:])
    matrix = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    moved = cv2.warpAffine(b.astype(np.uint8), matrix, (b.shape[1], b.shape[0]), flags=cv2.INTER_NEAREST) > 0
    return _overlap(a, moved), float(np.hypot(*shift))


def _binary(soft: np.ndarray | None) -> np.ndarray:
    assert soft is not None
    return soft > 127
