# SPDX-License-Identifier: GPL-3.0-or-later
"""The human bundle: MakeHuman's characters as linear proportions, with stretched bones, hair and clothes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core import Body, Category, Proportion
from .bundle import network, unwrap
from .human_appearance import colour_directions, mean_colour
from .human_landmarks import MIRROR, NAMES, PARENTS, profiles, skeleton, split
from .human_shape import FLIP, Fields, Surface
from .makehuman import Macro, MakeHuman
from .morphology import Coefficient
from .weights import diffuse, keep_four

VERSION = "1.0.0"
COUNT = 4160
BLUR = 0.0006
"""Square metres of heat flow that blur the weights for the stretched bones (radius about 3.5 cm)."""
TRUNK = 0.48
"""Metres from shoulder to hip at rest."""
CLOTH = 0.03
"""Metres between body and cloth at a coefficient of 1."""

COEFFICIENTS = (
    Coefficient("sex", "Female to male", -1.1, 1.1, 0.6),
    Coefficient("age", "Age", -0.3, 0.8, 0.25),
    Coefficient("muscle", "Muscle", -1.0, 1.0, 0.45),
    Coefficient("weight", "Weight", -1.0, 2.5, 0.7),
    Coefficient("leg_length", "Leg length", -0.35, 0.25, 0.08),
    Coefficient("arm_length", "Arm length", -0.30, 0.25, 0.07),
    Coefficient("torso_length", "Torso length", -0.20, 0.20, 0.06),
    Coefficient("shoulder_width", "Shoulder width", -0.25, 0.30, 0.08),
    Coefficient("head_size", "Head size", -0.15, 0.70, 0.12),
    Coefficient("hair", "Hair", -0.6, 1.5, 0.5),
    Coefficient("clothing_torso", "Loose top", -0.3, 1.3, 0.5),
    Coefficient("clothing_legs", "Loose trousers", -0.3, 1.3, 0.5),
)
MACROS: dict[str, tuple[Macro, Macro]] = {
    "sex": (Macro(sex=0), Macro(sex=1)),
    "age": (Macro(age=0), Macro(age=1)),
    "muscle": (Macro(muscle=-1), Macro(muscle=1)),
    "weight": (Macro(weight=-1), Macro(weight=1)),
}
"""The two characters whose difference is a proportion's direction: whole for the age, else half."""

CREDITS = (
    "Body, proportions, skin weights and joints from MakeHuman's base mesh, targets and Mixamo rig (CC0 1.0, "
    "Data Collection AB, Joel Palmius and Jonas Hauquier, makehumancommunity.org); clothes, hair, stretched bones "
    "and colours are this project's own. Network and second look trained on renders of it, of Casual, Beach, "
    "WomanCasual and WomanFormal by Quaternius (CC0 1.0) and of fifteen people of the game 0 A.D. by Wildfire Games "
    "(CC-BY-SA 3.0, play0ad.com), moved by recordings of pybullet_data (zlib licence), clips of KayKit's Knight (CC0 "
    "1.0) and of that game. The landmark network is BlazePose GHUM by Google (Apache-2.0)."
)
LICENCE = "GPL-3.0-or-later; predictor.onnx, errors.npz and refiner.onnx: CC-BY-SA-4.0; landmarks.onnx: Apache-2.0"


def bone_change(coefficient: str, joint: str, joints: np.ndarray) -> np.ndarray:
    """ΔS (3, 3) of a joint's bone for a coefficient of 1, as in `morphology`."""
    base, side = split(joint)

    def along(start: str, end: str) -> np.ndarray:
        axis = joints[NAMES.index(f"{end}.{side}")] - joints[NAMES.index(f"{start}.{side}")]
        return np.outer(axis, axis) / (axis @ axis)

    if coefficient == "leg_length" and base in ("thigh", "shin"):
        return along("thigh", "foot")
    if coefficient == "arm_length" and base in ("upper_arm", "forearm"):
        return along("upper_arm", "hand")
    if coefficient == "torso_length" and base in ("spine_1", "spine_2", "chest"):
        return np.diag([0.0, 0.0, 1.0])
    if coefficient == "shoulder_width":
        return np.diag([{"shoulder": 1.0, "chest": 1.0, "spine_2": 0.4}.get(base, 0.0), 0.0, 0.0])
    if coefficient == "head_size":
        return {"head": 1.0, "neck": 0.25}.get(base, 0.0) * np.eye(3)
    return np.zeros((3, 3))


