# SPDX-License-Identifier: GPL-3.0-or-later
"""Surface scores: DASR's protocol for the AMA sequences, and ours, which aligns nothing.

DASR (Tan, Yang, Ramanan, CVPR 2023), as its released evaluation does it:

1. the found depth is multiplied by true over found focal length;
2. the whole is scaled by the ratio of the median depths in frame 0;
3. an ICP with scale lays frame 0 on the truth, and its scale (about the camera) is kept for all frames;
4. one rigid ICP lays the whole sequence on the truth, nearest points sought within a frame;
5. the Chamfer distance is the mean distance to the nearest vertex, there plus back, not squared, in cm, and the
   F-score at a threshold the harmonic mean of the two shares of vertices nearer than it; both are means over frames.

Ours: the same distances between surfaces instead of vertices (samples by area, distance to the triangles), in
camera space as predicted, so that tessellation moves no score and nothing is taken from the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ...core.mesh import area_samples

Array = np.ndarray

THRESHOLDS = (0.10, 0.05, 0.02)  # metres
FIT_POINTS = 800  # vertices of the found surface that an ICP looks at, spread evenly; the scores use all
SAMPLES = 1000  # points a surface from which distances are measured
_INDEX = 5000  # points a surface that lead to the triangles near a place


@dataclass(frozen=True)
class Similarity:
    """x → scale · rotation x + translation."""

    scale: float
    rotation: Array  # (3, 3)
    translation: Array  # (3,)

    def __call__(self, points: Array) -> Array:
        """Points (…, 3)."""
        return self.scale * points @ self.rotation.T + self.translation


def _tree(points: Array) -> cKDTree:
    """Built fast rather than well: each is asked only a few times."""
    return cKDTree(points, balanced_tree=False, compact_nodes=False)


def umeyama(source: Array, target: Array, scale: bool) -> Similarity:
    """The least-squares similarity (or rigid motion) from points (N, 3) to their partners (N, 3).

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    middle, goal = source.mean(0), target.mean(0)
    a, b = source - middle, target - goal
    u, d, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = (u * sign) @ vt
    factor = float((d * sign).sum() / max((a * a).sum(), 1e-12)) if scale else 1.0
    return Similarity(factor, rotation, goal - factor * rotation @ middle)


