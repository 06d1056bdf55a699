# SPDX-License-Identifier: GPL-3.0-or-later
"""What speaks for and against each pixel of a frame belonging to the subject, in log-odds, and its way in time.

All maps are (h, w) float32 at the working size; positive means subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np

from ..core.workers import made_ahead
from .flow import warp
from .kept import Kept, KeptInSteps

LIMIT = 4.0  # log-odds that one frame's own evidence may reach
STEPS = 31  # in one of log-odds, of which a byte holds as many as evidence may reach
FINE = 1000  # and of gathered log-odds, which stay within 30: two bytes
SURE = 20.0  # log-odds of what a person said
TINT = 30.0  # levels between a pixel and where flow says it came from, at which flow is believed a third
_TINTED = (np.arange(256, dtype=np.float32) / np.float32(TINT)) ** 2  # what so many levels speak against it
_COVERED = 2  # beside 0, unknown, and 1, clear
ELSEWHERE = 0.35  # share of the smaller of two masks that shows the same in both, under which the subject has moved
_OFFSETS = (4, 9, 16, 25, 36, 49)  # frames back and forth from which the background is taken
_BETWEEN = (6, 12, 20, 30, 42)  # and from which too, in a short clip and near the ends of any
_ENOUGH = 8  # samples of the background that make the latter unneeded


def log_odds(probability: np.ndarray, limit: float = LIMIT) -> np.ndarray:
    """ln(p / (1 - p)) within ±limit."""
    edge = 1.0 / (1.0 + np.exp(limit))
    p = np.clip(probability, edge, 1.0 - edge)
    return np.log(p / (1.0 - p)).astype(np.float32)


def agreement(there: np.ndarray, back: np.ndarray, here: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(h, w) float32 in 0…1: how far flow `there` (h, w, 2) from frame `here` (h, w, 3) to `other` can be believed.

    It and the opposite flow cancel where both frames see the same thing (Sundaram et al., ECCV 2010), and colours
    stay; a small body that outruns the flow keeps the first rule but not the second.
    """
    length = 1.0 + 0.1 * np.sqrt(_square(there))
    apart = _largest(cv2.absdiff(cv2.blur(warp(other, there), (5, 5)), cv2.blur(here, (5, 5))))
    return np.exp(-_square(there + warp(back, there)) / length**2 - cv2.LUT(apart, _TINTED))


