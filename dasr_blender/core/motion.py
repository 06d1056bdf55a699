# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion: what the subject and the camera did over a clip, as plain arrays in one ``.npz``."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .camera import Pinhole
from .errors import MotionError
from .files import write_refusal, written_atomically

if TYPE_CHECKING:
    from .category import Category

Array = np.ndarray

# field: (kind of dtype, shape in terms of T, J, K, A); kind "f" number, "i" whole number, "U" text
LAYOUT: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "fps": ("f", ()),
    "frame_index": ("i", ("T",)),
    "image_size": ("i", (2,)),
    "focal_px": ("f", ("T",)),
    "principal_point": ("f", (2,)),
    "camera_from_root": ("f", ("T", 4, 4)),
    "joint_rotations": ("f", ("T", "J", 4)),
    "morphology": ("f", ("K",)),
    "appearance": ("f", ("A",)),
    "confidence": ("f", ("T",)),
    "joint_confidence": ("f", ("T", "J")),
    "mask_iou": ("f", ("T",)),
    "category": ("U", ()),
    "category_version": ("U", ()),
    "source": ("U", ()),
    "source_hash": ("U", ()),
    "world_from_camera": ("f", ("T", 4, 4)),
    "relief": ("f", ("R",)),
    "cuts": ("i", ("C",)),
}
OPTIONAL = ("world_from_camera", "relief", "cuts")  # not in files of earlier versions
_OF_FRAMES = [name for name, (_, shape) in LAYOUT.items() if shape[:1] == ("T",)]
_KINDS = {"f": ("fiu", "numbers"), "i": ("iu", "whole numbers"), "U": ("U", "text")}


