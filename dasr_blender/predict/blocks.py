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

    def solve(self, damping: float = 0.0) -> tuple[Array, Array]:
        """Unknowns of the frames ``(T, n)`` and the shared ones ``(g,)``, with the diagonal raised by a share `damping`
        of itself (Marquardt 1963).

        Eliminated from both ends at once, to a frame in the middle (van der Vorst, "Large tridiagonal and block
        tridiagonal linear systems on vector and parallel computers", 1987).
        """
        frames, size = self.right.shape
        middle = frames // 2
        after = slice(None, middle, -1)
        from_end = self.upper[middle:][::-1].swapaxes(1, 2)
        with ThreadPoolExecutor(2) as pool:
            before, behind = pool.map(
                lambda frames, upper: self._eliminated(frames, upper, damping),
                (slice(middle), after), (self.upper[:middle], from_end),
            )  # fmt: skip
        pivot = _raised(self.diagonal[middle], damping) - before.pivot - behind.pivot
        ahead = np.concatenate([self.right[middle, :, None], self.border[middle]], 1)
        ahead -= before.side + behind.side
        last = np.linalg.solve(pivot, ahead)
        gone = before.gone + behind.gone + ahead[:, 1:].T @ last
        corner, shared = _raised(self.corner, damping) - gone[:, 1:], self.shared_right - gone[:, 0]
        common = np.linalg.solve(corner, shared) if len(corner) else shared
        found = np.empty((frames, size))
        found[middle] = last[:, 0] - last[:, 1:] @ common
        for half, order in ((before, range(middle)), (behind, range(frames - 1, middle, -1))):
            given = half.carried[..., size] - half.carried[..., size + 1 :] @ common
            following = found[middle]
            for k, t in reversed(list(enumerate(order))):
                following = found[t] = given[k] - half.carried[k, :, :size] @ following
        return found, common

    def _eliminated(self, frames: slice, upper: Array, damping: float) -> _Half:
        """Block elimination of some frames, each coupled to the next by `upper` ``(k, n, n)``."""
        diagonal, right, border = self.diagonal[frames], self.right[frames], self.border[frames]
        count, size, shared = border.shape
        out = _Half(
            np.empty((count, size, size + 1 + shared)), np.zeros((size, size)), np.zeros((size, 1 + shared)),
            np.zeros((shared, 1 + shared)),
        )  # fmt: skip
        for t in range(count):
            coupled = np.concatenate([upper[t], right[t, :, None], border[t]], 1)
            coupled[:, size:] -= out.side
            # several hundred right sides: the inverse and a product take less than to solve for each
            solved = np.matmul(np.linalg.inv(_raised(diagonal[t], damping) - out.pivot), coupled, out=out.carried[t])
            out.gone += coupled[:, size + 1 :].T @ solved[:, size:]
            lost = upper[t].T @ solved
            out.pivot, out.side = lost[:, :size], lost[:, size:]
        return out

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


def _raised(block: Array, damping: float) -> Array:
    """A block ``(n, n)`` with its diagonal raised by a share of itself."""
    return block + np.diag(damping * np.diagonal(block))
