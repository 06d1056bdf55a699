# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the clip is put in the world: the camera still, the subject's root still, or the feet on the floor.

All three only choose `world_from_camera`; what the camera sees is the same.
"""

from __future__ import annotations

import numpy as np

from ..core import Category, Motion, linear_blend, skin_transforms, transform

PLACEMENTS = ("camera", "root", "ground")

# A level camera looking along +Y: OpenCV's right, down, forward are the world's X, −Z, Y.
LEVEL = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])

MAX_TILT = np.radians(20.0)  # between the body's mean up and the floor's normal
CONTACT = 0.06  # of the nominal size: feet this much above the lowest one are taken to stand on the floor


def world_from_camera(
    placement: str, category: Category, motion: Motion, root_at_rest: np.ndarray
) -> np.ndarray:
    """Camera poses: (1, 4, 4) for a camera that stands still, (T, 4, 4) for one that moves.

    Args:
        placement: one of `PLACEMENTS`.
        root_at_rest: (4, 4) world_from_root of the armature's rest pose.
    """
    if placement == "root":
        return root_at_rest @ np.linalg.inv(motion.camera_from_root.astype(np.float64))
    lowest = foot_points(category, motion)
    if placement == "camera":
        heights = transform(LEVEL, lowest)[..., 2].min(1)
        level = LEVEL.copy()
        root = motion.camera_from_root[0, :3, 3].astype(np.float64)
        level[:2, 3] = -(LEVEL[:2, :3] @ root)  # the subject starts above the world's origin
        level[2, 3] = -np.median(heights)
        return level[None]
    return on_the_ground(lowest, motion, category.nominal_size)[None]


def mean_up(motion: Motion) -> np.ndarray:
    """The body's mean up direction (3,) in camera space, frames weighted by their confidence."""
    ups = motion.camera_from_root[:, :3, 2].astype(np.float64)
    weights = np.clip(np.nan_to_num(motion.confidence.astype(np.float64)), 0.05, 1)
    up = weights @ ups
    length = np.linalg.norm(up)
    return up / length if length > 1e-3 * weights.sum() else ups[0]


def foot_points(category: Category, motion: Motion) -> np.ndarray:
    """The lowest point of each foot in each frame, (T, feet, 3) in camera space.

    A foot is what the last joint of a limb moves; a category without limbs stands on its whole body.
    """
    skeleton, body = category.skeleton, category.body
    owner = body.owner
    ends = [j for j in range(len(skeleton)) if skeleton.roles[j] == "limb" and not skeleton.children(j)]
    feet = [found for j in ends if len(found := np.flatnonzero(owner == j))] or [np.arange(len(owner))]
    vertices, joints = body.shaped(motion.morphology)
    transforms = skin_transforms(skeleton, joints, motion.joint_rotations)
    up = mean_up(motion)
    points = []
    for foot in feet:
        posed = linear_blend(vertices[foot], body.skin_index[foot], body.skin_weight[foot], transforms)
        posed = transform(motion.camera_from_root.astype(np.float64), posed)  # (T, n, 3)
        points.append(posed[np.arange(len(posed)), np.argmin(posed @ up, axis=1)])
    return np.stack(points, axis=1)


def fit_floor(points: np.ndarray, up: np.ndarray, size: float) -> tuple[np.ndarray, float]:
    """Floor `normal · x = height` under feet (T, n, 3), both in camera space.

    Reweighted least squares (Cauchy weights) over the feet in contact, with the slope held towards `up` as
    by an animal's own stance: where the subject hardly travels, or only its noisy depth does, the slope
    stays at the body's mean up; where it walks several lengths, the feet decide.

    Args:
        up: (3,) first guess of the normal.
        size: the body's nominal size, metres.
    """
    side = np.linalg.svd(up[None])[2][1:]  # (2, 3) two directions along the floor
    centre = points.reshape(-1, 3).mean(0)
    slope, height = np.zeros(2), 0.0
    local = (points - centre) @ np.concatenate([side, up[None]]).T  # (T, n, 3): along, along, above
    for _ in range(12):
        above = local[..., 2] - local[..., :2] @ slope  # height over the tilted plane through the centre
        contact = above <= above.min(axis=1, keepdims=True) + CONTACT * size
        along, h = local[contact][:, :2], local[contact][:, 2]
        residual = above[contact] - height
        weight = 1 / (1 + (residual / (0.1 * size)) ** 2)
        design = np.concatenate([along, np.ones((len(along), 1))], axis=1)
        normal_matrix = design.T @ (weight[:, None] * design)
        normal_matrix[:2, :2] += np.eye(2) * weight.sum() * (0.6 * size) ** 2
        *slope, height = np.linalg.solve(normal_matrix, design.T @ (weight * h))
        slope = np.array(slope)
        steep = np.linalg.norm(slope) / np.tan(MAX_TILT)
        slope /= max(steep, 1.0)
    above = local[..., 2] - local[..., :2] @ slope
    contact = above <= above.min(axis=1, keepdims=True) + CONTACT * size
    normal = up - slope @ side
    scale = float(np.linalg.norm(normal))
    return normal / scale, float(np.median(above[contact])) / scale + float(normal @ centre) / scale


def on_the_ground(points: np.ndarray, motion: Motion, size: float) -> np.ndarray:
    """world_from_camera (4, 4) with the floor at z = 0, the root of the first frame above the origin, and
    the camera looking towards +Y."""
    normal, height = fit_floor(points, mean_up(motion), size)
    forward = np.array([0.0, 0, 1]) - normal[2] * normal
    if np.linalg.norm(forward) < 1e-3:  # straight from above or below: the picture's up is forward
        forward = np.array([0.0, -1, 0]) + normal[1] * normal
    forward /= np.linalg.norm(forward)
    result = np.eye(4)
    result[:3, :3] = np.stack([np.cross(forward, normal), forward, normal])
    origin = motion.camera_from_root[0, :3, 3].astype(np.float64)
    origin = origin - (normal @ origin - height) * normal  # its foot on the floor
    result[:3, 3] = -result[:3, :3] @ origin
    return result
