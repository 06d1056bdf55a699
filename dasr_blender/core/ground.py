# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor under a motion, in its world (the first frame's camera): the feet, which way is up, and the plane.

Everything here stands on `Motion.world_from_root`, so that a camera that pans does not tilt the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .camera import transform
from .category import Category
from .motion import Motion
from .skeleton import skin_transforms
from .skinning import linear_blend

Array = np.ndarray

MAX_TILT = np.radians(20.0)  # between the first guess of up and the floor's normal
CONTACT = 0.06  # of the nominal size: feet this much above the lowest one are taken to stand on the floor
STANCE_PRIOR = 0.6  # how much an animal's own stance says about up: feet this many sizes apart say as much
LEVEL_PRIOR = 0.6  # the same for a camera held level


@dataclass(frozen=True, eq=False)
class Feet:
    """The feet of a motion in its world, metres. F is the number of feet.

    joints ``(F,)``: their joints.  lowest ``(T, F, 3)``: each foot's lowest point in each frame.
    sole ``(T, F, 3)``: the middle of its sole, which stays on the foot and so has a speed.
    """

    joints: Array
    lowest: Array
    sole: Array

    def part(self, frames: slice) -> Feet:
        """Those of some frames."""
        return replace(self, lowest=self.lowest[frames], sole=self.sole[frames])


def foot_joints(category: Category) -> list[int]:
    """The last joint of every limb that has skin of its own; none for a category without limbs.

    A limb of a single joint, such as a fin, has no foot: nothing stands on it.
    """
    skeleton, owner = category.skeleton, category.body.owner
    limbs = [j for j in range(len(skeleton)) if skeleton.roles[j] == "limb"]
    ends = [j for j in limbs if skeleton.parents[j] in limbs and not skeleton.children(j)]
    return [j for j in ends if np.any(owner == j)]


def leg_length(category: Category, morphology: Array) -> float:
    """Mean length of the chains of limb joints down to the feet, metres; the nominal size without limbs."""
    skeleton = category.skeleton
    _, joints = category.body.shaped(morphology)
    lengths = []
    for j in foot_joints(category):
        length = 0.0
        while skeleton.roles[j] == "limb" and skeleton.roles[parent := int(skeleton.parents[j])] == "limb":
            length += float(np.linalg.norm(joints[j] - joints[parent]))
            j = parent
        lengths.append(length)
    return float(np.mean(lengths)) if lengths else category.nominal_size


def mean_up(motion: Motion) -> Array:
    """The body's mean up direction ``(3,)`` in the world, frames weighted by their confidence."""
    ups = motion.world_from_root[:, :3, 2]
    weights = np.clip(np.nan_to_num(motion.confidence.astype(np.float64)), 0.05, 1)
    up = weights @ ups
    length = np.linalg.norm(up)
    return up / length if length > 1e-3 * weights.sum() else ups[0]


def find_feet(category: Category, motion: Motion) -> Feet:
    """Where the feet are. A category without limbs stands on its whole body, as one foot of the root."""
    body = category.body
    found = foot_joints(category)
    vertices, joints = body.shaped(motion.morphology, motion.relief)
    transforms = skin_transforms(category.skeleton, joints, motion.joint_rotations)
    world_from_root, up = motion.world_from_root, mean_up(motion)
    lowest, sole = [], []
    for j in found or [0]:
        skin = np.flatnonzero(body.owner == j) if found else np.arange(len(vertices))
        posed = linear_blend(vertices[skin], body.skin_index[skin], body.skin_weight[skin], transforms)
        posed = transform(world_from_root, posed)  # (T, n, 3)
        lowest.append(posed[np.arange(len(posed)), np.argmin(posed @ up, axis=1)])
        height = vertices[skin, 2]
        sole.append(posed[:, height <= height.min() + 0.3 * np.ptp(height)].mean(axis=1))
    return Feet(np.array(found or [0]), np.stack(lowest, axis=1), np.stack(sole, axis=1))


def fit_floor(points: Array, up: Array, size: float, level: Array | None = None) -> tuple[Array, float]:
    """Floor ``normal · x = height`` under feet ``(T, F, 3)``.

    Reweighted least squares (Cauchy weights) over the feet in contact, with the slope held towards `up` as
    by an animal's own stance, and towards what a camera held level calls up: where the subject hardly
    travels, or only its noisy depth does, these two decide; where it walks several lengths, the feet do.

    Args:
        up: ``(3,)`` first guess of the normal.
        size: the body's nominal size, metres.
        level: ``(T, 3)`` directions to the camera's right, horizontal where nobody tilts the camera
            sideways. One that pans far tells up by itself; one that stands still tells only its roll.
    """
    side = np.linalg.svd(up[None])[2][1:]  # (2, 3) two directions along the floor
    centre = points.reshape(-1, 3).mean(0)
    slope, height = np.zeros(2), 0.0
    local = (points - centre) @ np.concatenate([side, up[None]]).T  # (T, F, 3): along, along, above
    # A horizontal direction r has (up − slope @ side) · r = 0.
    prior, target = np.eye(2) * (STANCE_PRIOR * size) ** 2, np.zeros(2)
    if level is not None:
        across = level @ side.T
        prior = prior + (LEVEL_PRIOR * size) ** 2 * (across.T @ across) / len(level)
        target = (LEVEL_PRIOR * size) ** 2 * across.T @ (level @ up) / len(level)
    for _ in range(12):
        above = local[..., 2] - local[..., :2] @ slope  # height over the tilted plane through the centre
        contact = above <= above.min(axis=1, keepdims=True) + CONTACT * size
        along, h = local[contact][:, :2], local[contact][:, 2]
        residual = above[contact] - height
        weight = 1 / (1 + (residual / (0.1 * size)) ** 2)
        design = np.concatenate([along, np.ones((len(along), 1))], axis=1)
        matrix = design.T @ (weight[:, None] * design)
        right = design.T @ (weight * h)
        matrix[:2, :2] += weight.sum() * prior
        right[:2] += weight.sum() * target
        *slope, height = np.linalg.solve(matrix, right)
        slope = np.array(slope)
        steep = np.linalg.norm(slope) / np.tan(MAX_TILT)
        slope /= max(steep, 1.0)
    above = local[..., 2] - local[..., :2] @ slope
    contact = above <= above.min(axis=1, keepdims=True) + CONTACT * size
    normal = up - slope @ side
    scale = float(np.linalg.norm(normal))
    return normal / scale, float(np.median(above[contact])) / scale + float(normal @ centre) / scale


def find_floor(motion: Motion, feet: Feet, size: float) -> tuple[Array, float]:
    """The floor ``normal · x = height`` of a motion, in its world. size: the body's nominal size, metres."""
    right = np.asarray(motion.world_from_camera[:, :3, 0], np.float64)
    return fit_floor(feet.lowest, mean_up(motion), size, right)
