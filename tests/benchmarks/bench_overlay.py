# SPDX-License-Identifier: GPL-3.0-or-later
"""How well what a user gets covers the subject: the whole job on real clips, silhouette IoU and jitter.

    python tests/benchmarks/bench_overlay.py [CLIP …]    a CLIP is a folder with frames/ and masks/

The masks are also what the job is given; at the clip's full size, all frames. `dasr evaluate --real` scores the
predictor alone on the same clips, with keypoints; the two agree unless the job does something else than that.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender.clip import load_clip, masks_from_folder
from dasr_blender.job import JobOptions, run_job
from dasr_blender.training.evaluate.real import real_scores

CLIPS = ROOT.parent / "shared/data/clips"
DEFAULT = [CLIPS / name for name in ("davis-camel", "davis-dog", "davis-goat")]


def score(folder: Path) -> dict[str, float]:
    """Scores of the job's motion, see `real_scores`."""
    with tempfile.TemporaryDirectory() as out:
        options = JobOptions(str(folder / "frames"), out, masks=str(folder / "masks"), overlay=False)
        result = run_job(options)
    masks = masks_from_folder(folder / "masks", load_clip(folder / "frames", max_side=10_000))
    return real_scores(result.category, result.motion, masks)


if __name__ == "__main__":
    print(f"{'clip':<16}{'frames':>8}{'IoU mean':>10}{'worst':>8}{'jitter %':>10}")
    for folder in [Path(a) for a in sys.argv[1:]] or DEFAULT:
        s = score(folder)
        print(
            f"{folder.name:<16}{s['frames']:>8}{s['iou']:>10.3f}{s['iou_worst']:>8.3f}{s['jitter_percent']:>10.2f}"
        )
