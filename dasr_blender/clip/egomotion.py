# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera's own movement: rotation and zoom from the background outside the subject's mask.

Corners of key frames are followed (`tracks`), every frame's turn from its key frame is fitted (`turning`), all
turns are made to agree (`chain`), and a pan that is wide enough tells the focal length (`calibrate`). A camera that
also travels is explained as far as turning can, and said; standing feet tell the rest (`core.travel`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..core import Category, Motion, filmed_following
from ..core.progress import shot_by_shot
from ..core.rotation import matrix_to_rotvec
from .calibrate import calibrated
from .chain import Solution, chain, closed
from .mask_store import Masks
from .tracks import Comparer, Key, Link, TrackingConfig, follow_background
from .turning import turned
from .video import Clip

Array = np.ndarray

STATIC = 0.4  # compared pixels: a corner that is no farther from its place in the key frame did not move
STATIC_SHARE = 0.4  # of the corners: then the camera stands still, whatever the rest of the picture does
ZOOM = 0.05  # smallest change of focal length over a clip, relative, that is called a zoom
PARALLAX = 0.1  # of the growth: a zoom leaves less of it unexplained, walking closer more
TRAVELS = 1.2  # compared pixels: a larger typical residual means that the camera does not only turn
FEET = 0.02  # how far a way that standing feet tell is believed, beside turns from a background that explains all
PAN = np.radians(10.0)  # turning less than this tells too little about the focal length
SOLVE = "solve it with Blender's tracker"
LOST = 0.3  # share of frames without enough background at which nothing is claimed about the camera


@dataclass(frozen=True, eq=False)
class Egomotion:
    """The camera over T frames; the world is the first frame's camera.

    rotation ``(T, 3, 3)`` world_from_camera; focal_scale ``(T,)``, relative to the first frame; still: it did
    not move or zoom at all; zooms; travels: turning alone does not explain what is seen; inliers ``(T,)`` corners that
    the movement explains, 0 where the frame was filled in; residual_px ``(T,)`` their median error, pixels of the
    working size; focal: pixels of the working size in the first frame, where the pan tells it; warnings.
    """

    rotation: Array
    focal_scale: Array
    still: bool
    zooms: bool
    travels: bool
    inliers: Array
    residual_px: Array
    focal: float | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def sure(self) -> bool:
        """Whether this is how the camera moved, as far as can be told."""
        return not self.warnings

    @property
    def trust(self) -> float:
        """How far it is believed, with a way that standing feet tell where it travels; 0…1."""
        return 1.0 if self.sure else FEET if self.travels else 0.0

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

    def filmed(self, category: Category, motion: Motion) -> Motion:
        """A motion of the same frames, filmed so, with the way that its feet tell where the camera travels."""
        motion = replace(motion, world_from_camera=self.world_from_camera)
        return filmed_following(category, motion) if self.travels else motion


@dataclass(frozen=True, eq=False)
class Egomotions:
    """The camera over a clip's shots, T frames in all; every shot has a world of its own, its first frame's camera."""

    shots: tuple[Egomotion, ...]

    @property
    def still(self) -> bool:
        """Whether it moved in no shot."""
        return all(shot.still for shot in self.shots)

    @property
    def zooms(self) -> bool:
        """Whether it zooms in any."""
        return any(shot.zooms for shot in self.shots)

    @property
    def travels(self) -> bool:
        """Whether it travels in any."""
        return any(shot.travels for shot in self.shots)

    @property
    def angle(self) -> float:
        """The largest angle between a shot's first camera and another of it, radians."""
        return max(shot.angle for shot in self.shots)

    @property
    def focal(self) -> float | None:
        """Focal length in the first frame, pixels of the working size, where a pan tells it."""
        return next((shot.focal for shot in self.shots if shot.focal is not None), None)

    @property
    def focal_scale(self) -> Array:
        """``(T,)``, relative to the first frame of the shot."""
        return np.concatenate([shot.focal_scale for shot in self.shots])

    @property
    def residual_px(self) -> Array:
        """``(T,)``, as an `Egomotion`'s."""
        return np.concatenate([shot.residual_px for shot in self.shots])

    @property
    def trust(self) -> Array:
        """How far each frame's is believed, ``(T,)`` in 0…1."""
        return np.concatenate([np.full(len(shot.rotation), shot.trust) for shot in self.shots])

    @property
    def warnings(self) -> list[str]:
        """Those of all shots, one of each kind: what differs in numbers alone is the first one's."""
        kinds: dict[str, str] = {}
        for warning in (warning for shot in self.shots for warning in shot.warnings):
            kinds.setdefault(re.sub(r"[\d.]+", "", warning), warning)
        advice = SOLVE if len(self.shots) == 1 else f"reconstruct its shot alone and {SOLVE}"
        return [warning.replace(SOLVE, advice) for warning in kinds.values()]

    def filmed(self, category: Category, motion: Motion) -> Motion:
        """A motion of the same shots, filmed so; see `Egomotion.filmed`."""
        parts = [motion.part(shot) for shot in motion.shots]
        filmed = [ego.filmed(category, part) for ego, part in zip(self.shots, parts, strict=True)]
        return Motion.joined(filmed)


def find_egomotions(
    clip: Clip,
    masks: Masks,
    focal: float,
    calibrate: bool = True,
    progress: Callable[[float, str], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Egomotions:
    """The camera's movement over each shot of a clip; see `find_egomotion`.

    A focal length that the pan of one shot tells is taken for the others too: most are filmed with one lens.
    """
    steps = shot_by_shot(progress, clip.shots)

    def found(n: int, focal: float, calibrate: bool) -> Egomotion:
        shot = clip.shots[n]
        part = clip.part(shot), masks.part(shot)
        return find_egomotion(*part, focal, calibrate, progress=steps[n], cancel=cancel)

    shots = [found(n, focal, calibrate) for n in range(len(clip.shots))]
    told = [shot.focal for shot in shots if shot.focal is not None]
    for n, shot in enumerate(shots):
        if told and shot.focal is None:
            moved = shot if shot.still else found(n, float(np.median(told)), False)
            shots[n] = replace(moved, focal=float(np.median(told)))
    return Egomotions(tuple(shots))


def standing_still(count: int, warnings: Sequence[str] = ()) -> Egomotion:
    """A camera that does not move over `count` frames."""
    return Egomotion(
        np.tile(np.eye(3), (count, 1, 1)),
        np.ones(count),
        True,
        False,
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
                f"by the subject), so the camera is taken to stand still: if it moved, {SOLVE}"
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


def _only_noise(links: Sequence[Link | None], solution: Solution, focal: float, keys: Sequence[Key]) -> bool:
    """Whether the turns that were found are what noise alone makes of a still camera.

    None moves the corners by more than they tremble, but for a few that explain next to nothing; and together
    they lead no farther than a random walk over the key frames.
    """
    starts = {key.frame for key in keys}
    wrong, walk = 0, [np.zeros(3)]
    for t, (link, turn) in enumerate(zip(links, solution.turns, strict=True), 1):
        if link is None or turn is None:
            continue
        moved = np.median(np.linalg.norm(turned(link.a, focal, turn.rotation, 1.0) - link.a, axis=1))
        if moved < STATIC:
            if t in starts:
                walk.append(matrix_to_rotvec(turn.rotation))
        elif turn.share > 0.7:
            return False
        else:
            wrong += 1
    reach = focal * float(np.linalg.norm(np.cumsum(walk, axis=0), axis=1).max())
    return wrong < 0.1 * len(links) and reach < STATIC * (3 + len(keys) ** 0.5)


def _zooms(links: Sequence[Link | None], solution: Solution) -> bool:
    """Whether the picture grows or shrinks as by a zoom, which takes near and far alike: little of the growth is
    left unexplained, looked at where there is most of it."""
    pairs = [(link, turn) for link, turn in zip(links, solution.turns, strict=True) if link and turn]
    growth = np.array(
        [abs(turn.scale - 1) * np.median(np.linalg.norm(link.a, axis=1)) for link, turn in pairs]
    )
    left = np.array([np.median(turn.residual) for _, turn in pairs])
    most = growth >= np.percentile(growth, 75)
    return bool(np.ptp(np.log(solution.scale)) > ZOOM and left[most].sum() < PARALLAX * growth[most].sum())


def solve_turns(
    comparer: Comparer, links: Sequence[Link | None], keys: Sequence[Key], focal: float, calibrate: bool
) -> Egomotion:
    """The movement that explains `links`. focal: of the first frame, compared pixels."""
    assumed = comparer.focal
    solution, free = chain(links, assumed, focal, False), chain(links, assumed, focal, True)
    if _only_noise(links, solution, focal, keys):
        return _still(comparer, links)
    zooms = free.cost < min(solution.cost, TRAVELS) and _zooms(links, free)
    solution = free if zooms else solution
    found: float | None = None
    if calibrate and solution.width > 0.5 * PAN:
        found = calibrated(links, solution.scale, assumed, focal, zooms, TRAVELS)
        if found is not None:
            better = chain(links, assumed, found, zooms)
            if better.width > PAN:
                solution, focal = better, found
            else:
                found = None
    solution = closed(comparer, links, keys, solution, focal, zooms)
    inliers, residual = np.zeros(len(links) + 1, int), np.zeros(len(links) + 1)
    for t, turn in enumerate(solution.turns):
        if turn is not None:
            inliers[t + 1] = int((turn.residual < 2.0).sum())
            residual[t + 1] = np.median(turn.residual) / comparer.scale
    warnings, travels = [], solution.cost > TRAVELS
    if travels:
        warnings.append(
            f"The camera seems to travel, not only to turn (its turning leaves {solution.cost / comparer.scale:.1f} "
            f"pixels unexplained), so paths in the world, told by standing feet, are rough: {SOLVE}"
        )
    return Egomotion(
        solution.rotation,
        solution.scale,
        False,
        zooms,
        travels,
        inliers,
        residual,
        None if found is None else found / comparer.scale,
        warnings,
    )
