# SPDX-License-Identifier: GPL-3.0-or-later
"""From the panel's settings to a worker's command line, and from its result to the scene."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core import Category, DasrError, Motion, load_category
from ..core.errors import counted
from ..core.files import whole_name
from ..core.listing import IMAGE_SUFFIXES, pattern_images
from ..core.results import free_folder, is_of
from . import compat
from .build import BuiltScene, build_scene, mode_kept, of_same_clip
from .camera import clip_path, find_background, image_number, sequence_pattern
from .export import export_scene, losses
from .plan import SOURCE, ScenePlan, ScenePlanError, plan_scene
from .solve import (
    Background,
    CameraSolveError,
    find_solved,
    read_solved,
    solve_camera,
    solved_focal,
    with_solved,
)


def chosen_path(path: str) -> str:
    """What is meant by the file that was chosen: an image stands for the sequence whose numbers go on beside it, as
    it does where Blender opens a clip."""
    return _meant(path, *_changed(path))


@lru_cache(maxsize=32)  # panels and tools ask at every redraw, and a folder may hold thousands of images
def _meant(path: str, *_changes: int) -> str:
    if os.path.splitext(path)[1].lower() not in IMAGE_SUFFIXES or not os.path.isfile(path):
        return path
    pattern, number = sequence_pattern(path), image_number(path)
    if pattern == path:
        return path
    beside = {image_number(image.name) for image in pattern_images(pattern)[0]}
    return pattern if beside & {number - 1, number + 1} else path


def clip_start(clip: bpy.types.MovieClip) -> int:
    """The scene frame in which a movie clip shows its file's first frame, or the first image of its folder.

    Blender shows frame f − frame_start + frame_offset of the file, from 0, at scene frame f; the frames of a sequence
    count from the image that was opened.
    """
    start = clip.frame_start - clip.frame_offset
    if clip.source == "SEQUENCE":
        first = _first_file(clip_path(clip))
        if first is not None:
            start -= image_number(clip.filepath) - image_number(first.name)
    return start


def is_chosen(clip: bpy.types.MovieClip, settings: Any) -> bool:
    """Whether a movie clip shows what the panel's settings choose."""
    if settings.source == "MOVIECLIP":
        return clip == settings.movie_clip
    path = bpy.path.abspath(settings.filepath)
    chosen = _first_file(chosen_path(path)) if path else None
    return chosen is not None and chosen == _first_file(clip_path(clip))


def _first_file(path: str) -> Path | None:
    """The movie, or the first of the images, that Blender shows of a path; None where it shows nothing."""
    return _shown(path, *_changed(path))


@lru_cache(maxsize=32)  # as above
def _shown(path: str, *_changes: int) -> Path | None:
    shown = None
    with suppress(OSError):  # a folder that cannot be listed
        shown, _ = find_background("", path, 1, np.zeros(1, int))
    return shown.path if shown is not None else None


def _changed(path: str) -> list[int]:
    """When the path, and the folder it lies in, last changed; 0 for what is not there."""
    times = []
    for place in (path, os.path.dirname(path)):
        try:
            times.append(os.stat(place).st_mtime_ns)
        except OSError:
            times.append(0)
    return times


def range_problem(settings: Any) -> str:
    """Why the panel's frame range holds nothing, in a sentence; "" where it is fine."""
    if settings.use_range and settings.frame_first > settings.frame_last:
        return (
            f"The frame range ends at {settings.frame_last}, before it begins at {settings.frame_first}: "
            "set Last to First or later"
        )
    return ""


def category_problem(settings: Any) -> str:
    """What to do about a category that the panel's settings remember and that is not installed, in a sentence; "" where
    it is."""
    if settings.category:
        return ""
    name = f"'{settings.category_said}'" if settings.category_said else "that this file asks for"
    return f"The category {name} is not installed: choose another, or put its bundle back (Preferences › Add-ons)"


def settings_problem(settings: Any) -> str:
    """Why the panel's settings ask for nothing that can be done, in a sentence; "" where they are fine."""
    if problem := range_problem(settings):
        return problem
    for said in () if settings.masks else settings.corrections:
        if not said_in_full(said):
            lacks, do = ("file", "choose one") if said.kind == "MASK" else ("place", "type its X and Y")
            return f"A correction of frame {said.frame} has no {lacks} yet: {do} under Correct the Masks, or remove it"
    if settings.directory.startswith("//") and not bpy.data.filepath:
        return (
            f"The output folder {settings.directory} is relative to the .blend file, which is not saved yet: save it, "
            "or choose a whole path under Output"
        )
    lacking = sorted(kind for kind in settings.formats if not compat.can_write(kind))
    if lacking:
        return f"This Blender was built without {lacking[0].upper()}: leave it out under Output"
    return ""


