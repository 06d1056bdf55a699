# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rays a step looks along, and where along them the subject can be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .frames import Frames
from .rig import Views


@dataclass
class Rays:
    """R rays in each of B frames.

    rows (B,): the frames.  at (B, R, 2): where in the crop, sides from its centre.  direction (B, R, 3): camera space,
    at depth 1.  colour (B, R, 3), mask, known (B, R): what the pictures show.  flow (B, R, 2) and flow_trust (B, R);
    told (B, R) vertex numbers and told_trust (B, R).
    """

    rows: Tensor
    at: Tensor
    direction: Tensor
    colour: Tensor
    mask: Tensor
    known: Tensor
    flow: Tensor
    flow_trust: Tensor
    told: Tensor
    told_trust: Tensor


def rays_at(frames: Frames, info: Tensor, rows: Tensor, pixels: Tensor) -> Rays:
    """Rays through pixels (B, R), row by row of the crops' squares; info (B, 3): where the crops are (crop_info)."""
    device = info.device
    side = frames.mask.shape[-1]
    x, y = pixels % side, pixels // side
    at = (torch.stack([x, y], -1).to(device).float() + 0.5) / side - 0.5
    across = info[:, None, :2] + info[:, None, 2:] * at
    batch = torch.arange(len(rows))[:, None]
    cells = frames.told.shape[-1]
    row = rows[:, None]

    def pick(values: Tensor) -> Tensor:
        return values[row, y, x].to(device)

    told_at = (row, y * cells // side, x * cells // side)
    return Rays(
        rows,
        at,
        torch.cat([across, torch.ones_like(across[..., :1])], -1),
        frames.colour[rows][batch, :, y, x].to(device).float() / 255,
        pick(frames.mask),
        pick(frames.known),
        pick(frames.flow),
        pick(frames.flow_trust),
        frames.told[told_at].to(device),
        frames.told_trust[told_at].to(device),
    )


def draw_pixels(frames: Frames, rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Pixels (B, count) of frames, drawn where they teach."""
    return torch.multinomial(frames.draw[rows], count, replacement=True, generator=generator)


def spans(views: Views, posed: Tensor, direction: Tensor, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Where along rays (B, R, 3) the subject can be: near and far depth (B, R), and whether it can be at all (B, R).

    posed (B, P, 3): points of the posed body, body space; a ray meets those closer to it than `reach`. A ray that meets
    none looks round the depth of the one it passes nearest.
    """
    with torch.no_grad():
        points = views.camera(posed)
        depth = points[..., 2]
        # distance of (x, y) at the point's own depth: all rays start at the camera
        off = points[:, None, :, :2] - direction[:, :, None, :2] * depth[:, None, :, None]
        apart = off.norm(dim=-1)  # (B, R, P)
        met = apart < reach
        far = torch.where(met, depth[:, None], -torch.inf).amax(-1)
        near = torch.where(met, depth[:, None], torch.inf).amin(-1)
        some = met.any(-1)
        nearest = torch.gather(depth, 1, apart.argmin(-1))
        near, far = torch.where(some, near, nearest), torch.where(some, far, nearest)
        return (near - reach).clamp_min(0.02), far + reach, some


def stratified(near: Tensor, far: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Depths (B, R, count) in equal shares of near…far, each at a random place of its share, or in its middle."""
    steps = torch.arange(count, device=near.device, dtype=near.dtype)
    if generator is None:
        within = torch.full((*near.shape, count), 0.5, device=near.device)
    else:
        within = torch.rand((*near.shape, count), generator=generator).to(near.device)
    return near[..., None] + (far - near)[..., None] * (steps + within) / count


def resampled(depth: Tensor, weight: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Depths (…, count), sorted, where samples (…, n) with weights (…, n) say that something is; half a bin wide."""
    chance = torch.cumsum(weight + 1e-4 + 0.02 * weight.amax(-1, keepdim=True), -1)
    chance = chance / chance[..., -1:]
    steps = torch.arange(count, device=depth.device, dtype=depth.dtype)
    if generator is None:
        within = torch.full((*depth.shape[:-1], count), 0.5, device=depth.device)
    else:
        within = torch.rand((*depth.shape[:-1], count), generator=generator).to(depth.device)
    asked = (steps + within) / count
    index = torch.searchsorted(chance, asked.contiguous()).clamp(max=depth.shape[-1] - 1)
    below = torch.cat([torch.zeros_like(chance[..., :1]), chance], -1)
    low = torch.gather(below, -1, index)
    share = (asked - low) / (torch.gather(chance, -1, index) - low).clamp_min(1e-9)
    bin_size = depth[..., 1:2] - depth[..., :1]
    middle = torch.gather(depth, -1, index)
    return torch.sort(middle + (share.clamp(0, 1) - 0.5) * bin_size, -1).values
