# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring how a network errs."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dasr_blender.core.pose_errors import PoseErrors
from dasr_blender.training import pose_errors
from dasr_blender.training.pose_errors import summed_up


def drawn(count: int, joints: int = 4) -> tuple[np.ndarray, PoseErrors]:
    """Errors ``(N, J, 3)`` of which scale and correlation are known: thigh and shank against each other."""
    correlation = np.eye(3 * joints)
    correlation[0, 3] = correlation[3, 0] = -0.7
    scale = np.linspace(0.3, 1.1, 3 * joints)
    spread = np.linalg.cholesky(correlation) * scale[:, None]
    rng = np.random.default_rng(5)
    return (rng.normal(size=(count, 3 * joints)) @ spread.T).reshape(count, joints, 3), PoseErrors(
        scale.reshape(joints, 3), correlation
    )


def test_scale_and_correlation_come_out_of_errors_drawn_from_them() -> None:
    error, true = drawn(20000)
    weight = np.ones(error.shape[:2])
    rng = np.random.default_rng(6)
    weight[rng.random(weight.shape) < 0.3] = 0  # rigs lack joints, each its own
    found = summed_up(error, weight)
    assert found is not None and found.problem(5) is None
    assert np.allclose(found.scale, true.scale, rtol=0.05)
    assert found.correlation[0, 3] == pytest.approx(-0.63, abs=0.03)  # nine tenths of it
    off = found.correlation - np.eye(12)
    off[0, 3] = off[3, 0] = 0
    assert np.abs(off).max() < 0.04


def test_a_joint_that_is_never_known_errs_like_any(monkeypatch: pytest.MonkeyPatch) -> None:
    error, _ = drawn(800)
    weight = np.ones(error.shape[:2])
    weight[:, 2] = 0
    found = summed_up(error, weight)
    assert found is not None and found.problem(5) is None
    assert np.allclose(found.scale[2], 3**-0.5)
    assert np.allclose(found.correlation[6:9, :6], 0) and np.allclose(found.correlation[6:9, 9:], 0)
    monkeypatch.setattr(pose_errors, "LEAST_FRAMES", 801)
    assert summed_up(error, weight) is None  # too few to believe
