# SPDX-License-Identifier: GPL-3.0-or-later
"""One consistent, smooth motion out of the student's hypotheses.

1. The student's hypotheses are gathered into a few distinct views, with the view from the other end beside them.
   Each is moved so that it fills the mask's box, and its silhouette is compared with the mask.
2. Dynamic programming (Viterbi) picks one hypothesis a frame: probability, silhouette, and how far the root would
   have to jump.
3. The root's translation is solved again from the silhouette the picture really shows, held near the prediction.
4. Root and joints are smoothed over time without lag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ..core.camera import CropBox, decode_root, project, transform
from ..core.category import Category
from ..core.motion import Motion
from ..core.raster import silhouette
from ..core.rotation import (
    geodesic,
    make_continuous,
    matrix_to_quat,
    matrix_to_rotvec,
    quat_to_matrix,
    rotvec_to_matrix,
)
from ..core.skeleton import clamp_rotations
from .errors import PredictError
from .smooth import smooth, smooth_rotations
from .student import Prediction

Array = np.ndarray


@dataclass(frozen=True)
class TrackConfig:
    """How a path through the hypotheses is chosen and smoothed."""

    size: int = 64
    """side of the silhouettes that are compared, pixels"""
    hypotheses: int = 4
    """distinct views a frame that are kept"""
    twin: float = 0.3
    """radians within which hypotheses are opinions of the same view and add up (standard deviation)"""
    reversed_view: float = 0.2
    """probability of the view from the other end, as a share of the likeliest view's"""
    silhouette: float = 6.0
    """cost of a silhouette that misses the mask completely"""
    alike: float = 0.25
    """seconds for which a student's mistakes stay the same: evidence counts by time, not by frame"""
    turn_rate: float = 2.5
    """radians a second that a root may turn at the cost of one"""
    turn_noise: float = 0.15
    """radians of error between neighbouring frames, whatever the frame rate"""
    shift_noise: float = 0.15
    """crop sides, and log depth, between neighbouring frames at the cost of one"""
    largest_jump: float = 40.0
    """cost of any jump: cuts happen, so no jump is impossible"""
    passes: int = 2
    """times the translation is solved from the silhouette"""
    prior: float = 0.5
    """weight of the predicted translation against each of the silhouette's edges"""
    root_sigma: float = 0.1
    """seconds of smoothing of the root's rotation and place"""
    joint_sigma: float = 0.07
    """seconds of smoothing of the joints"""


