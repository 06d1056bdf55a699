# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dasr_blender.core import find_contacts, project
from dasr_blender.core.rotation import mirror_quat, quat_to_matrix
from dasr_blender.scene import ScenePlanError, plan_scene
from dasr_blender.scene.action import pose_basis
from dasr_blender.scene.camera import SENSOR_MM, find_background, intrinsics
from dasr_blender.scene.plan import stances


def bones_of(plan):
    return {bone.joint: bone for bone in plan.armature.bones}


def test_bones_follow_the_body(toy_category, motion):
    plan = plan_scene(toy_category, motion, clip_path=None)
    bones = bones_of(plan)
    _, joints = toy_category.body.shaped(motion.morphology)
    lift = plan.armature.bones[0].head
    for bone, joint in zip(plan.armature.bones, joints, strict=True):
        np.testing.assert_allclose(bone.head - lift, joint, atol=1e-9)
        assert np.linalg.norm(bone.tail - bone.head) > 0.02
        np.testing.assert_allclose(bone.rotation.T @ bone.rotation, np.eye(3), atol=1e-9)
        direction = (bone.tail - bone.head) / np.linalg.norm(bone.tail - bone.head)
        np.testing.assert_allclose(bone.rotation[:, 1], direction, atol=1e-9)
    for parent, child in (
        ("hind_lower.L", "hind_foot.L"),
        ("chest", "neck_1"),
        ("pelvis", "tail_1"),
        ("root", "spine"),
    ):
        np.testing.assert_allclose(bones[parent].tail, bones[child].head)
        assert bones[child].connected
    assert not bones["front_upper.L"].connected and not bones["ear.R"].connected
    # a head points along the muzzle and not to an ear; a toe forward; a tail's end backward
    assert bones["head"].rotation[1, 1] < -0.8
    assert bones["front_toe.L"].rotation[1, 1] < -0.8
    assert bones["tail_4"].rotation[1, 1] > 0.8


def test_main_child_of_a_branch(toy_category):
    skeleton = toy_category.skeleton
    assert skeleton.main_child(skeleton.index("head")) is None
    assert skeleton.main_child(skeleton.index("tail_4")) is None
    assert skeleton.main_child(skeleton.index("chest")) == skeleton.index("neck_1")


def test_legs_bend_about_the_bone_x_axis_and_sides_mirror(toy_category, motion):
    plan = plan_scene(toy_category, motion, clip_path=None)
    for bone in plan.armature.bones:
        if bone.collection == "Legs":
            assert bone.rotation[0, 0] > 0.99
    axes = np.stack([bone.rotation for bone in plan.armature.bones])
    mirror = toy_category.skeleton.mirror
    flip = np.diag([-1.0, 1, 1])
    # Blender's X-mirror: the other bone's axes are the mirrored ones with the bone's own X turned back
    np.testing.assert_allclose(axes[mirror], flip @ axes @ flip, atol=1e-6)
    # so a mirrored pose has mirrored channels: (w, x, −y, −z)
    _, pose = pose_basis(np.tile(np.eye(4), (8, 1, 1)), motion.joint_rotations, axes, np.zeros(3))
    twin = mirror_quat(motion.joint_rotations)[:, mirror]
    _, other = pose_basis(np.tile(np.eye(4), (8, 1, 1)), twin, axes, np.zeros(3))
    np.testing.assert_allclose(quat_to_matrix(other[:, mirror]), quat_to_matrix(mirror_quat(pose)), atol=1e-6)


def test_rotations_are_continuous(toy_category, wild):
    rotations = plan_scene(toy_category, wild, clip_path=None).action.bone_rotations
    assert (np.sum(rotations[1:] * rotations[:-1], axis=-1) > 0).all()


def test_frames_keep_the_clips_pace(toy_category, motion):
    motion = replace(motion, frame_index=10 + 3 * np.arange(8))
    plan = plan_scene(toy_category, motion, clip_path=None, start_frame=101)
    np.testing.assert_array_equal(plan.frames, 101 + 3 * np.arange(8))
    assert plan.action.interpolation == "BEZIER"
    assert plan.settings.frame_range == (101, 122)


def test_a_stance_ends_at_a_cut(toy_category, motion):
    motion = replace(motion, fps=10.0, frame_index=np.arange(len(motion)), cuts=np.array([3]))
    found = find_contacts(toy_category, motion)
    told = stances(replace(found, standing=np.ones_like(found.standing)), motion)
    end = round((len(motion) - 1) / 10, 4)
    assert all(each == [[0.0, 0.2], [0.3, end]] for each in told.values()) and told


