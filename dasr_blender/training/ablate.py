# SPDX-License-Identifier: GPL-3.0-or-later
"""What each part of the student is worth: rows that differ in one thing, trained for the same time from the same start.

Every row becomes an .onnx file that `dasr evaluate --rows NAME@SEED=FILE` scores. A row that is done is not done
again, and one that was cut off goes on from its checkpoint.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ..core.category import BODY, Category, load_category
from ..core.errors import DasrError
from ..core.files import written_atomically
from . import export
from .errors import TrainingError
from .settings import at_least
from .sources import open_sources
from .student import log
from .student.checkpoint import load_student, read
from .student.losses import LossConfig
from .train_config import TrainConfig, settled
from .trainer import Trainer

# name: (what differs from `main`, how many seeds at most)
ROWS: dict[str, tuple[dict[str, Any], int]] = {
    "main": ({}, 3),
    "dasr": ({"recipe": "dasr"}, 3),
    "dasr-lite0": ({"recipe": "dasr-lite0"}, 1),
    "no-surface": ({"surface": False, "look_back": False}, 1),
    "no-look-back": ({"look_back": False}, 1),
    "joint-maps": ({"joint_maps": True}, 1),
    "no-place": ({"place": False}, 1),
    "no-multiplex": ({"hypotheses": 1}, 1),
    "winner": ({"loss": LossConfig(multiplex="winner")}, 1),
    "softmax": ({"loss": LossConfig(multiplex="softmax")}, 1),
    "no-imagenet": ({"imagenet": False}, 1),
    "temporal-none": ({"temporal": "none"}, 1),
    "temporal-attention": ({"temporal": "attention"}, 1),
}
SHARED = "main@0"
"""the row whose first stage the temporal rows share: they differ in the second alone"""


@dataclass(frozen=True)
class AblateConfig:
    """Train and export every row of the comparison, one after another."""

    shard: Path
    """Packed clips (see `pack`)."""
    out: Path
    """Folder for NAME@SEED.onnx, ablation.json and the runs."""
    minutes: float = 4.0
    """Time of each row, both stages together."""
    rows: tuple[str, ...] = tuple(ROWS)
    """Rows by name, in the order in which they are made."""
    seeds: int = 3
    """Seeds of the rows that are made several times: main and dasr."""
    category: str = "quadruped"
    clock: Literal["wall", "cpu"] = "cpu"
    """What minutes are counted in: work of `threads` processors, equal on a busy machine too, or the wall's clock."""
    device: str = "cpu"
    threads: int = 2
    batch: int = 64
    width: int = 512
    frame_steps: int = 0
    """Steps of the first stage instead of its time."""
    clip_steps: int = 0
    """Steps of the second stage instead of its time."""


_OF_THE_RUN = ("out", "rows", "seeds", "threads")  # settings in which the rows of one table may differ


def refuse_others(config: AblateConfig, category: Category) -> None:
    """Keep what all rows in a folder are made with, and raise TrainingError where it is something else now."""
    path = config.out / "settings.json"
    now = {k: str(v) for k, v in asdict(config).items() if k not in _OF_THE_RUN}
    now |= {"shard": str(config.shard.resolve()), "body": category.hashes.get(BODY, "")}
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else now
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{path}: not readable settings ({error}); take it away") from error
    for name, value in now.items():
        if (was := before.get(name, value)) != value:
            raise TrainingError(
                f"The rows in {config.out} are made with another {name.replace('_', ' ')} ({was}, now {value}), and "
                "those of one table have to be alike: choose another --out"
            )
    with written_atomically(path) as temporary:
        temporary.write_text(json.dumps(now, indent=1), encoding="utf-8")


def plan(config: AblateConfig) -> list[tuple[str, int]]:
    """Rows and seeds in order. Raises TrainingError for a row that there is not, or for none at all."""
    for name in config.rows:
        if name not in ROWS:
            raise TrainingError(f"there is no row '{name}'; there are {', '.join(ROWS)}")
    at_least(1, config, "seeds")
    if not config.rows:
        raise TrainingError(f"--rows names none; there are {', '.join(ROWS)}")
    found = [(name, seed) for name in config.rows for seed in range(min(ROWS[name][1], config.seeds))]
    needed = any(name.startswith("temporal-") for name in config.rows)
    if needed and ("main", 0) not in found:
        found.insert(0, ("main", 0))
    return sorted(found, key=lambda row: row[0].startswith("temporal-"))  # after the row they share with


