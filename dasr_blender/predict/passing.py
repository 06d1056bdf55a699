# SPDX-License-Identifier: GPL-3.0-or-later
"""Limbs that pass each other: which is the left one and which the right, before and after.

Where two legs cross in the picture, an outline cannot tell whether they pass or turn back, and a network that sees
each frame for itself takes a far leg for the near one. So points on both are followed by flow over the crossing, and
back again: those that return to where they came from say which leg went where. And the leg whose points outlast the
crossing is the one in front, the nearer of the two as the body stands. From both, and from a trust in the network, a
path through the stretches between crossings says where left and right are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..core.camera import CropBox, project, transform
from ..core.category import Category
from ..core.contacts import runs
from ..core.motion import Motion
from ..core.raster import rasterize
from ..core.rotation import geodesic
from ..core.skeleton import Skeleton, forward_kinematics, mirror_rotations
from ..core.smooth import smooth
from ..core.workers import worker_count
from .evidence import FlowMaker, picture
from .fit_config import DEFAULT_FIT
from .limbs import limb_roots
from .path import cheapest_path
from .student import Prediction
from .surface import nearest_vertex, strongest
from .track import coarse_of

Array = np.ndarray

_ON_BONE = 4  # points along each bone of a limb
_ASIDE = (-0.01, 0.0, 0.01)  # and beside it, crop sides
_STEADY = 0.04  # seconds that distances between limbs are smoothed over
_DIP = 0.12  # fall of the logarithm of their distance, and rise again, that is a crossing
_APART = 0.05  # crop sides: limbs that are never further apart cannot be told apart
_ACROSS = (1 / 3, 1 / 2, 2 / 3)  # seconds over which points are followed
_FROM = 3  # frames from which they are, for each of those
_RETURN = 0.02  # crop sides off the place it came from: a point that was lost
_TURN = 0.35  # radians that the body turns in between, which shows another side of it
_LEAST = 0.1  # share of full weight with which a crossing is judged at all
_ALIKE = 0.2  # difference in colour, 0…1, of a point that has become another
_KEPT = 256  # flows that are kept from one crossing to the next
_FPS = 30.0  # frames a second that points are followed through: every second one of a faster clip
_ENOUGH = 0.05  # weight of points that return, of what it could be, under which they are believed the less
_FRONT = 1.5  # what the leg in front says, beside where points went
_NETWORK = (0.2, 0.3, 2.0)  # price of gainsaying the network: at all, for a second, and for how many at most


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
    if len(motion.shots) > 1:
        return np.concatenate([
            exchanged_limbs(
                category, motion.part(shot), crops[shot], center[shot], side[shot], flow,
                lambda share, shot=shot: check((shot.start + share * (shot.stop - shot.start)) / count),
            )
            for shot in motion.shots
        ])  # fmt: skip
    found = np.zeros((count, len(skeleton)), bool)
    pairs = limb_pairs(skeleton)
    if count < 3 or not pairs:
        return found
    _, joints = category.body.shaped(motion.morphology, motion.relief)
    posed = forward_kinematics(skeleton, joints, motion.joint_rotations)[..., :3, 3]
    places = transform(motion.camera_from_root, posed)
    box = CropBox(np.asarray(center), np.asarray(side))
    seen = box.crop_pixels(project(places, motion.focal_px, motion.principal_point), 1) - 0.5
    view = np.asarray(motion.camera_from_root[:, :3, :3], np.float64)
    trail = _Trail(
        crops,
        flow,
        _Shown(category, motion, box),
        max(1, round(motion.fps / _FPS)),
    )
    limbs = [np.stack(pair) for pair in pairs]
    crossed = []
    for pair in limbs:
        lines = np.stack([_along(seen[:, joints]) for joints in pair[:, 1:]])
        across = places[:, pair[1, 0]] - places[:, pair[0, 0]]
        nearer = across[:, 2] / np.maximum(np.linalg.norm(across, axis=1), 1e-9)
        crossed.append(_Crossings(lines, pair, nearer, view, motion.fps))
    order = sorted((at, n, k) for n, one in enumerate(crossed) for k, at in enumerate(one.at))
    for done, (_, n, k) in enumerate(order):  # in the order of time, so that pairs share what is measured
        check(done / len(order))
        crossed[n].judge(k, trail)
    for one in crossed:
        for stretch in one.exchanged():
            found[stretch, one.limbs.ravel()] = True
    return found


def stretches(skeleton: Skeleton, exchanged: Array, shots: Sequence[slice] = ()) -> list[Passing]:
    """The stretches of `exchanged_limbs`, limb by limb; none reaches from one of the clip's shots into another."""
    found = []
    for left, _ in limb_pairs(skeleton):
        for first, stop in runs(exchanged[:, left[0]], True, shots):
            found.append(Passing(skeleton.names[left[0]], first, stop - 1))
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
        points, owner = body.vertices[vertex], strongest(category, vertex)
        for t in np.flatnonzero(exchanged.any(1)):
            cells = shown[t].reshape(-1, 3)
            cells[exchanged[t, owner[nearest_vertex(cells, points)]], 0] *= -1
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


