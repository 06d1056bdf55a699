# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigged people without clips of their own: posed by the motion library, so that their labels are exact.

`map` fits the human body's size and proportions to each baked rig once (`<name>.shape.npz`); after that a motion
turns the rig's bones and the label's joints alike.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...core.category import Category
from ...core.rotation import matrix_to_quat, quat_to_matrix
from ...core.skinning import linear_blend
from ..errors import TrainingError
from ..npz import read_npz
from .motions import INDEX, NAMES, HumanMotion, global_rotations, local_rotations, rig_correction
from .rig import Rig, RigMap, baked_rigs, load_rig
from .rigs_game import GAME_MOTIONS, GAME_PEOPLE
from .rigs_human import FILE_PEOPLE
from .skins import beside
from .subjects import body_in_world, joints_in_world

HUMAN_RIGS = FILE_PEOPLE | {name: rig.spec for name, rig in GAME_PEOPLE.items()}
MOTION_RIGS = ("KayKit_Knight", GAME_MOTIONS)
"""Rigs whose clips are retargeted; their own bodies are not shown."""
_ANCHORS = tuple(f"{n}.{s}" for n in ("thigh", "shin", "upper_arm", "forearm") for s in "LR")
POSTURE = ("root", "spine_1", "spine_2", "chest", "neck", "shoulder.L", "shoulder.R")
"""Joints that stand differently in a rig's rest pose than in the body's, as the fit found; limbs go by direction."""


