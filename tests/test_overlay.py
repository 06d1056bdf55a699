# SPDX-License-Identifier: GPL-3.0-or-later
"""The overlay's second view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dasr_blender.clip import Clip
from dasr_blender.core import Category, DasrError, Motion, MotionError
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.demo import DemoOptions, demo_motion
from dasr_blender.overlay import PANELS, OverlayPainter, write_overlay

GREY = 52


@pytest.fixture(scope="module")
def walk(toy_category: Category) -> Motion:
    return demo_motion(toy_category, DemoOptions(frames=24, cycle=24, yaw=0.5))


def black_clip(motion: Motion) -> Clip:
    width, height = (int(v) for v in motion.image_size)
    return Clip(
        fps=motion.fps, size=(width, height), original_size=(width, height), frame_index=motion.frame_index,
        source="walk.mp4", source_count=len(motion), sha256="0" * 64,
        pixels=np.zeros((len(motion), height, width, 3), np.uint8),
    )  # fmt: skip


def second_view(category: Category, motion: Motion, i: int) -> np.ndarray:
    frame = OverlayPainter(black_clip(motion), category, motion).frame(i)
    panel = frame.shape[1] // PANELS
    return frame[:, 2 * panel : 3 * panel]


def body(view: np.ndarray) -> np.ndarray:
    """Where the body is drawn: neither ground nor the floor's line."""
    return np.abs(view.astype(int) - view.mean(-1, keepdims=True)).max(-1) > 3


@pytest.mark.parametrize("pitch", [-0.25, 0.25])
def test_the_second_view_is_level_however_the_camera_looks(
    toy_category: Category, walk: Motion, pitch: float
) -> None:
    tilt = np.eye(4)
    tilt[:3, :3] = rotvec_to_matrix(np.array([pitch, 0, 0]))
    tilted = replace(walk, camera_from_root=tilt @ walk.camera_from_root)
    for i in (0, 11):
        level, seen = (body(second_view(toy_category, m, i)) for m in (walk, tilted))
        assert level.any()
        assert (level & seen).sum() / (level | seen).sum() > 0.9


def test_feet_meet_the_floors_line(toy_category: Category, walk: Motion) -> None:
    gaps = []
    for i in range(0, 24, 3):
        view = second_view(toy_category, walk, i)
        line = np.flatnonzero((view[:, :4] != GREY).all((1, 2)))
        assert len(line) == 1
        gaps.append(np.flatnonzero(body(view).any(1)).max() - line[0])
    size = view.shape[0]
    assert abs(np.median(gaps)) < 0.03 * size and np.abs(gaps).max() < 0.06 * size


@pytest.mark.parametrize(("step", "fps"), [(1, 24.0), (3, 24.0), (3, 1.5)])
def test_the_video_is_as_long_as_the_clip(
    toy_category: Category, walk: Motion, tmp_path: Path, step: int, fps: float
) -> None:
    kept = replace(walk, fps=fps).part(slice(0, 9, step))
    write_overlay(tmp_path / "overlay.mp4", black_clip(kept), toy_category, kept)
    video = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    shown = video.get(cv2.CAP_PROP_FRAME_COUNT) / video.get(cv2.CAP_PROP_FPS)
    video.release()
    assert shown == pytest.approx(9 / fps, rel=1e-3)


def test_what_does_not_belong_together_is_refused(toy_category: Category, walk: Motion) -> None:
    with pytest.raises(DasrError, match="24 frames but the clip 23"):
        OverlayPainter(range(23), toy_category, walk)  # pyright: ignore[reportArgumentType]
    with pytest.raises(MotionError, match="the category given is 'other'"):
        OverlayPainter(range(24), replace(toy_category, name="other"), walk)  # pyright: ignore[reportArgumentType]
