# SPDX-License-Identifier: GPL-3.0-or-later
"""Which foot stands when.

A standing foot is low, and in the world, once the camera's movement is taken out, it stays behind while the body
goes on; a swinging one overtakes the body. That holds however small a reconstruction makes the swing, so of a
body that walks the feet's speed along its way is compared with its own. Where the body stays, a standing foot
hardly moves at all; there, movement along the camera's line of sight counts little, because one camera hardly
sees it. A foot's height is taken over the lowest places that this foot, and all feet, reach around that time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        reach: a foot whose own lowest place is this much above that of all feet never stands.
        speed: half as likely at this speed, leg lengths a second, or at `speed_share` of the body's if that is
            more; speed_soft: how soon it changes, as a share of that.
        aside: share of the speed across the body's way that counts, where it walks at `speed` or faster.
        along_ray: share of the speed towards and from the camera that counts, apart from that along the way.
        window: over which a speed is measured.
        around: over which the feet's lowest places are looked for.
        enter, leave: a foot begins to stand at this probability and goes on until it falls below the other.
        shortest: stance, and gap in a stance, that is kept.
        stride: a foot that lands this share of the clip's usual stride from where it stood, or nearer, has not
            stepped: the two stances are one, if no more than `pause` lies between them.
        sparse: from one frame to the next, beyond which a foot may step unseen, so that none is said to stand.
    """

    height: float = 0.10
    height_soft: float = 0.03
    reach: float = 0.2
    speed: float = 0.7
    speed_share: float = 1.1
    speed_soft: float = 0.2
    aside: float = 0.3
    along_ray: float = 0.35
    window: float = 0.085
    around: float = 0.5
    enter: float = 0.5
    leave: float = 0.3
    shortest: float = 0.08
    stride: float = 0.5
    pause: float = 0.25
    sparse: float = 0.2


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

    def touch_downs(self, cuts: Array | Sequence[int] = ()) -> list[tuple[int, str]]:
        """(index of the frame, foot) of every touch-down after a shot's first frame, in order; cuts ``(C,)``: of the
        motion."""
        down = self.standing.copy()
        down[1:] &= ~self.standing[:-1]
        down[[0, *cuts]] = False
        return [(int(t), self.feet[f]) for t, f in np.argwhere(down)]


def find_contacts(
    category: Category, motion: Motion, feet: Feet | None = None, config: ContactConfig = DEFAULT
) -> Contacts:
    """Which foot stands when. `feet`: the motion's `find_feet`, where it is at hand already.

    A foot is what the last joint of a limb moves, a hand too; one that is never near the floor never stands, and none
    does where frames are too far apart to tell. Every shot of a clip is looked at by itself.
    """
    if len(motion.shots) > 1:
        each = [(motion.part(shot), None if feet is None else feet.part(shot)) for shot in motion.shots]
        found = [find_contacts(category, shot, stood, config) for shot, stood in each]
        standing, probability = (
            np.concatenate([getattr(one, name) for one in found]) for name in ("standing", "probability")
        )
        return replace(found[0], standing=standing, probability=probability)
    feet = find_feet(category, motion) if feet is None else feet
    names = tuple(category.skeleton.names[j] for j in feet.joints)
    if len(motion) > 1 and motion.rate * config.sparse < 1:
        nowhere = np.zeros(feet.sole.shape[:2])
        return Contacts(names, feet.joints, nowhere > 0, nowhere)
    normal, height = find_floor(motion, feet, category.nominal_size)
    leg = leg_length(category, motion.morphology)
    times = np.asarray(motion.frame_index, np.float64) / motion.fps
    above = feet.lowest @ normal - height  # (T, F)
    floor = _local_floor(above.min(axis=1), times, config.around)[:, None]
    own = np.stack([_local_floor(foot, times, config.around) for foot in above.T], axis=1)
    above = (above - np.where(own < floor + config.reach * leg, own, floor)) / leg
    speed, body = _speeds(motion, feet, normal, times, leg, config)
    limit = np.maximum(config.speed, config.speed_share * body)[:, None]
    sure = 0.5 + 0.5 * np.clip(np.nan_to_num(motion.joint_confidence[:, feet.joints]), 0, 1)
    probability = _sigmoid(sure * (config.height - above) / config.height_soft)
    probability = probability * _sigmoid(sure * (limit - speed) / (config.speed_soft * limit))
    standing = _hysteresis(probability, times, config)
    _join_stances(standing, feet.sole - (feet.sole @ normal)[..., None] * normal, times, config)
    return Contacts(names, feet.joints, standing, probability)


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


