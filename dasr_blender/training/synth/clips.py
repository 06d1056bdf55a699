# SPDX-License-Identifier: GPL-3.0-or-later
"""Pseudo-ground-truth folders from renders: frames, masks, `motion.npz`, `meta.json`, one folder a clip.

Every clip depends only on (seed, number), is written under a temporary name and moved into place, so a run can
be stopped and gone on with, and split between any number of workers without changing a pixel.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from ...core.camera import project
from ...core.category import Category, load_category
from ...core.files import sha256_of
from ...core.motion import Motion
from ...core.rotation import make_continuous
from ..clip_folder import read_meta, write_clip_folder
from ..errors import TrainingError
from ..interrupt import deaf_children
from ..settings import above_zero, at_least, shares
from .camera import CameraConfig, random_camera
from .coat import random_coat
from .corrupt import CorruptConfig, background, exposure, mask_errors, occluders, optics
from .makers import maker_for
from .render import NormalSolver, Renderer, random_light
from .species import hair_lengths
from .subjects import Subject, losable_limbs

_OF_THE_RUN = ("out", "clips", "first", "workers", "gl", "sheet")  # settings on which no single clip depends
HELD_OUT = ("KhronosFox_textured", "sketchfab_rabbit", "Husky", "Suit")


@dataclass(frozen=True)
class SynthConfig:
    """Settings of a synthetic dataset, saved beside it."""

    rigs: Path
    """Folder of baked rigs and their mappings."""
    out: Path
    """Dataset folder; finished clips in it are kept."""
    category: str = "quadruped"
    """Category bundle: a name or a folder."""
    clips: int = 5000
    """How many clips."""
    seed: int = 1
    workers: int = 2
    split: Literal["train", "held-out", "all", "unseen-motion"] = "train"
    """'train' (all rigs but the held-out ones), 'held-out' (only those) or 'all'; for people also 'unseen-motion'
    (subjects of 'train' in recordings of 'held-out')."""
    rig_share: float = 0.4
    """Share of clips that show a rig as it is; the rest show the category's own body or what follows."""
    skin_share: float = 0.35
    """Animals: share of those others whose surface is a rig's, in other proportions and postures. People: share of
    the rigs that are shown in other proportions."""
    frames: int = 12
    """Frames in a clip."""
    fps: float = 24.0
    first: int = 0
    """Number of the first clip, so that several runs can fill one folder."""
    hair_share: float = 0.6
    """Share of clips whose subject has hair that stands off its surface."""
    blur_share: float = 0.2
    """Share of clips with motion blur."""
    motions: Path | None = None
    """People only: folder of pybullet_data's motion files; by default the installed package's."""
    gl: str = "auto"
    """OpenGL to draw with: 'auto' (EGL on a GPU or in software, else the display's), 'egl', 'egl:N' for the N-th
    GPU, 'platform'."""
    surface: bool = False
    """Also write each clip's true surface, for evaluation: half a megabyte a clip."""
    hold_out: tuple[str, ...] = HELD_OUT
    """Rigs that never appear in the 'train' split."""
    sheet: Path | None = None
    """Also write a contact sheet of the dataset with the labels drawn over the frames, and beside it, its name
    ending in -clips, one with a row of frames for each clip."""
    camera: CameraConfig | None = None
    """None: the category's own."""
    corrupt: CorruptConfig = field(default_factory=CorruptConfig)


@dataclass(frozen=True)
class ClipData:
    """One clip before it is written: frames (T, H, W, 3), masks (T, H, W) uint8, motion, meta; surface, if asked
    for: vertices (T, V, 3) in camera space and faces (F, 3)."""

    frames: np.ndarray
    masks: np.ndarray
    motion: Motion
    meta: dict[str, object]
    surface: tuple[np.ndarray, np.ndarray] | None = None


def make_clip(
    number: int,
    config: SynthConfig,
    category: Category,
    rigs: Sequence[Any],
    renderer: Renderer,
    normals: dict[str, NormalSolver] | None = None,
) -> ClipData:
    """Clip `number` of a dataset. Tries again with the next stream when the subject was hardly to be seen."""
    maker = maker_for(category).subject
    for attempt in range(20):
        rng = np.random.default_rng([config.seed, number, attempt])
        subject = maker(rng, config, category, rigs)
        clip = _film(rng, subject, config, category, renderer, normals if normals is not None else {})
        if clip is not None:
            clip.meta.update(split=config.split, seed=config.seed, number=number, made_with=_made_with(config))
            return clip
    raise TrainingError(
        f"clip {number}: no visible subject in 20 draws; check the rigs and the camera settings"
    )


