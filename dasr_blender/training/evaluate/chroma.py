# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of a subject before a green or blue screen."""

from __future__ import annotations

import cv2
import numpy as np

from ...clip import Clip, Masks

Array = np.ndarray

_LEAST = 0.6  # share of the border that must be of the screen's colour
_HUE = 16  # OpenCV's half degrees about the screen's hue
_SATURATION = 70  # 0…255


def _screen(hsv: Array, hue: int, saturation: int) -> Array:
    away = np.abs((hsv[..., 0].astype(int) - hue + 90) % 180 - 90)
    return (away < _HUE) & (hsv[..., 1] > saturation) & (hsv[..., 2] > 30)


def screen_hue(clip: Clip) -> int | None:
    """Hue (0…179) of the screen behind a clip, None where the pictures' borders are not of one green or blue."""
    hues = []
    for i in np.unique(np.linspace(0, len(clip) - 1, 5).astype(int)):
        hsv = cv2.cvtColor(clip.frame(int(i)), cv2.COLOR_RGB2HSV)
        rim = max(2, min(clip.size) // 25)
        border = np.concatenate(
            [hsv[:rim].reshape(-1, 3), hsv[:, :rim].reshape(-1, 3), hsv[:, -rim:].reshape(-1, 3)]
        )
        vivid = border[border[:, 1] > _SATURATION]
        if len(vivid) < _LEAST * len(border):
            return None
        hue = int(np.median(vivid[:, 0]))
        if not 35 <= hue <= 130 or _screen(border, hue, _SATURATION).mean() < _LEAST:
            return None
        hues.append(hue)
    return int(np.median(hues)) if np.ptp(hues) < _HUE else None


def chroma_masks(clip: Clip, hue: int) -> Masks:
    """The largest thing in each frame that is not of the screen's hue; small holes and specks gone."""
    masks: list[Array | None] = []
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    for i in range(len(clip)):
        hsv = cv2.cvtColor(clip.frame(i), cv2.COLOR_RGB2HSV)
        front = (~_screen(hsv, hue, _SATURATION)).astype(np.uint8)
        front = cv2.morphologyEx(cv2.morphologyEx(front, cv2.MORPH_OPEN, kernel), cv2.MORPH_CLOSE, kernel)
        _, labels, stats, centres = cv2.connectedComponentsWithStats(front)
        # what stands in the middle, not the studio's edge
        height, width = front.shape
        middle = np.linalg.norm((centres - [width / 2, height / 2]) / [width, height], axis=1)
        weight = stats[:, cv2.CC_STAT_AREA] * np.exp(-0.5 * (middle / 0.25) ** 2)
        weight[0] = -1
        best = int(weight.argmax())
        masks.append(labels == best if best else None)
    return Masks.pack(masks, "chroma key", cuts=clip.cuts)
