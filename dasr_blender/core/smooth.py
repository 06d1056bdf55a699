# SPDX-License-Identifier: GPL-3.0-or-later
"""Smoothing over time without lag, for numbers and for rotations."""

from __future__ import annotations

import numpy as np

from .rotation import make_continuous, quat_conjugate, quat_multiply, quat_to_rotvec, rotvec_to_quat

Array = np.ndarray


def local_fit(
    frames: int, sigma: float, weights: Array | None = None, degree: int = 2
) -> tuple[Array, Array]:
    """Coefficients of a local polynomial fit: frame t becomes ``sum_k coefficient[t, k] x[index[t, k]]``.

    A Gaussian window of standard deviation `sigma` frames, narrowed by nothing but the clip's ends; a parabola
    keeps peaks where a mean would flatten them (Savitzky & Golay 1964, with weights). weights: ``(frames,)``,
    trust in every frame.  Returns index and coefficient, both ``(frames, window)``.
    """
    radius = max(1, int(np.ceil(2.5 * sigma)))
    offsets = np.arange(-radius, radius + 1)
    raw = np.arange(frames)[:, None] + offsets
    index = np.clip(raw, 0, frames - 1)
    trust = np.ones(frames) if weights is None else np.maximum(np.asarray(weights, np.float64), 1e-3)
    weight = np.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2) * trust[index] * (raw == index)
    basis = (offsets[:, None] / radius) ** np.arange(degree + 1)  # (window, degree + 1)
    normal = np.einsum("tk,ka,kb->tab", weight, basis, basis)
    # The ridge leaves the value free and holds slope and bend, so that two frames do not make a parabola.
    normal += np.diag([0.0] + [1e-2] * degree) * weight.sum(1)[:, None, None]
    first = np.linalg.solve(normal, np.eye(degree + 1)[:, :1][None].repeat(frames, 0))[..., 0]
    return index, np.einsum("ta,ka,tk->tk", first, basis, weight)


def smooth(values: Array, sigma: float, weights: Array | None = None, degree: int = 2) -> Array:
    """Numbers ``(T, …)`` smoothed over time; see `local_fit`. Of degree 0 they are averaged, peaks too."""
    if sigma <= 0 or len(values) < 3:
        return np.array(values, np.float64)
    index, coefficient = local_fit(len(values), sigma, weights, degree)
    return np.einsum("tk,tk...->t...", coefficient, np.asarray(values, np.float64)[index])


def smooth_rotations(rotations: Array, sigma: float, weights: Array | None = None) -> Array:
    """Quaternions ``(T, …, 4)`` smoothed over time, in the tangent space of every frame's own rotation."""
    rotations = make_continuous(np.asarray(rotations, np.float64))
    if sigma <= 0 or len(rotations) < 3:
        return rotations
    index, coefficient = local_fit(len(rotations), sigma, weights)
    step = np.zeros(rotations.shape[:-1] + (3,))
    back = quat_conjugate(rotations)
    for k in range(index.shape[1]):  # one offset of the window at a time keeps the memory small
        turn = quat_to_rotvec(quat_multiply(back, rotations[index[:, k]]))
        step += coefficient[:, k].reshape((-1,) + (1,) * (step.ndim - 1)) * turn
    return make_continuous(quat_multiply(rotations, rotvec_to_quat(step)))
