# SPDX-License-Identifier: GPL-3.0-or-later
"""Pseudo-ground-truth folders: frames, masks and the boxes round them, true surfaces. No torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..clip.mask_store import mask_box
from ..core.motion import Motion
from .errors import TrainingError
from .npz import read_npz
from .picture import read_picture, write_picture

SURFACE = "surface.npz"


def clip_folders(dataset: Path) -> list[Path]:
    """The clip folders of a dataset, sorted; those still being written (a dot before the name) left out.

    Raises TrainingError when there is none.
    """
    found = sorted(p.parent for p in Path(dataset).glob("*/motion.npz") if not p.parent.name.startswith("."))
    if not found:
        raise TrainingError(f"{dataset}: holds no clip folder with labels (motion.npz); make or choose another dataset")
    return found


def read_clip_folder(folder: Path, motion: Motion) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames (H, W, 3) RGB and masks (H, W) uint8 of a pseudo-ground-truth folder, in the motion's order.

    Raises TrainingError naming the file that is missing, unreadable or of another size than the motion's picture.
    """
    frames, masks = [], []
    width, height = (int(n) for n in motion.image_size)
    for i in motion.frame_index:
        for kind, suffix, flag, out in (
            ("frames", "jpg", cv2.IMREAD_COLOR, frames),
            ("masks", "png", cv2.IMREAD_GRAYSCALE, masks),
        ):
            path = folder / kind / f"{int(i):05d}.{suffix}"
            out.append(read_picture(path, flag))
            high, wide = out[-1].shape[:2]
            if (wide, high) != (width, height):
                raise TrainingError(
                    f"{path}: has {wide} × {high} pixels, but {folder / 'motion.npz'} is of {width} × {height}; "
                    "make the clip again"
                )
    return frames, masks


def read_origin(folder: Path) -> str:
    """Who made a clip's labels, as its meta.json says: 'teacher', or what the synthetic generator showed ('rig' …).

    'unknown' without a word of it; TrainingError names a damaged file.
    """
    return str(read_meta(folder).get("source", "unknown"))


def read_meta(folder: Path) -> dict[str, Any]:
    """What a clip's maker wrote beside it, its meta.json; {} without, TrainingError names a damaged file."""
    path = folder / "meta.json"
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise TrainingError(f"{path}: not a readable description ({error}); make the clip again") from error


def write_clip_folder(
    folder: Path,
    frames: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    motion: Motion,
    meta: dict[str, object],
    jpeg_quality: int,
    surface: tuple[np.ndarray, np.ndarray] | None = None,
) -> Path:
    """Write a pseudo-ground-truth folder, whole or not at all; one that is there already must be empty.

    frames (H, W, 3) uint8 RGB and masks (H, W) uint8, in the motion's order; surface: see `save_surface`.
    """
    part = folder.with_name(f".{folder.name}.part{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    for i, image, mask in zip(motion.frame_index, frames, masks, strict=True):
        name = f"{int(i):05d}"
        write_picture(part / "frames" / f"{name}.jpg", image, cv2.IMWRITE_JPEG_QUALITY, jpeg_quality)
        write_picture(part / "masks" / f"{name}.png", mask, cv2.IMWRITE_PNG_BILEVEL, 1)
    motion.save(part / "motion.npz")
    (part / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    if surface is not None:
        save_surface(part, *surface)
    os.replace(part, folder)
    return folder


def mask_boxes(masks: Sequence[np.ndarray]) -> np.ndarray | None:
    """Boxes (T, 4) of masks (H, W) uint8; an empty mask takes its neighbour's. None when all are empty."""
    boxes = np.full((len(masks), 4), np.nan)
    for i, mask in enumerate(masks):
        if (shown := mask > 127).any():
            boxes[i] = mask_box(shown)
    seen = np.flatnonzero(np.isfinite(boxes[:, 0]))
    if not len(seen):
        return None
    nearest = seen[np.abs(np.arange(len(masks))[:, None] - seen[None]).argmin(1)]
    return boxes[nearest]


def save_surface(folder: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write a clip's true surface beside it: vertices (T, V, 3) in camera space, metres; faces (F, 3)."""
    np.savez_compressed(folder / SURFACE, vertices=vertices.astype(np.float32), faces=faces.astype(np.int32))


def load_surface(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """What `save_surface` wrote, None where there is none; TrainingError names a damaged file."""
    path = folder / SURFACE
    if not path.exists():
        return None
    stored = read_npz(path, ("vertices", "faces"), "make the clip again")
    return stored["vertices"].astype(np.float64), stored["faces"]
