# SPDX-License-Identifier: GPL-3.0-or-later
"""People as subjects: the category's own body in clothes, and rigged characters, moved by one motion library.

Splits: 'train' never shows a held-out rig or a held-out recording; 'held-out' shows only the held-out rigs, in the
held-out recordings; 'unseen-motion' shows the training subjects in those recordings; 'all' shows everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...core.category import Category
from ...core.rotation import (
    make_continuous,
    quat_multiply,
    rotvec_to_matrix,
    rotvec_to_quat,
    slerp,
)
from ...core.skeleton import clamp_rotations, forward_kinematics
from ..errors import TrainingError
from .cloth import Cloth, brim_cloth, skirt_cloth
from .clothes import (
    Figure,
    cloth_colour,
    coat_of,
    figure_of,
    inflated,
    pattern_colour,
    random_outfit,
    skin_colour,
)
from .coat import Coat, random_coat
from .human_rigs import HUMAN_RIGS, MOTION_RIGS, POSTURE, HumanRig, anchor_offset, load_human_rig
from .motion_files import load_motions
from .motions import INDEX, NAMES, HumanMotion, mirrored, rest_correction, to_rest
from .poses import draw_pose, pose_motion
from .rig import load_rig
from .rigs_game import GAME_MOTIONS
from .subjects import Subject, posed_in_world, rigid_at, rotations_at

if TYPE_CHECKING:
    from .clips import SynthConfig

SPLITS = ("train", "held-out", "unseen-motion", "all")
HELD_OUT_EVERY = 6
"""Every sixth recording, in the order of their names, is kept from training."""
_FLAT_COLOURS = 40
"""A rig with more colours than this is textured."""
_LOSABLE = ("hand.L", "hand.R", "forearm.L", "forearm.R", "foot.L", "foot.R", "toe.L", "toe.R", "head")


@dataclass(frozen=True)
class Cast:
    """What a worker holds: rigs and recordings of the split, and the body measured for clothes."""

    rigs: tuple[HumanRig, ...]
    motions: tuple[HumanMotion, ...]
    figure: Figure
    weights: np.ndarray


def split_motions(motions: Sequence[HumanMotion], split: str) -> list[HumanMotion]:
    """The recordings of a split, ordered by source and name. TrainingError for an unknown split.

    The game's come last, so that with and without them the same of the others are held out.
    """
    if split not in SPLITS:
        raise TrainingError(f"split must be one of {', '.join(SPLITS)}, not {split}")
    ordered = sorted(motions, key=lambda m: (m.source == GAME_MOTIONS, m.source, m.name))
    if split == "all":
        return ordered
    wanted = split != "train"
    return [m for i, m in enumerate(ordered) if (i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == wanted]


def split_rigs(names: Sequence[str], split: str, hold_out: Sequence[str]) -> list[str]:
    """The rigs of a split."""
    if split == "all":
        return list(names)
    return [n for n in names if (n in hold_out) == (split == "held-out")]


def human_rigs(config: SynthConfig, category: Category) -> Sequence[Cast]:
    """Everything a worker needs, once. FileNotFoundError without baked rigs or recordings."""
    folder = config.rigs
    lenders = [
        (load_rig(folder / f"{n}.npz"), HUMAN_RIGS[n]) for n in MOTION_RIGS if (folder / f"{n}.npz").exists()
    ]
    motions = split_motions(load_motions(config.motions, lenders), config.split)
    names = [n for n in HUMAN_RIGS if n not in MOTION_RIGS and (folder / f"{n}.npz").exists()]
    chosen = split_rigs(names, config.split, config.hold_out)
    if config.split == "held-out" and not chosen:
        raise FileNotFoundError(
            f"{folder} holds none of the held-out rigs; run the commands bake and map first."
        )
    rigs = tuple(load_human_rig(folder, n, category) for n in chosen)
    weights = np.array([_weight(m) for m in motions])
    return [Cast(rigs, tuple(motions), figure_of(category), weights / weights.sum())]


_SHARE = {"pybullet_data": 1.0, GAME_MOTIONS: 0.1}
"""Weight of a recording of a person, and of a clip of the game, which has 288 beside 20; another character's: 0.22."""


