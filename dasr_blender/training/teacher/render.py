# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume rendering of the posed field along rays (VolSDF; Yariv et al., NeurIPS 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import FieldConfig
from .fields import Canonical, Morphology, sample
from .rays import Rays, resampled, spans, stratified
from .rig import Bones, Poses, Shape, Views
from .skinning import GaussianBones, to_pose, to_rest


@dataclass
class Posed:
    """B frames as they stand: their root poses, bones, joints' rotation vectors, and whom they show."""

    views: Views
    bones: Bones
    rotvecs: Tensor
    subject: Tensor
    clip: Tensor
    beta: Tensor


@dataclass
class Seen:
    """What rays (B, R) with n samples show.

    opacity (B, R); colour (B, R, 3); rest (B, R, 3): canonical point, the mean along the ray; posed and canonical
    (B, R·n, 3): the samples, body space and at rest; weight (B, R, n); encoded (B, R·n, e); reached (B, R, n): light
    that gets as far as a sample.
    """

    opacity: Tensor
    colour: Tensor
    rest: Tensor
    posed: Tensor
    canonical: Tensor
    weight: Tensor
    encoded: Tensor
    reached: Tensor


def composite(density: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and transmittance (…, n) of samples at depths (…, n), sorted; the last is as long as the one before."""
    step = torch.diff(depth, dim=-1)
    step = torch.cat([step, step[..., -1:]], -1)
    passed = torch.exp(-torch.cumsum(torch.cat([torch.zeros_like(step[..., :1]), density * step], -1), -1))
    return passed[..., :-1] - passed[..., 1:], passed[..., :-1]


class Model(nn.Module):
    """All that is learned."""

    proxies: Tensor

    def __init__(
        self,
        config: FieldConfig,
        canonical: Canonical,
        morphology: Morphology,
        gaussians: GaussianBones,
        shape: Shape,
        poses: Poses,
        proxies: Tensor,
        told: Tensor,
    ) -> None:
        """proxies (P, 3): canonical points all over the body; told (V, 3): those that a surface map can name."""
        super().__init__()
        self.config, self.canonical, self.morphology = config, canonical, morphology
        self.gaussians, self.shape, self.poses = gaussians, shape, poses
        self.register_buffer("proxies", proxies)
        self.register_buffer("told", told)
        points, self.sides = canonical.box.grid(64)
        self.register_buffer("lattice", torch.tensor(points, dtype=torch.float32), persistent=False)
        self.register_buffer("cached", torch.zeros(1, 1, *self.sides))
        self.register_buffer("skin_start", torch.zeros(0))

    lattice: Tensor
    cached: Tensor
    told: Tensor
    skin_start: Tensor

    @torch.no_grad()
    def refresh(self) -> None:
        """Keep the distance on a grid, by which samples are placed and empty space is passed over."""
        found = [self.canonical.distance(part) for part in self.lattice.split(16384)]
        self.cached.copy_(torch.cat(found).reshape(1, 1, *self.sides))

    def posed(self, rows: Tensor, subject: Tensor, clip: Tensor) -> Posed:
        """Frames (B,) of clips (B,) that show subjects (B,)."""
        rotvecs = self.poses.rotvecs(rows)
        bones = self.shape.bones(rotvecs, subject, clip)
        return Posed(self.poses.views(rows), bones, rotvecs, subject, clip, self.shape.beta[subject])

    def to_pose(self, canonical: Tensor, posed: Posed) -> Tensor:
        """Canonical points (B, N, 3) → posed, body space."""
        rest = self.morphology.to_subject(canonical, posed.beta, posed.subject)
        return to_pose(self.gaussians, posed.bones, rest, self.config.blend)[0]

    def drawn(self, canonical: Tensor, posed: Posed, info: Tensor) -> Tensor:
        """Where canonical points (B, N, 3) are seen (B, N, 2), crop sides from the centre of crops info (B, 3)."""
        seen = posed.views.camera(self.to_pose(canonical, posed))
        across = seen[..., :2] / seen[..., 2:].clamp_min(0.02)
        return (across - info[:, None, :2]) / info[:, None, 2:]

    def _place(self, rays: Rays, posed: Posed, beta: float, generator: torch.Generator | None) -> Tensor:
        """Depths (B, R, n) of the samples that are rendered, found with the kept distance and no gradient."""
        config = self.config
        with torch.no_grad():
            unit = self.canonical.unit
            body = self.to_pose(self.proxies.expand(len(rays.rows), -1, 3), posed)
            near, far, _ = spans(posed.views, body, rays.direction, config.reach * unit)
            depth = stratified(near, far, config.coarse, generator)
            points = (rays.direction[:, :, None] * depth[..., None]).flatten(1, 2)
            rest, _, squares = to_rest(
                self.gaussians, posed.bones, posed.views.body(points), config.blend, False
            )
            canonical = self.morphology.to_canonical(rest, posed.beta, posed.subject)
            base = self.canonical.base
            distance = sample(self.cached, (canonical - base.low) / base.span * 2 - 1)[..., 0]
            nothing = squares.amin(-1) > config.cull**2
            density = self.canonical.density(distance, max(beta, 0.01 * unit)).masked_fill(nothing, 0.0)
            weight, _ = composite(density.reshape(depth.shape), depth)
            return resampled(depth, weight, config.fine, generator)

    def render(self, rays: Rays, posed: Posed, beta: float, generator: torch.Generator | None = None) -> Seen:
        """What rays show; beta: width of the surface, metres. Samples are at random places with a generator."""
        depth = self._place(rays, posed, beta, generator)
        shape = depth.shape
        points = posed.views.body((rays.direction[:, :, None] * depth[..., None]).flatten(1, 2))
        rest, _, squares = to_rest(self.gaussians, posed.bones, points, self.config.blend)
        canonical = self.morphology.to_canonical(rest, posed.beta, posed.subject)
        distance, feature, encoded = self.canonical(canonical)
        width = beta * torch.exp(self.canonical.log_beta)
        density = self.canonical.density(distance, width)
        density = density.masked_fill(squares.amin(-1) > self.config.cull**2, 0.0).reshape(shape)
        # metres along the ray, not along the view
        length = rays.direction.norm(dim=-1)[..., None]
        weight, reached = composite(density, depth * length)
        colour = self.canonical.colour(encoded, feature, posed.clip)
        opacity = weight.sum(-1)

        def along(values: Tensor) -> Tensor:
            return (weight[..., None] * values.unflatten(1, shape[1:])).sum(-2)

        return Seen(
            opacity,
            along(colour),
            along(canonical) / opacity[..., None].clamp_min(1e-3),
            points,
            canonical,
            weight,
            encoded,
            reached,
        )
