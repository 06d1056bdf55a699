# SPDX-License-Identifier: GPL-3.0-or-later
"""A clip as the evaluation sees it: pictures, masks, camera, and as much of the truth as there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...clip import Egomotions
from ...clip.crop import crop_boxes, extract_crops
from ...core.camera import crop_info, transform
from ...core.category import Category
from ...core.motion import Motion
from ..clip_folder import load_surface, mask_boxes, read_clip_folder, read_meta
from .protocol import Surface

Array = np.ndarray
Result = TypeVar("Result")


@dataclass(eq=False)
class TrueSurface:
    """vertices: (V, 3) a frame, camera space, metres; faces (F, 3); source: where it comes from."""

    vertices: list[Array]
    faces: Array
    source: str

    def __post_init__(self) -> None:
        self._surfaces: dict[int, Surface] = {}

    def surface(self, i: int) -> Surface:
        """Frame i's surface, ready to be measured from; made once."""
        if i not in self._surfaces:
            self._surfaces[i] = Surface(self.vertices[i], self.faces, seed=1000 + i)
        return self._surfaces[i]


@dataclass(eq=False)
class Scene:
    """One clip.

    frames (H, W, 3) uint8 RGB; masks (H, W) uint8 0…255, what the network is given; boxes (T, 4); focal (T,) and
    principal_point (2,), pixels; true: the labels, in terms of category; surface: the true surface; length: metres
    from end to end of the subject at rest, by which distances become shares; joints: named true joint places (T, 3),
    camera space, of a subject without labels; sized: whether the category can know how large the subject is, or
    distances are to be scored after one scale a clip; meta: what the clip's maker wrote beside it; interpolated (T,)
    bool: frames whose mask was only filled in; masks_given: their outlines are true, not found; egomotion: how the
    camera moved, None where nobody looked; cuts (C,): frames that begin another shot.
    """

    name: str
    frames: list[Array]
    masks: list[Array]
    boxes: Array
    focal: Array
    principal_point: Array
    fps: float
    true: Motion | None = None
    category: Category | None = None
    surface: TrueSurface | None = None
    length: float = 1.0
    joints: dict[str, Array] = field(default_factory=dict)
    sized: bool = True
    meta: dict[str, Any] = field(default_factory=dict)
    interpolated: Array | None = None
    masks_given: bool = False
    egomotion: Egomotions | None = None
    cuts: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        self.center, self.side = crop_boxes(self.boxes)
        self._known: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Result]) -> Result:
        """What `make` gives, made for the first row that asks and kept for the others."""
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frames[0].shape[1], self.frames[0].shape[0]

    @property
    def split(self) -> str:
        """Which part of the subjects the clip shows: 'train', 'held-out' …"""
        return str(self.meta.get("split", "all"))

    def frame(self, i: int) -> Array:
        return self.frames[i]

    def mask(self, i: int) -> Array:
        return self.masks[i].astype(np.float32) / 255

    def crops(self, size: int) -> Array:
        """(T, 4, size, size) uint8, as the network takes them."""
        return self.once(f"crops {size}", lambda: extract_crops(self, self, self.center, self.side, size))

    @property
    def crop_info(self) -> Array:
        """(T, 3)."""
        return crop_info(self.center, self.side, self.focal, self.principal_point)


def body_length(category: Category, motion: Motion | None = None) -> float:
    """The longest side of the box round the body at rest, metres: nose to tail, or stature."""
    vertices = category.body.shaped(motion.morphology if motion is not None else None)[0]
    return float(np.ptp(vertices, axis=0).max())


def posed_in_camera(category: Category, motion: Motion) -> Array:
    """The motion's surface (T, V, 3) in camera space."""
    return transform(motion.camera_from_root, category.posed_vertices(motion))


def read_scene(folder: Path, category: Category, rigs: Path | None = None) -> Scene | None:
    """A clip folder with labels; None when its masks never show the subject.

    The true surface is the one in the folder's surface.npz, else that of the rig in `rigs` that was rendered, where
    the labels say in which pose, else the category's body as the labels pose it.
    """
    true = Motion.load(folder / "motion.npz").validate(category)
    frames, masks = read_clip_folder(folder, true)
    boxes = mask_boxes(masks)
    if boxes is None:
        return None
    meta = read_meta(folder)
    return Scene(
        name=folder.name,
        frames=frames,
        masks=masks,
        boxes=boxes,
        focal=true.focal_px,
        principal_point=true.principal_point,
        fps=true.fps,
        true=true,
        category=category,
        surface=_true_surface(folder, category, true, meta, rigs),
        length=body_length(category, true),
        meta=meta,
    )


def _true_surface(
    folder: Path, category: Category, true: Motion, meta: dict[str, Any], rigs: Path | None
) -> TrueSurface:
    stored = load_surface(folder)
    if stored is not None:
        return TrueSurface(list(stored[0]), stored[1], "surface")
    if rigs is not None and meta.get("source") == "rig":
        from .rig_surface import rendered_rig

        found = rendered_rig(rigs, category, true, meta)
        if found is not None:
            return found
    return TrueSurface(list(posed_in_camera(category, true)), category.body.faces, "labels")
