# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain twin of the rasteriser: every triangle against every pixel centre."""

from __future__ import annotations

import numpy as np


def naive_raster(
    pixels: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face, depth and perspective-correct barycentric coordinates; all corners must be before the camera.

    Arguments and shapes as :func:`dasr_blender.core.rasterize`.
    """
    width, height = size
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    face = np.full((len(pixels), height, width), -1, np.int32)
    depth = np.full(face.shape, np.inf)
    bary = np.zeros(face.shape + (3,))
    for b, points in enumerate(np.asarray(pixels, np.float64)):
        for f, corners in enumerate(faces):
            (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = points[corners]
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            if area == 0:
                continue
            flat = (
                np.stack(
                    [
                        (x1 - column) * (y2 - row) - (x2 - column) * (y1 - row),
                        (x2 - column) * (y0 - row) - (x0 - column) * (y2 - row),
                        (x0 - column) * (y1 - row) - (x1 - column) * (y0 - row),
                    ],
                    axis=-1,
                )
                / area
            )
            inverse = flat @ (1 / np.array([z0, z1, z2]))
            inside = (flat >= 0).all(axis=-1)
            here = np.full(inside.shape, np.inf)
            here[inside] = 1 / inverse[inside]
            nearer = here < depth[b]
            face[b][nearer] = f
            depth[b][nearer] = here[nearer]
            weight = flat / np.array([z0, z1, z2])
            bary[b][nearer] = (weight / weight.sum(axis=-1, keepdims=True))[nearer]
    return face, depth, bary
