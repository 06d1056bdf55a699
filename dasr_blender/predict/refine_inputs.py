# SPDX-License-Identifier: GPL-3.0-or-later
"""What the refiner is shown of a clip: the mask's outline and distance, the surface map's surest cells, the pose."""

from __future__ import annotations

import numpy as np

from ..core.camera import crop_info, encode_root
from ..core.motion import Motion
from ..core.rotation import quat_to_matrix
from .contour import read_outlines
from .student import Prediction
from .surface import surest_cells

Array = np.ndarray

OUTLINE = 96
"""points of the mask's outline a frame"""
CELLS = 160
"""cells of the surface map a frame"""
DISTANCE = 64
"""side of the map of distances to the outline"""
FAR = 0.3
"""crop sides beyond which one distance is as good as another"""
LEAST = 0.05
"""confidence below which a cell of the surface map says nothing"""


def read_evidence(
    points: Array,
    prediction: Prediction,
    masks: Array,
    center: Array,
    side: Array,
    focal: Array,
    principal_point: Array,
    image_size: Array,
) -> dict[str, Array]:
    """What does not change while the body moves, float32, T frames.

    points ``(V, 3)``: places on the mean body at rest, metres.  masks: the crops' ``(T, S, S)`` uint8.
    center ``(T, 2)``, side ``(T,)``, focal ``(T,)``, principal_point ``(2,)`` and image_size (width, height): pixels.
    Returns crop_info ``(T, 3)``; distance ``(T, 64, 64)``, signed, to the outline, positive outside; outline
    ``(T, 96, 5)``: place, outward normal, weight; map_mass ``(T, V)`` and map_at ``(T, V, 2)``: the trust in the
    surface map's cells that show each point, and their places times that; joint_confidence ``(T, J)``. Lengths are crop
    sides, places are counted from the crop's centre.
    """
    outlines = read_outlines(masks, center, side, np.asarray(image_size), OUTLINE)
    size = outlines.size
    cell = ((np.arange(DISTANCE) + 0.5) / DISTANCE * size).astype(np.int64).clip(0, size - 1)
    distance = np.clip(outlines.distance[:, cell[:, None], cell], -FAR, FAR)
    outline = np.concatenate([outlines.point, outlines.normal, outlines.weight[..., None]], -1)
    mass, at = mapped(points, prediction)
    return {
        "crop_info": crop_info(center, side, focal, principal_point).astype(np.float32),
        "distance": distance.astype(np.float32),
        "outline": outline.astype(np.float32),
        "map_mass": mass,
        "map_at": at,
        "joint_confidence": prediction.joint_confidence.astype(np.float32),
    }


def mapped(points: Array, prediction: Prediction) -> tuple[Array, Array]:
    """The surface map by points ``(V, 3)`` of the mean body at rest: trust ``(T, V)`` in the cells that show each, and
    the sum of their places times that ``(T, V, 2)``."""
    count, number = len(prediction), len(points)
    total = np.zeros((3, count * number))
    if prediction.surface_map is not None and prediction.surface_confidence is not None:
        _, nearest, at, weight = surest_cells(
            prediction.surface_map, prediction.surface_confidence, points, CELLS, LEAST
        )
        index = (nearest + number * np.arange(count)[:, None]).ravel()
        for k, value in enumerate((weight, weight * at[..., 0], weight * at[..., 1])):
            total[k] = np.bincount(index, value.ravel(), count * number)
    total = total.reshape(3, count, number).astype(np.float32)
    return total[0], np.moveaxis(total[1:], 0, -1)


def read_pose(motion: Motion, center: Array, side: Array) -> dict[str, Array]:
    """The motion as the refiner takes it, float32: rotation ``(T, 3, 3)`` and translation ``(T, 3)`` relative to the
    crop (`core.camera.encode_root`), joints ``(T, J, 3, 3)`` in their parents' frames, morphology ``(T, K)``."""
    rotation, translation = encode_root(
        motion.camera_from_root, center, side, motion.focal_px, motion.principal_point
    )
    return {
        "rotation": rotation.astype(np.float32),
        "translation": translation.astype(np.float32),
        "joints": quat_to_matrix(motion.joint_rotations).astype(np.float32),
        "morphology": np.repeat(motion.morphology[None], len(rotation), 0).astype(np.float32),
    }
