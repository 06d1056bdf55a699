# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes that a body's surface may be raised or sunk by: what a category's proportions cannot say, such as a second
hump, a mane or a coat."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..core.category import Category
from ..core.skinning import dense_weights

Array = np.ndarray


@lru_cache(maxsize=4)
def relief(category: Category, count: int, height: float) -> Array:
    """Smooth shapes ``(count, V)``, metres along the normals, the same on both sides; made once, not to be written to.
    A body with less than eight vertices for each gets fewer.

    Bumps round vertices chosen farthest first, wide enough to overlap their neighbours; with all heights equal they
    add up to `height` metres, or to half of the part's thickness where that is less. Two points belong together as
    far as they are near and hang on the same joints: a leg is no part of the belly.
    """
    body = category.body
    points = np.asarray(body.vertices, np.float64)
    count = min(count, len(points) // 8)
    if count <= 0:
        return np.zeros((0, len(points)))
    folded = points.copy()
    folded[:, 0] = np.abs(folded[:, 0])  # left and right are one
    weights = dense_weights(body.skin_index, body.skin_weight, len(category.skeleton))
    skin = weights + weights[:, category.skeleton.mirror]
    # places and joints together: other joints are as good as a quarter of the body away
    place = np.concatenate([folded, 0.25 * category.nominal_size * skin], 1)
    chosen = [int(np.linalg.norm(place - place.mean(0), axis=1).argmin())]
    distance = np.linalg.norm(place - place[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(place - place[chosen[-1]], axis=1))
    width = max(float(distance.max()), 1e-6)  # the radius that leaves no vertex out
    away = np.linalg.norm(place[None] - place[chosen][:, None], axis=-1)
    bump = np.exp(-0.5 * (away / (0.75 * width)) ** 2) + 1e-9
    return bump / bump.sum(0) * np.minimum(height, 0.5 * weights @ part_radius(category))


def part_radius(category: Category) -> Array:
    """How thick the body is round each joint's bones ``(J,)``, metres at rest: most of its skin is no farther."""
    body, skeleton = category.body, category.skeleton
    points, joints = np.asarray(body.vertices, np.float64), np.asarray(body.joints, np.float64)
    owner = body.owner
    radius = np.zeros(len(skeleton))
    for j in range(len(skeleton)):
        own = points[owner == j]
        if not len(own):
            continue
        gap = np.full(len(own), np.inf)
        # a bone from a joint to each child; a last joint's goes on into its flesh
        for end in [joints[c] for c in skeleton.children(j)] or [own.mean(0)]:
            along = end - joints[j]
            share = np.clip((own - joints[j]) @ along / max(float(along @ along), 1e-12), 0, 1)
            gap = np.minimum(gap, np.linalg.norm(own - joints[j] - share[:, None] * along, axis=1))
        radius[j] = np.percentile(gap, 80)
    return radius
