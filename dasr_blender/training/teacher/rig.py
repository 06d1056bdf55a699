# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves: root poses and joints of every frame, proportions of every subject, bone lengths of every video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...core.camera import crop_info, encode_root
from ...core.category import Category
from ...core.rotation import quat_to_rotvec
from ..student.body import Kinematics
from ..student.rotation import rotvec_to_matrix
from .clips import TeacherClip

Array = np.ndarray


@dataclass
class Views:
    """Root poses of B frames: rotation (B, 3, 3) and translation (B, 3), camera_from_root, metres."""

    rotation: Tensor
    translation: Tensor

    def camera(self, points: Tensor) -> Tensor:
        """Body points (B, N, 3) → camera space."""
        return points @ self.rotation.transpose(1, 2) + self.translation[:, None]

    def body(self, points: Tensor) -> Tensor:
        """Camera points (B, N, 3) → body space."""
        return (points - self.translation[:, None]) @ self.rotation


@dataclass
class Bones:
    """Bones of B frames. A point x at rest of the subject lies at turn·stretch·(x − joint) + place under each.

    turn, stretch and loosen, its inverse: (B, J, 3, 3); joint (B, J, 3), at rest; place (B, J, 3), body space.
    """

    turn: Tensor
    stretch: Tensor
    loosen: Tensor
    joint: Tensor
    place: Tensor

    def forward_affine(self) -> tuple[Tensor, Tensor]:
        """(B, J, 3, 3) and (B, J, 3): posed = linear · (x − joint) + place."""
        return self.turn @ self.stretch, self.place

    def backward_affine(self) -> tuple[Tensor, Tensor]:
        """(B, J, 3, 3) and (B, J, 3): x − joint = linear · posed + offset."""
        linear = self.loosen @ self.turn.transpose(-1, -2)
        return linear, -(linear @ self.place[..., None])[..., 0]


TAPS = (0.06, 0.24, 0.4, 0.24, 0.06)
"""how a residual is spread over a frame and those beside it"""


