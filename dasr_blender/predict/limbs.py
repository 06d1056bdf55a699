# SPDX-License-Identifier: GPL-3.0-or-later
"""Limbs put where the mask has one that the body has not.

Outlines pull a leg to the nearest edge, which may be that of the gap beside the leg that is meant; no small step leads
out of there. So every limb is tried in a few dozen other poses, those by which the network usually errs most (the
principal directions of its errors, by how far they move the limb). What covers more of the mask and less of the ground
is worth a detour over the gap; a path through the poses of all frames keeps it from flickering. The
body and the other limbs stay meanwhile. The fit goes on from there, and keeps it only if it costs less.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..core.raster import silhouette
from ..core.rotation import quat_conjugate, quat_multiply, quat_to_matrix, quat_to_rotvec, rotvec_to_quat
from ..core.skeleton import Skeleton
from ..core.workers import shared_out, worker_count
from .evidence import Evidence
from .fit_body import BodyModel, in_crop, pose
from .fit_config import FitConfig
from .path import cheapest_path

Array = np.ndarray

_STEPS = ((-1.8, -0.9, 0.0, 0.9, 1.8), (-1.1, 0.0, 1.1), (-1.1, 0.0, 1.1))  # usual errors along each direction
_FRAMES_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Limb:
    """A limb: its joints ``(k,)``, parents first, the coarse vertices ``(v,)`` that hang on them, and the triangles
    ``(f, 3)`` between those.

    offsets ``(C, k, 3)``: other turns of the joints about their parents' axes, in units of their usual errors; the
    first is none.
    """

    joints: Array
    vertices: Array
    faces: Array
    offsets: Array

    @property
    def unknowns(self) -> Array:
        """Which of a frame's unknowns turn the joints, ``(k, 3)``."""
        return 6 + 3 * (self.joints - 1)[:, None] + np.arange(3)


def limb_roots(skeleton: Skeleton) -> list[int]:
    """The joints where limbs, tails and the neck begin: the uppermost of their role, or of the neck's single file."""
    found = []
    for j, role in enumerate(skeleton.roles):
        parent = int(skeleton.parents[j])
        if parent < 0 or skeleton.roles[parent] == role:
            continue
        if role in ("limb", "tail"):
            found.append(j)
        elif role == "head":
            while parent > 0 and len(skeleton.children(parent)) == 1:
                j, parent = parent, int(skeleton.parents[parent])
            found.append(j)
    return found


def limbs_of(model: BodyModel, least: float = 0.01) -> list[Limb]:
    """The limbs of a body; those with less than a share `least` of its vertices are left out."""
    found = []
    for root in limb_roots(model.category.skeleton):
        joints = np.flatnonzero(model.below[:, root])
        carried = model.weights[:, joints].sum(1)
        hanging = carried > 0.5
        vertices, slot = np.flatnonzero(hanging), np.cumsum(hanging) - 1
        if len(vertices) >= least * len(carried):
            faces = slot[model.faces[hanging[model.faces].all(1)]].astype(np.int32)
            found.append(Limb(joints, vertices, faces, _offsets(model, joints, vertices)))
    return found


def _offsets(model: BodyModel, joints: Array, vertices: Array) -> Array:
    """Turns ``(C, k, 3)`` along the directions of the network's errors that move these vertices most."""
    index = (3 * (joints - 1)[:, None] + np.arange(3)).ravel()
    scale = model.pose_errors.scale.reshape(-1)[index]
    spread = np.linalg.cholesky(model.pose_errors.correlation[np.ix_(index, index)])
    rest, at = model.rest[vertices], model.category.body.joints[joints]
    lever = (rest[:, None] - at) * model.carried[vertices][:, joints, None]  # (v, k, 3)
    moves = np.stack([np.cross(axis, lever) for axis in np.eye(3)], 2)  # (v, k, 3 axes, 3)
    moves = moves.reshape(len(vertices), -1, 3) * scale[:, None]
    by = np.einsum("vnc,nm->vmc", moves, spread).transpose(0, 2, 1).reshape(-1, len(index))
    _, _, directions = np.linalg.svd(by, full_matrices=False)
    steps = np.stack(np.meshgrid(*_STEPS, indexing="ij"), -1).reshape(-1, 3)
    steps = steps[np.argsort(np.linalg.norm(steps, axis=1), kind="stable")]
    turns = steps @ directions[:3] @ spread.T  # correlated, in units of each component's usual error
    return turns.reshape(len(steps), len(joints), 3)


