# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about each rigged person: which bones play the part of which joint of the human skeleton."""

from __future__ import annotations

from .rigs import Link, RigSpec

SIDES = ("L", "R")


def both_sides(middle: dict[str, str], side: dict[str, str], left: str, right: str) -> RigSpec:
    """A person's table: joint → bone for the middle and, with '*' where left or right is named, for one side."""
    links = {joint: Link((bone,), bone) for joint, bone in middle.items()}
    for tag, word in (("L", left), ("R", right)):
        for joint, bone in side.items():
            name = bone.replace("*", word)
            links[f"{joint}.{tag}"] = Link((name,), name)
    return RigSpec(links, pairs=("upper_arm", "thigh"), forward=False)


_QUATERNIUS = both_sides(
    {
        "root": "Hips",
        "spine_1": "Abdomen",
        "spine_2": "Torso",
        "chest": "Chest",
        "neck": "Neck",
        "head": "Head",
    },
    {
        "shoulder": "Shoulder.*",
        "upper_arm": "UpperArm.*",
        "forearm": "LowerArm.*",
        "hand": "Hand.*",
        "thigh": "UpperLeg.*",
        "shin": "LowerLeg.*",
        "foot": "Foot.*",
    },
    "L",
    "R",
)

_KAYKIT = both_sides(
    {"root": "hips", "spine_1": "spine", "chest": "chest", "head": "head"},
    {
        "upper_arm": "upperarm.*",
        "forearm": "lowerarm.*",
        "hand": "wrist.*",
        "thigh": "upperleg.*",
        "shin": "lowerleg.*",
        "foot": "foot.*",
        "toe": "toes.*",
    },
    "l",
    "r",
)

FILE_PEOPLE: dict[str, RigSpec] = {
    "Casual": _QUATERNIUS,
    "Suit": _QUATERNIUS,
    "Beach": _QUATERNIUS,
    "WomanCasual": _QUATERNIUS,
    "WomanFormal": _QUATERNIUS,
    "KayKit_Knight": _KAYKIT,
}
"""People in glTF files. Suit is held out; the Knight lends his motions only."""
