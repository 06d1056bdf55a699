# SPDX-License-Identifier: GPL-3.0-or-later
"""Which point of the body each cell of a crop shows: the surface map's truth, from the labelled body itself.

The body is posed as the label says and drawn into a coarse grid over the crop. The truth is the *number* of the
vertex nearest to what a cell's centre shows, so that one grid says where it lies at rest (the surface map) and what
colour it should have (appearance). It takes the place of DensePose-CSE's annotation (Neverova et al., NeurIPS
2020), and costs no annotator.
"""

from __future__ import annotations

import numpy as np

from ...core.camera import project, transform
from ...core.category import Category
from ...core.motion import Motion
from ...core.raster import rasterize
from ..errors import TrainingError

CELL = 4
"""crop pixels to a cell of the surface map"""
NOTHING = 65535
"""in a grid of vertex numbers: a cell that shows no part of the body"""


def surface_grid(
    category: Category, motion: Motion, center: np.ndarray, side: np.ndarray, cells: int
) -> np.ndarray:
    """Vertex numbers (T, cells, cells) uint16 of squares round `center` (T, 2) with `side` (T,), pixels.

    Raises TrainingError when the body has too many vertices to number.
    """
    body = category.body
    if len(body.vertices) >= NOTHING:
        raise TrainingError(
            f"the body has {len(body.vertices)} vertices; a surface grid can number {NOTHING - 1}"
        )
    seen = transform(motion.camera_from_root, category.posed_vertices(motion))
    pixels = project(seen, motion.focal_px, motion.principal_point)
    at = (pixels - center[:, None]) / side[:, None, None] * cells + cells / 2
    raster = rasterize(np.concatenate([at, seen[..., 2:]], -1), body.faces, (cells, cells))
    corner = raster.bary.argmax(-1)  # (T, cells, cells)
    number = np.take_along_axis(body.faces[raster.face.clip(min=0)], corner[..., None], -1)[..., 0]
    return np.where(raster.mask, number, NOTHING).astype(np.uint16)
