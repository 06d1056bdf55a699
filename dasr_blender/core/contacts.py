# SPDX-License-Identifier: GPL-3.0-or-later
"""Which foot stands when.

A standing foot is low and does not move in the world, once the camera's movement is taken out. One camera hardly
sees movement along its line of sight, so that part of the speed counts little; and it sees the floor only through
the feet, so a foot's height is taken over the lowest places that feet reach around the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .category import Category
from .ground import Feet, find_feet, find_floor, leg_length
from .motion import Motion

Array = np.ndarray


@dataclass(frozen=True)
class ContactConfig:
    """Lengths in leg lengths, times in seconds.

    Attributes:
        height, height_soft: half as likely to stand this high, and how soon it changes.
        speed: half as likely at this speed, leg lengths a second, and never below `speed_share` of the body's:
            a swinging foot is at least as fast as the body.
        along_ray: share of the speed towards and from the camera that is believed.
        window: over which a speed is measured.
        around: over which the feet's lowest places are looked for.
        enter, leave: a foot begins to stand at this probability and goes on until it falls below the other.
        shortest: stance, and gap in a stance, that is kept.
    """

    height: float = 0.10
    height_soft: float = 0.03
    speed: float = 0.7
    speed_share: float = 0.6
    along_ray: float = 0.35
    window: float = 0.085
    around: float = 0.5
    enter: float = 0.5
    leave: float = 0.3
    shortest: float = 0.08


DEFAULT = ContactConfig()


@dataclass(frozen=True, eq=False)
class Contacts:
    """Which foot stands when.

    feet: names of the F foot joints.  joints ``(F,)``: their numbers.  standing ``(T, F)`` bool.
    probability ``(T, F)`` in 0…1, before hysteresis and shortest durations.
    """

    feet: tuple[str, ...]
    joints: Array
    standing: Array
    probability: Array

    def touch_downs(self) -> list[tuple[int, str]]:
        """(index of the frame, foot) of every touch-down after the first frame, in order."""
        frames, feet = np.nonzero(self.standing[1:] & ~self.standing[:-1])
        return [(int(t) + 1, self.feet[f]) for t, f in zip(frames, feet, strict=True)]


def find_contacts(
    category: Category, motion: Motion, feet: Feet | None = None, config: ContactConfig = DEFAULT
) -> Contacts:
    """Which foot stands when. `feet`: the motion's `find_feet`, where it is at hand already.

    A foot is what the last joint of a limb moves, a hand too; one that is never near the floor never stands.
    """
    feet = find_feet(category, motion) if feet is None else feet
    normal, height = find_floor(motion, feet, category.nominal_size)
    leg = leg_length(category, motion.morphology)
    times = np.asarray(motion.frame_index, np.float64) / motion.fps
    above = feet.lowest @ normal - height  # (T, F)
    above = (above - _local_floor(above.min(axis=1), times, config.around)[:, None]) / leg
    speed = _speed(feet.sole, motion.world_from_camera[:, :3, 3], times, config) / leg
    root = motion.world_from_root[:, None, :3, 3]
    body = _speed(root, motion.world_from_camera[:, :3, 3], times, config)[:, 0] / leg
    limit = np.maximum(config.speed, config.speed_share * _median(body, times, config.around))[:, None]
    sure = 0.5 + 0.5 * np.clip(np.nan_to_num(motion.joint_confidence[:, feet.joints]), 0, 1)
    probability = _sigmoid(sure * (config.height - above) / config.height_soft)
    probability = probability * _sigmoid(sure * (limit - speed) / (0.25 * limit))
    names = tuple(category.skeleton.names[j] for j in feet.joints)
    return Contacts(names, feet.joints, _hysteresis(probability, times, config), probability)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -40, 40)))


def _around(times: Array, radius: float) -> list[slice]:
    """For each frame the slice of those no farther than `radius` seconds, at least itself."""
    first = np.searchsorted(times, times - radius - 1e-9)
    last = np.searchsorted(times, times + radius + 1e-9, side="right")
    return [slice(a, b) for a, b in zip(first, last, strict=True)]


def _local_floor(lowest: Array, times: Array, radius: float) -> Array:
    """Height ``(T,)`` that the lowest foot keeps coming down to around each frame."""
    return np.array([np.percentile(lowest[near], 20) for near in _around(times, radius)])


def _median(values: Array, times: Array, radius: float) -> Array:
    return np.array([np.median(values[near]) for near in _around(times, radius)])


def _speed(points: Array, eye: Array, times: Array, config: ContactConfig) -> Array:
    """Speed ``(T, n)`` of points ``(T, n, 3)``, metres a second, as far as a camera at `eye` ``(T, 3)`` sees it."""
    count = len(points)
    if count < 2:
        return np.zeros(points.shape[:2])
    step = max(1, round(0.5 * config.window / float(np.median(np.diff(times)))))
    before = np.maximum(np.arange(count) - step, 0)
    after = np.minimum(np.arange(count) + step, count - 1)
    velocity = (points[after] - points[before]) / (times[after] - times[before])[:, None, None]
    ray = points - eye[:, None]
    ray = ray / np.maximum(np.linalg.norm(ray, axis=-1, keepdims=True), 1e-9)
    along = np.sum(velocity * ray, axis=-1, keepdims=True)
    return np.linalg.norm(velocity - (1 - config.along_ray) * along * ray, axis=-1)


def _hysteresis(probability: Array, times: Array, config: ContactConfig) -> Array:
    """Stances ``(T, F)`` bool: entered and left at different probabilities, short gaps closed, short ones dropped."""
    standing = np.zeros(probability.shape, bool)
    for foot, chance in enumerate(probability.T):
        on = False
        for t, p in enumerate(chance):
            on = p >= (config.leave if on else config.enter)
            standing[t, foot] = on
        for value in (False, True):  # first gaps, then what is still too short
            for begin, end in _runs(standing[:, foot], value):
                inside = begin > 0 and end < len(times)
                if inside and times[end] - times[begin] < config.shortest - 1e-9:
                    standing[begin:end, foot] = not value
    return standing


def _runs(flags: Array, value: bool) -> list[tuple[int, int]]:
    """Half-open ranges where flags ``(T,)`` equal `value`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags == value, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
