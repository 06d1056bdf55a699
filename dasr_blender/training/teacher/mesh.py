# SPDX-License-Identifier: GPL-3.0-or-later
"""From a signed distance back to the category's body: its surface as triangles, and the body laid onto it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import factorized
from scipy.spatial import KDTree

from ...core.category import Category
from ...core.mesh import area_samples, vertex_normals, volume
from ..errors import TrainingError
from .colours import appearance_code, vertex_colours
from .laplacian import stiffness

Array = np.ndarray
Distance = Callable[[Array], Array]
"""points (n, 3) float32 → signed distance (n,), negative inside"""

_AT_ONCE = 1 << 16
_BLOCK = 8  # fine cells along the side of a coarse one

__all__ = ["TopologyConfig", "appearance_code", "extract_mesh", "fit_topology", "vertex_colours"]


@dataclass(frozen=True)
class TopologyConfig:
    """How the category's body is laid onto a surface. Lengths are shares of the body's nominal size."""

    steps: int = 12
    """steps in which proportions are found"""
    relief_steps: int = 12
    """steps in which the relief is found beside them"""
    noise: float = 0.01
    """usual error of the surface"""
    reach: tuple[float, float] = (0.15, 0.04)
    """distance at which a point of the surface stops to pull, at the first step and at the last"""
    facing: float = 0.3
    """cosine between normals under which two points do not belong together"""
    morphology: float = 1.0
    """usual proportions, in standard deviations of the category"""
    evidence: float = 400.0
    """independent points that a surface is worth"""
    smooth: float = 4.0
    """pull of neighbouring vertices' heights towards each other"""
    small: float = 0.02
    """pull of a height towards where it began, as a share of a vertex's own evidence"""
    samples: int = 12000
    """points of the surface that are looked at"""


def extract_mesh(sdf: Distance, low: Array, high: Array, resolution: int = 128) -> tuple[Array, Array]:
    """The largest connected piece of the surface between two corners: vertices ``(N, 3)`` and faces ``(M, 3)``.

    low and high ``(3,)``; resolution: cells along the longest side. Faces look outwards. Marching cubes (Lewiner et
    al., "Efficient Implementation of Marching Cubes' Cases with Topological Guarantees", 2003) on a grid that is only
    evaluated where a coarse one says the surface may be. Raises TrainingError when there is none.
    """
    import trimesh
    from skimage.measure import marching_cubes

    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    cell = float((high - low).max()) / resolution
    blocks = np.maximum(np.ceil((high - low) / (cell * _BLOCK)).astype(int), 1)
    values, known = _near_surface(sdf, low, cell, blocks)
    if values.min() > 0 or values.max() < 0 or not known.any():
        where = "outside of it" if values.max() > 0 else "inside"
        raise TrainingError(
            f"There is no surface between {low.round(2)} and {high.round(2)}: every point is {where}; "
            "look at the losses, or give a larger box."
        )
    vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="ascent", mask=known)
    mesh = trimesh.Trimesh(vertices * cell + low, faces, process=True)
    pieces = mesh.split(only_watertight=False)
    mesh = max(pieces, key=lambda piece: piece.area) if len(pieces) else mesh
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    if len(faces) and volume(vertices, faces) < 0:
        faces = faces[:, ::-1]
    return vertices, np.ascontiguousarray(faces)


def _near_surface(sdf: Distance, low: Array, cell: float, blocks: Array) -> tuple[Array, Array]:
    """Distances on a grid ``(X, Y, Z)`` and which of them are known; the rest have the sign of their block."""

    def ask(points: Array) -> Array:
        parts = [points[a : a + _AT_ONCE] for a in range(0, len(points), _AT_ONCE)]
        return np.concatenate([np.asarray(sdf(p.astype(np.float32)), np.float32).reshape(-1) for p in parts])

    wide = cell * _BLOCK
    middle = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in blocks), indexing="ij"), -1)
    coarse = ask(middle.reshape(-1, 3) * wide + low).reshape(blocks)
    # half a block's diagonal, and half as much again: a learned distance is none to the letter
    near = np.abs(coarse) < 1.5 * 0.5 * np.sqrt(3) * wide
    for axis in range(3):
        first, second = np.moveaxis(near, axis, 0)[:-1], np.moveaxis(near, axis, 0)[1:]
        changes = np.diff(np.moveaxis(coarse > 0, axis, 0).astype(np.int8), axis=0) != 0
        first |= changes
        second |= changes
    size = blocks * _BLOCK + 1
    values = np.pad(np.kron(coarse, np.ones([_BLOCK] * 3, np.float32)), [(0, 1)] * 3, mode="edge")
    known = np.zeros(size, bool)
    for x, y, z in np.argwhere(near) * _BLOCK:
        known[x : x + _BLOCK + 1, y : y + _BLOCK + 1, z : z + _BLOCK + 1] = True
    places = np.argwhere(known)
    if len(places):
        values[known] = ask(places * cell + low)
    return values, known


