# SPDX-License-Identifier: GPL-3.0-or-later
"""Automatic masks against true ones, before and after corrections, and what they cost.

    python tests/benchmarks/bench_masks.py [--category NAME] [CLIP …]

A CLIP is a folder with frames/ and masks/, or a video. With a category its landmark network, where it has one, is asked
first, as in a reconstruction.
J is the mean Jaccard index (intersection over union) of a clip's frames, worst its lowest. Steady is the mean
Jaccard index of each mask and the one before it, carried by the medium optical flow; the true masks' own is in
brackets. The corrected columns take, one after another, the frame that is then worst and give its true mask: J of
all frames, and in brackets of those not corrected. Frames a second are by the clock; CPU is processor seconds a
frame, of which two cores give two a second; looks and kpx (thousands of pixels) are what the network is asked about a
frame (kpx of the network that is asked about any subject alone). Rerun is the clock of the third correction, with the
networks' answers kept. What a green or blue screen keys is a video's truth; of one without only the cost is told.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender.clip import (
    Correction,
    Looks,
    Masks,
    automatic_masks,
    in_shots,
    load_clip,
    masks_from_folder,
)
from dasr_blender.clip.flow import flow, warp
from dasr_blender.clip.looks import BodyNetwork
from dasr_blender.clip.saliency import Saliency, input_shape
from dasr_blender.core import load_category
from dasr_blender.predict.landmarks import body_finder
from dasr_blender.training.evaluate.chroma import chroma_masks, screen_hue

NAMES = ("davis-camel", "davis-dog", "davis-goat", "davis-breakdance")
DEFAULT = [ROOT.parent / "shared/data/clips" / name for name in NAMES]
CORRECTIONS = 3


def jaccard(found: Masks, truth: Masks) -> np.ndarray:
    """(T,) overlap of each frame's masks."""
    result = []
    for i in range(len(truth)):
        a, b = found.mask(i) > 0, truth.mask(i) > 0
        result.append((a & b).sum() / max((a | b).sum(), 1))
    return np.array(result)


def steadiness(masks: Masks, flows: list[np.ndarray]) -> float:
    """Mean overlap of each mask with the one before, carried by flow."""
    result = []
    for i, back in enumerate(flows, start=1):
        carried, own = warp(masks.mask(i - 1), back) > 0.5, masks.mask(i) > 0
        result.append((carried & own).sum() / max((carried | own).sum(), 1))
    return float(np.mean(result))


class Counting(Saliency):
    """The network, counting the pixels that it is given."""

    pixels = 0

    def _run(self, image: np.ndarray, area: int) -> np.ndarray:
        self.pixels += int(np.prod(input_shape(image.shape[1], image.shape[0], area)))
        return super()._run(image, area)


def score(folder: Path, bodies: Callable[[], BodyNetwork] | None) -> list[float]:
    """Print a clip's row; returns J before and after each correction, nothing for one without true masks."""
    video = folder.is_file()
    clip = in_shots(load_clip(folder if video else folder / "frames"))
    network = Counting()
    looks = Looks(clip, lambda: network, bodies)
    clock, processor = time.perf_counter(), time.process_time()
    found = automatic_masks(clip, looks=looks)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    count = len(clip)
    asked = f"{looks.asked / count:>7.2f}{network.pixels / count / 1000:>6.0f}"
    cost = f"{count / clock:>6.1f}{processor / count:>7.3f}{asked}"
    hue = screen_hue(clip) if video else None
    if video and hue is None:
        print(f"{folder.name:<18}{count:>4}{'':>{29 + 15 * CORRECTIONS}}{cost}", flush=True)
        return []
    truth = masks_from_folder(folder / "masks", clip) if hue is None else chroma_masks(clip, hue)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip]
    flows = [flow(b, a) for a, b in zip(grey, grey[1:], strict=False)]
    quality = jaccard(found, truth)
    steady = steadiness(found, flows), steadiness(truth, flows)
    means, rows, given = [float(quality.mean())], [], []
    rest, again = quality, 0.0
    for _ in range(CORRECTIONS):
        chosen = [int(c.frame) for c in given]
        worst = int(np.argmin(np.where(np.isin(np.arange(count), chosen), 2.0, rest)))
        given.append(Correction(worst, mask=truth.mask(worst) > 0, origin=f"frame {worst}"))
        again = time.perf_counter()
        rest = jaccard(automatic_masks(clip, looks=looks, corrections=given), truth)
        again = time.perf_counter() - again
        left = np.delete(rest, [c.frame for c in given])
        means.append(float(rest.mean()))
        rows.append(f"{rest.mean():.3f} ({left.mean():.3f})")
    print(
        f"{folder.name:<18}{count:>4}{quality.mean():>7.3f}{quality.min():>7.3f}"
        f"  {steady[0]:.3f} ({steady[1]:.3f})  {'  '.join(rows)}"
        f"{cost}{again:>7.1f}",
        flush=True,
    )
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--category", help="name of the subject's category, or its bundle's folder")
    parser.add_argument("clips", type=Path, nargs="*", default=DEFAULT)
    options = parser.parse_args()
    bodies = None if options.category is None else body_finder(load_category(options.category))
    print(
        f"{'clip':<18}{'T':>4}{'J':>7}{'worst':>7}  {'steady (true)':<13}"
        + "".join(f"  {f'{n} corrected':<13}" for n in range(1, CORRECTIONS + 1))
        + f"{'fps':>6}{'CPU s':>7}{'looks':>7}{'kpx':>6}{'rerun':>7}"
    )
    means = []
    for folder in options.clips:
        if folder.is_file() or (folder / "frames").is_dir():
            means += [found] if (found := score(folder, bodies)) else []
        else:
            print(f"{folder.name:<18}  not found at {folder}, skipped")
    if means:
        mean = np.mean(means, axis=0)
        print(f"{'mean':<22}{mean[0]:>7.3f}{'':>24}" + "".join(f"{m:.3f}{'':<10}" for m in mean[1:]))


if __name__ == "__main__":
    main()
