# SPDX-License-Identifier: GPL-3.0-or-later
"""Limbs that pass each other: which is the left one and which the right, before and after.

Where two legs cross in the picture, an outline cannot tell whether they pass or turn back, and a network that sees
each frame for itself takes a far leg for the near one. So points on both are followed by flow over the crossing, and
back again: those that return to where they came from say which leg went where. And the leg whose points outlast the
crossing is the one in front, the nearer of the two as the body stands. From both, and from a trust in the network, a
path through the stretches between crossings says where left and right are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..core.camera import project, transform
from ..core.category import Category
from ..core.motion import Motion
from ..core.raster import rasterize
from ..core.rotation import geodesic
from ..core.skeleton import Skeleton, forward_kinematics, mirror_rotations
from .evidence import FlowMaker
from .fit_config import DEFAULT_FIT
from .limbs import limb_roots
from .path import cheapest_path
from .smooth import smooth
from .student import Prediction
from .track import coarse_of

Array = np.ndarray

_ON_BONE = 4  # points along each bone of a limb
_ASIDE = (-0.01, 0.0, 0.01)  # and beside it, crop sides
_STEADY = 0.04  # seconds that distances between limbs are smoothed over
_DIP = 0.12  # fall of the logarithm of their distance, and rise again, that is a crossing
_APART = 0.05  # crop sides: limbs that are never further apart cannot be told apart
_ACROSS = (1 / 3, 1 / 2, 2 / 3, 5 / 6)  # seconds over which points are followed
_FROM = 4  # frames from which they are, for each of those
_RETURN = 0.02  # crop sides off the place it came from: a point that was lost
_TURN = 0.35  # radians that the body turns in between, which shows another side of it
_LEAST = 0.1  # share of full weight with which a crossing is judged at all
_ALIKE = 0.2  # difference in colour, 0…1, of a point that has become another
_KEPT = 256  # flows that are kept at a time
_FRONT = 1.0  # what the leg in front says, beside where points went
_NETWORK = 0.2  # what it costs to gainsay the network for up to half a second; twice that for longer


@dataclass(frozen=True)
class Passing:
    """A stretch with a pair of limbs exchanged: their uppermost joint's name, first and last index."""

    limb: str
    first: int
    last: int


def limb_pairs(skeleton: Skeleton) -> list[tuple[Array, Array]]:
    """Joints of every left limb of three joints or more, parents first, and those of the right one that mirrors it."""
    found = []
    for root in limb_roots(skeleton):
        if skeleton.roles[root] != "limb" or skeleton.mirror[root] <= root:
            continue
        joints = [root]
        for j in range(root + 1, len(skeleton)):
            if skeleton.parents[j] in joints:
                joints.append(j)
        if len(joints) > 2:
            left = np.array(joints)
            found.append((left, np.asarray(skeleton.mirror)[left]))
    return found


def exchanged_limbs(
    category: Category, motion: Motion, crops: Array, center: Array, side: Array, flow: FlowMaker,
    check: Callable[[float], None] = lambda share: None,
) -> Array:  # fmt: skip
    """Where the motion has left and right limbs exchanged, ``(T, J)`` bool.

    crops ``(T, 4, S, S)`` uint8: masked colours and the mask; center ``(T, 2)`` and side ``(T,)``: the crops, in the
    motion's pixels.  check: called with the share that is done; may raise to stop.
    """
    skeleton, count = category.skeleton, len(motion)
    found = np.zeros((count, len(skeleton)), bool)
    pairs = limb_pairs(skeleton)
    if count < 3 or not pairs:
        return found
    _, joints = category.body.shaped(motion.morphology, motion.relief)
    posed = forward_kinematics(skeleton, joints, motion.joint_rotations)[..., :3, 3]
    places = transform(motion.camera_from_root, posed)
    seen = project(places, motion.focal_px, motion.principal_point) - np.asarray(center)[:, None]
    seen = seen / np.asarray(side)[:, None, None]
    view = np.asarray(motion.camera_from_root[:, :3, :3], np.float64)
    trail = _Trail(crops, flow, _owners(category, motion, center, side))
    for n, (left, right) in enumerate(pairs):
        check(n / len(pairs))
        limbs = np.stack([left, right])
        lines = np.stack([_along(seen[:, joints]) for joints in limbs[:, 1:]])
        across = places[:, right[0]] - places[:, left[0]]
        nearer = across[:, 2] / np.maximum(np.linalg.norm(across, axis=1), 1e-9)
        for stretch in _exchanged(lines, limbs, nearer, view, trail, motion.fps):
            found[stretch, limbs.ravel()] = True
    return found


