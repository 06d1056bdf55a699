# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be asked of the teacher: sizes, losses and their schedules."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

Ramp = tuple[float, float, float]
"""a weight at the start, at the end, and the share of the run by which it has become the latter"""


def at(ramp: Ramp, progress: float) -> float:
    """The value of a ramp at a share 0…1 of the run."""
    first, last, until = ramp
    return last if progress >= until else first + (last - first) * progress / max(until, 1e-9)


@dataclass(frozen=True)
class LossWeights:
    """Weight of every loss over the run, as (start, end, share of the run by which it is there).

    Lengths in the picture are in crop sides, lengths in space in metres over the body's nominal size.
    """

    silhouette: Ramp = (1.0, 1.0, 0.0)
    colour: Ramp = (0.05, 0.5, 0.3)
    flow: Ramp = (2.0, 2.0, 0.0)
    surface_render: Ramp = (0.1, 0.02, 0.6)
    surface_project: Ramp = (1.0, 0.3, 0.6)
    cycle: Ramp = (0.1, 0.1, 0.0)
    eikonal: Ramp = (0.01, 0.05, 0.5)
    smooth: Ramp = (0.05, 0.02, 0.5)
    visibility: Ramp = (0.01, 0.01, 0.0)
    skin_residual: Ramp = (5e-3, 1e-3, 0.5)
    skin_entropy: Ramp = (5e-4, 5e-4, 0.0)
    bone_inside: Ramp = (0.5, 0.5, 0.0)
    camera_smooth: Ramp = (0.1, 0.1, 0.0)
    pose_smooth: Ramp = (0.01, 0.01, 0.0)
    start: Ramp = (0.02, 0.005, 0.3)
    rest: Ramp = (1e-3, 1e-3, 0.0)
    limit: Ramp = (1.0, 1.0, 0.0)
    morphology: Ramp = (0.05, 0.03, 0.3)
    residual_morphology: Ramp = (1.0, 0.3, 0.5)
    symmetry: Ramp = (0.3, 0.1, 0.5)

    def now(self, progress: float) -> dict[str, float]:
        """Every weight at a share of the run."""
        return {f.name: at(getattr(self, f.name), progress) for f in fields(self)}


@dataclass(frozen=True)
class FieldConfig:
    """Sizes of the field and of a step; the defaults are the small setting, for two processor cores."""

    begin: Literal["body", "ball"] = "body"
    """what the signed distance starts from: the category's body, or a ball of its size"""
    encoding: Literal["waves", "grid"] = "waves"
    """of canonical points: sines and cosines, or learned features in grids of several resolutions"""
    width: int = 64
    """of the hidden layers"""
    depth: int = 3
    """hidden layers of the signed distance"""
    frequencies: int = 7
    anneal: Ramp = (0.5, 1.0, 0.5)
    """share of the frequencies that is switched on"""
    code: int = 8
    """length of a video's appearance code"""
    feature: int = 8
    """values the signed distance hands to the colours"""
    base_grid: int = 96
    """cells along the longest side of the grid that holds the distance it starts from"""
    morph_grid: int = 40
    """the same of the proportions' displacements"""
    residual_morphology: bool = True
    """a learned displacement a subject, beside the named proportions"""
    blend: Literal["linear", "dual"] = "linear"
    """how bones are blended"""

    crop: int = 96
    """side of the crops that rays are drawn from, pixels"""
    frames: int = 24
    """frames a step"""
    rays: int = 48
    """rays a frame"""
    coarse: int = 32
    """samples a ray for finding the surface, without gradient"""
    fine: int = 14
    """samples a ray that are rendered"""
    beta: Ramp = (0.02, 0.006, 0.7)
    """VolSDF's width of the surface, metres for a body of nominal size 1"""
    reach: float = 0.12
    """how far the surface may lie from the posed body's points, in nominal sizes"""
    cull: float = 5.0
    """standard deviations from the nearest bone beyond which there is nothing"""
    regular: int = 768
    """points a step for the losses on the canonical field alone"""

    rate: float = 2e-3
    """highest learning rate of the fields"""
    pose_rate: float = 4e-3
    """and of root poses and joints"""
    shape_rate: float = 5e-3
    """and of proportions and bones"""
    steps: int = 1000
    """steps of the run; 0 to go by `minutes`"""
    minutes: float = 0.0
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    save_every: int = 250
    """steps between checkpoints"""
    picture_every: int = 250
    """steps between progress pictures, 0 for none"""
    weights: LossWeights = field(default_factory=LossWeights)
    without: tuple[str, ...] = ()
    """losses that are left out, by name"""
