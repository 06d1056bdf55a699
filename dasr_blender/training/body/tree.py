# SPDX-License-Identifier: GPL-3.0-or-later
"""A skeleton template, written by hand: joints, where they lie at rest, and how thick the flesh round them is.

    {"licence": "CC0-1.0", "credits": "…", "joints": [
      {"name": "root", "parent": null, "position": [0, 0, 0], "radius": [0.10, 0.09]},
      {"name": "fin.L", "parent": "root", "mirror": "fin.R", "position": [0.1, -0.2, 0], "radius": 0.03,
       "tip": [0.2, -0.1, 0], "tip_radius": 0.01, "role": "limb", "limits": 0.8}, …]}

Metres in body axes: Z up, looking along −Y, its left is +X.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core import CategoryError, Skeleton
from ...core.skeleton import ROLES

LIMITS: dict[str, tuple[float, float, float]] = {
    "root": (0.0, 0.0, 0.0),
    "spine": (0.5, 0.3, 0.5),
    "head": (0.7, 0.4, 0.7),
    "tail": (0.8, 0.3, 0.8),
    "limb": (0.9, 0.7, 0.9),
}
"""How far a joint turns about X (up and down), Y (roll) and Z (sideways), radians, where the template does not say."""

_MOST = 60  # joints
_FIELDS = ("licence", "credits", "joints")
_JOINT_FIELDS = ("name", "parent", "position", "radius", "tip", "tip_radius", "mirror", "role", "limits")
_SIDE = re.compile(r"[._-]([LR])$")
_KINDS = {
    "tail": re.compile(r"(tail|fluke)", re.I),
    "head": re.compile(r"(head|neck|jaw|ear|beak|skull)", re.I),
    "limb": re.compile(r"(fin|flipper|wing|leg|arm|foot|hand|claw)", re.I),
}


@dataclass(frozen=True, eq=False)
class Tree:
    """A checked template of J joints, parents before children, the root at the origin.

    joints ``(J, 3)`` metres; radius ``(J, 2)``: half-axes of the flesh's cross-section at each joint; tip ``(J, 3)``:
    the free end of a joint that has one, NaN for the others, and tip_radius ``(J, 2)`` there.
    """

    skeleton: Skeleton
    joints: np.ndarray
    radius: np.ndarray
    tip: np.ndarray
    tip_radius: np.ndarray
    licence: str
    credits: str


def read_tree(path: Path) -> Tree:
    """The template in a JSON file. Raises CategoryError with one sentence that names the file and the field."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CategoryError(f"{path}: the skeleton cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        raise CategoryError(f"{path}: is not valid JSON ({error}).") from None
    return parse_tree(data, str(path))


