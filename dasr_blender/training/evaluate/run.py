# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluation as one run: what is asked for is scored, printed and written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...clip import load_clip
from ...core.category import Category, load_category, save_category
from ...core.errors import DasrError
from ...core.files import written_atomically
from ..clip_folder import clip_folders
from ..errors import TrainingError
from ..settings import at_least
from .options import EvaluateConfig
from .rendered import score, sum_up
from .rows import FIT, OURS, Row, make_rows
from .scene import Scene, read_scene
from .table import table

Progress = Callable[[str, int, int], None]  # what is looked at, how many are done, of how many


def evaluate(config: EvaluateConfig, category: Category, progress: Progress | None = None) -> dict[str, Any]:
    """Everything that `config` asks for. Writes the pictures of real clips; the caller writes the rest.

    Under `failed` the result has a sentence for each clip that could not be scored.
    Raises TrainingError when nothing, or what cannot be meant, is asked for, and what reading the models and AMA's
    sequences raises.
    """
    check(config, category)
    rows = make_rows(category, config.rows, config.baselines, config.quality)
    result: dict[str, Any] = {
        "category": category.name,
        "version": category.version,
        "predictor": category.hashes.get("predictor.onnx", ""),
        "asked": {k: str(v) for k, v in vars(config).items()},
        "failed": [],
    }
    report = progress or (lambda text, done, total: None)
    if config.dataset is not None:
        result["rendered"] = rendered(config, config.dataset, category, rows, report, result["failed"])
        result |= _main_row(result["rendered"])
    if config.real:
        from .real import evaluate_real

        result["real"] = evaluate_real(config, rows, report, result["failed"])
    if config.rigged is not None:
        from .rigged import evaluate_rigged

        result["rigged"] = evaluate_rigged(config, config.rigged, category, rows, report)
    if config.ama:
        from .ama import evaluate_ama

        result["ama"] = evaluate_ama(config, rows, report)
    return result


def check(config: EvaluateConfig, category: Category) -> None:
    """Raise TrainingError, or ClipError, for what cannot be done as asked, before hours are spent on what can."""
    if not (config.dataset is not None or config.real or config.rigged is not None or config.ama):
        raise TrainingError("Nothing to score: give --dataset, --real, --rigged or --ama")
    if config.views < 1 or min(config.clips, config.frames) < 0:
        raise TrainingError("--views must be positive, --clips and --frames not negative")
    at_least(0, config, "seed")
    if config.rigs is not None and not config.rigs.is_dir():
        raise TrainingError(f"{config.rigs}: there is no such folder of rigs, whose surfaces are to be the truth")
    if config.publish and config.dataset is None:
        raise TrainingError("Only scores on rendered clips can be published: give --dataset")
    if config.publish and category.predictor_path is None:
        raise TrainingError(f"category '{category.name}' has no network of its own whose scores could be published")
    if config.dataset is not None:
        clip_folders(config.dataset)
    if config.real:
        from .real import find_clips

        for real in find_clips(config.real, config.only):
            load_clip(real.source, end=1)
    if config.rigged is not None:
        from .rigged import find_rigged

        find_rigged(config.rigged)
    if config.ama:
        from .ama import find_views

        find_views(config.ama, config.cameras)


def rendered(
    config: EvaluateConfig, dataset: Path, category: Category, rows: list[Row], report: Progress, failed: list[str]
) -> dict[str, Any]:
    """Scores of a dataset of rendered clips. failed: gets a sentence for each that cannot be read."""
    folders = clip_folders(dataset)
    if config.clips:
        chosen = np.unique(np.linspace(0, len(folders) - 1, config.clips).round().astype(int))
        folders = [folders[i] for i in chosen]
    done = iter(range(1, len(folders) + 1))

    def read(folder: Path) -> Scene | None:
        try:
            return read_scene(folder, category, config.rigs)
        except DasrError as error:
            failed.append(f"{folder.name}: {error}")
            return None

    results = score(
        map(read, folders),
        rows,
        lambda: report("rendered clips", next(done), len(folders)),
    )
    if not results.splits:
        raise TrainingError(
            failed[0] if failed else f"{dataset}: no clip shows its subject; make or choose another dataset"
        )
    return {"dataset": dataset.name, **sum_up(results, rows)}


def _main_row(part: dict[str, Any]) -> dict[str, Any]:
    """What the bundle's own predictor scores, at the top of the result; that of the first where it has none."""
    own = part["rows"].get(OURS) or next(iter(part["rows"].values()))
    return {
        "dataset": part["dataset"],
        "clips": part["clips"],
        "frames": part["frames"],
        "mean": own["all"],
        "splits": {split: scores for split, scores in own.items() if split != "all"},
    }


def publish(category: Category, result: dict[str, Any]) -> None:
    """Write the scores of the category's own predictor into the bundle that `category` was read from."""
    assert category.path is not None  # it was read
    scores = {k: result[k] for k in ("dataset", "clips", "frames", "mean", "splits")}
    if "real" in result:
        scores["real"] = {
            clip["name"]: {"masks": clip["masks"], **clip["rows"][OURS]} for clip in result["real"]
        }
        fitted = {clip["name"]: clip["rows"][FIT] for clip in result["real"] if FIT in clip["rows"]}
        if fitted:
            scores["real_fitted"] = fitted
    if FIT in result["rendered"]["rows"]:
        scores["fitted"] = result["rendered"]["rows"][FIT]
    save_category(replace(category, training={**category.training, "scores": scores}), category.path)


def read(path: Path) -> dict[str, Any]:
    """A scores.json."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write(result: dict[str, Any], out: Path) -> None:
    """scores.json, table.md, and the plots."""
    from .plots import plot_reliability, plot_spread

    with written_atomically(out / "scores.json") as path:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    with written_atomically(out / "table.md") as path:
        path.write_text(table(result, with_legend=True) + "\n", encoding="utf-8")
    for key, prefix in (("rendered", ""), ("rigged", "rigged-"), ("ama", "ama-")):
        if key in result:
            plot_spread(result[key], out / f"{prefix}scores.png")
            if any(scores["count"] for scores in result[key]["reliability"].values()):
                plot_reliability(result[key], out / f"{prefix}reliability.png")


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, and leave none behind in which nothing was written before an error."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise


def main(argv: list[str] | None = None) -> int:
    """`evaluate`: scores of a category's predictor beside its baselines and others."""
    import matplotlib  # noqa: F401  said to be missing now rather than after an hour
    import tyro
    from rich.progress import Progress as Bar

    config = tyro.cli(EvaluateConfig, args=argv, prog="evaluate")
    category = load_category(config.category)
    with _made(config.out), Bar(disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, Any] = {}

        def show(text: str, done: int, total: int) -> None:
            if text not in tasks:
                tasks[text] = bar.add_task(text)
            bar.update(tasks[text], completed=done, total=total)

        result = evaluate(config, category, show)
    write(result, config.out)
    failed = result["failed"]
    if config.publish and not failed:
        publish(category, result)
    print(table(result))
    print(f"\nwritten to {config.out}")
    for reason in failed:
        print(f"evaluate: not scored: {reason}", file=sys.stderr)
    if config.publish and failed:
        print("evaluate: not published, since not all clips were scored", file=sys.stderr)
    return 1 if failed else 0
