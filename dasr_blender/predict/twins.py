# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses that look alike: what an outline cannot tell apart.

A body mirrored in depth, its left and right exchanged, has the same outline from far away; and seen from the side,
so have two legs that change places. Where a stretch of frames fits badly or the network was in two minds, its twins
are fitted too and the better one is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.category import Category
from ..core.rotation import geodesic, quat_to_matrix
from ..core.skeleton import mirror_rotations
from .config import DEFAULTS
from .fit_body import Start

Array = np.ndarray

KINDS = ("depth", "legs")
WORDS = {"depth": "facing the other way", "legs": "with left and right legs exchanged"}


@dataclass(frozen=True)
class Twin:
    """A stretch whose twin was tried: first and last index, what kind, the twin's cost over the other's, and whether
    it was taken."""

    first: int
    last: int
    kind: str
    ratio: float
    taken: bool

    @property
    def close(self) -> bool:
        """Whether the two could hardly be told apart."""
        return 0.87 < self.ratio < 1.15


def doubtful(
    agreement: Array, probability: Array, shots: Sequence[slice] = (), most: int = 6, shortest: int = 3
) -> list[slice]:
    """Stretches to look at again, the worst first: agreement with the mask ``(T,)`` well under the clip's usual one, or
    a view ``(T,)`` less likely than not. Neighbours join over gaps of three frames, within one of the clip's shots."""
    known = np.isfinite(agreement)
    if not known.any():
        return []
    usual = float(np.median(agreement[known]))
    bad = known & ((agreement < usual - 0.08) | (probability < 0.45))
    frames = np.flatnonzero(bad)
    if not len(frames):
        return []
    shot = np.searchsorted([s.start for s in shots], frames, side="right")
    runs = np.split(frames, np.flatnonzero((np.diff(frames) > 4) | (np.diff(shot) > 0)) + 1)
    found = [slice(int(r[0]), int(r[-1]) + 1) for r in runs if r[-1] - r[0] + 1 >= shortest]
    missing = [float(np.nansum(usual - agreement[s])) for s in found]
    return [found[i] for i in np.argsort(missing)[::-1][:most]]


def twin_of(category: Category, start: Start, frames: slice, kind: str) -> Start:
    """The start with the poses of some frames replaced by their twins."""
    rotation, joints = start.rotation.copy(), start.joints.copy()
    mirrored = mirror_rotations(category.skeleton, joints[frames])
    if kind == "depth":
        seen = start.center[frames] + start.side[frames, None] * start.place[frames, :2]
        ray = np.concatenate([(seen - start.pp) / start.focal[frames, None], np.ones((len(seen), 1))], 1)
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        mirror = np.eye(3) - 2 * ray[:, :, None] * ray[:, None]
        rotation[frames] = mirror @ rotation[frames] @ np.diag([-1.0, 1.0, 1.0])
        joints[frames] = mirrored
    else:
        limbs = [j for j, role in enumerate(category.skeleton.roles) if role == "limb"]
        joints[frames, limbs] = mirrored[:, limbs]
    return replace(start, rotation=rotation, joints=joints)


def journey(rotation: Array, joints: Array, frames: slice, fps: float) -> float:
    """What it costs to get into some frames and out of them again: the tracker's price of a turn, and the joints'.

    rotation ``(T, 3, 3)``, joints ``(T, J, 4)``: of the whole clip.
    """
    free = DEFAULTS.turn_rate / max(fps, 1e-6) + DEFAULTS.turn_noise
    total = 0.0
    for edge in (frames.start, frames.stop):
        if 0 < edge < len(rotation):
            turn = float(geodesic(rotation[edge - 1], rotation[edge])) / free
            bend = geodesic(quat_to_matrix(joints[edge - 1]), quat_to_matrix(joints[edge])) / (2 * free)
            total += min(0.15 * turn**2 + 0.15 * float((bend**2).sum()), DEFAULTS.largest_jump)
    return total
