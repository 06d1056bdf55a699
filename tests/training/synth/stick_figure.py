# SPDX-License-Identifier: GPL-3.0-or-later
"""A human category small enough for tests: tubes round the bones of a plain figure whose arms are lowered."""

from __future__ import annotations

import numpy as np

from dasr_blender.core.body import Body
from dasr_blender.core.category import Category
from dasr_blender.core.schema import NetworkSpec, Proportion
from dasr_blender.core.skeleton import Skeleton
from dasr_blender.training.synth.motions import INDEX, MIRROR, NAMES, PARENTS, T_POSE

ENDS = {"head": (0, 0, 0.2), "hand": (0.15, 0, 0), "toe": (0, -0.1, 0)}
RADII = {"root": 0.12, "spine": 0.12, "chest": 0.12, "head": 0.09, "thigh": 0.07, "shin": 0.05}


def lowered(joints: np.ndarray, degrees: float) -> np.ndarray:
    """Rest joints (J, 3) with the arms turned down."""
    out = joints.copy()
    for side, sign in (("L", 1), ("R", -1)):
        c, s = np.cos(np.deg2rad(degrees)), sign * np.sin(np.deg2rad(degrees))
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        start = joints[INDEX[f"upper_arm.{side}"]]
        for name in ("forearm", "hand"):
            j = INDEX[f"{name}.{side}"]
            out[j] = start + turn @ (joints[j] - start)
    return out


def stick_figure(arms_down: float = 45.0) -> Category:
    """J = 22, K = 1 (stature), limits of half a turn."""
    joints = lowered(T_POSE, arms_down)
    vertices, faces, owner = [], [], []
    for j, name in enumerate(NAMES):
        children = [c for c in range(len(NAMES)) if PARENTS[c] == j]
        tips = [joints[c] for c in children]
        short = name.split(".")[0]
        if short in ENDS:
            end = np.array(ENDS[short], float)
            end[0] *= -1 if name.endswith(".R") else 1
            tips = [joints[j] + end]
        for tip in tips:
            along = tip - joints[j]
            length = np.linalg.norm(along)
            if length < 1e-6:
                continue
            radius = next((r for start, r in RADII.items() if name.startswith(start)), 0.04)
            side = np.cross(along, [0.3, 0.9, 0.2])
            side *= radius / np.linalg.norm(side)
            other = np.cross(along, side) / length
            base = len(vertices)
            for place in np.linspace(0, 1, 5):
                for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False):
                    vertices.append(joints[j] + place * along + np.cos(angle) * side + np.sin(angle) * other)
                    owner.append(j)
            for r in range(4):
                for s in range(8):
                    a, b = base + 8 * r + s, base + 8 * r + (s + 1) % 8
                    faces += [(a, b, b + 8), (a, b + 8, a + 8)]
    points, count = np.array(vertices), len(vertices)
    index = np.zeros((count, 4), int)
    index[:, 0] = owner
    weight = np.zeros((count, 4))
    weight[:, 0] = 1
    body = Body(
        vertices=points,
        faces=np.array(faces),
        skin_index=index,
        skin_weight=weight,
        joints=joints,
        morphology_vertices=points[None],
        morphology_joints=joints[None],
        morphology_std=np.array([0.1]),
        appearance_mean=np.full((count, 3), 0.5),
        appearance_basis=np.zeros((1, count, 3)),
        uv=np.zeros((len(faces), 3, 2)),
        mirror_vertex=np.arange(count),
    )
    limits = np.tile(np.array([-np.pi, np.pi]), (len(NAMES), 3, 1))
    roles = tuple("root" if j == 0 else "spine" if j < 4 else "head" if j < 6 else "limb" for j in range(22))
    names = {n: n for n in NAMES}
    return Category(
        name="human",
        version="0.0.0",
        licence="CC0-1.0",
        credits="a test",
        skeleton=Skeleton(NAMES, PARENTS, MIRROR, limits, roles),
        profiles={"neutral": names, "rigify": names},
        morphology=(Proportion("stature", "Stature", -0.3, 0.3),),
        nominal_size=0.5,
        network=NetworkSpec(128, (0.5,) * 3, (0.2,) * 3, 17),
        training={},
        body=body,
    )
