# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from dasr_blender.clip import MaskError, crop_boxes, extract_crops, sample_square

SIZES = [(40.0, 64), (64.0, 64), (200.0, 64), (333.7, 128), (90.3, 128)]


def ramps(width: int, height: int) -> np.ndarray:
    """(H, W, 2) float32 whose channels are each pixel's centre, x and y."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x, y], axis=2).astype(np.float32)


@pytest.mark.parametrize(("side", "size"), SIZES)
@pytest.mark.parametrize("center", [(251.3, 203.8), (240.0, 200.0)])
def test_pixel_mapping_is_exact(side: float, size: int, center: tuple[float, float]) -> None:
    """On a picture of its own coordinates every crop pixel reads where the formula says it lies."""
    found = sample_square(ramps(500, 420), np.array(center), side, size)
    steps = side * (np.arange(size) + 0.5) / size - side / 2
    x, y = center[0] + steps, center[1] + steps
    # cv2 quantises the position of bilinear taps to 1/32 of a (resized) pixel
    tolerance = max(1.0, side / size) / 24
    assert np.abs(found[..., 0] - x[None, :]).max() < tolerance
    assert np.abs(found[..., 1] - y[:, None]).max() < tolerance


def test_outside_is_black_and_inside_is_kept() -> None:
    image = np.full((60, 80, 3), 200, np.uint8)
    crop = sample_square(image, np.array([0.0, 30.0]), 40.0, 40)
    assert (crop[:, :19] == 0).all() and (crop[:, 21:] == 200).all()
    assert (sample_square(image, np.array([500.0, 30.0]), 40.0, 40) == 0).all()


def test_shrinking_averages_areas() -> None:
    """A one-pixel checkerboard shrinks to even grey, not to a moiré; the mean of noise is kept."""
    board = np.indices((512, 512)).sum(axis=0).astype(np.uint8) % 2 * 255
    crop = sample_square(board, np.array([256.0, 256.0]), 410.0, 128)
    assert np.abs(crop[4:-4, 4:-4].astype(float) - 127.5).max() < 30
    assert abs(crop.mean() - 127.5) < 1.0


def test_boxes_are_square_and_hold_the_mask() -> None:
    boxes = np.array([[10.0, 20, 50, 40], [12, 0, 20, 100]])
    center, side = crop_boxes(boxes)
    assert center.tolist() == [[30, 30], [16, 50]]
    assert side == pytest.approx([48.0, 120.0])


@pytest.mark.parametrize("smooth", [1.0, 4.0])
def test_smoothed_boxes_shake_less_and_never_cut(smooth: float) -> None:
    rng = np.random.default_rng(3)
    center = np.cumsum(rng.normal(0, 3, (60, 2)), axis=0) + 300
    extent = 80 + rng.normal(0, 10, (60, 2))
    boxes = np.concatenate([center - extent / 2, center + extent / 2], axis=1)
    plain, _ = crop_boxes(boxes)
    middle, side = crop_boxes(boxes, smooth=smooth)
    low, high = middle - side[:, None] / 2, middle + side[:, None] / 2
    assert (low <= boxes[:, :2] + 1e-9).all() and (high >= boxes[:, 2:] - 1e-9).all()
    assert np.abs(np.diff(middle, 2, axis=0)).mean() < 0.6 * np.abs(np.diff(plain, 2, axis=0)).mean()
    one = crop_boxes(boxes[:1], smooth=smooth)
    assert one[0].shape == (1, 2) and one[1].shape == (1,)
    assert np.allclose(crop_boxes(boxes[:2], smooth=smooth)[1] > 0, True)


def fake(frame: np.ndarray, mask: np.ndarray, count: int) -> tuple[SimpleNamespace, SimpleNamespace]:
    class Frames(SimpleNamespace):
        def __len__(self) -> int:
            return count

    size = (frame.shape[1], frame.shape[0])
    return Frames(size=size, frame=lambda i: frame), Frames(mask=lambda i: mask)


def test_crops_are_masked_and_carry_the_mask() -> None:
    frame = np.full((120, 160, 3), (250, 100, 50), np.uint8)
    mask = np.zeros((120, 160), np.float32)
    mask[40:80, 60:120] = 1
    clip, masks = fake(frame, mask, 2)
    center, side = crop_boxes(np.array([[60.0, 40, 120, 80]] * 2))
    crops = extract_crops(clip, masks, center, side, 72)
    assert crops.shape == (2, 4, 72, 72) and crops.dtype == np.uint8
    assert crops[0, :, 36, 36].tolist() == [250, 100, 50, 255]
    assert crops[0, :, 2, 2].tolist() == [0, 0, 0, 0]
    assert (crops[1, 3] > 127).sum() == 60 * 40  # side 72 at 72 pixels: the mask's own size
    columns = np.flatnonzero(crops[0, 3].max(axis=0) > 127)
    assert columns[0] == 6 and columns[-1] == 65


def test_masks_of_another_clip_are_refused() -> None:
    frame, mask = np.zeros((120, 160, 3), np.uint8), np.ones((120, 160), np.float32)
    center, side = crop_boxes(np.array([[60.0, 40, 120, 80]] * 2))
    clip, fewer = fake(frame, mask, 2)[0], fake(frame, mask, 1)[1]
    with pytest.raises(MaskError, match="2 frames but 1 masks and 2 crops"):
        extract_crops(clip, fewer, center, side, 72)
    with pytest.raises(MaskError, match="frame 0 is 80×60 pixels but the frame 160×120"):
        extract_crops(clip, fake(frame, mask[::2, ::2], 2)[1], center, side, 72)


def test_crops_are_fast() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (480, 854, 3), np.uint8)
    mask = np.zeros((480, 854), np.float32)
    mask[90:400, 300:700] = 1
    clip, masks = fake(frame, mask, 20)
    center, side = crop_boxes(np.array([[300.0, 90, 700, 400]] * 20))
    best = np.inf
    for _ in range(3):
        began = time.perf_counter()
        extract_crops(clip, masks, center, side, 128)
        best = min(best, (time.perf_counter() - began) / 20)
    assert best < 0.05  # 2 ms on an idle core; room for a busy machine
