# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera's own movement: rotation and zoom from the background outside the subject's mask.

Corners of key frames are followed (`tracks`), every frame's turn from its key frame is fitted (`turning`), key
frames that see the same place again are compared, all turns are made to agree, and a pan that is wide enough
tells the focal length. A camera that also travels is explained as far as turning can, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..core.rotation import matrix_to_rotvec, rotvec_to_matrix
from .calibrate import calibrated
from .mask_store import Masks
from .tracks import Comparer, Key, Link, TrackingConfig, follow_background
from .turning import Edge, Turn, agree, fit_turn, turned
from .video import Clip

Array = np.ndarray

STATIC = 0.4  # compared pixels: a corner that is no farther from its place in the key frame did not move
STATIC_SHARE = 0.4  # of the corners: then the camera stands still, whatever the rest of the picture does
ZOOM = 0.05  # smallest change of focal length over a clip, relative, that is called a zoom
ZOOM_GAIN = (
    0.7  # and it has to lower the residual to this share, and below TRAVELS: walking closer leaves parallax
)
TRAVELS = 1.2  # compared pixels: a larger typical residual means that the camera does not only turn
PAN = np.radians(10.0)  # turning less than this tells too little about the focal length
TELLS = 0.9  # compared pixels: a larger residual is parallax, which would be taken for a focal length
LOST = 0.3  # share of frames without enough background at which nothing is claimed about the camera


@dataclass(frozen=True, eq=False)
class Egomotion:
    """The camera over T frames; the world is the first frame's camera.

    rotation ``(T, 3, 3)`` world_from_camera; focal_scale ``(T,)``, relative to the first frame; still: it did
    not move or zoom at all; zooms; inliers ``(T,)`` corners that the movement explains, 0 where the frame was
    filled in; residual_px ``(T,)`` their median error, pixels of the working size; focal: pixels of the working
    size in the first frame, where the pan tells it; warnings.
    """

    rotation: Array
    focal_scale: Array
    still: bool
    zooms: bool
    inliers: Array
    residual_px: Array
    focal: float | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def angle(self) -> float:
        """The largest angle between the first camera and another, radians."""
        return float(np.linalg.norm(matrix_to_rotvec(self.rotation), axis=1).max())

    @property
    def world_from_camera(self) -> Array:
        """``(T, 4, 4)``, turning about the origin."""
        pose = np.tile(np.eye(4), (len(self.rotation), 1, 1))
        pose[:, :3, :3] = self.rotation
        return pose


def standing_still(count: int, warnings: Sequence[str] = ()) -> Egomotion:
    """A camera that does not move over `count` frames."""
    return Egomotion(
        np.tile(np.eye(3), (count, 1, 1)),
        np.ones(count),
        True,
        False,
        np.zeros(count, int),
        np.zeros(count),
        None,
        list(warnings),
    )


