# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames a second: the network in batches, the pipeline with given masks, and MediaPipe's pose on the same frames.

    python tests/benchmarks/bench_speed.py [CLIP] [--category quadruped] [--frames 64] [--runs 5]
                                           [--rival-python VENV/bin/python]

CLIP is a folder with frames/ and masks/. One table: medians of `runs`, the fastest, and the processor time of all
threads, which says what a busy machine would do if it were idle. The network is timed with each provider that
starts, in batches of 1, 8 and 64 frames, with and without the look in the mirror. The rival is `mediapipe` (0.10,
the last with its pose models inside the package), whole pictures one after another as a Blender user would run it;
it lives in an environment of its own because it wants its own numpy, and is left out with one line where that
environment or the package is missing. Its answer is 33 landmarks of a person: less than ours, which is a rigged
mesh, and it needs no mask.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender.core import Category, load_category
from dasr_blender.job import JobOptions, run_job
from dasr_blender.predict import Student
from dasr_blender.predict.providers import available

DEFAULT = ROOT.parent / "shared/data/clips/davis-camel"
BATCHES = (1, 8, 64)
RIVAL = """
import json, sys, time
import cv2
try:
    import mediapipe
    pose = mediapipe.solutions.pose.Pose(model_complexity=1)
except Exception as error:
    print(json.dumps({"missing": f"{type(error).__name__}: {error}"}))
    sys.exit()
paths, runs = sys.argv[2:], int(sys.argv[1])
frames = [cv2.cvtColor(cv2.imread(p), cv2.COLOR_BGR2RGB) for p in paths]
times, found = [], 0
for run in range(runs + 1):
    wall, work = time.perf_counter(), time.process_time()
    found = sum(pose.process(f).pose_landmarks is not None for f in frames)
    times.append((time.perf_counter() - wall, time.process_time() - work))
print(json.dumps({"version": mediapipe.__version__, "clock": times[1:], "found": found}))
"""


Clock = list[tuple[float, float]]  # wall and processor seconds of each run


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def row(what: str, how: str, clock: Clock, frames: int) -> tuple[float, float]:
    """Print one line of the table; returns the median wall and processor milliseconds a frame."""
    wall, work = (np.array([c[k] for c in clock]) * 1000 / frames for k in (0, 1))
    median, cpu = float(np.median(wall)), float(np.median(work))
    print(f"{what:<12}{how:<34}{median:>9.2f}{wall.min():>9.2f}{cpu:>9.2f}{1000 / median:>10.1f}", flush=True)
    return median, cpu


def timed(action: Callable[[], object], runs: int) -> Clock:
    """The clock of each run after one that warms up."""
    action()
    clock = []
    for _ in range(runs):
        wall, work = now()
        action()
        clock.append((time.perf_counter() - wall, time.process_time() - work))
    return clock


def network(category: Category, frames: int, runs: int) -> None:
    size = category.network.input_size
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (frames, 4, size, size), np.uint8)
    info = np.tile([0.0, 0.0, 0.4], (frames, 1))
    for provider in available():
        for mirror in (False, True):
            for batch in BATCHES:
                student = Student(category, provider, batch=batch, mirror=mirror)
                if student.opened.provider != provider:
                    print(f"{'student':<12}{provider}: {' '.join(student.opened.notes)}")
                    break
                count = min(frames, 8) if batch == 1 else frames
                how = f"{student.opened.label}, batch {batch}{', mirror' if mirror else ''}"
                row("student", how, timed(lambda s=student, n=count: s.run(crops[:n], info[:n]), runs), count)


def pipeline(clip: Path, category: str, runs: int) -> tuple[float, float]:
    """Wall and processor milliseconds a frame from the clip and its masks to the motion."""
    stages: dict[str, list[float]] = {}
    clock = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as out:
            options = JobOptions(  # the rival neither fits nor looks for the camera
                str(clip / "frames"),
                out,
                category=category,
                masks=str(clip / "masks"),
                overlay=False,
                quality="draft",
                camera="still",
            )
            wall, work = now()
            result = run_job(options)
            clock.append((time.perf_counter() - wall, time.process_time() - work))
        for stage, seconds in result.seconds.items():
            stages.setdefault(stage, []).append(seconds)
    frames = len(result.motion)
    for stage, seconds in stages.items():
        wall = 1000 * np.array(seconds) / frames
        print(f"{'pipeline':<12}{stage:<34}{np.median(wall):>9.2f}{wall.min():>9.2f}")
    return row("pipeline", f"whole, {clip.name}, {result.provider}", clock, frames)


def rival(python: str, clip: Path, runs: int, ours: tuple[float, float]) -> None:
    paths = sorted(str(p) for p in (clip / "frames").iterdir())
    try:
        done = subprocess.run(
            [python, "-c", RIVAL, str(runs), *paths], capture_output=True, text=True, timeout=900
        )
        said = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        said = {"missing": f"{type(error).__name__}: {error}"}
    if "missing" in said:
        print(
            f"mediapipe   left out, {python} cannot run it ({said['missing']}): make an environment with "
            "pip install mediapipe==0.10.21 and give its python as --rival-python"
        )
        return
    how = f"pose {said['version']}, found in {said['found']} of {len(paths)}"
    theirs = row("mediapipe", how, said["clock"], len(paths))
    wall, work = (t / o for t, o in zip(theirs, ours, strict=True))
    print(
        f"ratio       mediapipe / pipeline: {wall:.2f} by the clock, {work:.2f} of processor time; "
        "above 1 ours is faster"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--category", default="quadruped")
    parser.add_argument("--frames", type=int, default=64, help="frames in the network's part")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rival-python", default=sys.executable)
    arguments = parser.parse_args()
    print(f"{'':<46}{'median':>9}{'fastest':>9}{'cpu':>9}{'median':>10}")
    print(f"{'what':<12}{'how':<34}{'ms/frame':>9}{'ms/frame':>9}{'ms/frame':>9}{'frames/s':>10}")
    network(load_category(arguments.category), arguments.frames, arguments.runs)
    ours = pipeline(arguments.clip, arguments.category, arguments.runs)
    rival(arguments.rival_python, arguments.clip, arguments.runs, ours)
