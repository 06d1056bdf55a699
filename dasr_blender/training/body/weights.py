# SPDX-License-Identifier: GPL-3.0-or-later
"""Skin weights by heat diffusion over the surface.

Baran & Popović, "Automatic Rigging and Animation of 3D Characters", SIGGRAPH 2007, section 4: every vertex
is heated by its nearest bone and the heat spreads over the surface until (-Δ + H) w = H p.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from ...core.mesh import vertex_normals


def cotangent_laplacian(vertices: np.ndarray, faces: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """Positive semi-definite cotangent Laplacian (V, V) and the area of each vertex (V,)."""
    n = len(vertices)
    matrix = sp.csr_matrix((n, n))
    area = np.zeros(n)
    for i in range(3):
        o, a, b = faces[:, i], faces[:, (i + 1) % 3], faces[:, (i + 2) % 3]
        u, v = vertices[a] - vertices[o], vertices[b] - vertices[o]
        double = np.linalg.norm(np.cross(u, v), axis=1)
        cot = np.clip((u * v).sum(1) / np.maximum(double, 1e-12), 0.02, 20) / 2
        matrix = matrix + sp.coo_matrix((cot, (a, b)), (n, n)).tocsr()
        np.add.at(area, o, double / 6)
    matrix = matrix + matrix.T
    return (sp.diags(np.asarray(matrix.sum(1)).ravel()) - matrix).tocsr(), area


def segment_distance(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of points (N, 3) to the segment a-b, and the closest points (N, 3)."""
    d = b - a
    t = np.clip(((points - a) @ d) / max(float(d @ d), 1e-12), 0, 1)
    near = a + t[:, None] * d
    return np.linalg.norm(points - near, axis=1), near


def heat_weights(
    vertices: np.ndarray,
    faces: np.ndarray,
    segments: list[tuple[int, np.ndarray, np.ndarray]],
    joint_count: int,
    heat: float = 1.0,
    side: np.ndarray | None = None,
) -> np.ndarray:
    """Smooth weights (V, J) of joints whose bones are `segments`; a low `heat` gives softer transitions.

    `side` (J,) is +1 / -1 for joints of the left / right half, which never heat the other half, and 0 for
    those of the middle. A bone that lies outside of the vertex's side of the surface does not heat it.
    """
    normals = vertex_normals(vertices, faces)
    scale = np.ptp(vertices[:, 1])
    best = np.full(len(vertices), np.inf)
    owner = np.full(len(vertices), -1)
    for joint, a, b in segments:
        distance, near = segment_distance(vertices, a, b)
        inward = ((vertices - near) * normals).sum(1) > 0.15 * distance
        if side is not None and side[joint]:
            inward &= vertices[:, 0] * side[joint] > -1e-6 * scale
        closer = inward & (distance < best)
        best[closer], owner[closer] = distance[closer], joint
    laplacian, area = cotangent_laplacian(vertices, faces)
    seen = owner >= 0
    strength = np.where(seen, heat * area / np.maximum(np.where(seen, best, 1), 0.004 * scale) ** 2, 0.0)
    solver = splu((laplacian + sp.diags(strength)).tocsc())
    source = np.zeros((len(vertices), joint_count))
    source[np.nonzero(seen)[0], owner[seen]] = strength[seen]
    weights = np.clip(solver.solve(source), 0, None)
    return weights / weights.sum(1, keepdims=True)


def diffuse(weights: np.ndarray, vertices: np.ndarray, faces: np.ndarray, time: float) -> np.ndarray:
    """Weights (V, J) after heat flow on the surface for `time` (square metres): a blur of radius ~sqrt(2·time)."""
    laplacian, area = cotangent_laplacian(vertices, faces)
    out = splu((sp.diags(area) + time * laplacian).tocsc()).solve(area[:, None] * weights)
    return out / out.sum(1, keepdims=True)


def keep_four(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four largest weights of each vertex, normalised: indices (V, 4) int32 and weights (V, 4) float32.

    Two that tie for the last place are both dropped: they are a left and a right joint on the middle line,
    and keeping one would make the skin lopsided.
    """
    weights = np.pad(weights, ((0, 0), (0, max(0, 5 - weights.shape[1]))))  # of fewer than five joints
    order = np.argsort(-weights, axis=1, kind="stable")
    index = order[:, :4]
    top = np.take_along_axis(weights, index, 1)
    fifth = np.take_along_axis(weights, order[:, 4:5], 1)
    keep = (top >= 0.01) & (top > fifth + 1e-6)
    keep[:, 0] = True
    top = np.where(keep, top, 0)
    top = top / top.sum(1, keepdims=True)
    return np.where(keep, index, 0).astype(np.int32), top.astype(np.float32)
