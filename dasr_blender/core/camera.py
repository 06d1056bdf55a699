# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinhole camera (x right, y down, z forward) and the algebra of square crops.

A crop is a square of `side` pixels round `center`. Poses are learnt relative to it: the rotation relative to
the ray through the crop's centre, so that the same look has the same rotation wherever it is in the picture,
and the translation as the root's place in the crop and the log of its distance in units of ``focal / side``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

_MINIMUM_DEPTH = 1e-9


def default_focal(image_size: Array | tuple[float, float]) -> float:
    """Focal length in pixels when nothing is known: ``1.2 × max(width, height)``, a view about 45° wide."""
    return 1.2 * float(max(image_size[0], image_size[1]))


def _trailing(values: Array | float, ndim: int) -> Array:
    """Append axes to `values` until it has `ndim`, so that leading axes broadcast."""
    values = np.asarray(values)
    return values.reshape(values.shape + (1,) * max(0, ndim - values.ndim))


def project(points_cam: Array, focal: Array | float, pp: Array) -> Array:
    """Project camera-space points ``(..., 3)`` to pixels ``(..., 2)``.

    focal: a number, or ``(T,)`` for points whose first axis is T.  pp: ``(2,)``.
    Points behind the camera keep the formula's sign; test their depth before drawing them.
    """
    points = np.asarray(points_cam)
    depth = points[..., 2:]
    depth = np.where(np.abs(depth) < _MINIMUM_DEPTH, np.where(depth < 0, -1, 1) * _MINIMUM_DEPTH, depth)
    return points[..., :2] / depth * _trailing(focal, points.ndim) + np.asarray(pp)


def transform(matrix: Array, points: Array) -> Array:
    """Apply ``(..., 4, 4)`` to points ``(N, 3)`` or ``(..., N, 3)``; returns ``(..., N, 3)``."""
    matrix = np.asarray(matrix)
    return np.asarray(points) @ np.swapaxes(matrix[..., :3, :3], -1, -2) + matrix[..., None, :3, 3]


@dataclass(frozen=True, eq=False)
class Pinhole:
    """A camera over a clip: focal_px ``(T,)``, principal_point ``(2,)`` and image_size ``(w, h)``, pixels."""

    focal_px: Array
    principal_point: Array
    image_size: Array

    def project(self, points_cam: Array) -> Array:
        """Camera-space points ``(T, ..., 3)`` to pixels ``(T, ..., 2)``."""
        return project(points_cam, self.focal_px, self.principal_point)

    def scaled(self, factor: float) -> Pinhole:
        """The same camera for an image `factor` times as large."""
        return Pinhole(
            np.asarray(self.focal_px) * factor,
            np.asarray(self.principal_point) * factor,
            np.asarray(self.image_size) * factor,
        )


@dataclass(frozen=True, eq=False)
class CropBox:
    """Square crops over a clip: center ``(T, 2)`` and side ``(T,)``, pixels."""

    center: Array
    side: Array

    def __len__(self) -> int:
        return len(self.side)

    def corners(self) -> Array:
        """Boxes ``(T, 4)`` as x0, y0, x1, y1."""
        half = np.asarray(self.side)[:, None] / 2
        return np.concatenate([self.center - half, self.center + half], axis=1)

    def crop_pixels(self, pixels: Array, size: int) -> Array:
        """Picture pixels ``(T, ..., 2)`` to pixels of the crop resampled to `size` × `size`."""
        pixels = np.asarray(pixels)
        corner = self.corners()[:, :2]
        corner = corner.reshape((len(self),) + (1,) * (pixels.ndim - 2) + (2,))
        return (pixels - corner) * (size / _trailing(self.side, pixels.ndim))


def crop_info(center: Array, side: Array, focal: Array | float, pp: Array) -> Array:
    """Where and how large the crop is, ``(T, 3)``: ``[(cx − px)/f, (cy − py)/f, side/f]``."""
    center, side = np.asarray(center, dtype=np.float64), np.asarray(side, dtype=np.float64)
    focal = np.broadcast_to(np.asarray(focal, dtype=np.float64), side.shape)
    return np.concatenate([(center - pp) / focal[:, None], (side / focal)[:, None]], axis=1)


