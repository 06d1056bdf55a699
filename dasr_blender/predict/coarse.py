# SPDX-License-Identifier: GPL-3.0-or-later
"""A body with a tenth of the triangles, for silhouettes of a few dozen pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ..core.category import Category
from ..core.mesh import vertex_normals
from ..core.raster import silhouette
from ..core.skeleton import skin_transforms
from ..core.skinning import linear_blend

Array = np.ndarray

_SIDE = 160  # pixels of the silhouettes that outlines are compared on


@dataclass(frozen=True, eq=False)
class CoarseBody:
    """Some of a body's vertices, and triangles between them.

    vertex: ``(n,)``, which of the body's vertices.  faces: ``(f, 3)``, into those.  swell: ``(n, 3)`` metres,
    how far each is moved out at rest, since chords run inside of the surface.
    """

    vertex: Array
    faces: Array
    swell: Array

    def posed(self, category: Category, beta: Array, rotations: Array) -> Array:
        """These vertices in body space, ``(T, n, 3)`` float32; see :meth:`Category.posed_vertices`."""
        body = category.body
        change = np.tensordot(np.asarray(beta, np.float32), body.morphology_vertices[:, self.vertex], axes=1)
        vertices = body.vertices[self.vertex] + self.swell + change
        joints = body.shaped(beta)[1]
        transforms = skin_transforms(category.skeleton, joints, rotations)
        index, weight = body.skin_index[self.vertex], body.skin_weight[self.vertex]
        return linear_blend(vertices.astype(np.float32), index, weight, transforms)


def coarse_body(vertices: Array, faces: Array, count: int = 420) -> CoarseBody:
    """About ``2 × count`` triangles over `count` vertices of a closed mesh.

    vertices ``(V, 3)``, faces ``(F, 3)``. The vertices kept are chosen farthest first, so that paws, ears and
    the tail's end are among the earliest; every other vertex belongs to the nearest of them, and a triangle
    whose corners belong to three becomes a triangle between those: the Delaunay mesh of the surface's Voronoi
    cells (Peyré & Cohen, "Geodesic Remeshing Using Front Propagation", 2006, here with straight distances).
    """
    vertices = np.asarray(vertices, np.float32)
    kept = [int(np.linalg.norm(vertices - vertices.mean(0), axis=1).argmax())]
    distance = np.linalg.norm(vertices - vertices[kept[0]], axis=1)
    owner = np.zeros(len(vertices), np.int64)
    while len(kept) < min(count, len(vertices)):
        kept.append(int(distance.argmax()))
        further = np.linalg.norm(vertices - vertices[kept[-1]], axis=1)
        owner[further < distance] = len(kept) - 1
        distance = np.minimum(distance, further)
    corners = owner[faces]
    a, b, c = corners.T
    corners = corners[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(np.sort(corners, axis=1), axis=0, return_index=True)
    corners = np.ascontiguousarray(corners[np.sort(first)], np.int32)
    return CoarseBody(np.array(kept), corners, _swell(vertices, faces, vertices[kept], corners))


def _swell(vertices: Array, faces: Array, points: Array, corners: Array) -> Array:
    """Moves ``(n, 3)`` of `points` along their normals that give the coarse mesh outlines as large as the fine one's.

    The step at a point is in proportion to the square of its edges: so far does a chord lie inside.
    """
    normal = vertex_normals(points, corners)
    ends = points[corners]
    length = np.linalg.norm(ends - ends[:, [1, 2, 0]], axis=-1)
    total, count = np.zeros(len(points)), np.zeros(len(points))
    for k in range(3):
        np.add.at(total, corners[:, k], length[:, k] + length[:, k - 1])
        np.add.at(count, corners[:, k], 2)
    step = (total / np.maximum(count, 1)) ** 2
    middle, size = vertices.mean(0), float(np.ptp(vertices, axis=0).max())
    direction = normal * (step / max(step.mean(), 1e-12))[:, None] * size

    def seen(places: Array, triangles: Array) -> float:
        turned = (places - middle) @ _views() / size  # (16, n, 3)
        pixels = turned * [0.5 * _SIDE, 0.5 * _SIDE, 1.0] + [0.5 * _SIDE, 0.5 * _SIDE, 2.0]
        return float(silhouette(pixels, triangles, (_SIDE, _SIDE)).sum())

    wanted = seen(vertices, faces)
    low, high = 0.0, 0.02
    missing, over = (seen(points + share * direction, corners) - wanted for share in (low, high))
    if missing >= 0 or over <= 0:
        return np.zeros(points.shape, np.float32)
    share = low
    for _ in range(4):  # nearly linear: false position
        share = low - missing * (high - low) / (over - missing)
        off = seen(points + share * direction, corners) - wanted
        if off < 0:
            low, missing = share, off
        elif off > 0:
            high, over = share, off
        else:
            break
    return (share * direction).astype(np.float32)


@cache
def _views() -> Array:
    """Rotations ``(16, 3, 3)`` to views from all over half a sphere: the other half shows the same outlines."""
    height = (np.arange(16) + 0.5) / 16
    turn = np.arange(16) * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - height**2)
    ahead = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], -1)
    aside = np.stack([-np.sin(turn), np.cos(turn), np.zeros(16)], -1)
    return np.stack([aside, np.cross(ahead, aside), ahead], -1)
