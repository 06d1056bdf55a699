# SPDX-License-Identifier: GPL-3.0-or-later
"""What a synthetic clip shows: a rigged character, or the category's own body, with its exact labels.

Both come with the category's parameters for every frame. A rig's labels are those `mapping` solved for it; the
body's are exact, because the body is posed by them: proportions mixed between the rigs' or drawn at random,
motions borrowed from the rigs, blended, disturbed and sometimes sat down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...core.category import Category
from ...core.rotation import quat_multiply, rotvec_to_matrix, rotvec_to_quat, slerp
from ...core.skeleton import Skeleton, clamp_rotations, forward_kinematics, skin_transforms
from ...core.skinning import linear_blend

_LOCOMOTION = ("walk", "gallop", "run", "jump", "trot", "take")
LOSABLE = ("front_toe.L", "front_toe.R", "hind_toe.L", "hind_toe.R", "ear.L", "ear.R", "tail_3", "tail_4")


@dataclass(frozen=True)
class MappedRig:
    """A baked rig with labels for each of its T poses.

    vertices, colours (V, 3), faces (F, 3), skin_index, skin_weight (V, 4): the rig's surface in the units of
    the category; skin_pose (T, B, 4, 4): world_from_rest; clip_range (C, 2): first pose and end of each clip;
    world_from_root (T, 4, 4), joint_rotations (T, J, 4), morphology (K,): its labels; joint_confidence (J,):
    less than one where no bone of the rig speaks for the joint.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    skin_index: np.ndarray
    skin_weight: np.ndarray
    skin_pose: np.ndarray
    clip_names: tuple[str, ...]
    clip_range: np.ndarray
    world_from_root: np.ndarray
    joint_rotations: np.ndarray
    morphology: np.ndarray
    joint_confidence: np.ndarray


@dataclass(frozen=True)
class Subject:
    """One posed subject in a Z-up world: vertices (T, V, 3), rest (V, 3) in body axes, labels per frame.

    parts (T, P, 3): world places of the joints in `LOSABLE`; regions: named vertex weights (V,) to tint.
    """

    rig: str
    action: str
    source: str
    vertices: np.ndarray
    faces: np.ndarray
    rest: np.ndarray
    own: np.ndarray | None
    world_from_root: np.ndarray
    joint_rotations: np.ndarray
    morphology: np.ndarray
    joint_confidence: np.ndarray
    parts: np.ndarray
    regions: dict[str, np.ndarray] = field(default_factory=dict)


def _pick_times(rng: np.random.Generator, rig: MappedRig, frames: int) -> tuple[int, np.ndarray]:
    """A clip of the rig, walks and runs preferred, and pose times (frames,) in it at 0.5–2 × speed.

    A clip that closes on itself goes round; any other that is too short is slowed until it fits.
    """
    names = [n.lower() for n in rig.clip_names]
    weight = np.array(
        [2.5 if any(w in n for w in _LOCOMOTION) else 0.5 if "death" in n else 1.0 for n in names]
    )
    clip = int(rng.choice(len(names), p=weight / weight.sum()))
    start, length = int(rig.clip_range[clip, 0]), int(np.ptp(rig.clip_range[clip]))
    speed = float(np.exp(rng.uniform(-0.7, 0.7)))
    ends = rig.skin_pose[[start, start + length - 1]]
    if length > 2 and np.abs(ends[0] - ends[1]).max() < 0.03:
        return clip, start + (rng.uniform(0, length) + speed * np.arange(frames)) % (length - 1)
    span = min(speed * (frames - 1), length - 1.0)
    return clip, start + rng.uniform(0, max(length - 1 - span, 0)) + np.linspace(0, span, frames)