def _film(
    rng: np.random.Generator,
    subject: Subject,
    config: SynthConfig,
    category: Category,
    renderer: Renderer,
    normals: dict[str, NormalSolver],
) -> ClipData | None:
    count = config.frames
    film = maker_for(category).film
    size = film.sizes[int(rng.choice(len(film.sizes), p=film.size_shares))]
    ahead = -subject.world_from_root[:, :2, 1].mean(0)
    heading = float(np.arctan2(ahead[1], ahead[0]))
    camera = random_camera(
        rng, subject.vertices, np.arange(count) / config.fps, size, config.camera or film.camera, heading
    )
    matrix = camera.camera_from_world
    seen = np.einsum("tij,tvj->tvi", matrix[:, :3, :3].astype(np.float32), subject.vertices)
    seen += matrix[:, None, :3, 3].astype(np.float32)
    if seen[..., 2].min() < 0.05:
        return None
    key = f"{subject.source}:{subject.rig if subject.source in ('rig', 'skin') else ''}"
    if key not in normals:
        normals[key] = NormalSolver(subject.rest, subject.faces)
    coat = subject.coat
    if coat is None:
        hair = None
        if rng.random() < config.hair_share:
            hair = hair_lengths(rng, subject.rest, subject.regions)
        coat = random_coat(rng, subject.rest, subject.own, subject.regions, hair)
    light = random_light(rng)
    views, turns = seen, matrix
    sub = 3 if rng.random() < config.blur_share else 1
    if sub > 1:  # the shutter is open round the frame's own time
        step = (np.gradient(seen, axis=0) if count > 1 else np.zeros_like(seen)) * rng.uniform(0.3, 1.0)
        views = seen[:, None] + step[:, None] * np.linspace(-0.4, 0.4, sub)[None, :, None, None]
        views = views.reshape(-1, *seen.shape[1:]).astype(np.float32)
        turns = np.repeat(matrix, sub, axis=0)
    focal = np.repeat(camera.focal_px, sub)
    rgba = renderer.render(
        views,
        subject.faces,
        focal,
        camera.principal_point,
        size,
        coat,
        light,
        turns,
        normals[key](views),
        closed=subject.source == "body",
    )
    behind = background(rng, count, size)
    if sub == 1:
        images = np.where(rgba[..., 3:] > 0, rgba[..., :3], behind)
        true = rgba[..., 3]
    else:  # black where there is no subject, so the mean is premultiplied
        mean = rgba.reshape(count, sub, *rgba.shape[1:]).mean(1, dtype=np.float32)
        images = (mean[..., :3] + (1 - mean[..., 3:] / 255) * behind).astype(np.uint8)
        true = ((mean[..., 3] > 127) * 255).astype(np.uint8)
    visible = true
    if rng.random() < config.corrupt.occluder:
        images, visible = occluders(rng, images, true, config.corrupt)
    images = exposure(rng, optics(rng, images, config.corrupt), config.corrupt)
    smallest = 0.01 * size[0] * size[1]
    if (visible > 0).sum((1, 2)).min() < smallest:
        return None
    parts = _parts_in_pixels(rng, subject, camera, matrix)
    masks = mask_errors(rng, visible, parts, config.corrupt, losable_limbs(category))
    agree = ((masks > 127) & (visible > 127)).sum((1, 2)) / ((masks > 127) | (visible > 127)).sum((1, 2))
    motion = Motion(
        fps=config.fps,
        frame_index=np.arange(count),
        image_size=np.array(size),
        focal_px=camera.focal_px,
        principal_point=camera.principal_point,
        camera_from_root=matrix @ subject.world_from_root,
        joint_rotations=make_continuous(subject.joint_rotations),
        morphology=subject.morphology,
        appearance=np.zeros(len(category.body.appearance_basis)),
        confidence=np.ones(count),
        joint_confidence=np.tile(subject.joint_confidence, (count, 1)),
        mask_iou=agree,
        category=category.name,
        category_version=category.version,
        source=f"{subject.rig}:{subject.action}",
        source_hash=category.hashes.get("body.npz", ""),
    )
    meta: dict[str, object] = {
        "rig": subject.rig,
        "source": subject.source,
        "action": subject.action,
        "jpeg_quality": int(rng.integers(20, 96)),
        "sub_frames": sub,
    }
    return ClipData(images, masks, motion, meta, (seen, subject.faces) if config.surface else None)


def _parts_in_pixels(rng: np.random.Generator, subject: Subject, camera, matrix: np.ndarray) -> np.ndarray:
    """(T, P, 3): where the parts a segmenter loses are in the picture, and how far round them it loses."""
    parts = np.einsum("tij,tpj->tpi", matrix[:, :3, :3], subject.parts) + matrix[:, None, :3, 3]
    pixel = project(parts, camera.focal_px, camera.principal_point)
    reach = rng.uniform(0.04, 0.14) * camera.focal_px[:, None, None] / np.maximum(parts[..., 2:], 0.1)
    return np.concatenate([pixel, reach], axis=-1)


# -- writing -------------------------------------------------------------------------------------------------


def write_clip(clip: ClipData, folder: Path) -> None:
    """Write one clip folder, whole or not at all."""
    quality = int(str(clip.meta["jpeg_quality"]))
    write_clip_folder(
        folder, list(clip.frames), list(clip.masks), clip.motion, clip.meta, quality, clip.surface
    )


