# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations by their invariants, and against scipy or a twin written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dasr_blender.core import rotation as r

RNG = np.random.default_rng(1)
SHAPES = [(), (5,), (3, 4)]


def random_quats(*shape: int) -> np.ndarray:
    q = RNG.normal(size=(*shape, 4))
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def rodrigues(vector: np.ndarray) -> np.ndarray:
    """One rotation vector, by the series' closed form with the cross-product matrix."""
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_are_rotations_and_come_back(shape: tuple[int, ...]) -> None:
    q = random_quats(*shape)
    m = r.quat_to_matrix(q)
    assert m.shape == (*shape, 3, 3)
    np.testing.assert_allclose(m @ np.swapaxes(m, -1, -2), np.broadcast_to(np.eye(3), m.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(m), 1, atol=1e-12)
    back = r.matrix_to_quat(m)
    np.testing.assert_allclose(np.abs(np.sum(back * q, axis=-1)), 1, atol=1e-12)
    assert np.all(back[..., 0] >= 0)


def test_matrix_to_quat_at_half_turns() -> None:
    """The trace is −1 there, where the usual formula divides by nothing."""
    axes = np.concatenate([np.eye(3), random_quats(20)[:, 1:]])
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    for angle in (np.pi, np.pi - 1e-9):
        m = np.array([rodrigues(a * angle) for a in axes])
        np.testing.assert_allclose(r.quat_to_matrix(r.matrix_to_quat(m)), m, atol=1e-9)


def test_product_is_the_product_of_matrices() -> None:
    a, b = random_quats(50), random_quats(50)
    np.testing.assert_allclose(
        r.quat_to_matrix(r.quat_multiply(a, b)), r.quat_to_matrix(a) @ r.quat_to_matrix(b), atol=1e-12
    )
    unit = r.quat_multiply(a, r.quat_conjugate(a))
    np.testing.assert_allclose(unit, np.broadcast_to([1, 0, 0, 0], unit.shape), atol=1e-12)


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e-8, 1e-3, 1.0, 3.0])
def test_rotation_vectors_against_rodrigues(scale: float) -> None:
    v = RNG.normal(size=(20, 3))
    v *= scale / np.linalg.norm(v, axis=1, keepdims=True)
    m = r.rotvec_to_matrix(v)
    np.testing.assert_allclose(m, [rodrigues(x) for x in v], atol=1e-13)
    np.testing.assert_allclose(r.matrix_to_rotvec(m), v, atol=1e-12, rtol=1e-9)
    np.testing.assert_allclose(r.quat_to_rotvec(-r.rotvec_to_quat(v)), v, atol=1e-12, rtol=1e-9)


def test_rotation_vectors_against_scipy() -> None:
    scipy_rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    q = random_quats(200)
    reference = scipy_rotation.from_quat(q[:, [1, 2, 3, 0]])
    np.testing.assert_allclose(r.quat_to_matrix(q), reference.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(r.quat_to_rotvec(q), reference.as_rotvec(), atol=1e-10)


def test_sixd_is_gram_schmidt_and_comes_back() -> None:
    m = r.quat_to_matrix(random_quats(30))
    np.testing.assert_allclose(r.sixd_to_matrix(r.matrix_to_sixd(m)), m, atol=1e-12)
    x = RNG.normal(size=(30, 6))
    got = r.sixd_to_matrix(x)
    np.testing.assert_allclose(np.linalg.det(got), 1, atol=1e-12)
    for raw, matrix in zip(x, got, strict=True):
        # QR, with the signs that make the diagonal of R positive, is Gram-Schmidt
        q, upper = np.linalg.qr(np.stack([raw[:3], raw[3:]], axis=1))
        np.testing.assert_allclose(matrix[:, :2], q * np.sign(np.diag(upper)), atol=1e-10)


def test_geodesic_is_the_angle() -> None:
    base = r.quat_to_matrix(random_quats(6))
    angles = np.array([0, 1e-9, 1e-4, 0.5, 3.0, np.pi])
    axis = np.array([0.6, 0, 0.8])
    turned = base @ r.rotvec_to_matrix(angles[:, None] * axis)
    np.testing.assert_allclose(r.geodesic(base, turned), angles, atol=1e-8)
    np.testing.assert_allclose(r.geodesic(base, turned), r.geodesic(turned, base), atol=1e-15)


def test_slerp_has_constant_speed_and_takes_the_short_way() -> None:
    a, b = random_quats(40), random_quats(40)
    whole = r.geodesic(r.quat_to_matrix(a), r.quat_to_matrix(b))
    for t in (0.0, 0.25, 0.7, 1.0):
        part = r.slerp(a, -b, t)
        np.testing.assert_allclose(np.linalg.norm(part, axis=-1), 1, atol=1e-12)
        np.testing.assert_allclose(
            r.geodesic(r.quat_to_matrix(a), r.quat_to_matrix(part)), whole * t, atol=1e-7
        )
    np.testing.assert_allclose(r.slerp(a, a, 0.3), a, atol=1e-12)
    assert r.slerp(a, b, np.linspace(0, 1, 40)).shape == (40, 4)


@pytest.mark.parametrize("axis", [0, 1])
def test_make_continuous_only_flips_signs(axis: int) -> None:
    angle = np.linspace(0, 12, 60)
    smooth = r.rotvec_to_quat(angle[:, None] * np.array([0, 0, 1.0]))
    q = np.stack([smooth, random_quats(1)[0] * np.ones((60, 1))], axis=1)
    flips = RNG.choice([-1.0, 1.0], size=(60, 2, 1))
    given = np.moveaxis(q * flips, 0, axis)
    got = r.make_continuous(given, axis=axis)
    assert np.all(np.sum(np.diff(np.moveaxis(got, axis, 0), axis=0) ** 2, axis=-1) < 2)
    np.testing.assert_array_equal(np.abs(got), np.abs(given))
    np.testing.assert_array_equal(np.take(got, 0, axis), np.take(given, 0, axis))


def test_mirror_is_the_reflection_on_both_sides() -> None:
    q = random_quats(20)
    flip = np.diag([-1.0, 1, 1])
    np.testing.assert_allclose(
        r.quat_to_matrix(r.mirror_quat(q)), flip @ r.quat_to_matrix(q) @ flip, atol=1e-12
    )
    np.testing.assert_allclose(r.mirror_quat(r.mirror_quat(q)), q)


def test_float32_stays_float32() -> None:
    q = random_quats(4).astype(np.float32)
    m = r.quat_to_matrix(q)
    for value in (m, r.matrix_to_quat(m), r.quat_to_rotvec(q), r.sixd_to_matrix(r.matrix_to_sixd(m)),
                  r.slerp(q, q[::-1], 0.5), r.make_continuous(q), r.mirror_quat(q)):  # fmt: skip
        assert value.dtype == np.float32
