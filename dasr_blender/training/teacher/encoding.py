# SPDX-License-Identifier: GPL-3.0-or-later
"""Points as the field's networks see them: waves, or learned features in grids."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Waves(nn.Module):
    """Positional encoding whose frequencies are switched on one after another (Park et al., Nerfies, ICCV 2021)."""

    rates: Tensor

    def __init__(self, frequencies: int, size: float) -> None:
        """size: metres that make one wave of the lowest frequency."""
        super().__init__()
        self.frequencies, self.share = frequencies, 1.0
        rates = 2 * torch.pi / size * 2.0 ** torch.arange(frequencies, dtype=torch.float32)
        self.register_buffer("rates", rates, persistent=False)
        self.scale = 2 / size

    @property
    def size(self) -> int:
        """Numbers a point becomes."""
        return 3 + 6 * self.frequencies

    def window(self) -> Tensor:
        """How far each frequency is switched on, (frequencies,) in 0…1."""
        on = self.share * self.frequencies - torch.arange(self.frequencies, device=self.rates.device)
        return 0.5 * (1 - torch.cos(torch.pi * on.clamp(0, 1)))

    def forward(self, points: Tensor) -> Tensor:
        """(…, 3) metres → (…, size)."""
        angle = points[..., None, :] * self.rates[:, None]
        window = self.window()[:, None]
        waves = torch.cat([torch.sin(angle) * window, torch.cos(angle) * window], -1)
        return torch.cat([points * self.scale, waves.flatten(-2)], -1)


class Grids(nn.Module):
    """Learned features, trilinear, in grids of several resolutions: what a hash grid is where nothing collides
    (Müller et al., Instant NGP, SIGGRAPH 2022)."""

    low: Tensor
    span: Tensor

    def __init__(
        self, low: Tensor, high: Tensor, sides: tuple[int, ...] = (12, 24, 48), features: int = 4
    ) -> None:
        super().__init__()
        self.register_buffer("low", low.clone(), persistent=False)
        self.register_buffer("span", high - low, persistent=False)
        self.levels = nn.ParameterList(
            [nn.Parameter(1e-3 * torch.randn(1, features, n, n, n)) for n in sides]
        )
        self.scale, self.share, self.features = 2 / float((high - low).max()), 1.0, features

    @property
    def size(self) -> int:
        """Numbers a point becomes."""
        return 3 + len(self.levels) * self.features

    def forward(self, points: Tensor) -> Tensor:
        """(…, 3) metres → (…, size)."""
        at = ((points - self.low) / self.span * 2 - 1).reshape(1, -1, 1, 1, 3)
        found = []
        for n, level in enumerate(self.levels):
            on = min(1.0, max(0.0, self.share * len(self.levels) - n))
            sampled = F.grid_sample(level, at, align_corners=True, padding_mode="border")
            found.append(on * sampled.reshape(self.features, -1).T)
        return torch.cat([points * self.scale, torch.cat(found, -1).reshape(*points.shape[:-1], -1)], -1)
