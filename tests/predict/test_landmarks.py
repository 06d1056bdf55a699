# SPDX-License-Identifier: GPL-3.0-or-later
"""Joints that another network finds: the view they tell, and limbs on the side they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_predictor import FOUND, write_tiny_landmarks
from toy_clips import random_motion
from tracked import Case, angles, case, crops_of

from dasr_blender.core import Category, forward_kinematics
from dasr_blender.core.camera import ray_rotation
from dasr_blender.core.rotation import geodesic, rotvec_to_quat
from dasr_blender.core.skeleton import mirror_rotations
from dasr_blender.predict import Landmarks, PredictError, Prediction

FRONT = ("front_upper.L", "front_upper.R")


@pytest.fixture
def knowing(toy_category: Category, tmp_path: Path) -> Category:
    """The toy with a landmark network."""
    write_tiny_landmarks(tmp_path / "landmarks.onnx")
    return replace(toy_category, landmarks_path=tmp_path / "landmarks.onnx")


def true_places(category: Category, given: Case) -> np.ndarray:
    """Where the landmarks of a clip are in the crops' axes, metres, from the joint in the middle."""
    motion, skeleton = given.motion, category.skeleton
    _, joints = category.body.shaped(motion.morphology)
    posed = forward_kinematics(skeleton, joints, motion.joint_rotations)[..., :3, 3]
    ray = ray_rotation(given.center, motion.focal_px, motion.principal_point)
    places = posed @ np.swapaxes(motion.camera_from_root[:, :3, :3], 1, 2) @ ray
    known = [skeleton.index(name) for name in FOUND]
    found = np.full(places.shape, np.nan)
    found[:, known] = 0.7 * places[:, known]
    return found


def told(category: Category, given: Case, prediction: Prediction, sure: float = 1.0, cuts=()) -> Prediction:
    """The prediction after landmarks that are the truth's."""
    finder = Landmarks(category)
    answer = true_places(category, given), np.full(len(prediction), sure)
    finder.places = lambda crops, progress: answer  # type: ignore[method-assign]
    return finder.run(prediction, crops_of(given), cuts)


def with_sides_exchanged(
    category: Category, prediction: Prediction, names: tuple[str, ...], frames: slice
) -> Prediction:
    """The prediction with limbs exchanged, those that hang on joints of these names, in some frames."""
    skeleton = category.skeleton
    below = [j for j in range(len(skeleton)) if {skeleton.names[k] for k in skeleton.chain(j)} & set(names)]
    joints = np.array(prediction.joint_rotations)
    joints[frames, below] = mirror_rotations(skeleton, joints)[frames, below]
    return replace(prediction, joint_rotations=joints)


def striding(category: Category) -> Case:
    """24 frames with the left front leg ahead and the right one behind."""
    motion = random_motion(category, 24, seed=4)
    joints = np.array(motion.joint_rotations)
    for name, angle in zip(FRONT, (0.8, -0.8), strict=True):
        joints[:, category.skeleton.index(name)] = rotvec_to_quat(np.array([angle, 0, 0]))
    return case(category, motion=replace(motion, joint_rotations=joints))


def test_they_tell_how_the_root_is_turned(knowing: Category) -> None:
    given = case(knowing)
    found = told(knowing, given, given.prediction, sure=0.7)
    assert found.told_rotation is not None and found.told_sure is not None
    assert np.rad2deg(geodesic(found.told_rotation, given.prediction.root_rotation[:, 0])).max() < 1e-3
    assert found.told_sure == pytest.approx(0.7)
    assert found.part(slice(2, 5)).told_rotation.shape == (3, 3, 3)


def test_a_clip_that_is_taken_for_its_back_is_turned_round(knowing: Category) -> None:
    motion = random_motion(knowing, 16, seed=5)
    pose, rest = np.array(motion.camera_from_root), np.zeros_like(motion.joint_rotations)
    pose[:, :3], rest[..., 0] = (
        [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 20]],
        1,
    )  # at rest, seen from far ahead
    motion = replace(motion, camera_from_root=pose, joint_rotations=rest, focal_px=8.0 * motion.focal_px)
    wrong = case(knowing, motion=motion, wrong=tuple(range(16)))
    assert angles(wrong.run(knowing), wrong.motion).min() > 150
    for sure, turned in ((1.0, True), (0.02, False)):
        found = wrong.run(knowing, prediction=told(knowing, wrong, wrong.prediction, sure))
        assert (angles(found, wrong.motion).max() < 10) == turned


