# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations as quaternions (wxyz), matrices, rotation vectors and 6D, for any leading batch shape."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

_TINY = 1e-12


def _float(x: Array) -> Array:
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def unit(x: Array) -> Array:
    """Vectors ``(…, n)`` of length one; those of no length stay so."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), _TINY)


def quat_multiply(a: Array, b: Array) -> Array:
    """Hamilton product of ``(..., 4)`` quaternions: the rotation `b`, then `a`."""
    aw, ax, ay, az = np.moveaxis(_float(a), -1, 0)
    bw, bx, by, bz = np.moveaxis(_float(b), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def quat_conjugate(q: Array) -> Array:
    """Conjugate of ``(..., 4)``: the inverse of a unit quaternion."""
    return _float(q) * np.array([1, -1, -1, -1], dtype=_float(q).dtype)


def quat_to_matrix(q: Array) -> Array:
    """``(..., 4)`` quaternions, of any non-zero length, to ``(..., 3, 3)`` rotation matrices."""
    w, x, y, z = np.moveaxis(unit(_float(q)), -1, 0)
    m = np.empty(w.shape + (3, 3), dtype=w.dtype)
    m[..., 0, 0] = 1 - 2 * (y * y + z * z)
    m[..., 0, 1] = 2 * (x * y - w * z)
    m[..., 0, 2] = 2 * (x * z + w * y)
    m[..., 1, 0] = 2 * (x * y + w * z)
    m[..., 1, 1] = 1 - 2 * (x * x + z * z)
    m[..., 1, 2] = 2 * (y * z - w * x)
    m[..., 2, 0] = 2 * (x * z - w * y)
    m[..., 2, 1] = 2 * (y * z + w * x)
    m[..., 2, 2] = 1 - 2 * (x * x + y * y)
    return m


def matrix_to_quat(m: Array) -> Array:
    """``(..., 3, 3)`` rotation matrices to unit quaternions ``(..., 4)`` with w >= 0.

    Shepperd (1978): of the four expressions, the one divided by the largest component, so it never cancels.
    """
    m = _float(m)
    a, b, c = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    four_squares = np.stack([1 + a + b + c, 1 + a - b - c, 1 - a + b - c, 1 - a - b + c], axis=-1)
    s21, d21 = m[..., 2, 1] + m[..., 1, 2], m[..., 2, 1] - m[..., 1, 2]
    s02, d02 = m[..., 0, 2] + m[..., 2, 0], m[..., 0, 2] - m[..., 2, 0]
    s10, d10 = m[..., 1, 0] + m[..., 0, 1], m[..., 1, 0] - m[..., 0, 1]
    # row i is 4 q_i * (w, x, y, z)
    rows = np.stack(
        [
            np.stack([four_squares[..., 0], d21, d02, d10], axis=-1),
            np.stack([d21, four_squares[..., 1], s10, s02], axis=-1),
            np.stack([d02, s10, four_squares[..., 2], s21], axis=-1),
            np.stack([d10, s02, s21, four_squares[..., 3]], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(four_squares, axis=-1)[..., None, None]
    q = unit(np.take_along_axis(rows, best, axis=-2)[..., 0, :])
    return np.where(q[..., :1] < 0, -q, q)


def rotvec_to_quat(v: Array) -> Array:
    """Rotation vectors ``(..., 3)`` (axis times angle, radians) to unit quaternions ``(..., 4)``."""
    v = _float(v)
    angle = np.linalg.norm(v, axis=-1, keepdims=True)
    # sin(a/2)/a = sinc(a / 2 pi) / 2 with numpy's sinc(x) = sin(pi x) / (pi x)
    return np.concatenate([np.cos(angle / 2), v * (np.sinc(angle / (2 * np.pi)) / 2)], axis=-1)


def quat_to_rotvec(q: Array) -> Array:
    """Quaternions ``(..., 4)`` to the shortest rotation vectors ``(..., 3)``, length 0…pi."""
    q = unit(_float(q))
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., :1])
    scale = np.where(sine > 1e-7, angle / np.maximum(sine, _TINY), 2.0)
    return (q[..., 1:] * scale).astype(q.dtype, copy=False)


def rotvec_to_matrix(v: Array) -> Array:
    """Rotation vectors ``(..., 3)`` to matrices ``(..., 3, 3)`` (Rodrigues)."""
    return quat_to_matrix(rotvec_to_quat(v))


def matrix_to_rotvec(m: Array) -> Array:
    """Rotation matrices ``(..., 3, 3)`` to rotation vectors ``(..., 3)``, length 0…pi."""
    return quat_to_rotvec(matrix_to_quat(m))


def sixd_to_matrix(x: Array) -> Array:
    """6D ``(..., 6)`` to matrices: Gram-Schmidt of ``x[:3]`` (first column) and ``x[3:]`` (second).

    Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", CVPR 2019.
    """
    x = _float(x)
    first = unit(x[..., :3])
    second = x[..., 3:] - np.sum(first * x[..., 3:], axis=-1, keepdims=True) * first
    second = unit(second)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def matrix_to_sixd(m: Array) -> Array:
    """Matrices ``(..., 3, 3)`` to 6D ``(..., 6)``: the first column, then the second."""
    m = _float(m)
    return np.concatenate([m[..., :, 0], m[..., :, 1]], axis=-1)


def geodesic(a: Array, b: Array) -> Array:
    """Angle in radians (0…pi) between rotation matrices ``(..., 3, 3)``.

    From the Frobenius norm, ``|a - b| = 2 sqrt(2) sin(angle / 2)``, which stays exact near 0, with the
    cosine where the sine flattens.
    """
    a, b = _float(a), _float(b)
    half_sine = np.linalg.norm(a - b, axis=(-2, -1)) / np.sqrt(8.0)
    half_cosine = np.sqrt(np.clip((1 + np.sum(a * b, axis=(-2, -1))) / 4, 0, None))
    return 2 * np.arctan2(half_sine, half_cosine)


def slerp(q0: Array, q1: Array, t: Array | float) -> Array:
    """Spherical interpolation of quaternions ``(..., 4)`` along the shorter arc; t: ``(...)``."""
    q0, q1 = unit(_float(q0)), unit(_float(q1))
    t = np.asarray(t, dtype=q0.dtype)[..., None]
    dot = np.sum(q0 * q1, axis=-1, keepdims=True)
    q1 = np.where(dot < 0, -q1, q1)
    angle = 2 * np.arctan2(
        np.linalg.norm(q0 - q1, axis=-1, keepdims=True), np.linalg.norm(q0 + q1, axis=-1, keepdims=True)
    )
    sine = np.sin(angle)
    near = sine < 1e-6
    sine = np.where(near, 1, sine)
    w0 = np.where(near, 1 - t, np.sin((1 - t) * angle) / sine)
    w1 = np.where(near, t, np.sin(t * angle) / sine)
    return unit(w0 * q0 + w1 * q1)


def make_continuous(q: Array, axis: int = 0) -> Array:
    """Flip signs so that no two quaternions ``(..., 4)`` next to each other along `axis` have a dot product < 0."""
    q = np.moveaxis(_float(q), axis, 0)
    if len(q) < 2:
        return np.moveaxis(q.copy(), 0, axis)
    dots = np.sum(q[1:] * q[:-1], axis=-1, keepdims=True)
    signs = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0).astype(q.dtype)
    return np.moveaxis(np.concatenate([q[:1], q[1:] * signs]), 0, axis)


def mirror_quat(q: Array) -> Array:
    """Rotation ``(..., 4)`` mirrored in the YZ plane: its axis is a pseudovector, so (x, −y, −z)."""
    return _float(q) * np.array([1, 1, -1, -1], dtype=_float(q).dtype)


def shortest_rotation(one: Array, two: Array) -> Array:
    """The least rotation (3, 3) from one direction to another."""
    a, b = (x / max(float(np.linalg.norm(x)), 1e-12) for x in (one, two))
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-9:
        return np.eye(3) if cosine > 0 or not a.any() or not b.any() else rotvec_to_matrix(np.pi * _across(a))
    return rotvec_to_matrix(axis / sine * np.arctan2(sine, cosine))


def _across(direction: Array) -> Array:
    """Some direction at right angles."""
    other = np.cross(direction, np.eye(3)[int(np.abs(direction).argmin())])
    return other / np.linalg.norm(other)
