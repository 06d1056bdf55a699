# SPDX-License-Identifier: GPL-3.0-or-later
"""A baked rig in memory, and where the quadruped's joints lie on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from ...core.rotation import matrix_to_quat
from ...core.skinning import linear_blend
from ..errors import TrainingError
from ..npz import read_npz
from .rigs import RIGS, RigSpec, find_bone
from .rigs_game import GAME_RIGS
from .rigs_mujoco import MUJOCO_RIGS


def known_animals() -> dict[str, RigSpec]:
    """The tables of all animals, by rig."""
    return RIGS | {name: rig.spec for name, rig in (GAME_RIGS | MUJOCO_RIGS).items()}


@dataclass(frozen=True)
class Rig:
    """Mesh, weights and baked clips of one animal; the arrays are those of `bake` (see there)."""

    name: str
    vertices: np.ndarray  # (V, 3)
    faces: np.ndarray  # (F, 3)
    colours: np.ndarray  # (V, 3)
    point_index: np.ndarray  # (V,)
    skin_index: np.ndarray  # (V, 4)
    skin_weight: np.ndarray  # (V, 4)
    bone_names: tuple[str, ...]
    bone_parents: np.ndarray  # (B,)
    bone_rest: np.ndarray  # (B, 4, 4)
    bone_heads: np.ndarray  # (B, 3)
    bone_tails: np.ndarray  # (B, 3)
    clip_names: tuple[str, ...]
    clip_start: np.ndarray  # (C + 1,)
    pose: np.ndarray  # (T, B, 4, 4)
    fps: float

    def skin_transforms(self, pose_index: int | slice | np.ndarray) -> np.ndarray:
        """`posed_from_rest` of every bone, (B,4,4) for one index, (n,B,4,4) otherwise."""
        return self.pose[pose_index].astype(np.float64) @ np.linalg.inv(self.bone_rest.astype(np.float64))

    def skin(self, pose_index: int | slice | np.ndarray) -> np.ndarray:
        """Posed vertices, (V,3) for one index, (n,V,3) otherwise, metres."""
        transforms = self.skin_transforms(pose_index)
        one = transforms.ndim == 3
        posed = linear_blend(
            self.vertices, self.skin_index, self.skin_weight, transforms[None] if one else transforms
        )
        return posed[0] if one else posed

    def clip_slice(self, clip: int | str) -> slice:
        """The poses of one clip."""
        i = self.clip_names.index(clip) if isinstance(clip, str) else clip
        return slice(int(self.clip_start[i]), int(self.clip_start[i + 1]))

    def scaled(self, factor: float) -> Rig:
        """The same rig, `factor` times as large."""
        grow = np.diag([factor, factor, factor, 1.0])
        shrink = np.diag([1 / factor] * 3 + [1.0])
        return replace(
            self,
            vertices=self.vertices * factor,
            bone_heads=self.bone_heads * factor,
            bone_tails=self.bone_tails * factor,
            bone_rest=grow @ self.bone_rest @ shrink,
            pose=(grow @ self.pose @ shrink).astype(np.float32),
        )


def load_rig(path: str | Path) -> Rig:
    """Read a file that `bake` wrote. Raises OSError, and TrainingError naming a damaged file."""
    path = Path(path)
    a = read_npz(path, (f.name for f in fields(Rig) if f.name != "name"), "bake the rig again")
    return Rig(
        name=path.stem,
        vertices=a["vertices"].astype(np.float64),
        faces=a["faces"],
        colours=a["colours"],
        point_index=a["point_index"],
        skin_index=a["skin_index"],
        skin_weight=a["skin_weight"],
        bone_names=tuple(map(str, a["bone_names"])),
        bone_parents=a["bone_parents"],
        bone_rest=a["bone_rest"],
        bone_heads=a["bone_heads"],
        bone_tails=a["bone_tails"],
        clip_names=tuple(map(str, a["clip_names"])),
        clip_start=a["clip_start"],
        pose=a["pose"],
        fps=float(a["fps"]),
    )


def baked_rigs(folder: str | Path, known: Iterable[str]) -> list[str]:
    """Names of the baked rigs in a folder that a table is known for, sorted. Raises TrainingError for none."""
    found = [p.stem for p in sorted(Path(folder).glob("*.npz")) if not p.stem.endswith((".mapping", ".shape"))]
    if not found:
        raise TrainingError(f"{folder}: holds no baked rig; make some with the command bake")
    tables = set(known)
    names = [name for name in found if name in tables]
    if not names:
        raise TrainingError(
            f"{folder}: no table says which bone of '{found[0]}', or of another rig there, is which joint of this "
            "category; choose the category that they are rigs of with --category"
        )
    return names


@dataclass(frozen=True)
class RigMap:
    """Which bones carry each of the category's J joints, as weights over the rig's B bones.

    A joint's place at rest is `point` (NaN where the rig has none) and moves with `point_weight`; its rotation is
    the mean of the bones in `rotation_weight`, or its parent's where that row is zero.
    """

    point: np.ndarray  # (J, 3)
    point_weight: np.ndarray  # (J, B)
    rotation_weight: np.ndarray  # (J, B)
    tip: np.ndarray  # (J, 3) free end of ears and tail at rest, NaN for the other joints

    @property
    def has_point(self) -> np.ndarray:
        """(J,) bool."""
        return ~np.isnan(self.point[:, 0])

    def points(self, rig: Rig, pose_index: slice | np.ndarray) -> np.ndarray:
        """Places of the joints in some poses, (n,J,3); NaN where the rig has none."""
        transforms = rig.skin_transforms(pose_index)  # (n, B, 4, 4)
        home = np.concatenate([np.nan_to_num(self.point), np.ones((len(self.point), 1))], 1)
        moved = np.einsum("jb,nbik,jk->nji", self.point_weight, transforms, home)[..., :3]
        moved[:, ~self.has_point] = np.nan
        return moved

    def turns(self, rig: Rig, pose_index: slice | np.ndarray, parents: np.ndarray) -> np.ndarray:
        """Rotation of each joint away from rest, in the rig's world, as quaternions (n,J,4)."""
        matrices = rig.skin_transforms(pose_index)[..., :3, :3]
        u, _, vt = np.linalg.svd(matrices)  # nearest rotation: poses may hold a little scale
        proper = np.linalg.det(u @ vt)
        u[..., 2] *= proper[..., None]
        quats = matrix_to_quat(u @ vt)  # (n, B, 4)
        out = np.zeros((len(quats), len(self.point), 4))
        for j, weights in enumerate(self.rotation_weight):
            bones = np.flatnonzero(weights)
            if not len(bones):
                out[:, j] = out[:, parents[j]] if parents[j] >= 0 else [1, 0, 0, 0]
                continue
            chosen = quats[:, bones]
            sign = np.sign(np.sum(chosen * chosen[:, :1], -1, keepdims=True))
            mean = np.sum(chosen * np.where(sign == 0, 1, sign) * weights[bones][:, None], 1)
            out[:, j] = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
        return out