def test_shape_key_range_reaches_the_clip(toy_category, motion):
    motion.morphology[0], motion.morphology[1] = 1.5, -0.9
    keys = plan_scene(toy_category, motion, clip_path=None).mesh.shape_keys
    assert [key.name for key in keys] == list(toy_category.morphology_names)
    assert (keys[0].minimum, keys[0].maximum) == (-0.5, 1.5)
    assert (keys[1].minimum, keys[1].maximum) == (-0.9, 0.8)


@pytest.mark.parametrize("size", [(640, 360), (360, 640)])
def test_intrinsics_are_the_pinhole(size):
    pp = np.array([size[0] * 0.55, size[1] * 0.45])
    lens, sensor, fit, shift = intrinsics(np.array([500.0]), pp, np.array(size))
    longer = max(size)
    assert fit == ("HORIZONTAL" if size[0] > size[1] else "VERTICAL")
    assert max(sensor) == pytest.approx(SENSOR_MM)
    # a ray (x, y, 1) meets the sensor at lens·x mm, measured from the shifted frame's centre
    ray = np.array([0.2, -0.1, 1.0])
    x = size[0] / 2 + (lens[0] * ray[0] / SENSOR_MM - shift[0]) * longer
    y = size[1] / 2 + (lens[0] * ray[1] / SENSOR_MM + shift[1]) * longer
    np.testing.assert_allclose([x, y], project(ray, 500.0, pp))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"placement": "moon"}, "placement 'moon'"),
        ({"names": "klingon"}, "bone names 'klingon'"),
    ],
)
def test_bad_arguments(toy_category, motion, change, words):
    with pytest.raises(ScenePlanError, match=words):
        plan_scene(toy_category, motion, clip_path=None, **change)


def test_motion_of_another_category(toy_category, motion):
    with pytest.raises(ScenePlanError, match="does not fit"):
        plan_scene(toy_category, replace(motion, morphology=np.zeros(3)), clip_path=None)


def test_names_come_from_the_clip(toy_category, motion, tmp_path):
    folder = tmp_path / "my dog" / "frames"
    folder.mkdir(parents=True)
    for path, name in (
        ("walk/goat.01.mp4", "goat.01"),
        ("shots/run_####.png", "run"),
        (folder, "my dog"),
        ("x" * 99 + ".mp4", "x" * 40),
    ):
        assert plan_scene(toy_category, motion, clip_path=path).name == name
    plan = plan_scene(toy_category, motion, clip_path=None, names="rigify", name="take 2")
    assert plan.armature.name == "take 2 rig"
    assert plan.mesh.groups[0] == toy_category.profiles["rigify"]["root"]


def test_background_of_sequences(tmp_path: Path):
    for i in (8, 9, 10, 11):
        (tmp_path / f"shot{i}.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    for clip in (tmp_path, tmp_path / "shot#.png", tmp_path / "shot%d.png"):
        found, warning = find_background("c", clip, 5, np.array([2, 3]))
        assert found is not None and not warning
        assert (found.path.name, found.sequence, found.start_frame, found.first) == ("shot8.png", True, 5, 2)
    (tmp_path / "shot9.png").unlink()
    found, warning = find_background("c", tmp_path, 1, np.array([0]))
    assert found is None and "numbered" in warning
    found, warning = find_background("c", tmp_path / "gone.mp4", 1, np.array([0]))
    assert found is None and "gone.mp4" in warning


def test_images_of_two_kinds_are_no_background(tmp_path: Path):
    """Blender goes on from the first one's name, and would show that frame alone."""
    for name in ("dog_8.jpg", "dog_9.png", "dog_10.jpg", "dog_11.png"):
        (tmp_path / name).write_bytes(b"x")
    found, warning = find_background("c", tmp_path, 1, np.array([0]))
    assert found is None and "numbered one by one under one name and ending" in warning


def test_the_background_of_a_pattern_is_what_was_read(tmp_path: Path):
    for i in (8, 9, 10, 11):
        (tmp_path / f"dog[a].{i:02d}.png").write_bytes(b"x")
    for other in ("dog[a].poster.png", "dog[a].7.png", "doga.03.png"):
        (tmp_path / other).write_bytes(b"x")
    found, warning = find_background("c", tmp_path / "dog[a].##.png", 1, np.array([0]))
    assert found is not None and not warning and found.path.name == "dog[a].08.png"
