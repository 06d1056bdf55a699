# SPDX-License-Identifier: GPL-3.0-or-later
"""What the student is asked to get right, on the posed body itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.category import Category
from ...core.skinning import dense_weights
from .data import Batch
from .rotation import geodesic, quat_to_matrix, ray_rotation, sixd_to_matrix


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
    """crop sides between projected joints, best hypothesis"""
    morphology: float = 0.2
    """standard deviations"""
    spread: float = 0.05
    """negative log-likelihood of the joint errors under the spread that the network says to expect"""
    acceleration: float = 5.0
    """metres a frame², clips only"""


class TorchBody(torch.nn.Module):
    """The category's kinematics and linear-blend skinning, on a sample of its vertices, differentiable."""

    vertices: Tensor  # (V, 3)
    joints: Tensor  # (J, 3)
    weights: Tensor  # (V, J)
    vertex_basis: Tensor  # (K, V, 3)
    joint_basis: Tensor  # (K, J, 3)
    std: Tensor  # (K,)
    position: Tensor  # (J,) where each joint comes in the order of the levels

    def __init__(self, category: Category, vertices: int = 500) -> None:
        super().__init__()
        body = category.body
        count = len(body.vertices)
        chosen = np.linspace(0, count - 1, min(vertices, count)).round().astype(int)
        self.chosen = chosen
        weights = dense_weights(body.skin_index[chosen], body.skin_weight[chosen], len(body.joints))
        for name, value in (
            ("vertices", body.vertices[chosen]),
            ("joints", body.joints),
            ("weights", weights),
            ("vertex_basis", body.morphology_vertices[:, chosen]),
            ("joint_basis", body.morphology_joints),
            ("std", body.morphology_std),
        ):
            self.register_buffer(name, torch.as_tensor(np.ascontiguousarray(value), dtype=torch.float32))
        parents = category.skeleton.parents
        depth = np.zeros(len(parents), int)
        for j in range(1, len(parents)):
            depth[j] = depth[parents[j]] + 1
        # Joints of one depth are posed together: eight small products instead of thirty.
        self.levels = [(np.flatnonzero(depth == d), parents[depth == d]) for d in range(1, depth.max() + 1)]
        order = np.concatenate([[0], *[level for level, _ in self.levels]])
        self.register_buffer("position", torch.as_tensor(np.argsort(order)))
        self.parents = torch.as_tensor(np.maximum(parents, 0).astype(np.int64))

    def forward(self, rotations: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """rotations (B,J,3,3) local, beta (B,K) → posed vertices (B,V,3) and joints (B,J,3), body space."""
        joints = self.joints + torch.einsum("bk,kjc->bjc", beta, self.joint_basis)
        vertices = self.vertices + torch.einsum("bk,kvc->bvc", beta, self.vertex_basis)
        offsets = joints - joints[:, self.parents]
        turns, places = [torch.eye(3).expand(len(beta), 1, 3, 3)], [joints[:, :1]]
        above_of = {0: (0, 0)}  # joint -> (level, place in it)
        for depth, (level, parents) in enumerate(self.levels, start=1):
            pick = [above_of[int(p)][1] for p in parents]
            turn, place = turns[-1][:, pick], places[-1][:, pick]
            turns.append(turn @ rotations[:, level])
            places.append((turn @ offsets[:, level, :, None])[..., 0] + place)
            above_of.update({int(j): (depth, i) for i, j in enumerate(level)})
        turn = torch.cat(turns, 1)[:, self.position]
        place = torch.cat(places, 1)[:, self.position]
        shift = place - (turn @ joints[..., None])[..., 0]
        affine = torch.cat([turn, shift[..., None]], -1).flatten(2)  # (B, J, 12)
        blended = torch.einsum("vj,bjm->bvm", self.weights, affine).unflatten(-1, (3, 4))
        return (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3], place


def crop_pixels(points: Tensor, rotation: Tensor, translation: Tensor, info: Tensor) -> Tensor:
    """Body points (B,N,3) under crop-relative root poses (B,3,3), (B,3) → crop units (B,N,2), 0 at its centre.

    core.camera.decode_root followed by the projection, all in terms of crop_info (B,3).
    """
    place, side = info[:, :2], info[:, 2:]
    depth = torch.exp(translation[:, 2:].clamp(-3, 5)) / side
    root = torch.cat([(place + side * translation[:, :2]) * depth, depth], 1)
    camera = points @ (ray_rotation(info) @ rotation).transpose(-1, -2) + root[:, None]
    seen = camera[..., :2] / camera[..., 2:].clamp_min(0.05)
    return (seen - place[:, None]) / side[:, None]


def take(values: Tensor, index: Tensor) -> Tensor:
    """values (B,M,…) at index (B,) → (B,…)."""
    return values[torch.arange(len(index)), index]


def student_loss(
    out: dict[str, Tensor], batch: Batch, body: TorchBody, weights: LossWeights, clip: int = 1
) -> tuple[Tensor, dict[str, float]]:
    """Loss of answers (B,…) for targets (B,…); with `clip` > 1 the rows are clips of that many frames.

    Returns the sum and its parts (unweighted).
    """
    parts: dict[str, Tensor] = {}
    hypotheses = sixd_to_matrix(out["root_rotation"])  # (B, M, 3, 3)
    angle = geodesic(hypotheses, batch["root_rotation"][:, None])  # (B, M)
    shift = (out["root_translation"] - batch["root_translation"][:, None]).abs()  # (B, M, 3)
    shift = shift[..., 0] + shift[..., 1] + 0.5 * shift[..., 2]
    best = (angle + 0.5 * shift).detach().argmin(1)
    parts["root"] = take(angle, best).mean()
    parts["mean_hypothesis"] = angle.mean()
    parts["choice"] = F.nll_loss(out["root_logprob"], best)
    parts["translation"] = take(shift, best).mean()

    target = quat_to_matrix(batch["joints"])
    local = sixd_to_matrix(out["joint_rotations"])
    error = geodesic(local, target)[:, 1:]  # the root never turns
    weight = batch["joint_weight"][:, 1:]
    parts["joints"] = (error * weight).sum() / weight.sum().clamp_min(1.0)
    spread = out["joint_spread"][:, 1:].clamp(-6.0, 3.0)
    parts["spread"] = (
        (error.detach() * torch.exp(-spread) + spread) * weight
    ).sum() / weight.sum().clamp_min(1.0)

    beta = out["morphology"] * body.std
    parts["morphology"] = ((beta - batch["morphology"]) / body.std.clamp_min(1e-4)).abs().mean()
    vertices, joints = body(local, beta)
    with torch.no_grad():
        true_vertices, true_joints = body(target, batch["morphology"])
        true_pixels = crop_pixels(
            true_joints, batch["root_rotation"], batch["root_translation"], batch["crop_info"]
        )
    parts["vertices"] = (vertices - true_vertices).norm(dim=-1).mean()
    pixels = crop_pixels(
        joints, take(hypotheses, best), take(out["root_translation"], best), batch["crop_info"]
    )
    parts["reprojection"] = (pixels - true_pixels).abs().clamp(max=2.0).mean()
    if clip > 1:

        def acceleration(x: Tensor) -> Tensor:
            x = x.unflatten(0, (-1, clip))
            return x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]

        parts["acceleration"] = (acceleration(joints) - acceleration(true_joints)).norm(dim=-1).mean()
    total = torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()
    return total, {name: float(value.detach()) for name, value in parts.items()}