def stretched(
    coefficient: str, vertices: np.ndarray, weights: np.ndarray, joints: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Displacement of vertices (V, 3) and joints (J, 3) for a coefficient of 1; `weights` (V, J) are blurred."""
    change = np.stack([bone_change(coefficient, n, joints) for n in NAMES])
    moved = np.zeros_like(joints)
    for j in range(1, len(NAMES)):
        parent = PARENTS[j]
        moved[j] = moved[parent] + change[parent] @ (joints[j] - joints[parent])
    local = moved[None] + np.einsum("jab,vjb->vja", change, vertices[:, None] - joints[None])
    return np.einsum("vj,vja->va", weights, local), moved


def _macro_basis(surface: Surface, name: str) -> tuple[np.ndarray, np.ndarray]:
    (v0, j0), (v1, j1) = (surface.shape(m) for m in MACROS[name])
    scale = 1.0 if name == "age" else 0.5
    return scale * (v1 - v0), scale * (j1 - j0)


def _layer(fields: Fields, name: str) -> np.ndarray:
    """Outward growth (V,) in metres of hair or clothes for a coefficient of 1."""
    if name == "hair":
        return 0.012 * fields.hair + 0.023 * fields.long_hair
    return CLOTH * (fields.torso if name == "clothing_torso" else fields.legs)


def build_body(source: Path) -> Body:
    """The whole body from MakeHuman's data folder; raises CategoryError when something is missing there."""
    surface = Surface(MakeHuman(source))
    naked, joints = surface.shape(Macro())
    fields = surface.fields(naked, joints)
    dressed = surface.dressed(naked, fields)
    rows, faces, back = surface.thin(dressed, COUNT)
    outward = surface.outward(dressed)[rows]
    all_weights = surface.weights
    kept = Fields(*(getattr(fields, name)[rows] for name in Fields.__dataclass_fields__))
    vertices, weights = dressed[rows], all_weights[rows]
    vertices = (vertices + vertices[back] * FLIP) / 2
    weights = (weights + weights[back][:, MIRROR]) / 2
    index, top = keep_four(weights)
    soft = diffuse(weights, vertices, faces, BLUR)
    of_vertices, of_joints = [], []
    for c in COEFFICIENTS:
        if c.name in MACROS:
            field, moved = _macro_basis(surface, c.name)
            field = field[rows]
        elif c.name in ("hair", "clothing_torso", "clothing_legs"):
            field, moved = outward * _layer(kept, c.name)[:, None], np.zeros_like(joints)
        else:
            field, moved = stretched(c.name, vertices, soft, joints)
        of_vertices.append((field + field[back] * FLIP) / 2)
        of_joints.append((moved + moved[MIRROR] * FLIP) / 2)
    colours, directions = mean_colour(kept, weights), colour_directions(kept, weights)
    half = len(faces) // 2
    return Body(
        vertices=vertices,
        faces=faces,
        skin_index=index,
        skin_weight=top,
        joints=joints,
        morphology_vertices=np.stack(of_vertices),
        morphology_joints=np.stack(of_joints),
        morphology_std=np.array([c.std for c in COEFFICIENTS]),
        appearance_mean=(colours + colours[back]) / 2,
        appearance_basis=(directions + directions[:, back]) / 2,
        uv=unwrap(vertices, faces, np.tile(np.arange(half), 2)),
        mirror_vertex=back,
    )


def human(body: Body) -> Category:
    """The category around a body."""
    return Category(
        name="human",
        version=VERSION,
        licence=LICENCE,
        credits=CREDITS,
        skeleton=skeleton(),
        profiles=profiles(),
        morphology=tuple(Proportion(c.name, c.label, c.minimum, c.maximum) for c in COEFFICIENTS),
        nominal_size=TRUNK,
        network=network(len(NAMES), len(COEFFICIENTS)),
        training={},
        body=body,
    )
