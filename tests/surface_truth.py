# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface map that a perfect network would answer for a rendered clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tracked import Case

from dasr_blender.core import Category, project, rasterize, transform
from dasr_blender.core.camera import CropBox
from dasr_blender.predict import Prediction

GRID = 32


def true_map(category: Category, given: Case) -> tuple[np.ndarray, np.ndarray]:
    """The surface map (T, 32, 32, 3) and confidence (T, 32, 32) that a perfect network would answer."""
    motion = given.motion
    seen = transform(motion.camera_from_root, category.posed_vertices(motion))
    box = CropBox(given.center, given.side)
    pixels = box.crop_pixels(project(seen, motion.focal_px, motion.principal_point), GRID)
    raster = rasterize(np.concatenate([pixels, seen[..., 2:]], -1), category.body.faces, (GRID, GRID))
    return raster.interpolate(category.body.vertices), raster.mask.astype(np.float32)


def with_map(category: Category, given: Case, **changes: object) -> Prediction:
    surface, confidence = true_map(category, given)
    return replace(given.prediction, surface_map=surface, surface_confidence=confidence, **changes)
