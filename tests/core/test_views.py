# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand-set views beside a clip: kept by frame, checked when read, and where they lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dasr_blender.core import (
    Category,
    Motion,
    View,
    ViewError,
    read_views,
    remove_view,
    views_path,
    write_view,
)
from dasr_blender.core.views import set_frames


def view_at(motion: Motion, i: int, frame: int | None = None) -> View:
    """A frame of a motion as if it had been set by hand."""
    return View(
        int(motion.frame_index[i]) if frame is None else frame,
        float(motion.focal_px[i]),
        motion.image_size,
        motion.principal_point,
        motion.camera_from_root[i],
        motion.joint_rotations[i],
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "dog.mp4").touch()
    return tmp_path / "dog.mp4"


def test_views_are_kept_by_frame(toy_category: Category, motion: Motion, clip: Path) -> None:
    assert read_views(clip, toy_category) == [] and set_frames(clip) == []
    for i in (5, 1):
        assert write_view(clip, toy_category, view_at(motion, i)) == clip.with_name("dog.views.json")
    found = read_views(clip, toy_category)
    assert [v.frame for v in found] == set_frames(clip) == [1, 5]
    for view in found:
        for name in ("camera_from_root", "joint_rotations", "image_size", "principal_point", "focal_px"):
            want = getattr(view_at(motion, view.frame), name)
            np.testing.assert_allclose(getattr(view, name), want, atol=1e-12, err_msg=name)
    write_view(clip, toy_category, view_at(motion, 3, frame=5))  # in place of the one that was
    again = read_views(clip.with_name("dog.views.json"), toy_category)
    assert [v.frame for v in again] == [1, 5]
    np.testing.assert_allclose(again[1].camera_from_root, motion.camera_from_root[3])
    remove_view(clip, 1)
    assert set_frames(clip) == [5]
    remove_view(clip, 5)
    assert [p.name for p in clip.parent.iterdir()] == ["dog.mp4"]


def test_each_clip_has_a_place_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "dog" / "frames").mkdir(parents=True)
    (tmp_path / "dog" / "frames" / "00000.jpg").touch()
    (tmp_path / "shots").mkdir()
    dog = tmp_path / "dog" / "views.json"
    for clip in ("dog", "dog/frames", "dog/frames/00000.jpg", "dog/frames/%05d.jpg"):
        assert views_path(tmp_path / clip) == dog, clip
    assert views_path(tmp_path / "shots") == views_path(tmp_path / "shots" / "a.####.png")
    assert views_path(tmp_path / "a.mp4") != views_path(tmp_path / "b.mp4")


def test_a_principal_point_is_the_middle_unless_it_is_said(
    toy_category: Category, motion: Motion, clip: Path
) -> None:
    path = write_view(clip, toy_category, replace(view_at(motion, 0), principal_point=np.array([7.0, 9.0])))
    assert read_views(clip, toy_category)[0].principal_point.tolist() == [7, 9]
    data = json.loads(path.read_text())
    del data["views"][0]["principal_point"]
    path.write_text(json.dumps(data))
    assert read_views(clip, toy_category)[0].principal_point.tolist() == (motion.image_size / 2).tolist()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("frame", -1, "whole number"),
        ("frame", 1.5, "whole number"),
        ("frame", "three", "no number"),
        ("focal_px", 0, "positive"),
        ("focal_px", float("nan"), "finite"),
        ("image_size", [0, 10], "width and a height"),
        ("image_size", [10], "shape"),
        ("camera_from_root", (2 * np.eye(4)).tolist(), "rotation and a translation"),
        ("camera_from_root", np.eye(4).tolist(), "behind the camera"),
        ("joint_rotations", [[1, 0, 0, 0]], "shape"),
        ("joint_rotations", [[2, 0, 0, 0]] * 30, "length 1"),
        ("joint_rotations", [[0, 1, 0, 0]] * 30, "turns the root"),
        ("joint_rotations", None, "shape"),
    ],
)
def test_a_damaged_view_is_named_in_a_sentence(
    toy_category: Category, motion: Motion, clip: Path, field: str, value: object, words: str
) -> None:
    path = write_view(clip, toy_category, view_at(motion, 0))
    data = json.loads(path.read_text())
    data["views"][0][field] = value
    path.write_text(json.dumps(data))
    with pytest.raises(ViewError, match=words) as error:
        read_views(clip, toy_category)
    assert str(path) in str(error.value) and f"'{field}'" in str(error.value)


def test_what_does_not_belong_together_is_refused(
    toy_category: Category, motion: Motion, clip: Path, tmp_path: Path
) -> None:
    path = write_view(clip, toy_category, view_at(motion, 0))
    with pytest.raises(ViewError, match="'toy', not 'other'"):
        read_views(clip, replace(toy_category, name="other"))
    with pytest.raises(ViewError, match="behind the camera"):
        write_view(clip, toy_category, replace(view_at(motion, 1), camera_from_root=np.eye(4)))
    assert set_frames(clip) == [0]
    path.write_text(path.read_text().replace('"dog"', '"cat"'))
    with pytest.raises(ViewError, match="'cat', not of 'dog'"):
        write_view(clip, toy_category, view_at(motion, 1))
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "views": data["views"] * 2}))
    with pytest.raises(ViewError, match="frame 0 is set twice"):
        read_views(clip, toy_category)
    for text in ("{", "[]", '{"category": "toy"}', '{"category": "toy", "views": [3]}'):
        path.write_text(text)
        with pytest.raises(ViewError, match=r"views\.json"):
            read_views(clip, toy_category)
        assert set_frames(clip) == []
    with pytest.raises(ViewError, match="no view"):
        remove_view(clip, 0)
