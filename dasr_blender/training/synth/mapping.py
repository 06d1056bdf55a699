# SPDX-License-Identifier: GPL-3.0-or-later
"""The true motion of a baked rig in the category's own parameters.

1. At rest, `fit_rest` lays the category's body on the rig: scale, morphology, joint rotations A_j.
2. In a pose, joint j turns as its bones do: R_j = mean(pose · rest⁻¹) · A_j; the torso gives the root.
3. The body's vertices, bound to the rig's surface where they lay at rest, are carried along by the rig's own
   skinning; `fit_poses` draws the joints to where those vertices went. Rigs and body differ in where they fold (a
   rig may have no elbow), and this is what spreads such a fold over the joints that the body has.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from ...core.category import Category, load_category
from ...core.mesh import vertex_normals
from ...core.rotation import (
    make_continuous,
    matrix_to_quat,
    matrix_to_rotvec,
    quat_multiply,
    quat_to_matrix,
    slerp,
)
from ...core.skeleton import forward_kinematics, local_from_global, skin_transforms
from ...core.skinning import linear_blend
from ..npz import read_npz
from .fit_rig import FitConfig, RestFit, fit_poses, fit_rest
from .mapping_check import body_hash, made_for, posed_body, residual
from .rig import Rig, RigMap, baked_rigs, known_animals, load_rig, rig_map
from .rigs import RigSpec

__all__ = ["Rig", "RigMotion", "load_mapping", "load_rig", "main_map", "map_rig", "posed_body", "residual"]


@dataclass(frozen=True)
class RigMotion:
    """A rig's clips as motion of the category.

    In the units of `rig.scaled(1 / scale)`, body points lie at `rig_from_root @ body`, and the transforms are rigid.
    """

    rig: str
    category: str
    category_version: str
    scale: float
    """Size of the rig over the size of the category's body."""
    morphology: np.ndarray  # (K,)
    joint_rotations: np.ndarray  # (T, J, 4) wxyz, local
    rig_from_root: np.ndarray  # (T, 4, 4)
    clip_names: np.ndarray  # (C,)
    clip_start: np.ndarray  # (C + 1,)
    joint_error: float
    """Mean distance of the joints the rig has, over the torso's length."""
    surface_error: float
    """Mean of both surface-to-surface distances over the torso's length, mean over sampled poses."""
    body: str = ""
    """`body_hash` of the category that it was made for; '' in files of earlier versions."""

    def clip_slice(self, clip: int | str) -> slice:
        """The poses of one clip."""
        i = list(self.clip_names).index(clip) if isinstance(clip, str) else clip
        return slice(int(self.clip_start[i]), int(self.clip_start[i + 1]))

    def save(self, path: str | Path) -> None:
        """Write an `.npz`, atomically."""
        path = Path(path)
        temporary = path.with_name(path.name + ".part")
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **{f.name: np.asarray(getattr(self, f.name)) for f in fields(self)})
        os.replace(temporary, path)


def load_mapping(path: str | Path) -> RigMotion:
    """Read what `RigMotion.save` wrote. Raises OSError, and TrainingError naming a damaged file."""
    names = [f.name for f in fields(RigMotion)]
    stored = read_npz(path, (name for name in names if name != "body"), "take it away and run the command map again")
    values: dict[str, Any] = {name: stored[name] for name in names if name in stored}
    for name in ("rig", "category", "category_version", "body"):
        values[name] = str(values.get(name, ""))
    for name in ("scale", "joint_error", "surface_error"):
        values[name] = float(values[name])
    return RigMotion(**values)