def stretches(skeleton: Skeleton, exchanged: Array) -> list[Passing]:
    """The stretches of `exchanged_limbs`, limb by limb."""
    found = []
    for left, _ in limb_pairs(skeleton):
        edges = np.flatnonzero(np.diff(np.pad(exchanged[:, left[0]].astype(np.int8), 1)))
        for first, stop in edges.reshape(-1, 2):
            found.append(Passing(skeleton.names[left[0]], int(first), int(stop) - 1))
    return found


def mirrored_answer(category: Category, prediction: Prediction, exchanged: Array) -> Prediction:
    """The network's answer with left and right exchanged where limbs are, ``(T, J)`` bool: joints, and the cells of
    the surface map that show those limbs."""
    skeleton, body = category.skeleton, category.body
    joints, sure = prediction.joint_rotations, prediction.joint_confidence
    shown = prediction.surface_map
    if shown is not None:
        shown = np.array(shown)
        vertex = coarse_of(category, DEFAULT_FIT.vertices).vertex
        points, owner = body.vertices[vertex], body.owner[vertex]
        for t in np.flatnonzero(exchanged.any(1)):
            cells = shown[t].reshape(-1, 3)
            square = (cells**2).sum(1)[:, None] - 2 * cells @ points.T + (points**2).sum(1)
            cells[exchanged[t, owner[square.argmin(1)]], 0] *= -1
    return replace(
        prediction,
        joint_rotations=np.where(exchanged[..., None], mirror_rotations(skeleton, joints), joints),
        joint_confidence=np.where(exchanged, sure[:, skeleton.mirror], sure),
        surface_map=shown,
    )


def _along(places: Array) -> Array:
    """Points ``(T, N, 2)`` along the bones between joints ``(T, k, 2)``."""
    share = np.linspace(0, 1, _ON_BONE, endpoint=False)[:, None]
    bones = [places[:, [k]] * (1 - share) + places[:, [k + 1]] * share for k in range(places.shape[1] - 1)]
    return np.concatenate([*bones, places[:, -1:]], 1)


def _exchanged(
    lines: Array, limbs: Array, nearer: Array, view: Array, trail: _Trail, fps: float
) -> list[slice]:
    """Stretches in which a pair of limbs is exchanged.

    lines ``(2, T, N, 2)``: points on the left limb and on the right, crop sides from the middle; limbs ``(2, k)``:
    their joints; nearer ``(T,)``: how far the left one is in front, −1…1; view ``(T, 3, 3)``: camera from root.
    """
    apart = smooth(np.linalg.norm(lines[0] - lines[1], axis=-1).mean(1), _STEADY * fps)
    crossings = dips(np.log(np.maximum(apart, 0) + 0.01), _DIP)
    edges = [0, *crossings, len(apart)]
    parts = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    cost = np.zeros((len(parts), 2))
    cost[:, 1] = [_NETWORK * np.clip((p.stop - p.start) / (0.5 * fps), 1.0, 2.0) for p in parts]
    same = np.zeros(len(parts))
    for k, (before, after) in enumerate(zip(parts, parts[1:], strict=False)):
        same[k + 1], right_before, right_after = _crossing(
            lines, limbs, apart, nearer, view, before, after, trail, fps
        )
        cost[k, 1] += _FRONT * right_before
        cost[k + 1, 1] += _FRONT * right_after

    def step(k: int) -> Array:
        kept, changed = max(-same[k], 0.0), max(same[k], 0.0)
        return np.array([[kept, changed], [changed, kept]])

    path = cheapest_path(cost, step)
    return [part for part, taken in zip(parts, path, strict=True) if taken]