def row_config(config: AblateConfig, name: str, seed: int) -> TrainConfig:
    """How one row is trained."""
    base = TrainConfig(
        shard=config.shard,
        out=config.out / "runs" / f"{name}@{seed}",
        category=config.category,
        minutes=config.minutes,
        clock=config.clock if config.device == "cpu" else "wall",
        frame_steps=config.frame_steps,
        clip_steps=config.clip_steps,
        batch=config.batch,
        threads=config.threads,
        device=config.device,
        width=config.width,
        seed=seed,
        checkpoint_minutes=max(1.0, config.minutes / 4),
        resume=True,
        plot=False,
    )
    shared = config.out / "runs" / SHARED / "student.pt" if name.startswith("temporal-") else None
    return replace(base, frames_from=shared, **ROWS[name][0])


def make_row(config: AblateConfig, category: Category, name: str, seed: int) -> dict[str, Any]:
    """Train and export one row; returns what is known about it. Raises what training and export raise."""
    trainer = Trainer(row_config(config, name, seed), category)
    trainer.run()
    student = load_student(trainer.checkpoint, category)
    path = config.out / f"{name}@{seed}.onnx"
    new = path.with_name(f".new-{path.name}")
    try:
        export.write_onnx(student, new)
        difference = export.parity(student, new, (1, 20))
        if difference > export.TOLERANCE:
            raise TrainingError(f"onnxruntime and torch differ by {difference:.2g}")
        speed = export.milliseconds_a_frame(new, student.config.crop)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    clocks, rows = read(trainer.checkpoint)["clocks"], log.read(trainer.log)
    frames = [row for row in rows if row["stage"] == "frames"]
    return {
        "row": f"{name}@{seed}",
        "frame_steps": int(clocks["frames"][0]),
        "clip_steps": int(clocks["clips"][0]),
        "minutes": round(sum(minutes for _, minutes in clocks.values()), 2),
        "images_per_s": round(float(frames[-1]["images_per_s"]), 1) if frames else None,
        "parameters": sum(p.numel() for p in student.parameters()),
        "ms_a_frame": round(speed, 2),
        **{k: round(float(v), 4) for k, v in rows[-1].items() if k.startswith("val_") and v},
    }


def known(path: Path) -> dict[str, dict[str, Any]]:
    """Facts of the rows that are done. Raises TrainingError naming a damaged file."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{path}: not a readable list of rows ({error}); take it away") from error


def table(facts: dict[str, dict[str, Any]]) -> str:
    """The rows as lines: what they did and what their own validation said."""
    columns = (
        "frame_steps",
        "clip_steps",
        "ms_a_frame",
        "val_root_chosen_deg",
        "val_joints_deg",
        "val_vertices",
    )
    lines = [f"{'':22}" + "".join(f"{name.removeprefix('val_'):>17}" for name in columns)]
    for name, row in facts.items():
        lines.append(f"{name:22}" + "".join(f"{row.get(column, ''):>17}" for column in columns))
    return "\n".join(lines)


def ablate(config: AblateConfig) -> list[str]:
    """Make every row that is not there yet; returns one line for each that failed.

    Raises TrainingError or OSError for settings and shards that no row can be trained with.
    """
    torch.set_num_threads(1)
    category = load_category(config.category)
    config.out.mkdir(parents=True, exist_ok=True)
    facts_path, failed, begun = config.out / "ablation.json", [], time.monotonic()
    rows = plan(config)
    open_sources(settled(row_config(config, *rows[0])), category)  # what no row can be trained with is said once
    refuse_others(config, category)
    for number, (name, seed) in enumerate(rows, 1):
        label = f"{name}@{seed}"
        facts = known(facts_path)
        if label in facts and (config.out / f"{label}.onnx").exists():
            continue
        minutes = (time.monotonic() - begun) / 60
        print(f"== {label} (row {number} of {len(rows)}, {minutes:.1f} min so far)", flush=True)
        try:
            row = make_row(config, category, name, seed)
        except (DasrError, OSError, RuntimeError, ValueError) as error:
            failed.append(f"{label}: {error}")
            print(failed[-1], file=sys.stderr, flush=True)
            continue
        with written_atomically(facts_path) as path:
            path.write_text(json.dumps({**facts, label: row}, indent=1), encoding="utf-8")
    facts = known(facts_path)
    print(table(facts))
    done = [f"{label}={config.out / label}.onnx" for label in facts]
    print(f"dasr evaluate --category {config.category} --dataset CLIPS --out SCORES --rows {' '.join(done)}")
    return failed


def main(argv: list[str] | None = None) -> int:
    """`ablate`: the rows that show what each part is worth."""
    import tyro

    return 1 if ablate(tyro.cli(AblateConfig, args=argv, prog="ablate")) else 0
