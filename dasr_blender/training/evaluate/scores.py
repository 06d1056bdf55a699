# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of a motion against the true one, frame by frame. No borrowed translation, and no alignment but where the
name says so."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...core.camera import encode_root, project, transform
from ...core.category import Category
from ...core.motion import Motion
from ...core.raster import rasterize, silhouette
from ...core.rotation import geodesic, quat_to_matrix
from ...core.skeleton import forward_kinematics
from ...predict import Prediction
from ..errors import TrainingError
from .protocol import Surface, ama_protocol, surface_scores, umeyama
from .scene import Scene, body_length, posed_in_camera

Array = np.ndarray

EVERY = 3  # of a clip's frames, how many apart are those whose surfaces are measured by area
SURE = 0.5  # confidence above which a cell of the surface map is taken to show the subject


def joint_places(category: Category, motion: Motion) -> Array:
    """Joints (T, J, 3) in camera space."""
    joints = category.body.shaped(motion.morphology)[1]
    places = forward_kinematics(category.skeleton, joints, motion.joint_rotations)[..., :3, 3]
    return transform(motion.camera_from_root, places)


def compare(
    category: Category, found: Motion, true: Motion, true_category: Category | None = None
) -> dict[str, Array]:
    """Errors ``(T,)`` of the same frames of the same clip; true_category: when its body is another than category's.

    root_deg: angle between the roots' rotations; translation: distance between the roots as a share of the
    true depth; joints_deg: mean angle over the joints whose truth is known; mpjpe_cm: mean distance of the
    joints in camera space; mpjpe_scaled_cm the same after scaling the found ones by true over found root depth,
    since one camera cannot tell size from distance; mpjpe_root_cm after the roots are laid upon each other, and
    pa_mpjpe_cm after the best similarity (Procrustes), frame by frame; accel_cm: mean difference of the joints'
    accelerations in cm a frame², NaN at the ends; accel_true_cm the truth's own; morphology: mean error in
    standard deviations (the same in every frame).
    """
    weight = true.joint_confidence[:, 1:]
    angle = geodesic(quat_to_matrix(found.joint_rotations), quat_to_matrix(true.joint_rotations))[:, 1:]
    depth = true.camera_from_root[:, 2, 3]
    ratio = (depth / found.camera_from_root[:, 2, 3])[:, None, None]
    roots = [m.camera_from_root[:, None, :3, 3] for m in (found, true)]
    std = category.body.morphology_scale
    shape = np.nan  # proportions of another body mean something else
    if true_category is None or true_category.morphology == category.morphology:
        shape = np.abs((np.asarray(found.morphology) - true.morphology) / std).mean()
    places = [joint_places(category, found), joint_places(true_category or category, true)]
    return {
        "root_deg": np.rad2deg(geodesic(found.camera_from_root[:, :3, :3], true.camera_from_root[:, :3, :3])),
        "translation": np.linalg.norm(roots[0] - roots[1], axis=-1)[:, 0] / depth,
        "joints_deg": np.rad2deg((angle * weight).sum(1) / np.maximum(weight.sum(1), 1e-6)),
        "mpjpe_scaled_cm": _distance(places[0] * ratio, places[1]),
        "mpjpe_root_cm": _distance(places[0] - roots[0], places[1] - roots[1]),
        "morphology": np.full(len(depth), shape),
        **compare_places(*places),
    }


def compare_places(found: Array, true: Array) -> dict[str, Array]:
    """Of joints (T, J, 3) in camera space: mpjpe_cm, pa_mpjpe_cm, accel_cm and accel_true_cm (see `compare`)."""
    aligned = np.stack([umeyama(f, t, scale=True)(f) for f, t in zip(found, true, strict=True)])
    return {
        "mpjpe_cm": _distance(found, true),
        "pa_mpjpe_cm": _distance(aligned, true),
        "accel_cm": _acceleration(found - true),
        "accel_true_cm": _acceleration(true),
    }


