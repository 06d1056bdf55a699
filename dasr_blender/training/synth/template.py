# SPDX-License-Identifier: GPL-3.0-or-later
"""The body of any category as a subject: random proportions, and joints that move smoothly within their limits.

Nothing is known about how it moves, so everything is drawn: waves that run down the chains (a spine undulates, a tail
follows it, a pair of wings or legs beats together or in turn) about a random posture, in any attitude.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.category import Category
from ...core.rotation import rotvec_to_matrix, rotvec_to_quat
from ...core.skeleton import Skeleton, clamp_rotations
from .subjects import Subject, body_in_world, joints_in_world, stride

_HELD, _MOVING = 0.3, 0.4
"""Usual shares of a joint's limits: of a posture, and of a wave."""


def depths(skeleton: Skeleton) -> np.ndarray:
    """How many joints lie between each joint and the root, (J,)."""
    return np.array([len(skeleton.chain(j)) - 1 for j in range(len(skeleton))])


def chain_waves(rng: np.random.Generator, skeleton: Skeleton, seconds: np.ndarray) -> np.ndarray:
    """Rotation vectors (T, J, 3) as shares of the limits, −1…1: one wave a kind of joint, delayed from joint to joint.

    Both sides share it, mirrored: together, in turn, or with any delay.
    """
    depth = depths(skeleton)
    rate = np.exp(rng.uniform(np.log(0.3), np.log(3.0)))
    out = np.zeros((len(seconds), len(skeleton), 3))
    flip = np.array([1.0, -1, -1])
    for role in sorted(set(skeleton.roles) - {"root"}):
        own = rate if rng.random() < 0.7 else np.exp(rng.uniform(np.log(0.3), np.log(3.0)))
        level = np.abs(rng.normal(0, _MOVING)) * (rng.random() < 0.85)
        axis = rng.dirichlet([0.6, 0.25, 0.4]) ** 0.5 * rng.choice([-1, 1], 3)
        start, delay, second = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 1.6), rng.normal(0, 0.25)
        between = float(rng.choice([0.0, np.pi, rng.uniform(0, 2 * np.pi)], p=[0.45, 0.4, 0.15]))
        growth = rng.uniform(-0.1, 0.35)
        for j in np.flatnonzero(np.array(skeleton.roles) == role):
            right = int(skeleton.mirror[j]) < j
            phase = 2 * np.pi * own * seconds + start - delay * depth[j] + (between if right else 0.0)
            beat = np.sin(phase) + second * np.sin(2 * phase)
            reach = level * (1 + growth * depth[j]) * rng.uniform(0.7, 1.3)
            out[:, j] = reach * beat[:, None] * axis * (flip if right else 1.0)
    return out


def posture(rng: np.random.Generator, skeleton: Skeleton) -> np.ndarray:
    """Rotation vectors (J, 3) as shares of the limits, −1…1: a bend that chains share, and each joint's own."""
    spread = _HELD * np.abs(rng.normal(0, 1)) if rng.random() < 0.85 else 0.0
    out = rng.normal(0, 0.6, (len(skeleton), 3))
    flip = np.array([1.0, -1, -1])
    for role in sorted(set(skeleton.roles)):
        shared = rng.normal(0, 1, 3)
        for j in np.flatnonzero(np.array(skeleton.roles) == role):
            out[j] += shared * (flip if int(skeleton.mirror[j]) < j else 1.0)
    if rng.random() < 0.5:  # both sides alike
        left = [j for j in range(len(skeleton)) if int(skeleton.mirror[j]) > j]
        for j in left:
            out[int(skeleton.mirror[j])] = out[j] * flip
    return spread * out


def within(skeleton: Skeleton, shares: np.ndarray) -> np.ndarray:
    """Rotations (T, J, 4) of shares (T, J, 3) of the limits; beyond ±1 they ease into the limit."""
    eased = np.tanh(shares * np.sqrt(np.pi) / 2)
    reach = np.where(eased > 0, skeleton.limits[..., 1], -skeleton.limits[..., 0])
    middle = np.clip(0.0, skeleton.limits[..., 0], skeleton.limits[..., 1])  # limits that leave out rest
    return clamp_rotations(skeleton, rotvec_to_quat(middle + eased * np.maximum(reach, 0)))


def template_subject(
    rng: np.random.Generator, category: Category, _rigs: Sequence[Any], frames: int, fps: float
) -> Subject:
    """The category's body in motion, with labels that are exact."""
    skeleton, body = category.skeleton, category.body
    seconds = np.arange(frames) / fps
    shares = posture(rng, skeleton)[None] + chain_waves(rng, skeleton, seconds)
    rotations = within(skeleton, shares)
    low, high = category.morphology_range.T
    beta = np.clip(rng.normal(0, 1.1, len(low)) * body.morphology_std, low, high)
    wild = rng.random() < 0.15
    tilt = rng.normal(0, [0.9, 0.9, 0.0] if wild else [0.25, 0.15, 0.0])
    rate = rng.normal(0, [0.15, 0.1, 0.5])
    turn = tilt + (seconds - seconds.mean())[:, None] * rate  # (T, 3) pitch, roll, heading
    world = np.tile(np.eye(4), (frames, 1, 1))
    about = [rotvec_to_matrix(turn[:, i : i + 1] * np.eye(3)[i]) for i in (2, 0, 1)]
    world[:, :3, :3] = about[0] @ about[1] @ about[2]
    world[:, :3, 3] = category.nominal_size * stride(rng, world, seconds)
    rest, vertices = body_in_world(category, beta, rotations, world)
    ends = [j for j in range(len(skeleton)) if not skeleton.children(j)]
    return Subject(
        "none",
        "waves",
        "body",
        vertices,
        body.faces,
        rest,
        body.appearance_mean,
        world,
        rotations,
        beta,
        np.ones(len(skeleton)),
        joints_in_world(category, beta, rotations, world, ends),
        template_regions(category),
    )


def template_regions(category: Category) -> dict[str, np.ndarray]:
    """Vertex weights (V,) of what a coat may tint: each role, and each joint that ends a chain."""
    body, skeleton = category.body, category.skeleton
    found = {}
    for role in ("limb", "tail", "head"):
        own = np.array([r == role for r in skeleton.roles])
        if own.any():
            found[role] = (body.skin_weight * own[body.skin_index]).sum(1)
    for j in range(len(skeleton)):
        if not skeleton.children(j) and int(skeleton.mirror[j]) >= j:
            own = np.isin(np.arange(len(skeleton)), [j, int(skeleton.mirror[j])])
            found[f"end of {skeleton.names[j]}"] = (body.skin_weight * own[body.skin_index]).sum(1)
    return found
