# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be asked of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import TrainingError


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a category's predictor, its baselines, and any others: one table, scores.json and plots."""

    out: Path
    """Folder for table.md, scores.json, plots and pictures."""
    dataset: Path | None = None
    """Folder of rendered clip folders with their truth, that training has not seen."""
    real: tuple[Path, ...] = ()
    """Real clips: videos, clip folders (frames/, masks/, keypoints_badja.json or keypoints_viser.json), or folders
    of such."""
    rigged: Path | None = None
    """Folder of rigged glTF models of your own (needs bpy and OpenGL); <model>.joints.json beside one adds joints and
    root (`dasr joint-map` writes it)."""
    ama: tuple[Path, ...] = ()
    """AMA sequences: folders with meshes/, calibration/ and images/."""
    category: str = "quadruped"
    """Category bundle: a name or a folder."""
    rows: tuple[str, ...] = ()
    """More predictors, NAME=PATH of a bundle or an .onnx file; NAME@SEED rows are summed up as mean ± spread."""
    only: tuple[str, ...] = ()
    """Real clips whose names match one of these patterns (dog-*); all without."""
    rigs: Path | None = None
    """Baked and mapped rigs: their own posed surface is then the truth of clips that show them."""
    clips: int = 0
    """Look at this many rendered clips, evenly spread; 0 for all."""
    baselines: bool = True
    """Also score the mean pose at the true root and the network on single frames."""
    quality: Literal["draft", "standard", "best"] = "standard"
    """Of the fit that is scored beside the feed-forward predictor; draft leaves that row out."""
    frames: int = 0
    """Look at no more than this many frames of a real clip or AMA sequence; 0 for all."""
    cameras: tuple[int, ...] = ()
    """Cameras of the AMA sequences; all without."""
    seed: int = 0
    """Of the cameras, coats and stretches of motion of rigged models."""
    views: int = 2
    """Clips a rigged model is filmed in."""
    publish: bool = False
    """Also write the scores into the category's bundle, and bring its hashes up to date (CARD.md's too)."""


def apart(what: str, named: Sequence[tuple[str, Path]]) -> None:
    """Raise TrainingError when two of a kind share a name, under which scores and pictures are kept."""
    first: dict[str, Path] = {}
    for name, path in named:
        if name in first:
            raise TrainingError(
                f"Two {what} are called {name}, {first[name]} and {path}: give one alone, or rename one"
            )
        first[name] = path
