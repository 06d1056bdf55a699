# SPDX-License-Identifier: GPL-3.0-or-later
"""Two bodies that cross: the masks stay with the one that was meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rendered import ellipse_mask, ground, write_images
from test_automatic import overlaps, redness

from dasr_blender.clip import Clip, Subject, automatic_masks, load_clip

WIDTH, HEIGHT, COUNT = 320, 160, 30


def crossing(folder: Path, colours, front: int, slow: int = 1) -> tuple[Clip, list, list]:
    """Two bodies walking through each other's way, one before the other; what is seen of each. slow: how
    many times 24 frames a second."""
    step = 7.0 / slow
    background = ground(WIDTH, HEIGHT)
    shades = [0.75 + 0.25 * np.random.default_rng(seed).random((HEIGHT, WIDTH)) for seed in (3, 4)]
    frames, seen = [], ([], [])
    for i in range(slow * COUNT):
        places = [(50 + step * i, 84), (270 - step * i, 76)]
        bodies = [ellipse_mask(WIDTH, HEIGHT, place, (34, 18)) > 0 for place in places]
        frame = background.astype(float)
        for k in (1 - front, front):
            moved = np.roll(shades[k], round((step if k == 0 else -step) * i), axis=1)[..., None]
            frame = np.where(bodies[k][..., None], moved * np.array(colours[k]), frame)
        frames.append(frame.astype(np.uint8))
        seen[front].append(bodies[front])
        seen[1 - front].append(bodies[1 - front] & ~bodies[front])
    return load_clip(write_images(folder, frames), fps=24.0 * slow), *seen


RED, BLUE = (230, 50, 40), (40, 60, 230)


@pytest.mark.parametrize("front", [0, 1])
@pytest.mark.parametrize("colours", [(RED, BLUE), (RED, (225, 60, 45))], ids=["unlike", "alike"])
def test_no_swap(tmp_path: Path, colours, front: int) -> None:
    """With colours alike only the way they moved tells them apart after the network saw them as one."""
    clip, mine, theirs = crossing(tmp_path, colours, front)
    masks = automatic_masks(clip, Subject(0, point=(50, 84)), network=redness)
    own, other = overlaps(masks, mine), overlaps(masks, theirs)
    assert own[:9].min() > 0.85 and own[-7:].min() > 0.85
    assert other[-7:].max() < 0.1


def test_no_swap_in_slow_motion(tmp_path: Path) -> None:
    """Two are one for as long as ever, which is for many more frames."""
    slow = 8
    clip, mine, theirs = crossing(tmp_path, (RED, (225, 60, 45)), 0, slow)
    masks = automatic_masks(clip, Subject(0, point=(50, 84)), network=redness)
    own, other = overlaps(masks, mine), overlaps(masks, theirs)
    assert own[: 9 * slow].min() > 0.85 and own[-7 * slow :].min() > 0.85
    assert other[-7 * slow :].max() < 0.1


def test_the_one_that_is_not_meant_may_stop(tmp_path: Path) -> None:
    """A meeting with something that stands still, such as a post of the subject's colour."""
    background = ground(WIDTH, HEIGHT)
    frames, mine = [], []
    for i in range(COUNT):
        body = ellipse_mask(WIDTH, HEIGHT, (50 + 7 * i, 80), (34, 18)) > 0
        frame = background.copy()
        frame[40:130, 150:175] = RED
        frame[body] = (230, 70, 60)
        frames.append(frame)
        mine.append(body)
    clip = load_clip(write_images(tmp_path, frames))
    masks = automatic_masks(clip, Subject(0, point=(50, 80)), network=redness)
    own = overlaps(masks, mine)
    assert own[:9].min() > 0.85 and own[-5:].min() > 0.85
