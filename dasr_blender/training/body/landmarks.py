# SPDX-License-Identifier: GPL-3.0-or-later
"""The quadruped's skeleton, its rest landmarks, and the same landmarks on the source models.

A landmark is a joint or the free end (tip) of a chain. Only the left half is listed; `landmark_points`
mirrors it. Source landmarks are in the units of the model's bind pose, rest landmarks in metres.
"""

from __future__ import annotations

import numpy as np

NAMES = (
    "root", "pelvis", "spine", "chest", "neck_1", "neck_2", "head", "jaw", "ear.L", "ear.R",
    "front_upper.L", "front_lower.L", "front_foot.L", "front_toe.L",
    "front_upper.R", "front_lower.R", "front_foot.R", "front_toe.R",
    "hind_upper.L", "hind_lower.L", "hind_foot.L", "hind_toe.L",
    "hind_upper.R", "hind_lower.R", "hind_foot.R", "hind_toe.R",
    "tail_1", "tail_2", "tail_3", "tail_4",
)  # fmt: skip
PARENTS = np.array(
    [-1, 0, 0, 2, 3, 4, 5, 6, 6, 6, 3, 10, 11, 12, 3, 14, 15, 16, 1, 18, 19, 20, 1, 22, 23, 24, 1, 26, 27, 28]
)
CHAINS = {
    "neck_1": "neck_2", "neck_2": "head", "head": "muzzle_tip", "jaw": "jaw_tip", "ear": "ear_tip",
    "front_upper": "front_lower", "front_lower": "front_foot", "front_foot": "front_toe",
    "front_toe": "front_tip", "hind_upper": "hind_lower", "hind_lower": "hind_foot",
    "hind_foot": "hind_toe", "hind_toe": "hind_tip",
    "tail_1": "tail_2", "tail_2": "tail_3", "tail_3": "tail_4", "tail_4": "tail_tip",
}  # fmt: skip
"""Far end of each joint's segment. Torso joints have several children and are listed in TORSO instead."""

REST: dict[str, tuple[float, float, float]] = {
    "root": (0, 0, 0), "pelvis": (0, 0.12, 0.03), "spine": (0, -0.07, 0.02), "chest": (0, -0.20, 0.01),
    "neck_1": (0, -0.33, 0.07), "neck_2": (0, -0.43, 0.17), "head": (0, -0.535, 0.275),
    "muzzle_tip": (0, -0.746, 0.198), "jaw": (0, -0.565, 0.222), "jaw_tip": (0, -0.72, 0.165),
    "ear": (0.055, -0.528, 0.335), "ear_tip": (0.085, -0.54, 0.43),
    "front_upper": (0.085, -0.30, -0.055), "front_lower": (0.098, -0.225, -0.18),
    "front_foot": (0.098, -0.25, -0.365), "front_toe": (0.098, -0.268, -0.478),
    "front_tip": (0.098, -0.35, -0.545),
    "hind_upper": (0.08, 0.30, -0.005), "hind_lower": (0.105, 0.235, -0.175),
    "hind_foot": (0.10, 0.425, -0.338), "hind_toe": (0.10, 0.395, -0.478), "hind_tip": (0.10, 0.31, -0.545),
    "tail_1": (0, 0.385, 0.075), "tail_2": (0, 0.455, 0.035), "tail_3": (0, 0.507, -0.04),
    "tail_4": (0, 0.54, -0.13), "tail_tip": (0, 0.56, -0.235),
}  # fmt: skip

