# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of the scores: how they are spread over the clips, and whether confidence means what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .table import COLUMNS

SPREAD = {
    "root_tracked_deg": "root rotation error, °",
    "joints_mean_deg": "joint rotation error, °",
    "pa_mpjpe_cm": "joint distance after Procrustes, cm",
    "cd_share": "area-weighted Chamfer distance, % of length",
    "iou": "silhouette IoU with the mask",
    "accel_cm": "jitter: acceleration error, cm a frame²",
}


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def plot_spread(part: dict[str, Any], path: Path) -> None:
    """Each score's values over the clips, sorted, a line a predictor."""
    plt = _pyplot()
    figure, axes = plt.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
    for axis, (name, title) in zip(axes.flat, SPREAD.items(), strict=True):
        factor = 1 if name == "iou" else COLUMNS[name][1]
        for label, clips in part["each"].items():
            values = sorted(factor * row[name] for row in clips.values() if name in row)
            if values:
                axis.plot(np.linspace(0, 100, len(values)), values, label=label)
        axis.set(title=title, xlabel="% of clips")
        axis.title.set_fontsize(9)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes.flat[4].legend(fontsize=8)  # the one panel that every set of clips fills
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_reliability(part: dict[str, Any], path: Path) -> None:
    """Observed against expected joint error, in bins of as many joints each."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(5.5, 5), constrained_layout=True)
    top = 0.0
    for label, scores in part["reliability"].items():
        if scores["count"]:
            axis.plot(
                scores["expected_deg"],
                scores["observed_deg"],
                "o-",
                label=f"{label} (off by {scores['ece_deg']:.1f}° on average)",
            )
            top = max(top, *scores["expected_deg"], *scores["observed_deg"])
    axis.plot([0, top], [0, top], "k:", label="as it says")
    axis.set(
        xlabel="expected joint error, °", ylabel="observed joint error, °", xlim=(0, None), ylim=(0, None)
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
