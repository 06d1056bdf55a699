# SPDX-License-Identifier: GPL-3.0-or-later
"""What a synthetic clip shows, with the category's parameters for every frame; rigged characters as subjects.

A rig's labels are those that `mapping` solved for it. `bodies` makes subjects of the category's own body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...core.category import Category
from ...core.rotation import slerp
from ...core.skeleton import forward_kinematics, skin_transforms
from ...core.skinning import linear_blend
from .coat import Coat

_LOCOMOTION = ("walk", "gallop", "run", "jump", "trot", "take")
LOSABLE = (
    *("front_toe.L", "front_toe.R", "hind_toe.L", "hind_toe.R", "ear.L", "ear.R", "tail_3", "tail_4"),
    *("front_foot.L", "front_foot.R", "hind_foot.L", "hind_foot.R"),
    *("front_lower.L", "front_lower.R", "hind_lower.L", "hind_lower.R"),
)


@dataclass(frozen=True, eq=False)  # each is itself: a key for what is made of it
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

    parts (T, P, 3): world places of the joints in `LOSABLE`; regions: named vertex weights (V,) to tint; coat:
    how to paint it, None for a random coat over `own` and `regions`.
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
    coat: Coat | None = None


def pick_times(rng: np.random.Generator, rig: MappedRig, frames: int) -> tuple[int, np.ndarray]:
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


def rotations_at(rotations: np.ndarray, times: np.ndarray) -> np.ndarray:
    low = np.clip(np.floor(times).astype(int), 0, len(rotations) - 1)
    high = np.minimum(low + 1, len(rotations) - 1)
    return slerp(rotations[low], rotations[high], (times - low)[:, None])


def rigid_at(matrices: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Rigid transforms (T, 4, 4) at fractional times; the rotation is re-orthonormalised by SVD."""
    out = _between(matrices, times)
    u, _, vt = np.linalg.svd(out[:, :3, :3])
    out[:, :3, :3] = u @ vt
    return out


def losable_parts(
    category: Category, morphology: np.ndarray, rotations: np.ndarray, world: np.ndarray
) -> np.ndarray:
    index = [category.skeleton.names.index(n) for n in LOSABLE if n in category.skeleton.names]
    return joints_in_world(category, morphology, rotations, world, index)


def joints_in_world(
    category: Category,
    morphology: np.ndarray,
    rotations: np.ndarray,
    world: np.ndarray,
    index: Sequence[int],
) -> np.ndarray:
    """World places (T, n, 3) of joints of the body, posed by rotations (T, J, 4) and world (T, 4, 4)."""
    _, joints = category.body.shaped(morphology)
    placed = forward_kinematics(category.skeleton, joints, rotations)[..., :3, 3][:, index]
    return np.einsum("tij,tpj->tpi", world[:, :3, :3], placed) + world[:, None, :3, 3]


def body_in_world(
    category: Category, morphology: np.ndarray, rotations: np.ndarray, world: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The category's body at rest (V, 3), and posed in the world (T, V, 3) float32; arguments as `joints_in_world`."""
    body = category.body
    rest, joints = body.shaped(morphology)
    return rest, posed_in_world(category, rest, body.skin_index, body.skin_weight, joints, rotations, world)


def posed_in_world(
    category: Category,
    rest: np.ndarray,
    skin_index: np.ndarray,
    skin_weight: np.ndarray,
    joints: np.ndarray,
    rotations: np.ndarray,
    world: np.ndarray,
) -> np.ndarray:
    """A surface at rest (V, 3) on the category's skeleton, posed in the world (T, V, 3) float32.

    skin_index, skin_weight (V, 4); joints (J, 3) at rest; rotations and world as `joints_in_world`.
    """
    transforms = skin_transforms(category.skeleton, joints, rotations)
    posed = linear_blend(rest.astype(np.float32), skin_index, skin_weight, transforms)
    vertices = np.einsum("tij,tvj->tvi", world[:, :3, :3], posed) + world[:, None, :3, 3]
    return vertices.astype(np.float32)


def losable_limbs(category: Category) -> tuple[tuple[int, ...], ...]:
    """Which of a subject's parts make a limb that a segmenter may lose as a whole, outermost first."""
    index = [n for n in LOSABLE if n in category.skeleton.names]
    limbs = []
    for end in ("front_{}.L", "front_{}.R", "hind_{}.L", "hind_{}.R"):
        names = [end.format(p) for p in ("toe", "foot", "lower")]
        if all(n in index for n in names):
            limbs.append(tuple(index.index(n) for n in names))
    return tuple(limbs)


def stride(rng: np.random.Generator, world: np.ndarray, seconds: np.ndarray) -> np.ndarray:
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
    clip, times = pick_times(rng, rig, frames)
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
    rotations = rotations_at(rig.joint_rotations, times)
    world = rigid_at(rig.world_from_root, times)
    offset = stride(rng, world, np.arange(frames) / fps)
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
        losable_parts(category, rig.morphology, rotations, world),
    )
