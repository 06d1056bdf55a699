# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface map as evidence about the root: which point of the body each part of the picture shows.

A silhouette looks nearly the same from the front and from behind, and from the left and from the right; the
surface map tells them apart. Its cells are 2D–3D correspondences: a root pose is judged by how far it draws
the body's points from where they are seen and by whether they would face the camera at all, and is refined by
robust least squares, held near the network's own answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.category import Category
from ..core.mesh import vertex_normals
from ..core.rotation import rotvec_to_matrix
from ..core.skeleton import skin_transforms
from ..core.skinning import dense_weights
from .coarse import CoarseBody
from .config import TrackConfig
from .silhouettes import CropView
from .student import Prediction

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Surface:
    """What the surface map says, N points a frame.

    point ``(T, N, 3)``: the points in the frame's pose, body space.  normal ``(T, N, 3)``: unit, outward.
    seen ``(T, N, 2)``: where in the crop, in sides from its centre.  weight ``(T, N)``: trust, 0…1.
    """

    point: Array
    normal: Array
    seen: Array
    weight: Array

    @property
    def strength(self) -> Array:
        """Trust in the whole map of a frame, ``(T,)`` in 0…1: little where hardly anything was recognised."""
        return np.minimum(self.weight.sum(1) / 20.0, 1.0)

    @property
    def certainty(self) -> Array:
        """How sure the map is of what it shows, ``(T,)`` in 0…1: the trust in its points, weighted by itself."""
        return (self.weight**2).sum(1) / np.maximum(self.weight.sum(1), 1e-6) * self.strength

    def at(self, frames: Array) -> Surface:
        """The same of some frames."""
        return Surface(self.point[frames], self.normal[frames], self.seen[frames], self.weight[frames])


def read_surface(
    category: Category, prediction: Prediction, body: CoarseBody, config: TrackConfig
) -> Surface | None:
    """The predicted map as posed points; None for a network without one.

    A cell's point of the mean body at rest is moved with the nearest coarse vertex: by its share of the
    subject's proportions, then by its skin.
    """
    if prediction.surface_map is None or prediction.surface_confidence is None:
        return None
    count = len(prediction)
    vertices = category.body.vertices[body.vertex]
    rest, nearest, at, weight = surest_cells(
        prediction.surface_map,
        prediction.surface_confidence,
        vertices,
        config.surface_points,
        config.surface_least,
    )

    # trust falls along the limbs: errors of the joints add up there
    depth = _depths(category)[strongest(category, body.vertex)]
    weight = weight * (config.surface_depth**depth)[nearest]

    affine = _blended(category, prediction, body)  # (T, n, 3, 4)
    frames = np.arange(count)[:, None]
    moved = affine[frames, nearest]
    change = np.tensordot(
        prediction.morphology.astype(np.float32), category.body.morphology_vertices[:, body.vertex], axes=1
    )
    point = (moved[..., :3] @ (rest + change[nearest])[..., None])[..., 0] + moved[..., 3]
    normals = vertex_normals(category.body.vertices, category.body.faces)[body.vertex].astype(np.float32)
    normal = (moved[..., :3] @ normals[nearest][..., None])[..., 0]
    return Surface(point, normal, at.astype(np.float32), weight.astype(np.float32))


