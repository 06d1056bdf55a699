# SPDX-License-Identifier: GPL-3.0-or-later
"""The quadruped bundle: body arrays, joint limits, bone names and what the network is to expect."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core import Body, Category, NetworkSpec, Proportion, Skeleton
from .appearance import coat_directions, mean_coat
from .landmarks import NAMES, PARENTS, REST, joints, mirror_joints, point, segments
from .morphology import COEFFICIENTS, morphology_bases
from .shape import build_surface, side_of_joints
from .weights import diffuse, heat_weights, keep_four, segment_distance

VERSION = "1.0.0"
BLUR = 0.0009
"""Square metres of heat flow that blur the weights for the morphology (radius about 4 cm)."""

# Rotation vector about X (nose down, leg back), Y and Z: (lowest X, highest X, |Y|, |Z|), radians.
LIMITS: dict[str, tuple[float, float, float, float]] = {
    "root": (0, 0, 0, 0), "pelvis": (-1.15, 0.8, 0.5, 0.6), "spine": (-0.6, 0.7, 0.5, 0.6),
    "chest": (-0.5, 0.6, 0.4, 0.5), "neck_1": (-0.9, 1.6, 0.5, 0.9), "neck_2": (-0.9, 1.3, 0.6, 0.9),
    "head": (-1.1, 1.2, 0.8, 0.9), "jaw": (-0.05, 0.9, 0.1, 0.1), "ear": (-1.0, 1.0, 1.0, 1.0),
    "front_upper": (-1.75, 1.35, 0.6, 0.8), "front_lower": (-2.1, 0.8, 0.65, 0.35),
    "front_foot": (-0.8, 2.2, 0.35, 0.35), "front_toe": (-1.3, 2.1, 0.5, 0.35),
    "hind_upper": (-1.4, 1.4, 0.7, 0.5), "hind_lower": (-1.15, 1.8, 0.7, 0.4),
    "hind_foot": (-1.8, 1.1, 0.6, 0.35), "hind_toe": (-1.3, 1.7, 0.45, 0.35),
    "tail_1": (-0.9, 2.3, 0.7, 1.3), "tail_2": (-1.2, 1.65, 0.6, 1.0), "tail_3": (-1.2, 1.45, 0.6, 1.0),
    "tail_4": (-1.2, 1.3, 0.6, 1.0),
}  # fmt: skip

# Blender's basic quadruped metarig; it has no jaw and no ears, which keep their own names.
RIGIFY = {
    "root": "spine.006", "pelvis": "spine.005", "spine": "spine.007", "chest": "spine.008",
    "neck_1": "spine.009", "neck_2": "spine.010", "head": "spine.011", "jaw": "jaw", "ear": "ear",
    "front_upper": "front_thigh", "front_lower": "front_shin", "front_foot": "front_foot",
    "front_toe": "front_toe", "hind_upper": "thigh", "hind_lower": "shin", "hind_foot": "foot",
    "hind_toe": "toe", "tail_1": "spine.003", "tail_2": "spine.002", "tail_3": "spine.001", "tail_4": "spine",
}  # fmt: skip

LICENCE = "GPL-3.0-or-later; predictor.onnx, errors.npz and refiner.onnx: CC-BY-SA-4.0"
CREDITS = (
    "Body blended from Husky, Fox and Horse of 'Ultimate Animated Animals' by Quaternius (CC0 1.0, quaternius.com); "
    "skeleton, weights, proportions and colours are this project's own. Network trained on renders of characters "
    "by Quaternius (CC0 1.0), of 'Horse' by Ravenlilli, 'Cat' by DreamNoms and 'Rabbit' by FourthGreen (all CC-BY 4.0, "
    "sketchfab.com), of 'Fox' (PixelMannen, CC0 1.0; rig and animation by tomkranis, CC-BY 4.0), of eighteen animals "
    "of the game 0 A.D. by Wildfire Games (CC-BY-SA 3.0, play0ad.com) and of the dog of dm_control by DeepMind "
    "(Apache-2.0), starting from EfficientNet-Lite0's ImageNet weights (Apache-2.0)."
)


def _role(name: str) -> str:
    base = name.split(".")[0]
    if base in ("head", "jaw", "ear"):
        return "head"
    if base.startswith("tail"):
        return "tail"
    if base.startswith(("front", "hind")):
        return "limb"
    return "root" if base == "root" else "spine"


def skeleton() -> Skeleton:
    """The 30 joints with their limits; left and right limits mirror each other."""
    rows = []
    for name in NAMES:
        low, high, y, z = LIMITS[name.split(".")[0]]
        rows.append([(low, high), (-y, y), (-z, z)])
    return Skeleton(NAMES, PARENTS, mirror_joints(), np.array(rows, float), tuple(_role(n) for n in NAMES))


def profiles() -> dict[str, dict[str, str]]:
    """Bone names of the joints: plain, and those of Rigify's basic quadruped metarig."""
    rigify = {}
    for name in NAMES:
        base, dot, side = name.partition(".")
        rigify[name] = RIGIFY[base] + dot + side
    return {"neutral": {n: n[0].upper() + n[1:] for n in NAMES}, "rigify": rigify}