def said_in_full(said: Any) -> bool:
    """Whether a correction has its mask image or its place, which may be the picture's corner."""
    if said.kind == "MASK":
        return bool(said.filepath)
    return any(said.is_property_set(name) for name in ("x", "y"))


@dataclass(frozen=True)
class JobRequest:
    """One reconstruction as the panel asks for it. Paths are absolute.

    camera: "auto", "still" or "solve".  solved_clip: name of the movie clip whose solve is taken.
    start_frame: scene frame of the first frame that is used.  clip_start: where given, it counts instead: scene frame
    of the file's first frame, whether used or not.
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
    texture: bool = True
    overlay: bool = False
    start_frame: int = 1
    clip_start: int | None = None
    set_scene: bool = False
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
            start_frame: scene frame that is to show the first frame used (a movie clip brings its own).
            category_folders: where to look for categories beside the shipped ones.
            fallback_directory: where results go when neither the panel nor a saved .blend names a folder.
            provider, threads: what the network runs on; 0 threads for one a core.
        """
        path = clip_path(clip) if clip else chosen_path(bpy.path.abspath(settings.filepath))
        if settings.directory:
            directory = Path(bpy.path.abspath(settings.directory))
        elif bpy.data.filepath:
            directory = Path(bpy.data.filepath).parent / f"{whole_name(path)}-dasr"
        else:
            directory = fallback_directory / f"{whole_name(path)}-dasr"
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
            subject=(settings.subject_x, settings.subject_y) if settings.use_subject and not settings.masks else None,
            focal_px=settings.focal_px or (solved_focal(solved) if solved else 0.0),
            camera=settings.camera,
            solved_clip=solved.name if solved else "",
            texture=settings.texture,
            overlay=settings.overlay,
            start_frame=start_frame,
            clip_start=clip_start(clip) if clip else None,
            set_scene=settings.set_scene_range,
            category_folders=tuple(category_folders),
            provider=provider,
            threads=threads,
            quality=settings.quality,
        )

    def scene_frame(self, first: int) -> int:
        """The scene frame of the first frame that is used, which is `first` of the file."""
        return self.start_frame if self.clip_start is None else self.clip_start + first

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
        line += ["--texture" if self.texture else "--no-texture"]
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
    """What to tell the user. rig: name of the armature that was built."""

    text: str
    warnings: tuple[str, ...] = ()
    rig: str = ""

    @property
    def whole(self) -> str:
        """All of it, a sentence a line."""
        return "\n".join(line if line.endswith((".", "!", "?")) else f"{line}." for line in (self.text, *self.warnings))


def _filmed(
    request: JobRequest, category: Category, motion: Motion, background: Background | None
) -> tuple[Motion, str]:
    """The motion with the camera that Blender's tracker solved, where one is asked for, and words.

    Raises CameraSolveError.
    """
    if request.solved_clip:
        clip = bpy.data.movieclips.get(request.solved_clip)
        if clip is None:
            raise CameraSolveError(f"The movie clip {request.solved_clip} with its solve is gone.")
        solved = read_solved(clip, motion)
    elif request.camera == "solve":
        everywhere = np.ones((1, 1), bool)
        solved = solve_camera(motion, request.clip, background or (lambda _: everywhere))
    else:
        return motion, ""
    motion, words = with_solved(category, motion, solved)
    return motion, f"the camera is {words}"


def beside_others(request: JobRequest) -> JobRequest:
    """The request in a folder of its own, `walk-dasr-2`, where `walk-dasr` holds what another clip of that name gave.

    Reads the clip, where the folder is in use.
    """
    return replace(request, directory=free_folder(request.directory, request.clip))


def _pace(plan: ScenePlan, scene: bpy.types.Scene) -> list[str]:
    """A sentence where the scene plays a movie faster or slower than it was filmed. Images have no pace."""
    own, rate = plan.settings.fps, scene.render.fps / scene.render.fps_base
    background = plan.camera.background
    if background is None or background.sequence or abs(rate / own - 1) < 0.01:
        return []
    return [
        f"The clip has {own:.4g} frames a second and the scene {rate:.4g}, so it plays "
        f"{'faster' if rate > own else 'slower'} than filmed: Set Up Scene gives the scene the clip's rate"
    ]


