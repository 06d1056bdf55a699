# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dasr_blender.core import find_feet, transform
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.scene.placement import LEVEL, world_from_camera


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
    feet = transform(found, find_feet(toy_category, motion).lowest)
    assert np.abs(feet[..., 2].min(1)).max() < 0.02 * toy_category.nominal_size
    assert found[2, 3] == pytest.approx(1.7, abs=0.1)  # as high as it was
    assert found[0, 2] == pytest.approx(0, abs=1e-6) and found[1, 2] > 0.9  # looking towards +Y
    root = transform(found, motion.camera_from_root[0, :3, 3][None])[0]
    np.testing.assert_allclose(root[:2], 0, atol=1e-6)


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
    lowest = transform(found, find_feet(toy_category, motion).lowest)[..., 2].min(1)
    assert np.median(lowest) == pytest.approx(0, abs=1e-9)


def test_still_root(toy_category, wild):
    rest = np.eye(4)
    rest[2, 3] = 0.7
    found = world_from_camera("root", toy_category, wild, rest)
    np.testing.assert_allclose(found @ wild.camera_from_root, np.tile(rest, (21, 1, 1)), atol=1e-9)


def panned(motion, yaw=0.7, pitch=0.15, travel=0.0):
    """The same subject in the same world, filmed by a camera that turns along (and travels) over the clip."""
    time = np.linspace(0, 1, len(motion))
    camera = np.tile(np.eye(4), (len(motion), 1, 1))
    camera[:, :3, :3] = rotvec_to_matrix(time[:, None] * [0, yaw, 0]) @ rotvec_to_matrix(
        time[:, None] * [-pitch, 0, 0]
    )
    camera[:, 0, 3] = travel * time
    return replace(
        motion, camera_from_root=np.linalg.inv(camera) @ motion.camera_from_root, world_from_camera=camera
    )


@pytest.mark.parametrize("travel", [0.0, 0.8])
def test_a_moving_camera_leaves_the_world_as_it_is(toy_category, motion, travel):
    """Ground and camera placement put the subject where they put it when a still camera filmed it."""
    still, _ = walking(toy_category, motion, 0.0, 3.0)
    moving = panned(still, travel=travel)
    for placement in ("camera", "ground"):
        was = world_from_camera(placement, toy_category, still, np.eye(4))
        found = world_from_camera(placement, toy_category, moving, np.eye(4))
        assert was.shape == (1, 4, 4) and found.shape == (8, 4, 4)
        np.testing.assert_allclose(
            found @ moving.camera_from_root, was @ still.camera_from_root, atol=0.02, err_msg=placement
        )
    still_root = world_from_camera("root", toy_category, moving, np.eye(4))
    np.testing.assert_allclose(still_root @ moving.camera_from_root, np.tile(np.eye(4), (8, 1, 1)), atol=1e-9)


def test_a_pan_held_level_says_where_up_is(toy_category, motion):
    """A subject that does not travel and whose root is predicted 10 degrees off: the camera knows better."""
    motion, _ = walking(toy_category, motion, 0.0, 0.0)
    lean = np.eye(4)
    lean[:3, :3] = rotvec_to_matrix(np.array([0.0, 0.0, np.radians(10)]))  # about the line of sight
    errors = []
    for world in (motion.world_from_camera, panned(motion, 0.9, 0.0).world_from_camera):
        tilted = replace(motion, world_from_camera=world)
        tilted.camera_from_root = np.linalg.inv(world) @ motion.camera_from_root
        centre = np.linalg.inv(world) @ motion.camera_from_root
        tilted.camera_from_root = centre @ np.linalg.inv(centre[0]) @ _about(centre[0], lean)
        up = world_from_camera("ground", toy_category, tilted, np.eye(4))[0, 2, :3]
        errors.append(np.degrees(np.arccos(np.clip(-up[1], -1, 1))))
    assert errors[1] < 0.75 * 10 and errors[0] < 10


def _about(pose, turn):
    """`pose` turned by `turn` about its own place."""
    result = pose.copy()
    result[:3, :3] = turn[:3, :3] @ pose[:3, :3]
    return result
