# SPDX-License-Identifier: GPL-3.0-or-later
"""Every row on real clips: overlap with the mask, keypoints carried through time, jitter, and a picture to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...clip import (
    Clip,
    MaskError,
    Masks,
    automatic_masks,
    find_egomotions,
    in_shots,
    load_clip,
    masks_from_alpha,
    masks_from_folder,
)
from ...core.camera import default_focal, project
from ...core.category import LANDMARKS, Category
from ...core.errors import DasrError
from ...core.listing import folder_images
from ...core.motion import Motion
from ...overlay import OverlayPainter, contact_sheet
from ...predict.landmarks import body_finder
from ..errors import TrainingError
from ..picture import write_picture
from .chroma import chroma_masks, screen_hue
from .keypoints import FILES, read_keypoints, transfer
from .options import EvaluateConfig, apart
from .rows import SINGLE, Row
from .scene import Scene, posed_in_camera
from .scores import draw, jitter
from .seen_motion import seen_jitter

Array = np.ndarray

VIDEO = {".mp4", ".mov", ".webm", ".avi", ".mkv", ".gif"}


@dataclass(frozen=True)
class RealClip:
    """name; source: video or folder of frames; folder: where masks and keypoints may lie, None for a bare video."""

    name: str
    source: Path
    folder: Path | None = None


def find_clips(paths: Sequence[Path], only: Sequence[str] = ()) -> list[RealClip]:
    """Real clips in files and folders, any depth.

    Raises TrainingError when there is none, a path does not exist, or two clips share a name.
    """
    found: list[RealClip] = []

    def look(path: Path, prefix: str) -> None:
        if (path / "frames").is_dir():
            found.append(RealClip(prefix + path.name, path / "frames", path))
        elif path.is_dir():
            for child in sorted(path.iterdir(), key=lambda p: (len(p.name), p.name)):
                if child.is_dir() or child.suffix.lower() in VIDEO:
                    look(child, prefix + path.name + "-" if path not in roots else prefix)
        elif path.suffix.lower() in VIDEO:
            found.append(RealClip(prefix + path.stem, path))

    roots = {Path(p) for p in paths}
    for path in paths:
        if not Path(path).exists():
            raise TrainingError(f"{path}: there is no such clip or folder")
        look(Path(path), "")
    wanted = [c for c in found if not only or any(fnmatch(c.name, pattern) for pattern in only)]
    if not wanted:
        raise TrainingError(f"No real clip in {', '.join(map(str, paths))} that is asked for")
    apart("real clips", [(clip.name, clip.source) for clip in wanted])
    return wanted


def find_masks(
    real: RealClip, clip: Clip, cache: Path, category: Category | None = None
) -> tuple[Masks, str]:
    """Masks and what they are: 'true' (its folder's), 'alpha', 'chroma key', 'automatic' (kept in cache).

    category: of the subject; automatic masks use what its landmark network sees.
    """
    if real.folder is not None and (real.folder / "masks").is_dir():
        return masks_from_folder(real.folder / "masks", clip), "true"
    if clip.has_alpha:
        return masks_from_alpha(clip), "alpha"
    hue = screen_hue(clip)
    if hue is not None:
        return chroma_masks(clip, hue), "chroma key"
    known = "" if category is None else category.hashes.get(LANDMARKS, "")[:12]
    stored = cache / f"{'-'.join(filter(None, (real.name, clip.sha256[:12], str(len(clip)), known)))}.npz"
    if stored.exists():
        try:
            return Masks.load(stored), "automatic"
        except MaskError:
            stored.unlink()
    masks = automatic_masks(clip, bodies=None if category is None else body_finder(category))
    cache.mkdir(parents=True, exist_ok=True)
    masks.save(stored)
    return masks, "automatic"


def real_scene(real: RealClip, clip: Clip, masks: Masks) -> Scene:
    """The clip at its working size, with the default focal length; the camera's movement where it can be told."""
    focal = default_focal(clip.original_size) * clip.scale
    filmed = find_egomotions(clip, masks, focal, calibrate=False)
    return Scene(
        name=real.name,
        frames=[clip.frame(i) for i in range(len(clip))],
        masks=[(masks.mask(i) * 255).astype(np.uint8) for i in range(len(clip))],
        boxes=masks.boxes,
        focal=np.full(len(clip), focal),
        principal_point=0.5 * np.asarray(clip.size, np.float64),
        fps=clip.fps,
        interpolated=np.asarray(masks.interpolated, bool),
        masks_given=masks.given,
        egomotion=filmed,
        cuts=clip.cuts,
    )


def real_scores(
    category: Category,
    motion: Motion,
    masks: Masks,
    keypoints: dict[int, tuple[Array, Array]] | None = None,
) -> dict[str, float]:
    """Scores of one motion in a picture of the masks' size; frames whose mask was filled in do not count.

    jitter_percent: mean acceleration of the projected vertices in pixels a frame², in % of √(mask area).
    """
    seen = posed_in_camera(category, motion)
    pixels = np.concatenate([project(seen, motion.focal_px, motion.principal_point), seen[..., 2:]], -1)
    drawn = draw(category, motion, masks.size)
    shown = np.stack([masks.mask(i) > 0.5 for i in range(len(masks))])
    iou = (shown & drawn).sum((1, 2)) / np.maximum((shown | drawn).sum((1, 2)), 1)
    iou = iou[~masks.interpolated]
    areas = np.maximum(shown.sum((1, 2)).astype(np.float64), 1)
    out = {
        "frames": len(masks),
        "iou": float(iou.mean()),
        "iou_worst": float(iou.min()),
        "jitter_percent": 0.0,
    }
    if len(pixels) > 2:
        out["jitter_percent"] = float(np.nanmean(jitter(pixels[..., :2], areas, motion.cuts)))
    if keypoints:
        carried, still, pairs = transfer(pixels, keypoints, areas)
        if pairs:
            out |= {"pck_t": carried, "pck_t_zero": still, "pck_pairs": pairs}
    return {name: round(value, 4) for name, value in out.items()}


def _keypoints(real: RealClip, clip: Clip) -> dict[int, tuple[Array, Array]] | None:
    if real.folder is None:
        return None
    path = next((real.folder / name for name in FILES if (real.folder / name).exists()), None)
    if path is None:
        return None
    files = folder_images(real.source)
    names = {files[int(index)].stem: i for i, index in enumerate(clip.frame_index)}
    return read_keypoints(path, names, clip.size)


def evaluate_real(
    config: EvaluateConfig,
    rows: Sequence[Row],
    report: Callable[[str, int, int], None],
    failed: list[str],
) -> list[dict[str, Any]]:
    """Scores of each real clip; writes `real-<clip>.jpg`, frames with the body over them and from another side.

    failed: gets a sentence for each clip that cannot be scored, which ends none of the others. Raises TrainingError
    where none can.
    """
    found = find_clips(config.real, config.only)
    out: list[dict[str, Any]] = []
    for n, real in enumerate(found):
        try:
            out.append(_scored(config, rows, real))
        except DasrError as error:
            failed.append(f"{real.name}: {error}")
        report("real clips", n + 1, len(found))
    if not out:
        raise TrainingError(failed[0])
    return out


def _scored(config: EvaluateConfig, rows: Sequence[Row], real: RealClip) -> dict[str, Any]:
    clip = in_shots(load_clip(real.source, end=config.frames or None))
    masks, source = find_masks(real, clip, config.out / "masks", rows[0].category)
    scene = real_scene(real, clip, masks)
    keypoints = _keypoints(real, clip)
    moved = seen_jitter(scene.frames, [m > 127 for m in scene.masks], scene.cuts)
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        answer = row.answer(scene)
        if answer is None:
            continue
        scores[row.label] = real_scores(row.category, answer.motion, masks, keypoints)
        if np.isfinite(moved):
            scores[row.label]["jitter_seen_percent"] = round(moved, 4)
        if row.name != SINGLE:
            own = "" if row.label == rows[0].label else f"-{row.label}"
            _picture(config.out / f"real-{real.name}{own}.jpg", clip, row.category, answer.motion)
    return {"name": real.name, "masks": source, "fps": clip.fps, "rows": scores}


def _picture(path: Path, clip: Clip, category: Category, motion: Motion) -> None:
    sheet = contact_sheet(OverlayPainter(clip, category, motion, panel_side=300))
    write_picture(path, sheet, cv2.IMWRITE_JPEG_QUALITY, 88)
