# SPDX-License-Identifier: GPL-3.0-or-later
"""What the student is asked to get right, on the posed body itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.category import Category
from ..errors import TrainingError
from .body import TorchBody, crop_pixels, take
from .data import Batch
from .rotation import geodesic, quat_to_matrix, sixd_to_matrix
from .surface import CELL, NOTHING


@dataclass(frozen=True)
class LossWeights:
    """Every weight of the loss, in one place."""

    root: float = 1.0
    """radians between the true root rotation and the best hypothesis"""
    mean_hypothesis: float = 0.05
    """the same, averaged over hypotheses: keeps the unused ones from drifting off (relaxed winner-takes-all)"""
    choice: float = 0.3
    """cross-entropy of the log-probabilities against which hypothesis was best"""
    translation: float = 2.0
    """crop sides (u, v) and log depth (w), best hypothesis"""
    joints: float = 1.0
    """radians, mean over joints"""
    vertices: float = 10.0
    """metres between posed vertices in body space"""
    reprojection: float = 4.0
    """crop sides between projected joints and surface points, best hypothesis"""
    morphology: float = 0.2
    """standard deviations"""
    spread: float = 0.05
    """negative log-likelihood of the joint errors under the spread that the network says to expect"""
    morphology_prior: float = 0.01
    """standard deviations squared: an unclear animal is an ordinary one"""
    surface: float = 3.0
    """metres between the surface map and the body point that a cell shows"""
    surface_spread: float = 0.05
    """the same for the surface map's own error as `spread` for the joints'"""
    surface_visible: float = 0.2
    """cross-entropy of whether a cell shows the body"""
    joint_map: float = 0.1
    """cross-entropy of a joint's map against a spot of one cell round its true place; 2.8 at best"""
    joint_turn: float = 0.4
    """radians between a joint's rotation and what its token says by itself"""
    silhouette: float = 1.0
    """share of the mask that the body's points miss"""
    appearance: float = 0.5
    """difference between a vertex's colour and the picture, 0…1"""
    appearance_prior: float = 0.002
    first_look: float = 0.4
    """all of the above for the answer before the network looks back, parameters only"""
    acceleration: float = 5.0
    """metres a frame², clips only"""


@dataclass(frozen=True)
class LossConfig:
    """What a training asks for, beside the weights."""

    weights: LossWeights = field(default_factory=LossWeights)
    multiplex: Literal["relaxed", "winner", "softmax"] = "relaxed"
    """how hypotheses share the blame: the best one and a little of all, the best one alone, or each by its
    probability (DASR, CVPR 2023)"""

    def __post_init__(self) -> None:
        if self.multiplex not in ("relaxed", "winner", "softmax"):
            raise TrainingError(f"multiplex is relaxed, winner or softmax, not '{self.multiplex}'")


class BodySurface(nn.Module):
    """Where every vertex lies at rest and which colour it can have: what a grid of vertex numbers stands for."""

    rest: Tensor  # (V, 3)
    colour: Tensor  # (V, 3)
    colour_basis: Tensor  # (A, V, 3)
    twin: Tensor  # (V,)

    def __init__(self, category: Category) -> None:
        super().__init__()
        body = category.body
        for name, value, kind in (
            ("rest", body.vertices, torch.float32),
            ("colour", body.appearance_mean, torch.float32),
            ("colour_basis", body.appearance_basis, torch.float32),
            ("twin", body.mirror_vertex, torch.int64),
        ):
            self.register_buffer(name, torch.as_tensor(value).to(kind), persistent=False)


def counted(values: Tensor, quality: Tensor) -> Tensor:
    """Mean of values (B, …) in which a row counts as much as its quality (B,) says, of all B rows.

    Not over the sum of the qualities: among good frames a bad one is worth less, and so is a batch of bad ones.
    """
    return (values.flatten(1).mean(1) * quality).mean() if values.dim() > 1 else (values * quality).mean()


