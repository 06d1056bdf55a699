# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera that travels, put into a motion: how far, the subject says.

A camera solved by other means has no scale; what it sees of the subject has one (the body's own). The two meet where
the subject stands: a foot on the floor is as far away as the floor's solved points round it. Without such points, the
unit is the one with which low feet stand still, which believes the gait to be right.

Where nothing was solved but how the camera turns, low feet that stand still tell its whole way, at any moment: whoever
films goes along with them, or round them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .camera import transform
from .category import Category
from .ground import Feet, find_feet, find_floor, foot_joints, leg_length, mean_up
from .motion import Motion, pace_of
from .smooth import smooth

Array = np.ndarray

LOW = 0.15  # leg lengths: a foot this much above the lowest one does not stand
MOMENT = 0.6  # seconds around each frame in which feet are asked how the camera goes
SPARSE = 0.4  # seconds from frame to frame beyond which all feet may step in between
SMOOTH = 0.12  # seconds over which a way that feet tell is smoothed
LAG = 0.2  # seconds over which a foot is watched: shorter than a stance, longer than its trembling
STEP = 0.06  # leg lengths that a standing foot may seem to move in that time
ALIKE = 0.05  # leg lengths: feet that move this much apart in that time stand together
ALONG_RAY = 0.35  # share of movement towards and from the camera that is believed
LONGEST = 40.0  # leg lengths: no camera is thought to travel farther over a clip
NEAR = 0.2  # of the picture's width: floor points this near to a foot tell how far away it is
FEWEST = 5  # of them


def filmed_by(
    category: Category, motion: Motion, world_from_camera: Array, points: Array | None = None
) -> tuple[Motion, float]:
    """The motion with its camera's movement replaced, and metres a unit of the solve; 0 where it only turns, or
    nothing tells: neither the floor nor feet, in frames too far apart to see them step.

    What the camera sees stays as it is.

    Args:
        world_from_camera: ``(T, 4, 4)``, OpenCV's axes, in any world and any unit.
        points: ``(N, 3)`` of the background in the same world and unit.
    """
    poses = np.array(world_from_camera, np.float64)
    if points is not None:
        points = transform(np.linalg.inv(poses[0]), np.asarray(points, np.float64).reshape(-1, 3))
    poses = np.linalg.inv(poses[0]) @ poses
    turning = poses.copy()
    turning[:, :3, 3] = 0
    only_turned = replace(motion, world_from_camera=turning)
    longest = float(np.linalg.norm(poses[:, :3, 3], axis=1).max())
    if longest < 1e-9 or len(poses) < 3:
        return only_turned, 0.0
    feet = find_feet(category, only_turned)
    above = feet.lowest @ mean_up(only_turned)
    above = (above - above.min(axis=1, keepdims=True)) / leg_length(category, motion.morphology)
    unit = None if points is None else _unit_of_floor(motion, poses, points, feet, above)
    if unit is None:
        unit = 0.0 if motion.rate * SPARSE < 1 else _unit_of_gait(category, motion, poses, feet, above)
    poses[:, :3, 3] *= unit
    return replace(motion, world_from_camera=poses), unit


def filmed_following(category: Category, motion: Motion) -> Motion:
    """The motion with its camera's way along the floor as standing feet tell it.

    The camera's turns, its height and what it sees stay as they are. In a world in which it stood still, a foot that
    stands goes where the camera does not; at any moment that is how most low feet move, while those that swing all move
    differently. A category that has no feet, and a motion of few frames, or of too few a second, stay as they are.
    """
    if not foot_joints(category) or len(motion) < 3 or motion.rate * SPARSE < 1:
        return motion
    poses = np.array(motion.world_from_camera, np.float64)
    poses[:, :3, 3] = poses[0, :3, 3]
    still = replace(motion, world_from_camera=poses)
    feet, leg = find_feet(category, still), leg_length(category, motion.morphology)
    up, _ = find_floor(still, feet, category.nominal_size)
    above = feet.lowest @ up
    lag, low = _low_feet(motion, (above - above.min(axis=1, keepdims=True)) / leg)
    move = (feet.sole[lag:] - feet.sole[:-lag]) / lag
    move = move - (move @ up)[..., None] * up
    every = pace_of(motion.rate)
    move, low, when = move[::every], low[::every], np.arange(0, len(move), every) + 0.5 * lag
    reach = max(1.0, MOMENT * motion.rate)
    step = np.zeros((len(motion) - 1, 3))
    for t in range(len(step)):
        near = np.abs(when - t - 0.5) <= reach
        step[t] = where_most(move[near].reshape(-1, 3), low[near].ravel(), ALIKE / lag * leg)
    way = np.cumsum(smooth(step, SMOOTH * motion.rate, degree=0), axis=0)
    poses[1:, :3, 3] -= way
    return replace(motion, world_from_camera=poses)


def _low_feet(motion: Motion, above: Array) -> tuple[int, Array]:
    """A number of frames n, and how low each foot is throughout n frames from each, ``(T - n, F)`` in 0…1.

    above ``(T, F)``: over the lowest foot of each frame, leg lengths.
    """
    lag = int(np.clip(round(LAG * motion.rate), 1, len(above) - 1))
    low = np.clip(1 - above / LOW, 0.0, 1.0)
    return lag, np.stack([low[k : len(low) - lag + k] for k in range(lag + 1)]).min(axis=0)


def where_most(points: Array, weights: Array, width: float) -> Array:
    """The middle ``(3,)`` of the densest of the places where points ``(n, 3)`` gather; zeros where none has weight.

    weights ``(n,)``: of the points.  width: of such a place.
    """
    square = ((points[:, None] - points[None]) ** 2).sum(-1)
    near = 1 / (1 + square / width**2) ** 2
    weight = weights * near[(near @ weights).argmax()]
    return weight @ points / max(float(weight.sum()), 1e-9)


def _unit_of_floor(motion: Motion, poses: Array, points: Array, feet: Feet, above: Array) -> float | None:
    """Metres a unit from the solved points round the lowest foot of each frame; None where there are too few.

    The inverse depth of a plane is linear in the picture, so it is fitted there, at the foot.
    """
    found = []
    for t, camera_from_world in enumerate(np.linalg.inv(poses)):
        foot = (
            camera_from_world[:3, :3] @ feet.lowest[t, int(above[t].argmin())]
        )  # only turned: about the origin
        if foot[2] <= 0:
            continue
        seen = transform(camera_from_world, points)
        seen = seen[seen[:, 2] > 1e-6]
        place = seen[:, :2] / seen[:, 2:] - foot[:2] / foot[2]
        apart = np.linalg.norm(place, axis=1) * motion.focal_px[t] / motion.image_size[0]
        near = apart < NEAR
        if near.sum() < FEWEST:
            continue
        design = np.column_stack([np.ones(near.sum()), place[near]])
        depth, weight = 1 / seen[near, 2], np.exp(-((2 * apart[near] / NEAR) ** 2))
        inverse = float(np.median(depth))
        for _ in range(6):  # bushes and stones in front of the floor weigh little
            matrix = design.T @ (weight[:, None] * design)
            matrix[1:, 1:] += 1e-4 * np.eye(2) * matrix[0, 0]  # a few points in a row tell no slope
            fitted = np.linalg.solve(matrix, design.T @ (weight * depth))
            inverse = float(fitted[0])
            gap = (depth - design @ fitted) / max(0.05 * abs(inverse), 1e-12)
            weight = np.exp(-((2 * apart[near] / NEAR) ** 2)) / (1 + gap**2)
        if inverse > 0:
            found.append(foot[2] * inverse)
    return float(np.median(found)) if len(found) >= max(3, len(poses) // 8) else None


def _unit_of_gait(category: Category, motion: Motion, poses: Array, feet: Feet, above: Array) -> float:
    """Metres a unit with which low feet stand still: a search for one number, robust because a third of all feet
    swings at any time."""
    path, leg = poses[:, :3, 3], leg_length(category, motion.morphology)
    lag, low = _low_feet(motion, above)
    move = feet.sole[lag:] - feet.sole[:-lag]
    shift = np.broadcast_to((path[lag:] - path[:-lag])[:, None], move.shape)
    ray = feet.sole[lag:] / np.linalg.norm(feet.sole[lag:], axis=-1, keepdims=True)

    def seen(vector: Array) -> Array:
        return vector - (1 - ALONG_RAY) * np.sum(vector * ray, axis=-1, keepdims=True) * ray

    move, shift = seen(move), seen(shift)

    def cost(unit: float) -> float:
        distance = np.sum((move + unit * shift) ** 2, axis=-1) / (STEP * leg) ** 2
        return float((low * np.log1p(distance)).sum())

    most = LONGEST * leg / float(np.linalg.norm(path, axis=1).max())
    units = np.concatenate([[0.0], np.geomspace(most / 4000, most, 160)])
    best = int(np.argmin([cost(unit) for unit in units]))
    fine = np.linspace(units[max(best - 1, 0)], units[min(best + 1, len(units) - 1)], 41)
    return float(fine[np.argmin([cost(value) for value in fine])])
