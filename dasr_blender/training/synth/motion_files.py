# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorded motions that come with pybullet: `pybullet_data/data/motions/humanoid3d_*.txt` (zlib licence).

The format is DeepMimic's: a row a frame of duration, the root's place and turn, then local turns of the joints,
angles for elbows and knees.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.rotation import make_continuous, matrix_to_quat, quat_to_matrix, rotvec_to_matrix, slerp
from ..errors import TrainingError
from .motions import INDEX, NAMES, HumanMotion, between, global_rotations, local_rotations, rig_motions
from .rig import Rig
from .rigs import RigSpec

_BODY_FROM_FILE = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""The files' figure stands along +Y, looks along +X and has its right at +Z."""
_FIELDS = (
    ("root", 4),
    ("chest", 4),
    ("neck", 4),
    ("thigh.R", 4),
    ("shin.R", 1),
    ("foot.R", 4),
    ("upper_arm.R", 4),
    ("forearm.R", 1),
    ("thigh.L", 4),
    ("shin.L", 1),
    ("foot.L", 4),
    ("upper_arm.L", 4),
    ("forearm.L", 1),
)
_COLUMNS = 44  # duration, place, then `_FIELDS`


def read_motion_file(path: Path) -> HumanMotion:
    """One `humanoid3d_*.txt` of pybullet_data. TrainingError for a file of another figure."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        table, loops = np.asarray(data["Frames"], float), data.get("Loop") == "wrap"
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is not a readable motion ({error}); get it again.") from error
    if table.ndim != 2 or table.shape[1] != _COLUMNS:
        raise TrainingError(f"{path} does not hold the {_COLUMNS} columns of a humanoid motion.")
    count = len(table)
    place = table[:, 1:4] @ _BODY_FROM_FILE.T
    turned: dict[str, np.ndarray] = {}
    column = 4
    for name, width in _FIELDS:
        value = table[:, column : column + width]
        column += width
        if width == 4:
            matrix = quat_to_matrix(value / np.linalg.norm(value, axis=1, keepdims=True))
        else:
            matrix = rotvec_to_matrix(value * np.array([[0.0, 0.0, 1.0]]))
        turned[name] = _BODY_FROM_FILE @ matrix @ _BODY_FROM_FILE.T
    local = np.tile(np.eye(3), (count, len(NAMES), 1, 1))
    for name, parts in (("chest", ("spine_1", "spine_2", "chest")), ("neck", ("neck", "head"))):
        share = slerp(np.array([1.0, 0, 0, 0]), matrix_to_quat(turned[name]), np.array(1 / len(parts)))
        for part in parts:
            local[:, INDEX[part]] = quat_to_matrix(share)
    for name, matrix in turned.items():
        if name not in ("root", "chest", "neck"):
            local[:, INDEX[name]] = matrix
    arms = np.tile(np.eye(3), (len(NAMES), 1, 1))  # there the arms hang at rest
    for side, sign in (("L", 1), ("R", -1)):
        lowered = between(np.array([sign, 0.0, 0.0]), np.array([0.0, 0.0, -1.0]))
        for name in ("upper_arm", "forearm", "hand"):
            arms[INDEX[f"{name}.{side}"]] = lowered
    world = np.tile(np.eye(4), (count, 1, 1))
    world[:, :3, :3], world[:, :3, 3] = turned["root"], place
    rotations = matrix_to_quat(local_rotations(global_rotations(local) @ arms))
    name = path.stem.removeprefix("humanoid3d_")
    loops = loops and path.parent.name != "walker"
    return HumanMotion(name, make_continuous(rotations), world, 1 / table[0, 0], loops, "pybullet_data")


def find_motion_files(folder: Path | None) -> list[Path]:
    """The motion files under `folder`, or of the installed package pybullet_data.

    FileNotFoundError saying how to get them if there are none.
    """
    if folder is None:
        try:
            import pybullet_data  # pyright: ignore[reportMissingImports]

            folder = Path(pybullet_data.getDataPath()) / "data" / "motions"
        except ModuleNotFoundError:
            raise FileNotFoundError(
                "Human clips need recorded motions: give --motions the folder 'pybullet_data/data/motions' of the "
                "package pybullet (unzip its wheel, or pip install pybullet)."
            ) from None
    files = sorted(folder.rglob("humanoid3d_*.txt")) + sorted(folder.rglob("walker/*.txt"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no humanoid3d_*.txt; give --motions the folder that does.")
    return files


def load_motions(folder: Path | None, rigs: Sequence[tuple[Rig, RigSpec]] = ()) -> list[HumanMotion]:
    """All recorded motions: the files under `folder` (or of pybullet_data) and the clips of `rigs`."""
    found = [read_motion_file(path) for path in find_motion_files(folder)]
    for rig, spec in rigs:
        found += list(rig_motions(rig, spec))
    return found
