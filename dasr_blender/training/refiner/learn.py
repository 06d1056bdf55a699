# SPDX-License-Identifier: GPL-3.0-or-later
"""What a round is trained for, and the mistakes that starts are given."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..student.body import crop_pixels
from ..student.rotation import geodesic, rotvec_to_matrix
from .data import POSE
from .network import Refiner, State

BEYOND = 0.8
"""radians that a start may be turned from the truth and still be mended"""


METRES = ("points", "depth")
"""losses of sizes and distances, which a teacher's clips have none of"""


@dataclass(frozen=True)
class RefinerLoss:
    """Weights of the losses."""

    points: float = 4.0
    """metres: the surface in the ray's axes, from the root"""
    seen: float = 10.0
    """crop sides: the same in the picture"""
    joints: float = 1.0
    """radians, each joint in its parent's frame"""
    root: float = 1.0
    depth: float = 1.0
    motion: float = 5.0
    """metres: second differences of the surface over frames"""
    decay: float = 0.8
    """of a round's weight against that of the next"""


@dataclass(frozen=True)
class Mistakes:
    """Usual size of what is added to a clip's start, at the most."""

    joints: float = 0.14
    root: float = 0.1
    shift: float = 0.03
    depth: float = 0.08
    morphology: float = 0.5
    """standard deviations"""
    confidence: float = 0.3
    untouched: float = 0.3
    """share of clips that start where tracking left them"""


def wander(shape: tuple[int, ...], frames: int, generator: torch.Generator) -> Tensor:
    """Noise of unit size that stays or drifts through a clip: shape (N, …) → (N, frames, …)."""
    n, rest = shape[0], shape[1:]
    time = torch.linspace(0, 1, frames).reshape(1, frames, *[1] * len(rest))
    stay, a, b = (torch.randn((n, 1, *rest), generator=generator) for _ in range(3))
    often = torch.rand((n, 1, *[1] * len(rest)), generator=generator) * 3
    wave = a * torch.sin(2 * math.pi * often * time) + b * torch.cos(2 * math.pi * often * time)
    shiver = torch.randn((n, frames, *rest), generator=generator)
    return 0.75 * stay + 0.55 * wave + 0.2 * shiver


def mistaken(batch: State, std: Tensor, clips: int, sizes: Mistakes, generator: torch.Generator) -> State:
    """The batch with its start made worse, each clip by another measure."""
    frames = len(batch["rotation"]) // clips
    joints, k = batch["joints"].shape[1], batch["morphology"].shape[1]

    def much(*ones: int) -> Tensor:
        some = torch.rand((clips, 1, *ones), generator=generator)
        keep = torch.rand((clips, 1, *ones), generator=generator) > sizes.untouched
        return some * keep

    def noise(*shape: int) -> Tensor:
        return (wander((clips, *shape), frames, generator) * much(*[1] * len(shape))).flatten(0, 1)

    out = dict(batch)
    turns = noise(joints, 3) * sizes.joints
    # errors come joint by joint: a third of the joints bear most of them
    bears = (torch.rand((clips, 1, joints, 1), generator=generator) < 0.4).float().expand(-1, frames, -1, -1)
    out["joints"] = rotvec_to_matrix(turns * (0.2 + bears.flatten(0, 1))) @ batch["joints"]
    eye = torch.eye(3)
    out["joints"][:, 0] = eye
    out["rotation"] = rotvec_to_matrix(noise(3) * sizes.root) @ batch["rotation"]
    moved = noise(3) * torch.tensor([sizes.shift, sizes.shift, sizes.depth])
    out["translation"] = batch["translation"] + moved
    grown = (torch.randn((clips, 1, k), generator=generator) * much(1)).expand(-1, frames, -1).flatten(0, 1)
    out["morphology"] = batch["morphology"] + grown * sizes.morphology * std
    # the picture's word is not always given
    lost = torch.rand((clips, 1, 1), generator=generator) * 0.3
    mass = batch["map_mass"].unflatten(0, (clips, frames))
    quiet = torch.rand((clips, 1, 1), generator=generator) < 0.1
    heard = ((torch.rand(mass.shape, generator=generator) > lost) & ~quiet).float().flatten(0, 1)
    out["map_mass"] = batch["map_mass"] * heard
    out["map_at"] = batch["map_at"] * heard[..., None]
    doubted = (
        torch.rand((clips, frames), generator=generator)
        < 0.06 * torch.rand((clips, 1), generator=generator) * 2
    )
    out["trust"] = torch.where(doubted, 0.03, 1.0).flatten()
    sure = batch["joint_confidence"]
    out["joint_confidence"] = (sure + sizes.confidence * 0.2 * noise(joints)).clamp(0, 1)
    return out


