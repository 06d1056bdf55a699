# SPDX-License-Identifier: GPL-3.0-or-later
"""A little made-up quadruped on the standard skeleton, built in code, for tests that need a category."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dasr_blender.core import Body, Category, NetworkSpec, Proportion, Skeleton, save_category

Array = np.ndarray

# name, parent, position (metres, relative to the root), lower and upper limit of the rotation vector, role
_CENTRE = [
    ("root", None, (0, 0, 0), 0.0, "root"),
    ("pelvis", "root", (0, 0.22, 0.02), 0.6, "spine"),
    ("spine", "root", (0, -0.08, 0.02), 0.6, "spine"),
    ("chest", "spine", (0, -0.22, 0.02), 0.6, "spine"),
    ("neck_1", "chest", (0, -0.36, 0.06), 0.8, "spine"),
    ("neck_2", "neck_1", (0, -0.43, 0.14), 0.8, "spine"),
    ("head", "neck_2", (0, -0.50, 0.22), 1.0, "head"),
    ("jaw", "head", (0, -0.54, 0.19), 0.5, "head"),
]
_EAR = ("ear", "head", (0.04, -0.49, 0.28), 0.5, "head")
_FRONT = [
    ("front_upper", "chest", (0.08, -0.30, -0.06), 1.2, "limb"),
    ("front_lower", "front_upper", (0.08, -0.27, -0.22), 1.5, "limb"),
    ("front_foot", "front_lower", (0.08, -0.29, -0.38), 1.5, "limb"),
    ("front_toe", "front_foot", (0.08, -0.30, -0.48), 1.0, "limb"),
]
_HIND = [
    ("hind_upper", "pelvis", (0.08, 0.26, -0.02), 1.2, "limb"),
    ("hind_lower", "hind_upper", (0.08, 0.20, -0.20), 1.5, "limb"),
    ("hind_foot", "hind_lower", (0.08, 0.30, -0.36), 1.5, "limb"),
    ("hind_toe", "hind_foot", (0.08, 0.27, -0.48), 1.0, "limb"),
]
_TAIL = [
    (f"tail_{k + 1}", f"tail_{k}" if k else "pelvis", (0, 0.34 + 0.07 * k, 0.04 - 0.03 * k), 0.8, "tail")
    for k in range(4)
]
MORPHOLOGY = (
    "leg_length",
    "body_length",
    "girth",
    "neck_length",
    "neck_girth",
    "head_size",
    "muzzle",
    "ear_size",
    "tail_length",
    "leg_girth",
    "hump",
)
# joint: the end of the box that hangs on it when no child continues it, and the box's half width
_TIPS = {
    "head": ((0, -0.66, 0.17), 0.055),
    "jaw": ((0, -0.64, 0.13), 0.02),
    "front_toe": ((0, -0.05, -0.02), 0.025),
    "hind_toe": ((0, -0.05, -0.02), 0.025),
    "ear": ((0, 0, 0.07), 0.015),
    "tail_4": ((0, 0.62, -0.08), 0.012),
}
_WIDTHS = {"limb": 0.03, "spine": 0.08, "tail": 0.015, "head": 0.05, "root": 0.09}
_RINGS = 3


def standard_skeleton() -> tuple[Skeleton, Array]:
    """The 30-joint quadruped skeleton and its rest joints ``(30, 3)``."""
    rows: list[tuple[str, str | None, tuple[float, ...], float, str]] = list(_CENTRE)
    for side, sign in ((".L", 1), (".R", -1)):
        rows.append((_EAR[0] + side, _EAR[1], (_EAR[2][0] * sign, *_EAR[2][1:]), *_EAR[3:]))
    for limb in (_FRONT, _HIND):
        for side, sign in ((".L", 1), (".R", -1)):
            for name, parent, place, limit, role in limb:
                above = parent if parent in ("chest", "pelvis") else parent + side
                rows.append((name + side, above, (place[0] * sign, *place[1:]), limit, role))
    rows += _TAIL
    names = [row[0] for row in rows]
    other = [n[:-2] + {".L": ".R", ".R": ".L"}[n[-2:]] if n[-2:] in (".L", ".R") else n for n in names]
    skeleton = Skeleton(
        names=tuple(names),
        parents=np.array([names.index(row[1]) if row[1] else -1 for row in rows]),
        mirror=np.array([names.index(n) for n in other]),
        limits=np.array([[[-row[3], row[3]]] * 3 for row in rows]),
        roles=tuple(row[4] for row in rows),
    )
    return skeleton, np.array([row[2] for row in rows], np.float64)


def _box(start: Array, end: Array, half: float) -> tuple[Array, Array]:
    """A square tube of a few rings from `start` to `end`, closed: vertices and triangles facing out."""
    axis = (end - start) / np.linalg.norm(end - start)
    side = np.array([1.0, 0, 0])
    up = np.cross(axis, side)
    up /= np.linalg.norm(up)
    side = np.cross(up, axis)
    corners = np.array([side + up, -side + up, -side - up, side - up]) * half
    rings = [start + (end - start) * t + corners for t in np.linspace(0, 1, _RINGS)]
    faces = []
    for r in range(_RINGS - 1):
        for k in range(4):
            a, b = r * 4 + k, r * 4 + (k + 1) % 4
            faces += [(a, b, a + 4), (b, b + 4, a + 4)]
    last = (_RINGS - 1) * 4
    faces += [(0, 2, 1), (0, 3, 2), (last, last + 1, last + 2), (last, last + 2, last + 3)]
    return np.concatenate(rings), np.array(faces)


def toy_body(skeleton: Skeleton, joints: Array) -> Body:
    """Boxes from joint to joint: about 300 vertices, smooth weights over each joint."""
    vertices, faces, weights = [], [], []
    total = 0
    for j, name in enumerate(skeleton.names):
        base = name[:-2] if name[-2:] in (".L", ".R") else name
        children = [c for c in skeleton.children(j) if skeleton.names[c].split("_")[0] in base]
        tip, half = _TIPS.get(base, (None, _WIDTHS[skeleton.roles[j]]))
        if tip is not None:
            end = joints[j] + tip if base.endswith("toe") or base == "ear" else np.array(tip)
        elif base == "root":
            end = joints[skeleton.index("pelvis")]
        elif base == "pelvis":
            end = joints[skeleton.index("tail_1")]
        elif base in ("spine", "chest", "neck_2"):
            end = joints[skeleton.children(j)[0]]
        else:
            end = joints[children[0]] if children else joints[skeleton.children(j)[0]]
        points, triangles = _box(joints[j], end, half)
        vertices.append(points)
        faces.append(triangles + total)
        total += len(points)
        along = np.repeat(np.linspace(0, 1, _RINGS), 4)
        parent = max(int(skeleton.parents[j]), 0)
        share = np.clip(0.5 - along, 0, 0.5)  # the near end moves half with the parent
        weights += [((parent, j, 0, 0), (s, 1 - s, 0, 0)) for s in share]
    points = np.concatenate(vertices)
    mirrored = points * [-1, 1, 1]
    mirror = np.argmin(np.linalg.norm(points[None] - mirrored[:, None], axis=2), axis=1)
    index = np.array([w[0] for w in weights])
    weight = np.array([w[1] for w in weights])
    basis_joints = _morphology(skeleton, joints)  # (K, J, 3)
    # vertices follow the joints they hang on, and grow about their own joint
    basis = np.einsum("vi,kvic->kvc", weight, basis_joints[:, index])
    own = index[:, 1]
    for k, (scaled, axes) in enumerate(_SCALES):
        here = np.array([n.startswith(scaled) for n in skeleton.names])[own]
        basis[k] += np.where(here[:, None], (points - joints[own]) * axes, 0)
    rng = np.random.default_rng(0)
    triangles = np.concatenate(faces)
    return Body(
        vertices=points,
        faces=triangles,
        skin_index=index,
        skin_weight=weight,
        joints=joints,
        morphology_vertices=basis,
        morphology_joints=basis_joints,
        morphology_std=np.full(len(MORPHOLOGY), 0.3),
        appearance_mean=np.clip(0.5 + points * 0.5, 0, 1),
        appearance_basis=rng.normal(0, 0.05, (3, len(points), 3)),
        uv=_tiles(len(triangles)),
        mirror_vertex=mirror,
    )


def _tiles(count: int) -> Array:
    """A UV map (F, 3, 2) of separate triangles, each in a square of its own."""
    side = int(np.ceil(np.sqrt(count)))
    place = np.stack(np.divmod(np.arange(count), side), 1)[:, None]
    return (place + np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]])) / side


# joints whose boxes a proportion scales, and along which axes
_SCALES: tuple[tuple[tuple[str, ...], tuple[float, float, float]], ...] = (
    (("front_", "hind_"), (0, 0, 1)),
    (("root", "spine", "chest", "pelvis"), (0, 1, 0)),
    (("root", "spine", "chest", "pelvis"), (1, 0, 1)),
    (("neck",), (0, 1, 1)),
    (("neck",), (1, 0, 0)),
    (("head", "jaw"), (1, 1, 1)),
    (("head", "jaw"), (0, 1, 0)),
    (("ear",), (1, 1, 1)),
    (("tail",), (0, 1, 1)),
    (("front_", "hind_"), (1, 1, 0)),
    (("chest",), (0, 0, 0.5)),
)


def _morphology(skeleton: Skeleton, joints: Array) -> Array:
    """How each proportion moves the joints, ``(K, J, 3)``: bones lengthen, and all below them follows."""
    basis = np.zeros((len(MORPHOLOGY), len(joints), 3))
    lengthen = {
        "leg_length": (("front_lower", "front_foot", "front_toe", "hind_lower", "hind_foot", "hind_toe"), 2),
        "body_length": (("pelvis", "spine", "chest", "neck_1"), 1),
        "neck_length": (("neck_2", "head"), slice(1, 3)),
        "tail_length": (("tail_2", "tail_3", "tail_4"), slice(1, 3)),
        "head_size": (("jaw", "ear"), slice(0, 3)),
    }
    for k, proportion in enumerate(MORPHOLOGY):
        names, axes = lengthen.get(proportion, ((), 0))
        for j in range(1, len(joints)):
            parent = int(skeleton.parents[j])
            basis[k, j] = basis[k, parent]
            if skeleton.names[j].startswith(names) and names:
                basis[k, j, axes] += (joints[j] - joints[parent])[axes]
    return basis


def toy_category_in_memory() -> Category:
    """The toy quadruped, not yet saved: 30 joints, 11 proportions, a 3-number appearance."""
    skeleton, joints = standard_skeleton()
    rigify = {name: f"DEF-{name}" for name in skeleton.names}
    return Category(
        name="toy",
        version="1.0.0",
        licence="CC0-1.0",
        credits="Made up in code.",
        skeleton=skeleton,
        profiles={"neutral": {name: name for name in skeleton.names}, "rigify": rigify},
        morphology=tuple(
            Proportion(name, name.replace("_", " ").capitalize(), -0.5, 0.8) for name in MORPHOLOGY
        ),
        nominal_size=0.6,
        network=NetworkSpec(
            input_size=64,
            mean=(0.5, 0.5, 0.5, 0.0),
            std=(0.25, 0.25, 0.25, 1.0),
            opset=17,
            inputs={"crops": ("T", 4, 64, 64), "crop_info": ("T", 3)},
            outputs={"joint_rotations": ("T", 30, 6), "morphology": ("T", 11)},
            temporal_radius=6,
        ),
        training={"made": "in code"},
        body=toy_body(skeleton, joints),
    )


def save_toy_category(folder: Path) -> Path:
    """Write the toy category to `folder`/toy and return that folder."""
    return save_category(toy_category_in_memory(), Path(folder) / "toy")


def toy_rotations(skeleton: Skeleton, frames: int, amount: float = 0.3, seed: int = 0) -> Array:
    """A smooth made-up motion, ``(T, J, 4)``, within the limits, identity at the root."""
    from dasr_blender.core import clamp_rotations
    from dasr_blender.core.rotation import rotvec_to_quat

    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (1, len(skeleton), 3))
    time = np.arange(frames)[:, None, None] * (2 * np.pi / 12)
    vectors = amount * np.sin(time + phase)
    vectors[:, 0] = 0
    return clamp_rotations(skeleton, rotvec_to_quat(vectors))


def toy_motion(category: Category, frames: int = 8, image_size: tuple[int, int] = (320, 240), seed: int = 0):
    """A made-up motion of `category`: it turns slowly before a camera 2.5 m away and stays in view."""
    from dasr_blender.core import Motion, default_focal
    from dasr_blender.core.rotation import rotvec_to_matrix

    # body Z up to camera y down: the animal seen from its front
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    turn = rotvec_to_matrix(np.linspace(0.4, 1.4, frames)[:, None] * np.array([0, 0, 1.0]))
    pose = np.tile(np.eye(4), (frames, 1, 1))
    pose[:, :3, :3] = upright @ turn
    pose[:, 2, 3] = 2.5
    pose[:, 0, 3] = np.linspace(-0.1, 0.1, frames)
    rng = np.random.default_rng(seed)
    joints = len(category.skeleton)
    return Motion(
        fps=25.0,
        frame_index=np.arange(frames),
        image_size=np.array(image_size),
        focal_px=np.full(frames, default_focal(image_size)),
        principal_point=np.array(image_size) / 2,
        camera_from_root=pose,
        joint_rotations=toy_rotations(category.skeleton, frames, seed=seed),
        morphology=rng.uniform(-0.2, 0.2, len(category.morphology)),
        appearance=rng.normal(0, 1, len(category.body.appearance_basis)),
        confidence=np.linspace(0.5, 1, frames),
        joint_confidence=np.full((frames, joints), 0.8),
        mask_iou=np.full(frames, 0.7),
        category=category.name,
        category_version=category.version,
        source="toy.mp4",
        source_hash="0" * 64,
    )


ARTIST_NAMES = {
    "root": "Armature_root",
    "pelvis": "Hips",
    "spine": "Spine01",
    "chest": "Spine02",
    "neck_1": "Neck1",
    "neck_2": "Neck2",
    "head": "Head",
    "jaw": "Jaw",
    **{f"tail_{k}": f"Tail_{k:02d}" for k in range(1, 5)},
}
ARTIST_LIMBS = {"ear": "Ear", "front_upper": "FrontUpLeg", "front_lower": "FrontLowLeg", "front_foot": "FrontFoot"}
ARTIST_LIMBS |= {"front_toe": "FrontToe", "hind_upper": "Thigh", "hind_lower": "Shin"}
ARTIST_LIMBS |= {"hind_foot": "Foot", "hind_toe": "Toe"}


def artist_name(joint: str, left: str = "Left", right: str = "Right") -> str:
    """The bone of a joint, in the words of another artist."""
    if joint in ARTIST_NAMES:
        return ARTIST_NAMES[joint]
    stem, side = joint.split(".")
    return f"{left if side == 'L' else right}{ARTIST_LIMBS[stem]}"
