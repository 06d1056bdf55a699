# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from rendered import write_images

from dasr_blender.clip import find_cuts, load_clip

SIZE = (96, 64)


def scene(seed: int) -> np.ndarray:
    """A wide coloured picture (64, 600, 3) to look along."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 50, 3), np.uint8)
    return cv2.resize(coarse, (600, SIZE[1]), interpolation=cv2.INTER_CUBIC)


def pan(seed: int, count: int, speed: int) -> list[np.ndarray]:
    wide = scene(seed)
    return [wide[:, speed * i : speed * i + SIZE[0]] for i in range(count)]


def cuts(
    folder: Path, frames: list[np.ndarray], start: int = 0, end: int | None = None, step: int = 1, fps: float = 24.0
) -> list[int]:
    return find_cuts(load_clip(write_images(folder, frames), start, end, step, fps=fps)).tolist()


def test_every_shots_first_frame_is_found(tmp_path: Path) -> None:
    frames = pan(0, 12, 1) + pan(1, 16, 0) + pan(2, 12, 2)
    assert cuts(tmp_path, frames) == [12, 28]
    assert cuts(tmp_path, frames, step=2) == [6, 14]  # positions among the frames that are read
    assert cuts(tmp_path, frames, start=12, end=28) == []
    assert cuts(tmp_path, frames, start=11, end=29) == [1, 17]  # a frame of the shot before, and one of that after


@pytest.mark.parametrize("speed", [1, 6, 20])
def test_a_pan_is_no_cut(tmp_path: Path, speed: int) -> None:
    assert cuts(tmp_path, pan(3, 24, speed)) == []


def test_a_flash_and_repeated_frames_are_no_cuts(tmp_path: Path) -> None:
    flash = pan(4, 12, 1)
    flash[6] = np.full_like(flash[6], 255)
    assert cuts(tmp_path / "flash", flash) == []
    slow = [frame for frame in pan(5, 6, 4) for _ in range(4)]
    assert cuts(tmp_path / "slow", slow) == []


def test_a_flash_is_none_at_a_higher_rate(tmp_path: Path) -> None:
    """An eighth of a second: three frames of 24, eight of 60."""
    for fps, long in ((24, 3), (60, 8)):
        flash = pan(4, 20 + fps, 1)
        flash[20 : 20 + long] = [np.full_like(flash[0], 255)] * long
        assert cuts(tmp_path / str(fps), flash, fps=fps) == []
    frames = pan(0, 30, 1) + pan(1, 40, 0) + pan(2, 30, 2)
    assert cuts(tmp_path / "cut", frames, fps=60) == [30, 70]


def test_few_frames_tell_nothing(tmp_path: Path) -> None:
    assert cuts(tmp_path, pan(6, 1, 0) + pan(7, 2, 0)) == []