class Poses(nn.Module):
    """Root pose and joints of N frames, as residuals on where they start, smooth in time.

    A frame's residual is a weighted mean of its own value and its neighbours' in its shot, so that what one frame
    learns moves those beside it too.
    """

    def __init__(self, clips: list[TeacherClip], frames: list[tuple[int, int]]) -> None:
        """frames: (clip, frame in it) of each of the N."""
        super().__init__()
        joints = clips[0].motion.joint_rotations.shape[1]
        rotation, place, bend, info, lens = [], [], [], [], []
        for clip in clips:
            motion, scene = clip.motion, clip.scene
            focal = np.asarray(motion.focal_px, np.float64)
            _, where = encode_root(
                motion.camera_from_root, scene.center, scene.side, focal, motion.principal_point
            )
            rotation.append(motion.camera_from_root[:, :3, :3])
            place.append(where)
            lens.append(focal)
            bend.append(quat_to_rotvec(motion.joint_rotations.astype(np.float64)))
            info.append(crop_info(scene.center, scene.side, focal, motion.principal_point))
        index = np.array(frames)
        offset = np.cumsum([0, *[len(clip) for clip in clips]])
        rows = offset[index[:, 0]] + index[:, 1]
        starts = (("rotation", rotation), ("place", place), ("bend", bend), ("info", info), ("focal", lens))
        for name, values in starts:
            self.register_buffer(
                f"start_{name}", torch.tensor(np.concatenate(values)[rows], dtype=torch.float32)
            )
        beside = np.arange(len(rows))[:, None] + np.arange(-(len(TAPS) // 2), len(TAPS) // 2 + 1)
        inside = np.clip(beside, 0, len(rows) - 1)
        same = (beside == inside) & (rows[inside] - rows[:, None] == beside - np.arange(len(rows))[:, None])
        shot = np.concatenate([clip.motion.shot for clip in clips])[rows]
        same &= (index[inside, 0] == index[:, :1]) & (shot[inside] == shot[:, None])
        taps = same * np.array(TAPS)
        self.register_buffer("beside", torch.tensor(inside))
        taps = torch.tensor(taps / taps.sum(1, keepdims=True), dtype=torch.float32)
        self.register_buffer("taps", taps)
        self.turn = nn.Parameter(torch.zeros(len(rows), 3))
        self.shift = nn.Parameter(torch.zeros(len(rows), 3))
        self.bend = nn.Parameter(torch.zeros(len(rows), joints, 3))

    start_rotation: Tensor
    start_place: Tensor
    start_bend: Tensor
    start_info: Tensor
    start_focal: Tensor
    beside: Tensor
    taps: Tensor

    def residual(self, values: Tensor, rows: Tensor) -> Tensor:
        """Values (N, …) at frames (B, …), spread over time."""
        near = values[self.beside[rows]]  # (…, taps, …)
        return torch.einsum("...t,...tc->...c", self.taps[rows], near.flatten(rows.ndim + 1)).reshape(
            *rows.shape, *values.shape[1:]
        )

    def views(self, rows: Tensor) -> Views:
        """Root poses of frames (B,)."""
        rotation = rotvec_to_matrix(self.residual(self.turn, rows)) @ self.start_rotation[rows]
        place, info = self.start_place[rows] + self.residual(self.shift, rows), self.start_info[rows]
        depth = torch.exp(place[:, 2:].clamp(-3, 5)) / info[:, 2:]
        across = (info[:, :2] + info[:, 2:] * place[:, :2]) * depth
        return Views(rotation, torch.cat([across, depth], 1))

    def rotvecs(self, rows: Tensor) -> Tensor:
        """Rotation vectors of the joints (B, J, 3), the root's zero."""
        joints = self.start_bend[rows] + self.residual(self.bend, rows)
        return torch.cat([torch.zeros_like(joints[:, :1]), joints[:, 1:]], 1)


class Shape(nn.Module):
    """Proportions of the subjects and bone lengths of the videos; the canonical body is the one at `morphology`."""

    def __init__(self, category: Category, morphology: Array, subjects: int, clips: int) -> None:
        super().__init__()
        body, skeleton = category.body, category.skeleton
        _, joints = body.shaped(morphology)
        std = body.morphology_scale
        self.kinematics = Kinematics(skeleton.parents)
        child = np.full(len(joints), -1)
        for j in range(len(joints) - 1, 0, -1):  # the first child; a chain has only one
            child[skeleton.parents[j]] = j
        axis = np.where(child[:, None] >= 0, joints[child] - joints, 0.0)
        length = np.linalg.norm(axis, axis=1, keepdims=True)
        for name, values in (
            ("joints", joints),
            ("basis", body.morphology_joints * std[:, None, None]),
            ("axis", axis / np.maximum(length, 1e-6)),
            ("limits", skeleton.limits),
        ):
            self.register_buffer(name, torch.tensor(np.ascontiguousarray(values), dtype=torch.float32))
        self.child = torch.tensor(child)
        self.mirror = torch.tensor(skeleton.mirror.astype(np.int64))
        self.parents = torch.tensor(np.maximum(skeleton.parents, 0).astype(np.int64))
        self.std, self.morphology = std, np.asarray(morphology, np.float64)
        self.beta = nn.Parameter(torch.zeros(subjects, len(std)))
        self.length = nn.Parameter(torch.zeros(clips, len(joints)))

    joints: Tensor
    basis: Tensor
    axis: Tensor
    limits: Tensor

    def lengths(self, clips: Tensor) -> Tensor:
        """Log lengths (B, J) of the bones that end in each joint, the same on the left and on the right."""
        own = self.length[clips]
        return 0.5 * (own + own[:, self.mirror])

    def bones(self, rotvecs: Tensor, subjects: Tensor, clips: Tensor) -> Bones:
        """Bones of B frames: rotvecs (B, J, 3), subjects (B,), clips (B,)."""
        joint = self.joints + torch.einsum("bk,kjc->bjc", self.beta[subjects], self.basis)
        scale = torch.exp(self.lengths(clips))
        offset = (joint - joint[:, self.parents]) * scale[
            ..., None
        ]  # zero at the root, which stays at the origin
        turn, place = self.kinematics.posed(rotvec_to_matrix(rotvecs), offset)
        own = torch.where(self.child >= 0, scale[:, self.child.clamp_min(0)], torch.ones_like(scale))
        along = self.axis[:, :, None] * self.axis[:, None, :]  # (J, 3, 3)
        eye = torch.eye(3, device=joint.device, dtype=joint.dtype)
        stretch = eye + (own[..., None, None] - 1) * along
        loosen = eye + (1 / own[..., None, None] - 1) * along
        return Bones(turn, stretch, loosen, joint, place)

    def coefficients(self, subject: int) -> Array:
        """Morphology (K,) of a subject in the category's units."""
        return self.morphology + self.beta[subject].detach().cpu().double().numpy() * self.std
