# SPDX-License-Identifier: GPL-3.0-or-later
"""A category whose mean body becomes the shape that was learnt from videos, and motions in terms of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...core.body import Body
from ...core.category import Category
from ...core.motion import Motion

Array = np.ndarray
DEEPEST = 0.15
"""How far either side of the flesh may be sunk, as a share of its thickness: a fin must not become a thread."""


def flesh(body: Body, near: int = 200) -> Array:
    """How thick the flesh is under each vertex ``(V,)`` metres: to the nearest vertex inside that faces the other way.

    inf where none of the `near` nearest ones does: it is thick there.
    """
    from scipy.spatial import KDTree

    points, normals = np.asarray(body.vertices, np.float64), body.normals
    away, found = KDTree(points).query(points, k=min(near, len(points)))
    inside = np.einsum("vkc,vc->vk", points[found] - points[:, None], normals) < 0
    opposite = np.einsum("vkc,vc->vk", normals[found], normals) < -0.3
    return np.where(inside & opposite, away, np.inf).min(axis=1)


def held_back(body: Body, relief: Array) -> Array:
    """A relief ``(V,)`` metres that sinks nothing by more than a share `DEEPEST` of its thickness."""
    return np.maximum(relief, -DEEPEST * flesh(body))


def adopt(
    category: Category, morphology: Array, relief: Array, colours: Array | None = None, version: str = "1.0.0"
) -> Category:
    """The category with the body at a morphology ``(K,)`` and relief ``(V,)`` metres for its mean, joints too.

    Bases and their spreads are kept; the ranges are counted from the new mean. colours ``(V, 3)`` RGB 0…1 or None.
    """
    body = category.body
    vertices, joints = body.shaped(morphology, relief)
    joints = joints - joints[0]
    mirror = body.mirror_vertex
    vertices = (vertices + vertices[mirror] * [-1, 1, 1]) / 2
    if colours is None:
        colours = body.appearance_mean
    grown = float(np.ptp(vertices, axis=0).max() / np.ptp(body.vertices, axis=0).max())
    return replace(
        category,
        version=version,
        body=replace(body, vertices=vertices, joints=joints, appearance_mean=colours),
        morphology=tuple(
            replace(p, minimum=p.minimum - float(b), maximum=p.maximum - float(b))
            for p, b in zip(category.morphology, morphology, strict=True)
        ),
        nominal_size=category.nominal_size * grown,
        path=None,
        predictor_path=None,
        hashes={},
    )


def adopted(motion: Motion, morphology: Array, category: Category) -> Motion:
    """A motion that was found with the old body, in terms of the new category: the same surface."""
    return replace(
        motion,
        morphology=np.asarray(motion.morphology) - morphology,
        relief=np.zeros(0),
        category=category.name,
        category_version=category.version,
        source_hash=category.hashes.get("body.npz", ""),
    )