def ray_rotation(center: Array, focal: Array | float, pp: Array) -> Array:
    """The smallest rotation ``(T, 3, 3)`` that takes +z to the ray through `center` ``(T, 2)``.

    ``I + [v] + [v]²/(1 + c)`` with ``v = z × d`` and ``c = d_z``, d the unit ray.
    """
    center = np.asarray(center, dtype=np.float64)
    focal = np.broadcast_to(np.asarray(focal, dtype=np.float64), center.shape[:1])
    ray = np.concatenate([(center - pp) / focal[:, None], np.ones((len(center), 1))], axis=1)
    x, y, z = (ray / np.linalg.norm(ray, axis=1, keepdims=True)).T
    k = 1 / (1 + z)
    return np.stack(
        [
            np.stack([1 - k * x * x, -k * x * y, x], axis=-1),
            np.stack([-k * x * y, 1 - k * y * y, y], axis=-1),
            np.stack([-x, -y, z], axis=-1),
        ],
        axis=-2,
    )


def decode_root(
    rot: Array, trans: Array, center: Array, side: Array, focal: Array | float, pp: Array
) -> Array:
    """Crop-relative root poses to ``camera_from_root`` ``(T, ..., 4, 4)``.

    rot: ``(T, ..., 3, 3)`` relative to the crop's ray.  trans: ``(T, ..., 3)`` = (u, v, w): the root is
    seen at ``center + side·(u, v)`` at the depth ``focal/side·exp(w)``.
    center ``(T, 2)`` and side ``(T,)``, pixels.
    """
    rot, trans = np.asarray(rot, dtype=np.float64), np.asarray(trans, dtype=np.float64)
    lead = trans.ndim
    middle = (1,) * (lead - 2)
    center = np.asarray(center, dtype=np.float64)
    side = np.asarray(side, dtype=np.float64)
    focal = np.broadcast_to(np.asarray(focal, dtype=np.float64), side.shape)
    ray = ray_rotation(center, focal, pp).reshape((len(center),) + middle + (3, 3))
    pixel = center.reshape((len(center),) + middle + (2,)) + _trailing(side, lead) * trans[..., :2]
    depth = _trailing(focal / side, lead) * np.exp(trans[..., 2:])
    pose = np.zeros(rot.shape[:-2] + (4, 4))
    pose[..., :3, :3] = ray @ rot
    pose[..., :2, 3] = depth * (pixel - pp) / _trailing(focal, lead)
    pose[..., 2, 3] = depth[..., 0]
    pose[..., 3, 3] = 1
    return pose


def encode_root(
    camera_from_root: Array, center: Array, side: Array, focal: Array | float, pp: Array
) -> tuple[Array, Array]:
    """Exact inverse of :func:`decode_root`: ``(rot (T, ..., 3, 3), trans (T, ..., 3))``.

    Raises ValueError when a root is not in front of the camera.
    """
    pose = np.asarray(camera_from_root, dtype=np.float64)
    lead = pose.ndim - 1
    middle = (1,) * (lead - 2)
    center = np.asarray(center, dtype=np.float64)
    side = np.asarray(side, dtype=np.float64)
    focal = np.broadcast_to(np.asarray(focal, dtype=np.float64), side.shape)
    if np.any(pose[..., 2, 3] <= 0):
        raise ValueError("the root must be in front of the camera in every frame")
    ray = ray_rotation(center, focal, pp).reshape((len(center),) + middle + (3, 3))
    pixel = project(pose[..., :3, 3], focal, pp)
    place = (pixel - center.reshape((len(center),) + middle + (2,))) / _trailing(side, lead)
    depth = np.log(pose[..., 2:3, 3] * _trailing(side / focal, lead))
    return np.swapaxes(ray, -1, -2) @ pose[..., :3, :3], np.concatenate([place, depth], axis=-1)
