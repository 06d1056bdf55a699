# SPDX-License-Identifier: GPL-3.0-or-later
"""Motions of a four-legged body made by rule: gaits, tails, looks and turns that no rig's clip has.

Everything returns rotation vectors (T, J, 3) or angles (T,) in radians. Rotation about +X (the animal's left)
lowers the head, takes a foot backwards and lifts the tail. Gaits and their order of feet: Hildebrand, "The
quadrupedal gaits of vertebrates", BioScience 39 (1989).
"""

from __future__ import annotations

import numpy as np

from ...core.skeleton import Skeleton

LEGS = ("front_{}.L", "front_{}.R", "hind_{}.L", "hind_{}.R")
# When in its own cycle each of `LEGS` is at the clip's start; share of stance; typical half swing, degrees.
GAITS: dict[str, tuple[tuple[float, float, float, float], float, float]] = {
    "walk": ((0.25, 0.75, 0.0, 0.5), 0.65, 22),
    "amble": ((0.12, 0.62, 0.0, 0.5), 0.6, 22),
    "pace": ((0.0, 0.5, 0.0, 0.5), 0.58, 24),
    "trot": ((0.5, 0.0, 0.0, 0.5), 0.5, 26),
    "canter": ((0.6, 0.3, 0.3, 0.0), 0.4, 32),
    "gallop": ((0.6, 0.5, 0.1, 0.0), 0.3, 40),
    "bound": ((0.5, 0.5, 0.0, 0.0), 0.3, 40),
}
_GAIT_SHARES = (0.36, 0.1, 0.12, 0.2, 0.08, 0.09, 0.05)
# (upper, lower, foot, toe) a leg bends by in mid-swing, degrees, at a lift of one
_FOLD = {"front": (-8.0, -55.0, 60.0, 40.0), "hind": (-14.0, 42.0, -38.0, 35.0)}


def legs_of(skeleton: Skeleton) -> np.ndarray:
    """Numbers (4, 4) of the joints of each of `LEGS`, from the trunk to the toe."""
    parts = ("upper", "lower", "foot", "toe")
    return np.array([[skeleton.index(leg.format(p)) for p in parts] for leg in LEGS])


def gait(
    rng: np.random.Generator, skeleton: Skeleton, seconds: np.ndarray, name: str | None = None
) -> tuple[np.ndarray, str]:
    """One of `GAITS` with its own stride, lift and timing: rotation vectors (T, J, 3), zero off the legs, and its
    name; one clip in twelve moves every leg in a phase of its own."""
    name = name or str(rng.choice(list(GAITS), p=_GAIT_SHARES))
    offsets, stance, swing = GAITS[name]
    phases = np.array(offsets) + rng.normal(0, 0.04, 4)
    if rng.random() < 1 / 12:
        name, phases = "free", rng.random(4)
    stance = float(np.clip(stance + rng.normal(0, 0.06), 0.2, 0.8))
    reach = np.deg2rad(swing * rng.uniform(0.45, 1.35)) * rng.uniform(0.85, 1.15, 2)
    lift = rng.uniform(0.3, 1.25) * rng.uniform(0.8, 1.2, 2)
    lean = np.deg2rad(rng.normal(0, [6.0, 7.0]))
    rate = np.exp(rng.normal(np.log(1.1 if stance > 0.45 else 1.9), 0.35))
    if rng.random() < 0.1:
        rate = -rate  # walking backwards
    start = rng.random()
    vectors = np.zeros((len(seconds), len(skeleton), 3))
    for leg, (joints, phase) in enumerate(zip(legs_of(skeleton), phases, strict=True)):
        pair = leg // 2
        fold = np.deg2rad(_FOLD["front" if pair == 0 else "hind"]) * lift[pair] * rng.uniform(0.9, 1.1, 4)
        at = (start + phase + rate * seconds) % 1.0
        down = at < stance
        share = np.where(down, at / stance, (at - stance) / (1 - stance))
        # Backwards at an even pace while it stands, forwards with a soft start and end while it swings.
        angle = reach[pair] * np.where(down, 2 * share - 1, np.cos(np.pi * share)) + lean[pair]
        bend = np.where(down, 0.0, np.sin(np.pi * share) ** 1.3)
        push = np.where(down, share**2, np.maximum(1 - 3 * share, 0))  # the foot rolls off behind
        vectors[:, joints[0], 0] = angle + bend * fold[0]
        vectors[:, joints[1:], 0] = bend[:, None] * fold[1:]
        vectors[:, joints[2], 0] += (0.25 if pair == 0 else 0.2) * push * np.abs(reach[pair])
        vectors[:, joints[3], 0] -= 0.6 * (1 - bend) * angle  # paws stay flat on the ground
    return vectors, name


