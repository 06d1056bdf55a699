# SPDX-License-Identifier: GPL-3.0-or-later
"""Maps that are kept small: what they lose, and what a clip's frames take because of them."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import pytest
from rendered import ellipse_mask, ground, painted
from test_automatic import redness

from dasr_blender.clip import Clip, Correction, automatic_masks
from dasr_blender.clip.choosing import AutomaticConfig
from dasr_blender.clip.evidence import LIMIT, STEPS, SURE
from dasr_blender.clip.flow import flow
from dasr_blender.clip.kept import KeptFlows, KeptInSteps

WIDTH, HEIGHT = 160, 100  # of the working picture
MOST = 13  # bytes a frame for each of its pixels


@dataclass(frozen=True)
class Drawn(Clip):
    """A red ellipse on its way, drawn when it is asked for: so only what the masks take is measured."""

    def frame(self, i: int) -> np.ndarray:
        body = ellipse_mask(*self.size, (60 + 2 * i, self.size[1] / 2), (30, 24))
        return painted(drawn_ground(*self.size), body, (230, 50, 40))


drawn_ground = lru_cache(ground)


def most_held(count: int, said: bool) -> int:
    """Bytes, while the masks of so many frames are made."""
    size = 2 * WIDTH, 2 * HEIGHT
    pixels = np.broadcast_to(np.zeros(3, np.uint8), (count, size[1], size[0], 3))
    clip = Drawn(24.0, size, size, np.arange(count), "drawn", count, "", pixels)
    truth = ellipse_mask(*size, (66, size[1] / 2), (30, 24)) > 0
    corrections = [Correction(3, mask=truth)] if said else []
    tracemalloc.start()
    try:
        automatic_masks(
            clip, network=lambda image: redness(image)[::4, ::4], config=AutomaticConfig(work_side=WIDTH),
            corrections=corrections,
        )
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("said", [False, True])
def test_a_frame_more_takes_little_memory(said: bool) -> None:
    """A shot of thousands of frames has to fit."""
    short, long = 24, 72
    more = (most_held(long, said) - most_held(short, said)) / (long - short)
    assert more / (WIDTH * HEIGHT) < MOST


@pytest.mark.parametrize("size", [(240, 160), (237, 163), (90, 158)])
def test_quick_flow_is_all_but_kept(size: tuple[int, int]) -> None:
    """Also where a body moves against the ground."""
    behind, coat = (cv2.GaussianBlur(ground(*size, seed=s), (0, 0), 1.0) for s in (0, 1))
    frames = []
    for step in (0, 6):
        body = ellipse_mask(*size, (size[0] / 2 - step, size[1] / 2), (size[0] / 6, size[1] / 4)) > 0
        frames.append(np.where(body[..., None], np.roll(255 - coat, -step, axis=1), behind))
    measured = flow(*frames, quick=True)
    kept = KeptFlows(size)
    kept.append(None)
    kept.append(measured)
    apart = np.linalg.norm(kept[1] - measured, axis=2)
    assert np.ptp(measured) > 3.0 and kept[1].dtype == np.float32
    assert apart.max() < 0.25 and np.quantile(apart, 0.95) < 0.03
    assert kept[0] is None and len(kept) == 2


def test_whole_numbers_keep_their_limits() -> None:
    kept = KeptInSteps(np.int8, STEPS)
    kept.append(np.array([[-LIMIT, 0.0, LIMIT, 0.3, -SURE]], np.float32))
    np.testing.assert_allclose(kept[0], [[-LIMIT, 0.0, LIMIT, 0.3, -128 / STEPS]], atol=0.5 / STEPS)
    kept[0] = None
    assert list(kept) == [None]
