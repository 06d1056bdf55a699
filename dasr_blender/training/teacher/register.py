# SPDX-License-Identifier: GPL-3.0-or-later
"""Videos as a teacher takes them up: masks, the student's word, tracking and the fit; bad frames rejected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.ndimage import median_filter

from ...clip import in_shots, load_clip
from ...clip.flow import flow
from ...core.category import Category
from ...core.motion import Motion, shots_of
from ...core.views import View, read_views
from ...predict import fit
from ..errors import TrainingError
from ..evaluate.real import RealClip, find_clips, find_masks, real_scene
from ..evaluate.rows import Tracked, feed_forward
from ..evaluate.scene import Scene
from .anchors import anchored
from .clips import TeacherClip
from .product import folder_names

Array = np.ndarray
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RegisterConfig:
    """When a frame is good enough to learn from."""

    least_iou: float = 0.45
    """agreement of body and mask under which a frame is rejected"""
    kept_iou: float = 0.65
    """agreement at the end under which a frame is left out of the pseudo ground truth"""
    least_mask: float = 0.004
    """share of the picture that the mask must fill"""
    area: tuple[float, float] = (0.5, 1.5)
    """mask's area over the usual one within two seconds either way, beyond which the mask took in or lost something"""
    jump: float = 60.0
    """degrees that the root may turn from one frame to the next"""
    start: Literal["fit", "student", "rest"] = "fit"
    """what poses start from: 'fit', 'student' (tracking alone), or 'rest' (rest pose, from the side, without a
    student: what the ablation compares with)"""
    max_side: int = 960


def register(
    category: Category,
    videos: Sequence[Path],
    cache: Path,
    held: Sequence[str] = (),
    only: Sequence[str] = (),
    config: RegisterConfig = RegisterConfig(),
    report: Report | None = None,
) -> list[TeacherClip]:
    """Every video with its first poses. Masks are kept in `cache`; held: names of those left out of learning.

    Views set by hand beside a video (`core.views`) anchor its poses. Raises TrainingError, a ClipError or a ViewError
    when a video cannot be used.
    """
    found = find_clips(videos, only)
    unknown = set(held) - {real.name for real in found}
    if unknown:
        raise TrainingError(
            f"There is no clip {sorted(unknown)[0]} to leave out; there are {', '.join(c.name for c in found)}"
        )
    learned = [real.name for real in found if real.name not in held]
    if not learned:
        raise TrainingError("All clips are left out, and none is there to learn from; name fewer of them with --held")
    folder_names(learned)  # said now, not when hours have gone into them
    row = None if config.start == "rest" else feed_forward("start", category)
    out = []
    for n, real in enumerate(found):
        scene = read_scene(real, cache, category, config.max_side)
        views = read_views(real.source, category)
        out.append(start(category, scene, row, config, real.name in held, views))
        if report is not None:
            report(real.name, n + 1, len(found))
    if not any(len(clip.used) for clip in out if not clip.held):
        raise TrainingError("No frame of any clip is good enough to learn from; look at the masks")
    return out


def read_scene(real: RealClip, cache: Path, category: Category, max_side: int = 960) -> Scene:
    """A video at its working size, with its own masks or automatic ones; the focal length is the assumed one."""
    clip = in_shots(load_clip(real.source, max_side=max_side))
    masks, _ = find_masks(real, clip, cache, category)
    return real_scene(real, clip, masks)


def start(
    category: Category,
    scene: Scene,
    row: Tracked | None,
    config: RegisterConfig,
    held: bool = False,
    views: Sequence[View] = (),
) -> TeacherClip:
    """A clip with the poses it starts from, at rest without a row; views: set by hand, which the poses agree with."""
    if row is None:
        motion = anchored(rest_motion(category, scene), views)
        return TeacherClip(scene, motion, None, mask_quality(scene, config), held=held)
    answer = row.answer(scene)
    if answer is None or answer.prediction is None or answer.tracked is None:
        raise TrainingError(f"{scene.name}: the student has no answer")
    motion, prediction = anchored(answer.motion, views), answer.prediction
    if config.start == "fit":
        crops = scene.crops(category.network.input_size)
        found = fit(
            category, anchored(answer.tracked, views), prediction, crops, scene.center, scene.side,
            begin=motion, flow=flow, interpolated=scene.interpolated, quality="standard",
        )  # fmt: skip
        motion, prediction = found.motion, found.prediction
    return TeacherClip(scene, motion, prediction, quality(scene, motion, config), held=held)