SOURCES: dict[str, dict[str, tuple[float, float, float]]] = {
    "Husky": {
        "root": (0, -0.2, 1.75), "pelvis": (0, 0.17, 1.84), "spine": (0, -0.41, 1.81), "chest": (0, -0.81, 1.78),
        "neck_1": (0, -1.22, 1.95), "neck_2": (0, -1.48, 2.28), "head": (0, -1.75, 2.62),
        "muzzle_tip": (0, -2.33, 2.5), "jaw": (0, -1.82, 2.47), "jaw_tip": (0, -2.25, 2.38),
        "ear": (0.18, -1.76, 2.82), "ear_tip": (0.28, -1.8, 3.18),
        "front_upper": (0.27, -1.12, 1.55), "front_lower": (0.3, -0.86, 1.15), "front_foot": (0.3, -0.95, 0.5),
        "front_toe": (0.3, -1.02, 0.17), "front_tip": (0.3, -1.38, 0.06),
        "hind_upper": (0.25, 0.72, 1.68), "hind_lower": (0.37, 0.47, 1.15), "hind_foot": (0.37, 1.18, 0.58),
        "hind_toe": (0.37, 1.05, 0.17), "hind_tip": (0.37, 0.78, 0.06),
        "tail_1": (0, 1.0, 1.93), "tail_2": (0, 1.22, 2.18), "tail_3": (0, 1.35, 2.45), "tail_4": (0, 1.38, 2.72),
        "tail_tip": (0, 1.22, 3.1),
    },
    "Fox": {
        "root": (0, -0.25, 1.85), "pelvis": (0, 0.1, 1.9), "spine": (0, -0.45, 1.87), "chest": (0, -0.83, 1.85),
        "neck_1": (0, -1.2, 1.92), "neck_2": (0, -1.5, 1.98), "head": (0, -1.87, 2.1),
        "muzzle_tip": (0, -2.67, 1.93), "jaw": (0, -1.98, 1.92), "jaw_tip": (0, -2.6, 1.86),
        "ear": (0.2, -2.02, 2.28), "ear_tip": (0.4, -2.2, 2.64),
        "front_upper": (0.27, -1.12, 1.62), "front_lower": (0.33, -0.88, 1.2), "front_foot": (0.33, -0.98, 0.55),
        "front_toe": (0.33, -1.06, 0.17), "front_tip": (0.33, -1.4, 0.05),
        "hind_upper": (0.25, 0.62, 1.8), "hind_lower": (0.34, 0.47, 1.28), "hind_foot": (0.34, 1.14, 0.8),
        "hind_toe": (0.34, 0.98, 0.18), "hind_tip": (0.34, 0.74, 0.05),
        "tail_1": (0, 1.0, 2.05), "tail_2": (0, 1.5, 2.05), "tail_3": (0, 2.05, 2.02), "tail_4": (0, 2.6, 2.05),
        "tail_tip": (0, 3.15, 2.22),
    },
    "Horse": {
        "root": (0, -0.12, 2.8), "pelvis": (0, 0.42, 2.92), "spine": (0, -0.44, 2.87), "chest": (0, -1.03, 2.82),
        "neck_1": (0, -1.5, 2.95), "neck_2": (0, -1.8, 3.4), "head": (0, -2.38, 4.12),
        "muzzle_tip": (0, -3.4, 3.6), "jaw": (0, -2.5, 3.8), "jaw_tip": (0, -3.22, 3.45),
        "ear": (0.15, -2.58, 4.42), "ear_tip": (0.2, -2.68, 4.8),
        "front_upper": (0.35, -1.5, 2.55), "front_lower": (0.42, -1.28, 2.0), "front_foot": (0.42, -1.38, 1.2),
        "front_toe": (0.42, -1.32, 0.38), "front_tip": (0.42, -1.58, 0.05),
        "hind_upper": (0.35, 1.25, 2.85), "hind_lower": (0.42, 1.0, 2.2), "hind_foot": (0.42, 1.8, 1.32),
        "hind_toe": (0.42, 1.8, 0.38), "hind_tip": (0.42, 1.55, 0.05),
        "tail_1": (0, 1.6, 3.2), "tail_2": (0, 1.95, 3.05), "tail_3": (0, 2.1, 2.6), "tail_4": (0, 2.05, 2.1),
        "tail_tip": (0, 2.15, 1.48),
    },
}  # fmt: skip
"""Quaternius, Ultimate Animated Animals (CC0): where the landmarks lie in each model's bind pose."""

TORSO = ("root", "pelvis", "spine", "chest")


def point(landmarks: dict[str, tuple[float, float, float]], name: str) -> np.ndarray:
    """One landmark as an array (3,); `name` may carry a side (`ear.R`)."""
    base, _, side = name.partition(".")
    sign = -1.0 if side == "R" else 1.0
    return np.array(landmarks[base], float) * [sign, 1, 1]


def joints(landmarks: dict[str, tuple[float, float, float]]) -> np.ndarray:
    """All joints of a landmark table, (30, 3)."""
    return np.stack([point(landmarks, n) for n in NAMES])


def axis_end(name: str) -> str | None:
    """Name of the far end of a joint's segment, with its side; None for the torso's joints."""
    base, dot, side = name.partition(".")
    return CHAINS[base] + dot + side if base in CHAINS else None


def mirror_joints() -> np.ndarray:
    """Index of each joint's mirror image, (30,)."""
    swap = {"L": "R", "R": "L"}
    return np.array(
        [NAMES.index(n[:-1] + swap[n[-1]]) if n[-2:-1] == "." else i for i, n in enumerate(NAMES)]
    )


def segments(landmarks: dict[str, tuple[float, float, float]]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Line segments `(joint, a, b)` that stand for the bones when weights are computed.

    The torso gets a second, lower row so that belly and breast do not cling to the legs.
    """
    rows = []
    for i, name in enumerate(NAMES):
        end = axis_end(name)
        if end is not None:
            rows.append((i, point(landmarks, name), point(landmarks, end)))
    p = {
        n: point(landmarks, n) for n in ("root", "pelvis", "spine", "chest", "neck_1", "tail_1", "hind_upper")
    }
    unit = np.linalg.norm(p["hind_upper"] - point(landmarks, "front_upper")) / 0.61  # model units a metre
    drop = np.array([0, 0, -0.085]) * unit
    upper = [("root", "spine", "pelvis"), ("pelvis", "pelvis", "tail_1"), ("spine", "spine", "chest")]
    for name, a, b in [*upper, ("chest", "chest", "neck_1")]:
        i = NAMES.index(name)
        rows.append((i, p[a], p[b]))
        low = 1.3 if name in ("chest", "spine") else 0.8
        rows.append((i, p[a] + low * drop, p[b] + low * drop))
    return rows
