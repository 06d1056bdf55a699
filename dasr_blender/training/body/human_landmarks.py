# SPDX-License-Identifier: GPL-3.0-or-later
"""The human skeleton: joints, their bones in MakeHuman's Mixamo rig, limits, and the bones of common rigs."""

from __future__ import annotations

import numpy as np

from ...core import Skeleton

# joint: (parent, Mixamo bone); left joints only, parents first
_MIDDLE = {
    "root": (None, "Hips"), "spine_1": ("root", "Spine"), "spine_2": ("spine_1", "Spine1"),
    "chest": ("spine_2", "Spine2"), "neck": ("chest", "Neck"), "head": ("neck", "Head"),
}  # fmt: skip
_ARM = {
    "shoulder": ("chest", "Shoulder"), "upper_arm": ("shoulder", "Arm"),
    "forearm": ("upper_arm", "ForeArm"), "hand": ("forearm", "Hand"),
}  # fmt: skip
_LEG = {
    "thigh": ("root", "UpLeg"), "shin": ("thigh", "Leg"), "foot": ("shin", "Foot"), "toe": ("foot", "ToeBase"),
}  # fmt: skip
SIDES = {"L": "Left", "R": "Right"}


def _joints() -> tuple[dict[str, str | None], dict[str, str]]:
    parents: dict[str, str | None] = {name: parent for name, (parent, _) in _MIDDLE.items()}
    mixamo = {name: bone for name, (_, bone) in _MIDDLE.items()}
    for limb in (_ARM, _LEG):
        for side, word in SIDES.items():
            for name, (parent, bone) in limb.items():
                parents[f"{name}.{side}"] = parent if parent in _MIDDLE else f"{parent}.{side}"
                mixamo[f"{name}.{side}"] = word + bone
    return parents, mixamo


_PARENTS, MIXAMO = _joints()
NAMES = tuple(_PARENTS)
PARENTS = np.array([-1 if p is None else NAMES.index(p) for p in _PARENTS.values()])
MIRROR = np.array(
    [
        NAMES.index(n[:-1] + {"L": "R", "R": "L"}[n[-1]]) if n[-2:] in (".L", ".R") else i
        for i, n in enumerate(NAMES)
    ]
)

# Bounds of the rotation vector (x, y, z) in radians about the body's axes, from a rest pose with the arms
# 45° down; for left joints. +x bends forward (a leg: backward), +y lowers a left arm and crosses the legs,
# +z turns to the left. The elbow's and the forearm's own axes lie between x and z, hence their boxes.
LIMITS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "root": ((0, 0), (0, 0), (0, 0)),
    "spine_1": ((-0.6, 1.0), (-0.6, 0.6), (-0.6, 0.6)),
    "spine_2": ((-0.5, 0.8), (-0.5, 0.5), (-0.6, 0.6)),
    "chest": ((-0.5, 0.8), (-0.5, 0.5), (-0.6, 0.6)),
    "neck": ((-0.8, 0.9), (-0.7, 0.7), (-0.9, 0.9)),
    "head": ((-0.8, 0.9), (-0.7, 0.7), (-1.0, 1.0)),
    "shoulder": ((-0.6, 0.6), (-0.7, 0.5), (-0.7, 0.7)),
    "upper_arm": ((-2.6, 1.6), (-2.5, 1.4), (-2.2, 2.0)),
    "forearm": ((-2.7, 1.3), (-1.2, 1.2), (-2.7, 1.5)),
    "hand": ((-1.3, 1.3), (-1.5, 1.5), (-1.3, 1.3)),
    "thigh": ((-2.7, 1.2), (-1.6, 1.0), (-1.5, 1.5)),
    "shin": ((-0.3, 2.8), (-0.6, 0.6), (-0.8, 0.8)),
    "foot": ((-0.9, 1.3), (-0.7, 0.7), (-0.8, 0.8)),
    "toe": ((-1.3, 0.8), (-0.3, 0.3), (-0.4, 0.4)),
}

RIGIFY = {"root": "spine", "spine_1": "spine.001", "spine_2": "spine.002", "chest": "spine.003",
    "neck": "spine.004", "head": "spine.006"}  # fmt: skip
UNREAL = {"root": "pelvis", "spine_1": "spine_01", "spine_2": "spine_02", "chest": "spine_03", "neck": "neck_01",
    "head": "head", "shoulder": "clavicle", "upper_arm": "upperarm", "forearm": "lowerarm", "hand": "hand",
    "thigh": "thigh", "shin": "calf", "foot": "foot", "toe": "ball"}  # fmt: skip
UNITY = {"root": "Hips", "spine_1": "Spine", "spine_2": "Chest", "chest": "UpperChest", "neck": "Neck",
    "head": "Head", "shoulder": "Shoulder", "upper_arm": "UpperArm", "forearm": "LowerArm", "hand": "Hand",
    "thigh": "UpperLeg", "shin": "LowerLeg", "foot": "Foot", "toe": "Toes"}  # fmt: skip


def split(name: str) -> tuple[str, str]:
    """Joint name without its side, and the side: 'L', 'R' or ''."""
    base, _, side = name.partition(".")
    return base, side


def skeleton() -> Skeleton:
    """The 22 joints with their limits; right limits mirror the left ones."""
    rows, roles = [], []
    for name in NAMES:
        base, side = split(name)
        x, y, z = LIMITS[base]
        if side == "R":
            y, z = (-y[1], -y[0]), (-z[1], -z[0])
        rows.append([x, y, z])
        role = "limb" if side else {"root": "root", "head": "head"}.get(base, "spine")
        roles.append(role)
    return Skeleton(NAMES, PARENTS, MIRROR, np.array(rows, float), tuple(roles))


def profiles() -> dict[str, dict[str, str]]:
    """Bone names: plain, Rigify's human metarig, Mixamo, Unreal's mannequin and Unity's humanoid."""
    out: dict[str, dict[str, str]] = {p: {} for p in ("neutral", "rigify", "mixamo", "unreal", "unity")}
    for name in NAMES:
        base, side = split(name)
        out["neutral"][name] = name[0].upper() + name[1:]
        out["rigify"][name] = RIGIFY.get(base, name)
        out["mixamo"][name] = "mixamorig:" + MIXAMO[name]
        out["unreal"][name] = UNREAL[base] + (f"_{side.lower()}" if side else "")
        out["unity"][name] = SIDES.get(side, "") + UNITY[base]
    return out