def _distance(a: Array, b: Array) -> Array:
    return 100 * np.linalg.norm(a - b, axis=-1).mean(1)


def _acceleration(places: Array) -> Array:
    """Mean length of the second difference of (T, N, 3), cm a frame², (T,), NaN at the ends."""
    out = np.full(len(places), np.nan)
    if len(places) > 2:
        second = places[2:] - 2 * places[1:-1] + places[:-2]
        out[1:-1] = 100 * np.linalg.norm(second, axis=-1).mean(1)
    return out


def clip_scale(category: Category, found: Motion, scene: Scene) -> float:
    """The scale about the camera that brings the found surface's median depth to the true one, one for the clip."""
    if scene.surface is None:
        return 1.0
    true_depth = np.array([np.median(v[:, 2]) for v in scene.surface.vertices])
    return float(np.median(true_depth / np.median(posed_in_camera(category, found)[..., 2], axis=1)))


def surface_errors(category: Category, found: Motion, scene: Scene) -> dict[str, Array]:
    """Errors ``(T,)`` of the surface; both protocols of `protocol`, and ours as a share of the subject's length.

    cd_scaled_share: ours after `clip_scale`; so are all of ours for subjects whose size the category cannot know.
    Ours looks at every EVERY-th frame and is NaN in the others.
    """
    if scene.surface is None:
        raise TrainingError(f"{scene.name}: has no true surface")
    vertices = posed_in_camera(category, found)
    ama = ama_protocol(vertices, scene.surface.vertices, found.focal_px, scene.focal)
    looked = np.arange(0, len(vertices), EVERY)
    ours = [Surface(vertices[i], category.body.faces, seed=int(i)) for i in looked]
    theirs = [scene.surface.surface(int(i)) for i in looked]
    scaled = surface_scores(ours, theirs, clip_scale(category, found, scene))
    plain = surface_scores(ours, theirs) if scene.sized else scaled

    def spread(values: Array) -> Array:
        out = np.full(len(vertices), np.nan)
        out[looked] = values
        return out

    length = 100 * scene.length
    errors = {"cd_cm": spread(plain[:, 0]), "cd_share": spread(plain[:, 0] / length)}
    errors["cd_scaled_share"] = spread(scaled[:, 0] / length)
    errors["ama_cd_cm"] = ama[:, 0]
    for k, name in enumerate(("f10", "f5", "f2")):
        errors[name], errors[f"ama_{name}"] = spread(plain[:, 1 + k]), ama[:, 1 + k]
    return errors


def hypothesis_errors(prediction: Prediction, scene: Scene, count: int) -> dict[str, Array]:
    """Root rotation error (T,) before tracking, degrees: of the network's likeliest hypothesis, and of its best.

    count: hypotheses that are the network's own, the first of those in the prediction.
    """
    if scene.true is None:
        raise TrainingError(f"{scene.name}: has no true root")
    rotation, _ = encode_root(
        scene.true.camera_from_root, scene.center, scene.side, scene.focal, scene.principal_point
    )
    angle = np.rad2deg(geodesic(prediction.root_rotation[:, :count], rotation[:, None]))
    likeliest = prediction.root_logprob[:, :count].argmax(1)
    return {"likeliest_deg": angle[np.arange(len(angle)), likeliest], "best_deg": angle.min(1)}


