# SPDX-License-Identifier: GPL-3.0-or-later
"""Both skinnings, against plain loops written from their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from dasr_blender.core import Category, dual_quaternion, linear_blend, skin_transforms
from dasr_blender.core.rotation import (
    matrix_to_quat,
    quat_conjugate,
    quat_multiply,
    quat_to_matrix,
    rotvec_to_matrix,
)

FRAMES, JOINTS, VERTICES = 5, 7, 60


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random vertices, influences (some repeated, some without weight) and rigid transforms."""
    rng = np.random.default_rng(3)
    vertices = rng.normal(size=(VERTICES, 3))
    index = rng.integers(0, JOINTS, (VERTICES, 4))
    weight = rng.dirichlet(np.ones(4), VERTICES)
    weight[::3, 2:] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    transforms = np.tile(np.eye(4), (FRAMES, JOINTS, 1, 1))
    transforms[..., :3, :3] = rotvec_to_matrix(rng.normal(0, 1.2, (FRAMES, JOINTS, 3)))
    transforms[..., :3, 3] = rng.normal(size=(FRAMES, JOINTS, 3))
    return vertices, index, weight, transforms


def plain_linear_blend(vertices, index, weight, transforms):
    posed = np.zeros((len(transforms), len(vertices), 3))
    for t in range(len(transforms)):
        for v, point in enumerate(vertices):
            for j, w in zip(index[v], weight[v], strict=True):
                posed[t, v] += w * (transforms[t, j] @ np.r_[point, 1])[:3]
    return posed


def plain_dual_quaternion(vertices, index, weight, transforms):
    """Kavan et al. 2008, algorithm 1, vertex by vertex."""
    posed = np.zeros((len(transforms), len(vertices), 3))
    for t in range(len(transforms)):
        for v, point in enumerate(vertices):
            pivot = matrix_to_quat(transforms[t, index[v, np.argmax(weight[v])], :3, :3])
            real, dual = np.zeros(4), np.zeros(4)
            for j, w in zip(index[v], weight[v], strict=True):
                q = matrix_to_quat(transforms[t, j, :3, :3])
                d = 0.5 * quat_multiply(np.r_[0, transforms[t, j, :3, 3]], q)
                sign = -1 if np.dot(q, pivot) < 0 else 1
                real, dual = real + sign * w * q, dual + sign * w * d
            length = np.linalg.norm(real)
            real, dual = real / length, dual / length
            shift = 2 * quat_multiply(dual, quat_conjugate(real))[1:]
            posed[t, v] = quat_to_matrix(real) @ point + shift
    return posed


def test_linear_blend_equals_the_loop(scene) -> None:
    np.testing.assert_allclose(linear_blend(*scene), plain_linear_blend(*scene), atol=1e-12)


def test_dual_quaternion_equals_the_loop(scene) -> None:
    np.testing.assert_allclose(dual_quaternion(*scene), plain_dual_quaternion(*scene), atol=1e-12)


@pytest.mark.parametrize("skin", [linear_blend, dual_quaternion])
def test_vertices_of_their_own_in_every_frame(skin, scene) -> None:
    vertices, index, weight, transforms = scene
    moving = vertices + np.random.default_rng(4).normal(0, 0.1, (FRAMES, VERTICES, 3))
    got = skin(moving, index, weight, transforms)
    for t in range(FRAMES):
        expected = skin(moving[t], index, weight, transforms[t : t + 1])[0]
        np.testing.assert_allclose(got[t], expected, atol=1e-12)


@pytest.mark.parametrize("skin", [linear_blend, dual_quaternion])
def test_one_transform_for_all_joints_is_that_transform(skin, scene) -> None:
    vertices, index, weight, transforms = scene
    same = np.broadcast_to(transforms[:, :1], transforms.shape)
    expected = vertices @ np.swapaxes(same[:, 0, :3, :3], -1, -2) + same[:, 0, None, :3, 3]
    np.testing.assert_allclose(skin(vertices, index, weight, same), expected, atol=1e-12)


def test_dual_quaternion_keeps_the_girth_of_a_twisted_tube() -> None:
    """The candy wrapper: half way round a half turn, linear blending shrinks the tube to nothing."""
    ring = np.array([[np.cos(a), np.sin(a), 0.0] for a in np.linspace(0, 2 * np.pi, 9)[:-1]])
    transforms = np.tile(np.eye(4), (1, 2, 1, 1))
    transforms[0, 1, :3, :3] = rotvec_to_matrix(np.array([0, 0, 3.0]))
    index = np.tile([0, 1, 0, 0], (8, 1))
    weight = np.tile([0.5, 0.5, 0, 0], (8, 1))
    dual = np.linalg.norm(dual_quaternion(ring, index, weight, transforms)[0], axis=1)
    linear = np.linalg.norm(linear_blend(ring, index, weight, transforms)[0], axis=1)
    np.testing.assert_allclose(dual, 1, atol=1e-12)
    np.testing.assert_allclose(linear, np.cos(1.5), atol=1e-12)


@pytest.mark.parametrize("skin", [linear_blend, dual_quaternion])
def test_dtype_follows_the_vertices(skin, scene) -> None:
    vertices, index, weight, transforms = scene
    got = skin(vertices.astype(np.float32), index, weight, transforms)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, skin(vertices, index, weight, transforms), atol=1e-5)


def test_category_poses_its_body(toy_category: Category, motion) -> None:
    beta = motion.morphology
    body = toy_category.body
    vertices = body.vertices + sum(b * m for b, m in zip(beta, body.morphology_vertices, strict=True))
    joints = body.joints + sum(b * m for b, m in zip(beta, body.morphology_joints, strict=True))
    transforms = skin_transforms(toy_category.skeleton, joints, motion.joint_rotations)
    expected = plain_linear_blend(vertices, body.skin_index, body.skin_weight, transforms[:2])
    np.testing.assert_allclose(toy_category.posed_vertices(motion)[:2], expected, atol=1e-6)
    got = toy_category.posed_vertices(beta, motion.joint_rotations, dual=True)[:2]
    expected = plain_dual_quaternion(vertices, body.skin_index, body.skin_weight, transforms[:2])
    np.testing.assert_allclose(got, expected, atol=1e-6)
    with pytest.raises(TypeError, match="rotations"):
        toy_category.posed_vertices(beta)
    with pytest.raises(ValueError, match=r"is \(\d+,\), not \(99,\)"):
        toy_category.posed_vertices(np.zeros(99), motion.joint_rotations)
    with pytest.raises(ValueError, match=r"are \(T, 30, 4\), not \(30, 4\)"):
        toy_category.posed_vertices(beta, motion.joint_rotations[0])
