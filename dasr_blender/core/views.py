# SPDX-License-Identifier: GPL-3.0-or-later
"""Views that a person set by hand: on a few frames of a clip, where the body is and how it is bent.

They lie beside the clip as JSON: {"category", "version", "clip", "views": [{"frame", "focal_px", "image_size",
"principal_point", "camera_from_root", "joint_rotations"}, …]}, in the terms of `Motion`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DasrError
from .files import GENERIC_NAMES, clip_name, written_atomically

if TYPE_CHECKING:
    from .category import Category

Array = np.ndarray

NAME = "views.json"
IMAGES = frozenset((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".exr", ".tga"))


class ViewError(DasrError):
    """Hand-set views are damaged, or belong to another category or clip."""


@dataclass(frozen=True, eq=False)
class View:
    """One frame as it was set by hand; pixels are those of the original image.

    frame: its number in the clip, from 0; focal_px; image_size ``(2,)`` width, height; principal_point ``(2,)``;
    camera_from_root ``(4, 4)``, metres, OpenCV camera; joint_rotations ``(J, 4)`` wxyz, local to the parent,
    relative to rest, identity at the root: as in `Motion`.
    """

    frame: int
    focal_px: float
    image_size: Array
    principal_point: Array
    camera_from_root: Array
    joint_rotations: Array


def views_path(clip: str | os.PathLike[str]) -> Path:
    """Where the views of a clip lie.

    Of a video dog.mp4 beside it in dog.views.json; of a folder of frames, a clip folder with frames/ in it, or a
    pattern of images, in the folder's views.json, where a folder called frames or the like counts as its parent's.
    """
    path = Path(os.fspath(clip))
    if not path.is_dir() and path.suffix.lower() not in IMAGES and not re.search(r"[#%*]", path.name):
        return path.with_name(f"{path.stem}.{NAME}")
    folder = (path if path.is_dir() else path.parent).absolute()
    return (folder.parent if folder.name.lower() in GENERIC_NAMES else folder) / NAME


def read_views(path: str | os.PathLike[str], category: Category) -> list[View]:
    """The views in a file, by frame; [] where there is none.

    path: the file itself, or the clip or clip folder that it lies beside. Raises ViewError.
    """
    path = _file(path)
    if not path.exists():
        return []
    data = _read(path)
    if data.get("category") != category.name:
        raise ViewError(
            f"{path}: was set with the category '{data.get('category')}', not '{category.name}'; choose that one, or "
            "set the views again."
        )
    rows = data.get("views")
    if not isinstance(rows, list):
        raise ViewError(f"{path}: field 'views' must be a list; set the views again.")
    views = [_parse(row, f"{path}: view {i}", len(category.skeleton)) for i, row in enumerate(rows)]
    frames = [view.frame for view in views]
    for frame in frames:
        if frames.count(frame) > 1:
            raise ViewError(f"{path}: frame {frame} is set twice; remove one of them.")
    return sorted(views, key=lambda view: view.frame)


def set_frames(path: str | os.PathLike[str]) -> list[int]:
    """Frames that have a view, sorted, without a look at what the views say; [] for a file that cannot be read."""
    try:
        return sorted(int(row["frame"]) for row in _read(_file(path))["views"])
    except (ViewError, KeyError, TypeError, ValueError):
        return []


def write_view(clip: str | os.PathLike[str], category: Category, view: View) -> Path:
    """Add a view to those of a clip, in place of one of the same frame; returns the file. Raises ViewError."""
    path, name = views_path(clip), clip_name(clip)
    if path.exists() and (stored := _read(path).get("clip")) != name:
        raise ViewError(
            f"{path}: holds the views of '{stored}', not of '{name}'; move one of them elsewhere."
        )
    others = [other for other in read_views(path, category) if other.frame != view.frame]
    _parse(_row(view), f"Frame {view.frame}", len(category.skeleton))
    _write(path, category.name, category.version, name, [*others, view])
    return path


def remove_view(path: str | os.PathLike[str], frame: int) -> None:
    """Forget the view of a frame, and the file with the last of them. Raises ViewError."""
    path = _file(path)
    if not path.exists():
        return
    data = _read(path)
    try:
        rows = [row for row in data["views"] if row["frame"] != frame]
    except (KeyError, TypeError):
        raise ViewError(f"{path}: holds something that is no view; set the views again.") from None
    if not rows:
        path.unlink(missing_ok=True)
        return
    with written_atomically(path) as temporary:
        temporary.write_text(json.dumps({**data, "views": rows}, indent=1) + "\n", encoding="utf-8")


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(os.fspath(path))
    return path if path.suffix == ".json" else views_path(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ViewError(f"{path}: not a readable file of views ({error}); mend it, or delete it.") from None
    if not isinstance(data, dict):
        raise ViewError(f"{path}: must hold an object with a category and views; set the views again.")
    return data


def _row(view: View) -> dict[str, Any]:
    return {
        "frame": int(view.frame),
        "focal_px": float(view.focal_px),
        "image_size": [int(n) for n in view.image_size],
        "principal_point": [float(v) for v in view.principal_point],
        "camera_from_root": np.asarray(view.camera_from_root, np.float64).tolist(),
        "joint_rotations": np.asarray(view.joint_rotations, np.float64).tolist(),
    }


def _write(path: Path, category: str, version: str, clip: str, views: Sequence[View]) -> None:
    rows = [_row(view) for view in sorted(views, key=lambda view: view.frame)]
    data = {"category": category, "version": version, "clip": clip, "views": rows}
    try:
        with written_atomically(path) as temporary:
            temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ViewError(
            f"{path}: the views could not be written ({error}); make the folder writable."
        ) from None


def _parse(row: Any, where: str, joints: int) -> View:
    """A checked view; ViewError that says in `where` which field is off."""

    def wrong(name: str, what: str) -> ViewError:
        return ViewError(f"{where}: field '{name}' {what}; set that view again.")

    def numbers(name: str, shape: tuple[int, ...]) -> Array:
        try:
            array = np.array(row[name], dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            raise wrong(name, "is missing or holds something that is no number") from None
        if array.shape != shape or not np.all(np.isfinite(array)):
            raise wrong(name, f"must hold finite numbers of the shape {shape}, not {array.shape}")
        return array

    if not isinstance(row, dict):
        raise ViewError(f"{where}: must be an object; set the views again.")
    frame, focal, size = numbers("frame", ()), numbers("focal_px", ()), numbers("image_size", (2,))
    if frame < 0 or frame % 1:
        raise wrong("frame", "must be a whole number from 0")
    if focal <= 0:
        raise wrong("focal_px", "must be positive")
    if np.any(size < 1) or np.any(size % 1):
        raise wrong("image_size", "must be a width and a height in whole pixels")
    point = numbers("principal_point", (2,)) if "principal_point" in row else size / 2
    pose, rotations = numbers("camera_from_root", (4, 4)), numbers("joint_rotations", (joints, 4))
    turn = pose[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3 or np.linalg.det(turn) < 0:
        raise wrong("camera_from_root", "is not a rotation and a translation")
    if np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise wrong("camera_from_root", "must end in the row 0, 0, 0, 1")
    if pose[2, 3] <= 0:
        raise wrong("camera_from_root", "puts the body behind the camera")
    if np.abs(np.linalg.norm(rotations, axis=-1) - 1).max() > 1e-3:
        raise wrong("joint_rotations", "holds a quaternion that is not of length 1")
    if np.abs(rotations[0, 1:]).max() > 1e-3:
        raise wrong("joint_rotations", "turns the root, whose rotation belongs in camera_from_root")
    return View(int(frame), float(focal), size.astype(np.int64), point, pose, rotations)
