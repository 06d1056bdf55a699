# SPDX-License-Identifier: GPL-3.0-or-later
"""Baked rigs together with their mappings, in the category's units, as the clip maker wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.category import Category
from ..errors import TrainingError
from .mapping import load_mapping
from .mapping_check import made_for
from .rig import known_animals, load_rig, rig_map
from .subjects import MappedRig

SPLITS = ("train", "held-out", "all")
UNMAPPED_CONFIDENCE = 0.3  # of a joint that none of the rig's bones speaks for


def mapped_names(folder: Path) -> list[str]:
    """Rigs of a folder that have both a baked file and a mapping, sorted. FileNotFoundError if there is none."""
    names = sorted(p.name.removesuffix(".mapping.npz") for p in Path(folder).glob("*.mapping.npz"))
    names = [n for n in names if (Path(folder) / f"{n}.npz").exists()]
    if not names:
        raise FileNotFoundError(f"{folder}: no mapped rigs; run the commands bake and map first.")
    return names


def load_mapped_rig(folder: Path, name: str, category: Category) -> MappedRig:
    """One rig with its labels. TrainingError when it was mapped for another category or another body of it."""
    motion = load_mapping(Path(folder) / f"{name}.mapping.npz")
    baked = load_rig(Path(folder) / f"{name}.npz")
    if not made_for(category, motion, lambda: baked):
        raise TrainingError(
            f"{name} was mapped for {motion.category} {motion.category_version}, which has another body than "
            f"{category.name} {category.version}; run the command map again."
        )
    rig = baked.scaled(1 / motion.scale)
    poses = slice(0, len(rig.pose))
    known = rig_map(rig, category.skeleton.names, category.body.joints).rotation_weight.sum(1) > 0
    known[0] = True
    spec = known_animals().get(name)
    skip = spec.skip_clips if spec else ()
    keep = [i for i, clip in enumerate(rig.clip_names) if clip not in skip]
    return MappedRig(
        name,
        rig.vertices,
        rig.faces,
        rig.colours,
        rig.skin_index,
        rig.skin_weight,
        rig.skin_transforms(poses).astype(np.float32),
        tuple(rig.clip_names[i] for i in keep),
        np.stack([rig.clip_start[:-1], rig.clip_start[1:]], axis=1)[keep],
        motion.rig_from_root.astype(np.float64),
        motion.joint_rotations.astype(np.float64),
        motion.morphology,
        np.where(known, 1.0, UNMAPPED_CONFIDENCE),
    )


def load_mapped_rigs(
    folder: Path, category: Category, split: str, hold_out: Sequence[str]
) -> list[MappedRig]:
    """The rigs of a split: 'train' (all but the held-out ones), 'held-out' or 'all'."""
    if split not in SPLITS:
        raise TrainingError(f"split must be one of {', '.join(SPLITS)}, not {split}")
    wanted = {
        "train": [n for n in mapped_names(folder) if n not in hold_out],
        "held-out": [n for n in mapped_names(folder) if n in hold_out],
        "all": mapped_names(folder),
    }
    return [load_mapped_rig(folder, name, category) for name in wanted[split]]