def find_egomotion(
    clip: Clip,
    masks: Masks,
    focal: float,
    calibrate: bool = True,
    config: TrackingConfig | None = None,
    progress: Callable[[float, str], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Egomotion:
    """The camera's movement over a clip.

    focal: of the first frame, pixels of the working size.  calibrate: look for a better one; where the pan is
    wide enough to tell, it is in the result's `focal` and the rotations go with it.
    """
    comparer = Comparer(clip, masks, config or TrackingConfig())
    count = len(clip)
    if count < 2:
        return standing_still(count)
    links, keys = follow_background(comparer, progress, cancel)
    lost = sum(link is None for link in links)
    if lost > LOST * len(links):
        return standing_still(
            count,
            [
                f"Too little of the background can be followed ({lost} of {count} frames: plain, blurred, or hidden "
                "by the subject), so the camera is taken to stand still: if it moved, solve it with Blender's tracker"
            ],
        )
    if _stands(links):
        return _still(comparer, links)
    return solve_turns(comparer, links, keys, focal * comparer.scale, calibrate)


def _stands(links: Sequence[Link | None]) -> bool:
    """Whether the background stays where it is, frame after frame, but for what moves in it."""
    shares = np.array([(link.shift < STATIC).mean() for link in links if link is not None])
    return bool((shares >= STATIC_SHARE).mean() > 0.97 and shares.min() > 0.5 * STATIC_SHARE)


def _still(comparer: Comparer, links: Sequence[Link | None]) -> Egomotion:
    """A still camera, and how well that explains the links."""
    found = standing_still(len(links) + 1)
    for t, link in enumerate(links, 1):
        if link is not None:
            found.inliers[t] = int((link.shift < 2.0).sum())
            found.residual_px[t] = np.median(link.shift) / comparer.scale
    return found


def _only_noise(links: Sequence[Link | None], solution: _Solution, focal: float, keys: int) -> bool:
    """Whether the turns that were found are what noise alone makes of a still camera: none moves the corners by
    more than they tremble, and together they lead no farther than a random walk over the key frames."""
    moved = [
        float(np.median(np.linalg.norm(turned(link.a, focal, turn.rotation, 1.0) - link.a, axis=1)))
        for link, turn in zip(links, solution.turns, strict=True)
        if link is not None and turn is not None
    ]
    reach = focal * solution.width
    return bool(np.percentile(moved, 95) < STATIC and reach < STATIC * (3 + keys**0.5))


@dataclass(frozen=True, eq=False)
class _Solution:
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


def solve_turns(
    comparer: Comparer, links: Sequence[Link | None], keys: Sequence[Key], focal: float, calibrate: bool
) -> Egomotion:
    """The movement that explains `links`. focal: of the first frame, compared pixels."""
    assumed = comparer.focal
    solution, free = _chain(links, assumed, focal, False), _chain(links, assumed, focal, True)
    if _only_noise(links, solution, focal, len(keys)):
        return _still(comparer, links)
    zooms = bool(np.ptp(np.log(free.scale)) > ZOOM) and free.cost < min(ZOOM_GAIN * solution.cost, TRAVELS)
    solution = free if zooms else solution
    found: float | None = None
    if calibrate and solution.width > 0.5 * PAN:
        found = calibrated(links, solution.scale, assumed, focal, zooms, TELLS)
        if found is not None:
            better = _chain(links, assumed, found, zooms)
            if better.width > PAN:
                solution, focal = better, found
            else:
                found = None
    solution = _closed(comparer, links, keys, solution, focal, zooms)
    inliers, residual = np.zeros(len(links) + 1, int), np.zeros(len(links) + 1)
    for t, turn in enumerate(solution.turns):
        if turn is not None:
            inliers[t + 1] = int((turn.residual < 2.0).sum())
            residual[t + 1] = np.median(turn.residual) / comparer.scale
    warnings = []
    if solution.cost > TRAVELS:
        warnings.append(
            f"The camera seems to travel, not only to turn (its turning leaves {solution.cost / comparer.scale:.1f} "
            "pixels unexplained), so paths in the world are rough: solve it with Blender's tracker"
        )
    return Egomotion(
        solution.rotation,
        solution.scale,
        False,
        zooms,
        inliers,
        residual,
        None if found is None else found / comparer.scale,
        warnings,
    )


def _chain(links: Sequence[Link | None], assumed: float, focal: float, zoom: bool) -> _Solution:
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
    return _Solution(rotation, scale, turns)


def _closed(
    comparer: Comparer,
    links: Sequence[Link | None],
    keys: Sequence[Key],
    solution: _Solution,
    focal: float,
    zoom: bool,
) -> _Solution:
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
    return _Solution(
        rotvec_to_matrix(turn) @ solution.rotation, solution.scale * np.exp(stretch), solution.turns
    )


def _weight(turn: Turn) -> float:
    return float((turn.residual < 2.0).sum() / turn.spread**2)


def _again(
    comparer: Comparer, keys: Sequence[Key], solution: _Solution, focal: float, zoom: bool, most: int = 2
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
