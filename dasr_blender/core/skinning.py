# SPDX-License-Identifier: GPL-3.0-or-later
"""Skinning: linear blend (what Blender, glTF and FBX do) and dual quaternion ("preserve volume")."""

from __future__ import annotations

import numpy as np

from .rotation import matrix_to_quat, quat_multiply

Array = np.ndarray

_FRAMES_AT_ONCE = 16


def dense_weights(skin_index: Array, skin_weight: Array, joints: int) -> Array:
    """Weights ``(V, 4)`` at joints ``(V, 4)`` as one ``(V, J)`` matrix."""
    dense = np.zeros((len(skin_index), joints))
    np.add.at(dense, (np.arange(len(skin_index))[:, None], skin_index), skin_weight)
    return dense


def linear_blend(vertices: Array, skin_index: Array, skin_weight: Array, transforms: Array) -> Array:
    """Linear-blend skinning, ``v' = sum_j w_j S_j v``.

    vertices: ``(V, 3)``, or ``(T, V, 3)`` when each frame has its own.  skin_index, skin_weight: ``(V, 4)``.
    transforms: skin transforms ``(T, J, 4, 4)``.  Returns ``(T, V, 3)`` in the vertices' dtype.
    """
    vertices = np.asarray(vertices)
    dtype = vertices.dtype if vertices.dtype.kind == "f" else np.dtype(np.float64)
    affine = np.asarray(transforms)[..., :3, :].astype(dtype, copy=False)  # (T, J, 3, 4)
    frames, joints = affine.shape[:2]
    weights = dense_weights(skin_index, skin_weight, joints).astype(dtype)  # (V, J)
    count = vertices.shape[-2]
    if vertices.ndim == 2:
        # The same points in every frame: with A = w_j (v, 1) as a (V, 4J) matrix, all frames are one product.
        homogeneous = np.concatenate([vertices, np.ones((count, 1), dtype)], axis=1)
        weighted = (weights[:, :, None] * homogeneous[:, None, :]).reshape(count, joints * 4)
        stacked = affine.transpose(0, 2, 1, 3).reshape(frames * 3, joints * 4)
        return np.ascontiguousarray((stacked @ weighted.T).reshape(frames, 3, count).transpose(0, 2, 1))
    posed = np.empty((frames, count, 3), dtype)
    for t in range(frames):
        blended = (weights @ affine[t].reshape(joints, 12)).reshape(count, 3, 4)
        posed[t] = np.einsum("vab,vb->va", blended[..., :3], vertices[t]) + blended[..., 3]
    return posed


def strongest_joint(skin_index: Array, skin_weight: Array) -> Array:
    """The joint with the most weight at each vertex, ``(V,)``; skin_index and skin_weight ``(V, n)``."""
    return np.take_along_axis(skin_index, np.argmax(skin_weight, axis=1)[:, None], axis=1)[:, 0]


def dual_quaternion(vertices: Array, skin_index: Array, skin_weight: Array, transforms: Array) -> Array:
    """Dual-quaternion skinning of rigid transforms; arguments and result as :func:`linear_blend`.

    Kavan et al., "Geometric Skinning with Approximate Dual Quaternion Blending", TOG 2008.
    """
    vertices, skin_index = np.asarray(vertices), np.asarray(skin_index)
    dtype = vertices.dtype if vertices.dtype.kind == "f" else np.dtype(np.float64)
    transforms = np.asarray(transforms, dtype=np.float64)
    frames, joints = transforms.shape[:2]
    real = matrix_to_quat(transforms[..., :3, :3])  # (T, J, 4)
    shift = np.concatenate([np.zeros(real.shape[:-1] + (1,)), transforms[..., :3, 3]], axis=-1)
    pairs = np.concatenate([real, 0.5 * quat_multiply(shift, real)], axis=-1)  # (T, J, 8)
    # q and -q are the same rotation; which of them is summed is decided by the vertex's strongest influence,
    # so all vertices with the same strongest joint share the signs, and are one product.
    signs = np.where(real @ np.swapaxes(real, 1, 2) < 0, -1.0, 1.0)  # (T, J, J)
    weights = dense_weights(skin_index, skin_weight, joints).astype(dtype)
    pivot = strongest_joint(skin_index, skin_weight)
    order = np.argsort(pivot, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(pivot[order])) + 1)
    points = np.moveaxis(vertices[..., order, :], -1, 0).astype(dtype, copy=False)  # (3, V) or (3, T, V)
    posed = np.empty((frames, len(order), 3), dtype)
    for start in range(0, frames, _FRAMES_AT_ONCE):
        part = slice(start, start + _FRAMES_AT_ONCE)
        count = len(pairs[part])
        blended = np.empty((8, count, len(order)), dtype)
        done = 0
        for group in groups:
            signed = (pairs[part] * signs[part, pivot[group[0]], :, None]).transpose(2, 0, 1).astype(dtype)
            product = signed.reshape(8 * count, joints) @ weights[group].T
            blended[:, :, done : done + len(group)] = product.reshape(8, count, len(group))
            done += len(group)
        posed[part, order] = _apply(blended, points[:, part] if points.ndim == 3 else points)
    return posed


def _apply(pairs: Array, points: Array) -> Array:
    """Rigid motions ``(8, ...)``, not yet normalised, applied to points ``(3, ...)``; returns ``(..., 3)``.

    With the real part (w, a) and the dual part (e, d), both divided by |(w, a)|, the formula is
    ``p + 2 (a × (a × p + w p) + w d − e a + a × d)``; the two crosses with a are one.
    """
    w, ax, ay, az, e, dx, dy, dz = pairs
    px, py, pz = points
    cx = ay * pz - az * py + w * px + dx
    cy = az * px - ax * pz + w * py + dy
    cz = ax * py - ay * px + w * pz + dz
    scale = 2 / (w * w + ax * ax + ay * ay + az * az)
    return np.stack(
        [
            px + scale * (ay * cz - az * cy + w * dx - e * ax),
            py + scale * (az * cx - ax * cz + w * dy - e * ay),
            pz + scale * (ax * cy - ay * cx + w * dz - e * az),
        ],
        axis=-1,
    )
