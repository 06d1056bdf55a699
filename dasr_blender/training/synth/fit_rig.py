# SPDX-License-Identifier: GPL-3.0-or-later
"""Least-squares fits of the category's body to a baked rig: once at rest, then for every pose.

Both minimise squared distances over joint rotations with Adam on automatic derivatives. Lengths are metres of the
rig, whose torso is 0.6 m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from ...core.category import Category
from ...core.mesh import area_samples, vertex_normals
from .rig import Rig, RigMap

Tensor = torch.Tensor


@dataclass(frozen=True)
class FitConfig:
    """Weights of the fits: each sigma is the deviation that costs one unit."""

    point_sigma: float = 0.02
    """Joint places, metres."""
    surface_sigma: float = 0.02
    """Surface distance, metres."""
    surface_reach: tuple[float, float] = (0.2, 0.08)
    """Distances beyond this hardly count (antlers, horns, collars), metres, at the first step and at the last."""
    morphology_sigma: float = 2.0
    """Proportions, in standard deviations of the category: wide, as the whole surface is seen."""
    rest_sigma: float = 0.6
    """Rotation of a joint at the rig's rest, radians."""
    limit_sigma: float = 0.1
    """Rotation beyond the joint's limits at the rig's rest, radians."""
    unmoved_sigma: float = 0.05
    """Rotation at rest of a joint that no bone of the rig moves (a shut jaw), radians."""
    pose_sigma: float = 0.25
    """Rotation away from what the rig's bones say, radians."""
    joint_steps: int = 150
    surface_steps: int = 200
    pose_steps: int = 60
    pose_vertices: int = 300
    """Vertices of the body that follow the rig in the per-pose fit."""
    seed: int = 0


@dataclass(frozen=True)
class RestFit:
    """The body in the rig's rest pose: rig = rotation (scale · body) + translation."""

    scale: float
    morphology: np.ndarray  # (K,)
    rotations: np.ndarray  # (J, 3, 3) local
    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray  # (3,)


