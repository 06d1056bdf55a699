# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores of a category's predictor on pseudo-ground-truth clips: one table, one JSON file, one plot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...clip.crop import crop_boxes, extract_crops
from ...core.camera import crop_info, encode_root
from ...core.category import Category, load_category, save_category
from ...core.errors import DasrError
from ...core.files import written_atomically
from ...core.motion import Motion
from ...core.rotation import geodesic
from ...predict import Prediction, Student, track
from ..pack import mask_boxes, read_clip_folder
from .scores import compare, overlap

__all__ = ["EvaluateConfig", "compare", "evaluate", "main", "overlap", "read"]


@dataclass(frozen=True)
class EvaluateConfig:
    """Score the predictor of a category on clips whose truth is known."""

    dataset: Path
    """Folder of clip folders that training has not seen."""
    out: Path
    """Folder for scores.json and scores.png."""
    category: str = "quadruped"
    clips: int = 0
    """Look at this many clips, evenly spread; 0 for all."""
    publish: bool = False
    """Also write the scores into the category's bundle, and bring its hashes up to date (CARD.md's too)."""


@dataclass(frozen=True)
class _Pictures:
    """Frames and masks of a clip folder, in the form that clip.crop reads."""

    frames: list[np.ndarray]
    masks: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        return self.frames[0].shape[1], self.frames[0].shape[0]

    def frame(self, i: int) -> np.ndarray:
        return self.frames[i]

    def mask(self, i: int) -> np.ndarray:
        return self.masks[i].astype(np.float32) / 255


def evaluate_clip(folder: Path, category: Category, student: Student) -> dict[str, np.ndarray] | None:
    """Errors (T,) of one clip folder; None when its masks never show the subject. The true focal is given."""
    true = Motion.load(folder / "motion.npz").validate(category)
    pictures = _Pictures(*read_clip_folder(folder, true))
    boxes = mask_boxes(pictures.masks)
    if boxes is None:
        return None
    center, side = crop_boxes(boxes)
    crops = extract_crops(pictures, pictures, center, side, category.network.input_size)
    focal, pp = true.focal_px, true.principal_point
    prediction = student.run(crops, crop_info(center, side, focal, pp))
    found = track(category, prediction, center, side, crops[:, 3], focal, pp, pictures.size, true.fps)
    result = compare(category, found, true)
    result.update(_hypotheses(prediction, true, center, side))
    result["iou"] = overlap(category, found, pictures.masks)
    result["iou_truth"] = overlap(category, true, pictures.masks)
    return result


def _hypotheses(
    prediction: Prediction, true: Motion, center: np.ndarray, side: np.ndarray
) -> dict[str, np.ndarray]:
    """Root rotation error (T,) before tracking, degrees: of the likeliest hypothesis, and of the best one."""
    rotation, _ = encode_root(true.camera_from_root, center, side, true.focal_px, true.principal_point)
    angle = np.rad2deg(geodesic(prediction.root_rotation, rotation[:, None]))
    likeliest = prediction.root_logprob.argmax(1)
    return {"likeliest_deg": angle[np.arange(len(angle)), likeliest], "best_deg": angle.min(1)}


