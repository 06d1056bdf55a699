# SPDX-License-Identifier: GPL-3.0-or-later
"""The job's stage that finds the camera: whose focal length is taken, what is kept for a second run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from filmed import Film, film
from tiny_predictor import save_tiny_category

from dasr_blender import filming as module
from dasr_blender import job, predict
from dasr_blender.clip import ClipError, Egomotion, Egomotions, egomotion, standing_still
from dasr_blender.clip.egomotion import FEET
from dasr_blender.core import Category, filmed_following, load_category
from dasr_blender.filming import Filming, check_focal, how_filmed
from dasr_blender.job import JobOptions
from dasr_blender.predict import Fitted
from dasr_blender.workspace import Workspace


@pytest.fixture(scope="module")
def pan(toy_category: Category) -> Film:
    return film(toy_category, "pan", frames=8, size=(240, 136))


def filmed(pan: Film, folder: Path, **options: object) -> tuple[Filming, bool]:
    asked = JobOptions(clip="film.mp4", out=str(folder), **options)  # type: ignore[arg-type]
    workspace = Workspace(folder)
    return how_filmed(asked, pan.clip, pan.subject, workspace.stage("camera", "k"), workspace)


def wide(focal: float | None):
    """An egomotion with what a wide pan told; what it was asked for is kept."""

    def find(clip, masks, given: float, calibrate: bool, **_: object) -> Egomotion:
        still = standing_still(len(clip))
        find.asked = (given, calibrate)
        return Egomotion(**{**vars(still), "still": False, "focal": focal if calibrate else None})

    return find


def test_a_focal_length_that_blender_cannot_hold_is_refused(pan: Film) -> None:
    for focal in (None, 7.0, 300.0):  # a lens of 1 mm sees 240 pixels at 6.7
        check_focal(JobOptions(clip="film.mp4", out="x", focal=focal), pan.clip)
    with pytest.raises(ClipError, match=r"--focal 6 is too short .* 240 pixels.*millimetres\? .*by 6\.667$"):
        check_focal(JobOptions(clip="film.mp4", out="x", focal=6.0), pan.clip)
    with pytest.raises(ClipError, match=r"--focal 1e\+12 is too long .* 240 pixels.*, 240000 at most$"):
        check_focal(JobOptions(clip="film.mp4", out="x", focal=1e12), pan.clip)


def test_whose_focal_length(pan: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assumed = 1.2 * 240
    for number, (given, stated, told, expected) in enumerate(
        [
            (300.0, 500.0, 400.0, (300.0, "given")),
            (None, 500.0, 400.0, (500.0, "file")),
            (None, None, 400.0, (400.0, "pan")),
            (None, None, None, (assumed, "assumed")),
        ]
    ):
        find = wide(told)
        monkeypatch.setattr(egomotion, "find_egomotion", find)
        monkeypatch.setattr(module, "stated_focal", lambda source, size, value=stated: value)
        found, reused = filmed(pan, tmp_path / str(number), focal=given)
        assert (found.focal, found.source) == expected and not reused
        assert find.asked == (given or stated or assumed, given is None and stated is None)
        assert f"{expected[0]:.0f} pixels, {module.SOURCES[expected[1]]}" in found.words()


def test_a_second_run_takes_it_over(pan: Film, tmp_path: Path) -> None:
    first, reused = filmed(pan, tmp_path)
    assert not reused and not first.egomotion.still and first.source == "assumed"
    second, reused = filmed(pan, tmp_path)
    assert reused
    (kept_shot,), (shot,) = first.egomotion.shots, second.egomotion.shots
    for name, value in vars(kept_shot).items():
        np.testing.assert_array_equal(getattr(shot, name), value, err_msg=name)
        assert type(getattr(shot, name)) is type(value), name
    kept = tmp_path / ".dasr" / "camera-k.npz"
    for cut in (b"", b"no archive", kept.read_bytes()[:-100]):
        kept.write_bytes(cut)
        third, reused = filmed(pan, tmp_path)
        assert not reused
    np.testing.assert_array_equal(third.egomotion.shots[0].rotation, kept_shot.rotation)


def test_a_camera_that_is_said_to_stand_still(pan: Film, tmp_path: Path) -> None:
    found, _ = filmed(pan, tmp_path, camera="still")
    assert found.egomotion.still and "stands still" in found.words()
    np.testing.assert_array_equal(found.focal_px, np.full(8, 1.2 * 240))


def test_words_and_summary(pan: Film) -> None:
    turn = pan.motion.world_from_camera[:, :3, :3]
    zoom = np.linspace(1, 1.5, 8)
    moved = Egomotion(turn, zoom, False, True, False, np.full(8, 50), np.r_[0, np.full(7, 0.4)])
    found = Filming(Egomotions((moved,)), 300.0, "pan", 0.5)
    assert f"turns by up to {np.degrees(moved.angle):.1f}° and zooms 1.00× to 1.50×" in found.words()
    assert "600 pixels, from the pan" in found.words()
    np.testing.assert_allclose(found.focal_px, 300 * zoom)
    summary = json.loads(json.dumps(found.summary()))
    assert summary["zooms"] and not summary["still"] and summary["zoom"] == [1.0, 1.5]
    assert summary["residual_px"] == 0.8 and summary["degrees"] > 1 and not summary["travels"]
    along = Filming(Egomotions((replace(moved, travels=True),)), 300.0, "pan", 0.5)
    assert "to 1.50× and travels as standing feet tell; focal" in along.words() and along.summary()["travels"]


def test_feet_are_held_before_a_camera_that_goes_along(
    toy_category: Category, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its way is in the motion, and the fit is told that the world stands still."""
    made = film(toy_category, "travel", frames=24, size=(256, 144))
    for kind, pictures in (("frames", made.frames[..., ::-1]), ("masks", made.masks)):
        (tmp_path / kind).mkdir()
        for t, picture in enumerate(pictures):
            cv2.imwrite(str(tmp_path / kind / f"{t:05d}.png"), picture)
    known = []

    def fit(*arguments: object, camera_trust: np.ndarray, **named: object) -> Fitted:
        known.extend(np.unique(camera_trust))
        return predict.fit(*arguments, camera_trust=camera_trust, **{**named, "quality": "draft"})  # pyright: ignore

    monkeypatch.setattr(job, "fit", fit)
    bundle = save_tiny_category(tmp_path)
    options = {"clip": str(tmp_path / "frames"), "masks": str(tmp_path / "masks"), "category": str(bundle)}
    along, still = (
        job.run_job(job.JobOptions(**options, out=str(tmp_path / camera), overlay=False, camera=camera)).motion
        for camera in ("auto", "still")
    )
    way = along.world_from_camera[:, :3, 3]
    assert np.linalg.norm(way - way[0], axis=1).max() > 0 and known == [FEET, 1.0]
    turning = replace(along, world_from_camera=along.world_from_camera.copy())
    turning.world_from_camera[:, :3, 3] = 0
    expected = filmed_following(load_category(bundle), turning).world_from_camera
    np.testing.assert_allclose(along.world_from_camera, expected, atol=1e-6)
    assert not np.any(still.world_from_camera[:, :3, 3])