@dataclass(frozen=True, eq=False)
class _View:
    """Where the clip's crops are, and what they show: everything but the animal."""

    center: Array  # (T, 2)
    side: Array  # (T,)
    focal: Array  # (T,)
    pp: Array  # (2,)
    masks: Array  # (T, S, S) bool, at the silhouettes' size
    inside: Array  # (T, S, S) bool, the part of the crop that lies in the picture

    def pixels(self, pose: Array, vertices: Array, frames: Array) -> Array:
        """Vertices (N, V, 3) under poses (N, 4, 4) of frames (N,) → pixels of the small crop and depth (N, V, 3)."""
        seen = transform(pose, vertices)
        box = CropBox(self.center[frames], self.side[frames])
        places = box.crop_pixels(project(seen, self.focal[frames], self.pp), self.masks.shape[-1])
        return np.concatenate([places, seen[..., 2:]], -1)


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
    config: TrackConfig = TrackConfig(),
    progress: Callable[[float, str], None] | None = None,
) -> Motion:
    """The motion of a clip.

    center ``(T, 2)`` and side ``(T,)``: the crops, pixels.  masks ``(T, S, S)``: the crops' masks, uint8 0…255
    or 0…1.  focal: pixels, one number or ``(T,)``.  principal_point ``(2,)``, image_size (width, height): pixels.
    The motion's confidence is the probability of the chosen hypothesis times the agreement with the mask.
    Raises PredictError when the arrays do not belong to one clip.
    """
    count = len(prediction)
    if not (len(center) == len(side) == len(masks) == count):
        raise PredictError(
            f"There are {count} predicted frames but {len(center)} crops and {len(masks)} masks; cut the crops anew."
        )
    focal = np.broadcast_to(np.asarray(focal, np.float64), (count,)).copy()
    view = _view(
        np.asarray(center, np.float64),
        np.asarray(side, np.float64),
        focal,
        np.asarray(principal_point, np.float64),
        np.asarray(masks),
        np.asarray(image_size),
        config.size,
    )
    report = progress or (lambda share, text: None)
    vertices = category.posed_vertices(prediction.morphology, prediction.joint_rotations)
    faces = category.body.faces

    report(0.05, "Comparing hypotheses with the mask")
    views = gather(prediction, config)
    views = views.with_reversed(config.reversed_view)
    translation, agreement = _compare(views, view, vertices, faces, config)
    report(0.5, "Choosing among hypotheses")
    chosen = choose(views.rotation, translation, views.logprob, agreement, fps, config)
    frames = np.arange(count)
    rotation, predicted = views.rotation[frames, chosen], views.translation[frames, chosen]
    probability = np.clip(np.exp(views.logprob[frames, chosen]), 0, 1)

    report(0.55, "Placing the subject")
    place = translation[frames, chosen]
    for _ in range(config.passes):
        place = _fit_silhouette(view, rotation, place, predicted, vertices, faces, config)
    pose = decode_root(rotation, place, view.center, view.side, view.focal, view.pp)

    report(0.8, "Smoothing")
    trust = probability * np.clip(agreement[frames, chosen], 0.05, 1)
    pose = smooth_root(pose, config.root_sigma * fps, trust)
    rotations = smooth_rotations(prediction.joint_rotations, config.joint_sigma * fps, trust)
    rotations = make_continuous(clamp_rotations(category.skeleton, rotations))
    rotations[:, 0] = [1, 0, 0, 0]
    vertices = category.posed_vertices(prediction.morphology, rotations)
    iou = _overlap(view, _drawn(view, pose, vertices, faces, frames), frames)
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


@dataclass(frozen=True, eq=False)
class Views:
    """Distinct root poses of every frame: rotation (T, N, 3, 3), translation (T, N, 3), logprob (T, N)."""

    rotation: Array
    translation: Array
    logprob: Array

    def with_reversed(self, share: float) -> Views:
        """These, and the likeliest one's heading mirrored in the picture plane, upright as before.

        An outline looks nearly the same from the front and from behind; a student that mistakes one for the
        other in some frames leaves the right answer out, and the frames around know better.
        """
        first = self.rotation[:, 0]
        up, ahead = first[..., 2], -first[..., 1] * np.array([1.0, 1.0, -1.0])
        ahead = ahead - (ahead * up).sum(-1, keepdims=True) * up
        length = np.linalg.norm(ahead, axis=-1, keepdims=True)
        back = np.where(length > 1e-3, -ahead / np.maximum(length, 1e-3), first[..., 1])
        turned = np.stack([np.cross(back, up), back, up], -1)
        return Views(
            np.concatenate([self.rotation, turned[:, None]], 1),
            np.concatenate([self.translation, self.translation[:, :1]], 1),
            np.concatenate([self.logprob, self.logprob[:, :1] + np.log(share)], 1),
        )