def better_limbs(
    model: BodyModel, evidence: Evidence, frames: Array, shared: Array, linked: Array, fps: float,
    config: FitConfig, check: Callable[[float], None] = lambda share: None,
) -> Array | None:  # fmt: skip
    """Unknowns ``(T, n)`` with the limbs where the masks want them, or None where they are there already.

    frames ``(T, n)`` and shared ``(g,)``: the unknowns as they are.  linked ``(T,)`` bool: the next frame follows
    this one.  check: called with the share that is done, now and then; may raise to stop.
    """
    limbs, size = limbs_of(model), config.limb_silhouette
    outlines = evidence.outlines
    mask, inside = _fewer(outlines.distance, size) < 0, _fewer(outlines.inside, size)
    if not limbs or not mask.any():
        return None
    trial = _Trial(model, evidence, frames, shared, size)
    trunk = trial.trunk(limbs)
    drawn = [trial.drawn(limb, np.zeros(len(frames), np.int64)) for limb in limbs]
    chosen = np.zeros((len(limbs), len(frames)), np.int64)
    worth = config.limb_evidence * evidence.trust / np.maximum(mask.sum((1, 2)), 1)
    for k, limb in enumerate(limbs):
        others = np.logical_or.reduce([trunk, *(d for m, d in enumerate(drawn) if m != k)])
        value = np.where(mask, 1, -1) * (inside & ~others)
        gain = trial.gain(limb, value, lambda share, k=k: check((k + share) / len(limbs)))
        cost = trial.unlikely(limb) - worth[:, None] * gain
        steps = trial.steps(limb, fps, config)
        chosen[k] = cheapest_path(cost, lambda t, steps=steps: steps if linked[t - 1] else 0.0)
        if chosen[k].any():
            drawn[k] = trial.drawn(limb, chosen[k])
    if not chosen.any():
        return None
    changed = frames.copy()
    for limb, path in zip(limbs, chosen, strict=True):
        moved = np.flatnonzero(path)
        changed[moved[:, None, None], limb.unknowns] = trial.unknowns(limb, path)[moved]
    return changed


def _fewer(field: Array, size: int) -> Array:
    """A field ``(T, S, S)`` at the middles of fewer cells ``(T, size, size)``."""
    at = ((np.arange(size) + 0.5) * field.shape[-1] / size).astype(np.int64)
    return field[:, at[:, None], at[None]]


