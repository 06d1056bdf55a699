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
        """Unknowns of the frames ``(T, n)`` and the shared ones ``(g,)``."""
        frames, size = self.right.shape
        eliminated = np.concatenate([self.right[..., None], self.border], 2)  # (T, n, 1 + g)
        corner, shared = self.corner.copy(), self.shared_right.copy()
        carried = np.empty((frames, size, size + eliminated.shape[2]))  # pivot⁻¹ · (upper, right, border)
        pivot, ahead = self.diagonal[0], eliminated[0]
        for t in range(frames):
            following = self.upper[t] if t + 1 < frames else np.zeros((size, 0))
            solved = np.linalg.solve(pivot, np.concatenate([following, ahead], 1))
            carried[t, :, size:] = solved[:, following.shape[1] :]
            border = ahead[:, 1:]
            corner -= border.T @ carried[t, :, size + 1 :]
            shared -= border.T @ carried[t, :, size]
            if t + 1 < frames:
                carried[t, :, :size] = solved[:, :size]
                pivot = self.diagonal[t + 1] - following.T @ carried[t, :, :size]
                ahead = eliminated[t + 1] - following.T @ carried[t, :, size:]
        common = np.linalg.solve(corner, shared) if len(corner) else shared
        found = carried[..., size] - carried[..., size + 1 :] @ common
        for t in range(frames - 2, -1, -1):
            found[t] -= carried[t, :, :size] @ found[t + 1]
        return found, common

    def variances(self) -> tuple[Array, Array]:
        """Diagonal of the inverse: ``(T, n)`` given the shared unknowns, and ``(g,)`` of these.

        The blocks of the inverse on the diagonal follow from the last frame back (Takahashi 1973).
        """
        frames, size = self.right.shape
        gain = np.empty((max(frames - 1, 0), size, size))
        pivots = np.empty((frames, size, size))
        corner = self.corner.copy()
        border = self.border[0]
        for t in range(frames):
            pivots[t] = self.diagonal[t] if t == 0 else self.diagonal[t] - self.upper[t - 1].T @ gain[t - 1]
            corner -= border.T @ np.linalg.solve(pivots[t], border)
            if t + 1 < frames:
                solved = np.linalg.solve(pivots[t], np.concatenate([self.upper[t], border], 1))
                gain[t] = solved[:, :size]
                border = self.border[t + 1] - self.upper[t].T @ solved[:, size:]
        out = np.empty((frames, size))
        inverse = np.linalg.inv(pivots)
        after = inverse[-1]
        for t in range(frames - 1, -1, -1):
            if t + 1 < frames:
                after = inverse[t] + gain[t] @ after @ gain[t].T
            out[t] = np.diagonal(after)
        common = np.diagonal(np.linalg.inv(corner)) if len(corner) else np.zeros(0)
        return out, common