def surest_cells(
    surface_map: Array, confidence: Array, vertices: Array, number: int, least: float
) -> tuple[Array, Array, Array, Array]:
    """The cells of a surface map that are trusted most.

    surface_map ``(T, h, w, 3)`` and confidence ``(T, h, w)``: see `Prediction`.  vertices ``(n, 3)``: of the mean body.
    number: N, cells a frame.  least: confidence below which a cell says nothing. Returns the points shown
    ``(T, N, 3)``, the vertices nearest to them ``(T, N)``, where they are seen ``(T, N, 2)`` in crop sides from the
    crop's centre, and the trust in them ``(T, N)``.
    """
    count, high, wide = confidence.shape
    confidence = np.asarray(confidence, np.float32).reshape(count, high * wide)
    number = min(number, high * wide)
    # taken from all over the subject: a fixed shuffle breaks ties between neighbours
    shuffle = np.random.default_rng(0).random(high * wide, np.float32) * 0.5 + 0.75
    cell = np.argpartition(-confidence * shuffle, number - 1, axis=1)[:, :number]
    weight = np.take_along_axis(confidence, cell, 1)
    flat = np.asarray(surface_map, np.float32).reshape(count, -1, 3)
    rest = np.take_along_axis(flat, cell[..., None], 1)
    at = np.stack([(cell % wide + 0.5) / wide - 0.5, (cell // wide + 0.5) / high - 0.5], -1)
    nearest = np.stack([nearest_vertex(points, vertices) for points in rest])
    off = np.linalg.norm(rest - vertices[nearest], axis=-1)
    return rest, nearest, at, np.where((weight > least) & (off < 0.15), weight, 0.0)


def nearest_vertex(points: Array, vertices: Array) -> Array:
    """Which of the vertices ``(V, 3)`` is nearest to each of the points ``(N, 3)``."""
    return (0.5 * (vertices**2).sum(1) - points @ vertices.T).argmin(1)


def strongest(category: Category, vertex: Array) -> Array:
    """The joint that owns each of some vertices."""
    return category.body.owner[vertex]


def _depths(category: Category) -> Array:
    """How many joints lie between each joint and the root, ``(J,)``."""
    depth = np.zeros(len(category.skeleton))
    for j, parent in enumerate(category.skeleton.parents):
        depth[j] = 0 if parent < 0 else depth[parent] + 1
    return depth


def _blended(category: Category, prediction: Prediction, body: CoarseBody) -> Array:
    """The skin's affine motion at every coarse vertex, ``(T, n, 3, 4)``."""
    joints = category.body.shaped(prediction.morphology)[1]
    transforms = skin_transforms(category.skeleton, joints, prediction.joint_rotations)
    affine = transforms[..., :3, :].astype(np.float32).reshape(*transforms.shape[:2], 12)
    index, weight = category.body.skin_index[body.vertex], category.body.skin_weight[body.vertex]
    weights = dense_weights(index, weight, len(category.skeleton)).astype(np.float32)
    return (weights @ affine).reshape(len(affine), len(body.vertex), 3, 4)


def _residual(surface: Surface, view: CropView, pose: Array, frames: Array) -> tuple[Array, Array, Array]:
    """Turned points ``(n, N, 3)``, points in camera space, and errors ``(n, N, 2)`` in crop sides."""
    turned = surface.point @ np.swapaxes(pose[:, :3, :3], 1, 2).astype(np.float32)
    seen = turned + pose[:, None, :3, 3].astype(np.float32)
    scale = (view.focal / view.side)[frames, None, None].astype(np.float32)
    middle = ((view.center - view.pp) / view.side[:, None])[frames, None].astype(np.float32)
    place = seen[..., :2] / np.maximum(seen[..., 2:], 1e-2) * scale - middle
    return turned, seen, place - surface.seen


def disagreement(surface: Surface, view: CropView, pose: Array, frames: Array, config: TrackConfig) -> Array:
    """How badly root poses ``(n, 4, 4)`` of `frames` ``(n,)`` explain the map: ``(n,)``, 0 perfect, 1 not at all.

    surface: of the same frames. A point counts as missed by its distance, or because it would face away.
    """
    _, seen, error = _residual(surface, view, pose, frames)
    missed = (error**2).sum(-1)
    missed = missed / (missed + config.surface_noise**2)
    normal = surface.normal @ np.swapaxes(pose[:, :3, :3], 1, 2).astype(np.float32)
    towards = (normal * seen).sum(-1) / np.maximum(np.linalg.norm(seen, axis=-1), 1e-6)  # 1: faces away
    hidden = np.clip(towards / 0.5, 0, 1)
    lost = np.maximum(missed, hidden * config.surface_hidden)
    return (surface.weight * lost).sum(1) / np.maximum(surface.weight.sum(1), 1e-6)


def map_view(surface: Surface, config: TrackConfig) -> tuple[Array, Array]:
    """The root pose that the map alone tells, rotation ``(T, 3, 3)`` and (u, v, w) ``(T, 3)`` relative to the crop.

    A weak-perspective camera: the best affine map from the body's points to the picture, ridged because the seen
    side of a body is nearly flat, and the nearest scaled rotation to it (Tomasi & Kanade 1992). Reweighted once
    so that what does not fit counts less. It needs no first guess, and :func:`refine` does the rest.
    """
    weight = surface.weight.astype(np.float64) + 1e-9
    point, seen = surface.point.astype(np.float64), surface.seen.astype(np.float64)
    for _ in range(3):
        share = (weight / weight.sum(1, keepdims=True))[..., None]
        middle, at = (share * point).sum(1), (share * seen).sum(1)
        body, picture = point - middle[:, None], seen - at[:, None]
        spread = np.swapaxes(share * body, 1, 2) @ body  # (T, 3, 3)
        ridge = config.surface_ridge * np.trace(spread, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        affine = np.swapaxes(
            np.linalg.solve(spread + ridge + 1e-9 * np.eye(3), np.swapaxes(share * body, 1, 2) @ picture),
            1,
            2,
        )
        u, size, v = np.linalg.svd(affine, full_matrices=False)
        flat = u @ v  # (T, 2, 3)
        drawn = body @ np.swapaxes(flat, 1, 2)
        scale = (share * drawn * picture).sum((1, 2)) / np.maximum((share * drawn**2).sum((1, 2)), 1e-9)
        scale = np.maximum(scale, 0.05)
        square = ((drawn * scale[:, None, None] - picture) ** 2).sum(-1)
        weight = surface.weight / (1 + square / (2 * config.surface_noise) ** 2) ** 2 + 1e-9
    rotation = np.concatenate([flat, np.cross(flat[:, 0], flat[:, 1])[:, None]], 1)
    root = at - scale[:, None] * (flat @ middle[..., None])[..., 0]
    # one side of the crop at depth z is z·side/focal metres wide: scale = focal / (side z) = exp(−w)
    return rotation, np.concatenate([root, -np.log(scale)[:, None]], 1)


def refine(
    surface: Surface, view: CropView, rotation: Array, place: Array, frames: Array, config: TrackConfig
) -> tuple[Array, Array]:
    """Root poses moved towards what the map says: robust, damped Gauss–Newton over six numbers a frame.

    rotation ``(n, 3, 3)`` and place ``(n, 3)`` = (u, v, w), both relative to the crop, are the prior too: its
    spread is `surface_turn` radians and `surface_shift` crop sides and log depth. surface: of the same `frames`
    ``(n,)``. Minimises ``evidence · mean ρ(error) + |change / spread|²`` with ρ(e) = e²/(e² + σ²) (Geman–McClure),
    by iteratively reweighted least squares. Returns rotation and place.
    """
    spread = np.array([config.surface_turn] * 3 + [config.surface_shift] * 2 + [2 * config.surface_shift])
    hold = np.diag(1 / spread**2)
    total = np.zeros((len(frames), 6))
    ray = view.rays(frames)
    evidence = config.surface_evidence * surface.strength
    share = surface.weight / np.maximum(surface.weight.sum(1, keepdims=True), 1e-6)
    sigma = config.surface_noise**2
    moved_rotation, moved_place = rotation, place
    for _ in range(config.surface_steps):
        pose = view.poses(moved_rotation, moved_place, frames)
        turned, seen, error = _residual(surface, view, pose, frames)
        depth = np.maximum(seen[..., 2], 1e-2)
        square = (error**2).sum(-1)
        weight = share * sigma / (square + sigma) ** 2 * evidence[:, None]  # dρ/d(e²)
        # the picture's motion when the turned point moves: (1, 0, −x/z; 0, 1, −y/z) · focal / (side z)
        gain = (view.focal / view.side)[frames, None] / depth
        x, y = seen[..., 0] / depth, seen[..., 1] / depth
        jacobian = np.zeros((*square.shape, 2, 6), np.float32)
        px, py, pz = np.moveaxis(turned, -1, 0)
        jacobian[..., 0, 0], jacobian[..., 0, 1], jacobian[..., 0, 2] = -x * py, pz + x * px, -py
        jacobian[..., 1, 0], jacobian[..., 1, 1], jacobian[..., 1, 2] = -pz - y * py, y * px, px
        root = pose[:, :3, 3]
        step = (root[:, 2] * view.side[frames] / view.focal[frames])[:, None]
        jacobian[..., 0, 3] = jacobian[..., 1, 4] = step
        jacobian[..., 0, 5] = root[:, :1] - x * root[:, 2:]
        jacobian[..., 1, 5] = root[:, 1:2] - y * root[:, 2:]
        jacobian *= gain[..., None, None]
        flat = jacobian.reshape(len(frames), -1, 6)
        weighted = np.swapaxes(flat * np.repeat(weight, 2, 1)[..., None], 1, 2)
        normal = (weighted @ flat).astype(np.float64) + hold
        right = (weighted @ error.reshape(len(frames), -1, 1))[..., 0] + total @ hold
        change = -np.linalg.solve(normal, right[..., None])[..., 0]
        size = np.abs(change / np.array([0.35] * 3 + [0.25] * 3)).max(1, keepdims=True)
        total += change / np.maximum(size, 1)  # no step so long that the linear picture of it is wrong
        turn = np.swapaxes(ray, 1, 2) @ rotvec_to_matrix(total[:, :3]) @ ray
        moved_rotation, moved_place = turn @ rotation, place + total[:, 3:]
    return moved_rotation, moved_place
