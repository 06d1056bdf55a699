# SPDX-License-Identifier: GPL-3.0-or-later
"""The quadruped's coat: a mean colour a vertex, and smooth directions in which coats differ."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...core.mesh import vertex_normals
from .landmarks import NAMES, REST, TORSO, point

EYE = np.array([0.052, -0.615, 0.292])
"""Left eye, metres."""

AMPLITUDE = 0.25
"""RGB change at a coefficient of 1 where a direction acts in full."""


def _share(weights: np.ndarray, *bases: str) -> np.ndarray:
    return weights[:, [i for i, n in enumerate(NAMES) if n.split(".")[0] in bases]].sum(1)


def _legs(weights: np.ndarray) -> np.ndarray:
    return _share(weights, "front_foot", "front_toe", "hind_foot", "hind_toe") + 0.4 * _share(
        weights, "front_lower", "hind_lower"
    )


def mean_coat(vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Neutral brown coat (V, 3), RGB 0…1: dark back, light belly, dark nose, eyes and feet."""
    up = 0.5 + 0.5 * vertex_normals(vertices, faces)[:, 2]
    back, side, belly = np.array([[0.31, 0.22, 0.15], [0.52, 0.39, 0.27], [0.86, 0.78, 0.67]])
    colour = np.where(
        up[:, None] > 0.5,
        side + (back - side) * (2 * up[:, None] - 1),
        belly + (side - belly) * 2 * up[:, None],
    )
    dark = 0.45 * _share(weights, "front_toe", "hind_toe") + 0.15 * _share(weights, "front_foot", "hind_foot")
    colour = colour * (1 - np.clip(dark, 0, 1))[:, None]
    nose = np.linalg.norm(vertices - (point(REST, "muzzle_tip") + [0, 0.002, 0.004]), axis=1)
    eye = np.linalg.norm(np.abs(vertices) * [1, 0, 0] + vertices * [0, 1, 1] - EYE, axis=1)
    for distance, radius in ((nose, 0.026), (eye, 0.014)):
        spot = np.clip(1.5 - distance / radius, 0, 1)[:, None]
        colour = colour * (1 - spot) + np.array([0.05, 0.04, 0.04]) * spot
    return np.clip(colour, 0, 1)


def coat_directions(vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Directions (8, V, 3): brightness, warmth, back against belly, legs, head, tail, two kinds of patches.

    Orthogonal to each other over the vertices, all of the same length, symmetric.
    """
    up = vertex_normals(vertices, faces)[:, 2]
    x, y, z = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    grey, warm = np.ones(3), np.array([1.0, 0.1, -0.9])
    torso = _share(weights, *TORSO)
    patches = np.sin(9 * y + 1.0) * np.cos(8 * z + 14 * x)
    saddle = torso * (np.exp(-0.5 * ((y - 0.02) / 0.14) ** 2) - 0.5)
    fields = (
        (np.ones_like(y), grey),
        (np.ones_like(y), warm),
        (up, grey),
        (_legs(weights), grey),
        (_share(weights, "head", "jaw", "ear") + 0.4 * _share(weights, "neck_2"), grey),
        (_share(weights, "tail_1", "tail_2", "tail_3", "tail_4"), grey),
        (patches, grey),
        (saddle, grey),
    )
    return orthogonal(fields, len(vertices))


def orthogonal(fields: Iterable[tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
    """Directions (N, V, 3) from (share of each of `count` vertices (V,), tint (3,)): orthogonal, all of one length."""
    done: list[np.ndarray] = []
    for field, tint in fields:
        d = (field[:, None] * tint).ravel()
        for other in done:
            d = d - other * (d @ other)
        done.append(d / np.linalg.norm(d))
    length = AMPLITUDE * np.sqrt(count)
    return np.stack(done).reshape(len(done), -1, 3) * length