def gather(prediction: Prediction, config: TrackConfig = TrackConfig()) -> Views:
    """The student's M hypotheses as at most N distinct views, likeliest first.

    Repeatedly: the hypothesis with the most probability round it (a Gaussian of `twin` radians) takes all
    within twice that angle for its twins; the view is their mean and their probability is the view's.
    """
    rotation, translation = prediction.root_rotation, prediction.root_translation
    frames = np.arange(len(rotation))
    angle = geodesic(rotation[:, :, None], rotation[:, None])  # (T, M, M)
    near = np.exp(-0.5 * (angle / config.twin) ** 2)
    left = np.exp(prediction.root_logprob)
    found = []
    for _ in range(min(config.hypotheses, rotation.shape[1])):
        centre = (near @ left[..., None])[..., 0].argmax(1)
        twins = np.where(angle[frames, centre] < 2 * config.twin, left, 0.0)
        mass = twins.sum(1)
        weight = twins / np.maximum(mass, 1e-12)[:, None]
        middle = rotation[frames, centre]
        step = matrix_to_rotvec(np.swapaxes(middle, -1, -2)[:, None] @ rotation)
        turned = middle @ rotvec_to_matrix((weight[..., None] * step).sum(1))
        moved = (weight[..., None] * translation).sum(1)
        moved = np.where(mass[:, None] > 1e-9, moved, translation[frames, centre])
        found.append((turned, moved, np.log(np.maximum(mass, 1e-5))))
        left = np.where(twins > 0, 0.0, left)
    return Views(*(np.stack(parts, 1) for parts in zip(*found, strict=True)))