def dips(values: Array, least: float) -> list[int]:
    """Where values ``(T,)`` fall by `least` or more and rise by as much again: the lowest places between."""
    found: list[int] = []
    top, bottom, at, falling = values[0], np.inf, 0, False
    for t, value in enumerate(values):
        if not falling:
            top = max(top, value)
            if value < top - least:
                falling, bottom, at = True, value, t
        elif value < bottom:
            bottom, at = value, t
        elif value > bottom + least:
            found.append(at)
            falling, top = False, value
    return found


def _crossing(
    lines: Array, limbs: Array, apart: Array, nearer: Array, view: Array, before: slice, after: slice,
    trail: _Trail, fps: float,
) -> tuple[float, float, float]:  # fmt: skip
    """What is seen of a crossing, each −1…1: whether limbs go on as they are called, 1, or are exchanged after it;
    and whether those before it, and after it, are called as they should be, by which of them is in front."""
    at, peak = before.stop, min(apart[before].max(), apart[after].max())
    if peak < _APART:
        return 0.0, 0.0, 0.0
    votes = weights = 0.0
    front, total, tried = np.zeros(2), 1e-9, 0
    for seconds in _ACROSS:
        gap = max(2, round(seconds * fps))
        first = np.arange(max(before.start, at - gap + 1), min(at, after.stop - gap))
        first = first[(first + gap > at) & (np.minimum(apart[first], apart[first + gap]) >= 0.5 * peak)]
        for t in first[:: -(-len(first) // _FROM)] if len(first) else first:
            much = apart[t] * apart[t + gap] / (apart[before].max() * apart[after].max())
            much *= float(np.exp(-0.5 * (geodesic(view[t], view[t + gap]) / _TURN) ** 2))
            for k, (here, there) in enumerate(((t, t + gap), (t + gap, t))):
                vote, kept, shown = trail.followed(lines, limbs, int(here), int(there))
                weight = much * (kept * shown) ** 3
                votes, weights = votes + float((vote * weight).sum()), weights + float(weight.sum())
                front[k] += much * (kept[0] - kept[1]) * shown.min()
            total += much
            tried += 1
    if total < _LEAST * tried:  # the body turned about: another side of it is seen
        return 0.0, 0.0, 0.0
    same = votes / max(weights, 1e-9)
    agree = front / total * float(np.clip(nearer[at], -1, 1))
    return same, float(agree[0]), float(agree[1])


def _owners(category: Category, motion: Motion, center: Array, side: Array) -> Callable[[int], Array]:
    """A frame → the joint that what is seen of the body hangs on, in its crop, −1 beside it; kept once made."""
    coarse, size = coarse_of(category, DEFAULT_FIT.vertices), DEFAULT_FIT.silhouette
    owner = category.body.owner[coarse.vertex]
    face_owner = owner[coarse.faces[:, 0]]
    known: dict[int, Array] = {}

    def made(frame: int) -> Array:
        if frame not in known:
            posed = coarse.posed(category, motion.morphology, motion.joint_rotations[frame : frame + 1])
            places = transform(motion.camera_from_root[frame : frame + 1], posed)
            seen = project(places, motion.focal_px[frame : frame + 1], motion.principal_point) - center[frame]
            pixels = np.concatenate([(seen / side[frame] + 0.5) * size, places[..., 2:]], -1)
            face = rasterize(pixels, coarse.faces, (size, size)).face[0]
            known[frame] = np.where(face >= 0, face_owner[np.maximum(face, 0)], -1)
        return known[frame]

    return made


class _Trail:
    """Points followed by flow through a clip's crops ``(T, 4, S, S)`` uint8.

    owners: a frame → the joint that what is seen of the body hangs on ``(s, s)``, −1 beside it.
    """

    def __init__(self, crops: Array, flow: FlowMaker, owners: Callable[[int], Array]) -> None:
        self.crops, self.flow, self.owners = crops, flow, owners
        self.known: dict[tuple[int, int], Array] = {}
        self.colours: dict[int, Array] = {}

    def followed(self, lines: Array, limbs: Array, here: int, there: int) -> tuple[Array, Array, Array]:
        """Points on two limbs ``(2, T, N, 2)`` of joints ``(2, k)`` followed from one frame to another.

        Returns for each limb whether they land on the limb of that name, 1, or on the other, −1; the share of them
        that return, as they do not where the limb is hidden in between; and the share that nothing hid to begin with.
        """
        aside = np.stack([np.array(_ASIDE), np.zeros(len(_ASIDE))], -1)
        begun = lines[:, here, :, None] + aside  # (2, N, 3, 2)
        ended = self._go(begun.reshape(-1, 2), here, there)
        back = self._go(ended, there, here).reshape(begun.shape)
        ended = ended.reshape(begun.shape)
        owner = self.owners(here)[self._cells(begun, self.owners(here))]
        shown = np.stack([np.isin(owner[k], limbs[k]) for k in range(2)]) & self._on_subject(begun, here)
        good = (np.linalg.norm(back - begun, axis=-1) < _RETURN) & self._on_subject(ended, there)
        changed = ((self._colour(ended, there) - self._colour(begun, here)) ** 2).sum(-1)
        to = np.linalg.norm(ended[:, :, :, None, None] - lines[None, None, None, :, there], axis=-1).min(-1)
        own = np.stack([to[0, ..., 0], to[1, ..., 1]])  # (2, N, 3)
        other = np.stack([to[0, ..., 1], to[1, ..., 0]])
        vote = np.clip((other - own) / np.maximum(other + own, 0.04), -1, 1)
        telling = np.linalg.norm(lines[0, here] - lines[1, here], axis=-1)[None, :, None] * shown
        weight = telling * good * np.exp(-0.5 * changed / _ALIKE**2)
        kept = weight.sum((1, 2)) / np.maximum(telling.sum((1, 2)), 1e-9)
        vote = (vote * weight).sum((1, 2)) / np.maximum(weight.sum((1, 2)), 1e-9)
        return vote, kept, shown.mean((1, 2))

    def _go(self, points: Array, here: int, there: int) -> Array:
        size, step = self.crops.shape[-1], 1 if there > here else -1
        at = (points + 0.5) * size
        for t in range(here, there, step):
            x, y = (at - 0.5).astype(np.float32).T
            moved = cv2.remap(
                self._moved(t, t + step), x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            at = at + moved[0]
        return at / size - 0.5

    def _moved(self, here: int, there: int) -> Array:
        if (here, there) not in self.known:
            a, b = (np.ascontiguousarray(self.crops[t, :3].transpose(1, 2, 0)) for t in (here, there))
            if len(self.known) >= _KEPT:
                del self.known[next(iter(self.known))]
            self.known[here, there] = self.flow(a, b)
        return self.known[here, there]

    def _colour(self, points: Array, frame: int) -> Array:
        """Colours ``(…, 3)``, 0…1, at points ``(…, 2)``."""
        if frame not in self.colours:
            picture = np.ascontiguousarray(self.crops[frame, :3].transpose(1, 2, 0))
            self.colours[frame] = cv2.GaussianBlur(picture, (0, 0), 1.0).astype(np.float32) / 255
        return self.colours[frame][self._cells(points, self.colours[frame])]

    def _on_subject(self, points: Array, frame: int) -> Array:
        return self.crops[frame, 3][self._cells(points, self.crops[frame, 3])] > 127

    @staticmethod
    def _cells(points: Array, picture: Array) -> tuple[Array, Array]:
        size = picture.shape[0]
        column, row = np.moveaxis(
            np.clip(np.floor((points + 0.5) * size), 0, size - 1).astype(np.int64), -1, 0
        )
        return row, column


__all__ = ["Passing", "dips", "exchanged_limbs", "limb_pairs", "mirrored_answer", "stretches"]
