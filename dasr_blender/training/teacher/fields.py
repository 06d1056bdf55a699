# SPDX-License-Identifier: GPL-3.0-or-later
"""The canonical field: signed distance, colours, visibility, and what tells one subject from the mean one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import KDTree
from torch import Tensor, nn

from ...core.category import Category
from .config import FieldConfig
from .encoding import Grids, Waves

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Box:
    """The part of canonical space where the subject may be: low and high (3,), metres; size: its longest side."""

    low: Array
    high: Array

    @property
    def size(self) -> float:
        return float((self.high - self.low).max())

    def grid(self, cells: int) -> tuple[Array, tuple[int, int, int]]:
        """Points (n, 3) of a grid with `cells` along the longest side, x fastest, and its sides (z, y, x)."""
        sides = np.maximum(2, np.ceil((self.high - self.low) / self.size * cells).astype(int))
        axes = [np.linspace(self.low[i], self.high[i], sides[i]) for i in range(3)]
        z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        return np.stack([x, y, z], -1).reshape(-1, 3), (int(sides[2]), int(sides[1]), int(sides[0]))


def box_of(vertices: Array, margin: float = 0.2) -> Box:
    """A box round vertices (V, 3) with a margin, a share of its longest side, symmetric about X = 0."""
    low, high = vertices.min(0), vertices.max(0)
    pad = margin * float((high - low).max())
    low, high = low - pad, high + pad
    wide = max(-low[0], high[0])
    low[0], high[0] = -wide, wide
    return Box(low, high)


class Sampled(nn.Module):
    """Values (C, z, y, x) on a box's grid, read between its points; outside, those of its nearest face."""

    values: Tensor
    low: Tensor
    span: Tensor

    def __init__(self, box: Box, values: Array | Tensor) -> None:
        super().__init__()
        self.register_buffer("values", torch.as_tensor(np.asarray(values), dtype=torch.float32)[None])
        self.register_buffer("low", torch.tensor(box.low, dtype=torch.float32), persistent=False)
        self.register_buffer("span", torch.tensor(box.high - box.low, dtype=torch.float32), persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        """(…, 3) → (…, C)."""
        return sample(self.values, (points - self.low) / self.span * 2 - 1)


def sample(values: Tensor, at: Tensor) -> Tensor:
    """values (1, C, z, y, x) at (…, 3) in −1…1, trilinear → (…, C)."""
    found = F.grid_sample(values, at.reshape(1, -1, 1, 1, 3), align_corners=True, padding_mode="border")
    return found.reshape(values.shape[1], -1).T.reshape(*at.shape[:-1], values.shape[1])


def body_distance(vertices: Array, faces: Array, points: Array) -> Array:
    """Signed distance (n,) of points (n, 3) from a closed mesh, metres, negative inside."""
    import gpytoolbox

    found = gpytoolbox.signed_distance(
        np.ascontiguousarray(points, np.float64),
        np.asarray(vertices, np.float64),
        np.asarray(faces, np.int32),
    )
    return np.asarray(found[0], np.float64)


def ball_distance(vertices: Array, points: Array) -> Array:
    """Signed distance (n,), to first order, from an ellipsoid as long, wide and high as the body's trunk is."""
    middle = 0.5 * (vertices.min(0) + vertices.max(0))
    radii = 0.3 * np.ptp(vertices, axis=0)
    radii = np.maximum(radii, 0.4 * radii.max())
    off = (points - middle) / radii
    k0, k1 = np.linalg.norm(off, axis=1), np.linalg.norm(off / radii, axis=1)
    return k0 * (k0 - 1) / np.maximum(k1, 1e-6)


def mlp(
    inputs: int, width: int, depth: int, outputs: int, last: float = 1.0, soft: bool = False
) -> nn.Sequential:
    """Hidden layers; the last layer's weights scaled by `last`, its bias zero."""
    layers: list[nn.Module] = []
    for n in range(depth):
        layers += [nn.Linear(inputs if n == 0 else width, width), nn.SiLU() if soft else nn.ReLU()]
    final = nn.Linear(width if depth else inputs, outputs)
    with torch.no_grad():
        final.weight.mul_(last)
        final.bias.zero_()
    return nn.Sequential(*layers, final)


class Canonical(nn.Module):
    """Signed distance and what hangs on it, in the rest pose of the mean subject."""

    def __init__(
        self, category: Category, morphology: Array, relief: Array | None, config: FieldConfig, clips: int
    ) -> None:
        """morphology (K,) and relief (V,): the body it starts from.  clips: how many have a look of their own."""
        super().__init__()
        vertices, _ = category.body.shaped(morphology, relief)
        self.box = box_of(vertices)
        points, sides = self.box.grid(config.base_grid)
        if config.begin == "body":
            distance = body_distance(vertices, category.body.faces, points)
        else:
            distance = ball_distance(vertices, points)
        self.base = Sampled(self.box, distance.reshape(1, *sides))
        self.unit = category.nominal_size
        corners = [torch.tensor(c, dtype=torch.float32) for c in (self.box.low, self.box.high)]
        if config.encoding == "waves":
            self.encoding: Waves | Grids = Waves(config.frequencies, self.box.size)
        else:
            self.encoding = Grids(corners[0], corners[1])
        size, width = self.encoding.size, config.width
        self.shape = mlp(size, width, config.depth, 1 + config.feature, last=0.1, soft=True)
        self.looks = nn.Embedding(clips, config.code)
        nn.init.normal_(self.looks.weight, std=0.1)
        self.paint = mlp(size + config.feature + config.code, width, 2, 3)
        self.seen = mlp(size, 32, 1, 1)
        self.log_beta = nn.Parameter(torch.zeros(()))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points (…, 3) → signed distance (…,) metres, feature (…, f), and the encoded points."""
        encoded = self.encoding(points)
        found = self.shape(encoded)
        return self.base(points)[..., 0] + 0.1 * self.unit * found[..., 0], found[..., 1:], encoded

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance alone, (…,)."""
        return self.base(points)[..., 0] + 0.1 * self.unit * self.shape(self.encoding(points))[..., 0]

    def slope(self, points: Tensor, step: float) -> Tensor:
        """Gradient (…, 3) of the distance by differences at the corners of a tetrahedron (Li et al., Neuralangelo,
        CVPR 2023, takes six points)."""
        corners = points.new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
        values = self.distance(points[..., None, :] + step * corners)
        return (values[..., None] * corners).sum(-2) / (4 * step)

    def colour(self, encoded: Tensor, feature: Tensor, clips: Tensor) -> Tensor:
        """RGB 0…1 (B, N, 3) of encoded points (B, N, e) with features (B, N, f) in videos (B,)."""
        code = self.looks(clips)[:, None].expand(*encoded.shape[:2], -1)
        return torch.sigmoid(self.paint(torch.cat([encoded, feature, code], -1)))

    def visibility(self, encoded: Tensor) -> Tensor:
        """Logit (…,) of a point's being seen in any frame."""
        return self.seen(encoded)[..., 0]

    def density(self, distance: Tensor, beta: Tensor | float) -> Tensor:
        """VolSDF: the Laplace distribution's share of what lies inside, over beta (Yariv et al., NeurIPS 2021)."""
        tail = 0.5 * torch.exp(-distance.abs() / beta)
        return torch.where(distance > 0, tail, 1 - tail) / beta


class Morphology(nn.Module):
    """How subjects differ from the canonical one: named proportions, spread through space, and a learned residual."""

    def __init__(
        self, category: Category, morphology: Array, box: Box, config: FieldConfig, subjects: int
    ) -> None:
        super().__init__()
        body = category.body
        vertices, _ = body.shaped(morphology)
        points, sides = box.grid(config.morph_grid)
        distance, near = KDTree(vertices).query(points, k=12)
        weight = 1 / (distance + 0.01 * box.size) ** 2
        weight /= weight.sum(1, keepdims=True)
        std = body.morphology_scale
        moved = np.einsum("pn,kpnc->kcp", weight, body.morphology_vertices[:, near], optimize=True)
        values = (moved * std[:, None, None]).reshape(len(std) * 3, *sides)
        self.grid = Sampled(box, values)
        self.count = len(std)
        self.waves = Waves(3, box.size)
        self.subjects = nn.Embedding(subjects, 4)
        nn.init.normal_(self.subjects.weight, std=0.1)
        self.own = mlp(self.waves.size + 4, 32, 2, 3, last=1e-2) if config.residual_morphology else None
        self.unit = category.nominal_size

    def residual(self, points: Tensor, subjects: Tensor) -> Tensor:
        """The learned displacement (B, N, 3) of canonical points (B, N, 3) in subjects (B,), metres."""
        if self.own is None:
            return torch.zeros_like(points)
        code = self.subjects(subjects)[:, None].expand(*points.shape[:2], -1)
        return 0.1 * self.unit * self.own(torch.cat([self.waves(points), code], -1))

    def named(self, points: Tensor, beta: Tensor) -> Tensor:
        """The displacement (B, N, 3) that proportions beta (B, K), in standard deviations, make."""
        values = self.grid.values[0].unflatten(0, (self.count, 3))
        each = torch.einsum("bk,kczyx->bczyx", beta, values)
        at = (points - self.grid.low) / self.grid.span * 2 - 1
        found = F.grid_sample(each, at[:, :, None, None], align_corners=True, padding_mode="border")
        return found[..., 0, 0].transpose(1, 2)

    def to_subject(self, points: Tensor, beta: Tensor, subjects: Tensor) -> Tensor:
        """Canonical points (B, N, 3) → at rest of each subject."""
        return points + self.named(points, beta) + self.residual(points, subjects)

    def to_canonical(self, points: Tensor, beta: Tensor, subjects: Tensor) -> Tensor:
        """The inverse of `to_subject` to second order: displacements are small and smooth."""
        with torch.no_grad():
            first = points - self.named(points, beta) - self.residual(points, subjects)
            first = points - self.named(first, beta) - self.residual(first, subjects)
        return points - self.named(first, beta) - self.residual(first, subjects)
