# SPDX-License-Identifier: GPL-3.0-or-later
"""From the panel's settings to a worker's command line, and from its result to the scene."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core import Category, Motion, load_category
from ..core.files import clip_name
from .build import build_scene
from .export import export_scene, losses
from .plan import ScenePlanError, plan_scene
from .solve import (
    Background,
    CameraSolveError,
    find_solved,
    read_solved,
    solve_camera,
    solved_focal,
    with_solved,
)


def sequence_pattern(first_frame: str) -> str:
    """The pattern of an image sequence from the path of its first frame: shot.0001.png → shot.####.png."""
    folder, name = os.path.split(first_frame)
    digits = list(re.finditer(r"\d+", os.path.splitext(name)[0]))
    if not digits:
        return first_frame
    start, end = digits[-1].span()
    return os.path.join(folder, name[:start] + "#" * (end - start) + name[end:])


@dataclass(frozen=True)
class JobRequest:
    """One reconstruction as the panel asks for it. Paths are absolute.

    camera: "auto", "still" or "solve".  solved_clip: name of the movie clip whose solve is taken.
    """

    clip: str
    category: str
    directory: Path
    placement: str = "camera"
    names: str = "neutral"
    formats: tuple[str, ...] = ()
    masks: str = ""
    corrections: tuple[str, ...] = ()
    frames: tuple[int | None, int | None, int] = (None, None, 1)
    subject: tuple[int, int] | None = None
    focal_px: float = 0.0
    overlay: bool = False
    start_frame: int = 1
    set_scene_range: bool = False
    category_folders: tuple[Path, ...] = field(default=())
    provider: str = "auto"
    threads: int = 0
    camera: str = "auto"
    solved_clip: str = ""
    quality: str = "standard"

    @classmethod
    def from_settings(
        cls,
        settings: Any,
        *,
        clip: Any,
        start_frame: int,
        category_folders: Iterable[Path],
        fallback_directory: Path,
        provider: str = "auto",
        threads: int = 0,
    ) -> JobRequest:
        """Read the panel's settings.

        Args:
            settings: the scene's `DasrSettings`.
            clip: the chosen `bpy.types.MovieClip`, or None when a file is chosen.
            start_frame: scene frame that is to show the clip's first frame (a movie clip brings its own).
            category_folders: where to look for categories beside the shipped ones.
            fallback_directory: where results go when neither the panel nor a saved .blend names a folder.
            provider, threads: what the network runs on; 0 threads for one a core.
        """
        path = bpy.path.abspath(
            clip.filepath if clip else settings.filepath, library=clip.library if clip else None
        )
        if clip and clip.source == "SEQUENCE":
            path = sequence_pattern(path)
        if settings.directory:
            directory = Path(bpy.path.abspath(settings.directory))
        elif bpy.data.filepath:
            directory = Path(bpy.data.filepath).parent / f"{clip_name(path)}-dasr"
        else:
            directory = fallback_directory / f"{clip_name(path)}-dasr"
        solved = find_solved(path) if settings.camera == "auto" else None
        first, last = (settings.frame_first, settings.frame_last + 1) if settings.use_range else (None, None)
        return cls(
            clip=path,
            category=settings.category,
            directory=directory,
            placement=settings.placement,
            names=settings.names,
            formats=tuple(sorted(settings.formats)),
            masks=bpy.path.abspath(settings.masks) if settings.masks else "",
            corrections=() if settings.masks else tuple(said.argument() for said in settings.corrections),
            frames=(first, last, settings.frame_step),
            subject=(settings.subject_x, settings.subject_y) if settings.use_subject else None,
            focal_px=settings.focal_px or (solved_focal(solved) if solved else 0.0),
            camera=settings.camera,
            solved_clip=solved.name if solved else "",
            overlay=settings.overlay,
            start_frame=clip.frame_start if clip else start_frame,
            set_scene_range=settings.set_scene_range,
            category_folders=tuple(category_folders),
            provider=provider,
            threads=threads,
            quality=settings.quality,
        )

    def arguments(self) -> list[str]:
        """Command line for `dasr`; the scene is built here, so the worker writes the motion alone."""
        line = [
            "reconstruct",
            self.clip,
            "--category",
            self.category,
            "--out",
            str(self.directory),
            "--formats",
            "none",
        ]
        line += ["--overlay" if self.overlay else "--no-overlay"]
        if self.masks:
            line += ["--masks", self.masks]
        for said in self.corrections:
            line += ["--correct", said]
        if self.frames != (None, None, 1):
            line += ["--frames", ":".join("" if part is None else str(part) for part in self.frames)]
        if self.subject:
            line += ["--subject", "{},{}".format(*self.subject)]
        if self.focal_px > 0:
            line += ["--focal", str(self.focal_px)]
        if self.camera == "still":  # the worker has no Blender to solve with: that comes after it
            line += ["--camera", "still"]
        if self.quality != "standard":
            line += ["--quality", self.quality]
        if self.provider != "auto":
            line += ["--provider", self.provider]
        if self.threads > 0:
            line += ["--threads", str(self.threads)]
        return line

    def environment(self) -> dict[str, str]:
        """Variables the worker needs: where the user's categories are."""
        return (
            {"DASR_CATEGORIES": os.pathsep.join(map(str, self.category_folders))}
            if self.category_folders
            else {}
        )


