# SPDX-License-Identifier: GPL-3.0-or-later
"""Human motion that depends on no body: recorded clips brought to one skeleton in one rest pose.

Everything is told about a plain T-pose: the 22 joints of the human category, arms level, legs straight down,
Z up, looking along −Y, left is +X. A body whose own rest pose is another (arms lowered, feet apart) gets a motion
by `to_rest`, which turns each limb so that it points where the motion says.

Recordings come from `motion_files` and from the clips of a rigged character that `bake` read (`rig_motions`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...core.rotation import (
    make_continuous,
    matrix_to_quat,
    quat_multiply,
    quat_to_matrix,
    rotvec_to_matrix,
    slerp,
)
from .rig import Rig
from .rigs import RigSpec, find_bone

NAMES = (
    "root",
    "spine_1",
    "spine_2",
    "chest",
    "neck",
    "head",
    *(f"{n}.L" for n in ("shoulder", "upper_arm", "forearm", "hand")),
    *(f"{n}.R" for n in ("shoulder", "upper_arm", "forearm", "hand")),
    *(f"{n}.L" for n in ("thigh", "shin", "foot", "toe")),
    *(f"{n}.R" for n in ("thigh", "shin", "foot", "toe")),
)
PARENTS = np.array([-1, 0, 1, 2, 3, 4, 3, 6, 7, 8, 3, 10, 11, 12, 0, 14, 15, 16, 0, 18, 19, 20])
INDEX = {name: i for i, name in enumerate(NAMES)}
MIRROR = np.array([INDEX[n[:-1] + {"L": "R", "R": "L"}[n[-1]]] if n[-2:] in (".L", ".R") else i
                   for i, n in enumerate(NAMES)])  # fmt: skip
LIMBS = tuple(i for i, n in enumerate(NAMES) if n[:-2] in ("upper_arm", "forearm", "thigh", "shin"))
"""Joints whose direction is told by the next joint, and which `to_rest` turns to it."""


def _t_pose() -> np.ndarray:
    """Places of the joints (22, 3) of a plain figure of 1.7 m, root at the origin."""
    place = {
        "spine_1": (0, 0, 0.1),
        "spine_2": (0, 0, 0.22),
        "chest": (0, 0, 0.34),
        "neck": (0, 0, 0.52),
        "head": (0, 0, 0.62),
        "shoulder": (0.03, 0, 0.47),
        "upper_arm": (0.17, 0, 0.47),
        "forearm": (0.45, 0, 0.47),
        "hand": (0.7, 0, 0.47),
        "thigh": (0.09, 0, -0.02),
        "shin": (0.09, 0, -0.44),
        "foot": (0.09, 0, -0.85),
        "toe": (0.09, -0.13, -0.91),
    }
    out = np.zeros((len(NAMES), 3))
    for i, name in enumerate(NAMES[1:], 1):
        x, y, z = place[name.removesuffix(".L").removesuffix(".R")]
        out[i] = (-x if name.endswith(".R") else x, y, z)
    return out


T_POSE = _t_pose()


@dataclass(frozen=True)
class HumanMotion:
    """One stretch of movement.

    rotations (T, 22, 4): local, wxyz, away from the T-pose, the root's always identity; world_from_root (T, 4, 4):
    Z up, metres of a figure of 1.7 m; fps; loops: the end joins the beginning; source: where it was recorded.
    """

    name: str
    rotations: np.ndarray
    world_from_root: np.ndarray
    fps: float
    loops: bool = False
    source: str = ""

    def __len__(self) -> int:
        return len(self.rotations)


# -- kinematics without a category ---------------------------------------------------------------------------


def global_rotations(local: np.ndarray) -> np.ndarray:
    """Local rotation matrices (T, J, 3, 3) to those in the root's frame."""
    out = np.empty_like(local)
    for j, parent in enumerate(PARENTS):
        out[:, j] = local[:, j] if parent < 0 else out[:, parent] @ local[:, j]
    return out


def local_rotations(turned: np.ndarray) -> np.ndarray:
    """The inverse of `global_rotations`."""
    out = turned.copy()
    out[:, 1:] = np.swapaxes(turned[:, PARENTS[1:]], -1, -2) @ turned[:, 1:]
    return out


