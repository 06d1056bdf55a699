# SPDX-License-Identifier: GPL-3.0-or-later
"""The category's own body as a subject: any proportions, any pose, and labels that are exact.

Proportions are a species', mixed or drawn at random; motions are borrowed from the rigs or made by rule (gaits,
tails, looks, turns), blended, disturbed and sometimes sat down.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.category import Category
from ...core.rotation import quat_multiply, rotvec_to_matrix, rotvec_to_quat, slerp
from ...core.skeleton import Skeleton, clamp_rotations
from .gait import gait, head_carriage, legs_of, stand, tail, turning
from .skins import Skin
from .species import random_morphology
from .subjects import (
    MappedRig,
    Subject,
    body_in_world,
    losable_parts,
    pick_times,
    rigid_at,
    rotations_at,
    stride,
)

# Rotation about +X (the animal's left): positive lowers the head, takes a foot backwards. Degrees.
_POSES: dict[str, dict[str, float]] = {
    "sit": {
        "root": -35,
        "front_upper": 30,
        "front_lower": 5,
        "hind_upper": -45,
        "hind_lower": 75,
        "hind_foot": -55,
        "hind_toe": 45,
        "neck_1": 10,
        "neck_2": 10,
        "head": 10,
    },
    "lie": {
        "root": 0,
        "front_upper": 20,
        "front_lower": -95,
        "front_foot": 0,
        "hind_upper": -60,
        "hind_lower": 100,
        "hind_foot": -90,
        "hind_toe": 40,
    },
    "graze": {"root": 4, "neck_1": 48, "neck_2": 35, "head": 0},
    "bow": {
        "root": 22,
        "front_upper": -45,
        "front_lower": 0,
        "hind_upper": -18,
        "neck_1": -15,
        "neck_2": -10,
    },
    "leap": {
        "root": -20,
        "front_upper": -40,
        "front_lower": 0,
        "hind_upper": 45,
        "hind_lower": -5,
        "neck_1": -10,
    },
    "tuck": {
        "front_upper": 10,
        "front_lower": -60,
        "front_foot": 50,
        "hind_upper": -35,
        "hind_lower": 40,
        "hind_foot": -30,
    },
    "crouch": {
        "root": 2,
        "front_upper": 28,
        "front_lower": -60,
        "front_foot": 12,
        "front_toe": 15,
        "hind_upper": -38,
        "hind_lower": 55,
        "hind_foot": -40,
        "hind_toe": 22,
        "neck_1": 15,
    },
    "lie on the side": {
        "front_upper": -20,
        "front_lower": -15,
        "front_foot": 25,
        "hind_upper": 5,
        "hind_lower": 20,
        "hind_foot": -15,
    },
    "rear": {
        "root": -50,
        "front_upper": -10,
        "front_lower": -30,
        "front_foot": 40,
        "hind_upper": 40,
        "neck_1": 15,
        "neck_2": 10,
        "head": 15,
    },
}
_WOBBLE = {"root": 0.0, "spine": 0.07, "limb": 0.12, "tail": 0.25, "head": 0.18}


def _joint_kind(name: str, role: str) -> str:
    return "head" if name.startswith(("neck", "head", "jaw", "ear")) else role


def _wobble(rng: np.random.Generator, skeleton: Skeleton, seconds: np.ndarray) -> np.ndarray:
    """Smooth joint noise as rotation vectors (T, J, 3), mostly constant in a clip, larger where joints are free."""
    level = rng.uniform(0, 1.6)
    scale = np.array(
        [_WOBBLE[_joint_kind(n, r)] for n, r in zip(skeleton.names, skeleton.roles, strict=True)]
    )
    scale[0] = 0.0
    constant = rng.normal(0, 1, (1, len(scale), 3))
    wave = np.sin(2 * np.pi * rng.uniform(0.2, 1.5) * seconds + rng.uniform(0, 2 * np.pi))[:, None, None]
    noise = level * scale[:, None] * (constant + 0.35 * wave * rng.normal(0, 1, (1, len(scale), 3)))
    if rng.random() < 0.5:  # look round: the neck and head share a turn and a nod
        turn = rng.normal(0, [0.25, 0.1, 0.4]) + wave[:, 0] * rng.normal(0, [0.08, 0.02, 0.12])
        for name, share in (("neck_1", 0.8), ("neck_2", 0.8), ("head", 1.0)):
            if name in skeleton.names:
                noise[:, skeleton.names.index(name)] += share * turn
    return noise


def _bearing(rng: np.random.Generator, skeleton: Skeleton) -> np.ndarray:
    """How folded the legs of an animal are whatever it does, before and behind: rotation vectors (1, J, 3).

    A rabbit is always crouched and a horse never; the pose "crouch" says along which way legs fold.
    """
    vectors = np.zeros((1, len(skeleton), 3))
    if rng.random() < 0.5:
        return vectors
    share = {"front": rng.uniform(-0.25, 0.6), "hind": rng.uniform(-0.25, 0.8)}
    for j, name in enumerate(skeleton.names):
        end = name.split("_")[0]
        if end in share:
            vectors[0, j, 0] = np.deg2rad(share[end] * _POSES["crouch"].get(name.split(".")[0], 0.0))
    return vectors


def _posture(rng: np.random.Generator, skeleton: Skeleton) -> tuple[np.ndarray, float]:
    """One of `_POSES` with variation: rotations (J, 4), and the root's pitch in radians."""
    name = "sit" if rng.random() < 0.2 else str(rng.choice(sorted(_POSES)))
    pose = _POSES[name]
    vectors = np.zeros((len(skeleton.names), 3))
    for j, name in enumerate(skeleton.names):
        angle = pose.get(name.split(".")[0], 0.0)
        vectors[j, 0] = np.deg2rad(angle * rng.uniform(0.75, 1.15) + (rng.normal(0, 5) if angle else 0))
    vectors[0] = 0
    return rotvec_to_quat(vectors), float(np.deg2rad(pose.get("root", 0.0) * rng.uniform(0.7, 1.2)))


