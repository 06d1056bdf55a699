# SPDX-License-Identifier: GPL-3.0-or-later
"""What the teacher costs, what it is worth where the truth is known, and what each of its parts is worth.

    python tests/benchmarks/bench_teacher.py speed  --videos DIR [--only PATTERN …] [--until 0.85]
    python tests/benchmarks/bench_teacher.py truth  --videos DIR --out DIR [--rigs DIR] [--steps 2000]
    python tests/benchmarks/bench_teacher.py ablate --videos DIR --out DIR [--rigs DIR] [--steps 600]

speed: steps a second, where the time of a step goes, and the seconds until the field's silhouettes reach an IoU.
truth: rendered clips with their labels (frames/, masks/, motion.npz, surface.npz); the teacher is given frames and
masks only, and the student's tracking and the fit of single clips are scored beside it. ablate: the same without one
part at a time. The Chamfer distance is the area-weighted one of both directions, as a share of the body's length,
after one scale a clip along the rays.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender import threads  # noqa: F401  as on the command line, before numpy

import numpy as np  # isort: skip
import torch

from dasr_blender.core import Category, Motion, load_category
from dasr_blender.core.motion import Motion as Labels
from dasr_blender.training.clip_folder import load_surface
from dasr_blender.training.evaluate.scene import TrueSurface
from dasr_blender.training.evaluate.scores import compare, overlap, picture_jitter, surface_errors
from dasr_blender.training.parallel import join
from dasr_blender.training.teacher.clips import TeacherClip
from dasr_blender.training.teacher.config import FieldConfig
from dasr_blender.training.teacher.frames import load_frames
from dasr_blender.training.teacher.model import make_model
from dasr_blender.training.teacher.objective import draw_rows, objective
from dasr_blender.training.teacher.optimise import Optimiser
from dasr_blender.training.teacher.outcome import field_overlap
from dasr_blender.training.teacher.register import RegisterConfig, common_morphology, register
from dasr_blender.training.teacher.run import TeachConfig, teach

SURFACE = ("surface_render", "surface_project")


def rows_of(steps: int) -> dict[str, TeachConfig]:
    """The teacher, and the teacher without one part at a time."""
    field = FieldConfig(steps=steps, picture_every=0)
    whole = TeachConfig((), Path(), field=field)
    student = RegisterConfig(start="student")
    return {
        "teacher": whole,
        "poses from tracking, not the fit": replace(whole, register=student),
        "without the student": replace(whole, register=RegisterConfig(start="rest")),
        "without the surface map": replace(whole, field=replace(field, without=SURFACE)),
        "without the mesh finish": replace(whole, mesh=False),
        "surface not raised": replace(whole, finish=replace(whole.finish, raised=0.0)),
        "from a ball": replace(whole, field=replace(field, begin="ball")),
        "no residual morphology": replace(whole, field=replace(field, residual_morphology=False)),
        "grids for waves": replace(whole, field=replace(field, encoding="grid")),
        "without flow": replace(whole, field=replace(field, without=("flow",))),
    }


def scored(category: Category, videos: Path, found: dict[str, Motion]) -> dict[str, float]:
    """Means over clips of a row's motions against the labels beside the videos."""
    lines = []
    for name, motion in found.items():
        folder = videos / name
        true = Labels.load(folder / "motion.npz")
        scene = scene_of(category, folder, true)
        errors = compare(category, motion, true)
        lines.append(
            {
                "iou": np.nanmean(overlap(category, motion, scene.masks)),
                "chamfer": np.nanmean(surface_errors(category, motion, scene)["cd_scaled_share"]),
                "root": np.median(errors["root_deg"]),
                "joints": np.median(errors["joints_deg"]),
                "jitter": np.nanmean(picture_jitter(category, motion, scene)["jitter_percent"]),
            }
        )
    return {key: float(np.mean([line[key] for line in lines])) for key in lines[0]}


