# SPDX-License-Identifier: GPL-3.0-or-later
"""Time of each stage from a clip with masks to the built scene, and frames a second without exports.

    python tests/benchmarks/bench_pipeline.py [CLIP …] [--runs 3]    a CLIP is a folder with frames/ and masks/

One table: the median of the runs, and the fastest, which a busy machine disturbs least. Each run starts from
nothing (no stage is taken over from an earlier one).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender.job import JobOptions, run_job
from dasr_blender.scene import build_scene, plan_scene

DEFAULT = [ROOT.parent / "shared/data/clips/davis-camel"]


def one_run(folder: Path) -> tuple[int, dict[str, float]]:
    """Frames of the clip, and seconds of each stage."""
    with tempfile.TemporaryDirectory() as out:
        options = JobOptions(str(folder / "frames"), out, masks=str(folder / "masks"), overlay=False)
        begin = time.perf_counter()
        result = run_job(options)
        middle = time.perf_counter()
        build_scene(plan_scene(result.category, result.motion, clip_path=options.clip, set_scene=True))
        end = time.perf_counter()
    seconds = {**result.seconds, "scene": end - middle}
    seconds["rest"] = middle - begin - sum(result.seconds.values())
    return len(result.motion.frame_index), {**seconds, "whole": end - begin}


def main(folders: list[Path], runs: int) -> None:
    import bpy

    print(f"{'clip':<16}{'stage':<10}{'median s':>10}{'ms/frame':>10}{'fastest ms/frame':>18}")
    for folder in folders:
        samples = []
        for _ in range(runs):
            bpy.ops.wm.read_factory_settings(use_empty=True)
            frames, seconds = one_run(folder)
            samples.append(seconds)
        for stage in samples[0]:
            times = [s[stage] for s in samples]
            median, best = statistics.median(times), min(times)
            print(
                f"{folder.name:<16}{stage:<10}{median:>10.2f}{1000 * median / frames:>10.1f}"
                f"{1000 * best / frames:>18.1f}"
            )
        whole = [s["whole"] for s in samples]
        rate = f"{frames / statistics.median(whole):>10.1f}{'':>10}{frames / min(whole):>18.1f}"
        print(f"{folder.name:<16}{'frames/s':<10}{rate}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, default=DEFAULT)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.clips, arguments.runs)
