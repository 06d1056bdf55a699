# SPDX-License-Identifier: GPL-3.0-or-later
"""Automatic masks against true ones: mean Jaccard index (J, intersection over union) and time a frame.

    python tests/benchmarks/bench_masks.py [CLIP …]    a CLIP is a folder with frames/ and masks/
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender.clip import automatic_masks, load_clip, masks_from_folder

DEFAULT = [ROOT.parent / "shared/data/clips" / name for name in ("davis-camel", "davis-dog", "davis-goat")]


def score(folder: Path) -> tuple[int, np.ndarray, float, int]:
    """Frames, J of each frame, milliseconds a frame, frames without a mask of their own."""
    clip = load_clip(folder / "frames")
    truth = masks_from_folder(folder / "masks", clip)
    began = time.perf_counter()
    found = automatic_masks(clip)
    spent = 1000.0 * (time.perf_counter() - began) / len(clip)
    overlap = []
    for i in range(len(clip)):
        a, b = found.mask(i) > 0, truth.mask(i) > 0
        overlap.append((a & b).sum() / max((a | b).sum(), 1))
    return len(clip), np.array(overlap), spent, int(found.interpolated.sum())


def main(folders: list[Path]) -> None:
    print(f"{'clip':<20}{'frames':>8}{'J mean':>9}{'J min':>8}{'filled':>8}{'ms/frame':>10}")
    means = []
    for folder in folders:
        if not (folder / "frames").is_dir():
            print(f"{folder.name:<20}  not found at {folder}, skipped")
            continue
        frames, overlap, spent, filled = score(folder)
        means.append(overlap.mean())
        row = f"{frames:>8}{overlap.mean():>9.3f}{overlap.min():>8.3f}{filled:>8}{spent:>10.0f}"
        print(f"{folder.name:<20}{row}", flush=True)
    if means:
        print(f"{'mean':<20}{'':>8}{np.mean(means):>9.3f}")


if __name__ == "__main__":
    main([Path(a) for a in sys.argv[1:]] or DEFAULT)