def parse_tree(data: Any, where: str = "skeleton") -> Tree:
    """The template in a JSON value; `where` begins the message of the CategoryError that a bad one raises."""
    if not isinstance(data, dict) or not isinstance(data.get("joints"), list) or not data["joints"]:
        raise CategoryError(f"{where}: field 'joints' must be a list of joints.")
    if unknown := [key for key in data if key not in _FIELDS]:
        raise CategoryError(f"{where}: there is no field '{unknown[0]}'; there are {', '.join(_FIELDS)}.")
    if len(data["joints"]) > _MOST:
        raise CategoryError(
            f"{where}: field 'joints' holds more than {_MOST} joints; leave the small ones out."
        )
    rows = [_Row(item, f"{where}: field 'joints[{i}]") for i, item in enumerate(data["joints"])]
    number: dict[str, int] = {}
    for i, row in enumerate(rows):
        if row.name in number:
            raise row.error("name", f"is '{row.name}', like that of another joint")
        number[row.name] = i
    rows = _in_order(rows, number, where)
    names = tuple(row.name for row in rows)
    mirror = _mirrors(rows, names)
    joints = np.stack([row.position for row in rows])
    span = max(float(np.ptp(joints, axis=0).max()), max(float(row.radius.max()) for row in rows))
    joints = joints - joints[0]
    tips = np.stack([row.tip - rows[0].position for row in rows])
    _check_sides(rows, mirror, joints, tips, 0.01 * span)
    for i, row in enumerate(rows):
        above = -1 if row.parent is None else names.index(row.parent)
        if above >= 0 and np.linalg.norm(joints[i] - joints[above]) < 1e-3 * span:
            raise row.error("position", "is that of its parent")
    roles = tuple(row.role(mirror[i] != i) for i, row in enumerate(rows))
    limits = np.stack([row.limits(role) for row, role in zip(rows, roles, strict=True)])
    given = np.array(["limits" in row.data for row in rows])
    for i, other in enumerate(mirror):  # one side's limits hold for the other
        if other != i and given[other] and not given[i]:
            limits[i] = np.stack([limits[other][0], -limits[other][1, ::-1], -limits[other][2, ::-1]])
    parents = np.array([-1 if row.parent is None else names.index(row.parent) for row in rows])
    skeleton = Skeleton(names, parents, np.array(mirror), limits, roles)
    return Tree(
        skeleton,
        joints,
        np.stack([row.radius for row in rows]),
        tips,
        np.stack([row.tip_radius for row in rows]),
        str(data.get("licence", "not stated")),
        str(data.get("credits", "")),
    )


class _Row:
    """One joint of the list; every complaint names its field."""

    def __init__(self, data: Any, where: str) -> None:
        self.data, self.where = data, where
        if not isinstance(data, dict):
            raise CategoryError(f"{where}' must be an object.")
        if unknown := [key for key in data if key not in _JOINT_FIELDS]:
            raise self.error(unknown[0], f"is no field of a joint; there are {', '.join(_JOINT_FIELDS)}")
        name = data.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,62}", name):
            raise self.error("name", "must be a text of letters, digits, '_', '-' and '.'")
        self.name: str = name
        self.parent: str | None = data.get("parent")
        if "parent" not in data or not isinstance(self.parent, (str, type(None))):
            raise self.error("parent", "must be a joint's name, or null for the root")
        self.mirror: str | None = data.get("mirror")
        if not isinstance(self.mirror, (str, type(None))):
            raise self.error("mirror", "must be a joint's name")
        self.position = self._numbers("position", 3)
        self.radius = self._radius("radius")
        self.tip = self._numbers("tip", 3) if "tip" in data else np.full(3, np.nan)
        self.tip_radius = self._radius("tip_radius") if "tip_radius" in data else 0.6 * self.radius

    def error(self, key: str, what: str) -> CategoryError:
        return CategoryError(f"{self.where}.{key}' {what}.")

    def _numbers(self, key: str, count: int) -> np.ndarray:
        value = self.data.get(key)
        good = isinstance(value, list) and len(value) == count
        if not good or not all(_finite(v) for v in value):
            raise self.error(key, f"must be {count} finite numbers, metres")
        return np.array(value, np.float64)

    def _radius(self, key: str) -> np.ndarray:
        value = self.data.get(key)
        pair = [value, value] if _finite(value) else value
        if not isinstance(pair, list) or len(pair) != 2 or not all(_finite(v) and v > 0 for v in pair):
            raise self.error(key, "must be a positive number or two, metres")
        return np.array(pair, np.float64)

    def role(self, sided: bool) -> str:
        """The role it states, or what its name and place suggest."""
        if self.parent is None:
            return "root"
        stated = self.data.get("role")
        if stated is not None:
            if stated not in ROLES[1:]:
                raise self.error("role", f"must be one of {', '.join(ROLES[1:])}")
            return str(stated)
        for role, words in _KINDS.items():
            if words.match(self.name):
                return role
        return "limb" if sided else "spine"

    def limits(self, role: str) -> np.ndarray:
        """(3, 2) radians."""
        value = self.data.get("limits")
        if value is None or role == "root":
            reach = np.array(LIMITS[role])
            return np.stack([-reach, reach], 1)
        each = [value] * 3 if _finite(value) else value
        if isinstance(each, list) and len(each) == 3:
            pairs = [[-v, v] if _finite(v) and v >= 0 else v for v in each]
            if all(isinstance(p, list) and len(p) == 2 and all(map(_finite, p)) for p in pairs):
                return self._checked(np.array(pairs, np.float64))
        raise self.error(
            "limits", "must be a number of radians, or one or [lowest, highest] for each of X, Y and Z"
        )

    def _checked(self, limits: np.ndarray) -> np.ndarray:
        """Limits (3, 2) that a joint can have."""
        for axis, (low, high) in zip("XYZ", limits, strict=True):
            if low > high:
                raise self.error("limits", f"holds [{low:g}, {high:g}] for {axis}: the lowest comes first")
            if max(-low, high) > 2 * math.pi:
                raise self.error("limits", f"goes beyond a whole turn about {axis}: it is in radians, not degrees")
            if low > 0 or high < 0:
                raise self.error("limits", f"[{low:g}, {high:g}] for {axis} leaves out 0, where the joint is at rest")
        return limits


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _in_order(rows: list[_Row], number: dict[str, int], where: str) -> list[_Row]:
    """Parents before children, otherwise as they were written."""
    roots = [row for row in rows if row.parent is None]
    if len(roots) != 1:
        what = "has no root: one joint's parent must be null" if not roots else "has more than one root"
        raise CategoryError(f"{where}: field 'joints' {what}.")
    for row in rows:
        if row.parent is not None and row.parent not in number:
            raise row.error("parent", f"names the unknown joint '{row.parent}'")
    done, left = list(roots), [row for row in rows if row.parent is not None]
    while left:
        known = {row.name for row in done}
        ready = next((row for row in left if row.parent in known), None)
        if ready is None:
            raise left[0].error("parent", "closes a circle that never reaches the root")
        done.append(ready)
        left.remove(ready)
    return done