class TorchBody:
    """The category's body as torch tensors, with kinematics and skinning over a batch of poses."""

    def __init__(self, category: Category) -> None:
        body, skeleton = category.body, category.skeleton

        def real(x: np.ndarray) -> Tensor:
            return torch.tensor(np.asarray(x), dtype=torch.float32)

        self.parents = [int(p) for p in skeleton.parents]
        self.mirror = torch.tensor(np.asarray(skeleton.mirror), dtype=torch.long)
        self.vertices, self.joints = real(body.vertices), real(body.joints)
        self.morphology_vertices, self.morphology_joints = (
            real(body.morphology_vertices),
            real(body.morphology_joints),
        )
        self.std = real(body.morphology_std)
        self.low = real(np.array([p.minimum for p in category.morphology]))
        self.high = real(np.array([p.maximum for p in category.morphology]))
        self.limits = real(skeleton.limits)
        self.skin = torch.zeros(len(body.vertices), len(self.parents))
        self.skin.scatter_add_(1, torch.tensor(body.skin_index, dtype=torch.long), real(body.skin_weight))

    def shaped(self, beta: Tensor) -> tuple[Tensor, Tensor]:
        """Rest vertices (V,3) and joints (J,3) of a morphology."""
        return (
            self.vertices + torch.einsum("k,kvi->vi", beta, self.morphology_vertices),
            self.joints + torch.einsum("k,kji->ji", beta, self.morphology_joints),
        )

    def kinematics(self, joints: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations (N,J,3,3) and places (N,J,3) in body space, for local rotations (N,J,3,3)."""
        turned = [torch.eye(3).expand(len(local), 3, 3)]
        placed = [joints[0].expand(len(local), 3)]
        for j, p in enumerate(self.parents[1:], 1):
            turned.append(turned[p] @ local[:, j])
            placed.append(placed[p] + turned[p] @ (joints[j] - joints[p]))
        return torch.stack(turned, 1), torch.stack(placed, 1)

    def pose(self, vertices: Tensor, joints: Tensor, skin: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        """Linear-blend skinned vertices (N,V,3) and joint places (N,J,3)."""
        turned, placed = self.kinematics(joints, local)
        shift = placed - torch.einsum("njab,jb->nja", turned, joints)
        blend = torch.einsum("vj,njk->nvk", skin, torch.cat([turned.flatten(2), shift], 2))  # (N, V, 12)
        matrix = blend[..., :9].unflatten(-1, (3, 3))
        return torch.einsum("nvab,vb->nva", matrix, vertices) + blend[..., 9:], placed


def rotation_matrix(v: Tensor) -> Tensor:
    """Rotation vectors (...,3) to matrices (...,3,3): Rodrigues' formula, smooth at zero."""
    angle = (v.square().sum(-1, keepdim=True) + 1e-12).sqrt()[..., None]
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return (
        torch.eye(3) + torch.sin(angle) / angle * cross + (1 - torch.cos(angle)) / angle**2 * (cross @ cross)
    )


def fit_rest(category: Category, rig: Rig, mapping: RigMap, config: FitConfig = FitConfig()) -> RestFit:
    """Scale, morphology and joint rotations that lay the body on the rig's rest pose.

    First the joint places, then both surfaces, matched to the nearest point with a similar normal (iterated
    closest points), with the usual robust weights.
    """
    body = TorchBody(category)
    points = torch.tensor(mapping.point, dtype=torch.float32)
    seen = torch.tensor(mapping.has_point)
    target, normals = sample_surface(rig.vertices, rig.faces, 4000, config.seed)
    tree = cKDTree(np.concatenate([target, 0.08 * normals], 1))
    target_t, normals_t = (torch.tensor(x, dtype=torch.float32) for x in (target, normals))
    count = len(body.parents)
    slack = torch.full((count, 1), config.rest_sigma)
    slack[mapping.rotation_weight.sum(1) == 0] = config.unmoved_sigma
    theta, beta = torch.zeros(count, 3), torch.zeros(len(body.std))
    log_scale, turn = torch.zeros(()), torch.zeros(3)
    move = points[seen].mean(0) - body.joints[seen].mean(0)
    tips, tip_vertices = _tips(category, mapping)
    free = [theta, beta, log_scale, turn, move]
    for x in free:
        x.requires_grad_(True)
    start, end = config.surface_reach
    mirrored = torch.tensor([1.0, -1.0, -1.0])
    pairs: tuple[np.ndarray, np.ndarray] = (np.zeros(0, int), np.zeros(0, int))
    for phase, steps in ((0, config.joint_steps), (1, config.surface_steps)):
        optimiser = torch.optim.Adam(free, lr=0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=0.001)
        for step in range(steps):
            vertices, joints = body.shaped(beta)
            world, scale = rotation_matrix(turn), torch.exp(log_scale)
            posed, placed = body.pose(vertices, joints, body.skin, rotation_matrix(theta)[None])
            placed = scale * placed[0] @ world.T + move
            loss = ((placed[seen] - points[seen]) / config.point_sigma).square().sum() * (
                1.0 if phase == 0 else 0.3
            )
            loss = (
                loss
                + (theta / slack).square().sum()
                + (beta / body.std / config.morphology_sigma).square().sum()
            )
            beyond = torch.relu(theta - body.limits[..., 1]) + torch.relu(body.limits[..., 0] - theta)
            loss = loss + (beyond / config.limit_sigma).square().sum()
            loss = loss + ((theta - theta[body.mirror] * mirrored) / 0.1).square().sum() * 0.5
            loss = loss + (turn[1:] / 0.05).square().sum()
            if phase == 1:
                surface = scale * posed[0] @ world.T + move
                if step % 10 == 0:
                    pairs = _closest(surface.detach().numpy(), category.body.faces, tree, target, normals)
                loss = loss + ((surface[tip_vertices] - tips) / config.point_sigma).square().sum() * 0.3
                loss = loss + _surface_loss(
                    surface,
                    target_t,
                    normals_t,
                    pairs,
                    config.surface_sigma,
                    start + (end - start) * step / steps,
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                beta.clamp_(body.low, body.high)
    with torch.no_grad():
        return RestFit(
            scale=float(torch.exp(log_scale)),
            morphology=beta.double().numpy(),
            rotations=rotation_matrix(theta).double().numpy(),
            rotation=rotation_matrix(turn).double().numpy(),
            translation=move.double().numpy(),
        )


def _tips(category: Category, mapping: RigMap) -> tuple[Tensor, Tensor]:
    """Free ends of the rig's ears and tail (N,3) and the body vertices that are theirs (N,)."""
    body, joints = category.body, np.flatnonzero(~np.isnan(mapping.tip[:, 0]))
    owner = body.owner
    ends = [
        max(np.flatnonzero(owner == j), key=lambda v, j=j: np.linalg.norm(body.vertices[v] - body.joints[j]))
        for j in joints
    ]
    return torch.tensor(mapping.tip[joints], dtype=torch.float32), torch.tensor(np.array(ends, int))


def _surface_loss(
    surface: Tensor,
    target: Tensor,
    normals: Tensor,
    pairs: tuple[np.ndarray, np.ndarray],
    sigma: float,
    reach: float,
) -> Tensor:
    """Body to rig and rig to body, mostly along the rig's normal, with Geman-McClure weights; in units of joints."""
    to_rig, to_body = (torch.from_numpy(p) for p in pairs)
    total = torch.zeros(())
    for error, normal in ((surface - target[to_rig], normals[to_rig]), (surface[to_body] - target, normals)):
        along = (error * normal).sum(-1)
        squared = along.square() + 0.2 * error.square().sum(-1)
        robust = squared / (1 + error.square().sum(-1).detach() / reach**2) ** 2
        total = total + robust.mean() / sigma**2 * 60
    return total


def _closest(
    surface: np.ndarray, faces: np.ndarray, tree: cKDTree, target: np.ndarray, normals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest rig sample of each body vertex (V,), nearest body vertex of each rig sample (S,)."""
    own = vertex_normals(surface, faces)
    to_rig = tree.query(np.concatenate([surface, 0.08 * own], 1))[1]
    to_body = cKDTree(np.concatenate([surface, 0.08 * own], 1)).query(
        np.concatenate([target, 0.08 * normals], 1)
    )[1]
    return to_rig, to_body


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points (count,3) evenly over the surface and their face normals (count,3)."""
    pick, weights = area_samples(vertices, faces, count, seed)
    corners = vertices[faces[pick]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    points = np.einsum("nk,nki->ni", weights, corners)
    return points, normal / np.linalg.norm(normal, axis=1, keepdims=True)


def fit_poses(
    category: Category,
    beta: np.ndarray,
    local: np.ndarray,
    root: np.ndarray,
    goal: np.ndarray,
    chosen: np.ndarray,
    points: np.ndarray,
    moved: np.ndarray,
    config: FitConfig = FitConfig(),
) -> tuple[np.ndarray, np.ndarray]:
    """Refine local rotations (T,J,3,3) and rig_from_root (T,4,4), all poses at once.

    goal: where the body vertices `chosen` (N,) go in each pose, (T,N,3); points: joint places (T,J,3), NaN where
    unknown; moved: joints that bones move (J,), the others keep their rotations. Rotations are drawn to those
    given, so that what the surface does not show (twist) stays with the bones.
    """
    body = TorchBody(category)

    def real(x: np.ndarray) -> Tensor:
        return torch.tensor(np.asarray(x), dtype=torch.float32)

    vertices, joints = body.shaped(real(beta))
    vertices, skin = vertices[chosen], body.skin[chosen]
    base, base_root, aim = real(local), real(root), real(goal)
    seen = torch.tensor(~np.isnan(points[0, :, 0]))
    aim_points, moved_t = real(np.nan_to_num(points)), torch.tensor(moved)[:, None]
    theta = torch.zeros(*base.shape[:2], 3, requires_grad=True)
    turn = torch.zeros(len(base), 3, requires_grad=True)
    move = torch.zeros(len(base), 3, requires_grad=True)
    optimiser = torch.optim.Adam([{"params": [theta, turn], "lr": 0.03}, {"params": [move], "lr": 0.005}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.pose_steps, eta_min=0.0005)

    def place() -> tuple[Tensor, Tensor]:
        return base_root[:, :3, :3] @ rotation_matrix(turn), base_root[:, :3, 3] + move

    for _ in range(config.pose_steps):
        posed, placed = body.pose(vertices, joints, skin, base @ rotation_matrix(theta * moved_t))
        world, shift = place()
        error = posed @ world.mT + shift[:, None] - aim
        joint_error = (placed @ world.mT + shift[:, None] - aim_points)[:, seen]
        loss = (error / config.surface_sigma).square().sum(-1).mean() * 60
        loss = loss + (joint_error / config.point_sigma).square().sum() / len(base) * 0.1
        loss = loss + (theta / config.pose_sigma).square().sum() / len(base)
        optimiser.zero_grad()
        (loss * len(base)).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        world, shift = place()
        out = base_root.clone()
        out[:, :3, :3], out[:, :3, 3] = world, shift
        return (base @ rotation_matrix(theta * moved_t)).double().numpy(), out.double().numpy()
