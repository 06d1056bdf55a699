# SPDX-License-Identifier: GPL-3.0-or-later
"""Linear bases of the quadruped's proportions.

Coefficient k changes the linear map of each bone by ΔS_kj about the joint J_j. Children follow their
parents, dJ_c = dJ_p + ΔS_p (J_c − J_p), and the skin follows the bones with blurred weights,
dv = Σ_j w_j [dJ_j + ΔS_j (v − J_j)]: linear in the coefficient, so that coefficients simply add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .landmarks import NAMES, PARENTS, REST, TORSO, axis_end, joints, point

UPPER = ("front_upper", "hind_upper")
SHAFTS = (*UPPER, "front_lower", "front_foot", "hind_lower", "hind_foot")


@dataclass(frozen=True)
class Coefficient:
    """A proportion: its name, label, range and standard deviation over animals, as fractions of change."""

    name: str
    label: str
    minimum: float
    maximum: float
    std: float


COEFFICIENTS = (
    Coefficient("leg_length", "Leg length", -0.55, 0.70, 0.25),
    Coefficient("body_length", "Body length", -0.35, 0.40, 0.12),
    Coefficient("girth", "Girth", -0.35, 0.60, 0.18),
    Coefficient("neck_length", "Neck length", -0.60, 1.40, 0.35),
    Coefficient("neck_girth", "Neck girth", -0.55, 0.60, 0.20),
    Coefficient("head_size", "Head size", -0.40, 0.60, 0.18),
    Coefficient("muzzle", "Muzzle length", -0.60, 0.70, 0.25),
    Coefficient("ear_size", "Ear size", -0.50, 1.80, 0.40),
    Coefficient("tail_length", "Tail length", -0.70, 1.20, 0.40),
    Coefficient("leg_girth", "Leg girth", -0.40, 0.70, 0.20),
    Coefficient("hump", "Hump", -0.15, 1.20, 0.25),
)

PRESETS: dict[str, dict[str, float]] = {
    "cat": {"leg_length": -0.32, "body_length": 0.0, "girth": -0.15, "neck_length": -0.4,
        "neck_girth": -0.15, "head_size": 0.1, "muzzle": -0.55, "ear_size": 0.1, "tail_length": 0.6,
        "leg_girth": 0.0},
    "rabbit": {"leg_length": -0.5, "body_length": -0.25, "girth": 0.15, "neck_length": -0.6,
        "neck_girth": 0.1, "head_size": 0.4, "muzzle": -0.45, "ear_size": 1.6, "tail_length": -0.7,
        "leg_girth": 0.15},
    "dog": {"neck_length": -0.1, "muzzle": -0.15, "leg_length": -0.05, "tail_length": 0.05},
    "fox": {"leg_length": -0.2, "girth": -0.2, "neck_length": -0.2, "neck_girth": -0.15, "ear_size": 0.5,
        "tail_length": 0.7, "leg_girth": -0.2, "muzzle": 0.05},
    "horse": {"leg_length": 0.22, "girth": 0.1, "neck_length": 0.35, "neck_girth": 0.1, "muzzle": 0.35,
        "ear_size": -0.15, "tail_length": 0.55, "head_size": -0.05},
    "stag": {"leg_length": 0.3, "girth": -0.05, "neck_length": 0.45, "neck_girth": 0.0, "head_size": -0.1,
        "muzzle": 0.15, "tail_length": -0.6, "leg_girth": -0.25, "ear_size": 0.2},
    "cow": {"leg_length": -0.05, "body_length": 0.15, "girth": 0.4, "neck_length": -0.05, "neck_girth": 0.3,
        "muzzle": 0.2, "ear_size": -0.1, "tail_length": 0.6, "leg_girth": 0.2, "head_size": 0.05},
    "alpaca": {"leg_length": 0.15, "body_length": -0.1, "girth": 0.1, "neck_length": 0.95,
        "neck_girth": -0.15, "head_size": -0.12, "muzzle": -0.3, "tail_length": -0.4, "ear_size": 0.1},
    "camel": {"leg_length": 0.5, "girth": 0.15, "neck_length": 1.1, "neck_girth": -0.1, "head_size": -0.1,
        "muzzle": 0.3, "ear_size": -0.5, "tail_length": 0.1, "leg_girth": -0.05, "hump": 1.0},
}  # fmt: skip
"""Typical coefficients of nine animals."""


def preset(name: str) -> np.ndarray:
    """Coefficients (K,) of a named animal."""
    return np.array([PRESETS[name].get(c.name, 0.0) for c in COEFFICIENTS])


def bone_change(coefficient: str, joint: str) -> np.ndarray:
    """ΔS (3, 3) of a joint's bone for a coefficient of 1, from rest landmarks."""
    base, eye, none = joint.split(".")[0], np.eye(3), np.zeros((3, 3))
    end = axis_end(joint)
    along = none
    if end is not None:
        axis = point(REST, end) - point(REST, joint)
        along = np.outer(axis, axis) / (axis @ axis)
    if coefficient == "leg_length" and base in SHAFTS:
        return (
            along if base.startswith("front") else 0.9 * along
        )  # so that all four feet reach the same ground
    if coefficient == "leg_girth" and base in SHAFTS:
        return (0.6 if base in UPPER else 1.0) * (eye - along)
    if coefficient == "leg_girth" and base in ("front_toe", "hind_toe"):
        return np.diag([1.0, 0.6, 0.0])
    if coefficient == "body_length" and base in TORSO:
        return np.diag([0.0, 1.0, 0.0])
    if coefficient == "girth" and base in TORSO:
        return np.diag([1.0, 0.0, 1.0])
    if coefficient == "neck_length" and base in ("neck_1", "neck_2"):
        return along
    if coefficient == "neck_girth" and base in ("neck_1", "neck_2"):
        return eye - along
    if coefficient == "head_size" and base in ("head", "jaw", "ear"):
        return eye
    if coefficient == "ear_size" and base == "ear":
        return 0.55 * eye + 0.45 * along
    if coefficient == "tail_length" and base.startswith("tail"):
        return along
    return none