def _weight(motion: HumanMotion) -> float:
    """How often a recording is drawn: people before toys, what people do most before tricks."""
    name = motion.name.lower()
    common = 2.5 if any(w in name for w in ("walk", "run", "getup", "crawl")) else 1.0
    still = 0.25 if len(motion) < 4 else 1.0
    return common * still * _SHARE.get(motion.source, 0.22)


# -- movement ------------------------------------------------------------------------------------------------


def _stretch(rng: np.random.Generator, motion: HumanMotion, frames: int, fps: float) -> HumanMotion:
    """A random stretch of a recording at 0.4–1.8 × speed, slowed further where it is too short."""
    length = len(motion)
    step = motion.fps / fps * float(np.exp(rng.uniform(-0.9, 0.6)))
    span = min(step * (frames - 1), length - 1.0)
    times = rng.uniform(0, max(length - 1 - span, 0)) + np.linspace(0, span, frames)
    if rng.random() < 0.1:
        times = times[::-1]
    world = rigid_at(motion.world_from_root, times)
    return HumanMotion(motion.name, rotations_at(motion.rotations, times), world, fps, False, motion.source)


def draw_motion(
    rng: np.random.Generator, motions: Sequence[HumanMotion], weights: np.ndarray, frames: int, fps: float
) -> HumanMotion:
    """A recording or drawn poses; mirrored, blended, with other arms, looking round, and a little noise."""

    def one() -> HumanMotion:
        if not len(motions) or rng.random() < 0.5:
            return pose_motion(rng, frames, fps)
        return _stretch(rng, motions[int(rng.choice(len(motions), p=weights))], frames, fps)

    motion = one()
    if rng.random() < 0.5:
        motion = mirrored(motion)
    name, rotations, world = motion.name, motion.rotations, motion.world_from_root.copy()
    seconds = np.arange(frames) / fps
    draw = rng.random()
    if draw < 0.15:  # somewhere between two movements
        other = one()
        rotations = slerp(rotations, other.rotations, np.full((1, 1), rng.uniform(0.15, 0.85)))
        name += "+" + other.name
    elif draw < 0.35:  # the upper body does something else
        other = one()
        upper = np.array([not n.startswith(("root", "thigh", "shin", "foot", "toe")) for n in NAMES])
        rotations = np.where(upper[None, :, None], other.rotations, rotations)
        name += "/" + other.name
    elif draw < 0.5:  # other arms, held
        held, _ = draw_pose(rng, "stand")
        arms = np.array([n.startswith(("shoulder", "upper_arm", "forearm", "hand")) for n in NAMES])
        if rng.random() < 0.4:
            arms &= np.array([n.endswith(".L" if rng.random() < 0.5 else ".R") for n in NAMES])
        rotations = np.where(arms[None, :, None], held[None], rotations)
        name += "/arms"
    rotations = quat_multiply(rotvec_to_quat(_noise(rng, seconds)), rotations)
    if rng.random() < 0.05:  # falling, flying, hanging: any way up
        axis = rng.normal(size=3)
        turn = rotvec_to_matrix(axis / np.linalg.norm(axis) * rng.uniform(0, np.pi))
        spin = rotvec_to_matrix(rng.normal(0, 1.5, 3)[None] * seconds[:, None])
        world[:, :3, :3] = spin @ turn @ world[:, :3, :3]
    else:
        tilt = rotvec_to_matrix(rng.normal(0, 0.05, 3))
        world[:, :3, :3] = tilt @ world[:, :3, :3]
    return HumanMotion(name, make_continuous(rotations), world, fps, False, motion.source)