class _Trial:
    """The body of a window as it is posed, and its limbs in other poses.

    size: side of the silhouettes, pixels.
    """

    def __init__(
        self, model: BodyModel, evidence: Evidence, frames: Array, shared: Array, size: int
    ) -> None:
        self.model, self.evidence, self.frames, self.size = model, evidence, frames, size
        self.posed = pose(model, evidence.start, frames, shared)
        _, self.rest = model.shaped(evidence.start.morphology, shared)

    def trunk(self, limbs: list[Limb]) -> Array:
        """The body without its limbs, drawn ``(T, S, S)`` bool."""
        hanging = np.zeros(len(self.model.weights), bool)
        for limb in limbs:
            hanging[limb.vertices] = True
        faces = self.model.faces[~hanging[self.model.faces].all(1)]
        seen, camera = self.posed.seen, self.posed.camera
        pixels = np.concatenate([(seen + 0.5) * self.size, camera[..., 2:]], -1)
        return silhouette(pixels, faces, (self.size, self.size))

    def drawn(self, limb: Limb, path: Array) -> Array:
        """A limb at one offset a frame ``(T,)``, drawn ``(T, S, S)`` bool."""

        def one(piece: slice) -> Array:
            pixels = self._pixels(limb, limb.offsets[path[piece]][:, None], piece)[:, 0]
            return silhouette(pixels, limb.faces, (self.size, self.size))

        with ThreadPoolExecutor(worker_count()) as pool:
            return np.concatenate(list(pool.map(one, shared_out(len(path), _FRAMES_AT_ONCE))))

    def gain(self, limb: Limb, value: Array, check: Callable[[float], None]) -> Array:
        """Sum ``(T, C)`` of the values ``(T, S, S)`` of the cells that a limb covers at each of its offsets."""

        def one(piece: slice) -> Array:
            pixels, worth = self._pixels(limb, limb.offsets[None], piece), value[piece]
            count, tried = pixels.shape[:2]
            # only where the limb comes and something is to be gained or lost
            low = np.clip(np.floor(pixels[..., :2].min((0, 1, 2))), 0, self.size).astype(np.int64)
            high = np.clip(np.ceil(pixels[..., :2].max((0, 1, 2))), 0, self.size).astype(np.int64)
            worth = worth[:, low[1] : high[1], low[0] : high[0]]
            if not worth.any():
                return np.zeros((count, tried), np.float32)
            pixels[..., :2] -= low
            drawn = silhouette(pixels.reshape(count * tried, -1, 3), limb.faces, (worth.shape[2], worth.shape[1]))
            flat = drawn.reshape(count, tried, -1).astype(np.float32)
            return (flat @ worth.reshape(count, -1, 1).astype(np.float32))[..., 0]

        found, pieces = [], shared_out(len(self.frames), _FRAMES_AT_ONCE)
        with ThreadPoolExecutor(worker_count()) as pool:
            for gain in pool.map(one, pieces):
                found.append(gain)
                check(len(found) / len(pieces))
        return np.concatenate(found)

    def unlikely(self, limb: Limb) -> Array:
        """What each offset adds to the cost of leaving the network's answer, ``(T, C)``."""
        index = limb.unknowns.ravel()
        within = np.ix_(index - 6, index - 6)
        precision = np.linalg.inv(self.model.pose_errors.correlation[within])
        now = (self.frames[:, index] / self.evidence.prior[:, index])[:, None]
        then = now + limb.offsets.reshape(1, len(limb.offsets), -1)
        before, after = (np.einsum("tcn,nm,tcm->tc", x, precision, x, optimize=True) for x in (now, then))
        return 0.5 * (after - before)

    def steps(self, limb: Limb, fps: float, config: FitConfig) -> Array:
        """Cost ``(C, C)`` of passing from one offset to another between two frames: that of any changing correction."""
        turns = limb.offsets * np.median(self.evidence.prior[:, limb.unknowns], axis=0)
        flat = turns.reshape(len(turns), -1)
        square = ((flat[:, None] - flat[None]) ** 2).sum(-1)
        return 0.5 * square * (fps / config.turn_rate**2)

    def unknowns(self, limb: Limb, path: Array) -> Array:
        """The joints' unknowns ``(T, k, 3)`` at one offset a frame."""
        turned = self._turned(limb, limb.offsets[path][:, None], slice(None))[:, 0]
        return quat_to_rotvec(
            quat_multiply(turned, quat_conjugate(self.evidence.start.joints[:, limb.joints]))
        )

    def _turned(self, limb: Limb, offsets: Array, piece: slice) -> Array:
        """The joints' rotations ``(t, C, k, 4)`` at offsets ``(t or 1, C, k, 3)``, within limits where it is any."""
        frames, evidence = self.frames[piece], self.evidence
        now = quat_multiply(
            rotvec_to_quat(frames[:, limb.unknowns]), evidence.start.joints[piece][:, limb.joints]
        )
        turn = rotvec_to_quat(offsets * evidence.prior[piece][:, None, limb.unknowns])
        turned = quat_multiply(turn, now[:, None])
        low, high = np.moveaxis(self.model.category.skeleton.limits[limb.joints], -1, 0)
        within = rotvec_to_quat(np.clip(quat_to_rotvec(turned), low, high))
        return np.where((offsets == 0).all((-1, -2))[..., None, None], turned, within)

    def _pixels(self, limb: Limb, offsets: Array, piece: slice) -> Array:
        """A limb's vertices ``(t, C, v, 3)`` at offsets ``(t or 1, C, k, 3)``, the rest as it is: pixels of the
        silhouette and depth."""
        model, posed, rest = self.model, self.posed, self.rest
        local = quat_to_matrix(self._turned(limb, offsets, piece))  # (t, C, k, 3, 3)
        count, tried = local.shape[:2]
        weights, vertices = model.weights[limb.vertices], posed.vertices[limb.vertices]
        above = weights.copy()
        above[:, limb.joints] = 0
        still = np.einsum("vj,tjab,vb->tva", above, posed.transforms[piece], vertices, optimize=True)
        body = np.repeat(still[:, None], tried, 1)
        turned: dict[int, Array] = {}
        placed: dict[int, Array] = {}
        for k, j in enumerate(limb.joints):
            p = int(model.parents[j])
            up = turned.get(p, posed.turned[piece][:, None, p])
            turned[j] = up @ local[:, :, k]
            placed[j] = placed.get(p, posed.placed[piece][:, None, p]) + up @ (rest[j] - rest[p])
            moved = np.concatenate([turned[j], (placed[j] - turned[j] @ rest[j])[..., None]], -1)
            held = np.flatnonzero(weights[:, j] > 0)
            points = vertices[held] * weights[held, j, None]
            body[:, :, held] += points @ np.swapaxes(moved, -1, -2).astype(np.float32)
        camera = body @ np.swapaxes(posed.rotation[piece], 1, 2).astype(np.float32)[:, None]
        camera += posed.root[piece].astype(np.float32)[:, None, None]
        flat = in_crop(
            camera.reshape(count, -1, 3), self.evidence.start.part(piece), posed.focal[piece]
        )
        pixels = np.concatenate([(flat + 0.5) * self.size, camera.reshape(count, -1, 3)[..., 2:]], -1)
        return pixels.reshape(count, tried, -1, 3)
