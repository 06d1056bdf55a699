# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaussian bones: which bones hold a point, and the way from a pose to rest and back (BANMo, CVPR 2022).

The weight of a bone is the softmax of −(Mahalanobis distance)²/2 plus a learned residual. Every bone is a Gaussian in
its joint's own frame, started from the part of the body it holds; bones on the left and on the right are mirror
images of each other, and so are their residuals.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.category import Category
from ...core.skinning import dense_weights
from ..student.rotation import rotvec_to_matrix
from .encoding import Waves
from .rig import Bones

Array = np.ndarray

TEMPERATURE = 0.5


def bone_gaussians(
    vertices: Array, joints: Array, weights: Array, middle: Array
) -> tuple[Array, Array, Array]:
    """Means (J, 3) from the joint, principal axes (J, 3, 3) as rows, and deviations (J, 3) of what each bone holds.

    vertices (V, 3), joints (J, 3), weights (V, J); middle (J,): bones in the plane of symmetry, whose Gaussians are
    their own mirror images. A bone that holds nothing is a ball of 3 % of the body.
    """
    size = float(np.ptp(vertices, axis=0).max())
    mean, axes, spread = (
        np.zeros(joints.shape),
        np.tile(np.eye(3), (len(joints), 1, 1)),
        np.zeros(joints.shape),
    )
    for j, joint in enumerate(joints):
        w = weights[:, j] ** 2
        if w.sum() < 1e-3:
            spread[j] = 0.03 * size
            continue
        w = w / w.sum()
        mean[j] = w @ vertices - joint
        off = vertices - joint - mean[j]
        if middle[j]:
            mean[j, 0] = 0.0
        covariance = np.einsum("v,va,vb->ab", w, off, off)
        if middle[j]:
            covariance[0, 1:] = covariance[1:, 0] = 0.0
        values, vectors = np.linalg.eigh(covariance)
        if np.linalg.det(vectors) < 0:
            vectors[:, 0] *= -1
        axes[j], spread[j] = vectors.T, np.sqrt(np.maximum(values, (0.012 * size) ** 2))
    return mean, axes, spread


