# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera that was solved elsewhere, in a unit that only the feet know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from filmed import acted

from dasr_blender.core import Category, Motion, filmed_by
from dasr_blender.core.rotation import rotvec_to_matrix


@pytest.fixture(scope="module")
def truth(toy_category: Category) -> Motion:
    return acted(toy_category, "travel", 60, (640, 360), 1.1)[0]


def length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


@pytest.mark.parametrize("unit", [0.03, 1.0, 40.0])
def test_the_feet_tell_the_unit(toy_category: Category, truth: Motion, unit: float) -> None:
    solved = truth.world_from_camera.copy()
    solved[:, :3, 3] /= unit
    away = np.eye(4)  # a solver puts its world where it likes
    away[:3, :3], away[:3, 3] = rotvec_to_matrix(np.array([0.3, -1.0, 0.2])), [1, 2, 3]
    blind = replace(truth, world_from_camera=None)
    found, metres = filmed_by(toy_category, blind, away @ solved)
    assert metres == pytest.approx(unit, rel=0.1)
    np.testing.assert_allclose(found.world_from_camera[0], np.eye(4), atol=1e-9)
    gap = np.linalg.norm(found.world_from_root[:, :3, 3] - truth.world_from_root[:, :3, 3], axis=1)
    assert gap.max() < 0.06 * length(truth.world_from_root[:, :3, 3])
    blind_gap = np.linalg.norm(blind.world_from_root[:, :3, 3] - truth.world_from_root[:, :3, 3], axis=1)
    assert gap.max() < 0.2 * blind_gap.max()
    np.testing.assert_array_equal(found.camera_from_root, truth.camera_from_root)
    np.testing.assert_array_equal(blind.world_from_camera, np.tile(np.eye(4), (60, 1, 1)))  # left as it was


def test_a_camera_that_only_turns_has_no_unit(toy_category: Category, truth: Motion) -> None:
    turning = truth.world_from_camera.copy()
    turning[:, :3, 3] = 0
    found, metres = filmed_by(toy_category, truth, turning)
    assert metres == 0
    np.testing.assert_allclose(found.world_from_camera, turning, atol=1e-12)


def test_a_path_that_is_not_there_is_not_believed(toy_category: Category) -> None:
    """A solver's drift while the true camera only turned: the feet stand still without it."""
    pan = acted(toy_category, "pan", 60, (640, 360), 1.1)[0]
    drift = pan.world_from_camera.copy()
    drift[:, 1, 3] = np.linspace(0, 5, 60)
    found, metres = filmed_by(toy_category, pan, drift)
    assert 5 * metres < 0.05 * length(pan.world_from_root[:, :3, 3])
