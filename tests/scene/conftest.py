# SPDX-License-Identifier: GPL-3.0-or-later
"""Every scene test starts in an empty Blender."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from toy import toy_motion

from dasr_blender.core import Category, Motion
from dasr_blender.core.rotation import rotvec_to_matrix


@pytest.fixture(autouse=True)
def empty_blender() -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)


@pytest.fixture
def wild(toy_category: Category) -> Motion:
    """21 frames with an eccentric camera that zooms, turns and travels, and a subject that tumbles and walks off."""
    motion = toy_motion(toy_category, 21, image_size=(320, 200), seed=3)
    time = np.linspace(0, 1, 21)
    pose = motion.camera_from_root.copy()
    pose[:, :3, :3] = rotvec_to_matrix(np.stack([3 * time, 1 - time, 5 * time], axis=1)) @ pose[:, :3, :3]
    pose[:, :3, 3] += np.stack([time, 0.2 * time, 2 * time], axis=1)
    camera = np.tile(np.eye(4), (21, 1, 1))
    camera[:, :3, :3] = rotvec_to_matrix(np.stack([0.2 * time, 0.9 * time, -0.1 * time], axis=1))
    camera[:, :3, 3] = np.stack([0.5 * time, -0.1 * time, 0.3 * time], axis=1)
    return replace(
        motion,
        world_from_camera=camera,
        camera_from_root=pose,
        focal_px=300 + 50 * time,
        principal_point=np.array([170.0, 92.0]),
        morphology=np.linspace(-0.5, 0.6, len(motion.morphology)),
    )
