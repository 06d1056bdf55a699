# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dasr_blender.core import transform
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.scene.placement import LEVEL, fit_floor, foot_points, mean_up, world_from_camera


def walking(category, motion, tilt, travel):
    """The toy walks `travel` metres sideways and away over a level floor before a camera tilted by `tilt`."""
    frames = len(motion)
    vertices, _ = category.body.shaped(motion.morphology)
    root = np.tile(np.eye(4), (frames, 1, 1))
    root[:, :3, :3] = rotvec_to_matrix(np.array([0, 0, 0.8]))
    root[:, :3, 3] = np.linspace(0, 1, frames)[:, None] * [travel, travel, 0] + [0, 4, -vertices[:, 2].min()]
    camera = np.eye(4)  # world_from_camera
    camera[:3, :3] = rotvec_to_matrix(np.array([-tilt, 0, 0])) @ LEVEL[:3, :3]
    camera[:3, 3] = [0.5, -0.5, 1.7]
    motion = replace(motion, camera_from_root=np.linalg.inv(camera) @ root)
    motion.joint_rotations[:] = [1, 0, 0, 0]
    return motion, camera


@pytest.mark.parametrize("tilt", [0.0, 0.3, -0.2])
@pytest.mark.parametrize("travel", [0.0, 3.0])
def test_ground_finds_the_floor(toy_category, motion, tilt, travel):
    motion, camera = walking(toy_category, motion, tilt, travel)
    found = world_from_camera("ground", toy_category, motion, np.eye(4))[0]
    up_error = np.degrees(np.arccos(np.clip(found[2, :3] @ camera[2, :3], -1, 1)))
    assert up_error < 1.0
    feet = transform(found, foot_points(toy_category, motion))
    assert np.abs(feet[..., 2].min(1)).max() < 0.02 * toy_category.nominal_size
    assert found[2, 3] == pytest.approx(1.7, abs=0.1)  # as high as it was
    assert found[0, 2] == pytest.approx(0, abs=1e-6) and found[1, 2] > 0.9  # looking towards +Y
    root = transform(found, motion.camera_from_root[0, :3, 3][None])[0]
    np.testing.assert_allclose(root[:2], 0, atol=1e-6)


def test_floor_shrugs_off_a_few_wild_frames():
    rng = np.random.default_rng(0)
    along = rng.uniform(-3, 3, (60, 4, 2))
    points = np.concatenate([along, rng.normal(0, 0.01, (60, 4, 1))], axis=2)
    points[::10, :, 2] += 1.5
    normal, height = fit_floor(points, np.array([0, np.sin(0.1), np.cos(0.1)]), 0.6)
    assert normal[2] > np.cos(np.radians(1))
    assert abs(height) < 0.03


def test_a_noisy_depth_does_not_tilt_the_floor(toy_category, motion):
    motion, camera = walking(toy_category, motion, 0.2, 0.0)
    depth = np.exp(np.random.default_rng(1).normal(0, 0.05, len(motion)))
    motion.camera_from_root[:, :3, 3] *= depth[:, None]
    found = world_from_camera("ground", toy_category, motion, np.eye(4))[0]
    assert np.degrees(np.arccos(found[2, :3] @ camera[2, :3])) < 5


def test_still_camera_is_level_with_feet_at_zero(toy_category, motion):
    found = world_from_camera("camera", toy_category, motion, np.eye(4))
    assert found.shape == (1, 4, 4)
    np.testing.assert_allclose(found[0, :3, :3], LEVEL[:3, :3])
    lowest = transform(found, foot_points(toy_category, motion))[..., 2].min(1)
    assert np.median(lowest) == pytest.approx(0, abs=1e-9)


def test_still_root(toy_category, wild):
    rest = np.eye(4)
    rest[2, 3] = 0.7
    found = world_from_camera("root", toy_category, wild, rest)
    np.testing.assert_allclose(found @ wild.camera_from_root, np.tile(rest, (21, 1, 1)), atol=1e-9)


def test_mean_up_without_a_direction(toy_category, motion):
    motion.camera_from_root[:, :3, 2] = np.array([[0, 1, 0], [0, -1, 0]] * 4)
    motion.confidence[:] = 1
    np.testing.assert_allclose(mean_up(motion), [0, 1, 0])
