# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry of triangle meshes."""

from __future__ import annotations

import numpy as np


def area_samples(
    vertices: np.ndarray, faces: np.ndarray, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Places spread evenly over a surface: faces (count,), in no order, and the weights (count, 3) of their corners.

    vertices (V, 3), faces (F, 3).
    """
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    rng = np.random.default_rng(seed)
    face = rng.choice(len(faces), count, p=area / area.sum())
    u = np.sort(rng.random((count, 2)), axis=1)
    return face, np.stack([u[:, 0], u[:, 1] - u[:, 0], 1 - u[:, 1]], 1)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals; vertices (..., V, 3), faces (F, 3) → (..., V, 3)."""
    corners = vertices[..., faces, :]  # (..., F, 3, 3)
    flat = np.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    normals = np.zeros(vertices.shape)
    rows = normals.reshape(-1, *vertices.shape[-2:])
    for row, face_normals in zip(rows, flat.reshape(-1, *flat.shape[-2:]), strict=True):
        for axis in range(3):
            row[:, axis] = np.bincount(faces.ravel(), np.repeat(face_normals[:, axis], 3), len(row))
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Signed volume that a surface encloses, in cubed units of the vertices (V, 3); negative with its faces inside out.

    faces (F, 3). Exact for a closed surface (divergence theorem); small holes change it little.
    """
    a, b, c = np.moveaxis(np.asarray(vertices, np.float64)[faces], 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def mesh_edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of a mesh with faces (F, 3): ends (E, 2), the lower number first, two faces (E, 2), and
    whether they go along it (E, 2), 1 or −1.

    An edge of one face alone has a second one with 0; where more than two meet, it is there more than once.
    """
    half = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).astype(np.int64)
    low, high = half.min(1), half.max(1)
    key = low * (int(faces.max(initial=0)) + 1) + high
    order = np.argsort(key, kind="stable")
    same = np.append(np.diff(key[order]) == 0, False)
    begin = np.flatnonzero(np.append(True, ~same[:-1])) if len(order) else order
    rank = np.arange(len(order)) - np.repeat(begin, np.diff(np.append(begin, len(order))))
    one = np.flatnonzero(rank % 2 == 0)
    paired = same[one]
    two = order[np.minimum(one + 1, len(order) - 1)]
    one = order[one]
    along = np.where(half[:, 0] == low, 1, -1)
    signs = np.stack([along[one], np.where(paired, along[two], 0)], 1)
    return np.stack([low[one], high[one]], 1), np.stack([one, two], 1) // 3, signs.astype(np.int8)
