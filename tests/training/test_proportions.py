# SPDX-License-Identifier: GPL-3.0-or-later
"""A shape with a relief, told in proportions alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_clips import random_motion

from dasr_blender.core import Category
from dasr_blender.training.proportions import nearest_morphology


def test_a_relief_that_proportions_can_say_is_told_by_them(toy_category: Category) -> None:
    body = toy_category.body
    motion = replace(random_motion(toy_category, 2, 0), morphology=np.zeros(len(body.morphology_std)))
    assert np.array_equal(nearest_morphology(toy_category, motion), motion.morphology)

    moves = body.morphology_vertices.astype(np.float64)
    swells = (moves * body.normals).sum(-1)
    thickness = int((np.abs(swells).sum(1) / np.linalg.norm(moves, axis=-1).sum(1)).argmax())
    true = np.zeros(len(moves))
    true[thickness] = 1.5 * body.morphology_scale[thickness]
    along = true[thickness] * swells[thickness]
    raised = replace(motion, relief=along)
    found = nearest_morphology(toy_category, raised)

    def off(morphology: np.ndarray) -> float:
        return float(np.linalg.norm(body.shaped(morphology)[0] - body.shaped(None, along)[0]))

    assert off(found) < 0.7 * off(motion.morphology)
    assert found[thickness] > 0.5 * true[thickness] and np.abs(found).argmax() == thickness

    low, high = np.asarray(toy_category.morphology_range).T
    found = nearest_morphology(toy_category, replace(motion, relief=100 * along))
    assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all()
    outside = (high + 1) * np.ones_like(true)
    kept = nearest_morphology(toy_category, replace(motion, morphology=outside, relief=0 * along))
    assert kept == pytest.approx(outside)