def has_mask(scene: Scene, config: RegisterConfig) -> Array:
    """Frames (T,) bool with a mask of their own that is large enough."""
    good = _areas(scene) > config.least_mask
    return good if scene.interpolated is None else good & ~scene.interpolated


def mask_quality(scene: Scene, config: RegisterConfig) -> Array:
    """1 for frames to learn from: with a mask of their own, and not suddenly larger or smaller, (T,)."""
    area = _areas(scene)
    window = 2 * max(1, round(2 * scene.fps)) + 1
    shots = [area[shot] for shot in shots_of(len(area), scene.cuts)]
    usual = [median_filter(shot, min(window, len(shot)), mode="nearest") for shot in shots]
    ratio = area / np.maximum(np.concatenate(usual), 1e-9)
    good = has_mask(scene, config) & (ratio > config.area[0]) & (ratio < config.area[1])
    return good.astype(np.float64)


def _areas(scene: Scene) -> Array:
    """Share of the picture that each mask fills, (T,)."""
    return np.array([(mask > 127).mean() for mask in scene.masks])


def quality(scene: Scene, motion: Motion, config: RegisterConfig) -> Array:
    """How far each frame is to be trusted, (T,): its agreement with the mask, 0 where it is rejected."""
    agree = np.nan_to_num(np.asarray(motion.mask_iou, np.float64), nan=0.0)
    good = mask_quality(scene, config) * (agree > config.least_iou)
    turn = motion.camera_from_root[1:, :3, :3] @ np.swapaxes(motion.camera_from_root[:-1, :3, :3], 1, 2)
    angle = np.rad2deg(np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    angle[motion.cuts - 1] = 0  # it is the camera that leaps there
    leap = np.flatnonzero(angle > config.jump)
    good[leap] = 0
    good[np.minimum(leap + 1, len(good) - 1)] = 0
    return good * np.clip(agree, 0, 1)


def rest_motion(category: Category, scene: Scene) -> Motion:
    """The body at rest, seen from its left side, as large as each mask."""
    count = len(scene)
    joints = np.zeros((count, len(category.skeleton), 4))
    joints[..., 0] = 1
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3] = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # −Y to the right, Z up
    vertices = category.body.vertices
    middle, length = 0.5 * (vertices.min(0) + vertices.max(0)), float(np.ptp(vertices, axis=0).max())
    depth = scene.focal * length / np.maximum(scene.side / 1.2, 1)
    centre = (scene.center - scene.principal_point) / scene.focal[:, None] * depth[:, None]
    pose[:, :2, 3], pose[:, 2, 3] = centre, depth
    pose[:, :3, 3] -= pose[:, :3, :3] @ middle
    return Motion(
        fps=scene.fps, frame_index=np.arange(count), image_size=np.array(scene.size), focal_px=scene.focal,
        principal_point=scene.principal_point, camera_from_root=pose, joint_rotations=joints,
        morphology=np.zeros(len(category.morphology)), appearance=np.zeros(len(category.body.appearance_basis)),
        confidence=np.ones(count), joint_confidence=np.ones((count, len(category.skeleton))),
        mask_iou=np.full(count, np.nan), cuts=scene.cuts, category=category.name,
        category_version=category.version,
    )  # fmt: skip


def common_morphology(clips: Sequence[TeacherClip]) -> Array:
    """The clips' proportions (K,) as one: their median, each clip weighted by its good frames."""
    values = np.stack([clip.motion.morphology for clip in clips if not clip.held])
    weight = np.array([clip.quality.sum() + 1e-6 for clip in clips if not clip.held])
    order = np.argsort(values, axis=0)
    out = np.empty(values.shape[1])
    for k, column in enumerate(order.T):
        share = np.cumsum(weight[column]) / weight.sum()
        out[k] = values[column[np.searchsorted(share, 0.5)], k]
    return out
