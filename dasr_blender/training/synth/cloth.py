# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloth that hangs off a body: a skirt, a coat's tails, the brim of a hat; extra surfaces with skin weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...core.category import Category

if TYPE_CHECKING:
    from .clothes import Figure

_RINGS, _SPOKES = 8, 24


@dataclass(frozen=True)
class Skirt:
    """A cloth tube from the waist: length as leg parameter at the hem, flare in metres, colours (3,)."""

    top: float
    length: float
    flare: float
    light: np.ndarray
    dark: np.ndarray


@dataclass(frozen=True)
class Brim:
    """The brim of a cap (in front) or of a hat (all round): height on the head −1…1, reach in metres, colour (3,)."""

    height: float
    reach: float
    round: bool
    colour: np.ndarray


@dataclass(frozen=True)
class Cloth:
    """An extra surface skinned to the skeleton: vertices (C, 3) at rest, faces, skin_index, skin_weight (C, 4)."""

    vertices: np.ndarray
    faces: np.ndarray
    skin_index: np.ndarray
    skin_weight: np.ndarray


def skirt_cloth(
    skirt: Skirt, category: Category, figure: Figure, rest: np.ndarray, joints: np.ndarray
) -> Cloth:
    """The tube of a skirt for a body's rest vertices (V, 3) and joints (J, 3)."""
    index = category.skeleton.index
    hips, knees, feet = (
        np.array([joints[index(f"{n}.{s}")] for s in "LR"]) for n in ("thigh", "shin", "foot")
    )
    neck = joints[index("neck")][2]
    top = hips[:, 2].mean() + skirt.top * (neck - hips[:, 2].mean())
    if skirt.length < 1:
        bottom = hips[:, 2].mean() + skirt.length * (knees[:, 2].mean() - hips[:, 2].mean())
    else:
        bottom = knees[:, 2].mean() + (skirt.length - 1) * (feet[:, 2].mean() - knees[:, 2].mean())
    trunk = rest[figure.trunk > -1]
    turn = np.linspace(0, 2 * np.pi, _SPOKES, endpoint=False)
    out, weights = [], np.zeros((_RINGS * _SPOKES, len(joints)))
    below = hips[:, 2].mean()
    share = np.linspace(0, 1, _RINGS)
    spread = np.abs(rest[(figure.leg >= 0) & (figure.leg < 1)][:, 0]).max()
    for r, part in enumerate(share):
        height = top + part * (bottom - top)
        level = max(height, below)
        band = trunk[np.abs(trunk[:, 2] - level) < 0.06]
        band = band if len(band) > 8 else trunk
        low, high = band.min(0), band.max(0)
        middle = (low + high) / 2
        half = (high - low) / 2 + 0.012 + skirt.flare * part * 0.6
        fall = np.clip((below - height) / max(below - bottom, 1e-3), 0, 1)
        half[0] = max(half[0], (spread + 0.02) * fall)
        ring = np.stack(
            [
                middle[0] + half[0] * np.cos(turn),
                middle[1] + half[1] * np.sin(turn),
                np.full(_SPOKES, height),
            ],
            1,
        )
        out.append(ring)
        side = 1 / (1 + np.exp(-ring[:, 0] / 0.035))
        leg = np.clip((below + 0.03 - height) / 0.3, 0, 0.92)
        shin = np.clip((knees[:, 2].mean() - height) / 0.4, 0, 0.6)
        rows = slice(r * _SPOKES, (r + 1) * _SPOKES)
        weights[rows, 0] = 1 - leg
        for tag, mine in (("L", side), ("R", 1 - side)):
            weights[rows, index(f"thigh.{tag}")] = leg * (1 - shin) * mine
            weights[rows, index(f"shin.{tag}")] = leg * shin * mine
    order = np.argsort(-weights, axis=1)[:, :4]
    four = np.take_along_axis(weights, order, 1)
    quads = []
    for r in range(_RINGS - 1):
        for s in range(_SPOKES):
            a, b = r * _SPOKES + s, r * _SPOKES + (s + 1) % _SPOKES
            quads += [(a, b, b + _SPOKES), (a, b + _SPOKES, a + _SPOKES)]
    return Cloth(
        np.concatenate(out),
        np.array(quads, np.int32),
        order.astype(np.int32),
        (four / four.sum(1, keepdims=True)).astype(np.float32),
    )


def brim_cloth(brim: Brim, category: Category, figure: Figure, rest: np.ndarray) -> Cloth:
    """The brim on the head of a body's rest vertices (V, 3)."""
    mine = np.abs(figure.head).sum(1) > 0
    points = rest[mine]
    level = np.abs(figure.head[mine, 2] - brim.height) < 0.15
    band = points[level] if level.sum() > 6 else points
    low, high = band.min(0), band.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    height = points[:, 2].min() + (brim.height + 1) / 2 * np.ptp(points[:, 2])
    turn = (
        np.linspace(0, 2 * np.pi, _SPOKES, endpoint=False)
        if brim.round
        else np.linspace(-0.95, 0.95, 13) - np.pi / 2
    )
    inner = np.stack([middle[0] + half[0] * np.cos(turn), middle[1] + half[1] * np.sin(turn)], 1)
    share = np.ones(len(turn)) if brim.round else np.sqrt(np.clip(np.cos((turn + np.pi / 2) / 0.95 * np.pi / 2), 0, 1))
    away = np.stack([np.cos(turn), np.sin(turn)], 1) if brim.round else np.array([[0.0, -1.0]])
    outer = inner + away * (brim.reach * share)[:, None]
    vertices = np.concatenate(
        [np.c_[inner, np.full(len(turn), height)], np.c_[outer, np.full(len(turn), height - 0.012)]]
    )
    count, faces = len(turn), []
    for s in range(count if brim.round else count - 1):
        a, b = s, (s + 1) % count
        faces += [(a, b, b + count), (a, b + count, a + count)]
    index = np.zeros((len(vertices), 4), np.int32)
    index[:, 0] = category.skeleton.index("head")
    weight = np.zeros((len(vertices), 4), np.float32)
    weight[:, 0] = 1
    return Cloth(vertices, np.array(faces, np.int32), index, weight)
