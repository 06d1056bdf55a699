# SPDX-License-Identifier: GPL-3.0-or-later
"""What an optimised field says: poses of its frames, the surface of a subject, and pictures of both."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from ...core.rotation import (
    make_continuous,
    matrix_to_quat,
    quat_to_matrix,
    quat_to_rotvec,
    rotvec_to_quat,
    slerp,
)
from .clips import TeacherClip
from .frames import Frames
from .rays import rays_at
from .render import Model

Array = np.ndarray


@torch.no_grad()
def posed_clips(model: Model, clips: list[TeacherClip], frames: Frames) -> list[TeacherClip]:
    """The clips with the poses that the field ended with; a rejected frame lies between its neighbours."""
    poses = model.poses
    rows = torch.arange(len(frames), device=poses.turn.device)
    views, bend = poses.views(rows), poses.rotvecs(rows)
    rotation, translation, joints = (
        v.double().cpu().numpy() for v in (views.rotation, views.translation, bend)
    )
    whose = frames.clip.numpy()
    out = []
    for c, clip in enumerate(clips):
        own = np.flatnonzero(whose == c)
        if not len(own):
            out.append(clip)
            continue
        number = frames.number.numpy()[own]
        motion = clip.motion
        pose = motion.camera_from_root.astype(np.float64).copy()
        quats = motion.joint_rotations.astype(np.float64).copy()
        pose[number, :3, :3], pose[number, :3, 3] = rotation[own], translation[own]
        quats[number] = rotvec_to_quat(joints[own])
        for i in np.setdiff1d(np.arange(len(clip)), number):
            known = number[motion.shot[number] == motion.shot[i]]
            if len(known):
                pose[i], quats[i] = _between(pose, quats, known, int(i))
        quats[:, 0] = [1, 0, 0, 0]
        out.append(
            clip.with_motion(
                replace(
                    motion,
                    camera_from_root=pose,
                    joint_rotations=make_continuous(quats),
                    morphology=model.shape.coefficients(clip.subject),
                    relief=np.zeros(0),
                )
            )
        )
    return out


def _between(pose: Array, quats: Array, known: Array, i: int) -> tuple[Array, Array]:
    """Frame i's root pose (4, 4) and joints (J, 4) from the known frames on either side."""
    after = int(np.searchsorted(known, i))
    low, high = int(known[max(after - 1, 0)]), int(known[min(after, len(known) - 1)])
    share = 0.0 if high == low else float(np.clip((i - low) / (high - low), 0, 1))
    out = np.eye(4)
    turn = pose[low, :3, :3].T @ pose[high, :3, :3]
    angle = quat_to_rotvec(matrix_to_quat(turn))
    out[:3, :3] = pose[low, :3, :3] @ quat_to_matrix(rotvec_to_quat(share * angle))
    out[:3, 3] = (1 - share) * pose[low, :3, 3] + share * pose[high, :3, 3]
    return out, slerp(quats[low], quats[high], np.full((len(quats[low]),), share))


@torch.no_grad()
def subject_surface(model: Model, subject: int, resolution: int = 128) -> tuple[Array, Array, Array]:
    """Vertices (N, 3) at rest of a subject, metres; faces (M, 3); and the vertices in canonical space.

    Raises TrainingError when the field holds no surface.
    """
    from .mesh import extract_mesh

    device = model.told.device

    def distance(points: Array) -> Array:
        at = torch.as_tensor(np.asarray(points, np.float32), device=device)
        return torch.cat([model.canonical.distance(part) for part in at.split(65536)]).cpu().numpy()

    box = model.canonical.box
    vertices, faces = extract_mesh(distance, box.low, box.high, resolution)
    at = torch.as_tensor(vertices, dtype=torch.float32, device=device)[None]
    who = torch.tensor([subject], device=device)
    rest = model.morphology.to_subject(at, model.shape.beta[who], who)[0]
    return rest.double().cpu().numpy(), faces, vertices


@torch.no_grad()
def field_overlap(model: Model, frames: Frames, most: int = 48, side: int = 48) -> float:
    """Mean agreement of the field's silhouettes with the masks, over `most` frames spread over all."""
    found = []
    for row in np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int).tolist():
        mask, opacity, _, _ = _looked(model, frames, row, side, 0.005 * model.canonical.unit)
        shown, drawn = mask > 0.5, opacity > 0.5
        found.append(float((shown & drawn).sum() / (shown | drawn).sum().clamp_min(1)))
    return float(np.mean(found))


def _looked(
    model: Model, frames: Frames, row: int, side: int, beta: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A frame's mask (P,), and the field's opacity (P,), colours and canonical points (P, 3), P = side²."""
    whole, device = frames.mask.shape[-1], model.told.device
    pixel = ((torch.arange(side).float() + 0.5) / side * whole).long()
    grid = (pixel[:, None] * whole + pixel[None]).reshape(1, -1)
    at = torch.tensor([row])
    posed = model.posed(at.to(device), frames.subject[at].to(device), frames.clip[at].to(device))
    rays = rays_at(frames, model.poses.start_info[at.to(device)], at, grid)
    seen = model.render(rays, posed, beta)
    return rays.mask[0], seen.opacity[0].clamp(0, 1), seen.colour[0], seen.rest[0]


@torch.no_grad()
def field_picture(model: Model, frames: Frames, rows: list[int], beta: float, side: int = 64) -> Array:
    """For each frame: input | render | mask error | canonical points as colours; (rows·P, 4·P, 3) uint8."""
    strips = []
    whole = frames.mask.shape[-1]
    pixel = ((torch.arange(side).float() + 0.5) / side * whole).long()
    low, span = model.canonical.base.low, model.canonical.base.span
    for row in rows:
        mask, opacity, colour, rest = _looked(model, frames, row, side, beta)
        shown = frames.colour[row][:, pixel][:, :, pixel].permute(1, 2, 0).reshape(-1, 3).float() / 255
        body = opacity[:, None] * colour + (1 - opacity[:, None]) * 0.15
        error = torch.stack([(mask - opacity).clamp_min(0), (opacity - mask).clamp_min(0)], -1)
        error = torch.cat([error, 0.4 * torch.minimum(opacity, mask)[:, None]], -1)
        points = ((rest - low) / span).clamp(0, 1) * opacity[:, None]
        panels = [p.reshape(side, side, 3).cpu().numpy() for p in (shown, body, error, points)]
        strips.append(np.concatenate(panels, 1))
    image = (np.concatenate(strips) * 255).round().clip(0, 255).astype(np.uint8)
    return cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