def _borrow(
    rng: np.random.Generator, rigs: Sequence[MappedRig], frames: int
) -> tuple[MappedRig, str, np.ndarray, np.ndarray]:
    rig = rigs[int(rng.integers(len(rigs)))]
    clip, times = pick_times(rng, rig, frames)
    return (
        rig,
        rig.clip_names[clip],
        rotations_at(rig.joint_rotations, times),
        rigid_at(rig.world_from_root, times),
    )


def _legs(skeleton: Skeleton) -> np.ndarray:
    return legs_of(skeleton) if "front_toe.L" in skeleton.names else np.zeros((0, 4), int)


def _by_rule(
    rng: np.random.Generator, skeleton: Skeleton, rotations: np.ndarray, seconds: np.ndarray
) -> tuple[np.ndarray, str]:
    """Legs that walk in a gait of their own or stand, under a trunk that keeps some of what it did."""
    legs = _legs(skeleton)
    if not len(legs):
        return rotations, "as it was"
    still = np.zeros_like(rotations)
    still[..., 0] = 1.0
    rotations = slerp(still, rotations, np.full((1, 1), rng.uniform(0, 1) * (rng.random() < 0.7)))
    if rng.random() < 0.3:
        vectors, name = stand(rng, skeleton, seconds), "stand"
    else:
        vectors, name = gait(rng, skeleton, seconds)
    rotations[:, legs.reshape(-1)] = rotvec_to_quat(vectors[:, legs.reshape(-1)])
    return rotations, name


