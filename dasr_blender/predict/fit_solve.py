# SPDX-License-Identifier: GPL-3.0-or-later
"""One window of the fit: its cost, its linear picture, and the damped steps down."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..core.workers import shared_out, worker_count
from .blocks import Chain
from .evidence import Evidence
from .fit_body import BodyModel, Posed, pose
from .fit_config import JOLT_RATE, FitConfig
from .fit_rows import ANNEALED, residual_rows
from .residuals import Rows, excess, rotation_vectors

Array = np.ndarray

_FRAMES_AT_ONCE = 32
_BLIND = 2  # steps taken whatever they cost, where none was found that costs less


@dataclass(eq=False)
class Solved:
    """frames ``(T, n)`` and shared ``(g,)``: the unknowns.  loss ``(T,)``: what each frame costs by itself.
    chain: the linear picture at the end.  steps: how many were taken.  parts: cost of each residual."""

    frames: Array
    shared: Array
    loss: Array
    chain: Chain
    steps: int
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Window:
    """A window's problem.

    shared_error ``(g,)``: usual error of the shared unknowns, 0 for those that are known; shared_range
    ``(g, 2)``: where they may lie.  linked ``(T,)`` bool: the next frame follows this one.  tie ``(T, n)``: where
    unknowns are held, and tie_weight ``(T,)`` how hard.  seconds: spent on each residual, summed over threads.
    """

    model: BodyModel
    evidence: Evidence
    config: FitConfig
    shared_error: Array
    shared_range: Array
    fps: float
    linked: Array
    tie: Array | None = None
    tie_weight: Array | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def held(self) -> Array:
        """How firmly the network's answer is held to, ``(T, n, n)``."""
        sure = 1 / self.evidence.prior
        return sure[:, :, None] * self.model.precision * sure[:, None, :]

    def linear(self, frames: Array, shared: Array, step: int) -> tuple[Chain, Array, dict[str, float]]:
        """Normal equations, the cost of every frame, and of every residual, at the unknowns."""
        count = len(frames)
        chain = Chain.zeros(count, self.model.size, self.model.shared)
        loss = np.zeros(count)
        parts: dict[str, float] = {}

        def one(piece: slice) -> tuple[int, Sums, dict[str, Array]]:
            size = piece.stop - piece.start
            sums, losses, diagonal, right, alone = self._piece(frames, shared, piece, step)
            np.add(diagonal, sums.diagonal[:size], out=chain.diagonal[piece])
            np.subtract(right, sums.right[:size], out=chain.right[piece])
            chain.upper[piece] = sums.upper
            chain.border[piece] = sums.border[:size]
            loss[piece] = alone + np.sum(list(losses.values()), 0)
            return piece.stop, sums, losses

        with ThreadPoolExecutor(worker_count()) as pool:  # to the end: what a piece adds to the next comes after that
            done = list(pool.map(one, shared_out(count, _FRAMES_AT_ONCE)))
        for end, sums, losses in done:
            if end < count:
                chain.diagonal[end] += sums.diagonal[-1]
                chain.border[end] += sums.border[-1]
                chain.right[end] -= sums.right[-1]
            chain.corner += sums.corner
            chain.shared_right -= sums.shared_right
            for name, cost in losses.items():
                parts[name] = parts.get(name, 0.0) + float(cost.sum())
        self._add_time(chain, frames, loss, parts)
        self._add_shared(chain, shared, count, loss, parts)
        return chain, loss, parts

    def _piece(
        self, frames: Array, shared: Array, piece: slice, step: int
    ) -> tuple[Sums, dict[str, Array], Array, Array, Array]:
        """What some frames add: their rows summed, each residual's cost, and the blocks, right sides and costs of what
        concerns a frame alone."""
        halo = slice(piece.start, min(piece.stop + 1, len(frames)))
        evidence = self.evidence.part(halo)
        posed = pose(self.model, evidence.start, frames[halo], shared)
        size = piece.stop - piece.start
        losses, sums = {}, Sums.zeros(size, len(posed.root), self.model.size, self.model.shared)
        clock = _Clock(self.seconds)
        for name, rows in residual_rows(posed, evidence, self.linked[halo], step, self.config):
            losses[name] = rows.loss[:size]
            sums.add(rows, size)
            clock.tick(name)
        diagonal, right, loss = self._alone(posed, frames[piece], evidence, piece)
        clock.tick("prior and limits")
        return sums, losses, diagonal, right, loss

    def _alone(
        self, posed: Posed, frames: Array, evidence: Evidence, piece: slice
    ) -> tuple[Array, Array, Array]:
        """Prior, rest and limits: blocks ``(t, n, n)``, right sides and costs of some frames."""
        config, size = self.config, len(frames)
        index = np.arange(self.model.size)
        diagonal = self.held[piece].copy()
        right = -(diagonal @ frames[..., None])[..., 0]
        loss = -0.5 * (right * frames).sum(1)
        if self.tie is not None and self.tie_weight is not None:
            hold = (
                self.tie_weight[piece][:, None]
                / np.array([0.05] * 3 + [0.01] * 3 + [0.05] * (len(index) - 6)) ** 2
            )
            off = frames - self.tie[piece]
            diagonal[:, index, index] += hold
            right -= hold * off
            loss += 0.5 * (hold * off**2).sum(1)
        limits = self.model.category.skeleton.limits
        over, slope = excess(posed, limits, config.limit)
        vector, motion = rotation_vectors(posed)
        half = np.maximum(0.5 * (limits[1:, :, 1] - limits[1:, :, 0]), 0.05) * config.rest
        joints = _joint_blocks(diagonal)
        for value, by in ((over, slope), (vector / half, motion / half[..., None])):
            value, by = value[:size], by[:size]
            joints += np.swapaxes(by, -1, -2) @ by
            right[:, 6:] -= (np.swapaxes(by, -1, -2) @ value[..., None]).reshape(size, -1)
            loss += 0.5 * (value**2).sum((1, 2))
        return diagonal, right, loss

    def _add_time(self, chain: Chain, frames: Array, loss: Array, parts: dict[str, float]) -> None:
        """Corrections change slowly, and without jolts; so does the body's distance itself."""
        if len(frames) < 2:
            return
        config, n = self.config, self.model.size
        rate = np.array([config.turn_rate] * 3 + [config.shift_rate] * 3 + [config.turn_rate] * (n - 6))
        weight = self.fps / rate**2  # a random walk: the variance of a step grows with its time
        linked = self.linked[:-1].astype(np.float64)[:, None]
        step = (frames[1:] - frames[:-1]) * linked
        index = np.arange(n)
        pull = weight * step
        chain.right[:-1] += pull
        chain.right[1:] -= pull
        chain.diagonal[:-1, index, index] += weight * linked
        chain.diagonal[1:, index, index] += weight * linked
        chain.upper[:, index, index] -= weight * linked
        cost = 0.5 * (weight * step**2).sum(1)
        parts["slow"] = float(cost.sum())
        loss[:-1] += cost
        # Second differences reach two frames on. Their squares are L² of the chain's Laplacian L, whose eigenvalues lie
        # between 0 and 4; 2 L stands for them, which keeps the matrix block-tridiagonal. The gradient is exact. For the
        # fastest wiggles the curvature is half of what it should be, the least with which steps still shrink an error.
        # (4 L, an upper bound, as in Lange, "MM Optimization Algorithms", 2016, takes slow motion half as far a step.)
        # A size in the picture tells distances badly, and what they are corrected from trembles as they do: it is the
        # distance itself whose speed is a random walk.
        # A speed that is a random walk has second differences whose variance grows with the cube of a step's time.
        depth = config.depth_speed / JOLT_RATE**1.5
        jolt = np.array([config.jolt_root] * 3 + [config.jolt_shift] * 2 + [depth] + [config.jolt] * (n - 6))
        weight = (self.fps / JOLT_RATE) ** 3 / jolt**2
        start = self.evidence.start
        step[:, 5] += np.diff(start.place[:, 2] + np.log(start.focal / start.side))
        second = (step[1:] - step[:-1]) * linked[1:] * linked[:-1]
        pull = weight * second
        chain.right[:-2] -= pull
        chain.right[1:-1] += 2 * pull
        chain.right[2:] -= pull
        chain.diagonal[:-1, index, index] += 2 * weight * linked
        chain.diagonal[1:, index, index] += 2 * weight * linked
        chain.upper[:, index, index] -= 2 * weight * linked
        cost = 0.5 * (weight * second**2).sum(1)
        parts["jolt"] = float(cost.sum())
        loss[1:-1] += cost

    def _add_shared(
        self, chain: Chain, shared: Array, count: int, loss: Array, parts: dict[str, float]
    ) -> None:
        """Proportions, relief and focal length near what was given; those that are known, or at an end, do not
        move."""
        known = self.shared_error <= 0
        times = max(1.0, count / self.config.morphology_alike)
        weight = np.where(known, 0.0, times / np.maximum(self.shared_error, 1e-9) ** 2)
        index = np.arange(len(shared))
        chain.corner[index, index] += weight
        chain.shared_right -= weight * shared
        # at the end of its range, what wants to go on stays
        low, high = self.shared_range.T
        ended = ((shared >= high) & (chain.shared_right > 0)) | ((shared <= low) & (chain.shared_right < 0))
        chain.corner[index, index] += np.where(known | ended, 1e12, 0.0)
        cost = 0.5 * float((weight * shared**2).sum())
        parts["proportions"] = cost
        loss += cost / count

    def solve(
        self, frames: Array, shared: Array, most: int, settle: float,
        check: Callable[[float], None] | None = None, near: bool = False,
    ) -> Solved:  # fmt: skip
        """Levenberg–Marquardt from the given unknowns; check is called with the share of `most` steps done.

        near: outlines are looked for nearby from the first step on.
        """
        first = ANNEALED if near else 0
        chain, loss, parts = self.linear(frames, shared, first)
        begun = Solved(frames, shared, loss, chain, 0, parts)
        solved = self._descend(begun, first, most, settle, check)
        if solved.frames is not frames or not solved.steps:
            return solved
        # What belongs to what is settled anew at every step, so the cost may rise on every side of where it is lower a
        # little further on.
        done = None if check is None else lambda share: check(1.0)
        again = self._descend(begun, first, most, settle, done, blind=_BLIND)
        again.steps += solved.steps
        return again if again.loss.sum() < solved.loss.sum() else solved

    def _descend(
        self, begun: Solved, first: int, most: int, settle: float, check: Callable[[float], None] | None,
        blind: int = 0,
    ) -> Solved:  # fmt: skip
        """At most so many steps down from where it is begun; its own unknowns where none was taken.

        first: the step before the first.  blind: steps that are taken whatever they cost.
        """
        damping = self.config.damping
        frames, shared, chain, loss, parts = begun.frames, begun.shared, begun.chain, begun.loss, begun.parts
        # What belongs to what follows the body only bit by bit, so steps go on as they went (Polyak 1964).
        moved, push = (np.zeros_like(frames), np.zeros_like(shared)), self.config.momentum
        low, high = np.where(self.shared_error > 0, self.shared_range.T, shared)  # what is known stays as it is
        taken = 0
        for step in range(first + 1, first + most + 1):
            if check is not None:
                check(taken / most)
            clock = _Clock(self.seconds)
            change, common = chain.solve(damping)
            clock.tick("solver")
            turns = np.abs(change[:, [0, 1, 2, *range(6, change.shape[1])]]).max(1, keepdims=True)
            held = np.minimum(1.0, self.config.longest_turn / np.maximum(turns, 1e-9))
            change, common = change + push * moved[0], common + push * moved[1]
            tried = frames + held * change, np.clip(shared + common, low, high)
            new_chain, new_loss, new_parts = self.linear(*tried, step)
            taken += 1
            fell = (loss.sum() - new_loss.sum()) / max(loss.sum(), 1e-9)
            annealing = step <= ANNEALED  # while the reach shrinks, costs of two steps are not comparable
            if fell > 0 or annealing or taken <= blind:
                moved = tried[0] - frames, tried[1] - shared
                (frames, shared), chain, loss, parts = tried, new_chain, new_loss, new_parts
                damping = max(damping / 3, 1e-5)
                if not annealing and taken > blind and fell < settle:
                    break
            else:
                moved = np.zeros_like(frames), np.zeros_like(shared)
                damping *= 8
                if damping > 1e4:
                    break
        return Solved(frames, shared, loss, chain, taken, parts)