def map_rig(
    category: Category, rig: Rig, spec: RigSpec | None = None, config: FitConfig | None = None
) -> RigMotion:
    """Express every pose of `rig` in the category's parameters. KeyError for a rig without a table."""
    config = config or FitConfig()
    names, joints = category.skeleton.names, category.body.joints
    rest = fit_rest(category, rig, rig_map(rig, names, joints, spec), config)
    rig = rig.scaled(1 / rest.scale)
    mapping = rig_map(rig, names, joints, spec)
    poses = slice(0, len(rig.pose))
    points = mapping.points(rig, poses)
    local, root = _from_bones(category, rig, mapping, rest, points)
    chosen = _spread(category, config)
    goal = _carried(category, rig, rest, chosen)
    local, root = fit_poses(
        category,
        rest.morphology,
        local,
        root,
        goal,
        chosen,
        points,
        mapping.rotation_weight.sum(1) > 0,
        config,
    )
    rotations = matrix_to_quat(local)
    rotations[:, 0] = [1, 0, 0, 0]
    for start, stop in zip(rig.clip_start[:-1], rig.clip_start[1:], strict=True):
        rotations[start:stop] = make_continuous(rotations[start:stop])
    motion = RigMotion(
        rig=rig.name,
        category=category.name,
        category_version=category.version,
        scale=rest.scale,
        morphology=rest.morphology,
        joint_rotations=rotations.astype(np.float32),
        rig_from_root=root,
        clip_names=np.array(rig.clip_names, dtype=np.str_),
        clip_start=rig.clip_start,
        joint_error=0.0,
        surface_error=0.0,
        body=body_hash(category),
    )
    joint_error, surface_error = residual(category, rig, mapping, motion)
    return RigMotion(
        **{f.name: getattr(motion, f.name) for f in fields(motion)}
        | {"joint_error": joint_error, "surface_error": surface_error}
    )