def scene_of(category: Category, folder: Path, true: Motion):
    """The labelled clip, for scoring."""
    from dasr_blender.training.evaluate.scene import read_scene

    scene = read_scene(folder, category)
    stored = load_surface(folder)
    if scene is None or stored is None:
        raise SystemExit(f"{folder}: no mask shows the subject, or there is no surface.npz (synth --surface)")
    scene.surface = TrueSurface(list(stored[0]), stored[1], "surface")
    return scene


def table(lines: dict[str, dict[str, float]]) -> None:
    print(f"| {'row':34} | IoU | Chamfer % | root ° | joints ° | jitter % | minutes |")
    print("|---|---|---|---|---|---|---|")
    for name, line in lines.items():
        minutes = f"{line['minutes']:.1f}" if "minutes" in line else ""
        print(
            f"| {name:34} | {line['iou']:.3f} | {100 * line['chamfer']:.2f} | {line['root']:.1f} | "
            f"{line['joints']:.1f} | {line['jitter']:.2f} | {minutes} |"
        )


def score_rows(args: argparse.Namespace, names: list[str]) -> None:
    category = load_category(args.category)
    results = args.out / "rows.json"
    lines = json.loads(results.read_text()) if results.exists() else {}
    for start in ("student", "fit"):
        key = {"student": "student", "fit": "student and fit, clip by clip"}[start]
        if key not in lines:
            clips = register(
                category,
                (args.videos,),
                args.out / "masks",
                only=args.only,
                config=RegisterConfig(start=start),
            )
            lines[key] = scored(category, args.videos, {clip.name: clip.motion for clip in clips})
    rows = rows_of(args.steps)
    for name in names or list(rows):
        if name in lines:
            continue
        begun = time.monotonic()
        out = args.out / name.replace(" ", "-").replace(",", "")
        config = replace(
            rows[name], videos=(args.videos,), out=out, category=args.category, only=tuple(args.only),
            masks=args.out / "masks",
        )  # fmt: skip
        taught = teach(config)
        found = {clip.name: clip.motion for clip in taught.clips}
        lines[name] = {**scored(category, args.videos, found), "minutes": (time.monotonic() - begun) / 60}
        args.out.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps(lines, indent=1) + "\n")
        print(name, {k: round(v, 4) for k, v in lines[name].items()}, flush=True)
    table(lines)


def speed(args: argparse.Namespace) -> None:
    category = load_category(args.category)
    clips: list[TeacherClip] = register(category, (args.videos,), args.out / "masks", only=args.only)
    config = FieldConfig(steps=args.steps, picture_every=0, device=args.device)
    team = join(config.device)
    frames = load_frames(category, clips, config.crop)
    model = make_model(category, clips, frames, common_morphology(clips), None, config)
    begun = time.monotonic()
    run = Optimiser(model, frames, args.out / f"speed-{team.device.type}-{time.time():.0f}", team)
    print(f"{len(frames)} frames of {len(clips)} clips on {team.device}, {torch.get_num_threads()} threads")
    print("| step | seconds | steps/s | field's IoU |\n|---|---|---|---|")
    reached = None
    for step in [0, *range(args.steps // 8, args.steps + 1, args.steps // 8)]:
        run.run(until=step)
        seconds = time.monotonic() - begun
        iou = field_overlap(model, frames)
        print(f"| {step} | {seconds:.0f} | {step / max(seconds, 1e-9):.2f} | {iou:.3f} |", flush=True)
        begun += time.monotonic() - begun - seconds  # scoring is not training
        reached = seconds if reached is None and iou >= args.until else reached
    print(f"IoU {args.until} after {'never' if reached is None else f'{reached:.0f} s'}")
    with torch.profiler.profile() as profile:
        for step in range(2):
            generator = torch.Generator().manual_seed(step)
            loss, _ = objective(model, frames, draw_rows(frames, config.frames, generator), 0.5, generator)
            loss.backward()
    print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "truth", "ablate"))
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("bench-teacher"))
    parser.add_argument("--category", default="quadruped")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--until", type=float, default=0.85)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", nargs="*", default=[], help="of the ablation; all without")
    args = parser.parse_args()
    if args.what == "speed":
        speed(args)
    else:
        score_rows(args, ["teacher"] if args.what == "truth" else args.rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