def _joint_blocks(diagonal: Array) -> Array:
    """Each joint with itself, a view ``(t, J − 1, 3, 3)`` of contiguous blocks ``(t, n, n)``."""
    part = diagonal[:, 6:, 6:]
    frame, row, column = part.strides
    shape = len(part), part.shape[1] // 3, 3, 3
    return np.lib.stride_tricks.as_strided(part, shape, (frame, 3 * (row + column), row, column))


@dataclass(eq=False)
class Sums:
    """Rows of t frames summed up into a chain's blocks, float32; upper is ``(t, n, n)``, diagonal, border and right are
    those of t + 1 frames where another follows."""

    diagonal: Array
    upper: Array
    border: Array
    corner: Array
    right: Array
    shared_right: Array

    @staticmethod
    def zeros(count: int, reached: int, size: int, shared: int) -> Sums:
        """Of `count` frames with rows, which reach `reached` frames."""
        def zero(*shape: int) -> Array:
            return np.zeros(shape, np.float32)

        return Sums(
            zero(reached, size, size), zero(min(count, reached-1), size, size), zero(reached, size, shared),
            zero(shared, shared), zero(reached, size), zero(shared),
        )  # fmt: skip

    def add(self, rows: Rows, size: int) -> None:
        """Add the rows of the first `size` frames. They are spent: they are weighted in place."""
        root = np.sqrt(rows.weight[:size])[..., None]
        own, shared, value = rows.own[:size], rows.shared[:size], rows.value[:size, :, None] * root
        own *= root
        shared *= root
        turned, common = np.swapaxes(own, 1, 2), np.swapaxes(shared, 1, 2)
        flat = shared.reshape(-1, shared.shape[2])
        self.diagonal[:size] += turned @ own
        self.border[:size] += turned @ shared
        self.corner += flat.T @ flat
        self.right[:size] += (turned @ value)[..., 0]
        self.shared_right += (common @ value)[..., 0].sum(0)
        if rows.following is not None:
            linked = len(self.upper)
            after = rows.following[:linked]
            after *= root[:linked]
            across = np.swapaxes(after, 1, 2)
            self.upper += turned[:linked] @ after
            self.diagonal[1:] += across @ after
            self.border[1:] += across @ shared[:linked]
            self.right[1:] += (across @ value[:linked])[..., 0]


class _Clock:
    """Adds the time since the last tick to a name's."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.last = seconds, time.perf_counter()

    def tick(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now


