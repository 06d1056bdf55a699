# SPDX-License-Identifier: GPL-3.0-or-later
"""The training log: one CSV row now and then, a line on the terminal, and curves while it runs."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np

from ...core.files import written_atomically

_FIELDS: tuple[str, ...] = (
    "step",
    "stage",
    "minutes",
    "images_per_s",
    "lr",
    "loss",
    "root",
    "mean_hypothesis",
    "choice",
    "translation",
    "joints",
    "spread",
    "morphology",
    "vertices",
    "reprojection",
    "acceleration",
    "surface",
    "surface_spread",
    "surface_visible",
    "joint_map",
    "joint_turn",
    "silhouette",
    "appearance",
    "morphology_prior",
    "val_root_chosen_deg",
    "val_root_best_deg",
    "val_root_over_30",
    "val_translation",
    "val_joints_deg",
    "val_morphology",
    "val_vertices",
    "val_surface",
    "val_joint_point",
)
FIELDS = (*_FIELDS, *(f"val_teacher_{n.removeprefix('val_')}" for n in _FIELDS if n.startswith("val_")))


Row = dict[str, float | str]


class Tally:
    """Means of the loss's parts, and frames a second, since the last row."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count, self.frames, self.since = 0, 0, time.monotonic()

    def add(self, parts: dict[str, float], frames: int) -> None:
        """Take note of one part of a step's batch."""
        self.count, self.frames = self.count + 1, self.frames + frames
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def join(self, other: Tally) -> None:
        """Take note of what another process did in the same time."""
        self.count, self.frames = self.count + other.count, self.frames + other.frames
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def row(self) -> dict[str, float]:
        """Columns of the log."""
        speed = self.frames / max(time.monotonic() - self.since, 1e-9)
        return {"images_per_s": speed, **{name: s / max(self.count, 1) for name, s in self.sums.items()}}


def line(row: Row) -> str:
    """A row for the terminal."""
    names = ("loss", "images_per_s", *(name for name in FIELDS if name.startswith("val_")))
    text = "  ".join(f"{name} {float(row[name]):.3g}" for name in names if name in row)
    return f"{float(row['minutes']):6.1f} min  {row['stage']} step {row['step']}  {text}"


def append(path: Path, row: Row, fields: tuple[str, ...] = FIELDS) -> None:
    """Add one row, with a header first when the file is new; fields: the columns."""
    fresh = not path.exists() or path.stat().st_size == 0
    with open(path, "a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fields, restval="", extrasaction="ignore")
        if fresh:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def read(path: Path) -> list[dict[str, str]]:
    """All rows of a log."""
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def trim(path: Path, steps: dict[str, int]) -> None:
    """Forget rows beyond a stage's step, by name: what a run did past the checkpoint it goes on from."""
    if path.exists():
        rows = [row for row in read(path) if int(row["step"]) <= steps[row.get("stage", "")]]
        if not rows:
            return path.unlink()
        with written_atomically(path) as kept:
            for row in rows:
                append(kept, dict(row), tuple(row))


def plot(path: Path, out: Path) -> Path:
    """Draw a log: losses, validation errors, learning rate and speed over the minutes of training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = read(path)

    def column(name: str) -> tuple[np.ndarray, np.ndarray]:
        pairs = [(float(r["minutes"]), float(r[name])) for r in rows if r.get(name)]
        return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])

    figure, axes = plt.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    groups = (
        (
            "Training loss (parts)",
            ("root", "joints", "translation", "vertices", "reprojection", "morphology", "surface"),
        ),
        (
            "Validation, degrees (median)",
            (
                "val_root_chosen_deg",
                "val_root_best_deg",
                "val_joints_deg",
                "val_teacher_root_chosen_deg",
                "val_teacher_joints_deg",
            ),
        ),
        (
            "Validation, other",
            ("val_root_over_30", "val_translation", "val_morphology", "val_surface", "val_joint_point"),
        ),
        ("Images a second", ("images_per_s",)),
    )
    for axis, (title, names) in zip(axes.flat, groups, strict=True):
        for name in names:
            times, values = column(name)
            if len(times) or "teacher" not in name:
                axis.plot(times, values, label=name)
        axis.set(title=title, xlabel="minutes")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(out, dpi=110)
    plt.close(figure)
    return out


class Curves:
    """What one watches while it trains: TensorBoard where it is installed, else a picture beside the log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.writer = folder, None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def show(self, path: Path, row: Row) -> None:
        """Show a row that was just appended to the log at `path`."""
        if self.writer is None:
            try:
                plot(path, self.folder / "log.png")
            except ModuleNotFoundError:  # without matplotlib there is still the table
                pass
            return
        for name, value in row.items():
            if isinstance(value, float):
                self.writer.add_scalar(f"{row['stage']}/{name}", value, int(row["step"]))
        self.writer.flush()