def icp(
    source: Sequence[Array],
    target: Sequence[Array],
    scale: bool,
    iterations: int = 100,
    tolerance: float = 1e-5,
) -> Similarity:
    """One transform for a sequence of frames: source and target hold points (N, 3) and (M, 3) a frame.

    Iterated closest points (Besl & McKay 1992): partners are the nearest points of the same frame; ends when the
    root mean square distance changes by less than `tolerance` of itself.
    """
    step = max(1, sum(map(len, source)) // FIT_POINTS)
    chosen = [points[i % step :: step] for i, points in enumerate(source)]
    trees = [_tree(points) for points in target]
    points = np.concatenate(chosen)
    ends = np.cumsum([len(c) for c in chosen])[:-1]
    found, before = Similarity(1.0, np.eye(3), np.zeros(3)), np.inf
    for _ in range(iterations):
        moved = found(points)
        partners = np.concatenate(
            [
                tree.data[tree.query(some)[1]]
                for tree, some in zip(trees, np.split(moved, ends), strict=True)
                if len(some)
            ]
        )
        found = umeyama(points, partners, scale)
        error = float(np.sqrt(((found(points) - partners) ** 2).sum(1).mean()))
        if abs(before - error) <= tolerance * max(error, 1e-12):
            break
        before = error
    return found


def distances_to_scores(there: Array, back: Array) -> Array:
    """(1 + len(THRESHOLDS),): Chamfer distance in cm, then the F-scores 0…1, of nearest distances in metres."""
    shares = [((there < t).mean(), (back < t).mean()) for t in THRESHOLDS]
    f = [2 * p * r / max(p + r, 1e-12) for p, r in shares]
    return np.array([100 * (there.mean() + back.mean()), *f])


def ama_protocol(
    found: Sequence[Array], true: Sequence[Array], found_focal: Array, true_focal: Array
) -> Array:
    """Scores ``(T, 4)`` a frame: CD in cm, F@10, F@5, F@2 cm in 0…1.

    found and true: vertices (V, 3) and (W, 3) a frame in their camera's space, metres; focal lengths ``(T,)``, pixels.
    """
    correction = np.asarray(true_focal, np.float64) / np.asarray(found_focal, np.float64)
    placed = [
        np.asarray(p, np.float64) * [1.0, 1.0, k]
        for p, k in zip(found, np.broadcast_to(correction, len(found)), strict=True)
    ]
    goal = [np.asarray(p, np.float64) for p in true]
    coarse = float(np.median(goal[0][:, 2]) / max(np.median(placed[0][:, 2]), 1e-6))
    placed = [coarse * p for p in placed]
    fine = icp(placed[:1], goal[:1], scale=True).scale
    placed = [fine * p for p in placed]
    rigid = icp(placed, goal, scale=False)
    scores = []
    for ours, theirs in zip(placed, goal, strict=True):
        ours = rigid(ours)
        there, back = _tree(ours).query(theirs)[0], _tree(theirs).query(ours)[0]
        scores.append(distances_to_scores(there, back))
    return np.stack(scores)


class Surface:
    """A triangle mesh that can be sampled by area and asked how far points are from it."""

    def __init__(self, vertices: Array, faces: Array, seed: int = 0) -> None:
        """vertices (V, 3) metres; faces (F, 3)."""
        vertices = np.asarray(vertices, np.float64)
        self.corners = vertices[faces]  # (F, 3, 3)
        face, weight = area_samples(vertices, faces, _INDEX, seed)
        self._face = np.sort(face)
        self._points = np.einsum("nk,nkc->nc", weight, self.corners[self._face])
        self._tree = _tree(self._points)

    @property
    def samples(self) -> Array:
        """(SAMPLES, 3) points, as many to any area of the same size."""
        return self._points[:: _INDEX // SAMPLES]

    def distance(self, points: Array) -> Array:
        """How far points (N, 3) are from the surface, (N,) metres, to about a millimetre on an animal's body."""
        near = self._tree.query(points, k=2)[1]  # samples whose triangles come into question
        return point_triangle(points[:, None], self.corners[self._face[near]]).min(1)


def point_triangle(points: Array, corners: Array) -> Array:
    """Distance of points (…, 3) from triangles (…, 3, 3), (…)."""
    a, b, c = (corners[..., k, :] for k in range(3))
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = d00 * d11 - d01 * d01
    usable = area > 1e-18
    area = np.where(usable, area, 1.0)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inside = usable & (v >= 0) & (w >= 0) & (v + w <= 1)
    plane = np.linalg.norm(ap - v[..., None] * ab - w[..., None] * ac, axis=-1)
    edges = np.minimum(
        np.minimum(_point_segment(points, a, b), _point_segment(points, a, c)), _point_segment(points, b, c)
    )
    return np.where(inside, plane, edges)


def _point_segment(points: Array, start: Array, end: Array) -> Array:
    along = end - start
    share = ((points - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-18)
    return np.linalg.norm(points - start - np.clip(share, 0, 1)[..., None] * along, axis=-1)


def surface_scores(found: Sequence[Surface], true: Sequence[Surface], scale: float = 1.0) -> Array:
    """Our scores ``(T, 4)`` a frame: CD in cm and F@10, F@5, F@2 cm between surfaces, nothing aligned.

    scale: of the found surfaces about the camera, 1 for none.
    """
    return np.stack(
        [
            distances_to_scores(
                scale * ours.distance(theirs.samples / scale), theirs.distance(scale * ours.samples)
            )
            for ours, theirs in zip(found, true, strict=True)
        ]
    )