def test_limbs_go_to_the_side_they_say(knowing: Category) -> None:
    given = striding(knowing)
    true = given.prediction
    assert told(knowing, given, true).joint_rotations is true.joint_rotations  # what is right stays as it is
    wrong = with_sides_exchanged(knowing, true, FRONT, slice(8, 20))
    assert np.abs(wrong.joint_rotations - true.joint_rotations).max() > 0.2
    found = told(knowing, given, wrong)
    np.testing.assert_allclose(found.joint_rotations, true.joint_rotations, atol=1e-9)
    unsure = told(knowing, given, wrong, sure=0.05)
    np.testing.assert_array_equal(unsure.joint_rotations, wrong.joint_rotations)


def test_a_single_frame_is_no_reason_to_exchange_limbs_but_a_shot_of_it_is(knowing: Category) -> None:
    given = striding(knowing)
    wrong = with_sides_exchanged(knowing, given.prediction, FRONT, slice(12, 14))
    found = told(knowing, given, wrong)
    np.testing.assert_array_equal(found.joint_rotations, wrong.joint_rotations)
    shot = told(knowing, given, wrong, cuts=[12, 14])
    np.testing.assert_allclose(shot.joint_rotations, given.prediction.joint_rotations, atol=1e-9)


@pytest.mark.parametrize("quarter", range(4))
def test_it_looks_again_with_the_picture_turned(knowing: Category, quarter: int) -> None:
    """The tiny network is sure where the picture's upper end is bright, and then places all joints upwards."""
    crop = np.zeros((4, 128, 128), np.uint8)
    crop[:3, :40] = 200
    turned = np.ascontiguousarray(np.rot90(crop, quarter, axes=(1, 2)))
    dark = np.zeros_like(crop)
    shares: list[float] = []
    seen = np.stack([turned, dark, turned])
    places, sure = Landmarks(knowing).places(seen, lambda share, text: shares.append(share))
    assert shares == sorted(shares) and shares[-1] <= 1
    up = [(0, -1, 0.5), (-1, 0, 0.5), (0, 1, 0.5), (1, 0, 0.5)][quarter]
    known = [knowing.skeleton.index(name) for name in FOUND]
    np.testing.assert_allclose(places[[0, 2]][:, known], np.broadcast_to(up, (2, len(known), 3)), atol=1e-6)
    assert np.isnan(np.delete(places, known, 1)).all()
    assert sure[0] == sure[2] > 0.9 and sure[1] < 0.2


def test_what_does_not_fit_is_one_sentence(knowing: Category, tmp_path: Path) -> None:
    given = case(knowing)
    with pytest.raises(PredictError, match=r"has no landmarks\.onnx"):
        Landmarks(replace(knowing, landmarks_path=None))
    with pytest.raises(PredictError, match="16 predicted frames but 15 crops"):
        Landmarks(knowing).run(given.prediction, crops_of(given)[1:])
    for names, message in (
        ("nobody front_upper.L", "not a landmark network of this version, or not of this category"),
        (" ".join(FOUND[:2]), "told from 3 joints, but it finds 2"),
    ):
        write_tiny_landmarks(tmp_path / "other.onnx", names.split())
        with pytest.raises(PredictError, match=message):
            Landmarks(replace(knowing, landmarks_path=tmp_path / "other.onnx"))


def test_they_show_the_body_in_a_picture_of_any_shape(knowing: Category) -> None:
    finder = Landmarks(knowing)
    picture = np.zeros((30, 60, 3), np.uint8)
    picture[:, 30:] = 255
    mask, sure, box = finder.seen(picture)
    assert mask.shape == (16, 32) and mask[:, :15].max() < 0.1 and mask[:, 17:].min() > 0.9
    assert sure == pytest.approx(0.0), "the upper quarter of the square it is put into is beside the picture"
    # the square, and half of it below: the picture is its middle half
    assert box == pytest.approx([0, -0.5, 1, 2.5])
    assert finder.seen(np.full((40, 20, 3), 255, np.uint8))[1] == pytest.approx(0.625)
