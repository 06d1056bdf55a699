# SPDX-License-Identifier: GPL-3.0-or-later
"""What the teacher leaves behind: pseudo ground truth for the student, and the subject's mesh to look at."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ...core.category import Category
from ...core.contacts import runs
from ...core.files import written_atomically
from ...core.mesh import vertex_normals
from ...core.motion import Motion
from ...core.rotation import rotvec_to_matrix
from ...core.skeleton import skin_transforms
from ...core.skinning import linear_blend
from ...overlay import draw_body
from ..clip_folder import write_clip_folder
from ..errors import TrainingError
from .clips import TeacherClip

Array = np.ndarray

SHORTEST = 12  # frames in a row that the student's temporal stage learns from
_JPEG_QUALITY = 92
_GREY = 190.0
_BEHIND = 52  # as behind the second view of the overlay


def write_pseudo_truth(
    category: Category, clips: Sequence[TeacherClip], out: Path, shortest: int = SHORTEST
) -> list[Path]:
    """Folders as the synthetic generator writes them, one for each run of frames within a shot that were not rejected,
    and ``body.npz`` beside them; the folders written.

    A run shorter than `shortest` is left out. Folders that an earlier call made of the same clip are replaced.
    Pixels are those of the clips' working size.  Raises TrainingError when two clips have one name, and OSError.
    """
    names = folder_names([clip.name for clip in clips])
    out.mkdir(parents=True, exist_ok=True)
    if category.path is not None:
        with written_atomically(out / "body.npz") as temporary:
            shutil.copyfile(category.path / "body.npz", temporary)
    written = []
    for name, clip in zip(names, clips, strict=True):
        for old in out.glob(f"{name}-[0-9][0-9][0-9][0-9][0-9]"):
            shutil.rmtree(old)
        good = [np.arange(*run) for run in runs(clip.quality > 0, True, clip.motion.shots)]
        good = [run for run in good if len(run) >= shortest]
        kept = np.concatenate(good) if good else np.zeros(0, np.int64)
        dropped = np.setdiff1d(np.arange(len(clip)), kept)
        for run in good:
            folder = out / f"{name}-{run[0]:05d}"
            motion = _part(category, clip, run)
            masks = [np.where(clip.scene.masks[i] > 127, np.uint8(255), np.uint8(0)) for i in run]
            meta = _meta(clip, run, dropped)
            frames = [clip.scene.frames[i] for i in run]
            written.append(write_clip_folder(folder, frames, masks, motion, meta, _JPEG_QUALITY))
    return written


def folder_names(clips: Sequence[str]) -> list[str]:
    """What the folders of clips with these names begin with. Raises TrainingError when two of them are alike."""
    names = [re.sub(r"[^\w-]+", "_", name).lstrip("_-") or "clip" for name in clips]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise TrainingError(f"Two clips are called {sorted(twice)[0]}; give each a name of its own")
    return names


def _part(category: Category, clip: TeacherClip, run: Array) -> Motion:
    """The motion of some frames of a clip, its confidence that of the teacher."""
    motion = clip.motion.part(run)
    world = np.asarray(motion.world_from_camera, np.float64)
    return replace(
        motion,
        world_from_camera=np.linalg.inv(world[0]) @ world,
        confidence=np.clip(clip.quality[run], 0, 1),
        image_size=np.array(clip.scene.size),
        source=clip.name,
    ).validate(category)


def _meta(clip: TeacherClip, run: Array, dropped: Array) -> dict[str, object]:
    """What is written beside a run: where it comes from and how good it is."""
    quality = clip.quality[run]
    iou = np.asarray(clip.motion.mask_iou, np.float64)[run]
    known = iou[np.isfinite(iou)]
    return {
        "source": "teacher",
        "clip": clip.name,
        "subject": clip.subject,
        "held": clip.held,
        "split": "held-out" if clip.held else "train",
        "first": int(run[0]),
        "frames": len(run),
        "quality": {"mean": round(float(quality.mean()), 4), "least": round(float(quality.min()), 4)},
        "mask_iou": round(float(known.mean()), 4) if len(known) else None,
        "dropped": dropped.tolist(),
        "jpeg_quality": _JPEG_QUALITY,
    }


def write_glb(category: Category, motion: Motion, frame: int, colours: Array, path: Path) -> Path:
    """The posed body of one frame as .glb: metres, Y up and looking along +Z, the root at the origin.

    colours ``(V, 3)`` sRGB 0…1; written linear, as glTF 2.0 §3.7.2.1 has vertex colours.
    """
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    faces = category.body.faces
    posed = category.posed_vertices(motion.part(slice(frame, frame + 1)))[0].astype(np.float64)
    upright = posed[:, [0, 2, 1]] * [1.0, 1.0, -1.0]  # body space is Z up, the animal looks along −Y
    colours = np.clip(np.asarray(colours, np.float64), 0, 1)
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    shown = np.concatenate([linear, np.ones((len(linear), 1))], 1)
    mesh = trimesh.Trimesh(upright, faces, vertex_normals=vertex_normals(upright, faces), process=False)
    mesh.visual = TextureVisuals(
        material=PBRMaterial(name=category.name, metallicFactor=0.0, roughnessFactor=1.0)
    )
    mesh.visual.vertex_attributes["color"] = np.round(shown * 255).astype(np.uint8)
    with written_atomically(path) as temporary:
        with open(temporary, "wb") as stream:
            mesh.export(stream, file_type="glb", include_normals=True)
    return path


def turntable(
    category: Category,
    morphology: Array,
    relief: Array,
    colours: Array,
    rotations: Array | None = None,
    views: int = 8,
    size: int = 256,
) -> Array:
    """The body from all sides, ``(2 size, views size, 3)`` uint8: coloured above, shaded grey below.

    morphology ``(K,)``, relief ``(V,)`` metres or nothing, colours ``(V, 3)`` 0…1, rotations ``(J, 4)`` or at rest.
    Seen from a little above, from far away, the animal's left side second.
    """
    body = category.body
    points, joints = body.shaped(morphology, relief)
    if rotations is not None:
        transforms = skin_transforms(category.skeleton, joints, np.asarray(rotations)[None])
        points = linear_blend(points, body.skin_index, body.skin_weight, transforms)[0]
    points = points - 0.5 * (points.min(0) + points.max(0))
    reach = 1.05 * float(np.linalg.norm(points, axis=1).max())
    wide = 2 * size  # drawn twice as large and shrunk
    distance = 8 * reach
    focal = 0.5 * wide / reach * distance
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # body space to the camera's: x right, y down
    tilt = rotvec_to_matrix(np.array([np.radians(12), 0, 0]))
    grey = np.full((len(points), 3), _GREY)
    rows: list[list[Array]] = [[], []]
    for angle in np.linspace(0, 2 * np.pi, views, endpoint=False):
        turned = points @ (tilt @ upright @ rotvec_to_matrix(np.array([0, 0, -angle]))).T
        turned[:, 2] += distance
        for row, paint in zip(rows, (255 * np.asarray(colours, np.float64), grey), strict=True):
            drawn, mask = draw_body(
                turned, body.faces, paint, focal, np.array([wide / 2, wide / 2]), (wide, wide)
            )
            picture = np.where(mask[..., None], drawn, np.uint8(_BEHIND))
            row.append(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