def mirrored(batch: State, joints: Tensor, points: Tensor) -> State:
    """The batch in a mirror: x of the picture and of the body turned over.

    joints (J,) and points (V,): each one's counterpart on the other side.
    """
    flip = torch.tensor([-1.0, 1.0, 1.0])
    both = flip[:, None] * flip
    out = dict(batch)
    for name in batch:
        kind, value = name.removeprefix("true_"), batch[name]
        if kind == "rotation":
            out[name] = value * both
        elif kind == "joints":
            out[name] = value[:, joints] * both
        elif kind in ("translation", "crop_info"):
            out[name] = value * flip
        elif kind == "distance":
            out[name] = value.flip(-1)
        elif kind == "outline":
            out[name] = value * torch.tensor([-1.0, 1.0, -1.0, 1.0, 1.0])
        elif kind == "map_mass":
            out[name] = value[:, points]
        elif kind == "map_at":
            out[name] = value[:, points] * torch.tensor([-1.0, 1.0])
        elif kind == "joint_confidence":
            out[name] = value[:, joints]
    return out


def refined(refiner: Refiner, batch: State, clips: int, rounds: int) -> list[State]:
    """States after every round, the last the answer. Poses do not carry gradients from round to round; memory does."""
    state = {k: v for k, v in batch.items() if not k.startswith("true_")}
    config = refiner.config
    state["memory"] = batch["rotation"].new_zeros(len(batch["rotation"]), config.joints, config.width)
    found = []
    for _ in range(rounds):
        state = {**state, **refiner(state, clips)}
        found.append(state)
        state = {k: v.detach() if k in POSE else v for k, v in state.items()}
    return found


@torch.no_grad()
def with_truth(refiner: Refiner, batch: State) -> State:
    """The batch with where the true surface is, true_points (B,V,3) in the ray's axes and true_seen (B,V,2), and how
    much each frame counts (B,): by its labels' quality, where the start is not turned beyond what looking again can
    mend; and how much its sizes and distances do."""
    truth = {k: batch[f"true_{k}"] for k in POSE}
    points = refiner.surface.posed_points(truth)["points"]
    seen = crop_pixels(points, None, truth["translation"], batch["crop_info"])
    counts = batch["quality"] * (geodesic(batch["rotation"], truth["rotation"]) < BEYOND)
    return {**batch, "true_points": points, "true_seen": seen, "counts": counts, "metres": counts * batch["measured"]}


def errors(refiner: Refiner, state: State, batch: State, clips: int) -> dict[str, Tensor]:
    """Mean errors against the truth over the frames that count, each in its own unit (see `RefinerLoss`)."""
    surface = refiner.surface
    truth = {k: batch[f"true_{k}"] for k in POSE}
    true, true_seen = batch["true_points"], batch["true_seen"]
    counts, metres = batch["counts"], batch["metres"]
    posed = surface.posed_points(state)["points"]
    seen = crop_pixels(posed, None, state["translation"], batch["crop_info"])

    def mean(values: Tensor, weights: Tensor = counts) -> Tensor:
        return (values.flatten(1).mean(1) * weights).sum() / weights.sum().clamp_min(1.0)

    def motion(points: Tensor) -> Tensor:
        p = points.unflatten(0, (clips, -1))
        return p[:, 2:] - 2 * p[:, 1:-1] + p[:, :-2]

    whole = counts.unflatten(0, (clips, -1))
    whole = (whole[:, 2:] * whole[:, 1:-1] * whole[:, :-2]).flatten()
    turned = geodesic(state["rotation"], truth["rotation"])
    return {
        "points": mean((posed - true).norm(dim=-1), metres),
        "seen": mean((seen - true_seen).norm(dim=-1).clamp(max=0.5)),
        "joints": mean(geodesic(state["joints"][:, 1:], truth["joints"][:, 1:])),
        "root": mean(turned[:, None]),
        "depth": mean((state["translation"] - truth["translation"])[:, 2:].abs(), metres),
        "motion": mean((motion(posed) - motion(true)).norm(dim=-1).flatten(0, 1), whole),
    }


def loss_of(
    refiner: Refiner, batch: State, clips: int, rounds: int, weights: RefinerLoss
) -> tuple[Tensor, dict[str, float]]:
    """The loss over all rounds, and the errors of the last."""
    batch = with_truth(refiner, batch)
    total = batch["rotation"].new_zeros(())
    found: dict[str, Tensor] = {}
    for n, state in enumerate(refined(refiner, batch, clips, rounds)):
        found = errors(refiner, state, batch, clips)
        share = weights.decay ** (rounds - 1 - n)
        total = total + share * sum(getattr(weights, k) * v for k, v in found.items())
    return total, {k: float(v.detach()) for k, v in found.items()}
