# SPDX-License-Identifier: GPL-3.0-or-later
"""The refiner: the tracked body is laid over the mask and the surface map, and moved to where they lie.

Its proportions stay: a network that changed them knew the animals of its training by heart, and new ones grew worse.

One round reads from top to bottom:

    pose (root, joints, proportions), evidence (outline, distances, surface map)
      -> Posed           some three hundred points of the body in the crop
      -> residuals       how far each should move: to the cell of the surface map that shows it, to the outline,
                         into the mask, out to its rim
      -> moments         of the residuals about each joint, over the joint's own part and over all that hangs on it;
                         the turn that Gauss and Newton would make of each (damped)
      -> tokens          one a joint: those, the joint's place and pose, and what the last round remembered
      -> Block           joints attend to each other, frames to their neighbours
      -> steps           of the root, and of every joint in camera axes

Rounds share their weights (RAFT, ECCV 2020; ReFit, ICCV 2023). What a round measures is not differentiated: it is
where the body lies, and the next round measures anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.category import Category
from ...core.mesh import vertex_normals
from ...predict.coarse import coarse_body
from ..student.body import TorchBody, crop_pixels
from ..student.rotation import rotvec_to_matrix

State = dict[str, Tensor]

WITHIN = "refiner."
"""what the names of its arrays begin with in an exported file"""

FIELDS = 4
"""kinds of residuals: surface map, outline to body, body into the mask, rim to the outline"""


@dataclass(frozen=True)
class RefinerConfig:
    """Sizes of the network; saved beside its weights."""

    joints: int = 30
    morphology: int = 11
    points: int = 320
    """vertices of the body that it looks at"""
    width: int = 128
    """of a joint's token"""
    blocks: int = 2
    heads: int = 4
    kernel: int = 5
    """frames that a convolution over time sees"""

    @property
    def radius(self) -> int:
        """Frames on each side that can change one frame's answer, a round."""
        return self.blocks * (self.kernel // 2)


class Surface(TorchBody):
    """Points of the body with normals, skinned by the same joints; and which joints carry which."""

    vertex: Tensor  # (V,) which of the body's, spread the further the earlier
    normals: Tensor  # (V, 3)
    carried: Tensor  # (J, V), share of a point that moves with the joint or one below it

    def __init__(self, category: Category, points: int) -> None:
        body, parents = category.body, category.skeleton.parents
        chosen = coarse_body(body.vertices, body.faces, points).vertex
        super().__init__(category, chosen, persistent=True)
        below = np.eye(len(parents))
        for j in range(len(parents) - 1, 0, -1):
            below[parents[j]] += below[j]
        normals = vertex_normals(body.vertices, body.faces)[chosen]
        self.register_buffer("vertex", torch.as_tensor(np.asarray(chosen, np.int64)))
        self.register_buffer("normals", torch.as_tensor(normals, dtype=torch.float32))
        self.register_buffer("carried", torch.as_tensor(below, dtype=torch.float32) @ self.weights.T)

    def posed_points(self, state: State) -> dict[str, Tensor]:
        """In the axes of the crop's ray, metres from the root: points and normals (B,V,3), joints (B,J,3) and their
        turns (B,J,3,3)."""
        blended, vertices, turn, place = self.blended(state["joints"], state["morphology"])
        turned, root = blended[..., :3], state["rotation"]
        points = (turned * vertices[..., None, :]).sum(-1) + blended[..., 3]
        normals = (turned * self.normals[:, None]).sum(-1)
        back = root.transpose(-1, -2)
        return {
            "points": points @ back,
            "normals": F.normalize(normals @ back, dim=-1),
            "joints": place @ back,
            "turn": root[:, None] @ turn,
        }


def solve3(h: Tensor, b: Tensor) -> Tensor:
    """x of H x = b for symmetric H (…,6: xx, yy, zz, xy, xz, yz), positive definite, and b (…,3), by cofactors."""
    xx, yy, zz, xy, xz, yz = h.unbind(-1)
    a = yy * zz - yz * yz
    d = xz * yz - xy * zz
    e = xy * yz - xz * yy
    det = (xx * a + xy * d + xz * e).clamp_min(1e-12)
    f = xx * zz - xz * xz
    g = xy * xz - xx * yz
    i = xx * yy - xy * xy
    u, v, w = b.unbind(-1)
    return (
        torch.stack([a * u + d * v + e * w, d * u + f * v + g * w, e * u + g * v + i * w], -1)
        / det[..., None]
    )


class Block(nn.Module):
    """Joints attend to each other, every frame's tokens are mixed with those of its neighbours, then each by itself."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.ask = nn.Linear(width, 3 * width)
        self.told = nn.Linear(width, width)
        self.time = nn.Conv1d(width, width, config.kernel, padding=config.kernel // 2, groups=width)
        last = nn.Linear(2 * width, width)
        self.mix = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), last)
        for layer in (self.told, last, self.time):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """(N clips, T, J, D) → the same."""
        n, t, j, d = x.shape
        q, k, v = self.ask(self.norms[0](x)).unflatten(-1, (3, self.heads, d // self.heads)).unbind(-3)
        q, k, v = (a.transpose(-2, -3) for a in (q, k, v))  # (N, T, H, J, d)
        share = torch.softmax(q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5, -1)
        x = x + self.told((share @ v).transpose(-2, -3).flatten(-2))
        y = self.norms[1](x).permute(0, 2, 3, 1).reshape(n * j, d, t)
        x = x + self.time(y).unflatten(0, (n, j)).permute(0, 3, 1, 2)
        return x + self.mix(self.norms[2](x))


class Refiner(nn.Module):
    """One round. See the module's docstring for the way through it."""

    def __init__(self, config: RefinerConfig, category: Category) -> None:
        super().__init__()
        self.config = config
        self.surface = Surface(category, config.points)
        j, k, width = config.joints, config.morphology, config.width
        self.sets = 2 * FIELDS + 1
        inputs = self.sets * 10 + 23
        self.read = nn.Linear(inputs, width)
        self.whose = nn.Parameter(torch.randn(j, width) * 0.02)
        numbers = FIELDS * 5 + k + 6
        self.whole = nn.Sequential(nn.Linear(numbers, width), nn.SiLU(), nn.Linear(width, width))
        self.recall = nn.Linear(width, width, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.last = nn.LayerNorm(width)
        self.remember = nn.Linear(width, width)
        self.turn = nn.Linear(width, 3 + self.sets)
        self.root = nn.Linear(width, 3 + 2 * FIELDS)
        for layer in (self.turn, self.root):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.recall.weight)
        # a little of what Gauss and Newton would do, to begin with
        nn.init.constant_(self.turn.bias[-1:], 0.15)

    # -- what the picture says -----------------------------------------------------------------------------------

    def residuals(self, posed: dict[str, Tensor], at: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """What each kind of residual asks of the points: weights (B,V,4), displacements in crop sides times those
        (B,V,4,2)."""
        # the surface map: every cell asks the point it shows to come
        mass = state["map_mass"]
        map_pull = state["map_at"] - mass[..., None] * at

        # the outline: every point of it asks the nearest rim that looks its way
        outline = state["outline"]
        place, outward, certain = outline[..., :2], outline[..., 2:4], outline[..., 4]
        facing = posed["normals"][..., 2]
        flat = F.normalize(posed["normals"][..., :2] + 1e-6, dim=-1)
        cost = (place**2).sum(-1, keepdim=True) - 2 * place @ at.transpose(1, 2) + (at**2).sum(-1)[:, None]
        number = torch.arange(at.shape[1], device=at.device)
        cost = cost - 0.01 * outward @ flat.transpose(1, 2) + 0.02 * (facing**2)[:, None]
        asked = (cost.argmin(-1)[..., None] == number).float() * certain[..., None]
        edge_mass = asked.sum(1)
        edge_pull = asked.transpose(1, 2) @ place - edge_mass[..., None] * at

        # the mask: points outside come in, rims inside go out
        distance = state["distance"]
        step = 1.0 / distance.shape[-1]
        padded = F.pad(distance[:, None], (1, 1, 1, 1), mode="replicate")
        slope_x = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / (2 * step)
        slope_y = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / (2 * step)
        maps = torch.cat([distance[:, None], slope_x, slope_y], 1)
        found = F.grid_sample(maps, (2 * at)[:, None], padding_mode="border", align_corners=False)[:, :, 0]
        d, slope = found[:, 0], found[:, 1:].transpose(1, 2)
        back = -d[..., None] * slope
        outside = (d > 0).float()
        rim = torch.exp(-((facing / 0.35) ** 2)) * (1 - outside) * torch.exp(-((d / 0.06) ** 2))
        looks = (flat * slope).sum(-1).clamp_min(0.0)  # the outline there faces as the point does
        rim = rim * looks
        believed = state["trust"][:, None]
        weights = torch.stack([mass, edge_mass * believed, outside * believed, rim * believed], -1)
        back = back * believed[..., None]
        edge_pull = edge_pull * believed[..., None]
        pulls = torch.stack([map_pull, edge_pull, back * outside[..., None], back * rim[..., None]], -2)
        return weights, pulls

    def measure(
        self, state: State
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Posed body, a token's numbers (B,J,·), turns that each set of residuals asks for (B,J,S,3), and what
        `whole_body` says."""
        surface = self.surface
        posed = surface.posed_points(state)
        info, translation = state["crop_info"], state["translation"]
        at = crop_pixels(posed["points"], None, translation, info).clamp(-0.8, 0.8)
        weights, pulls = self.residuals(posed, at, state)
        size = torch.exp(translation[:, 2].clamp(-3, 5))[:, None, None]  # metres that a crop side spans there
        x, y, z = posed["points"].unbind(-1)
        metres = pulls * size[..., None]  # (B, V, 4, 2)
        fx, fy = metres.unbind(-1)
        w = weights
        error = (metres**2).sum(-1) / w.clamp_min(1e-6)
        moments = torch.stack(
            [
                w, w * x[..., None], w * y[..., None], w * z[..., None],
                w * (x * x)[..., None], w * (y * y)[..., None], w * (z * z)[..., None],
                w * (x * z)[..., None], w * (y * z)[..., None],
                fx, fy, -z[..., None] * fy, z[..., None] * fx, x[..., None] * fy - y[..., None] * fx, error,
            ], -1,
        )  # (B, V, F, 15)  # fmt: skip
        flat = moments.flatten(2)
        both = torch.stack([surface.carried @ flat, surface.weights.T @ flat], 2)  # (B, J, 2, F*15)
        both = both.unflatten(-1, (FIELDS, 15)).flatten(2, 3)  # (B, J, 2F, 15)
        # the kinds of residuals together: the map's many cells count together as the outline's
        all_in = both[:, :, :FIELDS].sum(2, keepdim=True)
        sums = torch.cat([both, all_in], 2)  # (B, J, S, 15)
        m, sx, sy, sz, sxx, syy, szz, sxz, syz, gx, gy, tx, ty, tz, err = sums.unbind(-1)
        px, py, pz = (c[..., None] for c in posed["joints"].unbind(-1))
        # about the joint instead of the root
        tx, ty, tz = tx + pz * gy, ty - pz * gx, tz - (px * gy - py * gx)
        izz_ = szz - 2 * pz * sz + m * pz * pz
        ixx_ = sxx - 2 * px * sx + m * px * px
        iyy_ = syy - 2 * py * sy + m * py * py
        ixz_ = sxz - px * sz - pz * sx + m * px * pz
        iyz_ = syz - py * sz - pz * sy + m * py * pz
        damp = 0.01 + 0.002 * m
        inertia = torch.stack([izz_ + damp, izz_ + damp, ixx_ + iyy_ + damp, 0 * m, -ixz_, -iyz_], -1)
        turn = solve3(inertia, torch.stack([tx, ty, tz], -1)).clamp(-1.0, 1.0)  # (B, J, S, 3)
        mean = torch.stack([gx, gy], -1) / (m + 0.2)[..., None]
        each = torch.cat(
            [
                turn,
                torch.log1p(20 * torch.stack([izz_, ixx_, iyy_], -1).clamp_min(0)) * 0.5,
                torch.log1p(m.clamp_min(0))[..., None] * 0.5,
                5 * mean,
                5 * torch.sqrt(err.clamp_min(0) / (m + 0.2) + 1e-8)[..., None],
            ],
            -1,
        ).flatten(2)
        joint_at = crop_pixels(posed["joints"], None, translation, info).clamp(-0.8, 0.8)
        there = F.grid_sample(
            state["distance"][:, None], (2 * joint_at)[:, None], padding_mode="border", align_corners=False
        )[:, 0, 0]
        local = state["joints"]
        odd = 0.5 * (local - local.transpose(-1, -2))
        skew = torch.stack([odd[..., 2, 1], odd[..., 0, 2], odd[..., 1, 0]], -1)
        numbers = torch.cat(
            [
                each,
                2 * joint_at,
                posed["joints"] * 2,
                posed["turn"][..., :2].flatten(-2),
                skew,
                # the axes that a turn about the parent's axes has in the camera's
                posed["turn"][:, self.surface.parents][..., :2].flatten(-2),
                state["joint_confidence"][..., None],
                5 * there[..., None],
                local.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 3.0,
            ],
            -1,
        )
        return posed, numbers, turn, self.whole_body(state, posed, metres, w)

    def whole_body(
        self, state: State, posed: dict[str, Tensor], metres: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What asks for another size or place: numbers (B,·), and as steps growth (B,F) and shift in metres (B,F,2)."""
        mass = w.sum(1)  # (B, F)
        x = posed["points"][..., :2]
        middle = (w.unsqueeze(-1) * x[:, :, None]).sum(1) / (mass + 0.2)[..., None]  # (B, F, 2)
        from_middle = x[:, :, None] - middle[:, None]
        grown = (metres * from_middle).sum((1, 3)) / ((w * (from_middle**2).sum(-1)).sum(1) + 0.02)
        mean = metres.sum(1) / (mass + 0.2)[..., None]
        size = torch.sqrt(((metres**2).sum(-1) / w.clamp_min(1e-6)).sum(1) / (mass + 0.2) + 1e-8)
        numbers = torch.cat(
            [
                grown, 5 * mean.flatten(1), 5 * size, torch.log1p(mass) * 0.3,
                state["morphology"] / self.surface.std, state["crop_info"], state["translation"],
            ], -1,
        )  # fmt: skip
        return numbers, grown.clamp(-0.5, 0.5), mean

    # -- one round -----------------------------------------------------------------------------------------------

    def forward(self, state: State, clips: int = 1) -> State:
        """state: the pose (rotation (B,3,3), translation (B,3), joints (B,J,3,3), morphology (B,K)), the evidence of
        `predict.refine_inputs`, memory (B,J,D). clips: how many clips of equal length the frames are.

        Returns the new root and joints, and the memory.
        """
        with torch.no_grad():
            posed, numbers, turns, (whole, grown, mean) = self.measure(
                {k: v.detach() for k, v in state.items()}
            )
        memory = state["memory"]
        x = self.read(numbers) + self.whose + self.recall(memory) + self.whole(whole)[:, None]
        x = x.unflatten(0, (clips, -1))
        for block in self.blocks:
            x = block(x)
        x = self.last(x.flatten(0, 1))
        told = self.turn(x)
        turn = 0.3 * told[..., :3] + (told[..., 3:, None] * turns).sum(-2)
        turn = turn.clamp(-1.2, 1.2)
        # from the camera's axes to those of the joint's parent
        above = posed["turn"][:, self.surface.parents]
        local = (above.transpose(-1, -2) @ turn[..., None])[..., 0]
        local = torch.cat([torch.zeros_like(local[:, :1]), local[:, 1:]], 1)
        joints = rotvec_to_matrix(local) @ state["joints"]
        root = self.root(x[:, 0])
        rotation = rotvec_to_matrix(turn[:, 0]) @ state["rotation"]
        own, gates = root[:, :3], root[:, 3:].unflatten(-1, (2, FIELDS))
        size = torch.exp(state["translation"][:, 2:].clamp(-3, 5))
        shift = (gates[:, 0, :, None] * mean).sum(1) / size
        nearer = (gates[:, 1] * grown).sum(1, keepdim=True)
        translation = state["translation"] + 0.1 * own + torch.cat([shift, -nearer], 1)
        return {
            "rotation": rotation,
            "translation": translation,
            "joints": joints,
            "memory": torch.tanh(self.remember(x)),
        }
