# SPDX-License-Identifier: GPL-3.0-or-later
"""What distilling was worth: a student before and after, against its teacher, against the truth, and on real clips.

The rows, the errors and the tables are the evaluation's own; here they are only put side by side.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.category import Category, load_category
from ..core.files import written_atomically
from ..core.motion import Motion
from .clip_folder import clip_folders
from .errors import TrainingError
from .evaluate.options import EvaluateConfig
from .evaluate.rendered import joined, line, score
from .evaluate.rows import Answer, Row, make_rows
from .evaluate.scene import Scene, read_scene
from .evaluate.table import COLUMNS, REAL_COLUMNS, grid, legend
from .picture import read_picture

BEFORE, AFTER, TEACHER = "before", "after", "the teacher itself"
SHOWN = (
    "root_chosen_deg",
    "root_chosen_over_30",
    "root_tracked_deg",
    "translation",
    "joints_mean_deg",
    "mpjpe_cm",
    "cd_cm",
    "cd_scaled_share",
    "iou",
    "jitter_percent",
    "surface_map_cm",
    "morphology",
    "pck_t",
)
"""scores in the table, of all that scores.json holds"""


@dataclass(frozen=True)
class ReportConfig:
    """A student before and after distilling: one table, table.md and scores.json."""

    before: Path
    """The student that the teacher began from: a checkpoint, a bundle or an .onnx file."""
    after: Path
    """The student that learnt from the teacher, likewise."""
    out: Path
    """Folder for the table, the scores and the exported networks."""
    teacher: tuple[Path, ...] = ()
    """Folders of clip folders that the teacher labelled."""
    truth: Path | None = None
    """Folder of clip folders with their truth; clips that the teacher labelled too also say how good it is itself."""
    real: tuple[Path, ...] = ()
    """Real clips: videos, clip folders, or folders of such."""
    left_out_of: Path | None = None
    """Of the teacher's clips, look only at those that a training on this shard keeps for validation."""
    held_out: int = 8
    """Which those are: each n-th clip, as `train --teacher-held-out` was told."""
    rigs: Path | None = None
    """Baked and mapped rigs: their own posed surface is then the truth of clips that show them."""
    category: str = "quadruped"
    """Category bundle: a name or a folder."""
    frames: int = 0
    """Look at no more than this many frames of a real clip; 0 for all."""


@dataclass(frozen=True, eq=False)
class Labelled(Row):
    """Answers with what was written beside the same clip, by its name and pictures, in another dataset."""

    folders: dict[str, Path] = field(default_factory=dict)

    def answer(self, scene: Scene) -> Answer | None:
        folder = self.folders.get(scene.name)
        if folder is None:
            return None
        motion = Motion.load(folder / "motion.npz").validate(self.category)
        same = len(motion) == len(scene) and _first_frame(folder, motion.frame_index[0], scene.frames[0])
        return Answer(motion) if same else None


def _first_frame(folder: Path, number: int, picture: np.ndarray) -> bool:
    """Whether a clip folder's first frame is `picture` (H, W, 3) RGB, but for how it was compressed."""
    try:
        found = read_picture(folder / "frames" / f"{int(number):05d}.jpg")
    except TrainingError:
        return False
    return found.shape == picture.shape and float(np.corrcoef(found.ravel(), picture.ravel())[0, 1]) > 0.97


def network(path: Path, category: Category, out: Path, name: str) -> Path:
    """A bundle or an .onnx file as it is; a checkpoint's network as an .onnx file in `out`. Raises what that raises."""
    if path.suffix != ".pt":
        return path
    from .export import write_onnx  # torch, which only a checkpoint and a shard need
    from .student.checkpoint import load_student

    exported = out / f"{name}.onnx"
    write_onnx(load_student(path, category), exported)
    return exported


def left_out(shard: Path, every: int) -> set[str]:
    """Names of the clips of a shard that training keeps for validation. Raises what `Shard` raises."""
    from .student.data import Shard  # torch, which only a checkpoint and a shard need

    packed = Shard(shard, every)
    return {packed.clips[i]["name"] for i in packed.validation_clips}


def teacher_folders(config: ReportConfig) -> list[Path]:
    """The clip folders that the teacher labelled and the student is asked about. Raises TrainingError for none."""
    folders = [folder for dataset in config.teacher for folder in clip_folders(dataset)]
    if config.left_out_of is not None:
        names = left_out(config.left_out_of, config.held_out)
        folders = [folder for folder in folders if folder.name in names]
        if config.teacher and not folders:
            raise TrainingError(
                f"{config.left_out_of}: keeps none of the teacher's clips for validation; lower --held-out"
            )
    return folders


