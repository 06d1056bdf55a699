# SPDX-License-Identifier: GPL-3.0-or-later
"""Square crops around the subject: where they are, and the pixels in them.

Crop pixel (column u, row v; both from 0) of a crop of S pixels shows the image at

    x = cx - side/2 + side * (u + 0.5) / S        y = cy - side/2 + side * (v + 0.5) / S

in the convention that pixel centres lie at +0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from .mask_store import MaskError


class _Frames(Protocol):
    @property
    def size(self) -> tuple[int, int]: ...

    def __len__(self) -> int: ...

    def frame(self, i: int) -> np.ndarray: ...


class _Masks(Protocol):
    def __len__(self) -> int: ...

    def mask(self, i: int) -> np.ndarray: ...


def crop_boxes(
    boxes: np.ndarray, factor: float = 1.2, smooth: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Square crops around boxes.

    boxes: (T, 4) x0, y0, x1, y1 in pixels; factor: side of the crop over the longer side of its box;
    smooth: standard deviation in frames of a Gaussian over centre and side, 0 for none. A smoothed
    crop is grown where it would otherwise cut its box. Returns center (T, 2) and side (T,), pixels.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    center = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    extent = boxes[:, 2:] - boxes[:, :2]
    side = np.maximum(extent.max(axis=1) * factor, 2.0)
    if smooth > 0.0 and len(boxes) > 1:
        center = _gaussian(center, smooth)
        side = np.exp(_gaussian(np.log(side)[:, None], smooth)[:, 0])
        reach = np.maximum(np.abs(boxes[:, :2] - center), np.abs(boxes[:, 2:] - center)).max(axis=1)
        side = np.maximum(side, 2.0 * reach)
    return center, side


def extract_crops(
    clip: _Frames,
    masks: _Masks,
    center: np.ndarray,
    side: np.ndarray,
    size: int,
    progress: Callable[[float, str], None] | None = None,
) -> np.ndarray:
    """The crops of a whole clip: (T, 4, size, size) uint8, RGB times mask, then the mask (0…255).

    center (T, 2), side (T,) in pixels of clip.size; what lies outside the picture is 0.
    Resampling averages over areas when shrinking (no aliasing) and is bilinear when enlarging.
    Raises MaskError when masks or crops are not the clip's: of other frames, or of another size.
    """
    if not len(masks) == len(center) == len(side) == len(clip):
        raise MaskError(
            f"There are {len(clip)} frames but {len(masks)} masks and {len(center)} crops: make them of this clip"
        )
    crops = np.zeros((len(clip), 4, size, size), np.uint8)
    for i in range(len(clip)):
        frame, mask = clip.frame(i), masks.mask(i)
        if mask.shape != frame.shape[:2]:
            raise MaskError(
                f"The mask of frame {i} is {mask.shape[1]}×{mask.shape[0]} pixels but the frame "
                f"{frame.shape[1]}×{frame.shape[0]}: make the masks of this clip"
            )
        rgb = sample_square(frame, center[i], float(side[i]), size)
        mask = sample_square((mask * 255.0).astype(np.uint8), center[i], float(side[i]), size)
        masked = cv2.multiply(rgb, cv2.merge([mask, mask, mask]), scale=1.0 / 255.0)
        crops[i, :3] = masked.transpose(2, 0, 1)
        crops[i, 3] = mask
        if progress is not None:
            progress((i + 1) / len(clip), f"crop {i + 1} of {len(clip)}")
    return crops


def sample_square(image: np.ndarray, center: np.ndarray, side: float, size: int) -> np.ndarray:
    """(size, size[, C]) view of the square of `side` pixels about `center` (2,) of `image` (H, W[, C]).

    When shrinking, the picture is first brought by INTER_AREA, on the whole-pixel window that holds the
    square, to at most 1.0…1.3 × the crop's own resolution; one affine warp then places it exactly. The
    affine is written for the window as it was really resized, so rounding moves nothing.
    """
    height, width = image.shape[:2]
    left, top = float(center[0]) - side / 2.0, float(center[1]) - side / 2.0
    # two source pixels of margin: bilinear taps at the crop's edge need their neighbours
    margin = max(2.0, 2.0 * side / size)
    x0, y0 = max(int(np.floor(left - margin)), 0), max(int(np.floor(top - margin)), 0)
    x1, y1 = min(int(np.ceil(left + side + margin)), width), min(int(np.ceil(top + side + margin)), height)
    shape = (size, size, *image.shape[2:])
    if x1 <= x0 or y1 <= y0:
        return np.zeros(shape, image.dtype)
    window = image[y0:y1, x0:x1]
    shrink = size / side
    zoom_x = zoom_y = 1.0
    if shrink < 0.99:
        small = (max(int(np.ceil((x1 - x0) * shrink)), 1), max(int(np.ceil((y1 - y0) * shrink)), 1))
        zoom_x, zoom_y = small[0] / (x1 - x0), small[1] / (y1 - y0)
        window = cv2.resize(window, small, interpolation=cv2.INTER_AREA)
    # crop index u -> image x = left + side (u + .5)/S -> window index (x - x0) zoom - .5
    step_x, step_y = side / size * zoom_x, side / size * zoom_y
    window_from_crop = np.array(
        [
            [step_x, 0.0, (left - x0) * zoom_x + 0.5 * step_x - 0.5],
            [0.0, step_y, (top - y0) * zoom_y + 0.5 * step_y - 0.5],
        ]
    )
    return cv2.warpAffine(
        window,
        window_from_crop,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0.0,),
    )


def _gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian over time, (T, C) -> (T, C); the ends are continued by point reflection."""
    radius = min(int(np.ceil(3.0 * sigma)), len(values) - 1)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    before = 2.0 * values[0] - values[radius:0:-1]
    after = 2.0 * values[-1] - values[-2 : -radius - 2 : -1]
    padded = np.concatenate([before, values, after])
    return np.stack([np.convolve(padded[:, c], kernel, "valid") for c in range(values.shape[1])], axis=1)