def _noise(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Rotation vectors (T, J, 3): mostly constant within a clip, and now and then a look round."""
    level = rng.uniform(0, 1.3) * 0.07
    scale = np.array([1.6 if n.startswith(("hand", "foot", "upper_arm")) else 1.0 for n in NAMES])
    scale[0] = 0.0
    wave = np.sin(2 * np.pi * rng.uniform(0.2, 1.8) * seconds + rng.uniform(0, 2 * np.pi))[:, None, None]
    out = (
        level
        * scale[:, None]
        * (rng.normal(0, 1, (1, len(scale), 3)) + 0.4 * wave * rng.normal(0, 1, (1, len(scale), 3)))
    )
    if rng.random() < 0.45:
        look = rng.normal(0, [0.16, 0.07, 0.3]) + wave[:, 0] * rng.normal(0, [0.05, 0.02, 0.1])
        out[:, INDEX["neck"]] += 0.7 * look
        out[:, INDEX["head"]] += 0.7 * look
    return out


# -- subjects ------------------------------------------------------------------------------------------------


def human_subject(
    rng: np.random.Generator, config: SynthConfig, category: Category, casts: Sequence[Cast]
) -> Subject:
    """One person of the split in one stretch of movement."""
    cast = casts[0]
    rate = float(np.exp(rng.uniform(np.log(8), np.log(36))))  # clips are filmed, or looked at, at any rate
    motion = draw_motion(rng, cast.motions, cast.weights, config.frames, rate)
    share = 1.0 if config.split == "held-out" else config.rig_share * 0.6
    if cast.rigs and rng.random() < share:
        person = cast.rigs[int(rng.integers(len(cast.rigs)))]
        if config.split in ("train", "all") and rng.random() < config.skin_share:
            person = person.reshaped(category, other_shape(rng, category, person.morphology))
        return _rigged(rng, category, person, motion)
    return _dressed(rng, category, cast.figure, motion)


@dataclass(frozen=True)
class Labels:
    """Local rotations (T, J, 4), world_from_root (T, 4, 4), rest joints (J, 3), joints in the world (T, J, 3)."""

    rotations: np.ndarray
    world: np.ndarray
    joints: np.ndarray
    placed: np.ndarray


def labels_of(
    category: Category, motion: HumanMotion, morphology: np.ndarray, posture: np.ndarray | None = None
) -> Labels:
    """The category's parameters for a motion; posture (J, 3, 3): `HumanRig.posture`, none for the body itself."""
    _, joints = category.body.shaped(morphology)
    correction, world = rest_correction(joints), motion.world_from_root.copy()
    if posture is not None:
        rows = [INDEX[n] for n in POSTURE]
        correction[rows] = posture[rows]
        world[:, :3, :3] = world[:, :3, :3] @ posture[0]
        correction[0] = posture[0]
    rotations = clamp_rotations(category.skeleton, to_rest(motion.rotations, correction))
    rotations[:, 0] = [1, 0, 0, 0]
    placed = forward_kinematics(category.skeleton, joints, rotations)[..., :3, 3]
    placed = np.einsum("tij,tkj->tki", world[:, :3, :3], placed) + world[:, None, :3, 3]
    return Labels(rotations, world, joints, placed)


def random_shape(rng: np.random.Generator, category: Category) -> np.ndarray:
    """β (K,): anyone, mostly near the mean, within the category's range."""
    low, high = category.morphology_range.T
    spread = 0.6 if rng.random() < 0.35 else 1.1
    return np.clip(rng.normal(0, spread, len(low)) * category.body.morphology_std, low, high)


def other_shape(rng: np.random.Generator, category: Category, morphology: np.ndarray) -> np.ndarray:
    """β (K,) of somebody else in the clothes and with the hair of `morphology`, within the category's range."""
    low, high = category.morphology_range.T
    worn = np.array([p.name.startswith(("hair", "clothing")) for p in category.morphology])
    change = rng.normal(0, np.where(worn, 0.3, 1.5)) * category.body.morphology_std
    return np.clip(morphology + change, low, high)


def _dressed(rng: np.random.Generator, category: Category, figure: Figure, motion: HumanMotion) -> Subject:
    body = category.body
    morphology = random_shape(rng, category)
    labels = labels_of(category, motion, morphology)
    rotations, joints, placed = labels.rotations, labels.joints, labels.placed
    rest, _ = body.shaped(morphology)
    outfit = random_outfit(rng, figure, rest)
    shown = inflated(rest, body.faces, outfit.offset)
    faces, index, weight = body.faces, body.skin_index, body.skin_weight
    light, dark, source = outfit.light, outfit.dark, "body"
    extra: list[tuple[str, Cloth, np.ndarray, np.ndarray]] = []
    if outfit.skirt is not None:
        made = skirt_cloth(outfit.skirt, category, figure, shown, joints)
        extra.append(("skirt", made, outfit.skirt.light, outfit.skirt.dark))
    if outfit.brim is not None:
        made = brim_cloth(outfit.brim, category, figure, shown)
        extra.append(
            ("round brim" if outfit.brim.round else "brim", made, outfit.brim.colour, outfit.brim.colour)
        )
    for name, cloth, bright, dim in extra:
        faces = np.concatenate([faces, cloth.faces + len(shown)])
        index = np.concatenate([index, cloth.skin_index])
        weight = np.concatenate([weight, cloth.skin_weight])
        light = np.concatenate([light, np.tile(bright, (len(cloth.vertices), 1))])
        dark = np.concatenate([dark, np.tile(dim, (len(cloth.vertices), 1))])
        shown, source = np.concatenate([shown, cloth.vertices]), f"{source}+{name}"
    world = motion.world_from_root
    vertices = posed_in_world(category, shown, index, weight, joints, rotations, world)
    return Subject(
        category.name,
        motion.name,
        source,
        vertices,
        faces,
        shown,
        None,
        world,
        rotations,
        morphology,
        np.ones(len(NAMES)),
        placed[:, [INDEX[n] for n in _LOSABLE]],
        coat=coat_of(rng, light, dark, shown),
    )


def _rigged(rng: np.random.Generator, category: Category, person: HumanRig, motion: HumanMotion) -> Subject:
    vertices, found = person.posed(motion)
    labels = labels_of(category, motion, person.morphology, person.posture)
    vertices = vertices - anchor_offset(found, labels.placed)[:, None].astype(np.float32)
    return Subject(
        person.rig.name,
        motion.name,
        "rig",
        vertices.astype(np.float32),
        person.rig.faces,
        person.rig.vertices,
        person.rig.colours,
        labels.world,
        labels.rotations,
        person.morphology,
        person.confidence,
        labels.placed[:, [INDEX[n] for n in _LOSABLE]],
        coat=_rig_coat(rng, person),
    )


def _rig_coat(rng: np.random.Generator, person: HumanRig) -> Coat:
    """The rig's own colours, each exchanged for another or as it is; a texture keeps its lights and darks."""
    rig = person.rig
    if rng.random() < 0.12:
        return random_coat(rng, rig.vertices, rig.colours)
    own = rig.colours.astype(np.float64)
    kinds, which = np.unique(np.round(own * 24), axis=0, return_inverse=True)
    if len(kinds) > _FLAT_COLOURS:
        kinds, which = np.unique(np.round(own * 3), axis=0, return_inverse=True)
    which = which.reshape(-1)
    mean = np.stack([own[which == k].mean(0) for k in range(len(kinds))])
    table, other = np.empty_like(mean), np.empty_like(mean)
    skin = skin_colour(rng)
    for k, mine in enumerate(mean):
        skinlike = mine[0] > mine[1] > mine[2] and mine[0] > 0.45 and mine[0] - mine[2] > 0.12
        table[k] = (skin if skinlike else cloth_colour(rng)) if rng.random() < 0.75 else mine
        other[k] = table[k] if skinlike else pattern_colour(rng, table[k], 0.65)
    detail = own - mean[which]
    light, dark = (np.clip(colours[which] + detail, 0, 1) for colours in (table, other))
    return coat_of(rng, light, dark, rig.vertices)