def _pose_parts(
    out: dict[str, Tensor], batch: Batch, body: TorchBody, config: LossConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """The parts that compare parameters with parameters, and which hypothesis (B,) stands for the answer."""
    parts: dict[str, Tensor] = {}
    quality = batch["quality"]
    hypotheses = sixd_to_matrix(out["root_rotation"])  # (B, M, 3, 3)
    angle = geodesic(hypotheses, batch["root_rotation"][:, None])  # (B, M)
    shift = (out["root_translation"] - batch["root_translation"][:, None]).abs()  # (B, M, 3)
    shift = shift[..., 0] + shift[..., 1] + 0.5 * shift[..., 2]
    if config.multiplex == "softmax":
        best = out["root_logprob"].detach().argmax(1)
        probability = out["root_logprob"].exp()
        parts["root"] = counted((probability * angle).sum(1), quality)
        parts["translation"] = counted((probability * shift).sum(1), quality)
    else:
        best = (angle + 0.5 * shift).detach().argmin(1)
        parts["root"] = counted(take(angle, best), quality)
        if config.multiplex == "relaxed":
            parts["mean_hypothesis"] = counted(angle, quality)
        parts["choice"] = counted(-take(out["root_logprob"], best), quality)
        parts["translation"] = counted(take(shift, best), quality)

    error = geodesic(sixd_to_matrix(out["joint_rotations"]), quat_to_matrix(batch["joints"]))[:, 1:]
    weight = batch["joint_weight"][:, 1:]  # the root never turns
    known = weight.sum().clamp_min(1.0)
    weight = weight * quality[:, None]
    parts["joints"] = (error * weight).sum() / known
    spread = out["joint_spread"][:, 1:].clamp(-6.0, 3.0)
    parts["spread"] = ((error.detach() * torch.exp(-spread) + spread) * weight).sum() / known
    beta = out["morphology"] * body.std
    off = (beta - batch["morphology"]) / body.std.clamp_min(1e-4)
    parts["morphology"] = counted(off.abs(), quality)
    parts["morphology_prior"] = counted(out["morphology"].square(), quality)
    return parts, best


def _surface_parts(
    out: dict[str, Tensor], batch: Batch, surface: BodySurface, shown: Tensor, cover: Tensor
) -> dict[str, Tensor]:
    """The surface map against the labelled body, and the colours of its vertices against the picture.

    shown: (B,n,n) the cells that show a known point; cover: (B,n,n) the mask, averaged over each cell.
    """
    parts: dict[str, Tensor] = {}
    numbers, quality = batch["surface"][shown], cell_quality(batch, shown)  # (N,)
    error = (out["surface_map"][shown] - surface.rest[numbers]).norm(dim=-1)
    parts["surface"] = counted(error, quality)
    spread = out["surface_spread"][shown].clamp(-6.0, 2.0)
    parts["surface_spread"] = counted(error.detach() * torch.exp(-spread) + spread, quality)
    known = shown | (cover < 0.1)  # a cell of the mask that shows nothing known proves nothing
    surprise = F.binary_cross_entropy_with_logits(
        out["surface_visible"][known], shown[known].float(), reduction="none"
    )
    parts["surface_visible"] = counted(surprise, cell_quality(batch, known))
    parts["appearance"] = colour_error(out, batch, surface, shown, cover)
    parts["appearance_prior"] = counted(out["appearance"].square(), batch["quality"])
    return parts


def _joint_parts(
    out: dict[str, Tensor], batch: Batch, true_pixels: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """The joints' maps and their tokens' own answers. true_pixels (B,J,2) crop sides, target (B,J,3,3) rotations.

    A joint outside the crop has no place in its map, hidden ones have.
    """
    size = math.isqrt(out["joint_map"].shape[-1])
    line = (torch.arange(size, device=true_pixels.device) + 0.5) / size - 0.5
    near = torch.exp(-0.5 * ((line - true_pixels[..., None]) * size).square())  # (B, J, 2, n)
    spot = near[:, :, 1, :, None] * near[:, :, 0, None, :]
    spot = (spot / spot.sum((-1, -2), keepdim=True).clamp_min(1e-9)).flatten(2)
    surprise = -(spot * out["joint_map"]).sum(-1)  # (B, J)
    weight = batch["joint_weight"] * (true_pixels.abs() < 0.5).all(-1)
    known = weight.sum().clamp_min(1.0)
    error = geodesic(sixd_to_matrix(out["joint_turn"]), target)[:, 1:]
    turning = batch["joint_weight"][:, 1:]
    quality = batch["quality"][:, None]
    return {
        "joint_map": (surprise * weight * quality).sum() / known,
        "joint_turn": (error * turning * quality).sum() / turning.sum().clamp_min(1.0),
    }


def cells(batch: Batch) -> tuple[Tensor, Tensor]:
    """The cells (B,n,n) of a batch that show a known point, and the mask averaged over each (B,n,n)."""
    cover = F.avg_pool2d(batch["crops"][:, 3:], CELL)[:, 0]
    return (batch["surface"] != NOTHING) & (cover > 0.5), cover


def cell_quality(batch: Batch, which: Tensor) -> Tensor:
    """The quality (N,) of the frames that the cells `which` (B,n,n) belong to."""
    return batch["quality"][which.nonzero()[:, 0]]


def colour_error(
    out: dict[str, Tensor], batch: Batch, surface: BodySurface, shown: Tensor, cover: Tensor
) -> Tensor:
    """Mean difference between the vertices' colours and the picture, 0…1, in the cells `shown` (B,n,n).

    cover: (B,n,n) the mask averaged over each cell.
    """
    numbers, rows = batch["surface"][shown], shown.nonzero()[:, 0]  # (N,)
    seen = F.avg_pool2d(batch["crops"][:, :3], CELL) / cover[:, None].clamp_min(1e-3)
    seen = seen.permute(0, 2, 3, 1)[shown]
    change = (out["appearance"][rows, :, None] * surface.colour_basis[:, numbers].transpose(0, 1)).sum(1)
    return counted((surface.colour[numbers] + change - seen).abs(), batch["quality"][rows])


def student_loss(
    out: dict[str, Tensor],
    batch: Batch,
    body: TorchBody,
    config: LossConfig,
    surface: BodySurface | None = None,
    clip: int = 1,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of answers (B,…) for targets (B,…); with `clip` > 1 the rows are clips of that many frames.

    Every frame counts by its quality; one of quality 0 leaves no gradient.
    surface: also ask for the surface map, the colours and the outline; the batch then holds the crops.
    Returns the sum and its parts (unweighted).
    """
    parts, best = _pose_parts(out, batch, body, config)
    beta = out["morphology"] * body.std
    local, target = sixd_to_matrix(out["joint_rotations"]), quat_to_matrix(batch["joints"])
    vertices, joints = body(local, beta)
    with torch.no_grad():
        true_vertices, true_joints = body(target, batch["morphology"])
        truth = torch.cat([true_joints, true_vertices[:, ::5]], 1)
        true_pixels = crop_pixels(
            truth, batch["root_rotation"], batch["root_translation"], batch["crop_info"]
        )
    quality = batch["quality"]
    parts["vertices"] = counted((vertices - true_vertices).norm(dim=-1), quality)
    pixels = crop_pixels(
        torch.cat([joints, vertices[:, ::5]], 1),
        sixd_to_matrix(take(out["root_rotation"], best)),
        take(out["root_translation"], best),
        batch["crop_info"],
    )
    parts["reprojection"] = counted((pixels - true_pixels).abs().clamp(max=2.0), quality)
    if surface is not None:
        shown, cover = cells(batch)
        parts["silhouette"] = _outside(pixels, true_pixels, cover[:, None], quality)
        if "surface_map" in out and bool(shown.any()):
            parts.update(_surface_parts(out, batch, surface, shown, cover))
    if "joint_map" in out:
        parts.update(_joint_parts(out, batch, true_pixels[:, : joints.shape[1]], target))
    if "appearance_target" in batch:
        parts["appearance"] = counted((out["appearance"] - batch["appearance_target"]).abs(), quality)
    if clip > 1:

        def acceleration(x: Tensor) -> Tensor:
            x = x.unflatten(0, (-1, clip))
            return x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]

        each = quality.unflatten(0, (-1, clip))
        least = torch.minimum(torch.minimum(each[:, 2:], each[:, 1:-1]), each[:, :-2])  # (N, clip − 2)
        off = (acceleration(joints) - acceleration(true_joints)).norm(dim=-1).flatten(0, 1)
        parts["acceleration"] = counted(off, least.flatten())
    return total(parts, config.weights)


def first_look_loss(
    out: dict[str, Tensor], batch: Batch, body: TorchBody, config: LossConfig
) -> tuple[Tensor, dict[str, float]]:
    """Loss of the answer before the network looked back: parameters only, so that it costs little."""
    return total(_pose_parts(out, batch, body, config)[0], config.weights)


def _outside(pixels: Tensor, true_pixels: Tensor, cover: Tensor, quality: Tensor) -> Tensor:
    """How much of the body lies outside the mask: mean of 1 − mask at points that should be inside it.

    Points (B,N,2) in crop sides, cover (B,1,n,n), quality (B,). Only points whose true place is inside count, so that
    what an occluder hides, or the mask leaves out, asks for nothing.
    """
    soft = F.avg_pool2d(F.pad(cover, (2, 2, 2, 2)), 5, 1)  # a slope that reaches further than a cell

    def at(points: Tensor, image: Tensor) -> Tensor:
        return F.grid_sample(image, (2 * points)[:, None], align_corners=False)[:, 0, 0]

    inside = (at(true_pixels, cover) > 0.5).float()
    miss = (at(true_pixels, soft) - at(pixels, soft)).clamp_min(0.0)
    return (inside * miss * quality[:, None]).sum() / inside.sum().clamp_min(1.0)


def total(parts: dict[str, Tensor], weights: LossWeights) -> tuple[Tensor, dict[str, float]]:
    """Weighted sum of the parts, and the parts themselves."""
    weighted = torch.stack([getattr(weights, name) * value for name, value in parts.items()])
    return weighted.sum(), {name: float(value.detach()) for name, value in parts.items()}
