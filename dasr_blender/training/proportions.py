# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape that a teacher found, in the words that a student has for it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import lsq_linear

from ..core.category import Category
from ..core.motion import Motion

DOUBT = 0.002
"""root mean square of an offset that is worth a standard deviation of a proportion, as a share of the nominal size"""


def nearest_morphology(category: Category, motion: Motion) -> np.ndarray:
    """The proportions ``(K,)`` within the category's range that come nearest to a motion's shape, relief included.

    Least squares over the vertices at rest, with the joints kept as they are as far as that goes. A student answers
    proportions alone: of a coat that a teacher raised the surface by it can say that the body is thick.
    """
    if not len(motion.relief):
        return motion.morphology
    body, std = category.body, category.body.morphology_scale
    spread = np.sqrt([len(body.vertices), len(body.joints)])
    moves = [
        (std[:, None, None] * basis).reshape(len(std), -1) / root
        for basis, root in zip((body.morphology_vertices, body.morphology_joints), spread, strict=True)
    ]
    matrix = np.concatenate([*moves, DOUBT * category.nominal_size * np.eye(len(std))], 1).T
    wanted = np.zeros(len(matrix))
    wanted[: moves[0].shape[1]] = body.raised(motion.relief).ravel() / spread[0]
    begun = np.asarray(motion.morphology, np.float64)
    low, high = np.asarray(category.morphology_range, np.float64).T
    low, high = np.minimum(low, begun - 1e-9), np.maximum(high, begun + 1e-9)
    step = lsq_linear(matrix, wanted, ((low - begun) / std, (high - begun) / std)).x
    return (begun + step * std).astype(motion.morphology.dtype)