def surface_map_errors(category: Category, prediction: Prediction, scene: Scene) -> dict[str, Array]:
    """Mean distance (T,) between the canonical point the network names and the true one, over the crop's grid.

    In cm, and as a share of the mean body's length; over cells the truth and the mask show and the network is sure
    of. surface_map_seen: the share of the shown cells that it is sure of. Empty for a network without the map.
    """
    if prediction.surface_map is None or scene.true is None:
        return {}
    grid = prediction.surface_map.shape[1]
    posed = posed_in_camera(category, scene.true)
    pixels = project(posed, scene.focal, scene.principal_point)
    corner = scene.center - scene.side[:, None] / 2
    pixels = (pixels - corner[:, None]) * (grid / scene.side)[:, None, None]
    raster = rasterize(np.concatenate([pixels, posed[..., 2:]], -1), category.body.faces, (grid, grid))
    canonical = raster.interpolate(np.asarray(category.body.vertices, np.float64))
    masks = np.stack(
        [
            cv2.resize(m, (grid, grid), interpolation=cv2.INTER_AREA)
            for m in scene.crops(category.network.input_size)[:, 3]
        ]
    )
    shown = raster.mask & (masks > 127)
    sure = shown
    if prediction.surface_confidence is not None:
        sure = shown & (prediction.surface_confidence > SURE)
    error = 100 * np.linalg.norm(prediction.surface_map - canonical, axis=-1)
    cells = sure.sum((1, 2))
    mean = np.where(cells > 0, (error * sure).sum((1, 2)) / np.maximum(cells, 1), np.nan)
    return {
        "surface_map_cm": mean,
        "surface_map_share": mean / (100 * body_length(category)),
        "surface_map_seen": cells / np.maximum(shown.sum((1, 2)), 1),
    }


def jitter(pixels: Array, areas: Array, cuts: Sequence[int] | Array = ()) -> Array:
    """Mean acceleration ``(T,)`` of projected vertices (T, V, 2) in % of √(mask area) a frame², NaN at the ends.

    areas ``(T,)``: of the masks, pixels².  cuts: frames that begin another shot, which is an end and a beginning.
    """
    out = np.full(len(pixels), np.nan)
    if len(pixels) > 2:
        jolt = np.linalg.norm(pixels[2:] - 2 * pixels[1:-1] + pixels[:-2], axis=-1).mean(1)
        out[1:-1] = 100 * jolt / np.sqrt(np.maximum(areas[1:-1], 1))
        for cut in cuts:
            out[cut - 1 : cut + 1] = np.nan
    return out


def picture_jitter(category: Category, found: Motion, scene: Scene) -> dict[str, Array]:
    """jitter_percent of the found surface in the picture, and jitter_true_percent of the true one where it is known."""
    areas = np.array([(m > 127).sum() for m in scene.masks], np.float64)

    def of(vertices: Array) -> Array:
        return jitter(project(vertices, scene.focal, scene.principal_point), areas)

    out = {"jitter_percent": of(posed_in_camera(category, found))}
    if scene.surface is not None and len({len(v) for v in scene.surface.vertices}) == 1:
        true = np.stack(scene.surface.vertices)
        out["jitter_true_percent"] = scene.once("jitter", lambda: of(true))
    return out


def draw(category: Category, motion: Motion, size: tuple[int, int]) -> Array:
    """Silhouettes (T, h, w) bool of a motion in a picture of size (width, height)."""
    width, height = (int(n) for n in motion.image_size)
    posed = posed_in_camera(category, motion)
    pixels = project(posed, motion.focal_px, motion.principal_point) * (size[0] / width, size[1] / height)
    return silhouette(np.concatenate([pixels, posed[..., 2:]], -1), category.body.faces, size)


def overlap(category: Category, motion: Motion, masks: list[Array], longest: int = 320) -> Array:
    """Intersection over union ``(T,)`` of the motion's silhouette with masks (H, W), NaN where one is empty."""
    width, height = (int(n) for n in motion.image_size)
    shrink = min(1.0, longest / max(width, height))
    size = round(width * shrink), round(height * shrink)
    drawn = draw(category, motion, size)
    scale = 255.0 if masks[0].dtype == np.uint8 else 1.0
    seen = np.stack(
        [cv2.resize(m.astype(np.float32) / scale, size, interpolation=cv2.INTER_AREA) for m in masks]
    )
    mask = seen > 0.5
    iou = (mask & drawn).sum((1, 2)) / np.maximum((mask | drawn).sum((1, 2)), 1)
    return np.where(mask.any((1, 2)), iou, np.nan)
