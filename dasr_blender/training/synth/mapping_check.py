# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a mapping lays the body on its rig, and whether it was made for the body that a category has now.

A mapping depends on the body alone: a new network, or new colours, make a new version of a category and leave every
mapping as good as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from ...core.category import Category
from ...core.skeleton import forward_kinematics, skin_transforms
from ...core.skinning import linear_blend
from .fit_rig import sample_surface
from .human_rigs import shape_hash
from .rig import Rig, RigMap, rig_map

if TYPE_CHECKING:
    from .mapping import RigMotion

SAME = 1e-3  # relative difference of the errors up to which they are the same body's


def body_hash(category: Category) -> str:
    """What a mapping depends on: surface, joints and proportions, skin and skeleton; not colours, not the network."""
    digest = hashlib.sha256(shape_hash(category).encode())
    digest.update(" ".join(category.skeleton.names).encode())
    for array, kind in (
        (category.skeleton.parents, np.int32),
        (category.skeleton.limits, np.float32),
        (category.body.faces, np.int32),
        (category.body.skin_index, np.int32),
        (category.body.skin_weight, np.float32),
    ):
        digest.update(np.ascontiguousarray(array, kind).tobytes())
    return digest.hexdigest()


def made_for(category: Category, motion: RigMotion, rig: Callable[[], Rig]) -> bool:
    """Whether a mapping holds for the category as it is; rig: reads the baked rig, where that is needed.

    Files of earlier versions do not say which body they were made for. They hold the errors that it left, and they
    hold when the category's body leaves the same.
    """
    if motion.category != category.name:
        return False
    if motion.body:
        return motion.body == body_hash(category)
    sizes = motion.joint_rotations.shape[1], len(motion.morphology)
    if sizes != (len(category.skeleton), len(category.morphology)):
        return False
    baked = rig().scaled(1 / motion.scale)
    try:
        found = residual(
            category, baked, rig_map(baked, category.skeleton.names, category.body.joints), motion
        )
    except KeyError:  # no table for the rig any more, or joints of other names
        return False
    return bool(np.allclose(found, (motion.joint_error, motion.surface_error), rtol=SAME))


def posed_body(category: Category, motion: RigMotion, pose_index: Sequence[int] | np.ndarray) -> np.ndarray:
    """The category's vertices (n,V,3) in the space and units of `rig.scaled(1 / scale)`."""
    vertices, joints = category.body.shaped(motion.morphology)
    transforms = skin_transforms(category.skeleton, joints, motion.joint_rotations[pose_index])
    world = motion.rig_from_root[pose_index]
    return linear_blend(
        vertices, category.body.skin_index, category.body.skin_weight, world[:, None] @ transforms
    )


def residual(
    category: Category, rig: Rig, mapping: RigMap, motion: RigMotion, poses: int = 12
) -> tuple[float, float]:
    """(joint, surface) error over the torso's length; `rig` in the motion's units."""
    joints = category.body.shaped(motion.morphology)[1]
    seen = mapping.has_point
    placed = motion.rig_from_root[:, None] @ forward_kinematics(
        category.skeleton, joints, motion.joint_rotations
    )
    gap = np.linalg.norm(
        placed[..., :3, 3][:, seen] - mapping.points(rig, slice(0, len(rig.pose)))[:, seen], axis=-1
    )
    pair = [[category.skeleton.index(f"{limb}_upper.{side}") for side in "LR"] for limb in ("front", "hind")]
    torso = float(np.linalg.norm(joints[pair[0]].mean(0) - joints[pair[1]].mean(0)))
    chosen = np.unique(np.linspace(0, len(rig.pose) - 1, poses).astype(int))
    body = posed_body(category, motion, chosen)
    surfaces = []
    for ours, theirs in zip(body, rig.skin(chosen), strict=True):
        a, _ = sample_surface(ours, category.body.faces, 5000, 0)
        b, _ = sample_surface(theirs, rig.faces, 5000, 0)
        surfaces.append((cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean()) / 2)
    return float(gap.mean() / torso), float(np.mean(surfaces) / torso)