def against(
    folders: Sequence[Path], category: Category, rows: Sequence[Row], rigs: Path | None = None
) -> dict[str, Any]:
    """Scores of rows on clip folders, over all frames and clip by clip; frames of quality 0 are not looked at."""
    sure: dict[str, np.ndarray] = {}
    names = [folder.name for folder in folders]

    def scenes():
        for folder in folders:
            scene = read_scene(folder, category, rigs)
            if scene is not None and scene.true is not None:
                if names.count(folder.name) > 1:
                    scene.name = f"{folder.parent.name}/{folder.name}"
                sure[scene.name] = scene.true.confidence > 0
            yield scene

    errors = score(scenes(), rows).errors
    for clips in errors.values():
        for name, found in clips.items():
            clips[name] = {k: np.where(sure[name], values, np.nan) for k, values in found.items()}
    return {
        "clips": len(sure),
        "frames": int(sum(frames.sum() for frames in sure.values())),
        "rows": {label: line(joined(list(clips.values()))) for label, clips in errors.items() if clips},
        "each": {
            label: {name: line(found) for name, found in clips.items()} for label, clips in errors.items()
        },
    }


def report(config: ReportConfig, category: Category) -> dict[str, Any]:
    """Everything that `config` asks for, by what it is measured against.

    Raises TrainingError when nothing is asked for, and what reading and exporting raise.
    """
    if not (config.teacher or config.truth or config.real):
        raise TrainingError("Nothing to compare on: give --teacher, --truth or --real")
    config.out.mkdir(parents=True, exist_ok=True)
    paths = {
        name: network(path, category, config.out, name)
        for name, path in ((BEFORE, config.before), (AFTER, config.after))
    }
    # The bundle's own network is no row here: it may be neither of the two.
    rows = make_rows(
        replace(category, predictor_path=None), [f"{n}={p}" for n, p in paths.items()], False, "draft"
    )
    result: dict[str, Any] = {
        "category": category.name,
        "version": category.version,
        "asked": {k: str(v) for k, v in vars(config).items()},
    }
    if config.teacher:
        result["teacher"] = against(teacher_folders(config), category, rows)
    if config.truth is not None:
        taught = {f.name: f for dataset in config.teacher for f in clip_folders(dataset)}
        judge = [Labelled(TEACHER, category, folders=taught)] if taught else []
        result["truth"] = against(clip_folders(config.truth), category, [*rows, *judge], config.rigs)
    if config.real:
        result["real"] = _real(config, rows)
    return result


def _real(config: ReportConfig, rows: Sequence[Row]) -> dict[str, Any]:
    from .evaluate.real import evaluate_real

    asked = EvaluateConfig(out=config.out, real=config.real, frames=config.frames)
    failed: list[str] = []
    clips = evaluate_real(asked, rows, lambda text, done, total: None, failed)
    if failed:
        raise TrainingError(failed[0])
    each = {row.label: {clip["name"]: clip["rows"][row.label] for clip in clips} for row in rows}
    return {
        "clips": len(clips),
        "frames": int(sum(scores["frames"] for scores in each[BEFORE].values())),
        "masks": {clip["name"]: clip["masks"] for clip in clips},
        "rows": {
            label: {
                name: round(float(np.mean(values)), 4)
                for name in REAL_COLUMNS
                if name != "frames" and (values := [s[name] for s in found.values() if name in s])
            }
            for label, found in each.items()
        },
        "each": each,
    }


def table(result: dict[str, Any]) -> str:
    """The report as one Markdown table, with what its lines and columns are."""
    titles = {"teacher": "against the teacher", "truth": "against the truth", "real": "real clips"}
    lines: dict[str, dict[str, float]] = {}
    facts: list[str] = []
    for key, title in titles.items():
        if key in result:
            part = result[key]
            lines |= {f"{title} · {label}": scores for label, scores in part["rows"].items()}
            facts.append(f"{title}: {part['clips']} clips, {part['frames']} frames")
    columns = {name: {**REAL_COLUMNS, **COLUMNS}[name] for name in SHOWN}
    judged = result.get("truth", {}).get("each", {}).get(TEACHER)
    if judged:
        facts.append(f"the teacher itself: the {len(judged)} of those clips that it labelled")
    head = f"Category {result['category']} {result['version']}; " + "; ".join(facts) + "."
    return "\n\n".join([head, grid(lines, columns, "student"), legend(columns, lines)])


def main(argv: list[str] | None = None) -> int:
    """`distill-report`: a student before and after distilling."""
    import tyro

    config = tyro.cli(ReportConfig, args=argv, prog="distill-report")
    result = report(config, load_category(config.category))
    text = table(result)
    for name, content in (("scores.json", json.dumps(result, indent=1)), ("table.md", text)):
        with written_atomically(config.out / name) as path:
            path.write_text(content + "\n", encoding="utf-8")
    print(text)
    print(f"\nwritten to {config.out}")
    return 0
