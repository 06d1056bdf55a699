# SPDX-License-Identifier: GPL-3.0-or-later
"""How well the reconstruction covers the subject: silhouette IoU with the true masks of real clips.

    python tests/benchmarks/bench_overlay.py [CLIP …]    a CLIP is a folder with frames/ and masks/

The masks are also what the job is given; at the clip's full size, all frames. Jitter is the mean acceleration of
the projected vertices in pixels a frame², in percent of the square root of the mask's area.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender.clip import load_clip, masks_from_folder
from dasr_blender.core import project, transform
from dasr_blender.job import JobOptions, run_job
from dasr_blender.training.evaluate import overlap

CLIPS = ROOT.parent / "shared/data/clips"
DEFAULT = [CLIPS / name for name in ("davis-camel", "davis-dog", "davis-goat")]


def score(folder: Path) -> tuple[np.ndarray, float]:
    """IoU of each frame, and the jitter in percent."""
    with tempfile.TemporaryDirectory() as out:
        options = JobOptions(str(folder / "frames"), out, masks=str(folder / "masks"), overlay=False)
        result = run_job(options)
    motion, category = result.motion, result.category
    clip = load_clip(folder / "frames", max_side=10_000)
    masks = masks_from_folder(folder / "masks", clip)
    seen = transform(motion.camera_from_root, category.posed_vertices(motion))  # (T, V, 3)
    pixels = project(seen, motion.focal_px, motion.principal_point)
    shown = [masks.mask(i) for i in range(len(clip))]
    iou = overlap(category, motion, shown, longest=max(clip.size))
    area = np.array([max((mask > 0.5).sum(), 1) for mask in shown])
    jolt = np.linalg.norm(pixels[2:] - 2 * pixels[1:-1] + pixels[:-2], axis=-1).mean(1)
    return iou, float(100 * (jolt / np.sqrt(area[1:-1])).mean())


if __name__ == "__main__":
    print(f"{'clip':<16}{'frames':>8}{'IoU mean':>10}{'worst':>8}{'jitter %':>10}")
    for folder in [Path(a) for a in sys.argv[1:]] or DEFAULT:
        iou, jitter = score(folder)
        print(f"{folder.name:<16}{len(iou):>8}{iou.mean():>10.3f}{iou.min():>8.3f}{jitter:>10.2f}")
