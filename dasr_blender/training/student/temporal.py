# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the network that look at neighbouring frames. Each starts as the identity and has a finite reach."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import StudentConfig


class Temporal(nn.Module):
    """Residual convolutions over time. (B,T,D) → (B,T,D), any T; starts as the identity."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.pad = config.temporal_kernel // 2
        self.blocks = nn.ModuleList()
        for _ in range(config.temporal_blocks):
            first = nn.Conv1d(config.width, config.width, config.temporal_kernel)
            second = nn.Conv1d(config.width, config.width, config.temporal_kernel)
            nn.init.zeros_(second.weight)
            nn.init.constant_(second.get_parameter("bias"), 0.0)
            self.blocks.append(nn.ModuleList([first, second]))

    def forward(self, features: Tensor) -> Tensor:
        x = features.transpose(1, 2)  # (B, D, T)
        for block in self.blocks:
            first, second = block.children()
            y = F.silu(first(F.pad(x, (self.pad, self.pad), mode="replicate")))
            x = x + second(F.pad(y, (self.pad, self.pad), mode="replicate"))
        return x.transpose(1, 2)


class TemporalAttention(nn.Module):
    """Residual attention over a window of frames, as far as `Temporal` reaches; starts as the identity.

    (B,T,D) → (B,T,D), any T: every frame attends to its neighbours alone, so there are no seams.
    """

    def __init__(self, config: StudentConfig, heads: int = 8) -> None:
        super().__init__()
        self.heads, self.reach = heads, 2 * (config.temporal_kernel // 2)
        self.blocks = nn.ModuleList()
        for _ in range(config.temporal_blocks):
            block = nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(config.width),
                    "ask": nn.Linear(config.width, 3 * config.width),
                    "out": nn.Linear(config.width, config.width),
                }
            )
            nn.init.zeros_(block["out"].get_parameter("weight"))
            nn.init.zeros_(block["out"].get_parameter("bias"))
            self.blocks.append(block)
        self.bias = nn.Parameter(torch.zeros(config.temporal_blocks, heads, 2 * self.reach + 1))

    def forward(self, features: Tensor) -> Tensor:
        x = features
        for number, block in enumerate(self.blocks):
            layers = dict(block.named_children())
            query, key, value = layers["ask"](layers["norm"](x)).chunk(3, -1)  # (B, T, D)

            def near(y: Tensor) -> Tensor:
                """(B,T,D) → (B,T,2r+1,H,D/H): every frame's window, its ends repeated at the clip's ends."""
                padded = F.pad(y.transpose(1, 2), (self.reach, self.reach), mode="replicate").transpose(1, 2)
                shifts = [
                    padded[:, i : padded.shape[1] - 2 * self.reach + i] for i in range(2 * self.reach + 1)
                ]
                return torch.stack(shifts, 2).unflatten(-1, (self.heads, -1))

            query = query.unflatten(-1, (self.heads, -1))[:, :, None]  # (B, T, 1, H, d)
            fit = (query * near(key)).sum(-1) / math.sqrt(query.shape[-1]) + self.bias[number].T  # (B, T, 2r+1, H)
            mixed = (fit.softmax(2)[..., None] * near(value)).sum(2).flatten(2)
            x = x + layers["out"](mixed)
        return x


def temporal_encoder(config: StudentConfig) -> nn.Module:
    """The part of the network that looks at neighbouring frames, as the configuration says."""
    kinds = {"none": lambda _: nn.Identity(), "conv": Temporal, "attention": TemporalAttention}
    return kinds[config.temporal](config)
