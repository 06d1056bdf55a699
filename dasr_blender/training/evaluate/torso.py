# SPDX-License-Identifier: GPL-3.0-or-later
"""Joints and root of subjects that have no labels, only named joint places (a rig with a joint map).

Both sides get the same frame from the same joints: the body's long axis and its left, so that the angle between the
frames is a root rotation error without the category's parameters.
"""

from __future__ import annotations

import numpy as np

from ...core.category import Category
from ...core.motion import Motion
from ...core.rotation import geodesic
from ..errors import TrainingError
from .scores import joint_places

Array = np.ndarray

# (left, right) pairs at one end of the torso, then at the other: shoulders, hips
ENDS = (
    ("front_upper.L", "front_upper.R", "hind_upper.L", "hind_upper.R"),
    ("upper_arm.L", "upper_arm.R", "thigh.L", "thigh.R"),
)


def torso_joints(names: tuple[str, ...]) -> tuple[str, ...]:
    """The four joints that span the torso in a skeleton: left and right shoulder, left and right hip.

    Raises TrainingError for a skeleton that has none of the known names.
    """
    for ends in ENDS:
        if set(ends) <= set(names):
            return ends
    raise TrainingError("The category's skeleton has neither legs nor arms by known names; its torso is unknown")


def frame(left_front: Array, right_front: Array, left_hind: Array, right_hind: Array) -> Array:
    """Rotations (T, 3, 3) whose columns are left, back-to-front and their normal, from places (T, 3)."""
    long = (left_front + right_front) / 2 - (left_hind + right_hind) / 2
    long = long / np.maximum(np.linalg.norm(long, axis=-1, keepdims=True), 1e-9)
    left = left_front - right_front + left_hind - right_hind
    left = left - (left * long).sum(-1, keepdims=True) * long
    left = left / np.maximum(np.linalg.norm(left, axis=-1, keepdims=True), 1e-9)
    return np.stack([left, long, np.cross(left, long)], -1)


def named_places(category: Category, found: Motion, joints: dict[str, Array]) -> tuple[Array, Array]:
    """Found and true places (T, N, 3), camera space, of the joints that are known by name."""
    names = [name for name in category.skeleton.names if name in joints]
    places = joint_places(category, found)[:, [category.skeleton.index(n) for n in names]]
    return places, np.stack([joints[n] for n in names], 1)


def torso_angle(
    category: Category, found: Motion, joints: dict[str, Array], scale: float = 1.0
) -> dict[str, Array]:
    """root_deg (T,): angle between the torsos; translation (T,): between their middles, share of the depth.

    scale: of what was found, about the camera. Empty when the torso's joints are not all known.
    """
    ends = torso_joints(category.skeleton.names)
    if not set(ends) <= set(joints):
        return {}
    places = scale * joint_places(category, found)
    ours = [places[:, category.skeleton.index(n)] for n in ends]
    theirs = [joints[n] for n in ends]
    middle, goal = sum(ours) / 4, sum(theirs) / 4
    return {
        "root_deg": np.rad2deg(geodesic(frame(*ours), frame(*theirs))),
        "translation": np.linalg.norm(middle - goal, axis=-1) / goal[:, 2],
    }
