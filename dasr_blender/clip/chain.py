# SPDX-License-Identifier: GPL-3.0-or-later
"""From the turns between frames and their key frames to one camera over the whole clip.

Key frames that see the same place again are compared as well, so that a camera that pans there and back ends where
it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.rotation import matrix_to_rotvec, rotvec_to_matrix
from .tracks import Comparer, Key, Link
from .turning import Edge, Turn, agree, fit_turn, turned

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Solution:
    """World_from_camera rotations (T, 3, 3), zoom (T,), the turn of each link."""

    rotation: Array
    scale: Array
    turns: list[Turn | None]

    @property
    def width(self) -> float:
        """The largest angle between the first camera and another, radians."""
        return float(np.linalg.norm(matrix_to_rotvec(self.rotation), axis=1).max())

    @property
    def cost(self) -> float:
        """Typical residual over the clip, compared pixels."""
        found = [np.median(turn.residual) for turn in self.turns if turn is not None]
        return float(np.sqrt(np.mean(np.square(found))))


def chain(links: Sequence[Link | None], assumed: float, focal: float, zoom: bool) -> Solution:
    """Every frame from its key frame, and that from its own. A frame without a link stays like the one before.

    assumed: the focal length that the links' own turns were found with; both are compared pixels.
    """
    count = len(links) + 1
    rotation, scale = np.tile(np.eye(3), (count, 1, 1)), np.ones(count)
    turns: list[Turn | None] = []
    for t, link in enumerate(links, 1):
        turn = None
        if link is None:
            rotation[t], scale[t] = rotation[t - 1], scale[t - 1]
        else:
            base = focal * scale[link.key]
            turn = fit_turn(link.a, link.b, base, zoom, link.start(assumed / base, zoom), False)
            rotation[t] = rotation[link.key] @ turn.rotation.T
            scale[t] = scale[link.key] * turn.scale
        turns.append(turn)
    return Solution(rotation, scale, turns)


def closed(
    comparer: Comparer,
    links: Sequence[Link | None],
    keys: Sequence[Key],
    solution: Solution,
    focal: float,
    zoom: bool,
) -> Solution:
    """The solution with all key frames in agreement, also those that see a place again later."""
    loops = _again(comparer, keys, solution, focal, zoom)
    if not loops:
        return solution
    frames = [key.frame for key in keys]
    edges = []
    for n, (key, after) in enumerate(zip(frames[:-1], frames[1:], strict=True)):
        link, turn = links[after - 1], solution.turns[after - 1]
        if link is not None and turn is not None and link.key == key:
            edges.append(Edge(n, n + 1, turn.rotation, turn.scale, _weight(turn)))
        else:  # a key frame was given up one frame earlier, or nothing could be followed: as chained
            relative = solution.rotation[after].T @ solution.rotation[key]
            weight = 1.0 if link is None else 1e3
            edges.append(Edge(n, n + 1, relative, solution.scale[after] / solution.scale[key], weight))
    rotations, scales = agree(solution.rotation[frames], solution.scale[frames], edges + loops)
    # Between two key frames the correction goes over from one to the other.
    times = np.arange(len(solution.rotation))
    turn = matrix_to_rotvec(rotations @ np.swapaxes(solution.rotation[frames], 1, 2))
    turn = np.stack([np.interp(times, frames, axis) for axis in turn.T], axis=1)
    stretch = np.interp(times, frames, np.log(scales / solution.scale[frames]))
    return Solution(
        rotvec_to_matrix(turn) @ solution.rotation, solution.scale * np.exp(stretch), solution.turns
    )


def _weight(turn: Turn) -> float:
    return float((turn.residual < 2.0).sum() / turn.spread**2)


def _again(
    comparer: Comparer, keys: Sequence[Key], solution: Solution, focal: float, zoom: bool, most: int = 2
) -> list[Edge]:
    """Edges between key frames that are not neighbours and share more than half of the picture; at most `most`
    for each, the farthest in time first."""
    edges: list[Edge] = []
    for n, late in enumerate(keys):
        done = 0
        for m in range(0, n - 1, 1 + n // 200):  # a long clip's earlier key frames are sampled
            early = keys[m]
            rotation = solution.rotation[late.frame].T @ solution.rotation[early.frame]
            scale = solution.scale[late.frame] / solution.scale[early.frame]
            if done == most or not 0.8 < scale < 1.25 or len(early.points) < comparer.config.fewest:
                continue
            a, base = comparer.centred(early.points), focal * solution.scale[early.frame]
            guess = turned(a, base, rotation, scale)
            inside = (np.abs(guess) < comparer.middle - 4).all(axis=1)
            if inside.mean() < 0.5:
                continue
            start = comparer.uncentred(guess[inside])
            there, sure = comparer.follow(
                early.grey, late.grey, early.points[inside], start, comparer.background(late.frame)
            )
            done += 1
            if sure.sum() < 2 * comparer.config.fewest:
                continue
            turn = fit_turn(
                a[inside][sure], comparer.centred(there[sure]), base, zoom, (rotation, scale), False
            )
            if turn.share > 0.6:
                edges.append(Edge(m, n, turn.rotation, turn.scale, _weight(turn)))
    return edges
