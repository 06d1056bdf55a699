# SPDX-License-Identifier: GPL-3.0-or-later
"""Dense optical flow between two frames (Kroeger et al., DIS, ECCV 2016) and warping by it."""

from __future__ import annotations

import threading
from functools import lru_cache

import cv2
import numpy as np

_local = threading.local()  # a DIS object keeps buffers between calls and is not thread-safe


def _dis(quick: bool) -> cv2.DISOpticalFlow:
    name = "quick" if quick else "medium"
    if not hasattr(_local, name):
        preset = cv2.DISOPTICAL_FLOW_PRESET_FAST if quick else cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
        setattr(_local, name, cv2.DISOpticalFlow.create(preset))
    return getattr(_local, name)


def _grey(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def flow(a: np.ndarray, b: np.ndarray, quick: bool = False) -> np.ndarray:
    """Displacement in pixels from each pixel of `a` to where it is seen in `b`.

    a, b: (H, W, 3) RGB or (H, W) grey, uint8, of one size. Returns (H, W, 2) float32, (dx, dy).
    quick takes DIS's fast setting instead of the medium one: a quarter of the time, coarser.
    """
    if a.shape[:2] != b.shape[:2]:
        raise ValueError(f"flow needs two images of one size, not {a.shape[:2]} and {b.shape[:2]}")
    if min(a.shape[:2]) < 16:  # DIS's patches are 8 pixels on a pyramid: nothing to measure in less
        return np.zeros((*a.shape[:2], 2), np.float32)
    return _dis(quick).calc(_grey(a), _grey(b), np.zeros((*a.shape[:2], 2), np.float32))


def warp(mask: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Pull `mask`, given on the pixels of b, back onto the pixels of a, with `flow` = flow(a, b).

    result(x) = mask(x + flow(x)), bilinear, 0 outside. mask: (H, W) or (H, W, C); flow: (H, W, 2).
    So the previous frame's mask is brought to this frame by warp(previous, flow(this, previous)).
    """
    places = flow + _pixels(*flow.shape[:2])
    return cv2.remap(mask, places, np.empty(0), cv2.INTER_LINEAR, borderValue=(0.0,))


@lru_cache(maxsize=4)
def _pixels(height: int, width: int) -> np.ndarray:
    """Where each pixel is, (H, W, 2) float32 (x, y); not to be written to."""
    return np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), -1)
