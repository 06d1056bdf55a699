# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes and parts of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DASR_WINDOW = 13
"""frames that DASR's temporal encoder sees at a time"""


@dataclass(frozen=True)
class StudentConfig:
    """Sizes of the network; saved beside its weights."""

    design: Literal["student", "dasr"] = "student"
    """ours, or DASR's as published (see `dasr`)"""
    backbone: Literal["lite0", "resnet18"] = "lite0"
    joints: int = 30
    morphology: int = 11
    appearance: int = 0
    hypotheses: int = 6
    crop: int = 128
    """side of the square input in pixels"""
    width: int = 512
    """D, the length of a frame's feature vector"""
    layout: int = 48
    """channels of the coarse feature map that is flattened, so that *where* is not averaged away"""
    surface: bool = True
    """answer with a surface map"""
    look_back: bool = True
    """answer twice, the second time with the picture under the first answer in view; needs the surface map"""
    look_points: int = 48
    """points of the body's surface that it looks at, beside the joints"""
    joint_maps: bool = False
    """say where each joint lies in the crop, and let the joints attend to each other; needs the surface map"""
    joint_width: int = 192
    """length of a joint's token"""
    joint_blocks: int = 4
    place: bool = True
    """tell the network where the crop was in the picture, and how large"""
    temporal: Literal["none", "conv", "attention"] = "conv"
    temporal_blocks: int = 3
    temporal_kernel: int = 3

    @property
    def radius(self) -> int:
        """Frames on each side that can change one frame's answer: the halo that chunks of a clip need."""
        if self.design == "dasr":
            return DASR_WINDOW // 2
        if self.temporal == "none":
            return 0
        return self.temporal_blocks * 2 * (self.temporal_kernel // 2)
