# SPDX-License-Identifier: GPL-3.0-or-later
"""A rig's surface on the category's skeleton, so that it takes on other proportions and any motion.

A dozen rigs, each with one build and one way to stand, teach a network to know the rig and remember how it stands.
Taken out of its own pose by its labels and skinned as the category's body beside it is, the same surface stands, walks
and is built like any other, with labels as exact as a rig's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree

from ...core.category import Category
from ...core.rotation import quat_to_rotvec
from ...core.skeleton import skin_transforms
from ...core.skinning import dense_weights, linear_blend
from .subjects import MappedRig, body_in_world, posed_in_world

_NEIGHBOURS = 8
_FAR = 0.03
"""share of the body's length beyond which a surface point does not belong to what is thin beside it"""


@dataclass(frozen=True)
class Skin:
    """A surface at rest on a category's skeleton: vertices (R, 3) in body axes for proportions `morphology` (K,).

    near, share (R, n): vertices of the category's body that each goes along with, and how much with each;
    skin_index, skin_weight (R, 4): from theirs.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    morphology: np.ndarray
    near: np.ndarray
    share: np.ndarray
    skin_index: np.ndarray
    skin_weight: np.ndarray

    def in_world(
        self, category: Category, morphology: np.ndarray, rotations: np.ndarray, world: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Vertices at rest (R, 3), and posed in the world (T, R, 3) float32; arguments as `body_in_world`.

        For other proportions each vertex moves as the body beside it does.
        """
        body, joints = category.body.shaped(morphology)
        change = body - category.body.shaped(self.morphology)[0]
        rest = self.vertices + np.einsum("rn,rni->ri", self.share, change[self.near])
        return rest, posed_in_world(
            category, rest, self.skin_index, self.skin_weight, joints, rotations, world
        )


def beside(body: np.ndarray, points: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far points (R, 3) are from the vertices of a body (V, 3), which of these each goes along with (R, n), and how
    much with each (R, n). reach: the distance from which the nearest count clearly more than the others."""
    distance, near = cKDTree(body).query(points, _NEIGHBOURS)
    share = 1.0 / (distance + reach)
    return distance[:, 0], near, share / share.sum(1, keepdims=True)


@lru_cache(maxsize=32)
def skin_of(rig: MappedRig, category: Category) -> Skin:
    """A rig's surface, taken to rest out of the pose in which its labelled body is nearest to rest."""
    skeleton, body = category.skeleton, category.body
    shown = np.concatenate([np.arange(first, end) for first, end in rig.clip_range])
    turned = np.linalg.norm(quat_to_rotvec(rig.joint_rotations[shown]), axis=-1).mean(1)
    pose = shown[[int(turned.argmin())]]
    rotations, world = rig.joint_rotations[pose], rig.world_from_root[pose]
    surface = linear_blend(rig.vertices, rig.skin_index, rig.skin_weight, rig.skin_pose[pose])[0]
    _, labelled = body_in_world(category, rig.morphology, rotations, world)
    length = float(np.ptp(body.vertices[:, 1]))
    distance, near, share = beside(labelled[0], surface, 0.01 * length)
    weight = dense_weights(body.skin_index, body.skin_weight, len(skeleton))
    weight = np.einsum("rn,rnj->rj", share, weight[near])
    parents = np.asarray(skeleton.parents)
    far = distance > _FAR * length
    for joint in np.setdiff1d(np.arange(len(skeleton)), parents):  # antlers go with the head, not an ear
        weight[far, parents[joint]] += weight[far, joint]
        weight[far, joint] = 0.0
    index = np.argsort(-weight, 1)[:, :4]
    weight = np.take_along_axis(weight, index, 1)
    weight /= weight.sum(1, keepdims=True)
    transforms = world[:, None] @ skin_transforms(skeleton, body.shaped(rig.morphology)[1], rotations)
    blended = np.einsum("rk,rkab->rab", weight, transforms[0][index])
    rest = np.linalg.solve(blended[:, :3, :3], (surface - blended[:, :3, 3])[..., None])[..., 0]
    return Skin(rig.name, rest, rig.faces, rig.colours, rig.morphology, near, share, index, weight)
