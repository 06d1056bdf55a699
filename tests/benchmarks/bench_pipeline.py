# SPDX-License-Identifier: GPL-3.0-or-later
"""Time the stages from a clip to its motion, on this machine.

    python tests/benchmarks/bench_pipeline.py CLIP [--masks DIR] [--category quadruped] [--runs 3]

Prints milliseconds a frame for every stage (best of the runs, each from nothing) and frames a second without
the exports.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from dasr_blender.job import JobOptions, run_job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clip")
    parser.add_argument("--masks")
    parser.add_argument("--category", default="quadruped")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    best: dict[str, float] = {}
    total, frames, overlap = float("inf"), 0, 0.0
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as out:
            options = JobOptions(arguments.clip, out, arguments.category, arguments.masks, overlay=False)
            result = run_job(options)
        frames, overlap = len(result.motion), float(result.motion.mask_iou.mean())
        total = min(total, result.motion_seconds)
        for stage, seconds in result.seconds.items():
            best[stage] = min(seconds, best.get(stage, seconds))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{Path(arguments.clip)}: {frames} frames, mean mask IoU {overlap:.3f}, {os.cpu_count()} cores{load}"
    )
    for stage, seconds in best.items():
        print(f"{stage:10s}{1000 * seconds / frames:8.1f} ms a frame")
    print(f"{'all':10s}{1000 * total / frames:8.1f} ms a frame, {frames / total:.1f} frames a second")


if __name__ == "__main__":
    main()
