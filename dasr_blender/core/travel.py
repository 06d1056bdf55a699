# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera solved by other means, put into a motion: how long its unit is, the subject's feet say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .category import Category
from .ground import find_feet, leg_length, mean_up
from .motion import Motion

Array = np.ndarray

STEP = 0.02  # leg lengths a frame that a standing foot may seem to move, its own noise
ALONG_RAY = 0.35  # share of movement towards and from the camera that is believed
LONGEST = 40.0  # leg lengths: no camera is thought to travel farther over a clip


def filmed_by(category: Category, motion: Motion, world_from_camera: Array) -> tuple[Motion, float]:
    """The motion with its camera's movement replaced, and metres a unit of the solve; 0 where it only turns.

    world_from_camera ``(T, 4, 4)``: OpenCV's axes, the world is the first frame's camera, lengths in any unit.
    What the camera sees stays as it is, so only the feet tell the unit: with the right one those that are low
    stand still. Found by searching the one number, robustly, since a third of all feet swings at any time.
    """
    poses = np.array(world_from_camera, np.float64)
    poses = np.linalg.inv(poses[0]) @ poses
    turning = poses.copy()
    turning[:, :3, 3] = 0
    only_turned = replace(motion, world_from_camera=turning)
    path = poses[:, :3, 3]
    longest = float(np.linalg.norm(path, axis=1).max())
    if longest < 1e-9 or len(poses) < 3:
        return only_turned, 0.0
    leg = leg_length(category, motion.morphology)
    feet = find_feet(category, only_turned)
    up = mean_up(only_turned)
    above = feet.lowest @ up
    low = np.clip(1 - (above - above.min(axis=1, keepdims=True)) / (0.15 * leg), 0.0, 1.0)
    low = np.minimum(low[1:], low[:-1])  # (T - 1, F)
    move, shift = np.diff(feet.sole, axis=0), np.diff(path, axis=0)[:, None]
    ray = feet.sole[1:] / np.linalg.norm(feet.sole[1:], axis=-1, keepdims=True)

    def seen(vector: Array) -> Array:
        return vector - (1 - ALONG_RAY) * np.sum(vector * ray, axis=-1, keepdims=True) * ray

    move, shift = seen(move), seen(np.broadcast_to(shift, move.shape))

    def cost(unit: float) -> float:
        distance = np.sum((move + unit * shift) ** 2, axis=-1) / (STEP * leg) ** 2
        return float((low * np.log1p(distance)).sum())

    most = LONGEST * leg / longest
    units = np.concatenate([[0.0], np.geomspace(most / 4000, most, 160)])
    best = int(np.argmin([cost(unit) for unit in units]))
    fine = np.linspace(units[max(best - 1, 0)], units[min(best + 1, len(units) - 1)], 41)
    unit = float(fine[np.argmin([cost(value) for value in fine])])
    poses[:, :3, 3] *= unit
    return replace(motion, world_from_camera=poses), unit
