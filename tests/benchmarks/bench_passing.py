# SPDX-License-Identifier: GPL-3.0-or-later
"""How often a network confuses left and right limbs, and how many of those following them past each other finds.

    python tests/benchmarks/bench_passing.py --dataset CLIPS [--category BUNDLE] [--rigs DIR]

Rendered clips with their labels, at a network that was not trained on their subjects. Counted are frames of pairs whose
lower joints are apart, seen from the side of the body (by 0.12 m). A pair is confused where it lies nearer to the truth
with left and right exchanged (by a fifth), and right where it lies nearer as it is (by a fifth).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender import threads  # noqa: F401  as on the command line, before numpy

import numpy as np  # isort: skip

from dasr_blender.clip.flow import flow
from dasr_blender.core import Category, load_category
from dasr_blender.core.skeleton import forward_kinematics, mirror_rotations
from dasr_blender.predict.passing import exchanged_limbs, limb_pairs
from dasr_blender.training.clip_folder import clip_folders
from dasr_blender.training.evaluate.rows import OURS, feed_forward
from dasr_blender.training.evaluate.scene import read_scene

APART, SURELY = 0.12, 0.8
SAGITTAL = np.array([0.0, 1.0, 1.0])


def lower_joints(category: Category, rotations: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Places ``(T, 2, n, 3)`` of the lower joints of a left limb and a right one ``(2, k)``, without their width."""
    rest = category.body.shaped(None)[1]
    placed = forward_kinematics(category.skeleton, rest, rotations)[..., :3, 3]
    return placed[:, joints[:, 2:]] * SAGITTAL


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--category", default="quadruped")
    parser.add_argument("--rigs", type=Path, default=None)
    args = parser.parse_args()
    category = load_category(args.category)
    skeleton, row = category.skeleton, feed_forward(OURS, category)
    counts = dict.fromkeys(("apart", "confused", "of them found", "right", "of them exchanged"), 0)
    for folder in clip_folders(args.dataset):
        scene = read_scene(folder, category, args.rigs)
        answer = row.answer(scene) if scene is not None else None
        if scene is None or scene.true is None or answer is None:
            continue
        crops = scene.crops(category.network.input_size)
        found = exchanged_limbs(category, answer.motion, crops, scene.center, scene.side, flow)
        said = answer.motion.joint_rotations
        for pair in limb_pairs(skeleton):
            limbs = np.stack(pair)
            true, as_is, exchanged = (
                lower_joints(category, q, limbs)
                for q in (scene.true.joint_rotations, said, mirror_rotations(skeleton, said))
            )
            apart = np.linalg.norm(true[:, 0] - true[:, 1], axis=-1).mean(1) > APART
            off, other = (np.linalg.norm(x - true, axis=-1).mean((1, 2)) for x in (as_is, exchanged))
            confused, right, taken = (
                apart & (other < SURELY * off),
                apart & (off < SURELY * other),
                found[:, limbs[0, 0]],
            )
            for name, chosen in zip(
                counts, (apart, confused, confused & taken, right, right & taken), strict=True
            ):
                counts[name] += int(chosen.sum())
    print("\n".join(f"{name:20} {count:6d}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
