# SPDX-License-Identifier: GPL-3.0-or-later
"""Background corners followed from key frames: where each was in its key frame, and where it is in a later one.

Every frame is compared with its key frame itself (pyramidal Lucas–Kanade, Bouguet 2000, forward and back), not
with the frame before, so errors do not add up along a clip; a key frame is given up when half of its corners
have left the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ..core.rotation import matrix_to_rotvec, rotvec_to_matrix
from .mask_store import Masks
from .turning import Turn, fit_turn, turned
from .video import Clip

Array = np.ndarray

_WINDOW = (15, 15)
_LEVELS = 4
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


@dataclass(frozen=True)
class TrackingConfig:
    """side: frames are compared at no more than this many pixels on the longer side.  corners: a key frame,
    spread over `cells` cells on the longer side.  margin: the subject's mask is widened by this share of the
    longer side.  fewest: tracked corners that a frame needs.  renew: share of a key frame's corners below
    which it is given up.  back: pixels that a corner may miss when tracked back."""

    side: int = 640
    corners: int = 320
    cells: int = 14
    margin: float = 0.02
    fewest: int = 16
    renew: float = 0.5
    back: float = 0.4


@dataclass(frozen=True, eq=False)
class Link:
    """Corners a ``(N, 2)`` of frame `key` and where they are in `frame`, b ``(N, 2)``; pixels of the compared
    size from the picture's middle. turn: what explains them with the assumed focal length."""

    key: int
    frame: int
    a: Array
    b: Array
    turn: Turn

    @property
    def shift(self) -> Array:
        """How far each corner went, ``(N,)``, compared pixels."""
        return np.linalg.norm(self.b - self.a, axis=1)

    def start(self, ratio: float, zoom: bool) -> tuple[Array, float]:
        """First guess of the turn with a focal length `ratio` times shorter: angles across the line of sight
        are as much larger."""
        vector = matrix_to_rotvec(self.turn.rotation) * [ratio, ratio, 1.0]
        return rotvec_to_matrix(vector), self.turn.scale if zoom else 1.0


def background(masks: Masks, i: int, size: tuple[int, int] | None = None, margin: float = 0.02) -> Array:
    """Where the subject of frame i is certainly not, ``(h, w)`` uint8 of 0 and 255.

    size: (width, height) of the result, the masks' own by default.  margin: share of its longer side by which
    the subject's mask is widened.
    """
    size = size or masks.size
    mask = (masks.mask(i) > 0.5).astype(np.uint8)
    if size != masks.size:
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    radius = max(1, round(margin * max(size)))
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.where(cv2.dilate(mask, kernel) > 0, 0, 255).astype(np.uint8)


