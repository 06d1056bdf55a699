# SPDX-License-Identifier: GPL-3.0-or-later
"""A category whose mean body becomes the shape that was learnt from videos, and motions in terms of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...core.category import Category
from ...core.motion import Motion

Array = np.ndarray


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
