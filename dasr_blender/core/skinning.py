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


def dual_quaternion(vertices: Array, skin_index: Array, skin_weight: Array, transforms: Array) -> Array:
    """Dual-quaternion skinning of rigid transforms; arguments and result as :func:`linear_blend`.

    Kavan et al., "Geometric Skinning with Approximate Dual Quaternion Blending", TOG 2008.
    """
    vertices = np.asarray(vertices)
    dtype = vertices.dtype if vertices.dtype.kind == "f" else np.dtype(np.float64)
    transforms = np.asarray(transforms, dtype=np.float64)
    frames = len(transforms)
    real = matrix_to_quat(transforms[..., :3, :3])  # (T, J, 4)
    shift = np.concatenate([np.zeros(real.shape[:-1] + (1,)), transforms[..., :3, 3]], axis=-1)
    pairs = np.concatenate([real, 0.5 * quat_multiply(shift, real)], axis=-1)  # (T, J, 8)
    per_frame = np.broadcast_to(vertices, (frames,) + vertices.shape[-2:])
    posed = np.empty(per_frame.shape, dtype)
    # The strongest influence decides which of q and -q the others are summed as.
    order = np.argsort(-np.asarray(skin_weight), axis=1, kind="stable")
    index = np.take_along_axis(np.asarray(skin_index), order, axis=1)
    weight = np.take_along_axis(np.asarray(skin_weight, dtype=np.float64), order, axis=1)
    for start in range(0, frames, _FRAMES_AT_ONCE):
        part = slice(start, start + _FRAMES_AT_ONCE)
        pivot = pairs[part][:, index[:, 0]]  # (t, V, 8)
        blended = pivot * weight[:, :1]
        for k in range(1, index.shape[1]):
            used = np.flatnonzero(weight[:, k] > 0)
            other = pairs[part][:, index[used, k]]
            dots = np.einsum("tvq,tvq->tv", other[..., :4], pivot[:, used, :4])
            blended[:, used] += other * (np.where(dots < 0, -1.0, 1.0) * weight[used, k])[..., None]
        posed[part] = _apply(blended, per_frame[part])
    return posed


def _apply(pairs: Array, points: Array) -> Array:
    """Rigid motions ``(..., 8)``, not yet normalised, applied to points ``(..., 3)``."""
    pairs = pairs / np.linalg.norm(pairs[..., :4], axis=-1, keepdims=True)
    w, axis = pairs[..., :1], pairs[..., 1:4]
    dual_w, dual_axis = pairs[..., 4:5], pairs[..., 5:]
    rotated = points + 2 * np.cross(axis, np.cross(axis, points) + w * points)
    return rotated + 2 * (w * dual_axis - dual_w * axis + np.cross(axis, dual_axis))
