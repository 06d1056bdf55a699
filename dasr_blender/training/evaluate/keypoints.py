# SPDX-License-Identifier: GPL-3.0-or-later
"""Keypoints of real clips, and how well a surface carries them through time (PCK-T).

A keypoint file is a JSON list of {"image_path": …, "joints": [[…], …], "visibility": […]}, as BADJA (Biggs et al.,
"Creatures great and SMAL", ACCV 2018) has it with (y, x), and ViSER (Yang et al., NeurIPS 2021) with (x, y). Points
are in pixels of the 1920×1080 original; a point at 0, 0 is unknown.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..errors import TrainingError

Array = np.ndarray

FILES = {"keypoints_badja.json": True, "keypoints_viser.json": False}  # name: whether points are (y, x)
ORIGINAL = np.array([1920.0, 1080.0])
RADIUS = 0.2  # of the square root of the mask's area
_NEAR = 4.0  # pixels further than the nearest vertex that still count as under the keypoint


def read_keypoints(
    path: Path, names: dict[str, int], size: tuple[int, int]
) -> dict[int, tuple[Array, Array]]:
    """Frame → points (N, 2) in pixels of a picture of `size` (width, height), and which are visible (N,) bool.

    names: stem of a frame's file → frame. Annotated frames that are not among them are left out. Raises TrainingError
    when the file is not of this form.
    """
    out: dict[int, tuple[Array, Array]] = {}
    try:
        for entry in json.loads(path.read_text(encoding="utf-8")):
            stem = Path(entry["image_path"]).stem
            if stem not in names:
                continue
            joints = np.array(entry["joints"], np.float64).reshape(-1, 2)
            visible = np.array(entry.get("visibility", np.ones(len(joints))), bool) & joints.any(1)
            points = joints[:, ::-1] if FILES.get(path.name, False) else joints
            out[names[stem]] = points * np.array(size) / ORIGINAL, visible
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path}: not a keypoint file ({error}); remove it or mend it") from error
    return out


def vertex_under(pixels: Array, points: Array) -> Array:
    """The vertex (N,) of pixels (V, 3: x, y, depth) seen at each of the points (N, 2).

    The nearest in the picture, and the nearest to the camera among those hardly further.
    """
    found = np.empty(len(points), np.int64)
    for n, point in enumerate(points):
        distance = np.linalg.norm(pixels[:, :2] - point, axis=1)
        near = np.flatnonzero(distance <= distance.min() + _NEAR)
        found[n] = near[np.argmin(pixels[near, 2])]
    return found


def transfer(
    pixels: Array, keypoints: dict[int, tuple[Array, Array]], areas: Array
) -> tuple[float, float, int]:
    """PCK-T, that of a surface that never moves, and the number of transfers; NaN and 0 with nothing to transfer.

    For every ordered pair of annotated frames, each keypoint visible in both is carried by the vertex under it, and
    is right when it lands within RADIUS · √(mask area of the first frame). pixels (T, V, 3); areas (T,), pixels².
    """
    right = still = total = 0
    for i, (start, seen) in keypoints.items():
        carrier = vertex_under(pixels[i], start)
        offset = start - pixels[i][carrier, :2]
        limit = RADIUS * np.sqrt(areas[i])
        for j, (goal, there) in keypoints.items():
            if i == j:
                continue
            both = seen & there
            moved = pixels[j][carrier, :2] + offset
            right += int((np.linalg.norm(moved - goal, axis=1)[both] < limit).sum())
            still += int((np.linalg.norm(start - goal, axis=1)[both] < limit).sum())
            total += int(both.sum())
    if not total:
        return float("nan"), float("nan"), 0
    return right / total, still / total, total
