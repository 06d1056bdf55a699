# SPDX-License-Identifier: GPL-3.0-or-later
"""From a video to frames, subject masks, optical flow and square crops. OpenCV and onnxruntime; no bpy."""

from __future__ import annotations

from .corrections import Correction, parse_correction, read_corrections
from .crop import crop_boxes, extract_crops, sample_square
from .cuts import find_cuts, in_shots
from .egomotion import Egomotion, Egomotions, find_egomotion, find_egomotions, standing_still
from .focal import stated_focal
from .looks import Looks
from .masks import (
    AutomaticConfig,
    MaskError,
    Masks,
    Subject,
    automatic_masks,
    masks_from_alpha,
    masks_from_folder,
)
from .readers import ClipError
from .tracks import background
from .video import Cancelled, Clip, load_clip

__all__ = [
    "AutomaticConfig",
    "Cancelled",
    "Clip",
    "ClipError",
    "Correction",
    "Looks",
    "Egomotion",
    "Egomotions",
    "MaskError",
    "Masks",
    "Subject",
    "automatic_masks",
    "background",
    "crop_boxes",
    "extract_crops",
    "find_cuts",
    "find_egomotion",
    "find_egomotions",
    "in_shots",
    "load_clip",
    "masks_from_alpha",
    "masks_from_folder",
    "parse_correction",
    "read_corrections",
    "sample_square",
    "standing_still",
    "stated_focal",
]