@dataclass(eq=False)
class Motion:
    """The result of a reconstruction; pixels are those of the original image.

    fps; frame_index ``(T,)`` number of each frame in the clip; image_size ``(2,)`` width, height;
    focal_px ``(T,)``; principal_point ``(2,)``; camera_from_root ``(T, 4, 4)``, metres, OpenCV camera;
    joint_rotations ``(T, J, 4)`` wxyz, local to the parent, relative to rest, identity at the root;
    morphology ``(K,)``; appearance ``(A,)``; confidence ``(T,)`` and joint_confidence ``(T, J)`` in 0…1;
    mask_iou ``(T,)`` in 0…1, NaN where there was no mask; category and category_version; source, the
    clip's file name, and source_hash, its SHA-256; world_from_camera ``(T, 4, 4)``, the camera's own
    movement, where the world is the first frame's camera: identity where it stands still or nothing is known
    of it (also what None and a file without the field stand for); relief, the clip's own shape beside its
    proportions: how far each vertex of the rest body is raised along its normal, ``(V,)`` metres, or nothing ``(0,)``;
    cuts ``(C,)``, rising: which of the T frames begin another shot, none where the clip is one.
    """

    fps: float
    frame_index: Array
    image_size: Array
    focal_px: Array
    principal_point: Array
    camera_from_root: Array
    joint_rotations: Array
    morphology: Array
    appearance: Array
    confidence: Array
    joint_confidence: Array
    mask_iou: Array
    category: str
    category_version: str
    source: str = ""
    source_hash: str = ""
    world_from_camera: Array = None  # pyright: ignore[reportAssignmentType]
    relief: Array = None  # pyright: ignore[reportAssignmentType]
    cuts: Array = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        if self.world_from_camera is None:
            self.world_from_camera = np.tile(np.eye(4), (len(np.atleast_1d(self.frame_index)), 1, 1))
        if self.relief is None:
            self.relief = np.zeros(0)
        if self.cuts is None or not len(self.cuts):
            self.cuts = np.zeros(0, np.int64)
        for name, (kind, shape) in LAYOUT.items():
            if shape:
                array = np.asarray(getattr(self, name))
                if kind == "f" and array.dtype.kind in "iu":
                    array = array.astype(np.float64)
                setattr(self, name, array)
        self.fps = float(self.fps)

    def __len__(self) -> int:
        return len(self.frame_index)

    def part(self, frames: slice | Array) -> Motion:
        """Some of the frames: a slice, or their numbers ``(n,)``."""
        values = {name: getattr(self, name)[frames] for name in _OF_FRAMES}
        return replace(self, **values, cuts=np.flatnonzero(np.diff(self.shot[frames])) + 1)

    @classmethod
    def joined(cls, shots: Sequence[Motion]) -> Motion:
        """Shots of one clip, one after another; whatever is not a frame's is that of the first."""
        values = {name: np.concatenate([getattr(shot, name) for shot in shots]) for name in _OF_FRAMES}
        starts = np.cumsum([0, *(len(shot) for shot in shots)])
        within = [start + shot.cuts for start, shot in zip(starts, shots, strict=False)]
        return replace(shots[0], **values, cuts=np.sort(np.concatenate([starts[1:-1], *within])))

    @property
    def shots(self) -> list[slice]:
        """The frames of each shot, a single one where the clip is not cut."""
        return shots_of(len(self), self.cuts)

    @property
    def shot(self) -> Array:
        """Number of the shot that each frame belongs to, ``(T,)``."""
        return np.searchsorted(self.cuts, np.arange(len(self)), side="right")

    @property
    def rate(self) -> float:
        """Frames of the motion a second: fps, less what a step left out."""
        return frame_rate(self.fps, self.frame_index)

    @property
    def camera(self) -> Pinhole:
        return Pinhole(self.focal_px, self.principal_point, self.image_size)

    @property
    def world_from_root(self) -> Array:
        """Root poses ``(T, 4, 4)`` in the world of the first frame's camera, its movement taken out."""
        return np.asarray(self.world_from_camera, np.float64) @ self.camera_from_root

    @property
    def camera_moves(self) -> bool:
        """Whether the camera turned or travelled at all."""
        return bool(np.abs(self.world_from_camera - self.world_from_camera[:1]).max() > 1e-9)

    @property
    def mean_mask_iou(self) -> float | None:
        """Mean agreement with the mask over the frames that have one; None when none has."""
        known = self.mask_iou[np.isfinite(self.mask_iou)]
        return float(known.mean()) if len(known) else None

    def validate(self, category: Category | None = None) -> Motion:
        """Check every field, and that the motion fits `category` when one is given.

        Returns the motion itself; raises MotionError that names the field.
        """
        sizes: dict[str, int] = {}
        for name, (kind, layout) in LAYOUT.items():
            _check_field(name, kind, layout, np.asarray(getattr(self, name)), sizes)
        self._check_values()
        if category is not None:
            self._check_category(category)
        return self

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Validate and write the ``.npz`` whole or not at all; raises MotionError."""
        self.validate()
        path = Path(path)
        try:
            with written_atomically(path) as temporary, open(temporary, "wb") as stream:
                # an open file, because numpy would append .npz to any other name
                np.savez_compressed(
                    stream, **{f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
                )
        except OSError as error:
            raise MotionError(write_refusal(path, error)) from error
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Motion:
        """Read and validate; raises MotionError that names the file and the field."""
        path = Path(path)
        values: dict[str, object] = {}
        try:
            with np.load(path, allow_pickle=False) as stored:
                for name, (kind, layout) in LAYOUT.items():
                    if name not in stored:
                        if name in OPTIONAL:
                            continue
                        raise MotionError(f"{path}: field '{name}' is missing; reconstruct the clip again.")
                    array = stored[name]
                    _check_field(name, kind, layout, array, None)
                    values[name] = array if layout else array.item()
            return cls(**values).validate()  # pyright: ignore[reportArgumentType]
        except FileNotFoundError:
            raise MotionError(f"{path}: the file is missing; reconstruct the clip first.") from None
        except (
            OSError,
            ValueError,
            EOFError,
            KeyError,
            TypeError,  # an array of .npy
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise MotionError(
                f"{path}: not a readable motion file ({error}); reconstruct the clip again."
            ) from error
        except MotionError as error:
            if str(error).startswith(str(path)):
                raise
            raise MotionError(f"{path}: {error}") from None

    def _check_values(self) -> None:
        if len(self) == 0:
            raise MotionError("field 'frame_index' is empty; a motion needs at least one frame.")
        shots_of(len(self), self.cuts)
        if not self.fps > 0:
            raise MotionError(f"field 'fps' must be positive, not {self.fps}.")
        if np.any(self.frame_index < 0) or np.any(np.diff(self.frame_index) <= 0):
            raise MotionError("field 'frame_index' must rise from frame to frame, starting at 0 or later.")
        if np.any(self.image_size <= 0):
            raise MotionError("field 'image_size' must be positive.")
        if np.any(self.focal_px <= 0):
            raise MotionError("field 'focal_px' must be positive.")
        for name in ("camera_from_root", "world_from_camera"):
            pose = np.asarray(getattr(self, name), np.float64)
            rotation = pose[:, :3, :3]
            drift = np.abs(np.swapaxes(rotation, 1, 2) @ rotation - np.eye(3)).max()
            if drift > 1e-3 or np.linalg.det(rotation).min() < 0:
                raise MotionError(f"field '{name}' holds a matrix that is not a rotation and a translation.")
            if np.abs(pose[:, 3] - [0, 0, 0, 1]).max() > 1e-6:
                raise MotionError(f"field '{name}' must end in the row 0, 0, 0, 1.")
        if np.abs(np.linalg.norm(self.joint_rotations, axis=-1) - 1).max(initial=0) > 1e-3:
            raise MotionError("field 'joint_rotations' holds a quaternion that is not of length 1.")
        if np.abs(self.joint_rotations[:, 0, 1:]).max(initial=0) > 1e-3:
            raise MotionError(
                "field 'joint_rotations' turns the root, whose rotation belongs in camera_from_root."
            )
        for name in ("confidence", "joint_confidence", "mask_iou"):
            values = getattr(self, name)
            if np.nanmin(values, initial=0) < -1e-6 or np.nanmax(values, initial=0) > 1 + 1e-6:
                raise MotionError(f"field '{name}' must lie in 0…1.")

    def _check_category(self, category: Category) -> None:
        if self.category != category.name:
            raise MotionError(
                f"field 'category' is '{self.category}', but the category given is '{category.name}'."
            )
        for name, have, want in (
            ("joint_rotations", self.joint_rotations.shape[1], len(category.skeleton)),
            ("morphology", len(self.morphology), len(category.morphology)),
            ("appearance", len(self.appearance), len(category.body.appearance_basis)),
        ):
            if have != want:
                raise MotionError(
                    f"field '{name}' has {have} entries, but category '{category.name}' {category.version} "
                    f"has {want}; reconstruct the clip again with this version."
                )
        if len(self.relief) not in (0, len(category.body.vertices)):
            raise MotionError(
                f"field 'relief' has {len(self.relief)} entries, but the body of '{category.name}' has "
                f"{len(category.body.vertices)} vertices; reconstruct the clip again."
            )


def frame_rate(fps: float, frame_index: Array) -> float:
    """How many frames a second are of those numbers ``(T,)`` in a clip of `fps`, as a rule."""
    return fps / float(np.median(np.diff(frame_index))) if len(frame_index) > 1 else fps


ORDINARY = 30.0  # frames a second of clips for which times are told in frames


def pace_of(rate: float) -> int:
    """Frames that pass, at `rate` a second, while an ordinary clip shows one; at least one, two and more from 60 on."""
    return max(1, int(rate / ORDINARY))


def shots_of(count: int, cuts: Array | Sequence[int]) -> list[slice]:
    """The frames of each shot of a clip of `count` frames; cuts ``(C,)``: those that begin another one, rising.

    Raises MotionError for cuts that are no frames of the clip but its first, or do not rise.
    """
    edges = [0, *(int(cut) for cut in cuts), count]
    if len(cuts) and any(b <= a for a, b in zip(edges, edges[1:], strict=False)):
        raise MotionError(
            f"field 'cuts' must rise, between the first frame and the last of {count}, not be {edges[1:-1]}."
        )
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]


def _check_field(
    name: str, kind: str, layout: tuple[str | int, ...], array: Array, sizes: dict[str, int] | None
) -> None:
    """Raise MotionError unless `array` has the kind and shape; `sizes` collects what T, J, K and A are."""
    kinds, words = _KINDS[kind]
    if array.dtype.kind not in kinds:
        raise MotionError(f"field '{name}' must hold {words}, not {array.dtype}.")
    if array.ndim != len(layout):
        raise MotionError(f"field '{name}' has {array.ndim} dimensions instead of {len(layout)}.")
    if sizes is not None:
        for length, expected in zip(array.shape, layout, strict=True):
            wanted = expected if isinstance(expected, int) else sizes.setdefault(expected, length)
            if length != wanted:
                raise MotionError(
                    f"field '{name}' has the shape {array.shape} where {expected} should be {wanted}."
                )
    if array.dtype.kind == "f" and name != "mask_iou" and not np.all(np.isfinite(array)):
        raise MotionError(f"field '{name}' holds a value that is not finite.")
