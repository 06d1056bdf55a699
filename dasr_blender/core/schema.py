# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema of ``category.json``: reading it strictly, and writing it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import CategoryError
from .skeleton import ROLES, Skeleton

if TYPE_CHECKING:
    from .category import Category

FORMAT = 1


@dataclass(frozen=True)
class Proportion:
    """A named morphology coefficient and its range, as fractions of change: +0.5 is half as much again."""

    name: str
    label: str
    minimum: float
    maximum: float


@dataclass(frozen=True)
class NetworkSpec:
    """What the network expects.

    input_size: side of the square crop, pixels.  mean, std: per channel, on values in 0…1.  opset: ONNX.
    inputs, outputs: name → shape, with a word for a dynamic axis.  temporal_radius: frames on either side
    that an output depends on.
    """

    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    opset: int
    inputs: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    outputs: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    temporal_radius: int = 0


class _Reader:
    """Typed access to nested JSON that names the field when something is off."""

    def __init__(self, data: Any, path: Path, where: str = "") -> None:
        self.data, self.path, self.where = data, path, where
        if not isinstance(data, dict):
            raise self.error("", "must be an object")

    def error(self, key: str, what: str) -> CategoryError:
        name = ".".join(p for p in (self.where, key) if p) or "(top level)"
        return CategoryError(f"{self.path}: field '{name}' {what}; correct it or install the category again.")

    def get(self, key: str, kind: type | tuple[type, ...], what: str) -> Any:
        if key not in self.data:
            raise self.error(key, "is missing")
        value = self.data[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(key, f"must be {what}")
        return value

    def text(self, key: str) -> str:
        return self.get(key, str, "a text")

    def integer(self, key: str, minimum: int) -> int:
        value = self.get(key, int, "a whole number")
        if value < minimum:
            raise self.error(key, f"must be at least {minimum}")
        return value

    def number(self, key: str) -> float:
        value = self.get(key, (int, float), "a number")
        if not math.isfinite(value):
            raise self.error(key, "must be finite")
        return float(value)

    def array(self, key: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        value = self.get(key, list, "a list of numbers")
        try:
            array = np.array(value, dtype=np.float64)
        except (ValueError, TypeError):
            raise self.error(key, "must hold numbers only") from None
        if (shape is not None and array.shape != shape) or not np.all(np.isfinite(array)):
            raise self.error(key, f"must hold finite numbers of the shape {shape or array.shape}")
        return array

    def items(self, key: str) -> list[_Reader]:
        values = self.get(key, list, "a list")
        return [
            _Reader(v, self.path, f"{self.where and self.where + '.'}{key}[{i}]")
            for i, v in enumerate(values)
        ]

    def child(self, key: str) -> _Reader:
        return _Reader(self.get(key, dict, "an object"), self.path, f"{self.where and self.where + '.'}{key}")


def parse(data: Any, path: Path) -> dict[str, Any]:
    """Checked fields of a category, ready for ``Category(**fields)`` but for 'files' and the body.

    Raises CategoryError that names `path` and the field.
    """
    top = _Reader(data, path)
    if top.integer("format", 1) > FORMAT:
        raise top.error("format", f"is newer than this version can read ({FORMAT}); update the add-on")
    nominal = top.number("nominal_size")
    if nominal <= 0:
        raise top.error("nominal_size", "must be positive")
    return {
        "name": top.text("name"),
        "version": top.text("version"),
        "licence": top.text("licence"),
        "credits": top.text("credits"),
        "skeleton": _skeleton(top),
        "profiles": {name: _texts(top.child("profiles").child(name)) for name in top.child("profiles").data},
        "morphology": tuple(_proportion(item) for item in top.items("morphology")),
        "nominal_size": nominal,
        "network": _network(top.child("network")),
        "training": dict(top.child("training").data),
        "files": _files(top.child("files")),
    }


def description(category: Category, hashes: dict[str, str]) -> dict[str, Any]:
    """The JSON value of a category, the inverse of :func:`parse`."""
    skeleton, network = category.skeleton, category.network
    return {
        "format": FORMAT,
        "name": category.name,
        "version": category.version,
        "licence": category.licence,
        "credits": category.credits,
        "nominal_size": float(category.nominal_size),
        "joints": [
            {
                "name": name,
                "parent": skeleton.names[skeleton.parents[j]] if skeleton.parents[j] >= 0 else None,
                "mirror": skeleton.names[skeleton.mirror[j]],
                "limits": skeleton.limits[j].tolist(),
                "role": skeleton.roles[j],
            }
            for j, name in enumerate(skeleton.names)
        ],
        "profiles": category.profiles,
        "morphology": [
            {"name": p.name, "label": p.label, "minimum": float(p.minimum), "maximum": float(p.maximum)}
            for p in category.morphology
        ],
        "network": {
            "input_size": int(network.input_size),
            "mean": [float(v) for v in network.mean],
            "std": [float(v) for v in network.std],
            "opset": int(network.opset),
            "temporal_radius": int(network.temporal_radius),
            "inputs": {name: list(shape) for name, shape in network.inputs.items()},
            "outputs": {name: list(shape) for name, shape in network.outputs.items()},
        },
        "training": category.training,
        "files": hashes,
    }


def _skeleton(top: _Reader) -> Skeleton:
    items = top.items("joints")
    names = [item.text("name") for item in items]
    number = {name: j for j, name in enumerate(names)}
    parents, mirror, limits, roles = [], [], [], []
    for item in items:
        parent = item.get("parent", (str, type(None)), "a joint's name or null")
        if parent is not None and parent not in number:
            raise item.error("parent", f"names the unknown joint '{parent}'")
        other = item.text("mirror")
        if other not in number:
            raise item.error("mirror", f"names the unknown joint '{other}'")
        if item.text("role") not in ROLES:
            raise item.error("role", f"must be one of {', '.join(ROLES)}")
        parents.append(-1 if parent is None else number[parent])
        mirror.append(number[other])
        limits.append(item.array("limits", (3, 2)))
        roles.append(item.text("role"))
    try:
        return Skeleton(
            tuple(names),
            np.array(parents),
            np.array(mirror),
            np.array(limits).reshape(-1, 3, 2),
            tuple(roles),
        )
    except ValueError as error:
        raise top.error("joints", f"is not a joint tree: {error}") from None


def _proportion(item: _Reader) -> Proportion:
    proportion = Proportion(
        item.text("name"), item.text("label"), item.number("minimum"), item.number("maximum")
    )
    if proportion.minimum > proportion.maximum:
        raise item.error("minimum", "must be at most the maximum")
    return proportion


def _network(item: _Reader) -> NetworkSpec:
    mean, std = item.array("mean"), item.array("std")
    if mean.ndim != 1 or mean.shape != std.shape or np.any(std <= 0):
        raise item.error("std", "must hold one positive number for each number in mean")
    return NetworkSpec(
        input_size=item.integer("input_size", 1),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        opset=item.integer("opset", 1),
        inputs=_shapes(item.child("inputs")),
        outputs=_shapes(item.child("outputs")),
        temporal_radius=item.integer("temporal_radius", 0),
    )


def _shapes(item: _Reader) -> dict[str, tuple[int | str, ...]]:
    shapes: dict[str, tuple[int | str, ...]] = {}
    for name in item.data:
        shape = item.get(name, list, "a list of sizes")
        if not all(isinstance(n, (int, str)) for n in shape):
            raise item.error(name, "must hold sizes or the names of axes")
        shapes[name] = tuple(shape)
    return shapes


def _texts(item: _Reader) -> dict[str, str]:
    return {key: item.text(key) for key in item.data}


def _files(item: _Reader) -> dict[str, str]:
    files = _texts(item)
    for name, digest in files.items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise item.error(name, "is not a plain file name")
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise item.error(name, "is not a SHA-256 in hexadecimal")
    return files
