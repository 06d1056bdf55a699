# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores on any folder of rigged glTF models: baked, filmed by random cameras, and compared with their own surface.

There is no telling how large the category would take a model to be, so that distances are scored after one scale a
clip. A joint map beside the model (see `joint_map`) adds joints and root.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from ...core.category import Category
from ...core.errors import DasrError
from ..clip_folder import mask_boxes
from ..errors import TrainingError
from ..synth.camera import CameraConfig, random_camera
from ..synth.coat import random_coat
from ..synth.corrupt import background
from ..synth.render import NormalSolver, Renderer, random_light
from ..synth.rig import Rig
from .bake_any import bake_any
from .joint_map import SUFFIX, read_joint_map
from .options import EvaluateConfig
from .rendered import score, sum_up
from .rows import Row
from .scene import Scene, TrueSurface, body_length

Array = np.ndarray

FRAMES = 24
SIZE = (320, 240)
HABITS = CameraConfig(cut_share=0.0)


def find_rigged(folder: Path) -> list[tuple[str, Path]]:
    """Name and file of every glTF model under a folder, each name once; TrainingError when there is none."""
    if not folder.is_dir():
        raise TrainingError(f"{folder}: there is no such folder")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".glb", ".gltf"))
    if not files:
        raise TrainingError(f"{folder}: holds no .glb or .gltf file")
    found: dict[str, Path] = {}
    for file in files:
        name = file.parent.name if file.stem == "scene" else file.stem
        if name in found:
            name = file.relative_to(folder).with_suffix("").as_posix().replace("/", "-")
        if name in found:  # fox.glb beside fox.gltf
            name += file.suffix
        found[name] = file
    return list(found.items())


def joint_map_file(path: Path) -> Path | None:
    """The joint map beside a model, None where there is none."""
    beside = path.with_name(path.stem + SUFFIX)
    return beside if beside.is_file() else None


def film(
    rig: Rig,
    name: str,
    rng: np.random.Generator,
    renderer: Renderer,
    joints: dict[str, int],
    frames: int = FRAMES,
    habits: CameraConfig = HABITS,
) -> Scene:
    """A clip of one of the rig's actions (its rest pose where it has none), before a random camera and background."""
    times, action = _stretch(rng, rig, frames)
    low = np.floor(times).astype(int)
    share = (times - low)[:, None, None]
    if len(rig.pose):
        high = np.minimum(low + 1, len(rig.pose) - 1)
        vertices = rig.skin(low) * (1 - share) + rig.skin(high) * share
        heads = rig.pose[low][..., :3, 3] * (1 - share) + rig.pose[high][..., :3, 3] * share
    else:
        vertices = np.repeat(rig.vertices[None], frames, 0)
        heads = np.repeat(rig.bone_heads[None], frames, 0)
    camera = random_camera(rng, vertices, np.arange(frames) / rig.fps, SIZE, habits)
    matrix = camera.camera_from_world
    seen = np.einsum("tij,tvj->tvi", matrix[:, :3, :3], vertices) + matrix[:, None, :3, 3]
    focal = np.broadcast_to(np.asarray(camera.focal_px, np.float64), frames).copy()
    own = np.asarray(rig.colours, np.float64)
    coat = replace(random_coat(rng, rig.vertices, own), light=own, dark=own)
    rgba = renderer.render(
        seen.astype(np.float32),
        rig.faces,
        focal,
        camera.principal_point,
        SIZE,
        coat,
        random_light(rng),
        matrix,
        NormalSolver(rig.vertices, rig.faces)(seen.astype(np.float32)),
    )
    images = np.where(rgba[..., 3:] > 127, rgba[..., :3], background(rng, frames, SIZE)).astype(np.uint8)
    masks = [np.where(a > 127, 255, 0).astype(np.uint8) for a in rgba[..., 3]]
    boxes = mask_boxes(masks)
    if boxes is None:
        raise TrainingError(f"{name}: the camera does not see it; is its mesh where its bones are?")
    placed = np.einsum("tij,tbj->tbi", matrix[:, :3, :3], heads) + matrix[:, None, :3, 3]
    return Scene(
        name=name,
        frames=list(images),
        masks=masks,
        boxes=boxes,
        focal=focal,
        principal_point=np.asarray(camera.principal_point, np.float64),
        fps=rig.fps,
        surface=TrueSurface(list(seen), rig.faces, "rig"),
        length=float(np.ptp(rig.vertices, axis=0).max()),
        joints={joint: placed[:, bone] for joint, bone in joints.items()},
        sized=False,
        meta={"action": action},
        masks_given=True,
    )


def _stretch(rng: np.random.Generator, rig: Rig, frames: int) -> tuple[Array, str]:
    """Pose times (frames,) of a random stretch of a random action, at its own speed; slower where it is short."""
    lengths = np.diff(rig.clip_start)
    usable = np.flatnonzero(lengths > 1)
    if not len(usable):
        return np.zeros(frames), "rest"
    clip = int(rng.choice(usable))
    span = min(frames - 1.0, lengths[clip] - 1.0)
    start = rig.clip_start[clip] + rng.uniform(0, lengths[clip] - 1 - span)
    return start + np.linspace(0, span, frames), rig.clip_names[clip]


def evaluate_rigged(
    config: EvaluateConfig,
    folder: Path,
    category: Category,
    rows: Sequence[Row],
    report: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Scores of a folder's models, `config.views` clips each; models that cannot be read are named in 'left_out'."""
    found = find_rigged(folder)
    renderer = Renderer()
    scenes: list[Scene] = []
    left_out: dict[str, str] = {}
    mapped: list[str] = []
    for n, (name, path) in enumerate(found):
        try:
            rig = bake_any(path, config.out / "rigs")
            beside = joint_map_file(path)
            joints = read_joint_map(beside, rig, category.skeleton.names) if beside else {}
            rig = rig.scaled(body_length(category) / float(np.ptp(rig.vertices, axis=0).max()))
            for view in range(config.views):
                rng = np.random.default_rng([config.seed, crc32(name.encode()), view])
                scenes.append(film(rig, f"{name}-{view}", rng, renderer, joints))
            if joints:
                mapped.append(name)
        except TrainingError as error:
            left_out[name] = str(error)
        report("filming rigged models", n + 1, len(found))
    renderer.close()
    if not scenes:
        raise DasrError(f"{folder}: no model could be filmed: " + "; ".join(left_out.values()))
    done = iter(range(1, len(scenes) + 1))
    results = score(scenes, rows, lambda: report("rigged models", next(done), len(scenes)))
    return {
        "dataset": folder.name,
        "left_out": left_out,
        "with_joint_map": mapped,
        **sum_up(results, rows),
    }
