# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of a template's body: from the side, the front and above, its proportions, and every joint turned."""

from __future__ import annotations

import cv2
import numpy as np

from ...core import Category
from ...core.rotation import rotvec_to_quat
from .sheet import draw


def template_sheet(category: Category, size: int = 170, columns: int = 6) -> np.ndarray:
    """(h, w, 3) uint8 RGB: the mean body, then each proportion at its ends and each joint at its limits."""
    body, skeleton = category.body, category.skeleton
    metres = 1.5 * float(np.ptp(body.vertices, axis=0).max())

    def tile(vertices: np.ndarray, azimuth: float, label: str) -> np.ndarray:
        picture = np.ascontiguousarray(
            draw(vertices, body.faces, body.colours(), azimuth, (size, size), metres)
        )
        cv2.putText(
            picture, label, (4, size - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (40, 40, 40), 1, cv2.LINE_AA
        )
        return picture

    mean = body.shaped()[0]
    above = np.stack([-mean[:, 2], mean[:, 1], mean[:, 0]], 1)
    tiles = [tile(mean, 0.0, "left"), tile(mean, np.pi / 2, "front"), tile(above, 0.0, "above")]
    for k, proportion in enumerate(category.morphology):
        for value in (proportion.minimum, proportion.maximum):
            shaped = body.shaped(value * np.eye(len(category.morphology))[k])[0]
            tiles.append(tile(shaped, 0.6, f"{proportion.name} {value:+.2f}"))
    for j, name in enumerate(skeleton.names):
        if int(skeleton.mirror[j]) < j or not j:
            continue
        for axis, word in ((0, "x"), (2, "z")):
            vectors = np.zeros((1, len(skeleton), 3))
            vectors[0, j, axis] = skeleton.limits[j, axis, 1]
            posed = category.posed_vertices(np.zeros(len(category.morphology)), rotvec_to_quat(vectors))[0]
            tiles.append(tile(posed, 0.6, f"{name} {word} {vectors[0, j, axis]:+.2f}"))
    tiles += [np.full_like(tiles[0], 242)] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])
