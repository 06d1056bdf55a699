# SPDX-License-Identifier: GPL-3.0-or-later
"""Where feet stand: one place in the world for as long as a foot stays down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.camera import transform
from ..core.category import Category
from ..core.contacts import find_contacts, runs
from ..core.motion import Motion
from .fit_body import BodyModel, Posed

Array = np.ndarray

LEAST = 0.3  # how surely a foot stands in any frame of a stance
WIDE = 0.03  # of the nominal size: feet this near to each other are in one place
APART = 0.15  # crop sides: the feet of a pair that are so far apart in the picture are not taken for each other
BESIDE = 0.02  # what a frame in which they are not apart at all says, against one in which they are


@dataclass(frozen=True, eq=False)
class Planted:
    """Feet F of a window of T frames.

    vertex ``(F,)``: the coarse vertex that a foot stands on.  place ``(T, F, 3)``: where it stands in the world,
    metres, NaN where it does not.  sure ``(T, F)``: how surely it stands, 0 where it does not.  clear ``(T, F)`` in
    0…1: how clearly it is another foot than that on the other side.
    """

    vertex: Array
    place: Array
    sure: Array
    clear: Array

    def seen_from(self, world_from_camera: Array) -> Array:
        """The places ``(T, F, 3)`` in the space of cameras ``(T, 4, 4)``, anywhere where there are none."""
        return transform(np.linalg.inv(world_from_camera), np.nan_to_num(self.place))


def plant(category: Category, motion: Motion, model: BodyModel, posed: Posed, before: Array | None) -> Planted:
    """Where the feet of a motion stand.

    A foot stands where it is seen most of the time, and frames in which the feet of a pair are apart in the picture
    say so: where they cross, which is which is a guess.

    posed: the same frames on the coarse body.  before ``(T, F, 3)``: places that neighbouring windows found already,
    NaN elsewhere; a stance that began there goes on there.
    """
    contacts = find_contacts(category, motion)
    owner, low = category.body.owner[model.coarse.vertex], model.rest[:, 2]
    own = [np.flatnonzero(owner == joint) for joint in contacts.joints]
    kept = np.array([f for f, vertices in enumerate(own) if len(vertices)], np.int64)
    vertex = np.array([own[f][np.argmin(low[own[f]])] for f in kept], np.int64)
    world = np.asarray(motion.world_from_camera, np.float64)
    at = transform(world, posed.camera[:, vertex].astype(np.float64))
    clear = _apart(posed.seen[:, vertex], contacts.joints[kept], category.skeleton.mirror)
    place, sure = np.full(at.shape, np.nan), np.zeros(at.shape[:2])
    for slot, f in enumerate(kept):
        for begin, end in runs(contacts.standing[:, f], True):
            now = slice(begin, end)
            known = at[:0, slot] if before is None else before[now, slot]
            known = known[np.isfinite(known).all(-1)]
            if not len(known):
                known = where_most(at[now, slot], clear[now, slot] + BESIDE, WIDE * category.nominal_size)[None]
            place[now, slot] = known[0]
            sure[now, slot] = np.maximum(contacts.probability[now, f], LEAST)
    return Planted(vertex, place, sure, clear)


def _apart(seen: Array, joints: Array, mirror: Array) -> Array:
    """How clearly each foot ``(T, F)`` is another than that on the other side; seen ``(T, F, 2)`` crop sides."""
    clear = np.ones(seen.shape[:2])
    for f, joint in enumerate(joints):
        other = np.flatnonzero((joints == mirror[joint]) & (joints != joint))
        if len(other):
            gap = np.linalg.norm(seen[:, f] - seen[:, other[0]], axis=-1)
            clear[:, f] = np.minimum(gap / APART, 1) ** 2
    return clear


def where_most(points: Array, weights: Array, width: float) -> Array:
    """The middle ``(3,)`` of the densest of the places where points ``(n, 3)`` gather.

    weights ``(n,)``: of the points.  width: of such a place.
    """
    square = ((points[:, None] - points[None]) ** 2).sum(-1)
    near = 1 / (1 + square / width**2) ** 2
    weight = weights * near[(near @ weights).argmax()]
    return weight @ points / weight.sum()
