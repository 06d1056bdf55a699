# SPDX-License-Identifier: GPL-3.0-or-later
"""The cheapest path through the alternatives of every frame: the views of a clip, or the places of a limb."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.rotation import geodesic
from .config import DEFAULTS, TrackConfig

Array = np.ndarray


def choose(
    rotation: Array,
    translation: Array,
    logprob: Array,
    agreement: Array,
    fps: float,
    config: TrackConfig = DEFAULTS,
    against: Array | None = None,
) -> Array:
    """The cheapest path ``(T,)`` through hypotheses ``(T, M, …)``, by dynamic programming.

    rotation ``(T, M, 3, 3)``; translation ``(T, M, 3)``; logprob ``(T, M)``; agreement ``(T, M)`` with the mask,
    0…1; against ``(T, M)``, what surface map and landmarks have against it. The cost of a frame is −log p +
    silhouette·(1 − agreement) + against, shared with the frames whose mistakes are its own; of a step,
    the square of how far it turns, and how far it moves: an animal turns a little in many frames, not much in one.
    """
    unary = -np.maximum(logprob, -12.0) + config.silhouette * (1 - agreement)
    unary = unary / (1 + config.alike * fps)
    if against is not None:
        unary = unary + against / (1 + config.surface_alike * fps)
    free = config.turn_rate / max(fps, 1e-6) + config.turn_noise

    def step(t: int) -> Array:
        turn = geodesic(rotation[t - 1][:, None], rotation[t][None]) / free  # (from, to)
        move = np.abs(translation[t - 1][:, None] - translation[t][None]).sum(-1) / config.shift_noise
        return np.minimum(0.15 * turn**2 + 0.1 * move, config.largest_jump)

    return cheapest_path(unary, step)


def cheapest_path(cost: Array, step: Callable[[int], Array | float]) -> Array:
    """The cheapest way ``(T,)`` through costs ``(T, C)``, by dynamic programming (Viterbi 1967).

    step: what going from each alternative of frame t − 1 to each of frame t costs, ``(C, C)`` or the same for all.
    """
    total, back = cost[0], np.zeros(cost.shape, np.int64)
    for t in range(1, len(cost)):
        ways = total[:, None] + step(t)
        back[t] = ways.argmin(0)
        total = ways.min(0) + cost[t]
    path = np.empty(len(cost), np.int64)
    path[-1] = total.argmin()
    for t in range(len(cost) - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    return path
