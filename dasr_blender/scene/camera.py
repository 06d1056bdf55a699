# SPDX-License-Identifier: GPL-3.0-or-later
"""The solved camera: the one place where OpenCV's camera space meets Blender's, and its background clip."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ..core.listing import IMAGE_SUFFIXES, folder_images, is_pattern, pattern_images

SENSOR_MM = 36.0  # the longer side of the sensor; only its ratio to the focal length matters

# OpenCV's camera: x right, y down, z forward. Blender's: x right, y up, z backward.
CV_FROM_BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Background:
    """The clip behind the camera, called `name` in Blender. `path` is the movie or the first image of the
    sequence; the scene frame `start_frame` shows the file's frame number `first` (counted from 0)."""

    name: str
    path: Path
    sequence: bool
    start_frame: int
    first: int


@dataclass(frozen=True)
class CameraPlan:
    """A Blender camera. n is the number of frames, or 1 where the camera stands still.

    location: (n, 3) metres.  rotation: (n, 4) wxyz.  lens_mm: (n,).  sensor_mm: (width, height).
    shift: in units of the sensor's longer side.  clip_range: nearest and farthest drawn, metres.
    """

    name: str
    location: np.ndarray
    rotation: np.ndarray
    lens_mm: np.ndarray
    sensor_mm: tuple[float, float]
    sensor_fit: str
    shift: tuple[float, float]
    clip_range: tuple[float, float]
    display_size: float
    background: Background | None


def blender_camera(world_from_camera: np.ndarray) -> np.ndarray:
    """OpenCV camera poses (…, 4, 4) to the `matrix_world` of the Blender camera that sees the same."""
    return world_from_camera @ CV_FROM_BLENDER


def intrinsics(
    focal_px: np.ndarray, principal_point: np.ndarray, image_size: np.ndarray
) -> tuple[np.ndarray, tuple[float, float], str, tuple[float, float]]:
    """Pinhole in pixels to Blender's lens, sensor, fit and shift.

    With the sensor's longer side S mm over L pixels, a pixel is S/L mm, so lens = focal · S/L. A positive
    `shift_x` moves the frame right by that fraction of L, which moves the optical axis left in the picture:
    px = w/2 − shift_x·L; the picture's y points down and Blender's up: py = h/2 + shift_y·L.
    """
    width, height = (float(v) for v in image_size)
    longer = max(width, height)
    lens = np.asarray(focal_px, dtype=np.float64) * SENSOR_MM / longer
    px, py = (float(v) for v in principal_point)
    shift = ((width / 2 - px) / longer, (py - height / 2) / longer)
    fit = "HORIZONTAL" if width >= height else "VERTICAL"
    return lens, (SENSOR_MM * width / longer, SENSOR_MM * height / longer), fit, shift


def sequence_pattern(frame: str) -> str:
    """The pattern of an image sequence from the path of one of its frames: shot.0001.png → shot.####.png."""
    folder, name = os.path.split(frame)
    digits = list(re.finditer(r"\d+", os.path.splitext(name)[0]))
    if not digits:
        return frame
    start, end = digits[-1].span()
    return os.path.join(folder, name[:start] + "#" * (end - start) + name[end:])


def image_number(path: str) -> int:
    """The number of an image of a sequence; 0 for one without."""
    digits = re.findall(r"\d+", Path(path).stem)
    return int(digits[-1]) if digits else 0


def images_behind(camera: bpy.types.Object) -> list[bpy.types.CameraBackgroundImage]:
    """The background images of a camera that show movie clips; none of an object that is no camera."""
    images = camera.data.background_images if camera.type == "CAMERA" else ()
    return [image for image in images if image.clip is not None]


def clip_path(clip: bpy.types.MovieClip) -> str:
    """The file, or the pattern of the images, that a movie clip shows."""
    path = bpy.path.abspath(clip.filepath, library=clip.library)
    return sequence_pattern(path) if clip.source == "SEQUENCE" else path


def find_background(
    name: str, clip_path: str | Path, start_frame: int, frame_index: np.ndarray
) -> tuple[Background | None, str]:
    """The file that Blender is to show, and a warning when it cannot be right ("" otherwise).

    Args:
        name: what to call it in Blender.
        clip_path: movie, folder of images, or a pattern of images with # or %d.
        start_frame: scene frame of the first frame.
        frame_index: (T,) frame numbers within the clip, from 0.
    """
    path = Path(clip_path)
    first = int(frame_index[0])
    if path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES:
        return Background(name, path.resolve(), False, start_frame, first), ""
    images = _images(path)
    if not images:
        return None, f"{clip_path} is no movie or folder of images, so the camera has no background."
    if len(images) > 1 and [image.name for image in images] != _one_by_one(images[0].name, len(images)):
        return (
            None,
            f"The images in {clip_path} are not numbered one by one under one name and ending, so the camera has no "
            "background.",
        )
    return Background(name, images[0].resolve(), True, start_frame, first), ""


