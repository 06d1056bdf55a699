# SPDX-License-Identifier: GPL-3.0-or-later
"""The joint tree and its kinematics, against a recursion written from the definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy import standard_skeleton, toy_rotations

from dasr_blender.core import (
    clamp_rotations,
    forward_kinematics,
    local_from_global,
    mirror_rotations,
    skin_transforms,
    transform,
)
from dasr_blender.core.rotation import quat_to_matrix, quat_to_rotvec, rotvec_to_quat

SKELETON, JOINTS = standard_skeleton()


def translate(v: np.ndarray) -> np.ndarray:
    m = np.eye(4)
    m[:3, 3] = v
    return m


def plain_kinematics(joints: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """One frame, joint by joint with 4 × 4 products, as the definition reads."""
    posed: list[np.ndarray] = []
    for j, parent in enumerate(SKELETON.parents):
        if parent < 0:
            posed.append(translate(joints[j]))
            continue
        turn = np.eye(4)
        turn[:3, :3] = quat_to_matrix(rotations[j])
        posed.append(posed[parent] @ translate(joints[j] - joints[parent]) @ turn)
    return np.array(posed)


def random_pose(frames: int, seed: int = 0) -> np.ndarray:
    return rotvec_to_quat(np.random.default_rng(seed).normal(0, 0.8, (frames, len(SKELETON), 3)))


def test_kinematics_equals_the_definition() -> None:
    rotations = random_pose(4)
    got = forward_kinematics(SKELETON, JOINTS, rotations)
    np.testing.assert_allclose(got, [plain_kinematics(JOINTS, q) for q in rotations], atol=1e-12)
    moving = JOINTS + np.random.default_rng(1).normal(0, 0.05, (4, *JOINTS.shape))
    got = forward_kinematics(SKELETON, moving, rotations)
    expected = [plain_kinematics(j, q) for j, q in zip(moving, rotations, strict=True)]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_rest_pose_moves_nothing() -> None:
    rest = np.tile([1.0, 0, 0, 0], (2, len(SKELETON), 1))
    np.testing.assert_allclose(
        forward_kinematics(SKELETON, JOINTS, rest)[..., :3, 3], [JOINTS] * 2, atol=1e-15
    )
    expected = np.broadcast_to(np.eye(4), (2, len(SKELETON), 4, 4))
    np.testing.assert_allclose(skin_transforms(SKELETON, JOINTS, rest), expected, atol=1e-15)


def test_skin_transforms_carry_the_rest_joints_to_the_posed_ones() -> None:
    rotations = random_pose(3)
    skin = skin_transforms(SKELETON, JOINTS, rotations)
    posed = forward_kinematics(SKELETON, JOINTS, rotations)
    carried = transform(skin, JOINTS[:, None, :])[..., 0, :]
    np.testing.assert_allclose(carried, posed[..., :3, 3], atol=1e-12)


def test_bones_keep_their_length() -> None:
    places = forward_kinematics(SKELETON, JOINTS, random_pose(5))[..., :3, 3]
    child = np.arange(1, len(SKELETON))
    parent = SKELETON.parents[1:]
    lengths = np.linalg.norm(places[:, child] - places[:, parent], axis=-1)
    rest = np.linalg.norm(JOINTS[child] - JOINTS[parent], axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(rest, lengths.shape), atol=1e-12)


def test_one_joint_moves_only_what_hangs_on_it() -> None:
    rotations = np.tile([1.0, 0, 0, 0], (1, len(SKELETON), 1))
    elbow = SKELETON.index("front_lower.L")
    rotations[0, elbow] = rotvec_to_quat(np.array([0.7, 0, 0]))
    moved = (
        np.linalg.norm(forward_kinematics(SKELETON, JOINTS, rotations)[0, :, :3, 3] - JOINTS, axis=-1) > 1e-9
    )
    below = {j for j in range(len(SKELETON)) if elbow in SKELETON.chain(j) and j != elbow}
    assert set(np.flatnonzero(moved)) == below
    assert {SKELETON.names[j] for j in below} == {"front_foot.L", "front_toe.L"}


def test_local_from_global_undoes_the_chain() -> None:
    rotations = random_pose(4)
    rotations[:, 0] = [1, 0, 0, 0]
    world = forward_kinematics(SKELETON, JOINTS, rotations)[..., :3, :3]
    np.testing.assert_allclose(local_from_global(SKELETON, world), quat_to_matrix(rotations), atol=1e-12)


def test_clamp_is_componentwise_and_leaves_the_inside_alone() -> None:
    limits = np.tile([[-0.2, 0.3], [-0.1, 0.1], [0.0, 0.5]], (len(SKELETON), 1, 1))
    skeleton = replace(SKELETON, limits=limits)
    vectors = np.random.default_rng(2).normal(0, 0.4, (6, len(SKELETON), 3))
    got = quat_to_rotvec(clamp_rotations(skeleton, rotvec_to_quat(vectors)))
    np.testing.assert_allclose(got, np.clip(vectors, limits[..., 0], limits[..., 1]), atol=1e-9)
    inside = rotvec_to_quat(np.tile([0.1, 0.05, 0.2], (1, len(SKELETON), 1)))
    np.testing.assert_allclose(clamp_rotations(skeleton, inside), inside, atol=1e-12)


def test_mirrored_pose_is_the_mirrored_figure() -> None:
    rotations = toy_rotations(SKELETON, 5, amount=0.6)
    mirrored = mirror_rotations(SKELETON, rotations)
    places = forward_kinematics(SKELETON, JOINTS, rotations)[..., :3, 3]
    other = forward_kinematics(SKELETON, JOINTS, mirrored)[..., :3, 3]
    np.testing.assert_allclose(other[:, SKELETON.mirror], places * [-1, 1, 1], atol=1e-12)


def test_names() -> None:
    assert SKELETON.names[SKELETON.index("hind_foot.R")] == "hind_foot.R"
    with pytest.raises(KeyError, match="wing"):
        SKELETON.index("wing")
    assert SKELETON.children(SKELETON.index("root")) == (1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parents": np.r_[-1, 2, 0, SKELETON.parents[3:]]}, "parent that comes before"),
        ({"parents": np.r_[0, SKELETON.parents[1:]]}, "root"),
        ({"mirror": np.r_[1, 2, 0, SKELETON.mirror[3:]]}, "inverse"),
        ({"names": ("root",) * 30}, "unique"),
        ({"limits": -SKELETON.limits}, "lower limit"),
        ({"roles": ("root",)}, "one entry"),
    ],
)
def test_a_tree_that_is_none_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SKELETON, **change)