def network(joints: int, morphology: int, side: int = 192) -> NetworkSpec:
    """What the student of a body takes and gives, until an exported one says so itself; side: of its crops, pixels."""
    return NetworkSpec(
        input_size=side,
        mean=(0.0,) * 4,
        std=(1.0,) * 4,
        opset=17,
        inputs={"crops": ("T", 4, side, side), "crop_info": ("T", 3)},
        outputs={
            "root_rotation": ("T", 6, 6),
            "root_translation": ("T", 6, 3),
            "root_logprob": ("T", 6),
            "joint_rotations": ("T", joints, 6),
            "morphology": ("T", morphology),
            "appearance": ("T", 8),
            "joint_confidence": ("T", joints),
        },
    )


def unwrap(vertices: np.ndarray, faces: np.ndarray, left: np.ndarray) -> np.ndarray:
    """UVs (F, 3, 2): the left half is unwrapped into u < 0.5 and the right half is its mirror image.

    left: the face (in `faces`) whose mirror image each face is, (F,); a left face's own number for itself.
    """
    import xatlas

    own = np.nonzero(left == np.arange(len(faces)))[0]
    _, index, coords = xatlas.parametrize(vertices.astype(np.float32), faces[own].astype(np.uint32))
    coords = coords / coords.max(0)
    half = np.zeros((len(faces), 3, 2))
    half[own] = coords[index]
    uv = half[left] * [0.485, 0.97] + [0.0075, 0.015]
    other = left != np.arange(len(faces))
    uv[other] = uv[other][:, ::-1]  # mirrored faces are wound the other way round
    uv[other, :, 0] = 1 - uv[other, :, 0]
    return uv


EARS = [NAMES.index("ear.L"), NAMES.index("ear.R")]


def ears_only(vertices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights (V, J) without the ears' hold on the skull, which lies nearer to their bones than to its own."""
    weights = weights.copy()
    for j in EARS:
        base, tip = point(REST, NAMES[j]), point(REST, "ear_tip" + NAMES[j][3:])
        axis = tip - base
        height = (vertices - base) @ axis / (axis @ axis)
        distance, _ = segment_distance(vertices, base, tip)
        gate = np.clip((height + 0.02) / 0.4, 0, 1) * np.clip((0.06 - distance) / 0.02, 0, 1)
        lost = weights[:, j] * (1 - gate)
        weights[:, j] -= lost
        weights[:, NAMES.index("head")] += lost
    return weights


def with_sharp_ears(soft: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Blurred weights (V, J) whose ears are not blurred: they are small beside it and would drag the skull along."""
    out = soft.copy()
    out[:, EARS] = 0
    ears = weights[:, EARS]
    out *= (1 - ears.sum(1, keepdims=True)) / np.maximum(out.sum(1, keepdims=True), 1e-9)
    out[:, EARS] = ears
    return out


def build_body(assets: Path) -> Body:
    """The whole body from the folder of source models; see `shape`, `weights`, `morphology`, `appearance`."""
    vertices, faces, mirror = build_surface(assets)
    count = len(NAMES)
    half = len(faces) // 2  # the mirrored faces follow in the same order, with their corners reversed
    rest, sides, swap = joints(REST), side_of_joints(), mirror_joints()
    weights = heat_weights(vertices, faces, segments(REST), count, 1.0, sides)
    weights = ears_only(vertices, (weights + weights[mirror][:, swap]) / 2)
    weights = diffuse(weights, vertices, faces, 0.00004)
    skin = diffuse(weights, vertices, faces, 0.00010)
    index, top = keep_four((skin + skin[mirror][:, swap]) / 2)
    soft = diffuse(weights, vertices, faces, BLUR)
    soft = with_sharp_ears(soft, weights)
    of_vertices, of_joints = morphology_bases(vertices, soft)
    flip = np.array([-1.0, 1, 1])
    of_vertices = (of_vertices + of_vertices[:, mirror] * flip) / 2
    colours = mean_coat(vertices, faces, weights)
    directions = coat_directions(vertices, faces, weights)
    return Body(
        vertices=vertices,
        faces=faces,
        skin_index=index,
        skin_weight=top,
        joints=rest,
        morphology_vertices=of_vertices,
        morphology_joints=of_joints,
        morphology_std=np.array([c.std for c in COEFFICIENTS]),
        appearance_mean=(colours + colours[mirror]) / 2,
        appearance_basis=(directions + directions[:, mirror]) / 2,
        uv=unwrap(vertices, faces, np.tile(np.arange(half), 2)),
        mirror_vertex=mirror,
    )


def quadruped(body: Body) -> Category:
    """The category around a body."""
    return Category(
        name="quadruped",
        version=VERSION,
        licence=LICENCE,
        credits=CREDITS,
        skeleton=skeleton(),
        profiles=profiles(),
        morphology=tuple(Proportion(c.name, c.label, c.minimum, c.maximum) for c in COEFFICIENTS),
        nominal_size=0.6,
        network=network(len(NAMES), len(COEFFICIENTS)),
        training={},
        body=body,
    )
