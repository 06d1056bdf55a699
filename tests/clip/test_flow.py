# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import numpy as np
import pytest
from rendered import ellipse_mask, ground

from dasr_blender.clip.flow import flow, warp


def test_flow_of_a_shifted_picture_and_the_mask_it_carries() -> None:
    big = ground(260, 200)
    a, b = big[20:180, 20:240], big[17:177, 25:245]  # what is at x in a is at x + (-5, 3) in b
    moved = flow(a, b)
    assert moved.shape == (160, 220, 2) and moved.dtype == np.float32
    assert np.median(moved, axis=(0, 1)) == pytest.approx([-5.0, 3.0], abs=0.2)
    mask = ellipse_mask(220, 160, (110, 80), (40, 25)).astype(np.float32) / 255
    carried = warp(mask, moved)  # the mask of b's pixels, brought to a's: moved by (+5, -3)
    expected = np.roll(mask, (-3, 5), axis=(0, 1)) > 0.5
    assert ((carried > 0.5) & expected).sum() / ((carried > 0.5) | expected).sum() > 0.93


def test_warp_reads_at_the_arrow_tip_and_is_zero_outside() -> None:
    image = np.zeros((10, 12), np.float32)
    image[4, 7] = 1
    arrows = np.zeros((10, 12, 2), np.float32)
    arrows[..., 0] = 2
    assert np.argwhere(warp(image, arrows)).tolist() == [[4, 5]]
    arrows[..., 0] = 50
    assert not warp(np.ones((10, 12), np.float32), arrows).any()


def test_tiny_and_mismatched_pictures() -> None:
    assert not flow(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)).any()
    with pytest.raises(ValueError, match="one size"):
        flow(np.zeros((32, 32, 3), np.uint8), np.zeros((32, 40, 3), np.uint8))
