# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mask networks answered, kept: a look costs a hundred times what is done with it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..core.files import DAMAGED, written_atomically
from .video import Clip

# (h, w, 3) uint8 RGB -> (h', w') float32 saliency in 0…1, stretched over the same picture
Network = Callable[[np.ndarray], np.ndarray]

# one that knows a category's bodies: of a picture that one fills, (h, w, 3) uint8 RGB, its mask (h', w') float32 in
# 0…1, stretched over the picture; how sure it is that there is one, 0…1; and the box (4,) x0, y0, x1, y1 of its joints,
# shares of the picture's width and height, beyond 0…1 where they are expected beyond its rim
BodyNetwork = Callable[[np.ndarray], tuple[np.ndarray, float, np.ndarray]]

ALIKE = 0.8  # overlap of two windows from which the one's look serves for the other


@dataclass(frozen=True)
class Look:
    """One answer: saliency, or a body's mask, (h', w') uint8 stretched over `window` x0, y0, x1, y1 (pixels of the
    clip). Of a body also how sure the network is of it, and the box of its joints, in such pixels."""

    window: tuple[int, int, int, int]
    soft: np.ndarray
    sure: float = 0.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


class Looks:
    """All answers for one clip. A network is made when it is first needed.

    Crops are looked at by its `closer` where it has one. bodies: makes the one that knows bodies; None without.
    """

    def __init__(
        self, clip: Clip, make: Callable[[], Network], bodies: Callable[[], BodyNetwork] | None = None
    ) -> None:
        self._clip, self._make, self._make_bodies = clip, make, bodies
        self._known: dict[tuple[int, bool], list[Look]] = {}  # by frame, and whether it is of bodies
        self.asked = 0  # answers that a network was run for

    @cached_property
    def _network(self) -> Network:
        return self._make()

    @cached_property
    def _bodies(self) -> BodyNetwork | None:
        return None if self._make_bodies is None else self._make_bodies()

    def at(self, i: int, window: tuple[int, int, int, int]) -> Look:
        """The look at frame i through `window`, or one known through nearly the same window."""
        near = self._near(i, False, window)
        if near is not None:
            return near
        whole = window == (0, 0, *self._clip.size)
        network = self._network if whole else getattr(self._network, "closer", self._network)
        return self._keep(i, False, Look(window, _bytes(network(self._part(i, window)))))

    def body(self, i: int, window: tuple[int, int, int, int]) -> Look | None:
        """The same for the network that knows bodies, None without one."""
        near = self._near(i, True, window)
        if near is not None or self._bodies is None:
            return near
        soft, sure, box = self._bodies(self._part(i, window))
        x0, y0, x1, y1 = window
        size = x1 - x0, y1 - y0
        a, b, c, d = (float(v) for v in np.tile((x0, y0), 2) + np.asarray(box, np.float64) * np.tile(size, 2))
        return self._keep(i, True, Look(window, _bytes(soft), float(sure), (a, b, c, d)))

    def _part(self, i: int, window: tuple[int, int, int, int]) -> np.ndarray:
        x0, y0, x1, y1 = window
        return self._clip.frame(i)[y0:y1, x0:x1]

    def _near(self, i: int, body: bool, window: tuple[int, int, int, int]) -> Look | None:
        known = self._known.get((i, body), [])
        near = max(known, key=lambda look: _window_overlap(look.window, window), default=None)
        return near if near is not None and _window_overlap(near.window, window) >= ALIKE else None

    def _keep(self, i: int, body: bool, look: Look) -> Look:
        self._known.setdefault((i, body), []).append(look)
        self.asked += 1
        return look

    def save(self, path: str | Path) -> None:
        """Write an .npz, moved into place when whole."""
        every = [(*at, look) for at, known in sorted(self._known.items()) for look in known]
        with written_atomically(path) as temporary:
            np.savez_compressed(
                temporary,
                frames=np.array([i for i, *_ in every], np.int64),
                bodies=np.array([body for _, body, _ in every], bool),
                windows=np.array([look.window for *_, look in every], np.int64).reshape(-1, 4),
                sure=np.array([look.sure for *_, look in every], np.float64),
                boxes=np.array([look.box for *_, look in every], np.float64).reshape(-1, 4),
                shapes=np.array([look.soft.shape for *_, look in every], np.int64).reshape(-1, 2),
                soft=np.concatenate([look.soft.ravel() for *_, look in every] or [np.zeros(0, np.uint8)]),
            )

    def load(self, path: str | Path) -> None:
        """Take over what `save` wrote; a missing or damaged file is as good as none."""
        try:
            with np.load(path, allow_pickle=False) as data:
                names = "frames", "bodies", "windows", "sure", "boxes", "shapes", "soft"
                frames, bodies, windows, sure, boxes, shapes, soft = (data[n] for n in names)
            ends = np.cumsum(shapes.prod(axis=1))
            if (frames.size and frames.max() >= len(self._clip)) or (ends.size and ends[-1] != soft.size):
                return
        except DAMAGED:
            return
        each = zip(frames.tolist(), bodies.tolist(), windows.tolist(), sure.tolist(), boxes.tolist(), strict=True)
        for (i, body, window, certain, box), shape, end in zip(each, shapes, ends, strict=True):
            look = Look(tuple(window), soft[end - shape.prod() : end].reshape(shape), certain, tuple(box))
            self._known.setdefault((i, body), []).append(look)


def _bytes(soft: np.ndarray) -> np.ndarray:
    return (np.clip(soft, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _window_overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two windows."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
