# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fit costs: milliseconds a frame by length of the clip and by residual, and the memory it takes.

    python tests/benchmarks/bench_fit.py [--frames 130 2000] [--runs 3]

A clip of the shipped quadruped's body that the project renders, repeated forth and back to the length asked for, so
that every frame is real work. Tracking is timed in the same call as the rival: the fit is worth its time only beside
what comes before it. Medians of the runs.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender import threads  # noqa: F401  as on the command line, before numpy

import numpy as np  # isort: skip

from dasr_blender.clip import crop_boxes, extract_crops, load_clip, masks_from_folder
from dasr_blender.clip.flow import flow
from dasr_blender.core import load_category
from dasr_blender.core.camera import crop_info, default_focal
from dasr_blender.demo import DemoOptions, write_demo_clip
from dasr_blender.predict import FitConfig, Prediction, Student, fit, track


class Clip:
    """The demo clip forth and back, `count` frames, with what the network says of it."""

    def __init__(self, count: int, folder: Path) -> None:
        self.category = load_category("quadruped")
        if not (folder / "walk.mp4").exists():
            write_demo_clip(folder, self.category, DemoOptions(frames=48), lambda fraction, text: None)
        clip = load_clip(folder / "walk.mp4")
        masks = masks_from_folder(folder / "masks", clip)
        there = np.arange(len(clip))
        once = np.concatenate([there, there[-2:0:-1]])
        self.index = np.resize(once, count)
        center, side = crop_boxes(masks.boxes)
        crops = extract_crops(clip, masks, center, side, self.category.network.input_size)
        focal = np.full(len(clip), default_focal(clip.original_size) * clip.scale)
        principal = 0.5 * np.asarray(clip.size, np.float64)
        said = Student(self.category).run(crops, crop_info(center, side, focal, principal))
        self.prediction = _repeated(said, self.index)
        self.crops, self.center, self.side = crops[self.index], center[self.index], side[self.index]
        self.size, self.fps = clip.size, clip.fps
        self.focal, self.principal = focal[self.index], principal
        self.motion = self.track()

    def track(self):
        return track(
            self.category, self.prediction, self.center, self.side, self.crops[:, 3], self.focal, self.principal,
            self.size, self.fps,
        )  # fmt: skip

    def fit(self, config: FitConfig):
        return fit(
            self.category,
            self.motion,
            self.prediction,
            self.crops,
            self.center,
            self.side,
            flow=flow,
            config=config,
        )


def _repeated(said: Prediction, index: np.ndarray) -> Prediction:
    count = len(said)
    changes = {}
    for name, value in vars(said).items():
        if isinstance(value, np.ndarray) and name not in ("morphology", "appearance") and len(value) == count:
            changes[name] = value[index]
    return replace(said, **changes)


def milliseconds(work: Callable[[], object], frames: int, runs: int) -> tuple[float, float]:
    """Medians a frame: on the wall, and of the processors' work."""
    walls, works = [], []
    for _ in range(runs):
        wall, process = time.perf_counter(), time.process_time()
        work()
        walls.append(1e3 * (time.perf_counter() - wall) / frames)
        works.append(1e3 * (time.process_time() - process) / frames)
    return statistics.median(walls), statistics.median(works)


def peak() -> float:
    """Most memory the process has held, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[130, 2000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'clip':<28}{'ms a frame':>12}{'CPU ms':>9}{'of tracking':>13}{'peak GB':>9}")
        for count in options.frames:
            clip = Clip(count, Path(folder))
            base, _ = milliseconds(clip.track, count, 1)
            runs = options.runs if count <= 300 else 1
            wall, work = milliseconds(lambda clip=clip: clip.fit(FitConfig()), count, runs)
            print(f"{f'{count} frames':<28}{wall:12.1f}{work:9.1f}{wall / base:12.1f}×{peak():9.2f}")
        clip = Clip(options.frames[0], Path(folder))
        found = clip.fit(FitConfig())
        print(
            f"\n{'residual':<28}{'CPU ms a frame':>15}   of {options.frames[0]} frames, {found.steps[0]} steps"
        )
        for name, seconds in sorted(found.seconds.items(), key=lambda item: -item[1]):
            print(f"{name:<28}{1e3 * seconds / options.frames[0]:15.1f}")


if __name__ == "__main__":
    main()