def stand(rng: np.random.Generator, skeleton: Skeleton, seconds: np.ndarray) -> np.ndarray:
    """Four feet somewhere under or out from the body, still: rotation vectors (T, J, 3)."""
    vectors = np.zeros((1, len(skeleton), 3))
    for leg, joints in enumerate(legs_of(skeleton)):
        angle = np.deg2rad(rng.normal(0, 9))
        bend = np.deg2rad(abs(rng.normal(0, 10)))
        way = 1.0 if leg < 2 else -1.0
        vectors[0, joints, 0] = angle + np.array([0.4, -1.0, 0.4, 0.0]) * way * bend
        vectors[0, joints[1:], 0] -= np.array([angle, angle, 0.6 * angle])
        vectors[0, joints[0], 1] = np.deg2rad(rng.normal(0, 4))
    if rng.random() < 0.2:  # one foot is up
        joints = legs_of(skeleton)[(leg := int(rng.integers(4)))]
        fold = np.deg2rad(_FOLD["front" if leg < 2 else "hind"])
        vectors[0, joints, 0] += fold * rng.uniform(0.3, 1.3)
    return np.repeat(vectors, len(seconds), axis=0)


# What each of the four joints of a tail turns by, degrees about +X; at rest it hangs behind, curving down.
_TAILS: dict[str, tuple[float, float, float, float]] = {
    "hang": (-12, -12, -6, -2),
    "tuck": (-38, -32, -25, -15),
    "straight": (10, 18, 12, 5),
    "level": (30, 20, 10, 5),
    "sabre": (45, 30, 25, 15),
    "up": (95, 28, 15, 8),
    "curl": (85, 45, 60, 60),
    "hook": (-5, 0, 30, 55),
}


def tail(
    rng: np.random.Generator, skeleton: Skeleton, seconds: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """A tail carried low, level, high or curled, held to one side, still, swaying or wagging.

    Returns the joints (4,) and their rotation vectors (T, 4, 3); None without a tail.
    """
    names = [n for n in ("tail_1", "tail_2", "tail_3", "tail_4") if n in skeleton.names]
    if len(names) < 4:
        return None
    shares = np.array([0.24, 0.07, 0.15, 0.13, 0.13, 0.1, 0.1, 0.08])
    kind = _TAILS[str(rng.choice(list(_TAILS), p=shares))]
    out = np.zeros((len(seconds), 4, 3))
    out[..., 0] = np.deg2rad(np.array(kind) * rng.uniform(0.7, 1.2) + rng.normal(0, 7, 4))
    side = rng.normal(0, 0.18)
    draw = rng.random()
    rate, reach = (0.0, 0.0) if draw < 0.45 else (0.6, 0.12) if draw < 0.75 else (3.0, 0.3)
    beat = 2 * np.pi * rate * rng.uniform(0.6, 1.6) * seconds[:, None] + rng.uniform(0, 2 * np.pi)
    sway = side + reach * rng.uniform(0.5, 1.5) * np.sin(beat - np.arange(4) * rng.uniform(0.2, 0.9))
    # A wag goes round whatever is across the tail: the vertical for a level tail, more a roll for a raised one.
    raised = np.clip(np.cumsum(out[..., 0], axis=1) - 0.5, 0, 1.2)
    out[..., 2] += sway * np.cos(raised)
    out[..., 1] += 0.8 * sway * np.sin(raised)
    return np.array([skeleton.index(n) for n in names]), out


def head_carriage(
    rng: np.random.Generator, skeleton: Skeleton, seconds: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """A neck carried low to high and a head that looks its own way: joints (3,), rotation vectors (T, 3, 3)."""
    names = ("neck_1", "neck_2", "head")
    if any(n not in skeleton.names for n in names):
        return None
    nod = np.deg2rad(rng.choice([-20.0, 0.0, 25.0, 65.0], p=[0.25, 0.35, 0.25, 0.15]) + rng.normal(0, 9))
    turn = rng.normal(0, 0.45) if rng.random() < 0.5 else rng.normal(0, 0.08)
    wave = np.sin(2 * np.pi * rng.uniform(0.2, 1.2) * seconds + rng.uniform(0, 2 * np.pi))
    nods = nod + rng.normal(0, 0.1) * wave
    turns = turn + rng.normal(0, 0.2) * wave
    level = rng.uniform(0.2, 1.0) if nod < 0.8 else rng.uniform(-0.1, 0.6)  # the muzzle stays level, or dips
    out = np.zeros((len(seconds), 3, 3))
    out[:, 0, 0], out[:, 1, 0] = 0.6 * nods, 0.4 * nods
    out[:, 2, 0] = -level * nods + rng.normal(0, 0.15)
    out[..., 2] = turns[:, None] * np.array([0.6, 0.7, 0.8])
    out[:, 2, 1] = rng.normal(0, 0.12)
    return np.array([skeleton.index(n) for n in names]), out


def turning(
    rng: np.random.Generator, skeleton: Skeleton, seconds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Turning round on the spot: heading (T,) about +Z, and rotation vectors (1, J, 3) of the bend of the trunk."""
    rate = rng.normal(0, 1.3)
    middle = seconds - seconds.mean()
    ease = rng.normal(0, 0.4) * middle**2 * np.sign(middle)
    bend = np.zeros((1, len(skeleton), 3))
    strength = np.clip(rate, -2, 2) * rng.uniform(0.0, 0.3)
    for name, share in {"pelvis": -0.6, "spine": 0.6, "chest": 0.5, "neck_1": 0.6, "neck_2": 0.5}.items():
        if name in skeleton.names:
            bend[0, skeleton.index(name), 2] = share * strength
    return rate * middle + ease, bend
