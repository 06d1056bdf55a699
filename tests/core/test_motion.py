# SPDX-License-Identifier: GPL-3.0-or-later
"""Motions: what is saved comes back, and whatever is off is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from toy import toy_motion

from dasr_blender.core import Category, Motion, MotionError


def test_round_trip(motion: Motion, tmp_path: Path) -> None:
    motion.mask_iou[3] = np.nan  # no mask in that frame
    path = motion.save(tmp_path / "deep" / "clip.motion")
    assert [p.name for p in path.parent.iterdir()] == ["clip.motion"]
    again = Motion.load(path)
    for f in fields(Motion):
        one, two = getattr(motion, f.name), getattr(again, f.name)
        np.testing.assert_array_equal(one, two, err_msg=f.name)
        assert type(one) is type(two)
    assert len(again) == 8


@pytest.mark.parametrize("frames", [slice(2, 5), np.array([1, 4, 6])])
def test_some_of_the_frames_are_a_motion(motion: Motion, toy_category: Category, frames: slice | np.ndarray) -> None:
    part = motion.part(frames).validate(toy_category)
    assert len(part) == 3
    for name in ("frame_index", "camera_from_root", "joint_confidence", "world_from_camera"):
        np.testing.assert_array_equal(getattr(part, name), getattr(motion, name)[frames], err_msg=name)
    np.testing.assert_array_equal(part.morphology, motion.morphology)
    assert len(motion) == 8


def test_a_still_and_float32_are_motions(toy_category: Category, tmp_path: Path) -> None:
    still = toy_motion(toy_category, frames=1)
    still.joint_rotations = still.joint_rotations.astype(np.float32)
    again = Motion.load(still.save(tmp_path / "still.npz"))
    assert len(again) == 1 and again.joint_rotations.dtype == np.float32


def test_validate_returns_the_motion(motion: Motion, toy_category: Category) -> None:
    assert motion.validate(toy_category) is motion


def test_camera_sees_the_root_in_the_picture(motion: Motion) -> None:
    seen = motion.camera.project(motion.camera_from_root[:, :3, 3])
    assert np.all(seen > 0) and np.all(seen < motion.image_size)


def test_a_file_without_the_cameras_movement_is_of_a_still_one(motion: Motion, tmp_path: Path) -> None:
    motion.world_from_camera[3, :3, 3] = 1, 2, 3
    path = motion.save(tmp_path / "m.npz")
    assert Motion.load(path).camera_moves
    with np.load(path) as stored:
        np.savez(path, **{name: stored[name] for name in stored.files if name != "world_from_camera"})
    again = Motion.load(path)
    assert not again.camera_moves
    np.testing.assert_array_equal(again.world_from_camera, np.tile(np.eye(4), (8, 1, 1)))
    np.testing.assert_array_equal(again.world_from_root, motion.camera_from_root)


def scaled(name: str, factor: float) -> Callable[[Motion], None]:
    return lambda m: setattr(m, name, getattr(m, name) * factor)


def element(name: str, where: tuple, value: float) -> Callable[[Motion], None]:
    return lambda m: getattr(m, name).__setitem__(where, value)


WRONG: list[tuple[str, Callable[[Motion], None]]] = [
    ("fps", scaled("fps", 0)),
    ("fps", scaled("fps", np.nan)),
    ("frame_index", lambda m: setattr(m, "frame_index", m.frame_index[::-1])),
    ("frame_index", scaled("frame_index", 0.5)),
    ("frame_index", element("frame_index", (0,), -3)),
    ("image_size", scaled("image_size", 0)),
    ("focal_px", scaled("focal_px", -1)),
    ("focal_px", lambda m: setattr(m, "focal_px", m.focal_px[:-1])),
    ("principal_point", element("principal_point", (0,), np.inf)),
    ("camera_from_root", scaled("camera_from_root", 1.1)),
    ("camera_from_root", element("camera_from_root", (2, 3, 0), 1)),
    ("camera_from_root", lambda m: m.camera_from_root.__imul__(np.array([-1.0, 1, 1, 1])[:, None])),
    ("world_from_camera", scaled("world_from_camera", 1.1)),
    ("world_from_camera", element("world_from_camera", (2, 3, 0), 1)),
    ("world_from_camera", lambda m: setattr(m, "world_from_camera", m.world_from_camera[:-1])),
    ("joint_rotations", scaled("joint_rotations", 0.9)),
    ("joint_rotations", element("joint_rotations", (1, 0), np.array([0, 1.0, 0, 0]))),
    ("joint_rotations", lambda m: setattr(m, "joint_rotations", m.joint_rotations[0])),
    ("morphology", element("morphology", (0,), np.nan)),
    ("morphology", lambda m: setattr(m, "morphology", np.array(["long"]))),
    ("confidence", scaled("confidence", 2)),
    ("joint_confidence", lambda m: setattr(m, "joint_confidence", m.joint_confidence[:, :-1])),
    ("mask_iou", scaled("mask_iou", -1)),
    ("category", lambda m: setattr(m, "category", 3)),
]


@pytest.mark.parametrize(("field", "change"), WRONG)
def test_a_wrong_field_is_named_and_not_saved(
    motion: Motion, field: str, change: Callable, tmp_path: Path
) -> None:
    change(motion)
    with pytest.raises(MotionError, match=f"field '{field}'"):
        motion.save(tmp_path / "m.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("field", "change"), WRONG)
def test_a_wrong_field_in_a_file_is_named(
    motion: Motion, field: str, change: Callable, tmp_path: Path
) -> None:
    change(motion)
    path = tmp_path / "m.npz"
    np.savez(path, **{f.name: np.asarray(getattr(motion, f.name)) for f in fields(Motion)})
    with pytest.raises(MotionError, match=f"m.npz: field '{field}'"):
        Motion.load(path)


def test_no_frames(motion: Motion) -> None:
    empty = replace(motion, **{n: getattr(motion, n)[:0] for n in
                               ("frame_index", "focal_px", "camera_from_root", "joint_rotations", "confidence",
                                "joint_confidence", "mask_iou", "world_from_camera")})  # fmt: skip
    with pytest.raises(MotionError, match="at least one frame"):
        empty.validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "horse"}, "'horse'"),
        ({"morphology": np.zeros(3)}, "field 'morphology' has 3 entries"),
        ({"appearance": np.zeros(1)}, "field 'appearance' has 1 entries"),
    ],
)
def test_a_motion_of_another_category(
    motion: Motion, toy_category: Category, change: dict, message: str
) -> None:
    with pytest.raises(MotionError, match=message):
        replace(motion, **change).validate(toy_category)


def test_damaged_files(motion: Motion, tmp_path: Path) -> None:
    path = motion.save(tmp_path / "m.npz")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (b"", b"not a motion", whole[:100], whole[: len(whole) // 2], whole[:-30], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(MotionError, match=r"m\.npz"):
            Motion.load(path)
    with pytest.raises(MotionError, match="missing"):
        Motion.load(tmp_path / "none.npz")
    with pytest.raises(MotionError, match="readable"):
        Motion.load(tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(MotionError, match="readable"):
        Motion.load(tmp_path / "one.npy")


def test_a_missing_field_and_a_pickle_are_refused(motion: Motion, tmp_path: Path) -> None:
    values = {f.name: np.asarray(getattr(motion, f.name)) for f in fields(Motion)}
    path = tmp_path / "m.npz"
    np.savez(path, **{k: v for k, v in values.items() if k != "fps"})
    with pytest.raises(MotionError, match="field 'fps' is missing"):
        Motion.load(path)
    np.savez(path, **values | {"morphology": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(MotionError, match="not a readable motion"):
        Motion.load(path)


def test_a_failed_write_leaves_the_old_file(
    motion: Motion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = motion.save(tmp_path / "m.npz")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(MotionError, match=r"No space left.*m\.npz"):
        motion.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_mean_agreement_leaves_out_frames_without_a_mask(motion: Motion) -> None:
    motion.mask_iou[:] = np.nan
    assert motion.mean_mask_iou is None
    motion.mask_iou[2:4] = 0.25, 0.75
    assert motion.mean_mask_iou == 0.5
