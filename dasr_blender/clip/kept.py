# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps of every frame of a shot, kept small: of two thousand frames at working size each byte a pixel is 260 MB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np


class Kept(Sequence[Any]):
    """Maps (h, w) float32 of frames, None where there is none. What is taken out is a copy, near what was put in."""

    def __init__(self) -> None:
        self._maps: list[np.ndarray | None] = []

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, i: int) -> Any:  # type: ignore[override]
        small = self._maps[i]
        return None if small is None else self._widened(small)

    def __setitem__(self, i: int, made: np.ndarray | None) -> None:
        self._maps[i] = None if made is None else self._packed(made)

    def append(self, made: np.ndarray | None) -> None:
        self._maps.append(None if made is None else self._packed(made))

    def _packed(self, made: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _widened(self, small: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class KeptInSteps(Kept):
    """Maps of which each pixel is a whole number of steps."""

    def __init__(self, kind: type[np.integer], steps: int) -> None:
        """kind: the whole number, to whose limits a map is limited; steps: how many make 1."""
        super().__init__()
        self._kind, self._step, self._limits = kind, np.float32(1.0 / steps), np.iinfo(kind)

    def _packed(self, made: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(made / self._step), self._limits.min, self._limits.max).astype(self._kind)

    def _widened(self, small: np.ndarray) -> np.ndarray:
        return np.multiply(small, self._step, dtype=np.float32)


class KeptFlows(Kept):
    """Flow (h, w, 2) float32 as `flow` measures it quickly: at every fourth pixel, with what is between filled in.

    So a quarter of its width and height is nearly all of it: a few hundredths of a pixel are lost where it jumps.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        """size: w, h."""
        super().__init__()
        self._full, self._quarter = size, (max(size[0] // 4, 1), max(size[1] // 4, 1))

    def _packed(self, made: np.ndarray) -> np.ndarray:
        small = cv2.resize(made, self._quarter, interpolation=cv2.INTER_LINEAR)
        # filled in again it is a little smoother than before: so much is added
        return small + cv2.resize(made - self._widened(small), self._quarter, interpolation=cv2.INTER_LINEAR)

    def _widened(self, small: np.ndarray) -> np.ndarray:
        return cv2.resize(small, self._full, interpolation=cv2.INTER_LINEAR)
