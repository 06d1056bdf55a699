# SPDX-License-Identifier: GPL-3.0-or-later
"""What turned camera explains where points went: ``b ~ K' R K⁻¹ a``, robustly, and turns made to agree.

All points are pixels from the principal point, y down, so that K is a focal length alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.rotation import matrix_to_rotvec, rotvec_to_matrix, unit

Array = np.ndarray

NOISE = 0.15  # pixels: as good as corners are ever tracked
CAUCHY = 2.385  # 95 % efficient on normal noise
TRIALS = 96


@dataclass(frozen=True, eq=False)
class Turn:
    """One fitted turn: rotation ``(3, 3)`` b_from_a, scale = focal of b over focal of a, residual ``(N,)``
    pixels of every point, spread: robust standard deviation of the residuals, pixels."""

    rotation: Array
    scale: float
    residual: Array
    spread: float

    @property
    def inliers(self) -> Array:
        """``(N,)`` bool: the points that this turn explains."""
        return self.residual < 3.0 * self.spread

    @property
    def share(self) -> float:
        """How many of the points are explained within two pixels, 0…1."""
        return float((self.residual < 2.0).mean())


def turned(a: Array, focal: float, rotation: Array, scale: float) -> Array:
    """Where points ``(N, 2)`` seen with `focal` are seen after the turn, ``(N, 2)``."""
    rays = np.column_stack([a / focal, np.ones(len(a))]) @ rotation.T
    return focal * scale * rays[:, :2] / np.maximum(rays[:, 2:], 1e-6)


def fit_turn(
    a: Array,
    b: Array,
    focal: float,
    zoom: bool,
    start: tuple[Array, float] | None = None,
    search: bool = True,
) -> Turn:
    """The rotation (and zoom) that takes points a ``(N, 2)`` to b ``(N, 2)``, at least 3.

    Gauss–Newton with Cauchy weights from `start`; where that explains too few points and `search` is set, from
    the best of many turns through two points each (random sample consensus), so that a moving crowd does not
    win by its size.
    """
    first = _refine(a, b, focal, zoom, *(start or (np.eye(3), 1.0)))
    if first.share > 0.7 or not search:
        return first
    second = _refine(a, b, focal, zoom, _sampled(a, b, focal, first.scale), first.scale)
    return second if second.share > first.share else first


def _refine(a: Array, b: Array, focal: float, zoom: bool, rotation: Array, scale: float) -> Turn:
    rays = np.column_stack([a / focal, np.ones(len(a))])
    x, y = b.T
    jacobian = np.empty((4 if zoom else 3, 2, len(a)))
    for step_number in range(12):
        y3 = rotation @ rays.T
        u, v = y3[:2] / np.maximum(y3[2], 1e-6)
        reach = focal * scale
        gap = np.stack([x - reach * u, y - reach * v])  # (2, N)
        squared = gap[0] ** 2 + gap[1] ** 2
        middle = float(np.partition(squared, len(a) // 2)[len(a) // 2])
        spread = max(NOISE, 0.85 * middle**0.5)  # median of a 2D normal's length is 1.18 σ
        if step_number == 11:
            break
        weight = 1 / (1 + squared / (CAUCHY * spread) ** 2)
        # A turn by small ω moves (u, v) by ω × (u, v, 1), less what that moves along the ray.
        jacobian[0, 0], jacobian[1, 0], jacobian[2, 0] = -u * v, 1 + u * u, -v
        jacobian[0, 1], jacobian[1, 1], jacobian[2, 1] = -1 - v * v, u * v, u
        if zoom:
            jacobian[3, 0], jacobian[3, 1] = u, v
        flat = jacobian.reshape(len(jacobian), -1) * reach
        weighted = flat * np.concatenate([weight, weight])
        normal = weighted @ flat.T
        normal.flat[:: len(normal) + 1] *= 1 + 1e-6
        normal.flat[:: len(normal) + 1] += 1e-9
        step = np.linalg.solve(normal, weighted @ gap.ravel())
        rotation = rotvec_to_matrix(step[:3]) @ rotation
        if zoom:
            scale *= float(np.exp(np.clip(step[3], -0.3, 0.3)))
        if np.abs(step).max() < 1e-6:
            break
    return Turn(rotation, scale, np.sqrt(squared), spread)


def _sampled(a: Array, b: Array, focal: float, scale: float) -> Array:
    """The rotation through two of the points that explains most of them."""
    rng = np.random.default_rng(len(a))
    pick = rng.integers(0, len(a), (TRIALS, 2))
    pick = pick[pick[:, 0] != pick[:, 1]]
    rays = [unit(np.column_stack([p, np.full(len(p), f)])) for p, f in ((a, focal), (b, focal * scale))]
    frames = []
    for side in rays:  # an orthonormal frame on each pair
        one, two = side[pick[:, 0]], side[pick[:, 1]]
        x, z = unit(one + two), unit(np.cross(one, two) + 1e-12)
        frames.append(np.stack([x, np.cross(z, x), z], axis=-1))
    rotations = frames[1] @ np.swapaxes(frames[0], 1, 2)
    cosine = np.einsum("kij,nj,ni->kn", rotations, rays[0], rays[1], optimize=True)
    near = 2.0 / (focal * scale)
    return rotations[np.argmax((cosine > np.cos(near)).sum(axis=1))]


@dataclass(frozen=True, eq=False)
class Edge:
    """A measured turn between two nodes: rotation ``(3, 3)`` second_from_first, scale, weight."""

    first: int
    second: int
    rotation: Array
    scale: float
    weight: float


def agree(rotations: Array, scales: Array, edges: Sequence[Edge]) -> tuple[Array, Array]:
    """World_from_node rotations ``(n, 3, 3)`` and scales ``(n,)`` that fit all `edges` best; node 0 stays.

    An edge M says ``R_second M R_firstᵀ = I``. Turning nodes from the left by small δ changes its logarithm
    by ``δ_second − δ_first``, so each step solves one graph Laplacian for all three axes.
    """
    rotations, logs = rotations.copy(), np.log(scales)
    count = len(rotations)
    first = np.array([e.first for e in edges], int)
    second = np.array([e.second for e in edges], int)
    weight = np.array([e.weight for e in edges], float)
    measured = np.stack([e.rotation for e in edges])
    stretch = np.log([e.scale for e in edges])
    incidence = np.zeros((len(edges), count))
    incidence[np.arange(len(edges)), second] += 1
    incidence[np.arange(len(edges)), first] -= 1
    laplacian = (incidence.T * weight) @ incidence
    for _ in range(8):
        error = matrix_to_rotvec(rotations[second] @ measured @ np.swapaxes(rotations[first], 1, 2))
        error = np.column_stack([error, logs[second] - logs[first] - stretch])
        step = np.zeros((count, 4))
        step[1:] = -np.linalg.lstsq(laplacian[1:, 1:], (incidence.T * weight)[1:] @ error, rcond=None)[0]
        rotations = rotvec_to_matrix(step[:, :3]) @ rotations
        logs = logs + step[:, 3]
        if np.abs(step).max() < 1e-9:
            break
    return rotations, np.exp(logs)