def _one_by_one(first: str, count: int) -> list[str]:
    """The names under which Blender looks for the images of a sequence, from that of its first."""
    stem, ending = os.path.splitext(first)
    digits = list(re.finditer(r"\d+", stem))
    if not digits:
        return [first]
    start, end = digits[-1].span()
    number = int(stem[start:end])
    return [f"{stem[:start]}{number + k:0{end - start}d}{stem[end:]}{ending}" for k in range(count)]


def _images(path: Path) -> list[Path]:
    """Images of a folder, of a pattern, or the one itself, as the clip was read."""
    if is_pattern(path):
        return pattern_images(path)[0]
    if path.is_dir():
        return folder_images(path)
    return [path] if path.is_file() else []


def frame_method(sensor_fit: str, aspect: float, scene_aspect: float) -> str:
    """How a picture lies in a render: "CROP" or "FIT". Both are given as width over height.

    The sensor's fitted side spans the render; the picture has to span the same side.
    """
    return "CROP" if (scene_aspect > aspect) == (sensor_fit == "HORIZONTAL") else "FIT"


def render_aspect(scene: bpy.types.Scene) -> float:
    """Width over height of a scene's renders."""
    render = scene.render
    return render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)


def movie_clip(background: Background) -> bpy.types.MovieClip | None:
    """The movie clip with the wanted timing, None when Blender cannot read the file.

    A clip the user already set up otherwise is left as it is.

    Blender shows, at scene frame f, frame f − frame_start + frame_offset of the file, counted from 0.
    """
    for clip in clips_of(background.path):
        if clip.frame_start - clip.frame_offset == background.start_frame - background.first:
            return clip
    return new_clip(background)


def clips_of(path: Path) -> list[bpy.types.MovieClip]:
    """The open .blend's movie clips of a movie, or of the image sequence that begins with an image."""
    return [
        clip
        for clip in bpy.data.movieclips
        if Path(bpy.path.abspath(clip.filepath, library=clip.library)).resolve() == path
    ]


def new_clip(background: Background) -> bpy.types.MovieClip | None:
    """A movie clip that nobody else works in, None when Blender cannot read the file."""
    clip = bpy.data.movieclips.load(str(background.path), check_existing=False)
    if clip.frame_duration < 1:  # how Blender says that it cannot read the file
        bpy.data.movieclips.remove(clip)
        return None
    clip.name = background.name
    clip.frame_start = background.start_frame
    clip.frame_offset = background.first
    return clip


def write_camera(
    plan: CameraPlan, collection: bpy.types.Collection, scene_aspect: float
) -> tuple[bpy.types.Object, str]:
    """Make the camera object, posed as in its first frame; returns it and a warning ("" for none).

    `scene_aspect`: width over height of the render.
    """
    data = bpy.data.cameras.new(plan.name)
    data.sensor_fit = plan.sensor_fit
    data.sensor_width, data.sensor_height = plan.sensor_mm
    data.lens = float(plan.lens_mm[0])
    data.shift_x, data.shift_y = plan.shift
    data.clip_start, data.clip_end = plan.clip_range
    data.display_size = plan.display_size
    camera = bpy.data.objects.new(plan.name, data)
    collection.objects.link(camera)
    camera.rotation_mode = "QUATERNION"
    camera.location = plan.location[0]
    camera.rotation_quaternion = plan.rotation[0]
    return camera, _write_background(plan, data, scene_aspect) if plan.background else ""


def _write_background(plan: CameraPlan, data: bpy.types.Camera, scene_aspect: float) -> str:
    clip = movie_clip(plan.background)
    if clip is None:
        return f"Blender cannot read {plan.background.path}, so the camera has no background."
    data.show_background_images = True
    image = data.background_images.new()
    image.source = "MOVIE_CLIP"
    image.clip = clip
    image.alpha = 1.0
    image.display_depth = "BACK"
    aspect = plan.sensor_mm[0] / plan.sensor_mm[1]
    image.frame_method = frame_method(plan.sensor_fit, aspect, scene_aspect)
    if abs(clip.size[0] / max(clip.size[1], 1) / aspect - 1) > 0.02:
        return f"Blender shows {plan.background.path} in another shape, so the background may not fit."
    return ""