def clip_folder(out: Path, number: int) -> Path:
    """Folder of clip `number`."""
    return out / f"{number:06d}"


@lru_cache(maxsize=1)
def _worker_state(config: SynthConfig) -> tuple[Category, Sequence[Any], Renderer, dict[str, NormalSolver]]:
    cv2.setNumThreads(1)
    category = load_category(config.category)
    return category, maker_for(category).rigs(config, category), Renderer(config.gl), {}


def _work(job: tuple[SynthConfig, int]) -> int:
    config, number = job
    category, rigs, renderer, normals = _worker_state(config)
    write_clip(make_clip(number, config, category, rigs, renderer, normals), clip_folder(config.out, number))
    return number


def _clear_leftovers(out: Path, numbers: range) -> None:
    """Remove what killed workers left of these clips; another run may be busy with other numbers."""
    for stale in out.glob(".*.part*"):
        number = stale.name[1:].split(".")[0]
        if number.isdigit() and int(number) in numbers:
            shutil.rmtree(stale, ignore_errors=True)


def _made_with(config: SynthConfig) -> str:
    """Hash of the settings on which a clip of a given number depends."""
    paths = {name: str(path.resolve()) for name in ("rigs", "motions") if (path := getattr(config, name)) is not None}
    settings = {k: v for k, v in asdict(config).items() if k not in _OF_THE_RUN} | paths
    return hashlib.sha256(json.dumps(settings, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _refuse_others(config: SynthConfig, numbers: range) -> None:
    """Raise TrainingError where clips of these numbers are there that were made with other settings."""
    wanted = _made_with(config)
    for number in numbers:
        folder = clip_folder(config.out, number)
        if folder.exists() and read_meta(folder).get("made_with", wanted) != wanted:
            raise TrainingError(
                f"{folder} was made with other settings: choose another --out, number these clips on with --first, or "
                "take the old ones away"
            )


def generate(config: SynthConfig) -> int:
    """Write every clip that is not there yet, with a progress bar; returns how many were written.

    Raises DasrError (RenderUnavailable without OpenGL) or OSError with one sentence.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    at_least(1, config, "clips", "frames", "workers")
    at_least(0, config, "seed", "first")
    above_zero(config, "fps")
    shares(config, "rig_share", "skin_share", "hair_share", "blur_share")
    category = load_category(config.category)
    config.out.mkdir(parents=True, exist_ok=True)
    numbers = range(config.first, config.first + config.clips)
    _clear_leftovers(config.out, numbers)
    body = config.out / "body.npz"
    if body.exists() and sha256_of(body) != category.hashes["body.npz"]:
        raise TrainingError(f"{config.out} was begun with another body of {category.name}; choose a new folder.")
    _refuse_others(config, numbers)
    if category.path is not None:
        shutil.copyfile(category.path / "body.npz", body)
    settings = json.dumps(asdict(config), default=str, indent=1)
    (config.out / f"synth-{config.split}-{config.seed}.json").write_text(settings + "\n", encoding="utf-8")
    jobs = [(config, n) for n in numbers if not clip_folder(config.out, n).exists()]
    columns = (TextColumn("synth"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # One GL thread a worker: the workers are the parallelism. Set before any of them starts a driver.
    os.environ.setdefault("LP_NUM_THREADS", "0" if config.workers > 1 else "2")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with Progress(*columns) as bar:
        task = bar.add_task("synth", total=len(numbers), completed=len(numbers) - len(jobs))
        if config.workers <= 1:
            for job in jobs:
                _work(job)
                bar.advance(task)
        else:
            with deaf_children():
                workers = multiprocessing.get_context("spawn").Pool(config.workers)
            with workers as pool:
                for _ in pool.imap_unordered(_work, jobs, chunksize=4):
                    bar.advance(task)
    return len(jobs)


def main(argv: list[str] | None = None) -> int:
    """`synth --rigs DIR --out DIR --clips N`: make a synthetic dataset; `--sheet PNG` to look at it."""
    import tyro

    from .sheet import clip_strips, contact_sheet

    config = tyro.cli(SynthConfig, args=argv, prog="synth", description=__doc__)
    begun = time.monotonic()
    written = generate(config)
    rate = written * config.frames / max(time.monotonic() - begun, 1e-9)
    print(f"{written} clips written to {config.out}, {rate:.0f} images a second")
    if config.sheet is not None:
        folders = sorted(p.parent for p in config.out.glob("*/motion.npz"))
        contact_sheet(
            folders[:: max(1, len(folders) // 40)][:40], load_category(config.category), config.sheet
        )
        strips = config.sheet.with_name(f"{config.sheet.stem}-clips{config.sheet.suffix}")
        clip_strips(folders[:: max(1, len(folders) // 24)][:24], load_category(config.category), strips)
        print(f"contact sheets: {config.sheet}, {strips}")
    return 0