def body_subject(
    rng: np.random.Generator,
    category: Category,
    rigs: Sequence[MappedRig],
    frames: int,
    fps: float,
    skin: Skin | None = None,
) -> Subject:
    """The category's body with random proportions, moved by one or two rigs' motions and noise.

    skin: the surface to show in place of the body's own; its proportions then stay nearer to those it came with.
    """
    skeleton, body = category.skeleton, category.body
    seconds = np.arange(frames) / fps
    if rigs:
        rig, action, rotations, world = _borrow(rng, rigs, frames)
        name = rig.name
        if rng.random() < 0.35:  # another's head, tail or all of it, blended
            _, other_action, other, _ = _borrow(rng, rigs, frames)
            share = np.full(len(skeleton.names), rng.random())
            if rng.random() < 0.6:
                kinds = [_joint_kind(n, r) for n, r in zip(skeleton.names, skeleton.roles, strict=True)]
                share = np.array([float(k in ("head", "tail")) for k in kinds])
            rotations = slerp(rotations, other, share[None])
            action = f"{action}+{other_action}"
    else:
        name, action = "none", "noise"
        rotations = np.tile(np.array([1.0, 0, 0, 0]), (frames, len(skeleton.names), 1))
        world = np.tile(np.eye(4), (frames, 1, 1))
    tilt = np.zeros((frames, 3))
    tilt[:] = rng.normal(0, [0.08, 0.05, 0.0])
    if rng.random() < 0.55:
        rotations, made = _by_rule(rng, skeleton, rotations, seconds)
        action = f"{made} over {action}"
    if rng.random() < 0.25:
        pose, pitch = _posture(rng, skeleton)
        share = rng.uniform(0.6, 1.0)
        rotations = slerp(rotations, pose[None], np.full((1, 1), share))
        tilt[:, 0] += pitch * share
        action = f"{action}+posture"
    for extra in (tail, head_carriage):
        if rng.random() < 0.7 and (found := extra(rng, skeleton, seconds)) is not None:
            rotations = rotations.copy()
            rotations[:, found[0]] = rotvec_to_quat(found[1])
    if rng.random() < 0.25:  # uphill, downhill: the legs stay more or less upright
        slope = np.clip(rng.normal(0, 0.28), -0.61, 0.61)
        tilt[:, 0] += slope
        upright = np.zeros((1, len(skeleton), 3))
        if len(legs := _legs(skeleton)):
            upright[0, legs[:, 0], 0] = -slope * rng.uniform(0, 1)
        rotations = quat_multiply(rotvec_to_quat(upright), rotations)
    if rng.random() < 0.05:  # rolling on the ground
        tilt[:, 1] += rng.uniform(-np.pi, np.pi)
    heading = np.zeros(frames)
    vectors = _wobble(rng, skeleton, seconds) + _bearing(rng, skeleton)
    if rng.random() < 0.35:
        heading, bend = turning(rng, skeleton, seconds)
        vectors = vectors + bend
    rotations = quat_multiply(rotvec_to_quat(vectors), rotations)
    rotations = clamp_rotations(skeleton, rotations)
    about_z = rotvec_to_matrix(heading[:, None] * np.array([0.0, 0.0, 1.0]))
    world = world.copy()
    world[:, :3, :3] = about_z @ world[:, :3, :3] @ rotvec_to_matrix(tilt)
    world[:, :3, 3] += stride(rng, world, seconds)
    morphology = random_morphology(rng, category, [r.morphology for r in rigs])
    labels = rotations, world
    if skin is None:
        rest, vertices = body_in_world(category, morphology, *labels)
        shown = name, action, "body", vertices, body.faces, rest, body.appearance_mean
        regions = body_regions(category, rest)
    else:
        morphology = skin.morphology + rng.uniform(0, 0.7) * (morphology - skin.morphology)
        rest, vertices = skin.in_world(category, morphology, *labels)
        shown = skin.name, f"{action} of {name}", "skin", vertices, skin.faces, rest, skin.colours
        regions = {}
    return Subject(
        *shown,
        world,
        rotations,
        morphology,
        np.ones(len(skeleton.names)),
        losable_parts(category, morphology, *labels),
        regions,
    )


def body_regions(category: Category, rest: np.ndarray) -> dict[str, np.ndarray]:
    """Vertex weights (V,) of the parts a coat may tint, from the skin weights; rest (V, 3) for eyes and nose."""
    body, names = category.body, category.skeleton.names

    def weight(*prefixes: str) -> np.ndarray:
        chosen = np.array([n.startswith(prefixes) for n in names])
        return (body.skin_weight * chosen[body.skin_index]).sum(1)

    regions = {
        "feet": weight("front_toe", "hind_toe", "front_foot", "hind_foot"),
        "ears": weight("ear"),
        "tail": weight("tail"),
        "tail_tip": weight("tail_4", "tail_3"),
        "head": weight("head", "jaw"),
        "neck": weight("neck", "chest"),
        "legs": weight("front_lower", "hind_lower", "front_foot", "hind_foot", "front_toe", "hind_toe"),
    }
    head = np.flatnonzero(weight("head", "jaw") > 0.6)
    if len(head):
        points = rest[head]
        low, high = points.min(0), points.max(0)
        length = max(float(high[1] - low[1]), 1e-6)
        regions["muzzle"] = _near(
            rest, np.array([0.0, low[1], points[points[:, 1].argmin(), 2]]), 0.35 * length
        )
        regions["nose"] = _near(rest, points[points[:, 1].argmin()], 0.12 * length)
        height = low[2] + 0.62 * (high[2] - low[2])
        aim = np.array([0.8 * high[0], low[1] + 0.55 * length, height])
        eyes = [
            points[np.linalg.norm((points - aim * [side, 1, 1]) / [1, 1, 1], axis=1).argmin()]
            for side in (1, -1)
        ]
        regions["eyes"] = np.maximum(*[_near(rest, eye, 0.11 * length) for eye in eyes])
    return regions


def _near(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    return np.exp(-((np.linalg.norm(points - centre, axis=1) / radius) ** 4))