def _mirrors(rows: list[_Row], names: tuple[str, ...]) -> list[int]:
    """Number of each joint's mirror image; `fin.L` and `fin.R` need not say so."""
    found = []
    for i, row in enumerate(rows):
        other = row.mirror
        if other is None and (side := _SIDE.search(row.name)):
            twin = row.name[:-1] + {"L": "R", "R": "L"}[side[1]]
            other = twin if twin in names else None
        if other is not None and other not in names:
            raise row.error("mirror", f"names the unknown joint '{other}'")
        found.append(i if other is None else names.index(other))
    for i, other in enumerate(found):
        if found[other] != i:
            raise rows[i].error("mirror", f"is '{names[other]}', whose own mirror is another joint")
        if other != i:
            above = [rows[k].parent for k in (i, other)]
            parents = [-1 if name is None else names.index(name) for name in above]
            if parents[0] < 0 or found[parents[0]] != parents[1]:
                raise rows[i].error("mirror", "hangs on a joint that is not its own parent's mirror image")
    return found


def _check_sides(
    rows: list[_Row], mirror: list[int], joints: np.ndarray, tips: np.ndarray, tolerance: float
) -> None:
    """Bring places that are mirror images up to `tolerance` metres to exactly that, in place; else complain."""
    flip = np.array([-1.0, 1, 1])
    for places, key in ((joints, "position"), (tips, "tip")):
        for i, row in enumerate(rows):
            other = mirror[i]
            here, there = places[i], flip * places[other]
            if np.isnan(here).any() and np.isnan(there).any():
                continue
            if not np.abs(here - there).max() <= tolerance:
                if other == i:
                    raise row.error(key, "must have x = that of the root, or the joint a mirror")
                raise row.error(key, f"is not the mirror image of that of '{rows[other].name}'")
            if not np.allclose(rows[i].radius, rows[other].radius):
                raise row.error("radius", f"is not that of '{rows[other].name}'")
            middle = (here + there) / 2
            places[i], places[other] = middle, flip * middle
