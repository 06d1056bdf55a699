# SPDX-License-Identifier: GPL-3.0-or-later
"""Strong poses and typical proportions that the sheets of a body show."""

from __future__ import annotations

from dataclasses import dataclass

from .morphology import PRESETS as ANIMALS

Rotations = dict[str, tuple[float, float, float]]

ANIMAL_POSES: dict[str, Rotations] = {
    "walk": {
        "front_upper.L": (-0.4, 0, 0), "front_lower.L": (0.2, 0, 0), "front_upper.R": (0.3, 0, 0),
        "front_lower.R": (-0.3, 0, 0), "front_foot.R": (0.8, 0, 0), "hind_upper.L": (0.35, 0, 0),
        "hind_lower.L": (0.1, 0, 0), "hind_upper.R": (-0.45, 0, 0), "hind_lower.R": (0.3, 0, 0),
        "hind_foot.R": (-0.2, 0, 0), "tail_1": (0.3, 0, 0.3), "head": (0.2, 0, 0),
    },
    "gallop": {
        "front_upper.L": (-1.0, 0, 0), "front_lower.L": (-0.2, 0, 0), "front_upper.R": (-0.7, 0, 0),
        "front_lower.R": (-0.9, 0, 0), "front_foot.R": (0.8, 0, 0), "hind_upper.L": (0.9, 0, 0),
        "hind_lower.L": (-0.2, 0, 0), "hind_upper.R": (0.7, 0, 0), "hind_foot.R": (0.5, 0, 0),
        "pelvis": (0.3, 0, 0), "spine": (-0.2, 0, 0), "neck_1": (0.5, 0, 0), "tail_1": (1.2, 0, 0),
    },
    "graze": {
        "neck_1": (1.1, 0, 0), "neck_2": (0.8, 0, 0), "head": (-0.3, 0, 0), "jaw": (0.4, 0, 0),
        "front_upper.L": (-0.3, 0, 0), "tail_1": (1.5, 0, 0),
    },
    "sit": {
        "pelvis": (-0.75, 0, 0), "spine": (-0.3, 0, 0), "hind_upper.L": (-0.9, 0.2, 0),
        "hind_upper.R": (-0.9, -0.2, 0), "hind_lower.L": (1.4, 0, 0), "hind_lower.R": (1.4, 0, 0),
        "hind_foot.L": (-1.3, 0, 0), "hind_foot.R": (-1.3, 0, 0), "tail_1": (0.9, 0, 0.4),
    },
    "turn": {
        "spine": (0, 0, 0.45), "chest": (0, 0, 0.4), "neck_1": (0, 0, 0.7), "neck_2": (0, 0, 0.7),
        "head": (0.2, 0.3, 0.5), "pelvis": (0, 0, -0.4), "tail_1": (0.5, 0, 0.8), "tail_2": (0, 0, 0.7),
        "ear.L": (0.6, 0, 0), "ear.R": (-0.5, 0, 0),
    },
    "lie": {
        "front_upper.L": (0.5, 0, 0), "front_lower.L": (-1.7, 0, 0), "front_upper.R": (0.5, 0, 0),
        "front_lower.R": (-1.7, 0, 0), "hind_upper.L": (-1.1, 0.3, 0), "hind_lower.L": (1.6, 0, 0),
        "hind_foot.L": (-1.5, 0, 0), "hind_upper.R": (-1.1, -0.3, 0), "hind_lower.R": (1.6, 0, 0),
        "hind_foot.R": (-1.5, 0, 0), "neck_1": (0.3, 0, 0),
    },
}  # fmt: skip

PEOPLE: dict[str, dict[str, float]] = {
    "man": {"sex": 1.0, "muscle": 0.4, "hair": -0.1},
    "woman": {"sex": -1.0, "hair": 1.2, "weight": -0.2},
    "child": {
        "sex": -0.3,
        "leg_length": -0.22,
        "arm_length": -0.15,
        "head_size": 0.45,
        "shoulder_width": -0.12,
    },
    "heavy": {"sex": 0.5, "weight": 2.2, "muscle": -0.3, "clothing_torso": 0.4},
    "coat": {"sex": 0.2, "clothing_torso": 1.3, "clothing_legs": 1.2, "hair": 0.5},
    "athlete": {"sex": 0.9, "muscle": 1.0, "leg_length": 0.1, "clothing_torso": -0.3, "clothing_legs": -0.3},
}


def _both(joint: str, vector: tuple[float, float, float]) -> Rotations:
    x, y, z = vector
    return {f"{joint}.L": (x, y, z), f"{joint}.R": (x, -y, -z)}


HUMAN_POSES: dict[str, Rotations] = {
    "walk": {
        **_both("upper_arm", (0, 0.55, 0)), "forearm.L": (-0.5, 0, -0.5), "forearm.R": (-0.3, 0, 0.3),
        "thigh.L": (-0.45, 0.1, 0), "thigh.R": (0.3, -0.1, 0), "shin.L": (0.1, 0, 0), "shin.R": (0.6, 0, 0),
        "foot.R": (0.4, 0, 0),
    },
    "arms up": {**_both("upper_arm", (0, -2.1, 0)), **_both("shoulder", (0, -0.35, 0))},
    "arms ahead": {**_both("upper_arm", (-0.6, -0.3, -1.3)), "head": (0.2, 0, 0.5)},
    "elbows": {
        **_both("upper_arm", (0, 0.5, 0)), **_both("forearm", (-1.55, 0, -1.55)), **_both("hand", (0.3, 0.3, 0)),
    },
    "crouch": {
        **_both("thigh", (-2.1, -0.2, 0)), **_both("shin", (2.4, 0, 0)), **_both("foot", (-0.5, 0, 0)),
        "spine_1": (0.4, 0, 0), "spine_2": (0.3, 0, 0), "neck": (-0.4, 0, 0),
        **_both("upper_arm", (-0.8, 0.3, -0.4)),
    },
    "kneel": {
        "thigh.L": (-1.6, 0, 0), "shin.L": (1.6, 0, 0), "shin.R": (1.7, 0, 0), "foot.R": (0.6, 0, 0),
        "toe.R": (-0.8, 0, 0), **_both("upper_arm", (0, 0.6, 0)),
    },
    "bend": {
        "spine_1": (0.7, 0, 0), "spine_2": (0.5, 0, 0), "chest": (0.4, 0, 0), **_both("thigh", (-0.7, 0, 0)),
        **_both("upper_arm", (-1.0, 0.4, 0)),
    },
    "sit": {
        **_both("thigh", (-1.5, 0, 0)), **_both("shin", (1.5, 0, 0)), **_both("upper_arm", (-0.3, 0.5, 0)),
        **_both("forearm", (-0.9, 0, -0.9)),
    },
    "twist": {
        "spine_1": (0, 0, 0.5), "spine_2": (0, 0, 0.4), "chest": (0, 0.3, 0.4), "head": (0, 0, 0.6),
        "thigh.L": (0, -1.2, 0), "forearm.R": (1.0, 0, -1.0),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Gallery:
    """What the sheets show of a category. metres: width of a proportion's tile and of a pose's."""

    bodies: dict[str, dict[str, float]]
    poses: dict[str, Rotations]
    posed: tuple[str, ...]
    metres: tuple[float, float]
    azimuths: tuple[float, float]


GALLERIES = {
    "quadruped": Gallery(ANIMALS, ANIMAL_POSES, ("horse", "cat"), (1.75, 1.9), (0.0, 0.75)),
    "human": Gallery(PEOPLE, HUMAN_POSES, ("woman", "coat"), (2.0, 2.4), (0.25, 1.3)),
}