def choose(
    rotation: Array,
    translation: Array,
    logprob: Array,
    agreement: Array,
    fps: float,
    config: TrackConfig = TrackConfig(),
) -> Array:
    """The cheapest path ``(T,)`` through hypotheses ``(T, M, …)``, by dynamic programming (Viterbi 1967).

    rotation ``(T, M, 3, 3)``; translation ``(T, M, 3)``; logprob ``(T, M)``; agreement ``(T, M)`` with the mask,
    0…1. The cost of a frame is −log p + silhouette·(1 − agreement), shared with the frames whose mistakes are
    its own; of a step, the square of how far it turns, and how far it moves: an animal turns a little in many
    frames, not much in one.
    """
    unary = -np.maximum(logprob, -12.0) + config.silhouette * (1 - agreement)
    unary = unary / (1 + config.alike * fps)
    free = config.turn_rate / max(fps, 1e-6) + config.turn_noise
    cost, back = unary[0], np.zeros(logprob.shape, np.int64)
    for t in range(1, len(unary)):
        turn = geodesic(rotation[t - 1][:, None], rotation[t][None]) / free  # (from, to)
        move = np.abs(translation[t - 1][:, None] - translation[t][None]).sum(-1) / config.shift_noise
        total = cost[:, None] + np.minimum(0.15 * turn**2 + 0.1 * move, config.largest_jump)
        back[t] = total.argmin(0)
        cost = total.min(0) + unary[t]
    path = np.empty(len(unary), np.int64)
    path[-1] = cost.argmin()
    for t in range(len(unary) - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    return path


def smooth_root(pose: Array, sigma: float, weights: Array | None = None) -> Array:
    """``camera_from_root`` ``(T, 4, 4)`` smoothed: rotation, the root's place in the picture, and log depth."""
    turned = smooth_rotations(matrix_to_quat(pose[:, :3, :3]), sigma, weights)
    depth = pose[:, 2, 3]
    seen = np.concatenate([pose[:, :2, 3] / depth[:, None], np.log(depth)[:, None]], 1)
    seen = smooth(seen, sigma, weights)
    result = pose.copy()
    result[:, :3, :3] = quat_to_matrix(turned)
    result[:, 2, 3] = np.exp(seen[:, 2])
    result[:, :2, 3] = seen[:, :2] * result[:, 2:3, 3]
    return result


# -- the picture ---------------------------------------------------------------------------------------------


def _view(
    center: Array, side: Array, focal: Array, pp: Array, masks: Array, image_size: Array, size: int
) -> _View:
    masks = masks.astype(np.float32) / (255.0 if masks.dtype == np.uint8 else 1.0)
    small = np.stack([cv2.resize(m, (size, size), interpolation=cv2.INTER_AREA) for m in masks]) > 0.5
    at = (np.arange(size) + 0.5) / size - 0.5
    x, y = (center[:, k, None] + side[:, None] * at for k in range(2))  # (T, S)
    inside = ((y >= 0) & (y < image_size[1]))[:, :, None] & ((x >= 0) & (x < image_size[0]))[:, None, :]
    return _View(center, side, focal, pp, small, inside)


def _drawn(view: _View, pose: Array, vertices: Array, faces: Array, frames: Array) -> Array:
    """Silhouettes (N, S, S) of frames (N,) under poses (N, 4, 4), the visible part."""
    size = view.masks.shape[-1]
    pixels = view.pixels(pose, vertices[frames], frames)
    return silhouette(pixels, faces, (size, size)) & view.inside[frames]


def _overlap(view: _View, drawn: Array, frames: Array) -> Array:
    """Intersection over union with the mask (N,), NaN where there is no mask."""
    mask = view.masks[frames]
    union = (mask | drawn).sum((1, 2))
    iou = (mask & drawn).sum((1, 2)) / np.maximum(union, 1)
    return np.where(mask.any((1, 2)), iou, np.nan)


def _poses(view: _View, rotation: Array, translation: Array, frames: Array) -> Array:
    return decode_root(
        rotation, translation, view.center[frames], view.side[frames], view.focal[frames], view.pp
    )


def _compare(
    views: Views, view: _View, vertices: Array, faces: Array, config: TrackConfig
) -> tuple[Array, Array]:
    """Translations (T, N, 3) fitted to the mask's box, and silhouette agreement (T, N) of every view.

    Views too unlikely to be drawn get the frame's lowest agreement.
    """
    translation = views.translation.copy()
    agreement = np.full(views.logprob.shape, np.nan)
    sample = np.ascontiguousarray(vertices[:, ::5])
    for n in range(agreement.shape[1]):
        some = np.flatnonzero((views.logprob[:, n] > np.log(0.03)) | (n == 0))
        if not len(some):
            continue
        rotation, place = views.rotation[some, n], translation[some, n]
        pixels = view.pixels(_poses(view, rotation, place, some), sample[some], some)[..., :2]
        drawn = np.stack([pixels.min(1), pixels.max(1)], 1)  # (some, 2 ends, 2 axes)
        wanted, seen = _mask_box(view, some)
        prior = np.where(seen.all((1, 2)), config.prior, 6 * config.prior)
        place = _rescale(place, drawn / config.size - 0.5, wanted / config.size - 0.5, seen, prior)
        translation[some, n] = place
        pose = _poses(view, rotation, place, some)
        outline = _drawn(view, pose, vertices, faces, some)
        agreement[some, n] = _overlap(view, outline, some)
    worst = np.nanmin(np.where(np.isnan(agreement), 2.0, agreement), axis=1, keepdims=True)
    return translation, np.where(np.isnan(agreement), np.where(worst > 1, 0.5, worst), agreement)


def _mask_box(view: _View, frames: Array) -> tuple[Array, Array]:
    """Ends of the masks (N, 2 ends, 2 axes) in small-crop pixels, and which of them lie inside the picture."""
    size = view.masks.shape[-1]
    ends = np.zeros((len(frames), 2, 2))
    free = np.zeros((len(frames), 2, 2), bool)
    for axis, across in ((0, 1), (1, 2)):  # x: rows collapse; y: columns collapse
        used = view.masks[frames].any(across)
        room = view.inside[frames].any(across)
        ends[:, 0, axis], ends[:, 1, axis] = used.argmax(1), size - used[:, ::-1].argmax(1)
        # one pixel of the small crop is a few of the picture's: nearer the border than that, the mask may be cut
        free[:, 0, axis] = used.any(1) & (ends[:, 0, axis] > room.argmax(1) + 0.5)
        free[:, 1, axis] = used.any(1) & (ends[:, 1, axis] < size - room[:, ::-1].argmax(1) - 0.5)
    return ends, free


def _rescale(place: Array, drawn: Array, wanted: Array, weight: Array, prior: Array | float) -> Array:
    """Move (u, v) and scale so that what is drawn lies where it is wanted.

    place (N, 3); drawn and wanted (N, P, 2), the same P features of both outlines along x and y, in crop sides
    from the crop's centre; weight (N, P, 2). Solves s·(drawn − root) + t = wanted − root for one scale and two
    shifts, least squares, with `prior` (one number or (N,)) holding s = 1 and t = 0: exact for a subject far
    away, repeated for one that is near.
    """
    root = place[:, None, :2]
    from_root, target = drawn - root, wanted - root
    weight = weight.astype(np.float64)
    normal, right = np.zeros((len(place), 3, 3)), np.zeros((len(place), 3))
    normal[:, 0, 0] = (weight * from_root**2).sum((1, 2))
    right[:, 0] = (weight * from_root * target).sum((1, 2))
    for axis in range(2):
        w = weight[..., axis]
        normal[:, 0, 1 + axis] = normal[:, 1 + axis, 0] = (w * from_root[..., axis]).sum(1)
        normal[:, 1 + axis, 1 + axis] = w.sum(1)
        right[:, 1 + axis] = (w * target[..., axis]).sum(1)
    # the scale's own prior is in units of the outline's half width, about 0.4 crop sides
    hold = np.broadcast_to(prior, len(place))[:, None] * np.array([0.16, 1.0, 1.0])
    normal += hold[:, :, None] * np.eye(3)
    right[:, 0] += hold[:, 0]
    scale, dx, dy = np.linalg.solve(normal, right[..., None])[..., 0].T
    scale = np.clip(scale, 0.5, 2.0)
    return np.stack([place[:, 0] + dx, place[:, 1] + dy, place[:, 2] - np.log(scale)], 1)


def _fit_silhouette(
    view: _View,
    rotation: Array,
    place: Array,
    predicted: Array,
    vertices: Array,
    faces: Array,
    config: TrackConfig,
) -> Array:
    """One pass of solving the translation from the silhouette; place (T, 3) → (T, 3).

    The features are where 4, 25, 50, 75 and 96 % of the outline's area lie along x and y: like its box, but a
    raised tail or a lost ear moves them little. Both outlines are cut by the picture's border in the same way.
    """
    frames = np.arange(len(place))
    drawn = _drawn(view, _poses(view, rotation, place, frames), vertices, faces, frames)
    usable = drawn.any((1, 2)) & view.masks.any((1, 2))
    levels = np.array([0.04, 0.25, 0.5, 0.75, 0.96])
    have, want = (_quantiles(m, levels) / config.size - 0.5 for m in (drawn, view.masks))
    weight = np.broadcast_to(usable[:, None, None], have.shape) * np.array([1.0, 0.3, 0.3, 0.3, 1.0])[:, None]
    # Along an axis where the border cuts the subject, moving it changes how much of it is seen: there only the
    # free end says something, and the prediction counts for more.
    _, free = _mask_box(view, frames)
    whole = free.all(1)  # (T, 2 axes)
    weight = np.where(whole[:, None], weight, 0.0)
    weight[:, 0] += np.where(whole, 0.0, 0.5 * (free[:, 0] & usable[:, None]))
    weight[:, -1] += np.where(whole, 0.0, 0.5 * (free[:, 1] & usable[:, None]))
    prior = np.where(whole.all(1), config.prior, 6 * config.prior)
    moved = _rescale(place, have, want, weight, prior)
    # a last word for the prediction: depth drifts least where the outline says little
    return np.where(usable[:, None], moved + 0.5 * config.prior * (predicted - moved) * [0, 0, 1], place)


def _quantiles(masks: Array, levels: Array) -> Array:
    """Where given shares (P,) of the area of masks (N, S, S) lie along x and y: (N, P, 2), pixels."""
    found = []
    for across in (1, 2):
        total = np.cumsum(masks.sum(across), axis=1, dtype=np.float64)
        share = np.concatenate([np.zeros((len(masks), 1)), total], 1) / np.maximum(total[:, -1:], 1)
        upper = (share[:, None, :] < levels[:, None]).sum(-1).clip(1, masks.shape[-1])  # first edge beyond
        low, high = (np.take_along_axis(share, upper - k, 1) for k in (1, 0))
        found.append(upper - 1 + (levels - low) / np.maximum(high - low, 1e-9))
    return np.stack(found, -1)