def fit_topology(
    category: Category,
    morphology: Array,
    vertices: Array,
    faces: Array,
    *,
    relief0: Array | None = None,
    config: TopologyConfig = TopologyConfig(),
) -> tuple[Array, Array]:
    """The category's body at rest, laid onto a surface at rest: morphology ``(K,)`` and relief ``(V,)``, metres.

    morphology and relief0: where to begin.  vertices ``(N, 3)`` and faces ``(M, 3)``: the surface, metres, the root
    joint at the origin.  Iterated closest points, both ways and to the plane (Chen & Medioni, "Object modelling by
    registration of multiple range images", 1992), first over the proportions, which are held by their prior and
    their range, then over the proportions and heights along the mean body's normals that differ little between
    neighbours (Amberg et al., "Optimal Step Nonrigid ICP", 2007). A part that nothing is near stays.
    """
    body, config = category.body, config
    size = float(category.nominal_size)
    target, normal = _samples(vertices, faces, config.samples)
    tree = KDTree(target)
    std = body.morphology_scale
    begun = np.asarray(morphology, np.float64)
    first = np.zeros(len(body.vertices)) if relief0 is None else np.asarray(relief0, np.float64)
    low, high = np.asarray(category.morphology_range, np.float64).T
    low, high = np.minimum(low, begun), np.maximum(high, begun)
    basis = body.morphology_vertices.astype(np.float64) * std[:, None, None]  # (K, V, 3) a standard deviation
    stiff = stiffness(body.vertices, body.faces)
    share = config.evidence / len(body.vertices)  # what a vertex's partner is worth
    beta, relief = begun / std, first.copy()
    total = config.steps + config.relief_steps
    for step in range(total):
        far, near = config.reach
        reach = size * (far + (near - far) * min(1.0, step / max(config.steps - 1, 1)))
        posed = body.shaped(beta * std, relief)[0]
        own = vertex_normals(posed, body.faces)
        index, weight, gap, direction = _partners(posed, own, target, normal, tree, reach, config.facing)
        weight = weight * share / (config.noise * size) ** 2
        slope = np.einsum("kvc,vc->vk", basis[:, index], direction)  # (n, K)
        prior = 1 / config.morphology**2
        gram = (slope * weight[:, None]).T @ slope + prior * np.eye(len(beta))
        wanted = (slope * weight[:, None]).T @ gap - prior * beta
        beta = np.clip(beta + 0.8 * np.linalg.solve(gram, wanted), low / std, high / std)
        if step < config.steps:
            continue
        posed = body.shaped(beta * std, relief)[0]
        own = vertex_normals(posed, body.faces)
        index, weight, gap, direction = _partners(posed, own, target, normal, tree, reach, config.facing)
        along = (body.normals[index] * direction).sum(1)
        count = len(relief)
        data = np.bincount(index, weight * along**2, count)
        pull = np.bincount(index, weight * along * gap, count)
        matrix = sparse.diags(data + config.small) + config.smooth * stiff
        right = pull - config.small * (relief - first) - config.smooth * (stiff @ (relief - first))
        relief = relief + factorized(sparse.csc_matrix(matrix))(right)
    return beta * std, relief


def _samples(vertices: Array, faces: Array, count: int) -> tuple[Array, Array]:
    """Points of a surface, spread by area, and the smoothed normals there, ``(count, 3)`` each."""
    vertices = np.asarray(vertices, np.float64)
    face, weight = area_samples(vertices, faces, count)
    normal = np.einsum("nk,nkc->nc", weight, vertex_normals(vertices, faces)[faces[face]])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return np.einsum("nk,nkc->nc", weight, vertices[faces[face]]), normal


def _partners(
    posed: Array, own: Array, target: Array, normal: Array, tree: KDTree, reach: float, facing: float
) -> tuple[Array, Array, Array, Array]:
    """Pairs of a vertex and a point of the surface, found from either side.

    The vertex ``(n,)``, weight 0…1 ``(n,)``, signed gap ``(n,)`` in metres along the direction ``(n, 3)``, the
    surface's normal.
    """
    forth = tree.query(posed)[1]
    back = KDTree(posed).query(target)[1]
    vertex = np.concatenate([np.arange(len(posed)), back])
    point = np.concatenate([forth, np.arange(len(target))])
    # the points of the surface together are worth as much as the vertices together
    worth = np.concatenate([np.full(len(posed), 0.5), np.full(len(target), 0.5 * len(posed) / len(target))])
    offset, direction = target[point] - posed[vertex], normal[point]
    alike = (own[vertex] * direction).sum(1)
    square = (offset**2).sum(1)
    weight = worth * np.clip((alike - facing) / (1 - facing), 0, 1) / (1 + square / reach**2) ** 2
    weight[square > (2 * reach) ** 2] = 0
    return vertex, weight, (offset * direction).sum(1), direction
