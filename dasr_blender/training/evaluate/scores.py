# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of a motion against the true one, frame by frame. No alignment of any kind, and no borrowed translation."""

from __future__ import annotations

import cv2
import numpy as np

from ...core.camera import project, transform
from ...core.category import Category
from ...core.motion import Motion
from ...core.raster import silhouette
from ...core.rotation import geodesic, quat_to_matrix
from ...core.skeleton import forward_kinematics

Array = np.ndarray


def compare(category: Category, found: Motion, true: Motion) -> dict[str, Array]:
    """Errors ``(T,)`` of the same frames of the same clip.

    root_deg: angle between the roots' rotations; translation: distance between the roots as a share of the
    true depth; joints_deg: mean angle over the joints whose truth is known; mpjpe_cm: mean distance of the
    joints in camera space, and mpjpe_root_cm after the roots are laid upon each other, both after scaling the
    found one by true over found root depth in mpjpe_scaled_cm, since one camera cannot tell size from distance;
    morphology: mean error in standard deviations (the same in every frame).
    """
    weight = true.joint_confidence[:, 1:]
    angle = geodesic(quat_to_matrix(found.joint_rotations), quat_to_matrix(true.joint_rotations))[:, 1:]
    places = []
    for motion in (found, true):
        joints = category.body.shaped(motion.morphology)[1]
        places.append(forward_kinematics(category.skeleton, joints, motion.joint_rotations)[..., :3, 3])
    seen, truly = (transform(m.camera_from_root, p) for m, p in zip((found, true), places, strict=True))
    depth = true.camera_from_root[:, 2, 3]
    ratio = (depth / found.camera_from_root[:, 2, 3])[:, None, None]
    roots = [m.camera_from_root[:, None, :3, 3] for m in (found, true)]

    def distance(a: Array, b: Array) -> Array:
        return 100 * np.linalg.norm(a - b, axis=-1).mean(1)

    std = np.maximum(category.body.morphology_std, 1e-4)
    shape = np.abs((np.asarray(found.morphology) - true.morphology) / std).mean()
    return {
        "root_deg": np.rad2deg(geodesic(found.camera_from_root[:, :3, :3], true.camera_from_root[:, :3, :3])),
        "translation": np.linalg.norm(roots[0] - roots[1], axis=-1)[:, 0] / depth,
        "joints_deg": np.rad2deg((angle * weight).sum(1) / np.maximum(weight.sum(1), 1e-6)),
        "mpjpe_cm": distance(seen, truly),
        "mpjpe_scaled_cm": distance(seen * ratio, truly),
        "mpjpe_root_cm": distance(seen - roots[0], truly - roots[1]),
        "morphology": np.full(len(depth), shape),
    }


def overlap(category: Category, motion: Motion, masks: list[Array], longest: int = 320) -> Array:
    """Intersection over union ``(T,)`` of the motion's silhouette with masks (H, W), NaN where one is empty."""
    width, height = (int(n) for n in motion.image_size)
    shrink = min(1.0, longest / max(width, height))
    size = round(width * shrink), round(height * shrink)
    posed = transform(motion.camera_from_root, category.posed_vertices(motion))
    pixels = project(posed, motion.focal_px, motion.principal_point) * (size[0] / width, size[1] / height)
    drawn = silhouette(np.concatenate([pixels, posed[..., 2:]], -1), category.body.faces, size)
    scale = 255.0 if masks[0].dtype == np.uint8 else 1.0
    seen = np.stack(
        [cv2.resize(m.astype(np.float32) / scale, size, interpolation=cv2.INTER_AREA) for m in masks]
    )
    mask = seen > 0.5
    iou = (mask & drawn).sum((1, 2)) / np.maximum((mask | drawn).sum((1, 2)), 1)
    return np.where(mask.any((1, 2)), iou, np.nan)