def joint_basis(coefficient: str) -> np.ndarray:
    """Displacement of the joints (J, 3) for a coefficient of 1; the root stays."""
    rest = joints(REST)
    out = np.zeros_like(rest)
    for j in range(1, len(NAMES)):
        parent = PARENTS[j]
        out[j] = out[parent] + bone_change(coefficient, NAMES[parent]) @ (rest[j] - rest[parent])
        if coefficient == "girth" and NAMES[j].split(".")[0] in UPPER:
            out[j, 2] = 0.0  # a stout animal's legs are set wider, not lower
    return out


def morphology_bases(vertices: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bases of vertices (K, V, 3) and joints (K, J, 3); `weights` (V, J) are the blurred skin weights."""
    rest = joints(REST)
    of_vertices, of_joints = [], []
    for coefficient in COEFFICIENTS:
        moved = joint_basis(coefficient.name)
        change = np.stack([bone_change(coefficient.name, n) for n in NAMES])
        offset = vertices[:, None] - rest[None]  # (V, J, 3)
        local = moved[None] + np.einsum("jab,vjb->vja", change, offset)
        field = np.einsum("vj,vja->va", weights, local)
        if coefficient.name == "muzzle":
            field += muzzle_field(vertices, weights)
        if coefficient.name == "hump":
            field += hump_field(vertices, weights)
        of_vertices.append(field)
        of_joints.append(moved)
    return np.stack(of_vertices), np.stack(of_joints)


def muzzle_field(vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Displacement (V, 3) that doubles the distance from the eyes to the tip of the nose."""
    head, tip = point(REST, "head"), point(REST, "muzzle_tip")
    axis = (tip - head) / np.linalg.norm(tip - head)
    start, soft = 0.075, 0.03
    past = soft * np.logaddexp(0, ((vertices - head) @ axis - start) / soft)
    face = weights[:, [NAMES.index("head"), NAMES.index("jaw")]].sum(1)
    return (face * past)[:, None] * axis


def hump_field(vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Displacement (V, 3) of a camel's hump: a smooth rise of the mid back and a slightly drawn-up belly."""
    torso = weights[:, [NAMES.index(n) for n in TORSO]].sum(1)
    x, y, z = vertices.T
    bump = np.exp(-0.5 * ((y + 0.02) / 0.105) ** 2 - 0.5 * (x / 0.075) ** 2)
    top = np.clip((z + 0.02) / 0.16, 0, 1)
    rise = 0.23 * bump * top * top * (3 - 2 * top)
    tuck = 0.03 * np.exp(-0.5 * ((y - 0.14) / 0.09) ** 2) * np.clip((-z - 0.02) / 0.1, 0, 1)
    return np.stack([np.zeros_like(x), np.zeros_like(x), torso * (rise + tuck)], -1)
