# SPDX-License-Identifier: GPL-3.0-or-later
"""Where feet stand: one place in the world for as long as a foot stays down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.camera import transform
from ..core.category import Category
from ..core.contacts import find_contacts, runs
from ..core.motion import Motion
from ..core.travel import where_most
from .fit_body import BodyModel, Posed
from .path import cheapest_path

Array = np.ndarray

LEAST = 0.3  # how surely a foot stands in any frame of a stance
WIDE = 0.03  # of the nominal size: feet this near to each other are in one place
APART = 0.15  # crop sides: feet of a pair that are so far apart in the picture are not taken for each other
LEFT = 0.15  # share of a stance that makes another place one where the foot may stand
UNEVEN = 0.25  # how much the lengths of a clip's steps usually differ
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


def plant(
    category: Category, motion: Motion, model: BodyModel, posed: Posed, before: Array | None
) -> Planted:
    """Where the feet of a motion stand.

    A foot stands where it is seen most of the time, and frames in which the feet of a pair are apart in the picture
    say so: where they cross, which is which is a guess. Of two such places it is the one that makes steps even.

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
    width = WIDE * category.nominal_size
    weight = clear + BESIDE
    for shot in motion.shots:  # each has a world of its own
        stances = [runs(contacts.standing[:, f], True, [shot]) for f in kept]
        found = [[_candidates(at[a:b, k], weight[a:b, k], width) for a, b in own] for k, own in enumerate(stances)]
        chosen = _even_steps(found)
        for slot, f in enumerate(kept):
            for (begin, end), stands in zip(stances[slot], chosen[slot], strict=True):
                now = slice(begin, end)
                known = at[:0, slot] if before is None else before[now, slot]
                known = known[np.isfinite(known).all(-1)]
                place[now, slot] = known[0] if len(known) else stands
                sure[now, slot] = np.maximum(contacts.probability[now, f], LEAST)
    return Planted(vertex, place, sure, clear)


Candidates = tuple[Array, Array]  # places (2, 3), and what each costs


def _candidates(points: Array, weights: Array, width: float) -> Candidates:
    """The two places where points ``(n, 3)`` gather most, and minus the logarithm of what share of them does."""
    first = where_most(points, weights, width)
    left = weights * (np.linalg.norm(points - first, axis=1) > 2 * width)
    if left.sum() < LEFT * weights.sum():
        return np.stack([first, first]), np.array([0.0, np.inf])
    places = np.stack([first, where_most(points, left, width)])
    near = 1 / (1 + ((points[:, None] - places) ** 2).sum(-1) / width**2) ** 2
    return places, -np.log(weights @ near / weights.sum())


def _even_steps(found: list[list[Candidates]]) -> list[Array]:
    """One of the candidates of each foot's stances, ``(stances, 3)``: steps of a clip are about as long."""
    likeliest = [
        np.array([places[int(cost.argmin())] for places, cost in foot]).reshape(-1, 3) for foot in found
    ]
    lengths = [length for places in likeliest for length in np.linalg.norm(np.diff(places, axis=0), axis=1)]
    usual = max(float(np.percentile(lengths, 80)) if lengths else 0.0, 1e-6)
    result = []
    for foot, places in zip(found, likeliest, strict=True):
        if len(foot) > 1:
            spots = np.stack([spot for spot, _ in foot])  # (n, 2, 3)
            step = np.linalg.norm(spots[1:, None] - spots[:-1, :, None], axis=-1)  # (n - 1, from, to)
            uneven = 0.5 * ((step / usual - 1) / UNEVEN) ** 2
            path = cheapest_path(np.stack([cost for _, cost in foot]), lambda t, uneven=uneven: uneven[t - 1])
            places = spots[np.arange(len(foot)), path]
        result.append(places)
    return result


def _apart(seen: Array, joints: Array, mirror: Array) -> Array:
    """How clearly each foot ``(T, F)`` is another than that on the other side; seen ``(T, F, 2)`` crop sides."""
    clear = np.ones(seen.shape[:2])
    for f, joint in enumerate(joints):
        other = np.flatnonzero((joints == mirror[joint]) & (joints != joint))
        if len(other):
            gap = np.linalg.norm(seen[:, f] - seen[:, other[0]], axis=-1)
            clear[:, f] = np.minimum(gap / APART, 1) ** 2
    return clear
