# SPDX-License-Identifier: GPL-3.0-or-later
"""The shots of a clip that is cut: no movement leads from one to the next, but one subject goes through them all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .category import Category
from .ground import find_feet, find_floor
from .motion import Motion

Array = np.ndarray


def one_world(category: Category, motion: Motion) -> Motion:
    """The motion with the worlds of its shots laid into that of the first.

    Each shot's world was its own first camera's. Nothing tells where the cameras of two shots stood to each other, but
    they show one subject over one floor: so a shot's floor is laid into the first one's, and the subject goes on where,
    and the way, it was going when the shot before ended. What the cameras see stays as it is.
    """
    if len(motion.shots) < 2:
        return motion
    world = np.array(motion.world_from_camera, np.float64)
    floors = []
    for shot in motion.shots:
        part = motion.part(shot)
        floors.append(find_floor(part, find_feet(category, part), category.nominal_size))
    normal, height = floors[0]
    for shot, (own_normal, own_height) in zip(motion.shots[1:], floors[1:], strict=True):
        last = world[shot.start - 1] @ motion.camera_from_root[shot.start - 1]
        first = world[shot.start] @ motion.camera_from_root[shot.start]
        own, there = _frame(own_normal, first), _frame(normal, last)
        moved = np.eye(4)
        moved[:3, :3] = there @ own.T
        above = own_normal @ first[:3, 3] - own_height
        place = last[:3, 3] + (height + above - normal @ last[:3, 3]) * normal
        moved[:3, 3] = place - moved[:3, :3] @ first[:3, 3]
        world[shot] = moved @ world[shot]
    return replace(motion, world_from_camera=world)


def _frame(normal: Array, pose: Array) -> Array:
    """Axes ``(3, 3)``, as columns: along the floor the way that a body in `pose` ``(4, 4)`` looks, to its side, up."""
    front, up = -pose[:3, 1], pose[:3, 2]
    ahead = front - (normal @ front) * normal
    if np.linalg.norm(ahead) < 0.3:  # it looks up or down, and its back or its belly the way that it would look
        ahead = -np.sign(normal @ front) * (up - (normal @ up) * normal)
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([ahead, np.cross(normal, ahead), normal], axis=1)
