# SPDX-License-Identifier: GPL-3.0-or-later
"""The colours of a subject's surface, read off the frames that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import factorized

from ...core.camera import project, transform
from ...core.category import Category
from ...core.mesh import vertex_normals
from ...core.raster import rasterize
from .clips import TeacherClip
from .laplacian import stiffness

Array = np.ndarray

GRAZING = 0.3  # cosine between a vertex's normal and the view under which its colour is not read
_LEAST = 3  # frames that must show a vertex for its colour to be its own


def vertex_colours(
    category: Category, clips: Sequence[TeacherClip], morphology: Array, relief: Array, frames: int = 60
) -> Array:
    """Colours ``(V, 3)`` in 0…1: the weighted median of what each vertex shows over the clips' used frames.

    morphology ``(K,)``, relief ``(V,)`` metres: the shape in place of the clips' own.  frames: most of a clip's that
    are looked at, spread over it. Frames count by their quality and vertices by how far they face the camera. One
    seen in too few takes its twin's colour on the other side, or what lies between its neighbours'.
    """
    seen, weight = [], []
    for clip in clips:
        used = clip.used
        if len(used):
            used = used[np.unique(np.linspace(0, len(used) - 1, min(frames, len(used))).astype(int))]
            found, sure = _shown(category, clip, used, morphology, relief)
            seen.append(found)
            weight.append(sure)
    if not seen:
        return category.body.colours()
    colour, share = _median(np.concatenate(seen), np.concatenate(weight))
    least = np.clip(share / _LEAST, 0, 1)
    twin = category.body.mirror_vertex
    alone = (least < 0.2) & (least[twin] >= 0.2)
    colour[alone], least[alone] = colour[twin[alone]], 0.5 * least[twin[alone]]
    return np.clip(_filled(category, colour, least), 0, 1)


def appearance_code(category: Category, colours: Array, ridge: float = 1e-3) -> Array:
    """The code ``(A,)`` whose colours are nearest to the ones given ``(V, 3)``, by least squares.

    ridge: how much it is held near 0, as a share of the basis's own size.
    """
    body = category.body
    basis = body.appearance_basis.reshape(len(body.appearance_basis), -1).astype(np.float64)
    if not len(basis):
        return np.zeros(0)
    gram = basis @ basis.T
    hold = ridge * max(float(np.trace(gram)) / len(gram), 1e-12) * np.eye(len(gram))
    return np.linalg.solve(gram + hold, basis @ (colours - body.appearance_mean).ravel())


def _shown(
    category: Category, clip: TeacherClip, used: Array, morphology: Array, relief: Array
) -> tuple[Array, Array]:
    """Colours ``(n, V, 3)`` float32 that vertices show in some frames, and their weights ``(n, V)``, 0 if unseen."""
    motion, scene, faces = clip.motion, clip.scene, category.body.faces
    shaped = replace(motion.part(used), morphology=morphology, relief=relief)
    posed = transform(motion.camera_from_root[used], category.posed_vertices(shaped))  # (n, V, 3)
    pixels = project(posed, motion.focal_px[used], motion.principal_point)
    normal = vertex_normals(posed, faces)
    facing = -(normal * posed).sum(-1) / np.maximum(np.linalg.norm(posed, axis=-1), 1e-9)
    width, height = scene.size
    x, y = np.moveaxis(np.floor(np.nan_to_num(pixels, nan=-1.0, posinf=-1.0, neginf=-1.0)), -1, 0).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    near = 0.02 * category.nominal_size
    out, weight = np.zeros(posed.shape, np.float32), np.zeros(posed.shape[:2], np.float32)
    for n, i in enumerate(used):
        drawn = np.concatenate([pixels[n], posed[n, :, 2:]], 1)[None].astype(np.float32)
        depth = rasterize(drawn, faces, (width, height)).depth[0]
        free = inside[n] & (posed[n, :, 2] < depth[y[n], x[n]] + near)
        # the mask's rim is half background
        own = cv2.erode((scene.masks[i] > 127).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        free &= own[y[n], x[n]] & (facing[n] > GRAZING)
        out[n] = scene.frames[i][y[n], x[n]].astype(np.float32) / 255
        weight[n] = free * facing[n] ** 2 * clip.quality[i]
    return out, weight


def _median(values: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted median ``(V, 3)`` of ``(n, V, 3)`` channel by channel, and the weights' sum ``(V,)``."""
    total = weight.sum(0)
    middle = np.zeros(values.shape[1:])
    for c in range(values.shape[2]):
        order = np.argsort(values[..., c], axis=0)
        reached = np.cumsum(np.take_along_axis(weight, order, 0), 0) >= 0.5 * total
        row = np.take_along_axis(order, reached.argmax(0)[None], 0)
        middle[:, c] = np.take_along_axis(values[..., c], row, 0)[0]
    return middle, total


def _filled(category: Category, colour: Array, sure: Array) -> Array:
    """Colours ``(V, 3)``: the given ones where they are sure ``(V,)``, smooth between."""
    body = category.body
    hold = 20.0 * sure
    loose = 1e-3  # for parts that nothing connects to what is seen
    matrix = sparse.csc_matrix(stiffness(body.vertices, body.faces) + sparse.diags(hold + loose))
    seen = sure > 0
    usual = np.median(colour[seen], axis=0) if seen.any() else body.appearance_mean
    wanted = hold[:, None] * colour + loose * np.broadcast_to(usual, colour.shape)
    solve = factorized(matrix)
    return np.stack([np.asarray(solve(wanted[:, k])) for k in range(3)], 1)