@dataclass(frozen=True)
class Summary:
    """What to tell the user."""

    text: str
    warnings: tuple[str, ...] = ()


def _filmed(
    request: JobRequest, category: Category, motion: Motion, background: Background | None
) -> tuple[Motion, str, list[str]]:
    """The motion with the camera that Blender's tracker solved, where one is asked for; words, and warnings."""
    try:
        if request.solved_clip:
            clip = bpy.data.movieclips.get(request.solved_clip)
            if clip is None:
                raise CameraSolveError(f"The movie clip {request.solved_clip} with its solve is gone.")
            solved = read_solved(clip, motion)
        elif request.camera == "solve":
            everywhere = np.ones((1, 1), bool)
            solved = solve_camera(motion, request.clip, background or (lambda _: everywhere))
        else:
            return motion, "", []
    except CameraSolveError as error:
        return motion, "", [str(error)]
    motion, words = with_solved(category, motion, solved)
    return motion, f"the camera is {words}", []


def finish_job(
    request: JobRequest,
    result: Mapping[str, Any],
    scene: bpy.types.Scene,
    background: Background | None = None,
) -> Summary:
    """Build the scene, and the exports asked for, from what the worker found.

    Args:
        request: what was asked.
        result: the worker's `result` message.
        scene: the scene to build in.
        background: where the subject is not, for Blender's tracker; None where nothing is known of it.

    Raises:
        DasrError: the motion or category cannot be read, or an export failed. The scene is planned
            before anything is written.
    """
    motion_path = Path(str(result.get("motion", request.directory / "motion.npz")))
    if not motion_path.is_file():
        raise ScenePlanError(f"the worker left no motion file at {motion_path}: run Reconstruct again")
    motion = Motion.load(motion_path)
    category = load_category(request.category, request.category_folders)
    motion, camera, notes = _filmed(request, category, motion, background)
    if camera:
        motion.save(motion_path)
    plan = plan_scene(
        category,
        motion,
        clip_path=request.clip,
        placement=request.placement,
        names=request.names,
        start_frame=request.start_frame,
        set_scene_range=request.set_scene_range,
    )
    built = build_scene(plan, scene)
    files = export_scene(built, request.directory, request.formats, plan.name) if request.formats else {}
    text = f"{len(motion)} frames reconstructed"
    if motion.mean_mask_iou is not None:
        text += f", silhouettes agree to {100 * motion.mean_mask_iou:.0f} %"
    if result.get("provider"):
        text += f", network on {result['provider']}"
    if found := camera or result.get("camera"):
        text += f"; {found}"
    if files:
        text += f"; {', '.join(sorted(files))} written to {request.directory}"
    settled = result.get("camera_warnings", ()) if camera else ()
    warnings = [str(warning) for warning in result.get("warnings", ()) if warning not in settled] + notes
    return Summary(text, (*warnings, *built.warnings, *losses(plan, request.formats)))