def evaluate(
    dataset: Path, category: Category, clips: int = 0, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """All scores of a dataset: settings, the table's row ('mean'), and every clip's own row."""
    folders = sorted(p.parent for p in dataset.glob("*/motion.npz") if not p.parent.name.startswith("."))
    if not folders:
        raise ValueError(f"{dataset}: holds no clip folder with a motion.npz; make or choose another dataset")
    if clips:
        folders = [folders[i] for i in np.unique(np.linspace(0, len(folders) - 1, clips).round().astype(int))]
    student = Student(category)
    each: dict[str, dict[str, np.ndarray]] = {}
    for i, folder in enumerate(folders):
        found = evaluate_clip(folder, category, student)
        if found is not None:
            each[folder.name] = found
        if progress is not None:
            progress(i + 1, len(folders))
    if not each:
        raise ValueError(f"{dataset}: no clip shows its subject; make or choose another dataset")
    together = _joined(list(each.values()))
    splits = {name: _split(dataset / name) for name in each}
    return {
        "dataset": dataset.name,
        "category": category.name,
        "version": category.version,
        "predictor": category.hashes.get("predictor.onnx", ""),
        "clips": len(each),
        "frames": len(together["root_deg"]),
        "mean": _row(together),
        "splits": {
            split: _row(_joined([rows for name, rows in each.items() if splits[name] == split]))
            for split in sorted(set(splits.values()))
        },
        "each": {name: _row(rows) for name, rows in each.items()},
    }


def _joined(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The errors of several clips as those of one."""
    return {k: np.concatenate([r[k] for r in rows]) for k in rows[0]}


def _split(folder: Path) -> str:
    """Which part of the subjects a clip shows, from its meta.json: 'train', 'held-out' …"""
    path = folder / "meta.json"
    meta = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return str(meta.get("split", "all"))


def _row(errors: dict[str, np.ndarray]) -> dict[str, float]:
    """One line of the table: medians of angles and distances, shares, means of IoU and morphology."""
    median = {
        "root_tracked_deg": "root_deg",
        "root_chosen_deg": "likeliest_deg",
        "root_best_deg": "best_deg",
        "translation": "translation",
        "joints_deg": "joints_deg",
        "mpjpe_cm": "mpjpe_cm",
        "mpjpe_scaled_cm": "mpjpe_scaled_cm",
        "mpjpe_root_cm": "mpjpe_root_cm",
    }
    row = {name: float(np.median(errors[key])) for name, key in median.items()}
    for name, key in (("tracked", "root_deg"), ("chosen", "likeliest_deg"), ("best", "best_deg")):
        row[f"root_{name}_over_30"] = float(np.mean(errors[key] > 30))
    row["morphology"] = float(np.mean(errors["morphology"]))
    for key in ("iou", "iou_truth"):
        row[key] = float(np.nanmean(errors[key])) if np.isfinite(errors[key]).any() else float("nan")
    return {k: round(v, 4) for k, v in row.items()}


def publish(category: Category, result: dict[str, Any]) -> None:
    """Write the table's rows into the bundle that `category` was read from."""
    if category.path is None:
        raise ValueError(f"category '{category.name}' has no folder to write its scores to")
    scores = {k: result[k] for k in ("dataset", "clips", "frames", "mean", "splits")}
    save_category(replace(category, training={**category.training, "scores": scores}), category.path)


def read(path: Path) -> dict[str, Any]:
    """A scores.json."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def table(result: dict[str, Any]) -> str:
    """The scores as a Markdown table: all clips, then each split of the subjects."""
    splits = result["splits"] if len(result["splits"]) > 1 else {}
    columns = {"all": result["mean"], **splits}
    lines = [
        f"{result['clips']} clips, {result['frames']} frames of {result['dataset']}",
        "",
        "| score | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, text in LABELS.items():
        factor = 100 if text.endswith("%") else 1
        lines.append(
            f"| {text} | " + " | ".join(f"{row[name] * factor:.3g}" for row in columns.values()) + " |"
        )
    return "\n".join(lines)


LABELS = {
    "root_chosen_deg": "root rotation, likeliest hypothesis, median °",
    "root_best_deg": "root rotation, best of the hypotheses, median °",
    "root_tracked_deg": "root rotation after tracking, median °",
    "root_chosen_over_30": "likeliest more than 30° off, %",
    "root_best_over_30": "best more than 30° off, %",
    "root_tracked_over_30": "tracked more than 30° off, %",
    "translation": "translation, share of depth, median %",
    "joints_deg": "joint rotation, median °",
    "morphology": "morphology, mean standard deviations",
    "mpjpe_cm": "MPJPE, camera space, median cm",
    "mpjpe_scaled_cm": "MPJPE, depth scaled, median cm",
    "mpjpe_root_cm": "MPJPE, root aligned, median cm",
    "iou": "silhouette IoU with the given mask, mean",
    "iou_truth": "the true silhouette's IoU with that mask, mean",
}


def plot(result: dict[str, Any], path: Path) -> None:
    """How the clips' scores are spread."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = ("root_tracked_deg", "joints_deg", "mpjpe_root_cm", "iou")
    figure, axes = plt.subplots(1, len(names), figsize=(14, 3.2), constrained_layout=True)
    for axis, name in zip(axes, names, strict=True):
        values = sorted(row[name] for row in result["each"].values())
        axis.plot(np.linspace(0, 100, len(values)), values)
        axis.set(title=LABELS[name], xlabel="% of clips")
        axis.title.set_fontsize(8)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: list[str] | None = None) -> int:
    """`evaluate`: the scores of a category's predictor on clips with known truth."""
    import tyro
    from rich.progress import Progress

    config = tyro.cli(EvaluateConfig, args=argv, prog="evaluate")
    try:
        category = load_category(config.category)
        with Progress(disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("evaluate")
            result = evaluate(
                config.dataset,
                category,
                config.clips,
                lambda i, n: bar.update(task, completed=i, total=n),
            )
        if config.publish:
            publish(category, result)
    except (DasrError, OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    config.out.mkdir(parents=True, exist_ok=True)
    with written_atomically(config.out / "scores.json") as path:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(result, config.out / "scores.png")
    print(table(result))
    return 0