def _speeds(
    motion: Motion, feet: Feet, normal: Array, times: Array, leg: float, config: ContactConfig
) -> tuple[Array, Array]:
    """How fast each foot is, ``(T, F)``, as far as it tells a swing from a stance, and the body ``(T,)``; leg
    lengths a second."""
    root, count = motion.world_from_root[:, :3, 3], len(times)
    if count < 2:
        return np.zeros(feet.sole.shape[:2]), np.zeros(count)
    way = np.array([_slope(root[near], times[near]) for near in _around(times, config.around)]) / leg
    way = way - (way @ normal)[:, None] * normal
    body = np.linalg.norm(way, axis=1)
    heading = way / np.maximum(body, 1e-9)[:, None]
    step = max(1, round(0.5 * config.window / float(np.median(np.diff(times)))))
    before = np.maximum(np.arange(count) - step, 0)
    after = np.minimum(np.arange(count) + step, count - 1)
    velocity = (feet.sole[after] - feet.sole[before]) / (times[after] - times[before])[:, None, None] / leg
    walks = np.clip(body / config.speed, 0, 1)[:, None]
    along = walks * np.einsum("tfk,tk->tf", velocity, heading)
    rest = velocity - along[..., None] * heading[:, None]
    ray = feet.sole - motion.world_from_camera[:, None, :3, 3]
    ray = ray / np.maximum(np.linalg.norm(ray, axis=-1, keepdims=True), 1e-9)
    rest = rest - (1 - config.along_ray) * np.sum(rest * ray, axis=-1, keepdims=True) * ray
    share = 1 - (1 - config.aside) * walks
    return np.hypot(along, share * np.linalg.norm(rest, axis=-1)), body


def _slope(points: Array, times: Array) -> Array:
    """Velocity ``(3,)`` of the straight line through points ``(n, 3)``."""
    centred = times - times.mean()
    return centred @ points / max(float(centred @ centred), 1e-9)


def _hysteresis(probability: Array, times: Array, config: ContactConfig) -> Array:
    """Stances ``(T, F)`` bool: entered and left at different probabilities, short gaps closed, short ones dropped."""
    standing = np.zeros(probability.shape, bool)
    for foot, chance in enumerate(probability.T):
        on = False
        for t, p in enumerate(chance):
            on = p >= (config.leave if on else config.enter)
            standing[t, foot] = on
        for value in (False, True):  # first gaps, then what is still too short
            for begin, end in runs(standing[:, foot], value):
                inside = begin > 0 and end < len(times)
                if inside and times[end] - times[begin] < config.shortest - 1e-9:
                    standing[begin:end, foot] = not value
    return standing


def _join_stances(standing: Array, sole: Array, times: Array, config: ContactConfig) -> None:
    """Close gaps in which a foot did not step, in `standing` ``(T, F)`` itself; sole ``(T, F, 3)`` along the floor.

    Where legs cross each other in the picture, the one that stands may follow the one that swings for a while; it does
    not get far, while all true steps of a clip are about as long.
    """
    while True:
        gaps, lengths = [], []
        for foot in range(standing.shape[1]):
            stances = runs(standing[:, foot], True)
            places = np.array([np.median(sole[a:b, foot], axis=0) for a, b in stances]).reshape(-1, 3)
            gaps += [(foot, a[1], b[0]) for a, b in zip(stances[:-1], stances[1:], strict=True)]
            lengths += list(np.linalg.norm(np.diff(places, axis=0), axis=1))
        usual = np.percentile(lengths, 80) if gaps else 0.0
        short = [
            (length, gap)
            for length, gap in zip(lengths, gaps, strict=True)
            if length < config.stride * usual and times[gap[2]] - times[gap[1] - 1] <= config.pause
        ]
        if not short:
            return
        _, (foot, begin, end) = min(short)
        standing[begin:end, foot] = True


def runs(flags: Array, value: bool, shots: Sequence[slice] = ()) -> list[tuple[int, int]]:
    """Half-open ranges where flags ``(T,)`` equal `value`; with `shots`, in them, none from one into another."""
    found = []
    for shot in shots or [slice(0, len(flags))]:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flags[shot] == value, [False]]).astype(np.int8)))
        found += [(shot.start + int(a), shot.start + int(b)) for a, b in edges.reshape(-1, 2)]
    return found