class _Crossings:
    """Where a pair of limbs crosses in the picture, and what is seen of it.

    lines ``(2, T, N, 2)``: points on the left limb and on the right, crop sides from the middle.  limbs ``(2, k)``:
    their joints.  nearer ``(T,)``: how far the left one is in front, −1…1.  view ``(T, 3, 3)``: camera from root.
    at: frames where they cross; parts: the stretches between.
    """

    def __init__(self, lines: Array, limbs: Array, nearer: Array, view: Array, fps: float) -> None:
        self.lines, self.limbs, self.nearer, self.view, self.fps = lines, limbs, nearer, view, fps
        self.apart = smooth(np.linalg.norm(lines[0] - lines[1], axis=-1).mean(1), _STEADY * fps)
        self.at = dips(np.log(np.maximum(self.apart, 0) + 0.01), _DIP)
        edges = [0, *self.at, len(self.apart)]
        self.parts = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
        # each −1…1 a crossing: whether limbs go on as they are called; and are called rightly before it, and after
        self.same, self.right = np.zeros(len(self.at)), np.zeros((len(self.at), 2))

    def exchanged(self) -> list[slice]:
        """Stretches in which the limbs are exchanged, once every crossing was judged."""
        cost = np.zeros((len(self.parts), 2))
        once, long, most = _NETWORK
        cost[:, 1] = [once + long * min((p.stop - p.start) / self.fps, most) for p in self.parts]
        cost[:-1, 1] += _FRONT * self.right[:, 0]
        cost[1:, 1] += _FRONT * self.right[:, 1]

        def step(k: int) -> Array:
            kept, changed = max(-self.same[k - 1], 0.0), max(self.same[k - 1], 0.0)
            return np.array([[kept, changed], [changed, kept]])

        path = cheapest_path(cost, step)
        return [part for part, taken in zip(self.parts, path, strict=True) if taken]

    def judge(self, k: int, trail: _Trail) -> None:
        """Follow points over a crossing, there and back."""
        at, before, after, apart = self.at[k], self.parts[k], self.parts[k + 1], self.apart
        peaks = apart[before].max(), apart[after].max()
        if min(peaks) < _APART:
            return
        pairs, tried, stride = [], 0, trail.stride
        for seconds in _ACROSS:
            gap = stride * max(2, round(seconds * self.fps / stride))
            first = np.arange(max(before.start, at - gap + 1), min(at, after.stop - gap), stride)
            first = first[
                (first + gap > at) & (np.minimum(apart[first], apart[first + gap]) >= 0.5 * min(peaks))
            ]
            for t in first[:: -(-len(first) // _FROM)] if len(first) else first:
                turned = float(geodesic(self.view[t], self.view[t + gap]))
                much = (
                    apart[t] * apart[t + gap] / (peaks[0] * peaks[1]) * np.exp(-0.5 * (turned / _TURN) ** 2)
                )
                tried += 1
                if much > 0.1 * _LEAST:
                    pairs.append((int(t), int(t + gap), float(much)))
        if sum(much for *_, much in pairs) <= _LEAST * tried:  # the body turned: another side of it is seen
            return
        trail.prepare([(t, u) for t, u, _ in pairs])
        votes = weights = total = 0.0
        front = np.zeros(2)
        for t, u, much in pairs:
            for n, (here, there) in enumerate(((t, u), (u, t))):
                vote, kept, shown = trail.followed(self.lines, self.limbs, here, there)
                weight = much * (kept * shown) ** 3
                votes, weights = votes + float((vote * weight).sum()), weights + float(weight.sum())
                front[n] += much * (kept[0] - kept[1]) * shown.min()
            total += much
        self.same[k] = votes / max(weights, _ENOUGH * total)
        self.right[k] = front / total * np.clip(self.nearer[at], -1, 1)


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


class _Shown:
    """Which joint that what is seen of the body hangs on, in a frame's crop ``(s, s)``, −1 beside it."""

    def __init__(self, category: Category, motion: Motion, box: CropBox) -> None:
        self.category, self.motion, self.box = category, motion, box
        self.known: dict[int, Array] = {}

    def prepare(self, frames: set[int]) -> None:
        """Draw the body in some frames."""
        chosen = np.array(sorted(frames - self.known.keys()), np.int64)
        if not len(chosen):
            return
        category, motion = self.category, self.motion
        coarse, size = coarse_of(category, DEFAULT_FIT.vertices), DEFAULT_FIT.silhouette
        posed = coarse.posed(category, motion.morphology, motion.joint_rotations[chosen])
        places = transform(motion.camera_from_root[chosen], posed)
        box = CropBox(self.box.center[chosen], self.box.side[chosen])
        seen = box.crop_pixels(project(places, motion.focal_px[chosen], motion.principal_point), size)
        face = rasterize(np.concatenate([seen, places[..., 2:]], -1), coarse.faces, (size, size)).face
        owner = strongest(category, coarse.vertex)[coarse.faces[:, 0]]
        drawn = np.where(face >= 0, owner[np.maximum(face, 0)], -1).astype(np.int16)
        self.known.update(zip(chosen.tolist(), drawn, strict=True))


class _Trail:
    """Points followed by flow through a clip's crops ``(T, 4, S, S)`` uint8.

    stride: frames from one step to the next.
    """

    def __init__(self, crops: Array, flow: FlowMaker, shown: _Shown, stride: int) -> None:
        self.crops, self.flow, self.shown, self.stride = crops, flow, shown, stride
        self.known: dict[tuple[int, int], Array] = {}

    def prepare(self, pairs: list[tuple[int, int]]) -> None:
        """Flow between all frames that lie between pairs of frames, there and back, and the body at both ends."""
        steps = {(t, t + self.stride) for first, last in pairs for t in range(first, last, self.stride)}
        steps |= {(b, a) for a, b in steps}
        missing = sorted(steps - self.known.keys())
        if len(self.known) + len(missing) > _KEPT:
            self.known = {step: moved for step, moved in self.known.items() if step in steps}
        self.shown.prepare({t for pair in pairs for t in pair})
        with ThreadPoolExecutor(worker_count()) as pool:
            self.known.update(zip(missing, pool.map(self._measured, missing), strict=True))

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
        owner = self.shown.known[here]
        owner = owner[self._cells(begun, owner)]
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
        size, step = self.crops.shape[-1], self.stride if there > here else -self.stride
        at = (points + 0.5) * size
        for t in range(here, there, step):
            x, y = (at - 0.5).astype(np.float32).T
            moved = cv2.remap(
                self.known[t, t + step], x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            at = at + moved[0]
        return at / size - 0.5

    def _measured(self, step: tuple[int, int]) -> Array:
        size = self.crops.shape[-1]
        return self.flow(*(picture(self.crops[t], size) for t in step))

    def _colour(self, points: Array, frame: int) -> Array:
        """Mean colours ``(…, 3)``, 0…1, of the nine pixels round points ``(…, 2)``."""
        picture = self.crops[frame, :3]
        row, column = self._cells(points, picture[0])
        total = np.zeros((*row.shape, 3))
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                at = (np.clip(k + by, 0, len(picture[0]) - 1) for k, by in ((row, down), (column, right)))
                total += np.moveaxis(picture[(slice(None), *at)], 0, -1)
        return total / (9 * 255)

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
