# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mask network answered, kept: a look costs a hundred times what is done with it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.files import DAMAGED, written_atomically
from .video import Clip

# (h, w, 3) uint8 RGB -> (h', w') float32 saliency in 0…1, stretched over the same picture
Network = Callable[[np.ndarray], np.ndarray]

ALIKE = 0.8  # overlap of two windows from which the one's look serves for the other


@dataclass(frozen=True)
class Look:
    """One answer: saliency (h', w') uint8 stretched over `window` x0, y0, x1, y1 (pixels of the clip)."""

    window: tuple[int, int, int, int]
    soft: np.ndarray


class Looks:
    """All answers for one clip. The network is made when it is first needed.

    Crops are looked at by its `closer` where it has one.
    """

    def __init__(self, clip: Clip, make: Callable[[], Network]) -> None:
        self._clip, self._make = clip, make
        self._network: Network | None = None
        self._known: dict[int, list[Look]] = {}
        self.asked = 0  # answers that the network was run for

    def at(self, i: int, window: tuple[int, int, int, int]) -> Look:
        """The look at frame i through `window`, or one known through nearly the same window."""
        known = self._known.setdefault(i, [])
        near = max(known, key=lambda look: _window_overlap(look.window, window), default=None)
        if near is not None and _window_overlap(near.window, window) >= ALIKE:
            return near
        if self._network is None:
            self._network = self._make()
        x0, y0, x1, y1 = window
        whole = window == (0, 0, *self._clip.size)
        network = self._network if whole else getattr(self._network, "closer", self._network)
        soft = network(self._clip.frame(i)[y0:y1, x0:x1])
        self.asked += 1
        known.append(Look(window, (np.clip(soft, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)))
        return known[-1]

    def save(self, path: str | Path) -> None:
        """Write an .npz, moved into place when whole."""
        every = [(i, look) for i, known in sorted(self._known.items()) for look in known]
        with written_atomically(path) as temporary:
            np.savez_compressed(
                temporary,
                frames=np.array([i for i, _ in every], np.int64),
                windows=np.array([look.window for _, look in every], np.int64).reshape(-1, 4),
                shapes=np.array([look.soft.shape for _, look in every], np.int64).reshape(-1, 2),
                soft=np.concatenate([look.soft.ravel() for _, look in every] or [np.zeros(0, np.uint8)]),
            )

    def load(self, path: str | Path) -> None:
        """Take over what `save` wrote; a missing or damaged file is as good as none."""
        try:
            with np.load(path, allow_pickle=False) as data:
                frames, windows, shapes, soft = (data[n] for n in ("frames", "windows", "shapes", "soft"))
            ends = np.cumsum(shapes.prod(axis=1))
            if (frames.size and frames.max() >= len(self._clip)) or (ends.size and ends[-1] != soft.size):
                return
        except DAMAGED:
            return
        for i, window, shape, end in zip(frames, windows, shapes, ends, strict=True):
            x0, y0, x1, y1 = (int(v) for v in window)
            look = Look((x0, y0, x1, y1), soft[end - shape.prod() : end].reshape(shape))
            self._known.setdefault(int(i), []).append(look)


def _window_overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two windows."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
