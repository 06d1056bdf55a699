# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each joint lies in the crop, and what the joints say about each other.

Every joint has a map of where it may be (soft-argmax, Sun et al., ECCV 2018). What the picture shows there makes the
joint's *token*; the tokens and one for the whole frame attend to each other (as joint queries do in METRO, Lin et al.,
CVPR 2021) and correct the frame's features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import StudentConfig
from .surface import CELL

HEADS = 6


class Block(nn.Module):
    """One layer of a transformer, normalised first (Xiong et al., ICML 2020): (B,N,D) → (B,N,D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # one would change nothing: the softmax does not see it
        self.out = nn.Linear(width, width)
        self.each = width // HEADS
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.SiLU(), nn.Linear(3 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        query, key, value = (
            part(y).unflatten(-1, (HEADS, self.each)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        fit = query @ key.transpose(-1, -2) / math.sqrt(self.each)  # (B, H, N, N)
        x = x + self.out((fit.softmax(-1) @ value).transpose(1, 2).flatten(2))
        return x + self.think(x)


class JointMaps(nn.Module):
    """Maps of the joints and a correction of the frame's features by what they show; starts as no correction."""

    at: Tensor  # (n², 2)

    def __init__(self, config: StudentConfig, channels: int) -> None:
        super().__init__()
        width, cells = config.joint_width, config.crop // CELL
        self.widen = nn.Sequential(
            nn.Conv2d(channels, 64, 3, padding=1), nn.SiLU(), nn.Conv2d(64, 64, 3, padding=1), nn.SiLU()
        )
        self.maps = nn.Conv2d(64, config.joints, 1, bias=False)
        self.token = nn.Linear(64 + 4 + 3, width)
        self.name = nn.Parameter(torch.randn(config.joints, width) * 0.5)
        self.frame = nn.Linear(config.width, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(config.joint_blocks)))
        self.norm = nn.LayerNorm(width)
        self.turn = nn.Linear(width, 3)
        self.reduce = nn.Linear(width, 48)
        self.correct = nn.Linear(48 * (config.joints + 1), config.width)
        with torch.no_grad():
            self.turn.weight.mul_(0.3)
            self.turn.bias.zero_()
            self.correct.weight.zero_()
            self.correct.bias.zero_()
        line = (torch.arange(cells) + 0.5) / cells - 0.5
        y, x = torch.meshgrid(line, line, indexing="ij")
        self.register_buffer("at", torch.stack([x, y], -1).flatten(0, 1), persistent=False)

    def forward(self, features: Tensor, fine: Tensor, surface: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B,D), the pyramid's finest (B,C,n,n) and the surface map's answers (B,5,n,n).

        Returns the correction (B,D) and a dict of joint_map (B,J,n·n) log-probabilities over cells, joint_point
        (B,J,2), its mean in crop sides from the centre, and joint_turn (B,J,3), each token's own answer for its joint
        as `Heads.joints` has it.
        """
        wide = self.widen(fine)
        logits = self.maps(wide).float().flatten(2)
        share = logits.softmax(-1)  # (B, J, n²)
        shown = torch.cat([surface[:, :3], torch.sigmoid(surface[:, 4:])], 1).float()
        there = share @ torch.cat([wide.float(), shown], 1).flatten(2).transpose(1, 2)  # (B, J, 68)
        point = share @ self.at
        spread = 0.5 * torch.log((share @ self.at.square() - point.square()).sum(-1).clamp_min(1e-6))
        tokens = self.token(torch.cat([there, point, spread[..., None] * 0.2], -1)) + self.name
        tokens = self.norm(self.blocks(torch.cat([self.frame(features)[:, None], tokens], 1)))
        correction = self.correct(self.reduce(tokens).flatten(1))
        return correction, {
            "joint_map": F.log_softmax(logits, -1),
            "joint_point": point,
            "joint_turn": self.turn(tokens[:, 1:]).float(),
        }
