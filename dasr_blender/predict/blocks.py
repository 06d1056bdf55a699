# SPDX-License-Identifier: GPL-3.0-or-later
"""Normal equations of a chain of frames with a few unknowns they share: solved in time linear in the frames.

    ⎡ D₀  U₀        B₀ ⎤        D (T, n, n)    each frame with itself
    ⎢ U₀ᵀ D₁  U₁    B₁ ⎥        U (T−1, n, n)  each frame with the next
    ⎢     U₁ᵀ D₂ …  B₂ ⎥        B (T, n, g)    each frame with the shared unknowns
    ⎣ B₀ᵀ B₁ᵀ B₂ᵀ …  C ⎦        C (g, g)

Block elimination along the chain (block Thomas), then the Schur complement of the shared unknowns; Golub & Van
Loan, "Matrix Computations", 4.5.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(eq=False)
class Chain:
    """The system above of at least one frame, with its right side: ``right (T, n)``, ``shared_right (g,)``."""

    diagonal: Array
    upper: Array
    border: Array
    corner: Array
    right: Array
    shared_right: Array

    @staticmethod
    def zeros(frames: int, size: int, shared: int) -> Chain:
        return Chain(
            np.zeros((frames, size, size)),
            np.zeros((max(frames - 1, 0), size, size)),
            np.zeros((frames, size, shared)),
            np.zeros((shared, shared)),
            np.zeros((frames, size)),
            np.zeros(shared),
        )

    def damped(self, share: float, least: float = 1e-6) -> Chain:
        """The same with its diagonal raised by a `share` of itself (Marquardt 1963)."""
        out = Chain(
            self.diagonal.copy(), self.upper, self.border, self.corner.copy(), self.right, self.shared_right
        )
        for block in (out.diagonal, out.corner):
            index = np.arange(block.shape[-1])
            block[..., index, index] += share * block[..., index, index] + least
        return out

    def solve(self) -> tuple[Array, Array]:
        """Unknowns of the frames ``(T, n)`` and the shared ones ``(g,)``.

        Eliminated from both ends at once, to a frame in the middle (van der Vorst, "Large tridiagonal and block
        tridiagonal linear systems on vector and parallel computers", 1987).
        """
        frames, size = self.right.shape
        middle = frames // 2
        side = np.concatenate([self.right[..., None], self.border], 2)  # (T, n, 1 + g)
        from_start = self.diagonal[:middle], self.upper[:middle], side[:middle]
        after = slice(None, middle, -1)
        from_end = self.diagonal[after], self.upper[middle:][::-1].swapaxes(1, 2), side[after]
        with ThreadPoolExecutor(2) as pool:
            before, behind = pool.map(_eliminated, (from_start, from_end))
        pivot = self.diagonal[middle] - before.pivot - behind.pivot
        ahead = side[middle] - before.side - behind.side
        last = np.linalg.solve(pivot, ahead)
        gone = before.gone + behind.gone + ahead[:, 1:].T @ last
        corner, shared = self.corner - gone[:, 1:], self.shared_right - gone[:, 0]
        common = np.linalg.solve(corner, shared) if len(corner) else shared
        found = np.empty((frames, size))
        found[middle] = last[:, 0] - last[:, 1:] @ common
        for half, order in ((before, range(middle)), (behind, range(frames - 1, middle, -1))):
            given = half.carried[..., size] - half.carried[..., size + 1 :] @ common
            following = found[middle]
            for k, t in reversed(list(enumerate(order))):
                following = found[t] = given[k] - half.carried[k, :, :size] @ following
        return found, common

    def variances(self) -> Array:
        """Diagonal ``(T, n)`` of the frames' inverse, the shared unknowns given.

        The blocks of the inverse on the diagonal follow from the last frame back (Takahashi 1973).
        """
        frames, size = self.right.shape
        inverse = np.empty((frames, size, size))
        gain = np.empty((max(frames - 1, 0), size, size))
        for t in range(frames):
            lost = self.upper[t - 1].T @ gain[t - 1] if t else 0.0
            inverse[t] = np.linalg.inv(self.diagonal[t] - lost)
            if t + 1 < frames:
                gain[t] = inverse[t] @ self.upper[t]
        out = np.empty((frames, size))
        after = inverse[-1]
        for t in range(frames - 1, -1, -1):
            if t + 1 < frames:
                after = inverse[t] + gain[t] @ after @ gain[t].T
            out[t] = np.diagonal(after)
        return out


@dataclass(eq=False)
class _Half:
    """What is left of some frames that were eliminated one after another.

    carried ``(k, n, n + 1 + g)``: each pivot's inverse times what it is coupled to: the next frame, right side, border.
    pivot ``(n, n)`` and side ``(n, 1 + g)``: what the frame after them loses.  gone ``(g, 1 + g)``: what the shared
    right side, first column, and corner lose.
    """

    carried: Array
    pivot: Array
    side: Array
    gone: Array


def _eliminated(blocks: tuple[Array, Array, Array]) -> _Half:
    """Block elimination of frames with diagonal ``(k, n, n)``, coupling to the next ``(k, n, n)``, side
    ``(k, n, 1 + g)``."""
    diagonal, upper, side = blocks
    size, wide = side.shape[1:]
    out = _Half(
        np.empty((len(side), size, size + wide)), np.zeros((size, size)), np.zeros((size, wide)),
        np.zeros((wide - 1, wide)),
    )  # fmt: skip
    for t in range(len(side)):
        ahead = side[t] - out.side
        solved = np.linalg.solve(diagonal[t] - out.pivot, np.concatenate([upper[t], ahead], 1))
        out.carried[t] = solved
        out.gone += ahead[:, 1:].T @ solved[:, size:]
        lost = upper[t].T @ solved
        out.pivot, out.side = lost[:, :size], lost[:, size:]
    return out
