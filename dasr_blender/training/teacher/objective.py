# SPDX-License-Identifier: GPL-3.0-or-later
"""The sum of all losses of a step."""

from __future__ import annotations

import torch
from torch import Tensor

from . import losses
from .config import at
from .frames import Frames
from .rays import Rays, draw_pixels, rays_at
from .render import Model, Posed, Seen

TURN, SHIFT, BEND = 0.1, 0.03, 0.15
"""usual errors of where poses start: radians, crop sides or log depth, radians"""


def draw_rows(frames: Frames, count: int, generator: torch.Generator) -> Tensor:
    """Rows (count,) of frames, better ones more often."""
    count = min(count, len(frames))
    return torch.multinomial(frames.quality + 0.05, count, replacement=False, generator=generator)


def objective(
    model: Model, frames: Frames, rows: Tensor, progress: float, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Loss of a step on frames `rows` (B,) at a share of the run, and its parts before they are weighted."""
    config = model.config
    device = model.told.device
    model.canonical.encoding.share = at(config.anneal, progress)
    beta = at(config.beta, progress) * model.canonical.unit
    posed = model.posed(rows.to(device), frames.subject[rows].to(device), frames.clip[rows].to(device))
    info = model.poses.start_info[rows.to(device)]
    rays = rays_at(frames, info, rows, draw_pixels(frames, rows, config.rays, generator))
    seen = model.render(rays, posed, beta, generator)
    trust = frames.quality[rows].to(device)[:, None]
    found = {
        **picture_losses(model, frames, rays, seen, posed, info, trust),
        **field_losses(model, seen, generator),
        **pose_losses(model, frames, rows.to(device), posed),
    }
    now = config.weights.now(progress)
    kept = {name: value for name, value in found.items() if name not in config.without and now[name] > 0}
    total = sum((now[name] * value for name, value in kept.items()), torch.zeros((), device=device))
    return total, {name: float(value.detach()) for name, value in kept.items()}


def picture_losses(
    model: Model, frames: Frames, rays: Rays, seen: Seen, posed: Posed, info: Tensor, trust: Tensor
) -> dict[str, Tensor]:
    """What the pictures say."""
    unit, device = model.canonical.unit, info.device
    known = rays.known * trust
    after = frames.after[rays.rows]
    there = after.clamp_min(0).to(device)
    following = model.posed(there, posed.subject, posed.clip)
    zoom = model.poses.start_focal[rays.rows.to(device)] / model.poses.start_focal[there]
    landed = model.drawn(seen.rest, following, info * zoom[:, None])
    shown = (seen.opacity.detach() > 0.5) * known
    follows = (after >= 0).to(device).float()[:, None]
    told = model.told[rays.told]
    sure = rays.told_trust * known * rays.mask
    returned = model.to_pose(seen.canonical, posed)
    return {
        "silhouette": losses.silhouette(seen.opacity, rays.mask, known),
        "colour": losses.colour(seen.colour, rays.colour, seen.opacity, rays.mask, known),
        "flow": losses.flow(landed, rays.at + rays.flow, rays.flow_trust * shown * follows),
        "surface_render": losses.surface_render(seen.rest / unit, told / unit, sure * shown),
        "surface_project": losses.surface_project(model.drawn(told, posed, info), rays.at, sure),
        "cycle": losses.cycle(seen.posed / unit, returned / unit, seen.weight.flatten(1)),
        "visibility": losses.visibility(
            model.canonical.visibility(seen.encoded.detach()).flatten(), (seen.reached.detach() > 0.5).flatten().float()
        ),
    }  # fmt: skip


def field_losses(model: Model, seen: Seen, generator: torch.Generator) -> dict[str, Tensor]:
    """What is known of any body: distances are distances, surfaces smooth and alike on both sides, bones inside."""
    canonical, config, unit = model.canonical, model.config, model.canonical.unit
    device = model.told.device
    box = canonical.base
    count = config.regular // 2
    pool = seen.canonical.detach().flatten(0, 1)
    near = pool[torch.randint(len(pool), (count,), generator=generator).to(device)]
    wide = box.low + box.span * torch.rand(count, 3, generator=generator).to(device)
    points = torch.cat([near, wide])
    slope = canonical.slope(points, 0.012 * unit)
    beside = near + 0.015 * unit * torch.randn(count, 3, generator=generator).to(device)
    distance = canonical.distance(points)
    mirrored = canonical.distance(points * model.gaussians.flip)
    bones = torch.cat(
        [model.shape.joints, 0.5 * (model.shape.joints + model.shape.joints[model.shape.parents])]
    )
    depth = (-0.5 * canonical.base(bones)[..., 0]).clamp(0, 0.02 * unit)
    added = model.gaussians.added(model.proxies)
    eye = torch.eye(3, device=device).expand(1, len(model.shape.joints), 3, 3)
    squares = model.gaussians.squares(eye, -model.shape.joints[None], model.proxies[None])
    skin = model.gaussians.weights(squares, model.proxies[None])
    return {
        "eikonal": losses.eikonal(slope),
        "smooth": losses.smooth(slope[:count], canonical.slope(beside, 0.012 * unit)),
        "symmetry": losses.symmetry(distance / unit, mirrored / unit),
        "bone_inside": losses.bone_inside((canonical.distance(bones) + depth) / unit, 0.0) * 100,
        "skin_residual": losses.skin_residual(added, model.skin_start),
        "skin_entropy": losses.skin_entropy(skin[0]),
        "residual_morphology": (
            model.morphology.residual(model.proxies[None], torch.zeros(1, dtype=torch.long, device=device)) / unit
        ).square().mean() * 100,
    }  # fmt: skip


def pose_losses(model: Model, frames: Frames, rows: Tensor, posed: Posed) -> dict[str, Tensor]:
    """What is known of any motion: joints within limits and not far from rest, smooth changes of where it started."""
    poses, shape = model.poses, model.shape
    at_cpu = rows.cpu()
    before, after = frames.before[at_cpu], frames.after[at_cpu]
    both = ((before >= 0) & (after >= 0)).to(rows.device).float()
    three = torch.stack([before.clamp_min(0).to(rows.device), rows, after.clamp_min(0).to(rows.device)], 1)
    turn, shift, bend = (poses.residual(values, three) for values in (poses.turn, poses.shift, poses.bend))
    camera = torch.cat([turn / TURN, shift / SHIFT], -1)
    return {
        "camera_smooth": losses.second_difference(camera, both),
        "pose_smooth": losses.second_difference(bend / BEND, both),
        "start": losses.start(turn[:, 1], TURN)
        + losses.start(shift[:, 1], SHIFT)
        + losses.start(bend[:, 1], BEND),
        "rest": losses.rest(posed.rotvecs, shape.limits),
        "limit": losses.limit(posed.rotvecs, shape.limits),
        "morphology": losses.morphology(shape.beta, shape.length),
    }
