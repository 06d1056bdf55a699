# SPDX-License-Identifier: GPL-3.0-or-later
"""Pseudo-ground-truth folders of the toy quadruped, drawn with our own rasteriser: training data for tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from toy import toy_rotations

from dasr_blender.core import Category, Motion, default_focal, project, rasterize, transform
from dasr_blender.core.rotation import rotvec_to_matrix

UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def random_motion(category: Category, frames: int, seed: int, size: tuple[int, int] = (160, 120)) -> Motion:
    """The toy seen from any side by a level camera, turning and drifting a little."""
    rng = np.random.default_rng(seed)
    yaw = rng.uniform(-np.pi, np.pi) + np.linspace(0, rng.normal(0, 0.3), frames)
    tilt = rotvec_to_matrix(np.array([rng.uniform(-0.1, 0.4), 0, 0]))
    pose = np.tile(np.eye(4), (frames, 1, 1))
    pose[:, :3, :3] = tilt @ UPRIGHT @ rotvec_to_matrix(yaw[:, None] * np.array([0, 0, 1.0]))
    pose[:, :3, 3] = [rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2), rng.uniform(2.2, 3.2)]
    pose[:, 0, 3] += np.linspace(0, rng.normal(0, 0.1), frames)
    joints = len(category.skeleton)
    return Motion(
        fps=24.0,
        frame_index=np.arange(frames),
        image_size=np.array(size),
        focal_px=np.full(frames, default_focal(size) * rng.uniform(0.8, 1.2)),
        principal_point=np.array(size) / 2,
        camera_from_root=pose,
        joint_rotations=toy_rotations(category.skeleton, frames, seed=seed),
        morphology=rng.uniform(-0.2, 0.2, len(category.morphology)),
        appearance=np.zeros(len(category.body.appearance_basis)),
        confidence=np.ones(frames),
        joint_confidence=np.ones((frames, joints)),
        mask_iou=np.ones(frames),
        category=category.name,
        category_version=category.version,
        source="toy",
    )


def render(category: Category, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3) uint8 and masks (T, H, W) uint8 of a motion."""
    posed = transform(motion.camera_from_root, category.posed_vertices(motion))
    pixels = project(posed, motion.focal_px, motion.principal_point)
    width, height = (int(n) for n in motion.image_size)
    raster = rasterize(np.concatenate([pixels, posed[..., 2:]], -1), category.body.faces, (width, height))
    colour = raster.interpolate(np.asarray(category.body.appearance_mean)) * 255
    mask = raster.mask
    frames = np.where(mask[..., None], colour, 128).astype(np.uint8)
    return frames, mask.astype(np.uint8) * 255


def write_clips(category: Category, folder: Path, clips: int, frames: int = 12, seed: int = 0) -> Path:
    """`clips` folders as the synthetic generator writes them; returns `folder`."""
    for number in range(clips):
        motion = random_motion(category, frames, seed * 1000 + number)
        images, masks = render(category, motion)
        clip = folder / f"{seed:02d}{number:04d}"
        for kind in ("frames", "masks"):
            (clip / kind).mkdir(parents=True)
        for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
            cv2.imwrite(str(clip / "frames" / f"{i:05d}.jpg"), image[..., ::-1])
            cv2.imwrite(str(clip / "masks" / f"{i:05d}.png"), mask)
        motion.save(clip / "motion.npz")
        (clip / "meta.json").write_text("{}")
    return folder