def _from_bones(
    category: Category, rig: Rig, mapping: RigMap, rest: RestFit, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations (T,J,3,3) and rig_from_root (T,4,4) as the bones alone give them."""
    skeleton = category.skeleton
    joints = category.body.shaped(rest.morphology)[1]
    turns = mapping.turns(rig, slice(0, len(rig.pose)), skeleton.parents)  # (T, J, 4)
    middle = slerp(turns[:, skeleton.index("pelvis")], turns[:, skeleton.index("chest")], 0.5)
    turns[:, 0] = middle
    at_rest = forward_kinematics(skeleton, joints, matrix_to_quat(rest.rotations)[None])[0, :, :3, :3]
    world = matrix_to_quat(rest.rotation @ at_rest)  # A_j in the rig's world
    turned = quat_to_matrix(quat_multiply(turns, world[None]))
    local = local_from_global(skeleton, turned)
    for j in np.flatnonzero(mapping.rotation_weight.sum(1) == 0):
        local[:, j] = rest.rotations[j]
    local[:, 0] = np.eye(3)
    root = np.tile(np.eye(4), (len(local), 1, 1))
    root[:, :3, :3] = turned[:, 0]
    placed = (root[:, None] @ forward_kinematics(skeleton, joints, matrix_to_quat(local)))[..., :3, 3]
    root[:, :3, 3] = np.nanmean(points - placed, axis=1)
    return local, root


def _spread(category: Category, config: FitConfig) -> np.ndarray:
    """Vertices that speak for the body in the pose fit: drawn so that each joint has a like number."""
    body = category.body
    owner = body.owner
    share = 1 / np.bincount(owner, minlength=len(category.skeleton))[owner]
    count = min(config.pose_vertices, len(owner))
    return np.random.default_rng(config.seed).choice(len(owner), count, replace=False, p=share / share.sum())


def _carried(category: Category, rig: Rig, rest: RestFit, chosen: np.ndarray) -> np.ndarray:
    """Where the rig's skinning carries body vertices that lie on it at rest, (T,N,3); `rig` in body units."""
    vertices, joints = category.body.shaped(rest.morphology)
    transforms = skin_transforms(category.skeleton, joints, matrix_to_quat(rest.rotations)[None])
    body = linear_blend(vertices, category.body.skin_index, category.body.skin_weight, transforms)[0]
    body = body @ rest.rotation.T + rest.translation / rest.scale
    own = np.concatenate([body, 0.08 * vertex_normals(body, category.body.faces)], 1)[chosen]
    centres = rig.vertices[rig.faces].mean(1)
    corners = np.concatenate([rig.vertices[rig.faces[:, i]] for i in range(3)] + [centres])
    a, b, c = (rig.vertices[rig.faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    dense = np.zeros((len(rig.vertices), len(rig.bone_names)))
    np.add.at(dense, (np.arange(len(dense))[:, None], rig.skin_index), rig.skin_weight)
    weights = np.concatenate([dense[rig.faces[:, i]] for i in range(3)] + [dense[rig.faces].mean(1)])
    distance, near = cKDTree(np.concatenate([corners, 0.08 * np.tile(normal, (4, 1))], 1)).query(own, k=6)
    blend = 1 / (distance + 0.005)
    blend = (weights[near] * (blend / blend.sum(1, keepdims=True))[..., None]).sum(1)  # (N, B)
    moved = np.einsum("nb,tbik->tnik", blend, rig.skin_transforms(slice(0, len(rig.pose))), optimize=True)
    return np.einsum("tnik,nk->tni", moved[..., :3, :3], body[chosen], optimize=True) + moved[..., :3, 3]


def beyond_limits(category: Category, motion: RigMotion) -> np.ndarray:
    """Share of the poses in which each joint leaves its limits by more than a degree, (J,)."""
    vectors = matrix_to_rotvec(quat_to_matrix(motion.joint_rotations.astype(np.float64)))
    low, high = category.skeleton.limits[..., 0], category.skeleton.limits[..., 1]
    return ((vectors < low - 0.0175) | (vectors > high + 0.0175)).any(-1).mean(0)


def map_all(folder: str | Path, category: Category, redo: bool = False) -> list[RigMotion]:
    """Map every baked rig of a folder into `<name>.mapping.npz`; those made for this category's body are kept.

    Rigs without a table are left alone. Raises TrainingError when the folder holds no other, or a damaged file.
    """
    motions = []
    for name in baked_rigs(folder, known_animals()):
        path, target = (Path(folder) / f"{name}{suffix}" for suffix in (".npz", ".mapping.npz"))
        motion = load_mapping(target) if target.exists() and not redo else None
        if motion is None or not made_for(category, motion, lambda path=path: load_rig(path)):
            motion = map_rig(category, load_rig(path))
            motion.save(target)
        elif not motion.body:
            motion = replace(motion, body=body_hash(category))  # found to be so: that need not be found again
            motion.save(target)
        motions.append(motion)
        print(row(category, motion), flush=True)
    return motions


HEADER = (
    f"{'rig':22s} {'poses':>5s} {'scale':>6s} {'joints %':>8s} {'surface %':>9s} {'beyond limits %':>15s}"
)


def row(category: Category, motion: RigMotion) -> str:
    """One line of the residual table."""
    return (
        f"{motion.rig:22s} {len(motion.joint_rotations):5d} {motion.scale:6.3f} {100 * motion.joint_error:8.2f} "
        f"{100 * motion.surface_error:9.2f} {100 * beyond_limits(category, motion).mean():15.1f}"
    )


def main_map(argv: list[str] | None = None) -> int:
    """`map DIR --category quadruped`: map all baked rigs and print the residuals; people's shapes for humans."""
    parser = argparse.ArgumentParser(prog="map", description="Express baked rigs in a category's parameters.")
    parser.add_argument("rigs", type=Path, help="folder of `bake`")
    parser.add_argument("--category", default="quadruped", help="name or folder")
    parser.add_argument("--redo", action="store_true", help="map again what is there already")
    options = parser.parse_args(argv)
    category = load_category(options.category)
    torch.set_num_threads(1)  # many small steps: threads only wait for one another
    if "hand.L" in category.skeleton.names:
        from .human_rigs import map_humans  # people have no clips to map, only their shape

        map_humans(options.rigs, category, options.redo)
        return 0
    print(HEADER)
    motions = map_all(options.rigs, category, options.redo)
    worst = np.max([beyond_limits(category, m) for m in motions], axis=0)
    names = [f"{category.skeleton.names[j]} {100 * worst[j]:.0f} %" for j in np.flatnonzero(worst > 0.05)]
    print("beyond their limits in more than 5 % of some rig's poses: " + (", ".join(names) or "none"))
    return 0
