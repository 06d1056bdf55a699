# SPDX-License-Identifier: GPL-3.0-or-later
"""The category's body in torch: kinematics, linear-blend skinning and projection, differentiable."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ...core.category import Category
from ...core.skinning import dense_weights
from .rotation import ray_rotation


class Kinematics(nn.Module):
    """Forward kinematics of a joint tree."""

    position: Tensor  # (J,) where each joint comes in the order of the levels

    def __init__(self, parents: np.ndarray, persistent: bool = False) -> None:
        """parents (J,): of each joint, −1 for the root.  persistent: save with the weights of a network."""
        super().__init__()
        depth = np.zeros(len(parents), int)
        for j in range(1, len(parents)):
            depth[j] = depth[parents[j]] + 1
        # Joints of one depth are posed together: eight small products instead of thirty.
        self.levels = [(np.flatnonzero(depth == d), parents[depth == d]) for d in range(1, depth.max() + 1)]
        order = np.concatenate([[0], *[level for level, _ in self.levels]])
        self.register_buffer("position", torch.as_tensor(np.argsort(order)), persistent=persistent)

    def posed(self, rotations: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """rotations (B,J,3,3) local, offsets (B,J,3) from the parent → rotations and places in body space.

        The root stays in its place, unturned.
        """
        still = torch.eye(3, device=offsets.device) + torch.zeros_like(offsets[:, :1, :1, None])  # (B, 1, 3, 3)
        turns, places = [still], [offsets[:, :1]]
        above_of = {0: 0}  # joint -> its place in its level
        for level, parents in self.levels:
            pick = [above_of[int(p)] for p in parents]
            turn, place = turns[-1][:, pick], places[-1][:, pick]
            turns.append(turn @ rotations[:, level])
            places.append((turn @ offsets[:, level, :, None])[..., 0] + place)
            above_of.update({int(j): i for i, j in enumerate(level)})
        return torch.cat(turns, 1)[:, self.position], torch.cat(places, 1)[:, self.position]


class TorchBody(Kinematics):
    """Kinematics and linear-blend skinning of a sample of the body's vertices."""

    vertices: Tensor  # (V, 3)
    joints: Tensor  # (J, 3)
    weights: Tensor  # (V, J)
    vertex_basis: Tensor  # (K, V, 3)
    joint_basis: Tensor  # (K, J, 3)
    std: Tensor  # (K,)

    def __init__(
        self, category: Category, vertices: int | np.ndarray = 500, persistent: bool = False
    ) -> None:
        """vertices: how many, spread over the body, or which (V,).  persistent: save them with a network."""
        super().__init__(category.skeleton.parents, persistent)
        body = category.body
        count = len(body.vertices)
        if isinstance(vertices, int):
            chosen = np.linspace(0, count - 1, min(vertices, count)).round().astype(int)
        else:
            chosen = np.asarray(vertices)
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
            value = torch.as_tensor(np.ascontiguousarray(value), dtype=torch.float32)
            self.register_buffer(name, value, persistent=persistent)
        self.parents = torch.as_tensor(np.maximum(category.skeleton.parents, 0).astype(np.int64))

    def blended(self, rotations: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """rotations (B,J,3,3) local, beta (B,K) → the skin's affine motion of every vertex (B,V,3,4), vertices at rest
        (B,V,3), the joints' turns (B,J,3,3) and places (B,J,3), body space."""
        joints = self.joints + torch.einsum("bk,kjc->bjc", beta, self.joint_basis)
        vertices = self.vertices + torch.einsum("bk,kvc->bvc", beta, self.vertex_basis)
        offsets = torch.cat([joints[:, :1], (joints - joints[:, self.parents])[:, 1:]], 1)
        turn, place = self.posed(rotations, offsets)
        shift = place - (turn @ joints[..., None])[..., 0]
        affine = torch.cat([turn, shift[..., None]], -1).flatten(2)  # (B, J, 12)
        return torch.einsum("vj,bjm->bvm", self.weights, affine).unflatten(-1, (3, 4)), vertices, turn, place

    def forward(self, rotations: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """rotations (B,J,3,3) local, beta (B,K) → posed vertices (B,V,3) and joints (B,J,3), body space."""
        blended, vertices, _, place = self.blended(rotations, beta)
        return (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3], place


def crop_pixels(points: Tensor, rotation: Tensor | None, translation: Tensor, info: Tensor) -> Tensor:
    """Body points (B,N,3) under crop-relative root poses (B,3,3), (B,3) → crop units (B,N,2), 0 at its centre.

    rotation: None for points that are turned already, into the axes of the crop's ray.
    core.camera.decode_root followed by the projection, all in terms of crop_info (B,3).
    """
    place, side = info[:, :2], info[:, 2:]
    depth = torch.exp(translation[:, 2:].clamp(-3, 5)) / side
    root = torch.cat([(place + side * translation[:, :2]) * depth, depth], 1)
    turn = ray_rotation(info) if rotation is None else ray_rotation(info) @ rotation
    camera = points @ turn.transpose(-1, -2) + root[:, None]
    seen = camera[..., :2] / camera[..., 2:].clamp_min(0.05)
    return (seen - place[:, None]) / side[:, None]


def take(values: Tensor, index: Tensor) -> Tensor:
    """values (B,M,…) at index (B,) → (B,…)."""
    return values[torch.arange(len(index), device=index.device), index]
