# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads MakeHuman's base mesh, targets, rig and weights (CC0) into body axes and metres.

MakeHuman: decimetres, Y up, looks along +Z, its left is +X. Ours: metres, Z up, looks along −Y, left +X,
so (x, y, z) → (x, −z, y) / 10.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...core import CategoryError

RACES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
RIG = "mixamo"


def _to_body(rows: np.ndarray) -> np.ndarray:
    return np.stack([rows[:, 0], -rows[:, 2], rows[:, 1]], 1) / 10


@dataclass(frozen=True)
class Macro:
    """A whole-body character. sex: 0 female … 1 male; age: 0 young … 1 old; muscle and weight: −1 … 1."""

    sex: float = 0.5
    age: float = 0.25
    muscle: float = 0.0
    weight: float = 0.0


class MakeHuman:
    """The material of one folder; every vertex array has the rows of `base.obj`, helpers included, (N, 3)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "base.obj").is_file():
            raise CategoryError(f"{folder}: there is no base.obj; give MakeHuman's data folder as --source.")
        try:
            self.base, self.quads, self.groups = _read_obj(folder / "base.obj")
        except (IndexError, KeyError, ValueError) as error:
            raise CategoryError(f"{folder / 'base.obj'}: not MakeHuman's base mesh; complete the folder.") from error
        self._cache: dict[str, np.ndarray] = {}

    def target(self, name: str) -> np.ndarray:
        """Displacement (N, 3) of `targets/NAME.target.gz`."""
        if name not in self._cache:
            path = self.folder / "targets" / f"{name}.target.gz"
            try:
                with gzip.open(path, "rt", encoding="utf-8") as lines:
                    rows = np.array(
                        [line.split() for line in lines if line.strip() and line[0] != "#"], float
                    )
                rows = rows.reshape(-1, 4)
            except (OSError, ValueError) as error:
                raise CategoryError(
                    f"{path}: not a readable target ({error}); complete the folder."
                ) from error
            moved = np.zeros_like(self.base)
            moved[rows[:, 0].astype(int)] = _to_body(rows[:, 1:4])
            self._cache[name] = moved
        return self._cache[name]

    def shape(self, macro: Macro) -> np.ndarray:
        """Vertices (N, 3) of a character, the three ancestries in equal parts."""
        out = self.base.copy()
        for sex, share in zip(SEXES, (1 - macro.sex, macro.sex), strict=True):
            for age, part in (("young", 1 - macro.age), ("old", macro.age)):
                for race in RACES:
                    out += share * part / len(RACES) * self.target(f"{race}-{sex}-{age}")
            for muscle, m in _corners(macro.muscle):
                for weight, w in _corners(macro.weight):
                    if share * m * w:
                        out += (
                            share
                            * m
                            * w
                            * self.target(f"universal-{sex}-young-{muscle}muscle-{weight}weight")
                        )
        return out

    def _json(self, name: str, key: str) -> dict[str, Any]:
        """A file of `rigs/` that holds `key`."""
        path = self.folder / "rigs" / name
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CategoryError(f"{path}: not a readable rig ({error}); complete the folder.") from error
        if not isinstance(data, dict) or key not in data:
            raise CategoryError(f"{path}: holds no '{key}'; complete the folder.")
        return data

    @cached_property
    def rig(self) -> dict[str, dict]:
        """Bone name without its prefix → the rig's own entry."""
        data = self._json(f"rig.{RIG}.json", "bones")
        return {name.split(":")[-1]: bone for name, bone in data["bones"].items()}

    def head(self, bone: str, vertices: np.ndarray) -> np.ndarray:
        """Where a bone starts (3,) in the character `vertices`."""
        end = self.rig[bone]["head"]
        rows = self.groups[end["cube_name"]] if end["strategy"] == "CUBE" else end["vertex_indices"]
        return vertices[rows].mean(0)

    def weights(self, joint_of: dict[str, int], count: int) -> np.ndarray:
        """Weights (N, count), rows that sum to 1 where the rig holds them; bones outside `joint_of` go to the
        nearest of their parents that is in it."""
        data = self._json(f"weights.{RIG}.json", "weights")
        out = np.zeros((len(self.base), count))
        for name, pairs in data["weights"].items():
            bone = name.split(":")[-1]
            while bone not in joint_of:
                bone = self.rig[bone]["parent"].split(":")[-1]
            for vertex, weight in pairs:
                out[int(vertex), joint_of[bone]] += weight
        return out / np.maximum(out.sum(1, keepdims=True), 1e-9)


def _corners(value: float) -> tuple[tuple[str, float], tuple[str, float]]:
    return ("average", 1 - abs(value)), ("max" if value > 0 else "min", abs(value))


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Vertices (N, 3), quads (Q, 4) of the group 'body', and the vertices of every group."""
    vertices: list[list[str]] = []
    faces: dict[str, list[list[int]]] = {}
    group = ""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            word, *rest = line.split() or [""]
            if word == "v":
                vertices.append(rest[:3])
            elif word == "g":
                group = rest[0]
            elif word == "f":
                faces.setdefault(group, []).append([int(corner.split("/")[0]) - 1 for corner in rest])
    groups = {name: np.unique(np.concatenate(corners)) for name, corners in faces.items()}
    return _to_body(np.array(vertices, float)), np.array(faces["body"]), groups
