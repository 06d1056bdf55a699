# SPDX-License-Identifier: GPL-3.0-or-later
"""The job's stage that finds the subject's masks, takes corrections, and asks the fitted body when in doubt."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .clip import (
    Clip,
    Looks,
    MaskError,
    Masks,
    automatic_masks,
    masks_from_alpha,
    masks_from_folder,
    read_corrections,
)
from .clip.saliency import Saliency
from .core import Cancelled, Category, Motion
from .core.camera import project, transform
from .core.category import LANDMARKS
from .core.files import expanded, files_in
from .core.raster import silhouette
from .predict.landmarks import body_finder

if TYPE_CHECKING:
    from .job import JobOptions
    from .workspace import Workspace

SIDE = 160  # longer side on which the body's silhouette is compared with the masks
DOUBT = 0.75  # of the usual overlap of body and mask, under which a frame is doubtful
STRETCH = 3  # doubtful frames in a row that are worth another round


def mask_inputs(options: JobOptions, category: Category) -> list:
    """Everything the masks are made from beside the clip, for the stage's fingerprint."""
    said = [_listed(place) for place in options.corrections]
    if options.masks is None:
        subject = asdict(options.subject) if options.subject else None
        return ["own", subject, said, category.hashes.get(LANDMARKS)]
    return ["folder", _listed(options.masks), said]


def _listed(place: str) -> list:
    """A folder's files, or the text itself where it is none or cannot be read."""
    folder, file = expanded(place), expanded(place.partition(":")[2])
    try:
        if os.path.isdir(folder):
            return [str(folder.resolve()), files_in(folder)]
        return [place, *files_in(file)]
    except OSError:
        pass  # whoever reads it says so
    return [place]


def find_masks(
    options: JobOptions,
    category: Category,
    clip: Clip,
    stage: Path,
    looks_path: Path,
    workspace: Workspace,
    progress: Callable[[float, str], None],
    cancel: Callable[[], bool],
    silhouettes: np.ndarray | None = None,
) -> tuple[Masks, bool]:
    """The masks, and whether they were taken over from an earlier run.

    The networks' looks are kept in `looks_path`, so that with another correction only the rest is done again.
    silhouettes: (T, h, w), see `automatic_masks`; masks that were chosen by them are not kept in the stage, where the
    next run expects those without. Raises MaskError and Cancelled.
    """
    _refuse_unused(options, clip)
    if stage.exists() and silhouettes is None:
        try:
            return Masks.load(stage), True
        except (MaskError, OSError, ValueError, KeyError):
            stage.unlink(missing_ok=True)
    if options.masks is not None:
        masks = masks_from_folder(options.masks, clip)
    elif clip.has_alpha:
        masks = masks_from_alpha(clip)
    else:
        corrections = read_corrections(options.corrections)
        bodies = body_finder(category, options.provider, options.threads)
        looks = Looks(clip, lambda: Saliency(threads=options.threads), bodies)
        looks.load(looks_path)

        def keep() -> None:
            if looks.asked:
                with workspace.guarding(looks_path):
                    looks.save(looks_path)

        try:
            masks = automatic_masks(
                clip, options.subject, progress, cancel, corrections=corrections, looks=looks,
                silhouettes=silhouettes,
            )  # fmt: skip
        except Cancelled:
            keep()
            raise
        keep()
    if silhouettes is None:
        with workspace.guarding(stage):
            masks.save(stage)
    return masks, False


def _refuse_unused(options: JobOptions, clip: Clip) -> None:
    """Raise MaskError for words about automatic masks where the masks come with the clip."""
    if options.masks is None and not clip.has_alpha:
        return
    folder = options.masks is not None
    given, change = (f"{options.masks}", "the images") if folder else ("the clip's alpha channel", "it")
    if options.corrections:
        raise MaskError(f"Corrections are for automatic masks, but these come from {given}: change {change} there")
    if options.subject is not None:
        raise MaskError(
            f"A picked subject (--subject) is for automatic masks, but these come from {given}: leave it out"
        )


def body_silhouettes(category: Category, motion: Motion) -> np.ndarray:
    """The body in every frame, (T, h, w) float32 0 or 1, the longer side SIDE pixels. motion in any pixels."""
    width, height = (int(v) for v in motion.image_size)
    scale = SIDE / max(width, height)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    seen = transform(motion.camera_from_root, category.posed_vertices(motion))
    places = scale * project(seen, motion.focal_px, motion.principal_point)
    drawn = silhouette(np.concatenate([places, seen[..., 2:]], axis=-1), category.body.faces, size)
    return drawn.astype(np.float32)


def doubtful_frames(masks: Masks, silhouettes: np.ndarray) -> np.ndarray:
    """(T,) bool: frames in stretches where body and mask agree much less than they mostly do."""
    size = silhouettes.shape[2], silhouettes.shape[1]
    overlaps = []
    for i in range(len(masks)):
        mask = cv2.resize(masks.mask(i), size, interpolation=cv2.INTER_AREA) >= 0.5
        body = silhouettes[i] > 0.5
        overlaps.append((mask & body).sum() / max((mask | body).sum(), 1))
    doubtful = np.array(overlaps) < DOUBT * float(np.median(overlaps))
    return doubtful & np.isin(np.arange(len(doubtful)), _in_runs(doubtful, STRETCH))


def _in_runs(chosen: Sequence[bool] | np.ndarray, least: int) -> np.ndarray:
    """Indices of true values in runs of at least `least`."""
    places = np.flatnonzero(chosen)
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return np.concatenate([r for r in runs if len(r) >= least] or [np.zeros(0, int)])
