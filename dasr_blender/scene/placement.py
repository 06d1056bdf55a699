# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the clip is put in the world: on the first camera, on the subject's root, or with the feet on the floor.

All three only choose `world_from_camera`; what the camera sees is the same. A camera that pans does so in all.
"""

from __future__ import annotations

import numpy as np

from ..core import Category, Feet, Motion, find_feet, find_floor, transform

PLACEMENTS = ("camera", "root", "ground")

# A level camera looking along +Y: OpenCV's right, down, forward are the world's X, −Z, Y.
LEVEL = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def world_from_camera(
    placement: str, category: Category, motion: Motion, root_at_rest: np.ndarray, feet: Feet | None = None
) -> np.ndarray:
    """Camera poses: (1, 4, 4) for a camera that stands still, (T, 4, 4) for one that moves.

    Args:
        placement: one of `PLACEMENTS`.
        root_at_rest: (4, 4) world_from_root of the armature's rest pose.
        feet: the motion's feet, where they are known already.
    """
    if placement == "root":
        return root_at_rest @ np.linalg.inv(motion.camera_from_root.astype(np.float64))
    feet = find_feet(category, motion) if feet is None else feet
    if placement == "camera":
        world = as_filmed(motion, feet)
    else:
        world = on_the_ground(motion, feet, category.nominal_size)
    camera = np.asarray(motion.world_from_camera, np.float64)
    return world @ (camera if motion.camera_moves else camera[:1])


def as_filmed(motion: Motion, feet: Feet) -> np.ndarray:
    """The world (4, 4) from the motion's own, in which the first camera is level."""
    heights = transform(LEVEL, feet.lowest)[..., 2].min(1)
    level = LEVEL.copy()
    level[:2, 3] -= LEVEL[:2, :3] @ motion.world_from_root[0, :3, 3]  # it starts above the world's origin
    level[2, 3] = -float(np.median(heights))
    return level


def on_the_ground(motion: Motion, feet: Feet, size: float) -> np.ndarray:
    """The world (4, 4) from the motion's own, with the floor at z = 0, the root of the first frame above the
    origin, and the first camera looking towards +Y. size: the body's nominal size, metres."""
    normal, height = find_floor(motion, feet, size)
    first = np.asarray(motion.world_from_camera[0], np.float64)
    down, ahead = first[:3, 1], first[:3, 2]
    forward = ahead - float(normal @ ahead) * normal
    if np.linalg.norm(forward) < 1e-3:  # straight from above or below: the picture's up is forward
        forward = float(normal @ down) * normal - down
    forward /= np.linalg.norm(forward)
    result = np.eye(4)
    result[:3, :3] = np.stack([np.cross(forward, normal), forward, normal])
    origin = motion.world_from_root[0, :3, 3]
    origin = origin - (normal @ origin - height) * normal  # its foot on the floor
    result[:3, 3] = -result[:3, :3] @ origin
    return result
