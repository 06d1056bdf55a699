# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion on other bones: where they point and go."""

from __future__ import annotations

import numpy as np
import pytest
from toy import toy_rotations

from dasr_blender.core import Category, forward_kinematics
from dasr_blender.core.retarget import carried, fitting, moved
from dasr_blender.core.rotation import rotvec_to_matrix

LYING = rotvec_to_matrix(np.array([-np.pi / 2, 0, 0]))  # Z up to Y up, as importers have it


def body_motion(category: Category, frames: int = 6):
    """Joints at rest on the floor (J, 3), turns since rest (T, J, 3, 3) and places (T, J, 3); the root walks."""
    skeleton, joints = category.skeleton, category.body.joints.astype(np.float64)
    pose = forward_kinematics(skeleton, joints, toy_rotations(skeleton, frames))
    root = rotvec_to_matrix(np.stack([np.linspace(0, 0.3, frames), np.zeros(frames), np.linspace(0, 2.5, frames)], 1))
    walk = np.stack([np.linspace(0, 1, frames), np.linspace(0, -2, frames), np.zeros(frames)], 1)
    turns = root[:, None] @ pose[..., :3, :3]
    places = np.einsum("tij,tkj->tki", root, pose[..., :3, 3]) + walk[:, None]
    lift = np.array([0, 0, -joints[:, 2].min()])
    return joints + lift, turns, places + lift


def follow(parents, heads, axes, pointed, at):
    """Joints (T, J, 3) of a character: bones of fixed lengths that point as told, the first where told."""
    places = np.zeros((len(at), len(heads), 3))
    for j, parent in enumerate(parents):
        if parent < 0:
            places[:, j] = at
        else:
            turn = pointed[parent] @ axes[parent].T
            places[:, j] = places[:, parent] + turn @ (heads[j] - heads[parent])
    return places


def test_a_character_with_other_axes_and_size_moves_as_the_body(toy_category: Category) -> None:
    skeleton = toy_category.skeleton
    joints, turns, places = body_motion(toy_category)
    heads = {j: 2.5 * LYING @ joints[j] + [3, 0, 1] for j in range(len(skeleton))}
    rng = np.random.default_rng(0)
    axes = {j: rotvec_to_matrix(rng.normal(size=3)) for j in heads}  # bones may lie about their joints as they like
    fit = fitting(skeleton, joints, heads)
    np.testing.assert_allclose(fit.turn, LYING, atol=1e-12)
    assert fit.scale == pytest.approx(2.5)
    np.testing.assert_allclose(fit.laid, np.tile(np.eye(3), (len(skeleton), 1, 1)), atol=1e-12)
    pointed = carried(skeleton, fit, joints, turns, places, axes)
    at = moved(fit, joints, turns, places, {0: heads[0]})[0]
    found = follow(skeleton.parents, heads, axes, pointed, at)
    np.testing.assert_allclose(found, 2.5 * places @ LYING.T + [3, 0, 1], atol=1e-9)
    np.testing.assert_allclose(fit.matrix[:3] @ [*joints[7], 1], heads[7], atol=1e-12)


def test_limbs_that_rest_elsewhere_are_laid_as_the_body_s(toy_category: Category) -> None:
    """A character that rests with its legs spread and its tail up moves as the body does, but for its feet."""
    skeleton = toy_category.skeleton
    joints, turns, places = body_motion(toy_category)
    spread = np.zeros((1, len(skeleton), 4))
    spread[..., 0] = 1
    for name, angle in (("front_upper.L", 0.8), ("front_upper.R", -0.8), ("hind_lower.L", 0.5), ("tail_1", 0.0)):
        spread[0, skeleton.index(name)] = [np.cos(angle / 2), 0, np.sin(angle / 2), 0]
    spread[0, skeleton.index("tail_1")] = [np.cos(0.6), np.sin(0.6), 0, 0]
    rest = forward_kinematics(skeleton, joints - joints[0], spread)[0] + 0.0
    heads = {j: rest[j, :3, 3] + joints[0] for j in range(len(skeleton))}
    axes = {j: np.eye(3) for j in heads}
    fit = fitting(skeleton, joints, heads)
    np.testing.assert_allclose(fit.turn, np.eye(3), atol=1e-12)
    pointed = carried(skeleton, fit, joints, turns, places, axes)
    found = follow(skeleton.parents, heads, axes, pointed, places[:, 0])
    np.testing.assert_allclose(found, places, atol=1e-9)
    assert np.abs(fit.laid[skeleton.index("tail_4")] - np.eye(3)).max() > 0.1  # the end is as what it hangs on
    assert np.abs(fit.laid[skeleton.index("front_toe.L")] - np.eye(3)).max() < 1e-12  # soles lie on the ground


def test_a_bone_for_two_joints_reaches_where_both_do(toy_category: Category) -> None:
    skeleton = toy_category.skeleton
    joints, turns, places = body_motion(toy_category)
    upper, lower, foot = (skeleton.index(f"front_{part}.L") for part in ("upper", "lower", "foot"))
    heads = {j: joints[j] for j in range(len(skeleton)) if j != lower}
    fit = fitting(skeleton, joints, heads)
    pointed = carried(skeleton, fit, joints, turns, places, {upper: np.eye(3)})[upper]
    reach, wanted = pointed @ (joints[foot] - joints[upper]), places[:, foot] - places[:, upper]
    cosine = (reach * wanted).sum(1) / np.linalg.norm(reach, axis=1) / np.linalg.norm(wanted, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-12)
    alone = turns[:, upper] @ (joints[foot] - joints[upper])
    assert ((alone * wanted).sum(1) / np.linalg.norm(alone, axis=1) / np.linalg.norm(wanted, axis=1)).min() < 0.99


def test_what_lies_between_joint_and_bone_turns_with_the_joint(toy_category: Category) -> None:
    skeleton = toy_category.skeleton
    joints, turns, places = body_motion(toy_category)
    heads = {j: joints[j].copy() for j in range(len(skeleton))}
    heads[0] += [0, 0.1, 0.05]  # a trunk's bone begins where the artist liked it
    fit = fitting(skeleton, joints, heads)
    at = moved(fit, joints, turns, places, {0: heads[0]})[0]
    middle = places[:, 0] + turns[:, 0] @ (heads[0] - fit.shift - fit.scale * joints[0])
    np.testing.assert_allclose(at, middle + fit.shift, atol=1e-2)
    assert np.linalg.norm(at[-1] - places[-1, 0] - (heads[0] - joints[0])) > 0.05


def test_a_skeleton_a_little_off_its_axes_is_along_them(toy_category: Category) -> None:
    skeleton = toy_category.skeleton
    joints, _, _ = body_motion(toy_category, 2)
    heads = {j: LYING @ joints[j] for j in range(len(skeleton))}
    for name in ("neck_1", "neck_2", "head", "jaw", "ear.L", "ear.R"):
        heads[skeleton.index(name)] = heads[skeleton.index(name)] + [0, 0.3, -0.1]  # carries its head high
    np.testing.assert_allclose(fitting(skeleton, joints, heads).turn, LYING, atol=1e-12)
    tilted = rotvec_to_matrix(np.array([0, 0, 0.9]))
    turned = {j: tilted @ joints[j] for j in range(len(skeleton))}
    np.testing.assert_allclose(fitting(skeleton, joints, turned).turn, tilted, atol=1e-9)
    with pytest.raises(ValueError, match="no joint"):
        fitting(skeleton, joints, {})