class GaussianBones(nn.Module):
    """Skinning weights of any point, from the bones' Gaussians and a learned residual."""

    centre: Tensor
    axes: Tensor
    spread: Tensor
    flip: Tensor
    free: Tensor

    def __init__(self, category: Category, morphology: Array, width: int = 48) -> None:
        super().__init__()
        body = category.body
        vertices, joints = body.shaped(morphology)
        weights = dense_weights(body.skin_index, body.skin_weight, len(joints))
        mirror = category.skeleton.mirror.astype(np.int64)
        middle = mirror == np.arange(len(joints))
        mean, axes, spread = bone_gaussians(vertices, joints, weights, middle)
        free = np.where(middle[:, None], [[0.0, 1, 1]], 1.0)
        self.register_buffer("free", torch.tensor(free, dtype=torch.float32))
        self.mirror = torch.tensor(mirror)
        self.right = torch.tensor(mirror < np.arange(len(joints)))  # those that are their twin's mirror image
        own = np.where(mirror < np.arange(len(joints)), mirror, np.arange(len(joints)))
        self.own = torch.tensor(own)
        for name, values in (
            ("centre", mean),
            ("axes", axes),
            ("spread", np.log(spread)),
            ("flip", [-1.0, 1, 1]),
        ):
            self.register_buffer(name, torch.tensor(np.asarray(values), dtype=torch.float32))
        self.move = nn.Parameter(torch.zeros_like(self.centre))
        self.turn = nn.Parameter(torch.zeros_like(self.centre))
        self.grow = nn.Parameter(torch.zeros_like(self.centre))
        self.waves = Waves(4, float(np.ptp(vertices, axis=0).max()))
        last = nn.Linear(width, len(joints))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.residual = nn.Sequential(
            nn.Linear(self.waves.size, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            last,
        )

    def gaussians(self) -> tuple[Tensor, Tensor]:
        """Whitening matrices (J, 3, 3) and centres (J, 3) from the joint; the left's, mirrored for the right."""
        # a bone in the middle may move within the plane of symmetry and turn about its normal
        turn = torch.where(self.free[:, :1] > 0, self.turn, self.turn * self.flip.clamp(max=0).abs())
        axes = self.axes @ rotvec_to_matrix(turn).transpose(-1, -2)
        white = torch.exp(-(self.spread + self.grow))[..., None] * axes
        centre = self.centre + self.move * self.free
        white, centre = white[self.own], centre[self.own]
        flip = torch.where(self.right[:, None].to(self.flip.device), self.flip, torch.ones_like(self.flip))
        return white * flip[:, None, :], centre * flip

    def added(self, rest: Tensor) -> Tensor:
        """The residual (…, J) of points at rest (…, 3): on the right that of the mirrored point's twin bones."""
        right = rest[..., :1] < 0
        folded = torch.where(right, rest * self.flip, rest)
        found = self.residual(self.waves(folded))
        return torch.where(right, found[..., self.mirror], found)

    def squares(self, linear: Tensor, offset: Tensor, points: Tensor) -> Tensor:
        """Squared Mahalanobis distances (B, N, J), where linear (B, J, 3, 3) and offset (B, J, 3) take points
        (B, N, 3) to where they would lie from the joints at rest."""
        white, centre = self.gaussians()
        matrix = white @ linear  # (B, J, 3, 3)
        shift = (white @ (offset - centre)[..., None])[..., 0]
        # |A x + b|² is linear in the point's ten monomials: one product instead of a (B, N, J, 3) array
        square = matrix.transpose(-1, -2) @ matrix
        mixed = (matrix.transpose(-1, -2) @ shift[..., None])[..., 0]
        first, second = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
        twice = points.new_tensor([1.0, 1, 1, 2, 2, 2])
        terms = [square[..., first, second] * twice, 2 * mixed, shift.square().sum(-1, keepdim=True)]
        monomials = [points[..., first] * points[..., second], points, torch.ones_like(points[..., :1])]
        return (torch.cat(monomials, -1) @ torch.cat(terms, -1).transpose(1, 2)).clamp_min(0)

    def weights(self, squares: Tensor, rest: Tensor | None) -> Tensor:
        """Skinning weights (B, N, J); rest (B, N, 3): where the residual is looked up, None for the Gaussians alone."""
        score = -TEMPERATURE * squares
        return torch.softmax(score if rest is None else score + self.added(rest), -1)

    def fit_residual(self, category: Category, morphology: Array, steps: int = 300, seed: int = 0) -> float:
        """Teach the residual the body's own skin; returns the mean difference of the weights that is left."""
        body = category.body
        vertices, joints = body.shaped(morphology)
        own = dense_weights(body.skin_index, body.skin_weight, len(joints))
        x, w, j = (
            torch.tensor(a, dtype=torch.float32, device=self.flip.device) for a in (vertices, own, joints)
        )
        eye, zero = torch.eye(3, device=x.device).expand(1, len(j), 3, 3), -j[None]
        optimiser = torch.optim.Adam(self.residual.parameters(), lr=5e-3)
        generator = torch.Generator().manual_seed(seed)
        size = float(np.ptp(vertices, axis=0).max())
        for step in range(steps):
            pick = torch.randint(len(x), (1024,), generator=generator)
            near = x[pick] + 0.01 * size * torch.randn(1024, 3, generator=generator).to(x.device)
            with torch.no_grad():
                squares = self.squares(eye, zero, near[None])
            score = torch.log_softmax(-TEMPERATURE * squares + self.added(near[None]), -1)
            loss = -(w[pick] * score[0]).sum(-1).mean() + 1e-3 * self.added(near).square().mean()
            optimiser.zero_grad()
            loss.backward()
            for group in optimiser.param_groups:
                group["lr"] = 5e-3 * (1 - step / steps)
            optimiser.step()
        with torch.no_grad():
            found = self.weights(self.squares(eye, zero, x[None]), x[None])[0]
        return float((found - w).abs().sum(-1).mean() / 2)


def to_rest(
    gaussians: GaussianBones, bones: Bones, points: Tensor, blend: str = "linear", residual: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Posed points (B, N, 3), body space → at rest of the subject (B, N, 3), weights (B, N, J), squares (B, N, J)."""
    linear, offset = bones.backward_affine()
    squares = gaussians.squares(linear, offset, points)

    def blended(weights: Tensor) -> Tensor:
        if blend == "linear":
            return linear_blend(weights, linear, offset + bones.joint, points)
        rigid = bones.turn.transpose(-1, -2)
        moved = dual_blend(weights, rigid, bones.joint - (rigid @ bones.place[..., None])[..., 0], points)
        return unstretched(bones, weights, moved)

    weights = gaussians.weights(squares, None)
    if residual:
        with torch.no_grad():
            first = blended(weights)
        weights = gaussians.weights(squares, first)
    return blended(weights), weights, squares


def to_pose(
    gaussians: GaussianBones, bones: Bones, rest: Tensor, blend: str = "linear", residual: bool = True
) -> tuple[Tensor, Tensor]:
    """Points at rest of the subject (B, N, 3) → posed, body space (B, N, 3), and weights (B, N, J)."""
    batch, joints = bones.joint.shape[:2]
    eye = torch.eye(3, device=rest.device, dtype=rest.dtype).expand(batch, joints, 3, 3)
    squares = gaussians.squares(eye, -bones.joint, rest)
    weights = gaussians.weights(squares, rest if residual else None)
    if blend == "linear":
        linear, place = bones.forward_affine()
        shift = place - (linear @ bones.joint[..., None])[..., 0]
        return linear_blend(weights, linear, shift, rest), weights
    stretched = stretched_rest(bones, weights, rest)
    shift = bones.place - (bones.turn @ bones.joint[..., None])[..., 0]
    return dual_blend(weights, bones.turn, shift, stretched), weights


def stretched_rest(bones: Bones, weights: Tensor, rest: Tensor) -> Tensor:
    """Points at rest with each bone's own length, about its joint."""
    return _about_joints(bones.stretch, bones.joint, weights, rest)


def unstretched(bones: Bones, weights: Tensor, rest: Tensor) -> Tensor:
    return _about_joints(bones.loosen, bones.joint, weights, rest)


def _about_joints(linear: Tensor, joint: Tensor, weights: Tensor, points: Tensor) -> Tensor:
    shift = joint - (linear @ joint[..., None])[..., 0]
    return linear_blend(weights, linear, shift, points)


def linear_blend(weights: Tensor, linear: Tensor, shift: Tensor, points: Tensor) -> Tensor:
    """Points (B, N, 3) moved by Σ weights (B, N, J) · (linear (B, J, 3, 3) x + shift (B, J, 3))."""
    mixed = weights @ torch.cat([linear.flatten(2), shift], -1)  # (B, N, 12)
    x, y, z = points.unbind(-1)
    rows = [mixed[..., 3 * i] * x + mixed[..., 3 * i + 1] * y + mixed[..., 3 * i + 2] * z for i in range(3)]
    return torch.stack(rows, -1) + mixed[..., 9:]


def quaternions(matrix: Tensor) -> Tensor:
    """Rotation matrices (…, 3, 3) → unit quaternions wxyz (…, 4), differentiable; the largest component is positive."""
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    w, x, y, z = 1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz  # 4 times the squares
    squares = torch.stack([w, x, y, z], -1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = torch.stack(
        [torch.stack(r, -1) for r in ((w, a, b, c), (a, x, d, e), (b, d, y, f), (c, e, f, z))], -2
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    return F.normalize(torch.gather(rows, -2, best)[..., 0, :], dim=-1)


def _times(a: Tensor, b: Tensor) -> Tensor:
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    return torch.cat(
        [aw * bw - (av * bv).sum(-1, keepdim=True), aw * bv + bw * av + torch.linalg.cross(av, bv)], -1
    )


def dual_blend(weights: Tensor, turn: Tensor, shift: Tensor, points: Tensor) -> Tensor:
    """Points (B, N, 3) moved by the blend of rigid motions x → turn (B, J, 3, 3) x + shift (B, J, 3).

    Kavan et al., "Geometric Skinning with Approximate Dual Quaternion Blending", TOG 2008.
    """
    real = quaternions(turn)
    dual = 0.5 * _times(torch.cat([torch.zeros_like(shift[..., :1]), shift], -1), real)
    strongest = weights.argmax(-1)  # (B, N): q and −q are one rotation; the strongest bone decides the sign
    pivot = torch.gather(real, 1, strongest[..., None].expand(*strongest.shape, 4))
    sign = torch.where(pivot @ real.transpose(1, 2) < 0, -1.0, 1.0)  # (B, N, J)
    mixed = (weights * sign) @ torch.cat([real, dual], -1)  # (B, N, 8)
    norm = mixed[..., :4].norm(dim=-1, keepdim=True).clamp_min(1e-9)
    r, d = mixed[..., :4] / norm, mixed[..., 4:] / norm
    w, v = r[..., :1], r[..., 1:]
    turned_points = points + 2 * torch.linalg.cross(v, torch.linalg.cross(v, points) + w * points)
    move = 2 * (w * d[..., 1:] - d[..., :1] * v + torch.linalg.cross(v, d[..., 1:]))
    return turned_points + move
