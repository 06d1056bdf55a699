# SPDX-License-Identifier: GPL-3.0-or-later
"""The joint tree and its kinematics.

All joint frames are aligned with body space at rest, so a joint's rotation is about its rest position,
in its parent's frame, and the identity is the rest pose. With rest joints ``J``:

    G_root = Translate(J_root)
    G_j    = G_parent · Translate(J_j − J_parent) · Rot(q_j)
    S_j    = G_j · Translate(−J_j)

The root's own rotation is not part of the pose: ``camera_from_root`` holds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .rotation import mirror_quat, quat_to_matrix, quat_to_rotvec, rotvec_to_quat

Array = np.ndarray

ROLES = ("root", "spine", "limb", "tail", "head")


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A joint tree, parents before children.

    names: one per joint.  parents: ``(J,)`` int, −1 for the root.  mirror: ``(J,)`` int, the joint on the
    other side (itself in the middle).  limits: ``(J, 3, 2)`` lower and upper bound of each component of the
    joint's rotation vector, radians.  roles: one of :data:`ROLES` per joint.
    """

    names: tuple[str, ...]
    parents: Array
    mirror: Array
    limits: Array
    roles: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        for name, dtype in (("parents", np.int32), ("mirror", np.int32), ("limits", np.float64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "roles", tuple(self.roles))
        if len(set(self.names)) != count:
            raise ValueError("joint names must be unique")
        if self.parents.shape != (count,) or self.mirror.shape != (count,) or len(self.roles) != count:
            raise ValueError(f"parents, mirror and roles must have one entry for each of the {count} joints")
        if self.limits.shape != (count, 3, 2):
            raise ValueError(f"limits must have the shape ({count}, 3, 2), not {self.limits.shape}")
        if count == 0 or self.parents[0] != -1:
            raise ValueError("the first joint must be the root, with parent -1")
        if np.any(self.parents[1:] < 0) or np.any(self.parents[1:] >= np.arange(1, count)):
            raise ValueError("every joint but the root needs a parent that comes before it")
        if np.any(self.mirror < 0) or np.any(self.mirror >= count):
            raise ValueError("mirror must hold joint numbers")
        if np.any(self.mirror[self.mirror] != np.arange(count)):
            raise ValueError("mirror must be its own inverse")
        if not np.all(self.limits[..., 0] <= self.limits[..., 1]):
            raise ValueError("every lower limit must be at most its upper limit")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Number of the joint called `name`; KeyError when there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f"no joint is called '{name}'") from None

    def children(self, joint: int) -> tuple[int, ...]:
        """Numbers of the joints whose parent is `joint`."""
        return tuple(int(j) for j in np.flatnonzero(self.parents == joint))

    def chain(self, joint: int) -> tuple[int, ...]:
        """Joints from the root down to `joint`, both included."""
        found = [int(joint)]
        while self.parents[found[-1]] >= 0:
            found.append(int(self.parents[found[-1]]))
        return tuple(reversed(found))

    def main_child(self, joint: int) -> int | None:
        """The joint that `joint`'s bone points to, None where it ends: at a leaf, or where only leaves branch off (ears
        and jaw of a head) or only pairs do.

        Where the tree branches, it is a joint in the middle of the body, of the same role if possible, with the most
        joints behind it.
        """
        children = self.children(joint)
        if len(children) == 1:
            return children[0]
        if not any(self.children(c) for c in children):
            return None

        def weight(child: int) -> tuple[bool, int]:
            behind = sum(child in self.chain(j) for j in range(len(self)))
            return self.roles[child] == self.roles[joint], behind

        return max((c for c in children if self.mirror[c] == c), key=weight, default=None)


def forward_kinematics(skeleton: Skeleton, joints: Array, rotations: Array) -> Array:
    """Pose the tree.

    joints: rest positions ``(J, 3)`` or ``(T, J, 3)``, metres.  rotations: ``(T, J, 4)`` wxyz.
    Returns ``body_from_joint`` ``(T, J, 4, 4)``, float64.
    """
    joints = np.asarray(joints, dtype=np.float64)
    local = quat_to_matrix(np.asarray(rotations, dtype=np.float64))  # (T, J, 3, 3)
    frames, count = local.shape[:2]
    joints = np.broadcast_to(joints, (frames, count, 3))
    posed = np.zeros((frames, count, 4, 4))
    posed[..., 3, 3] = 1
    posed[:, 0, :3, :3] = np.eye(3)
    posed[:, 0, :3, 3] = joints[:, 0]
    parents = skeleton.parents
    offsets = (joints - joints[:, np.maximum(parents, 0)])[..., None]  # (T, J, 3, 1)
    for j in range(1, count):
        p = parents[j]
        above = posed[:, p, :3, :3]
        posed[:, j, :3, :3] = above @ local[:, j]
        posed[:, j, :3, 3] = (above @ offsets[:, j])[..., 0] + posed[:, p, :3, 3]
    return posed


def skin_transforms(skeleton: Skeleton, joints: Array, rotations: Array) -> Array:
    """Transforms ``(T, J, 4, 4)`` that carry rest-pose points to posed points, joint by joint.

    Arguments as :func:`forward_kinematics`.
    """
    posed = forward_kinematics(skeleton, joints, rotations)
    rest = np.broadcast_to(np.asarray(joints, dtype=np.float64), posed.shape[:2] + (3,))
    posed[..., :3, 3] -= np.einsum("tjab,tjb->tja", posed[..., :3, :3], rest)
    return posed


def clamp_rotations(skeleton: Skeleton, rotations: Array) -> Array:
    """Bring ``(..., J, 4)`` rotations within the limits, component by component of the rotation vector."""
    vectors = quat_to_rotvec(rotations)
    limits = skeleton.limits.astype(vectors.dtype)
    return rotvec_to_quat(np.clip(vectors, limits[..., 0], limits[..., 1]))


def mirror_rotations(skeleton: Skeleton, rotations: Array) -> Array:
    """The pose ``(..., J, 4)`` with left and right exchanged."""
    return mirror_quat(np.asarray(rotations)[..., skeleton.mirror, :])


def local_from_global(skeleton: Skeleton, global_rot: Array) -> Array:
    """Rotations in body space ``(T, J, 3, 3)`` to rotations in the parent's frame, same shape.

    The root has no parent and keeps its entry.
    """
    global_rot = np.asarray(global_rot)
    local = global_rot.copy()
    above = global_rot[:, skeleton.parents[1:]]
    local[:, 1:] = np.swapaxes(above, -1, -2) @ global_rot[:, 1:]
    return local