class Comparer:
    """Grey frames at the compared size, and where the subject's widened mask is not."""

    def __init__(self, clip: Clip, masks: Masks, config: TrackingConfig) -> None:
        self.clip, self.masks, self.config = clip, masks, config
        self.scale = min(1.0, config.side / max(clip.size))  # compared pixels per working pixel
        self.size = (max(1, round(clip.size[0] * self.scale)), max(1, round(clip.size[1] * self.scale)))
        self.middle = 0.5 * np.array(self.size)
        self.focal = 1.2 * max(self.size)  # good enough to explain tracks by, if not to reconstruct with

    def grey(self, i: int) -> Array:
        """Frame i, (h, w) uint8."""
        image = cv2.cvtColor(self.clip.frame(i), cv2.COLOR_RGB2GRAY)
        return cv2.resize(image, self.size, interpolation=cv2.INTER_AREA) if self.scale < 1 else image

    def background(self, i: int) -> Array:
        """Where the subject is certainly not, (h, w) uint8 of 0 and 255."""
        return background(self.masks, i, self.size, self.config.margin)

    def corners(self, grey: Array, background: Array) -> Array:
        """Corners (N, 2) float32 of the background, image coordinates, spread over the picture."""
        config = self.config
        found = cv2.goodFeaturesToTrack(
            grey, 4 * config.corners, 0.004, max(3.0, max(self.size) / 120), mask=background, blockSize=5
        )
        if found is None:
            return np.zeros((0, 2), np.float32)
        found = found[:, 0]  # best first
        cell = max(self.size) / config.cells
        number = (found // cell).astype(int) @ [1, 1000]
        order = np.argsort(number, kind="stable")
        ranks = np.empty(len(found), int)
        starts = np.flatnonzero(np.r_[True, np.diff(number[order]) != 0])
        ranks[order] = np.arange(len(found)) - np.repeat(starts, np.diff(np.r_[starts, len(found)]))
        best = np.argsort(ranks, kind="stable")[
            : config.corners
        ]  # every cell's best, then every second best …
        return found[best]

    def follow(
        self, before: Array, after: Array, points: Array, guess: Array, background: Array
    ) -> tuple[Array, Array]:
        """Points (N, 2) of one grey frame in another: their places and which are sure, outside the mask there."""

        def search(one: Array, two: Array, at: Array, start: Array) -> tuple[Array, Array]:
            place, found, _ = cv2.calcOpticalFlowPyrLK(
                one, two, at, start, None, None, _WINDOW, _LEVELS, _STOP, cv2.OPTFLOW_USE_INITIAL_FLOW
            )
            return place, found

        there, found = search(before, after, points, guess.astype(np.float32))
        back, again = search(after, before, there, points.copy())
        sure = (found[:, 0] > 0) & (again[:, 0] > 0)
        sure &= np.linalg.norm(back - points, axis=1) < self.config.back
        x, y = np.rint(there).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < self.size[0]) & (y < self.size[1])
        sure &= inside
        sure[sure] = background[y[sure], x[sure]] > 0
        return there, sure

    def centred(self, points: Array) -> Array:
        """Image coordinates of OpenCV (pixel centres at whole numbers) to pixels from the middle, float64."""
        return points.astype(np.float64) + 0.5 - self.middle

    def uncentred(self, points: Array) -> Array:
        return (points + self.middle - 0.5).astype(np.float32)


@dataclass(eq=False)
class Key:
    """A key frame: its number, grey picture, its corners (N, 2) in image coordinates; and how the frame compared
    last was turned from it."""

    frame: int
    grey: Array
    points: Array
    rotation: Array
    scale: float = 1.0


def follow_background(
    comparer: Comparer,
    progress: Callable[[float, str], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> tuple[list[Link | None], list[Key]]:
    """One link for every frame but the first: to a key frame at or before the frame before it, None where too
    little could be followed (that frame then starts anew); and the key frames."""
    config, count = comparer.config, len(comparer.clip)
    links: list[Link | None] = []
    keys: list[Key] = []

    def start(frame: int, grey: Array, background: Array) -> Key:
        keys.append(Key(frame, grey, comparer.corners(grey, background), np.eye(3)))
        return keys[-1]

    grey, background = comparer.grey(0), comparer.background(0)
    key = start(0, grey, background)
    for t in range(1, count):
        if cancel is not None:
            cancel()
        if progress is not None:
            progress(t / count, f"Following the background in frame {int(comparer.clip.frame_index[t])}")
        before = (t - 1, grey, background)
        grey, background = comparer.grey(t), comparer.background(t)
        link = _link(comparer, key, t, grey, background)
        weak = link is None or len(link.a) < config.renew * len(key.points)
        if link is None and key.frame != t - 1:  # the frame before is nearer
            key = start(*before)
            link = _link(comparer, key, t, grey, background)
            weak = link is None or len(link.a) < config.renew * len(key.points)
        links.append(link)
        if weak:
            key = start(t, grey, background)
    return links, keys


def _link(comparer: Comparer, key: Key, t: int, grey: Array, background: Array) -> Link | None:
    if len(key.points) < comparer.config.fewest:
        return None
    a = comparer.centred(key.points)
    guess = comparer.uncentred(turned(a, comparer.focal, key.rotation, key.scale))
    there, sure = comparer.follow(key.grey, grey, key.points, guess, background)
    if sure.sum() < comparer.config.fewest:
        return None
    a, b = a[sure], comparer.centred(there[sure])
    turn = fit_turn(a, b, comparer.focal, True, (key.rotation, key.scale))
    if (turn.residual < 3.0).sum() < comparer.config.fewest:
        return None
    key.rotation, key.scale = turn.rotation, turn.scale
    return Link(key.frame, t, a, b, turn)