def _sights(built: BuiltScene) -> list[str]:
    """Where the clip is seen behind the rig, and what else of it stands there."""
    scene, camera = built.scene, built.camera
    sights = []
    if scene.camera != camera:
        sights.append(
            f"The scene's camera is still {scene.camera.name}: to see the rig before the clip, select {camera.name} "
            "and press Ctrl Numpad 0, or reconstruct with Set Up Scene"
        )
    earlier = [
        rig.name
        for rig in scene.objects
        if rig != built.armature
        and rig.get(SOURCE) == built.armature[SOURCE]
        and of_same_clip(rig, built.armature)
        and any(rig.visible_get(view_layer=layer) for layer in scene.view_layers)
    ]
    if earlier:
        are, them = ("is", "its collection") if len(earlier) == 1 else ("are", "their collections")
        names = ", ".join(earlier)
        sights.append(f"{names}, reconstructed from this clip before, {are} still there: hide or delete {them}")
    return sights


def _exported(built: BuiltScene, request: JobRequest) -> tuple[list[str], list[str]]:
    """The formats that were written, and what to say of them and of those that could not be."""
    written, notes = [], []
    for kind in request.formats:
        try:
            export_scene(built, request.directory, [kind], whole_name(request.clip))
            written.append(kind)
        except DasrError as error:  # the rig is there all the same
            notes.append(str(error))
    return written, losses(built.plan, written) + notes


def _written(result: Mapping[str, Any], kind: str) -> Path | None:
    """A file that the worker wrote; None where it wrote none, or it is gone."""
    path = result.get("files", {}).get(kind)
    return Path(path) if path and os.path.isfile(path) else None


def finish_job(
    request: JobRequest,
    result: Mapping[str, Any],
    scene: bpy.types.Scene,
    background: Background | None = None,
    solve_only: bool = False,
) -> Summary:
    """Build the scene, and the exports asked for, from what the worker found.

    Args:
        request: what was asked.
        result: the worker's `result` message.
        scene: the scene to build in.
        background: where the subject is not, for Blender's tracker; None where nothing is known of it.
        solve_only: build nothing where the camera cannot be solved.

    Raises:
        DasrError: the motion or category cannot be read, or the camera cannot be solved and `solve_only`. The scene
            is planned before anything is written.
    """
    motion_path = Path(str(result.get("motion", request.directory / "motion.npz")))
    if not motion_path.is_file():
        raise ScenePlanError(f"the worker left no motion file at {motion_path}: run Reconstruct again")
    motion = Motion.load(motion_path)
    if solve_only and not is_of(motion, request.clip):
        raise ScenePlanError(
            f"What is kept in {request.directory} was found in another clip, {motion.source}: reconstruct "
            f"{Path(request.clip).name} first."
        )
    category = load_category(request.category, request.category_folders)
    camera, unsolved = "", []
    try:
        motion, camera = _filmed(request, category, motion, background)
    except CameraSolveError as error:
        if solve_only:
            raise
        unsolved = [str(error)]
    if camera:
        motion.save(motion_path)
    plan = plan_scene(
        category,
        motion,
        clip_path=request.clip,
        placement=request.placement,
        names=request.names,
        start_frame=request.scene_frame(int(motion.frame_index[0])),
        set_scene=request.set_scene,
        texture=_written(result, "texture"),
    )
    with mode_kept(scene):
        built = build_scene(plan, scene)
        files, notes = _exported(built, request)
    if "overlay" in result.get("files", ()):
        files.append("overlay video")
    text = f"{counted(len(motion), 'frame')} reconstructed"
    if motion.mean_mask_iou is not None:
        text += f", silhouettes agree to {100 * motion.mean_mask_iou:.0f} %"
    if result.get("provider"):
        text += f", network on {result['provider']}"
    if found := camera or result.get("camera"):
        text += f"; {found}"
    if files:
        text += f"; {', '.join(files)} written to {request.directory}"
    settled = result.get("camera_warnings", ()) if camera else ()
    warnings = [str(warning) for warning in result.get("warnings", ()) if warning not in settled] + unsolved
    warnings += (*built.warnings, *notes, *_sights(built), *_pace(plan, scene))
    return Summary(text, tuple(warnings), built.armature_name)
