# SPDX-License-Identifier: GPL-3.0-or-later
"""Clip folders → one shard of crops and targets, which training reads (see `student.data`)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..clip.crop import crop_boxes, sample_square
from ..core.camera import crop_info, encode_root
from ..core.category import BODY, Category, load_category
from ..core.files import sha256_of, written_atomically
from ..core.motion import Motion
from ..core.skeleton import mirror_rotations
from .clip_folder import clip_folders, mask_boxes, read_clip_folder, read_origin
from .errors import TrainingError
from .proportions import nearest_morphology
from .settings import at_least
from .student.data import is_of_body, read_index, record_type, stored_side
from .student.surface import CELL, NOTHING, surface_grid


@dataclass(frozen=True)
class PackConfig:
    """Crop and encode clip folders for training; run again to add new clips."""

    dataset: Path
    """Folder of clip folders."""
    out: Path
    """Shard to make or to add to."""
    category: str = "quadruped"
    crop: int = 0
    """Side of the network's input, pixels; 0: that of the category's network."""
    workers: int = 2
    watch: float = 0.0
    """Look for new clips for this many minutes."""


@dataclass(frozen=True)
class PackedClip:
    """One clip, ready to append: crops (T, 4, P, P) uint8, surface (T, G, G) uint16 and records (T,).

    origin: who made its labels, as its meta.json says: 'teacher', or what the synthetic generator showed.
    labels: SHA-256 of its motion.npz.
    """

    name: str
    origin: str
    labels: str
    crops: np.ndarray
    surface: np.ndarray
    records: np.ndarray


def pack_clip(folder: Path, category: Category, crop: int) -> PackedClip | None:
    """Crop and encode one clip folder; None when its masks never show the subject."""
    motion = Motion.load(folder / "motion.npz").validate(category)
    frames, masks = read_clip_folder(folder, motion)
    boxes = mask_boxes(masks)
    if boxes is None:
        return None
    center, side = crop_boxes(boxes)
    stored = stored_side(crop)
    crops = np.empty((len(frames), 4, stored, stored), np.uint8)
    for i, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        wide = float(side[i]) * stored / crop
        alpha = sample_square(mask, center[i], wide, stored)
        rgb = sample_square(np.ascontiguousarray(frame), center[i], wide, stored)
        crops[i, :3] = cv2.multiply(rgb, cv2.merge([alpha] * 3), scale=1 / 255).transpose(2, 0, 1)
        crops[i, 3] = alpha

    cells = stored // CELL
    surface = surface_grid(category, motion, center, side * stored / crop, cells)
    shown = crops[:, 3].reshape(-1, cells, CELL, cells, CELL).mean((2, 4)) > 127
    surface[~shown] = NOTHING  # behind something, or lost by the segmenter

    joints, morphology = motion.joint_rotations.shape[1], len(motion.morphology)
    records = np.zeros(len(frames), record_type(joints, morphology))
    rotation, translation = encode_root(
        motion.camera_from_root, center, side, motion.focal_px, motion.principal_point
    )
    records["root_rotation"], records["root_translation"] = rotation, translation
    records["crop_info"] = crop_info(center, side, motion.focal_px, motion.principal_point)
    records["joints"] = motion.joint_rotations
    records["joints_mirrored"] = mirror_rotations(category.skeleton, motion.joint_rotations)
    records["joint_weight"] = motion.joint_confidence
    records["morphology"] = nearest_morphology(category, motion)
    records["frame"] = motion.frame_index
    records["quality"] = motion.confidence
    return PackedClip(folder.name, read_origin(folder), sha256_of(folder / "motion.npz"), crops, surface, records)


def pack(
    dataset: Path,
    out: Path,
    category: Category,
    crop: int = 0,
    workers: int = 2,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Append every clip of `dataset` that `out` does not hold yet; returns how many were added. Those whose masks never
    show the subject are left out, which is said.

    crop: side of the network's input, pixels; 0 takes that of the category's network.
    Stops cleanly anywhere: rows beyond those in index.json are overwritten by the next run.
    Raises TrainingError when `out` is damaged or holds crops of another shape or category, or a clip of the same name
    with other labels.
    """
    out.mkdir(parents=True, exist_ok=True)
    crop = crop or category.network.input_size
    stored = stored_side(crop)
    index: dict[str, Any] = {
        "category": category.name,
        "version": category.version,
        "body": category.hashes.get(BODY),
        "joints": len(category.skeleton),
        "morphology": len(category.morphology),
        "crop": crop,
        "stored": stored,
        "quality": True,
        "rows": 0,
        "clips": [],
    }
    if (out / "index.json").exists():
        index = read_index(out)
        if (index["crop"], index["joints"], index["morphology"]) != (
            crop,
            len(category.skeleton),
            len(category.morphology),
        ):
            raise TrainingError(f"{out}: holds crops or targets of another shape; pack into another folder")
        if index.get("category", category.name) != category.name:
            raise TrainingError(f"{out}: holds clips of '{index['category']}'; pack into another folder")
        if not is_of_body(index, category):
            raise TrainingError(f"{out}: was packed for another body of '{category.name}'; pack into another folder")
    known = {clip["name"]: clip.get("labels") for clip in index["clips"]}
    found = sorted(p.parent for p in dataset.glob("*/motion.npz") if not p.parent.name.startswith("."))
    for folder in found:
        labels = known.get(folder.name)
        if labels is not None and labels != sha256_of(folder / "motion.npz"):
            raise TrainingError(
                f"{out}: holds another clip called {folder.name} than {dataset}; number the new clips on from the old "
                "ones (`synth --first`), or pack them into another folder"
            )
    folders = [f for f in found if f.name not in known][:limit]
    dtype = record_type(index["joints"], index["morphology"], index.get("quality", False))
    for name in ("crops.u8", "surface.u16", "targets.bin"):
        (out / name).touch()
    added = unseen = 0
    with (
        open(out / "crops.u8", "r+b") as crops,
        open(out / "surface.u16", "r+b") as surface,
        open(out / "targets.bin", "r+b") as targets,
        ThreadPoolExecutor(workers) as pool,
    ):
        crops.seek(index["rows"] * 4 * stored * stored)
        surface.seek(index["rows"] * (stored // CELL) ** 2 * 2)
        targets.seek(index["rows"] * dtype.itemsize)
        for begin in range(0, len(folders), 64):
            for clip in pool.map(lambda f: pack_clip(f, category, crop), folders[begin : begin + 64]):
                if clip is None:
                    unseen += 1
                    continue
                records = _as_stored(clip, dtype, out)
                records["clip"] = len(index["clips"])
                crops.write(clip.crops.tobytes())
                surface.write(clip.surface.tobytes())
                targets.write(records.tobytes())
                facts = {"start": index["rows"], "rows": len(records), "origin": clip.origin, "labels": clip.labels}
                index["clips"].append({"name": clip.name, **facts})
                index["rows"] += len(records)
                added += 1
            for stream in (crops, surface, targets):
                stream.flush()
            with written_atomically(out / "index.json") as path:
                path.write_text(json.dumps(index), encoding="utf-8")
            if progress is not None:
                progress(min(begin + 64, len(folders)), len(folders))
    if unseen:
        print(f"{unseen} clips of {dataset} left out: their masks never show the subject", flush=True)
    return added


def _as_stored(clip: PackedClip, dtype: np.dtype[Any], out: Path) -> np.ndarray:
    """The clip's records in the shard's own type; TrainingError where that cannot say what they say."""
    if dtype == clip.records.dtype:
        return clip.records
    if np.any(clip.records["quality"] != 1):
        raise TrainingError(
            f"{out}: was packed before frames had a quality, which {clip.name} has; pack it into another folder"
        )
    return clip.records[list(dtype.names or ())].astype(dtype)


def main(argv: list[str] | None = None) -> int:
    """`pack`: clip folders to one shard of crops and targets."""
    import tyro

    config = tyro.cli(PackConfig, args=argv, prog="pack")
    at_least(1, config, "workers")
    until = time.monotonic() + config.watch * 60
    category = load_category(config.category)
    while True:
        last = time.monotonic() >= until
        if last:
            clip_folders(config.dataset)  # an empty dataset is said to be so
        added = pack(config.dataset, config.out, category, config.crop, config.workers)
        if added:
            print(f"{added} clips added to {config.out}", flush=True)
        if last:
            return 0
        time.sleep(30.0)