def rig_map(
    rig: Rig, joint_names: tuple[str, ...], joints: np.ndarray, spec: RigSpec | None = None
) -> RigMap:
    """Resolve a rig's table (`known_animals()[rig.name]` by default) for a skeleton with rest `joints` (J,3).

    Chains are sampled where the skeleton's own joints lie by arc length. KeyError for an unknown rig.
    """
    spec = spec or known_animals()[rig.name]
    names = list(rig.bone_names)
    count, bones = len(joint_names), len(names)
    point = np.full((count, 3), np.nan)
    point_weight, rotation_weight = np.zeros((count, bones)), np.zeros((count, bones))
    tip = np.full((count, 3), np.nan)
    index = {name: i for i, name in enumerate(joint_names)}
    for joint, link in spec.links.items():
        if joint not in index:
            continue
        row = index[joint]
        for key in link.bones:
            rotation_weight[row, find_bone(names, key)] = 1 / len(link.bones)
        if link.point is not None:
            bone = find_bone(names, link.point)
            point[row], point_weight[row, bone] = rig.bone_heads[bone], 1.0
        if joint.startswith("ear"):
            tip[row] = _tip(rig, find_bone(names, link.bones[0]), from_parent=True)
    for chain in spec.chains:
        rows = [index[j] for j in chain.joints]
        keys = [find_bone(names, b) for b in chain.bones]
        line = rig.bone_heads[keys].astype(np.float64)
        if chain.to_tip:
            tip[rows[-1]] = _tip(rig, keys[-1])
            line = np.vstack([line, tip[rows[-1]]])
            own = np.vstack([joints[rows], 2 * joints[rows[-1]] - joints[rows[-2]]])
        else:
            own = np.vstack([joints[rows], joints[index["head"]]])
            keys = keys[:-1]
        places, knots = _arc(own), _arc(line)
        for k, row in enumerate(rows):
            at = min(int(np.searchsorted(knots, places[k], side="right")) - 1, len(keys) - 1)
            part = (places[k] - knots[at]) / (knots[at + 1] - knots[at])
            point[row] = line[at] + part * (line[at + 1] - line[at])
            point_weight[row, keys[at]] = 1.0
            overlap = np.minimum(knots[1:], places[k + 1]) - np.maximum(knots[:-1], places[k])
            share = np.clip(overlap, 0, None)
            rotation_weight[row, keys] = share / share.sum()
    return RigMap(point, point_weight, rotation_weight, tip)


def _arc(line: np.ndarray) -> np.ndarray:
    """Arc length along a polyline (N,3) as fractions 0..1, (N,)."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()


def _tip(rig: Rig, bone: int, from_parent: bool = False) -> np.ndarray:
    """The point of the rest surface that follows a bone or its descendants and is farthest from its head, (3,).

    from_parent: farthest from the parent's head instead, for a bone whose head is not where its part begins.
    """
    family = np.zeros(len(rig.bone_names), bool)
    family[bone] = True
    for i, parent in enumerate(rig.bone_parents):  # parents come first
        family[i] |= parent >= 0 and family[parent]
    weight = (rig.skin_weight * family[rig.skin_index]).sum(1)
    own = rig.vertices[weight > 0.5 * weight.max()] if weight.max() > 0 else rig.bone_tails[bone][None]
    start = rig.bone_heads[rig.bone_parents[bone] if from_parent else bone]
    return own[np.argmax(np.linalg.norm(own - start, axis=1))]