def _between(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Linear interpolation of (T, …) at fractional times."""
    low = np.clip(np.floor(times).astype(int), 0, len(values) - 1)
    high = np.minimum(low + 1, len(values) - 1)
    share = (times - low).reshape((-1,) + (1,) * (values.ndim - 1))
    return values[low] * (1 - share) + values[high] * share


def _rotations_at(rotations: np.ndarray, times: np.ndarray) -> np.ndarray:
    low = np.clip(np.floor(times).astype(int), 0, len(rotations) - 1)
    high = np.minimum(low + 1, len(rotations) - 1)
    return slerp(rotations[low], rotations[high], (times - low)[:, None])


def _rigid_at(matrices: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Rigid transforms (T, 4, 4) at fractional times; the rotation is re-orthonormalised by SVD."""
    out = _between(matrices, times)
    u, _, vt = np.linalg.svd(out[:, :3, :3])
    out[:, :3, :3] = u @ vt
    return out


def _losable(
    category: Category, morphology: np.ndarray, rotations: np.ndarray, world: np.ndarray
) -> np.ndarray:
    _, joints = category.body.shaped(morphology)
    placed = forward_kinematics(category.skeleton, joints, rotations)[..., :3, 3]
    index = [category.skeleton.names.index(n) for n in LOSABLE if n in category.skeleton.names]
    return np.einsum("tij,tpj->tpi", world[:, :3, :3], placed[:, index]) + world[:, None, :3, 3]


def _stride(rng: np.random.Generator, world: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Half of the time, a walk in place becomes a walk: (T, 3) offsets along the heading, metres."""
    if rng.random() < 0.5:
        return np.zeros((len(world), 3))
    forward = -world[:, :3, 1].mean(0)
    forward[2] = 0
    return (seconds * rng.uniform(0, 1.5))[:, None] * forward / max(float(np.linalg.norm(forward)), 1e-6)


def rig_subject(
    rng: np.random.Generator, category: Category, rig: MappedRig, frames: int, fps: float
) -> Subject:
    """A random stretch of one of the rig's clips, at 0.5–2 × speed."""
    clip, times = _pick_times(rng, rig, frames)
    low = np.floor(times).astype(int)
    high = np.minimum(low + 1, int(rig.clip_range[clip, 1]) - 1)
    share = (times - low)[:, None, None]
    skinned = linear_blend(
        rig.vertices.astype(np.float32),
        rig.skin_index,
        rig.skin_weight,
        np.concatenate([rig.skin_pose[low], rig.skin_pose[high]]),
    )
    vertices = skinned[:frames] * (1 - share) + skinned[frames:] * share
    rotations = _rotations_at(rig.joint_rotations, times)
    world = _rigid_at(rig.world_from_root, times)
    offset = _stride(rng, world, np.arange(frames) / fps)
    world[:, :3, 3] += offset
    return Subject(
        rig.name,
        rig.clip_names[clip],
        "rig",
        (vertices + offset[:, None]).astype(np.float32),
        rig.faces,
        rig.vertices,
        rig.colours,
        world,
        rotations,
        rig.morphology,
        rig.joint_confidence,
        _losable(category, rig.morphology, rotations, world),
    )


# -- the category's own body ---------------------------------------------------------------------------------


def random_morphology(
    rng: np.random.Generator, category: Category, known: Sequence[np.ndarray]
) -> np.ndarray:
    """β (K,) between known species, or noise about the mean, or an extreme such as a camel; within range."""
    low = np.array([p.minimum for p in category.morphology])
    high = np.array([p.maximum for p in category.morphology])
    std = category.body.morphology_std
    draw = rng.random()
    if known and draw < 0.6:
        pick = rng.choice(len(known), size=min(3, len(known)), replace=False)
        share = rng.dirichlet(np.full(len(pick), 0.7))
        value = share @ np.stack([known[i] for i in pick]) + rng.normal(0, 0.4, len(std)) * std
    elif draw < 0.85:
        value = rng.normal(0, 1.0, len(std)) * std
    else:
        value = rng.normal(0, 0.3, len(std)) * std
        extremes = {
            "camel": {"leg_length": 0.8, "neck_length": 0.9, "hump": 0.9, "tail_length": -0.3},
            "cow": {"girth": 0.7, "leg_girth": 0.4, "muzzle": 0.5, "leg_length": -0.1},
            "cat": {"leg_length": -0.4, "muzzle": -0.7, "tail_length": 0.6, "neck_length": -0.3},
            "stag": {"leg_length": 0.7, "neck_length": 0.6, "leg_girth": -0.5, "tail_length": -0.7},
            "dachshund": {"leg_length": -0.9, "body_length": 0.6, "ear_size": 0.5},
        }
        kind = extremes[str(rng.choice(sorted(extremes)))]
        for k, proportion in enumerate(category.morphology):
            share = kind.get(proportion.name, 0.0) * rng.uniform(0.7, 1.1)
            value[k] += share * (high[k] if share > 0 else -low[k])
    return np.clip(value, low, high)


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


def _posture(rng: np.random.Generator, skeleton: Skeleton) -> tuple[np.ndarray, float]:
    """One of `_POSES` with variation: rotations (J, 4), and the root's pitch in radians."""
    pose = _POSES[str(rng.choice(sorted(_POSES)))]
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
    clip, times = _pick_times(rng, rig, frames)
    return (
        rig,
        rig.clip_names[clip],
        _rotations_at(rig.joint_rotations, times),
        _rigid_at(rig.world_from_root, times),
    )


def body_subject(
    rng: np.random.Generator, category: Category, rigs: Sequence[MappedRig], frames: int, fps: float
) -> Subject:
    """The category's body with random proportions, moved by one or two rigs' motions and noise."""
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
    if rng.random() < 0.3:
        pose, pitch = _posture(rng, skeleton)
        share = rng.uniform(0.6, 1.0)
        rotations = slerp(rotations, pose[None], np.full((1, 1), share))
        tilt[:, 0] += pitch * share
        action = f"{action}+posture"
    if rng.random() < 0.04:  # rolling on the ground
        tilt[:, 1] += rng.uniform(-np.pi, np.pi)
    rotations = quat_multiply(rotvec_to_quat(_wobble(rng, skeleton, seconds)), rotations)
    rotations = clamp_rotations(skeleton, rotations)
    world = world.copy()
    world[:, :3, :3] = world[:, :3, :3] @ rotvec_to_matrix(tilt)
    world[:, :3, 3] += _stride(rng, world, seconds)
    morphology = random_morphology(rng, category, [r.morphology for r in rigs])
    rest, joints = body.shaped(morphology)
    posed = linear_blend(
        rest.astype(np.float32),
        body.skin_index,
        body.skin_weight,
        skin_transforms(skeleton, joints, rotations),
    )
    vertices = np.einsum("tij,tvj->tvi", world[:, :3, :3], posed) + world[:, None, :3, 3]
    return Subject(
        name,
        action,
        "body",
        vertices.astype(np.float32),
        body.faces,
        rest,
        body.appearance_mean,
        world,
        rotations,
        morphology,
        np.ones(len(skeleton.names)),
        _losable(category, morphology, rotations, world),
        body_regions(category, rest),
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
