# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the network know how far its joints are off? Expected against observed joint error, in bins."""

from __future__ import annotations

import numpy as np

from ...core.motion import Motion
from ...core.pose_errors import expected_error
from ...core.rotation import geodesic, quat_to_matrix
from ...predict import Prediction

Array = np.ndarray

def joint_pairs(prediction: Prediction, true: Motion) -> Array:
    """Expected and observed error in degrees (N, 2) of every joint whose truth is known, the root left out."""
    angle = geodesic(quat_to_matrix(prediction.joint_rotations), quat_to_matrix(true.joint_rotations))
    known = true.joint_confidence > 0.9
    known[:, 0] = False
    return np.rad2deg(np.stack([expected_error(prediction.joint_confidence)[known], angle[known]], 1))


def reliability(pairs: Array, bins: int = 12) -> dict[str, object]:
    """Bins of as many joints each, by expected error: mean expected and observed error and count; ece_deg.

    The expected calibration error is the mean over bins of |expected − observed|, weighted by their counts
    (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, for an error instead of a probability).
    """
    if not len(pairs):
        return {"expected_deg": [], "observed_deg": [], "count": [], "ece_deg": float("nan")}
    order = pairs[np.argsort(pairs[:, 0], kind="stable")]
    parts = [p for p in np.array_split(order, bins) if len(p)]
    expected = np.array([p[:, 0].mean() for p in parts])
    observed = np.array([p[:, 1].mean() for p in parts])
    count = np.array([len(p) for p in parts])
    ece = float((np.abs(expected - observed) * count).sum() / count.sum())
    return {
        "expected_deg": np.round(expected, 3).tolist(),
        "observed_deg": np.round(observed, 3).tolist(),
        "count": count.tolist(),
        "ece_deg": round(ece, 3),
    }
