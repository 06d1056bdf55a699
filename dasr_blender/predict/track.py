# SPDX-License-Identifier: GPL-3.0-or-later
"""One consistent, smooth motion out of the student's hypotheses.

1. The student's hypotheses are gathered into a few distinct views, with the view from the other end beside them.
   Each is moved towards what the surface map shows, and so that it fills the mask's box; then its silhouette is
   compared with the mask, and its points with the surface map.
2. Dynamic programming (Viterbi) picks one view a frame: probability, silhouette, surface map, landmarks, and how far
   the root would have to jump.
3. The root's translation is solved again from the silhouette the picture really shows, held near the prediction.
4. Root and joints are smoothed over time without lag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..core.category import Category
from ..core.motion import Motion, shots_of
from ..core.progress import shot_by_shot
from ..core.rotation import geodesic, make_continuous, matrix_to_quat, quat_to_matrix
from ..core.skeleton import clamp_rotations
from ..core.smooth import smooth, smooth_rotations
from .coarse import CoarseBody, coarse_body
from .config import DEFAULTS, TrackConfig
from .errors import PredictError
from .path import choose
from .placing import fit_box, fit_silhouette
from .silhouettes import CropView, check_crops
from .student import Prediction
from .surface import Surface, disagreement, map_view, read_surface, refine
from .views import Views, gather

Array = np.ndarray


def track(
    category: Category,
    prediction: Prediction,
    center: Array,
    side: Array,
    masks: Array,
    focal: Array | float,
    principal_point: Array,
    image_size: tuple[int, int] | Array,
    fps: float,
    config: TrackConfig = DEFAULTS,
    progress: Callable[[float, str], None] | None = None,
    cuts: Sequence[int] | Array = (),
) -> Motion:
    """The motion of a clip.

    center ``(T, 2)`` and side ``(T,)``: the crops, pixels.  masks ``(T, S, S)``: the crops' masks, uint8 0…255
    or 0…1.  focal: pixels, one number or ``(T,)``.  principal_point ``(2,)``, image_size (width, height): pixels.
    cuts: frames that begin another shot, each of which is tracked by itself.
    The motion's confidence is the probability of the chosen hypothesis times the agreement with the mask.
    Raises PredictError when the arrays do not belong to one clip.
    """
    count = len(prediction)
    check_crops(count, center, side, masks)
    if np.shape(focal) not in ((), (count,)):
        raise PredictError(f"The focal length is one number or one a frame, ({count},), not {np.shape(focal)}.")
    focal = np.broadcast_to(np.asarray(focal, np.float64), (count,)).copy()
    center, side, pp = (np.asarray(a, np.float64) for a in (center, side, principal_point))
    report = progress or (lambda share, text: None)
    if len(cuts):
        shots = shots_of(count, cuts)
        found = []
        for shot, step in zip(shots, shot_by_shot(report, shots), strict=True):
            of_shot = prediction.part(shot), center[shot], side[shot], masks[shot], focal[shot]
            found.append(track(category, *of_shot, pp, image_size, fps, config, step))
        return replace(Motion.joined(found), frame_index=np.arange(count))
    view = CropView.of(center, side, focal, pp, np.asarray(masks), np.asarray(image_size), config.size)
    body = coarse_of(category, config.vertices)
    vertices = body.posed(category, prediction.morphology, prediction.joint_rotations)

    report(0.05, "Comparing hypotheses with the picture")
    surface = read_surface(category, prediction, body, config)
    views = gather(prediction, config).with_reversed(config.reversed_view)
    if surface is not None and config.surface_view > 0:
        share = np.log(np.maximum(config.surface_view * surface.certainty, 1e-5))
        views = views.joined(*map_view(surface, config), views.logprob[:, 0] + share)
    views, predicted, agreement, against = compare(views, view, body, vertices, surface, config)
    against = config.surface * against
    told, sure = prediction.told_rotation, prediction.told_sure
    if told is not None and sure is not None:
        apart = 0.5 * (1 - np.cos(geodesic(views.rotation, told[:, None])))
        against = against + config.landmarks * sure[:, None] ** 2 * apart
    report(0.5, "Choosing among hypotheses")
    chosen = choose(views.rotation, views.translation, views.logprob, agreement, fps, config, against)
    frames = np.arange(count)
    rotation, place = views.rotation[frames, chosen], views.translation[frames, chosen]
    probability = np.clip(np.exp(views.logprob[frames, chosen]), 0, 1)

    report(0.55, "Placing the subject")
    predicted = predicted[frames, chosen]
    for _ in range(config.passes):
        place = fit_silhouette(view, rotation, place, predicted, vertices, body.faces, config)
    pose = view.poses(rotation, place, frames)

    report(0.8, "Smoothing")
    trust = probability * np.clip(agreement[frames, chosen], 0.05, 1)
    pose = smooth_root(pose, config.root_sigma * fps, config.depth_sigma * fps, trust)
    rotations = smooth_rotations(prediction.joint_rotations, config.joint_sigma * fps, trust)
    rotations = make_continuous(clamp_rotations(category.skeleton, rotations))
    rotations[:, 0] = [1, 0, 0, 0]
    vertices = category.posed_vertices(prediction.morphology, rotations)
    view = CropView.of(center, side, focal, pp, np.asarray(masks), np.asarray(image_size), config.iou_size)
    iou = view.overlap(view.drawn(pose, vertices, category.body.faces, frames), frames)
    report(1.0, "Tracked")
    return Motion(
        fps=float(fps),
        frame_index=frames,
        image_size=np.asarray(image_size, np.int64),
        focal_px=focal,
        principal_point=view.pp,
        camera_from_root=pose,
        joint_rotations=rotations,
        morphology=prediction.morphology,
        appearance=prediction.appearance,
        confidence=np.clip(probability * np.nan_to_num(iou, nan=0.0), 0, 1),
        joint_confidence=prediction.joint_confidence,
        mask_iou=iou,
        category=category.name,
        category_version=category.version,
    )


def compare(
    views: Views,
    view: CropView,
    body: CoarseBody,
    vertices: Array,
    surface: Surface | None,
    config: TrackConfig,
) -> tuple[Views, Array, Array, Array]:
    """Every view moved to where map and mask show it, and how well both then fit.

    vertices ``(T, n, 3)``: the coarse body, posed. Returns the moved views, their translations ``(T, N, 3)``
    before they were fitted to the mask, the silhouettes' agreement ``(T, N)`` in 0…1, and the surface map's
    disagreement ``(T, N)`` in 0…1 times its certainty, zero without a map. Views too unlikely to be looked at get
    the frame's worst.
    """
    rotation, translation = views.rotation.copy(), views.translation.copy()
    predicted = translation.copy()
    agreement, against = (np.full(views.logprob.shape, np.nan) for _ in range(2))
    for n, likely in enumerate(views.likely.T):
        some = np.flatnonzero(likely)
        if not len(some):
            continue
        turned, place = rotation[some, n], translation[some, n]
        shown = None if surface is None else surface.at(some)
        if shown is not None and config.surface_steps:
            turned, place = refine(shown, view, turned, place, some, config)
        rotation[some, n], predicted[some, n] = turned, place
        place = fit_box(view, turned, place, vertices, some, config)
        translation[some, n] = place
        pose = view.poses(turned, place, some)
        agreement[some, n] = view.overlap(view.drawn(pose, vertices, body.faces, some), some)
        if shown is not None:
            against[some, n] = disagreement(
                shown, view, view.poses(turned, predicted[some, n], some), some, config
            )
    if surface is None:
        against[:] = 0.0
    worst = np.nanmin(np.where(np.isnan(agreement), 2.0, agreement), axis=1, keepdims=True)
    agreement = np.where(np.isnan(agreement), np.where(worst > 1, 0.5, worst), agreement)
    against = np.where(np.isnan(against), np.nanmax(against, axis=1, keepdims=True), against)
    if surface is not None:
        against = against * surface.certainty[:, None]
    return Views(rotation, translation, views.logprob), predicted, agreement, against


def smooth_root(pose: Array, sigma: float, depth_sigma: float, weights: Array | None = None) -> Array:
    """``camera_from_root`` ``(T, 4, 4)`` smoothed: rotation and the root's place in the picture, and log depth.

    sigma, depth_sigma: frames.  weights ``(T,)``: trust in every frame.
    """
    turned = smooth_rotations(matrix_to_quat(pose[:, :3, :3]), sigma, weights)
    depth = pose[:, 2, 3]
    seen = smooth(pose[:, :2, 3] / depth[:, None], sigma, weights)
    result = pose.copy()
    result[:, :3, :3] = quat_to_matrix(turned)
    result[:, 2, 3] = np.exp(smooth(np.log(depth), depth_sigma, weights))
    result[:, :2, 3] = seen * result[:, 2:3, 3]
    return result


_kept: dict[tuple[int, int], tuple[Category, CoarseBody]] = {}


def coarse_of(category: Category, count: int) -> CoarseBody:
    """The category's coarse body, made once."""
    key = id(category), count
    if key not in _kept:
        if len(_kept) > 4:
            _kept.clear()
        _kept[key] = category, coarse_body(category.body.vertices, category.body.faces, count)
    return _kept[key][1]