def joint_places(rotations: np.ndarray, joints: np.ndarray = T_POSE) -> np.ndarray:
    """Joints (T, J, 3) in the root's frame for local rotations (T, J, 4) and rest places (J, 3)."""
    turned = global_rotations(quat_to_matrix(rotations))
    out = np.zeros((*rotations.shape[:2], 3))
    for j, parent in enumerate(PARENTS):
        if parent >= 0:
            out[:, j] = out[:, parent] + turned[:, parent] @ (joints[j] - joints[parent])
    return out


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smallest rotation (…, 3, 3) that takes directions a to b, (…, 3); half a turn about any axis if opposed."""
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    axis, cosine = np.cross(a, b), np.clip((a * b).sum(-1), -1, 1)
    sine = np.linalg.norm(axis, axis=-1)
    spare = np.cross(a, np.eye(3)[np.abs(a).argmin(-1)])
    axis = np.where(sine[..., None] > 1e-9, axis, spare)
    axis = axis / np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-12)
    return rotvec_to_matrix(axis * np.arctan2(sine, cosine)[..., None])


def limb_directions(joints: np.ndarray) -> np.ndarray:
    """(J, 3) from each of `LIMBS` to the next joint, zero for the others; joints (J, 3)."""
    out = np.zeros((len(NAMES), 3))
    for j in LIMBS:
        out[j] = joints[j + 1] - joints[j]
    return out


def rest_correction(joints: np.ndarray) -> np.ndarray:
    """M (J, 3, 3): a body's limbs at rest turned to the T-pose's, so that global rotation_body = rotation · M.

    joints (J, 3): the body's rest joints. Hands and feet go with their limb; spine, head and clavicles stay.
    """
    own, wanted = limb_directions(joints), limb_directions(T_POSE)
    out = np.tile(np.eye(3), (len(NAMES), 1, 1))
    for j in LIMBS:
        out[j] = between(own[j], wanted[j])
    for j, name in enumerate(NAMES):
        if name.startswith("hand"):
            out[j] = out[PARENTS[j]]
    return out


def to_rest(rotations: np.ndarray, correction: np.ndarray) -> np.ndarray:
    """Local rotations (T, J, 4) about the T-pose as those about the rest pose of `correction` (J, 3, 3)."""
    turned = global_rotations(quat_to_matrix(rotations)) @ correction
    return make_continuous(matrix_to_quat(local_rotations(turned)))


def mirrored(motion: HumanMotion) -> HumanMotion:
    """Left and right exchanged."""
    flip = np.array([1.0, 1.0, -1.0, -1.0])
    world = motion.world_from_root.copy()
    side = np.diag([-1.0, 1.0, 1.0, 1.0])
    return HumanMotion(
        motion.name,
        motion.rotations[:, MIRROR] * flip,
        side @ world @ side,
        motion.fps,
        motion.loops,
        motion.source,
    )


# -- a rigged character's clips ------------------------------------------------------------------------------


def rig_limbs(rig: Rig, spec: RigSpec) -> tuple[np.ndarray, np.ndarray]:
    """Bone of each joint (J,), −1 where the rig has none, and rest directions (J, 3) of its limbs."""
    names = list(rig.bone_names)
    bone = np.array([find_bone(names, spec.links[n].bones[0]) if n in spec.links else -1 for n in NAMES])
    place = np.where(bone[:, None] >= 0, rig.bone_heads[bone], 0.0)
    return bone, limb_directions(place)


def rig_correction(rig: Rig, spec: RigSpec) -> tuple[np.ndarray, np.ndarray]:
    """Bone of each joint (J,) and M (J, 3, 3) as in `rest_correction`, for a baked rig's rest pose."""
    bone, direction = rig_limbs(rig, spec)
    wanted = limb_directions(T_POSE)
    out = np.tile(np.eye(3), (len(NAMES), 1, 1))
    for j in LIMBS:
        out[j] = between(direction[j], wanted[j])
    for j, name in enumerate(NAMES):
        if name.startswith("hand"):
            out[j] = out[PARENTS[j]]
    return bone, out


def rig_motions(rig: Rig, spec: RigSpec, stature: float = 1.7) -> Iterator[HumanMotion]:
    """Every clip of a baked rig; places are scaled so that the rig stands `stature` metres high.

    A joint without a bone goes with its parent; a turn of the spine is shared with the joints left out.
    """
    bone, correction = rig_correction(rig, spec)
    scale = stature / float(np.ptp(rig.vertices[:, 2]))
    for c, name in enumerate(rig.clip_names):
        poses = rig.clip_slice(c)
        transforms = rig.skin_transforms(poses)
        u, _, vt = np.linalg.svd(transforms[..., :3, :3])
        sign = np.linalg.det(u @ vt)
        u[..., 2] *= sign[..., None]
        turn = u @ vt  # (T, B, 3, 3)
        world = np.tile(np.eye(4), (len(turn), 1, 1))
        root = bone[0]
        world[:, :3, :3] = turn[:, root]
        home = np.append(rig.bone_heads[root], 1.0)
        world[:, :3, 3] = (transforms[:, root] @ home)[:, :3] * scale
        turned = np.empty((len(turn), len(NAMES), 3, 3))
        for j, parent in enumerate(PARENTS):
            if j == 0:
                turned[:, j] = np.eye(3)
            elif bone[j] < 0:
                turned[:, j] = turned[:, parent]
            else:
                turned[:, j] = (
                    np.swapaxes(turn[:, root], -1, -2) @ turn[:, bone[j]] @ np.swapaxes(correction[j], -1, -2)
                )
        rotations = _spread_spine(matrix_to_quat(local_rotations(turned)), bone)
        gap = np.abs(transforms[0] - transforms[-1]).max()
        yield HumanMotion(
            str(name),
            make_continuous(rotations),
            world,
            rig.fps,
            bool(len(turn) > 2 and gap < 0.05),
            rig.name,
        )


def _spread_spine(rotations: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """Give a joint without a bone half of the turn of the next one up the spine, (T, J, 4)."""
    out = rotations.copy()
    for lower, upper in (("spine_2", "chest"), ("neck", "head")):
        i, j = INDEX[lower], INDEX[upper]
        if bone[i] < 0 <= bone[j]:
            half = slerp(np.array([1.0, 0, 0, 0]), out[:, j], np.array(0.5))
            out[:, i] = quat_multiply(out[:, i], half)
            out[:, j] = half
    return out