def _square(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths (h, w) of vectors (h, w, 2)."""
    x, y = cv2.split(vectors)
    return x * x + y * y


def _largest(levels: np.ndarray) -> np.ndarray:
    """The largest of three channels (h, w, 3) at every pixel."""
    one, two, three = cv2.split(levels)
    return cv2.max(cv2.max(one, two), three)


Flows = Sequence[np.ndarray | None]  # (h, w, 2) of each frame to the one before, or after; None where there is none
Sides = tuple[Kept, Kept]  # of each frame: towards the one before, and the one after


def trusts(frames: Sequence[np.ndarray], before: Flows, after: Flows) -> Sides:
    """How far each frame's flow to its two neighbours can be believed, (h, w) float32 in 0…1, None at the ends.

    frames: (h, w, 3) uint8; before[i], after[i]: flow (h, w, 2) of frame i to the frame before and after it.
    """

    def both(i: int) -> tuple[np.ndarray, np.ndarray]:
        back, ahead = before[i], after[i - 1]
        assert back is not None and ahead is not None
        here, last = frames[i], frames[i - 1]
        return agreement(back, ahead, here, last), agreement(ahead, back, last, here)

    sides = KeptInSteps(np.uint8, 255), KeptInSteps(np.uint8, 255)
    sides[0].append(None)
    for backward, forward in made_ahead(both, range(1, len(frames))):
        sides[0].append(backward)
        sides[1].append(forward)
    sides[1].append(None)
    return sides


def smooth(
    evidence: Sequence[np.ndarray],
    before: Flows,
    after: Flows,
    trust: Sides,
    keep: float,
    fixed: Mapping[int, np.ndarray],
) -> Kept:
    """Evidence gathered along the flow, forward and backward over the clip.

    before, after, trust: as for `trusts`. Each frame adds `keep` times what its neighbour had gathered, less where
    the flow is contradicted; with log-odds this is the forward–backward recursion of a hidden Markov chain for each
    pixel's track, with leaky transitions. fixed: frames whose log-odds are known. Time and memory linear in the
    number of frames.
    """
    count = len(evidence)
    result = KeptInSteps(np.int16, FINE)  # first what is gathered from the past, then from both sides
    past: np.ndarray | None = None
    for i in range(count):
        if i in fixed:
            past = fixed[i]
        elif past is None:
            past = evidence[0]
        else:
            past = evidence[i] + keep * trust[0][i] * warp(past, before[i])  # type: ignore[arg-type]
        result.append(past)
    future: np.ndarray | None = None
    for i in reversed(range(count)):
        if i in fixed:
            future = fixed[i]
            continue
        ahead = 0.0 if future is None else keep * trust[1][i] * warp(future, after[i])  # type: ignore[arg-type]
        result[i] = result[i] + ahead
        future = evidence[i] + ahead
    return result


class Background:
    """The scene behind the subject, seen in frames where the subject stood elsewhere.

    Frames are laid upon each other by the homographies of the background's flow (exact for a turning or zooming
    camera, near enough for far scenes), at half the working size. A pixel that looks like the same place at other
    times is background, one that never does is not: sample consensus as in ViBe (Barnich & Van Droogenbroeck,
    2011), with a pixel of tolerance for parallax. What also looks like that where masks cover it stood still and was
    missed at times, so that nothing follows from its being there; unless it is there too when the subject as a whole
    has left its place, or turned in it: a standing man's legs go with a body that looks the same too.
    """

    # log-likelihood ratios: of a sample that fits (by chance on the subject, nearly always on background), and not
    MATCHES = (np.log(0.3 / 0.8), np.log(0.7 / 0.2))
    RADIUS = 10.0  # levels by which a sample of the same place may differ

    def __init__(
        self, frames: Sequence[np.ndarray], masks: Iterable[np.ndarray | None], before: Flows
    ) -> None:
        height, width = frames[0].shape[:2]
        self._full, self._half = (width, height), (max(width // 2, 1), max(height // 2, 1))
        # first_from_frame in half-size pixels
        self._from: list[np.ndarray] = [np.eye(3)]
        self._low, self._high, self._blur, self._clear = [], [], [], []
        box = np.ones((3, 3), np.uint8)
        for i, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            small = cv2.GaussianBlur(cv2.resize(frame, self._half, interpolation=cv2.INTER_AREA), (0, 0), 0.7)
            self._blur.append(small)
            self._low.append(cv2.erode(small, box))
            self._high.append(cv2.dilate(small, box))
            if mask is None:  # not known what is background here
                self._clear.append(np.zeros(small.shape[:2], np.uint8))
            else:
                grown = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8))
                clear = 1 - cv2.resize(grown, self._half, interpolation=cv2.INTER_NEAREST)
                covered = cv2.resize(mask.astype(np.uint8), self._half, interpolation=cv2.INTER_NEAREST)
                self._clear.append(np.where(covered > 0, np.uint8(_COVERED), clear))
            if i:
                self._from.append(self._from[-1] @ self._step(before[i], self._clear[i]))  # type: ignore[arg-type]

    def _step(self, flow: np.ndarray, clear: np.ndarray) -> np.ndarray:
        """Homography (3, 3) from this frame to the one before, from the flow of clear pixels."""
        pace = max(min(clear.shape) // 24, 1)
        rows, columns = np.mgrid[pace // 2 : clear.shape[0] : pace, pace // 2 : clear.shape[1] : pace]
        chosen = clear[rows, columns] == 1
        if chosen.sum() < 24:
            return np.eye(3)
        rows, columns = rows[chosen], columns[chosen]
        here = np.stack([columns, rows], axis=1).astype(np.float32)
        there = here + 0.5 * flow[np.minimum(2 * rows, len(flow) - 1), np.minimum(2 * columns, flow.shape[1] - 1)]
        cv2.setRNGSeed(0)
        found, inlier = cv2.findHomography(here, there, cv2.RANSAC, 0.7, maxIters=200)
        return found if found is not None and inlier.mean() > 0.3 else np.eye(3)

    @staticmethod
    def _elsewhere(mask: np.ndarray, other: np.ndarray, same: np.ndarray) -> bool:
        """Whether the subject of another frame stood elsewhere, or otherwise, by two masks (h, w) bool and where both
        frames look the same (h, w) bool; not where a mask is empty.

        Measured by the smaller mask: one that lacks a part lies within the one that has it.
        """
        smaller = min(np.count_nonzero(mask), np.count_nonzero(other))
        return np.count_nonzero(mask & other & same) < ELSEWHERE * smaller

    def _samples(self, i: int) -> list[int]:
        """The frames that show what is behind frame i."""
        far, near = (
            [j for k in offsets for j in (i - k, i + k) if 0 <= j < len(self._blur) and self._clear[j].any()]
            for offsets in (_OFFSETS, _BETWEEN)
        )
        return far + near[: max(_ENOUGH - len(far), 0)]

    def odds(self, i: int) -> np.ndarray:
        """Log-odds (h, w) float32 of frame i's pixels; 0 where fewer than two other frames show the place."""
        here = self._blur[i]
        seen = np.zeros(here.shape[:2], np.float32)
        fits = np.zeros(here.shape[:2], np.float32)
        under, alike = np.zeros(here.shape[:2], np.float32), np.zeros(here.shape[:2], np.float32)
        without = np.zeros(here.shape[:2], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        mask = self._clear[i] == _COVERED
        for j in self._samples(i):
            other_from_here = np.linalg.inv(self._from[j]) @ self._from[i]
            low, high = (
                cv2.warpPerspective(image[j], other_from_here, self._half, flags=flags)
                for image in (self._low, self._high)
            )
            clear = cv2.warpPerspective(
                self._clear[j], other_from_here, self._half, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            )
            apart = _largest(cv2.max(cv2.subtract(low, here), cv2.subtract(here, high)))
            same = apart <= self.RADIUS
            seen += clear == 1
            fits += (clear == 1) & same
            other = clear == _COVERED
            under += other
            alike += other & same
            if self._elsewhere(mask, other, same):
                without += clear == 1
        fit, miss = self.MATCHES
        share = fits / np.maximum(seen, 1.0)
        # samples of one place are anything but independent: together they count as two
        odds = np.where(seen >= 2, 2.0 * (share * fit + (1.0 - share) * miss), 0.0).astype(np.float32)
        # by chance three in ten fit; of what stands still, most
        still = np.clip((alike / np.maximum(under, 1.0) - 0.35) / 0.35, 0.0, 1.0)
        still[without >= 2] = 0.0
        odds = np.where(odds < 0, odds * (1.0 - still), odds).astype(np.float32)
        return cv2.resize(cv2.GaussianBlur(odds, (0, 0), 1.0), self._full, interpolation=cv2.INTER_LINEAR)
