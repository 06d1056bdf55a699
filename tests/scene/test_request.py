# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel asks the worker for, and the camera that Blender itself adds to its answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import bpy
import cv2
import numpy as np
import pytest
from filmed import Film, film
from helpers import camera_from_world

from dasr_blender.core import Motion
from dasr_blender.core.rotation import geodesic
from dasr_blender.scene.request import JobRequest, finish_job

FRAMES = 14


@pytest.fixture(scope="module")
def pan(toy_category) -> Film:
    return film(toy_category, "pan", frames=FRAMES, size=(400, 224), seed=5)


@pytest.fixture
def movie(pan, tmp_path) -> Path:
    path = tmp_path / "pan.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 24, (400, 224))
    for frame in pan.frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


def asked(movie: Path, **changes) -> JobRequest:
    values = {
        "filepath": str(movie),
        "directory": str(movie.parent / "out"),
        "category": "toy",
        "placement": "camera",
        "names": "neutral",
        "formats": set(),
        "masks": "",
        "use_range": False,
        "frame_step": 1,
        "use_subject": False,
        "focal_px": 0.0,
        "camera": "auto",
        "overlay": False,
        "set_scene_range": False,
    } | changes
    settings = _Settings(**values)
    return JobRequest.from_settings(
        settings, clip=None, start_frame=1, category_folders=(), fallback_directory=movie.parent
    )


class _Settings(SimpleNamespace):
    """The panel's settings; what a test does not say is at its first choice."""

    def __getattr__(self, name: str) -> str:
        return {"quality": "standard"}.get(name, "")


def option(request: JobRequest, name: str) -> str | None:
    line = request.arguments()
    return line[line.index(name) + 1] if name in line else None


def test_what_the_worker_is_asked(movie):
    assert option(asked(movie), "--camera") is None and option(asked(movie), "--focal") is None
    assert option(asked(movie, camera="still"), "--camera") == "still"
    # a worker has no Blender to solve in: the solve comes after it
    assert option(asked(movie, camera="solve", focal_px=300.0), "--camera") is None
    assert option(asked(movie, camera="solve", focal_px=300.0), "--focal") == "300.0"


def finished(request: JobRequest, pan: Film, toy_category, **result):
    """The job's last step, after a worker that took the camera to stand still."""
    folder = request.directory
    blind = Motion(**{**vars(pan.motion), "world_from_camera": None})
    blind.save(folder / "motion.npz")
    summary = finish_job(
        JobRequest(**{**vars(request), "category": str(toy_category.path)}),
        {"motion": str(folder / "motion.npz"), **result},
        bpy.context.scene,
        lambda i: cv2.dilate(pan.masks[i], np.ones((9, 9))) < 128,
    )
    return summary, Motion.load(folder / "motion.npz")


def turned(motion: Motion, pan: Film) -> float:
    truth = pan.motion.world_from_camera[:, :3, :3]
    return float(np.degrees(geodesic(motion.world_from_camera[:, :3, :3], truth).max()))


def test_a_solve_is_made_and_taken_up_again(pan, movie, toy_category):
    worker = {"camera": "the camera turns", "warnings": ["a", "b"], "camera_warnings": ["b"]}
    as_is, still = finished(asked(movie), pan, toy_category, **worker)
    assert not still.camera_moves and as_is.text.endswith("the camera turns") and as_is.warnings == ("a", "b")
    solved, motion = finished(asked(movie, camera="solve"), pan, toy_category, **worker)
    assert turned(motion, pan) < 0.4 and "solved by Blender's tracker" in solved.text
    assert solved.warnings == ("a",)  # what was doubtful about the camera no longer is
    camera = [o for o in bpy.context.scene.objects if o.type == "CAMERA"][-1]
    poses = []
    for frame in (1, FRAMES):
        bpy.context.scene.frame_set(frame)
        poses.append(camera_from_world(camera))
    np.testing.assert_allclose(poses[0] @ np.linalg.inv(poses[1]), motion.world_from_camera[-1], atol=1e-4)
    # now the movie clip has a solve: it is found, its lens is asked for, and it is used
    again = asked(movie)
    assert again.solved_clip and float(option(again, "--focal") or 0) == pytest.approx(
        pan.motion.focal_px[0], rel=1e-4
    )
    used, motion = finished(again, pan, toy_category)
    assert turned(motion, pan) < 0.4 and "solved by Blender's tracker" in used.text
    assert not asked(movie, camera="still").solved_clip


def test_a_solve_that_fails_leaves_the_workers_camera(pan, movie, toy_category):
    request = asked(movie, camera="solve")
    movie.write_bytes(b"no movie")
    summary, motion = finished(request, pan, toy_category, camera="the camera turns")
    assert not motion.camera_moves and "the camera turns" in summary.text
    assert any("pan.avi" in warning for warning in summary.warnings)
    gone, _ = finished(JobRequest(**{**vars(request), "solved_clip": "old"}), pan, toy_category)
    assert any("old" in warning for warning in gone.warnings)
