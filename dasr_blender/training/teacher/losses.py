# SPDX-License-Identifier: GPL-3.0-or-later
"""What the field is judged by: each loss a function of tensors, a mean over what it looks at.

Lengths in the picture are in crop sides, lengths in space in units of the body's nominal size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def robust(length: Tensor, width: float) -> Tensor:
    """A residual's length (…,) squared while it is small against `width`, linear beyond (pseudo-Huber)."""
    return width * (torch.sqrt(length.square() + width * width) - width)


def mean_over(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; 0 where nothing has weight."""
    return (values * weight).sum() / weight.sum().clamp_min(1e-6)


def silhouette(opacity: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Opacity against mask, inside and outside of the mask worth the same (BANMo's balance). All (B, R)."""
    square = (opacity - mask).square()
    inside, outside = weight * mask, weight * (1 - mask)
    return 0.5 * (mean_over(square, inside) + mean_over(square, outside))


def colour(found: Tensor, true: Tensor, opacity: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference of colours (B, R, 3) on rays that mask and field both call the subject."""
    return mean_over((found - true).abs().mean(-1), weight * mask * opacity.detach())


def flow(landed: Tensor, seen: Tensor, trust: Tensor, width: float = 0.02) -> Tensor:
    """Where points are drawn in the next frame (B, R, 2) against where flow saw them go, crop sides."""
    return mean_over(robust((landed - seen).norm(dim=-1), width), trust) / width


def surface_render(found: Tensor, told: Tensor, trust: Tensor, width: float = 0.1) -> Tensor:
    """The canonical point that a ray shows (B, R, 3) against the one that the surface map names."""
    return mean_over(robust((found - told).norm(dim=-1), width), trust) / width


def surface_project(drawn: Tensor, pixel: Tensor, trust: Tensor, width: float = 0.05) -> Tensor:
    """Where the named canonical point is drawn (B, R, 2) against the pixel that showed it, crop sides."""
    return mean_over(robust((drawn - pixel).norm(dim=-1), width), trust) / width


def cycle(points: Tensor, returned: Tensor, weight: Tensor) -> Tensor:
    """Points taken to rest and back (B, N, 3), weighted by what they render."""
    return mean_over((points - returned).norm(dim=-1), weight.detach())


def eikonal(slope: Tensor) -> Tensor:
    """How far the distance's gradient (N, 3) is from unit length."""
    return (slope.norm(dim=-1) - 1).square().mean()


def smooth(slope: Tensor, beside: Tensor) -> Tensor:
    """Difference of the unit normals (N, 3) of neighbouring points."""
    return (F.normalize(slope, dim=-1) - F.normalize(beside, dim=-1)).square().sum(-1).mean()


def visibility(logit: Tensor, reached: Tensor) -> Tensor:
    """Logits (N,) of being seen against whether a ray reached the point; unseen ones count less: another frame may
    show them."""
    weight = torch.where(reached > 0.5, 1.0, 0.1)
    return mean_over(F.binary_cross_entropy_with_logits(logit, reached, reduction="none"), weight)


def skin_residual(added: Tensor, start: Tensor) -> Tensor:
    """How far the learned residual (N, J) has gone from where it started."""
    return (added - start).square().mean()


def skin_entropy(weights: Tensor) -> Tensor:
    """Entropy of skinning weights (N, J): few bones to a point."""
    return -(weights * torch.log(weights.clamp_min(1e-6))).sum(-1).mean()


def bone_inside(distance: Tensor, depth: float) -> Tensor:
    """Distances (N,) at points of the bones, which should lie at least `depth` inside."""
    return F.relu(distance + depth).square().mean()


def second_difference(values: Tensor, follows: Tensor) -> Tensor:
    """Mean square of x₋ − 2x + x₊ over rows (B, 3, …) of three frames each, where `follows` (B,) says they are one
    after another."""
    jolt = values[:, 0] - 2 * values[:, 1] + values[:, 2]
    return mean_over(jolt.flatten(1).square().sum(-1), follows)


def start(residual: Tensor, scale: Tensor | float) -> Tensor:
    """Residuals (B, …, 3) on where poses started, in units of their usual error, robust beyond three of them."""
    return robust(residual.norm(dim=-1) / scale, 3.0).mean()


def rest(rotvecs: Tensor, limits: Tensor) -> Tensor:
    """How far joints (B, J, 3) go from rest, in half-widths of their limits (J, 3, 2)."""
    half = 0.5 * (limits[..., 1] - limits[..., 0])
    free = half > 1e-4
    return torch.where(free, rotvecs / half.clamp_min(1e-4), torch.zeros_like(rotvecs)).square().mean()


def limit(rotvecs: Tensor, limits: Tensor) -> Tensor:
    """Radians beyond the limits, squared, summed over the joints."""
    over = F.relu(rotvecs - limits[..., 1]) + F.relu(limits[..., 0] - rotvecs)
    return over.square().sum((-1, -2)).mean()


def morphology(beta: Tensor, length: Tensor, width: float = 0.1) -> Tensor:
    """Proportions (S, K) in standard deviations, and log bone lengths (C, J) in units of `width`."""
    return beta.square().mean() + (length / width).square().mean()


def symmetry(left: Tensor, right: Tensor) -> Tensor:
    """Signed distances of points and of their mirror images, (N,)."""
    return (left - right).abs().mean()