@dataclass(frozen=True)
class HumanRig:
    """A baked rig in the category's units, with what is needed to pose it as a motion says.

    bone (J,): the rig's bone of each joint, −1 without; driver (B,): the joint whose turn each bone takes;
    correction (J, 3, 3): `rig_correction`; posture (J, 3, 3): turn of the body's joints in the rig's rest pose;
    morphology (K,); confidence (J,).
    """

    rig: Rig
    bone: np.ndarray
    driver: np.ndarray
    correction: np.ndarray
    posture: np.ndarray
    morphology: np.ndarray
    confidence: np.ndarray

    def posed(self, motion: HumanMotion) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (T, V, 3) and the rig's joints (T, J, 3; NaN without a bone), in the root's frame turned to
        the world but not moved: the rig's root bone stays where it is at rest."""
        turned = motion.world_from_root[:, None, :3, :3] @ global_rotations(quat_to_matrix(motion.rotations))
        turn = turned @ self.correction
        rig, count = self.rig, len(motion)
        skin = np.tile(np.eye(4), (count, len(rig.bone_names), 1, 1))
        for b, parent in enumerate(rig.bone_parents):
            head = rig.bone_heads[b].astype(np.float64)
            at = head[None] if parent < 0 else skin[:, parent, :3, :3] @ head + skin[:, parent, :3, 3]
            skin[:, b, :3, :3] = turn[:, self.driver[b]]
            skin[:, b, :3, 3] = at - skin[:, b, :3, :3] @ head
        vertices = linear_blend(
            rig.vertices.astype(np.float32), rig.skin_index, rig.skin_weight, skin.astype(np.float32)
        )
        joints = np.full((count, len(NAMES), 3), np.nan)
        for j in np.flatnonzero(self.bone >= 0):
            home = np.append(rig.bone_heads[self.bone[j]], 1.0)
            joints[:, j] = (skin[:, self.bone[j]] @ home)[:, :3]
        return vertices, joints

    def reshaped(self, category: Category, morphology: np.ndarray) -> HumanRig:
        """The same person in other proportions (K,): what lies beside the body moves as the body does."""
        (body, joints), (other, moved) = (self._at_rest(category, m) for m in (self.morphology, morphology))
        known = self.bone >= 0
        found = np.where(known[:, None], self.rig.bone_heads[self.bone], np.nan)
        points = np.concatenate([self.rig.vertices, self.rig.bone_heads])
        _, near, share = beside(body + anchor_offset(found[None], joints[None]), points, 0.01)
        points += np.einsum("nk,nki->ni", share, (other - body)[near])
        vertices, heads = np.split(points, [len(self.rig.vertices)])
        heads[self.bone[known]] = (found + moved - joints)[known]
        return human_rig(replace(self.rig, vertices=vertices, bone_heads=heads), morphology, self.posture)

    def _at_rest(self, category: Category, morphology: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The body's vertices (V, 3) and joints (J, 3) as they stand in the rig's rest pose."""
        world = np.eye(4)[None]
        world[0, :3, :3] = self.posture[0]
        posed = category, morphology, matrix_to_quat(local_rotations(self.posture[None])), world
        return body_in_world(*posed)[1][0], joints_in_world(*posed, range(len(NAMES)))[0]


def anchor_offset(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(T, 3) that moves joints `wanted` (T, J, 3) onto the rig's `found` (T, J, 3): the mean of the limbs'."""
    rows = [INDEX[n] for n in _ANCHORS]
    return np.nanmean(found[:, rows] - wanted[:, rows], axis=1)


def joint_map(rig: Rig) -> RigMap:
    """The rig's joints and bones as the rest fit wants them."""
    bone, _ = rig_correction(rig, HUMAN_RIGS[rig.name])
    point = np.full((len(NAMES), 3), np.nan)
    weight = np.zeros((len(NAMES), len(rig.bone_names)))
    for j in np.flatnonzero(bone >= 0):
        point[j], weight[j, bone[j]] = rig.bone_heads[bone[j]], 1.0
    free = weight.copy()
    point[[0, *(INDEX[f"hand.{s}"] for s in "LR")]] = np.nan  # hips and wrists are where an artist likes
    return RigMap(point, np.where(np.isnan(point[:, :1]), 0, weight), free, np.full((len(NAMES), 3), np.nan))


def fit_shape(category: Category, rig: Rig) -> tuple[float, np.ndarray, np.ndarray]:
    """The rig's size over the body's, its morphology (K,), and the body's joints in its rest pose (J, 3, 3)."""
    from .fit_rig import FitConfig, fit_rest  # torch

    rest = fit_rest(category, rig, joint_map(rig), FitConfig(morphology_sigma=1.2))
    return rest.scale, rest.morphology, rest.rotation @ global_rotations(rest.rotations[None])[0]


def map_humans(folder: Path, category: Category, redo: bool = False) -> list[str]:
    """Fit every baked person of a folder into `<name>.shape.npz`; those of this category's body are kept.

    Raises TrainingError when the folder holds nobody that is known, or a damaged file.
    """
    done = []
    for name in baked_rigs(folder, HUMAN_RIGS):
        source, target = folder / f"{name}.npz", folder / f"{name}.shape.npz"
        if name in MOTION_RIGS:
            continue
        if redo or not target.exists() or _stale(target, category):
            scale, morphology, posture = fit_shape(category, load_rig(source))
            temporary = target.with_name(target.name + ".part")
            with open(temporary, "wb") as file:
                np.savez(file, scale=scale, morphology=morphology, posture=posture, body=shape_hash(category))
            os.replace(temporary, target)
        data = _read_shape(target)
        proportions = " ".join(
            f"{p.name} {v:+.2f}" for p, v in zip(category.morphology, data["morphology"], strict=True)
        )
        print(f"{name:14s} scale {float(data['scale']):.3f}  {proportions}", flush=True)
        done.append(name)
    return done


def _read_shape(path: Path) -> dict[str, np.ndarray]:
    return read_npz(path, ("scale", "morphology", "posture", "body"), "take it away and run the command map again")


def _stale(path: Path, category: Category) -> bool:
    return str(_read_shape(path)["body"]) != shape_hash(category)


def shape_hash(category: Category) -> str:
    """What a fit depends on: surface, joints and proportions, not colours."""
    body = category.body
    digest = hashlib.sha256()
    for array in (body.vertices, body.joints, body.morphology_vertices, body.morphology_joints):
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    return digest.hexdigest()


def load_human_rig(folder: Path, name: str, category: Category) -> HumanRig:
    """One person. FileNotFoundError or TrainingError when it was not mapped for this body."""
    path = Path(folder) / f"{name}.shape.npz"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; run the command map with --category {category.name} first."
        )
    if _stale(path, category):
        raise TrainingError(f"{path} was fitted to another body of {category.name}; run the command map again.")
    data = _read_shape(path)
    scale, morphology, posture = float(data["scale"]), data["morphology"], data["posture"]
    return human_rig(load_rig(Path(folder) / f"{name}.npz").scaled(1 / scale), morphology, posture)


def human_rig(rig: Rig, morphology: np.ndarray, posture: np.ndarray | None = None) -> HumanRig:
    """Resolve a baked rig that is in the category's units already; posture: the body stands as the rig does."""
    bone, correction = rig_correction(rig, HUMAN_RIGS[rig.name])
    driver = np.zeros(len(rig.bone_names), int)
    for b, parent in enumerate(rig.bone_parents):
        mine = np.flatnonzero(bone == b)
        driver[b] = mine[0] if len(mine) else driver[parent] if parent >= 0 else 0
    confidence = np.where(bone >= 0, 1.0, 0.3)
    if posture is None:
        posture = np.tile(np.eye(3), (len(NAMES), 1, 1))
    return HumanRig(rig, bone, driver, correction, posture, morphology, confidence)
