# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject's coat or clothes: what the clip's frames show of the body, gathered in its UV map.

Every texel lies at a place of the body, which the motion puts into every frame. Frames that see it from nearby, from
the front and well inside the outline count most, colours of the background and views that disagree with the rest
hardly. What no frame shows takes after the body's other side, and what neither shows after its surroundings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from ..core import Category, Motion, project, rasterize, transform
from ..core.body import Body
from ..core.mesh import mesh_edges, vertex_normals
from ..core.workers import made_ahead
from .errors import PredictError

Array = np.ndarray
_Look = tuple[Array, Array, Array]  # texels (n,) int32, their colours (n, 3) uint8 and weights (n,) float32

SIZE = 1024  # texels a side
FRAMES = 24  # of a clip that are looked at
_FACING = 0.15  # least cosine between a surface and the look at it
_STEP = 0.06  # of the body's length: a leap in depth at which one part ends before another
_RIM = 0.05  # of the subject's size: this far inside its outline a frame is trusted wholly
_LEVELS = 16  # of each channel, in which colours of subject and background are counted
_LEAST = 0.2  # how far the background's colours are believed to be the subject's all the same
_SURE = 40.0  # levels of 255 by which views of one place may differ
_OTHER_SIDE = 0.02  # of the weight of what is seen: what the other side shows
_AROUND = 0.02  # the same: what lies around


@dataclass(frozen=True)
class Texture:
    """A body's colours.

    picture: ``(S, S, 3)`` uint8 RGB in the body's UV map, its top first.  colours: ``(V, 3)`` 0…1 of its vertices.
    seen: share of the surface that a frame showed.
    """

    picture: Array
    colours: Array
    seen: float

    def png(self) -> bytes:
        """The picture as a file."""
        _, data = cv2.imencode(".png", self.picture[..., ::-1])
        return data.tobytes()


@dataclass(frozen=True)
class _Texels:
    """The N texels that lie on the body: row and column ``(N,)``, face ``(N,)``, barycentric ``(N, 3)``."""

    row: Array
    column: Array
    face: Array
    bary: Array

    def interpolate(self, faces: Array, values: Array) -> Array:
        """Vertex values ``(V, C)`` at the texels, ``(N, C)``."""
        corner = faces[self.face]
        found = values[corner[:, 0]] * self.bary[:, :1]
        for k in (1, 2):
            found += values[corner[:, k]] * self.bary[:, k, None]
        return found


@dataclass(frozen=True)
class View:
    """A frame that shows the body.

    motion: of this frame alone; its pixels are those of the original picture.  picture: ``(h, w, 3)`` uint8 RGB and
    mask, where the subject is, ``(h, w)`` bool, when asked for; both of one size, in the original's shape.  sure: how
    far it is believed, above 0.
    """

    motion: Motion
    picture: Callable[[], Array]
    mask: Callable[[], Array]
    sure: float


def clip_views(
    motion: Motion,
    picture: Callable[[int], Array],
    mask: Callable[[int], Array],
    *,
    sure: Array | None = None,
    frames: int = FRAMES,
) -> list[View]:
    """The surest frame in each of so many stretches of a clip.

    picture and mask: as in a `View`, of the frame asked for.  sure ``(T,)``: how far each frame is believed, none
    where it is 0; by default as the motion's confidence and agreement with its masks say.
    """
    if sure is None:
        agreement = np.where(np.isnan(motion.mask_iou), 0.5, motion.mask_iou)
        sure = np.maximum(np.nan_to_num(motion.confidence) * agreement, 0.01)
    used = np.flatnonzero(sure > 0)
    stretches = np.array_split(used, min(frames, len(used))) if len(used) else []
    chosen = [int(stretch[np.argmax(sure[stretch])]) for stretch in stretches]
    return [
        View(motion.part(slice(i, i + 1)), partial(picture, i), partial(mask, i), float(sure[i]))
        for i in chosen
    ]


def bake_texture(
    category: Category,
    views: Sequence[View],
    *,
    size: int = SIZE,
    progress: Callable[[float], object] | None = None,
) -> Texture:
    """What frames show of the body, gathered in its UV map.

    views: of one subject, in one clip or several.  progress: called with a fraction; may raise to stop.
    Raises PredictError where the UV map lies over itself, so that a texel would be several places.
    """
    body = category.body
    texels = _texels(body.uv, size)
    if len(np.unique(texels.face)) < 0.9 * len(body.faces):
        raise PredictError(
            f"Faces of category {category.name} share places in its UV map (body.npz, uv), so it can have no texture: "
            "unwrap it, or go without"
        )
    looks: list[_Look] = []
    with closing(made_ahead(partial(_look, category, texels), views)) as made:
        for look in made:
            looks.append(look)
            if progress is not None:
                progress(len(looks) / len(views))
    total, weight = _agreed(looks, len(texels.face))
    return _filled(body, texels, total, weight, size)


def _texels(uv: Array, size: int) -> _Texels:
    """The texels of a UV map ``(F, 3, 2)``, v upwards."""
    corners = np.ones((1, 3 * len(uv), 3), np.float32)
    corners[0, :, 0] = uv[..., 0].ravel() * size
    corners[0, :, 1] = (1 - uv[..., 1].ravel()) * size
    raster = rasterize(corners, np.arange(3 * len(uv)).reshape(-1, 3), (size, size))
    _, row, column = raster.hits
    return _Texels(row, column, raster.face[0, row, column], raster.hit_bary.astype(np.float32))


def _look(category: Category, texels: _Texels, view: View) -> _Look:
    """What a frame shows."""
    motion, picture, mask = view.motion, view.picture(), view.mask()
    posed = category.posed_vertices(motion)[0].astype(np.float64)
    points = transform(motion.camera_from_root[0].astype(np.float64), posed)
    faces = category.body.faces
    height, width = mask.shape
    shrink = width / float(motion.image_size[0])
    focal, principal = motion.focal_px[0] * shrink, np.asarray(motion.principal_point, np.float64) * shrink
    pixels = np.concatenate([project(points, focal, principal), points[:, 2:]], 1).astype(np.float32)
    depth = rasterize(pixels[None], faces, (width, height)).depth[0]
    inside = _inside(depth, mask, _STEP * category.nominal_size)

    normals = vertex_normals(points, faces)
    looks = -points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    facing = np.einsum("vc,vc->v", normals, looks)
    number = np.flatnonzero((facing[faces].max(1) > _FACING)[texels.face])
    part = _Texels(texels.row[number], texels.column[number], texels.face[number], texels.bary[number])
    seen = part.interpolate(faces, np.concatenate([points, facing[:, None]], 1).astype(np.float32))
    place = project(seen[:, :3], focal, principal).astype(np.float32)
    column, row = np.floor(np.nan_to_num(place, nan=-1.0)).clip(-1, max(width, height)).astype(np.int64).T
    kept = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    kept &= (seen[:, 2] > 0) & (seen[:, 3] > _FACING)
    number, seen, place, column, row = number[kept], seen[kept], place[kept], column[kept], row[kept]
    nearest = seen[:, 2] < depth[row, column] + 0.5 * _STEP * category.nominal_size
    weight = np.where(nearest, inside[row, column], 0) * seen[:, 3] ** 2 * focal / seen[:, 2]
    kept = weight > 0
    number, weight, colours = number[kept], weight[kept], _at(picture, place[kept])
    level = colours // (256 // _LEVELS)
    own = _likeness(picture, mask)[level[:, 0], level[:, 1], level[:, 2]]
    return number.astype(np.int32), colours, ((view.sure * weight * own) ** 2).astype(np.float32)


def _inside(depth: Array, mask: Array, step: float) -> Array:
    """How far inside the subject every pixel lies, and from where one part of it ends before another, 0…1."""
    shown = np.where(np.isfinite(depth), depth, 1e6).astype(np.float32)
    square = np.ones((3, 3), np.uint8)
    whole = cv2.dilate(shown, square) - cv2.erode(shown, square) < step
    whole &= np.asarray(mask, bool) & np.isfinite(depth)
    distance = cv2.distanceTransform(whole.astype(np.uint8), cv2.DIST_L2, 3)
    rim = max(_RIM * np.sqrt(np.count_nonzero(mask)), 1.0)
    return np.clip((distance - 0.25 * rim) / rim, 0, 1)


def _likeness(picture: Array, mask: Array) -> Array:
    """How far each colour ``(L, L, L)`` is the subject's rather than that of what is around it, `_LEAST`…1."""
    mask = np.asarray(mask, np.uint8)
    reach = 2 * max(round(0.1 * float(np.sqrt(mask.sum()))), 1) + 1
    around = cv2.dilate(mask, np.ones((reach, reach), np.uint8)) & (1 - mask)

    def shares(of: Array) -> Array:
        counts = cv2.calcHist([picture], [0, 1, 2], of, [_LEVELS] * 3, [0, 256] * 3)
        return (counts + 0.01) / (counts + 0.01).sum()

    subject, background = shares(mask), shares(around)
    return np.maximum(subject / (subject + background), _LEAST)


def _at(picture: Array, places: Array) -> Array:
    """Colours ``(n, 3)`` uint8 of a picture at places ``(n, 2)`` in pixels, between their middles."""
    if not len(places):
        return np.zeros((0, 3), np.uint8)
    wide = 1024  # OpenCV looks up pictures of places, and none that are too long
    padded = np.pad(places - 0.5, ((0, -len(places) % wide), (0, 0))).reshape(-1, wide, 2)
    found = cv2.remap(
        picture,
        padded[..., 0].copy(),
        padded[..., 1].copy(),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return found.reshape(-1, 3)[: len(places)]


def _agreed(looks: list[_Look], count: int) -> tuple[Array, Array]:
    """Weighted sums of colours ``(N, 3)`` and weights ``(N,)``, views that disagree with the rest left behind.

    Iteratively reweighted least squares with Geman and McClure's kernel.
    """
    total, weight = _sums(looks, count)
    for _ in range(2):
        mean = total / np.maximum(weight, 1e-12)[:, None]
        total, weight = _sums(
            [
                (number, colour, w / (1 + ((colour - mean[number]) ** 2).sum(1) / _SURE**2) ** 2)
                for number, colour, w in looks
            ],
            count,
        )
    return total, weight


def _sums(looks: list[_Look], count: int) -> tuple[Array, Array]:
    total, weight = np.zeros((count, 3)), np.zeros(count)
    for number, colour, w in looks:
        total[number] += colour * w[:, None]
        weight[number] += w
    return total, weight


def _filled(body: Body, texels: _Texels, total: Array, weight: Array, size: int) -> Texture:
    """The whole picture, from sums of what was seen."""
    seen = weight > 0
    if not seen.any():
        colours = body.colours()
        total, weight = texels.interpolate(body.faces, colours) * 255, np.ones(len(weight))
    else:
        usual = float(np.median(weight[seen]))
        other = _other_side(body, texels, size)
        total = total + _OTHER_SIDE * np.where(other >= 0, 1, 0)[:, None] * total[other]
        weight = weight + _OTHER_SIDE * np.where(other >= 0, 1, 0) * weight[other]
        colours = _spread(body, texels, total, weight, usual)
        around = texels.interpolate(body.faces, colours)
        total, weight = total + _AROUND * usual * around, weight + _AROUND * usual
        colours /= 255
    picture = np.zeros((size, size, 3), np.uint8)
    picture[texels.row, texels.column] = np.clip(np.rint(total / weight[:, None]), 0, 255)
    known = np.zeros((size, size), np.uint8)
    known[texels.row, texels.column] = 1
    return Texture(_to_the_edges(picture, known), np.clip(colours, 0, 1), float(seen.mean()))


def _other_side(body: Body, texels: _Texels, size: int) -> Array:
    """The number of the texel that lies at the mirrored place, ``(N,)``; −1 where the mesh has no such face."""
    faces = body.faces.astype(np.int64)
    mirrored = body.mirror_vertex[faces].astype(np.int64)
    order, turned = np.argsort(faces, 1), np.argsort(mirrored, 1)
    key = [
        _key(np.take_along_axis(f, o, 1), len(body.vertices)) for f, o in ((faces, order), (mirrored, turned))
    ]
    by_key = np.argsort(key[0])
    found = by_key[np.searchsorted(key[0], key[1], sorter=by_key).clip(0, len(faces) - 1)]
    there = key[0][found] == key[1]
    # the corner of the mirrored face that each corner is the mirror image of
    corner = np.take_along_axis(order[found], np.argsort(turned, 1), 1)
    uv = np.take_along_axis(body.uv[found], corner[..., None], 1)  # (F, 3, 2)
    place = np.einsum("nk,nkc->nc", texels.bary, uv[texels.face])
    number = np.full((size, size), -1)
    number[texels.row, texels.column] = np.arange(len(texels.face))
    column = np.clip((place[:, 0] * size).astype(int), 0, size - 1)
    row = np.clip(((1 - place[:, 1]) * size).astype(int), 0, size - 1)
    return np.where(there[texels.face], number[row, column], -1)


def _key(corners: Array, count: int) -> Array:
    """One number a face, of its corners ``(F, 3)`` in order."""
    return (corners[:, 0] * count + corners[:, 1]) * count + corners[:, 2]


def _spread(body: Body, texels: _Texels, total: Array, weight: Array, usual: float) -> Array:
    """Colours ``(V, 3)`` 0…255 of the vertices: what the texels about them, or about their twins, show; smooth where
    those show little."""
    count = len(body.vertices)
    sums, weights = np.zeros((count, 3)), np.zeros(count)
    for k in range(3):
        near = texels.bary[:, k] > 0.5
        vertex, share = body.faces[texels.face[near], k], texels.bary[near, k] ** 4
        weights += np.bincount(vertex, weight[near] * share, count)
        for c in range(3):
            sums[:, c] += np.bincount(vertex, total[near, c] * share, count)
    twin = body.mirror_vertex  # whose faces may lie otherwise than here
    sums, weights = sums + _OTHER_SIDE * sums[twin], weights + _OTHER_SIDE * weights[twin]
    shown = sums / np.maximum(weights, 1e-12)[:, None]
    hold = 5 * np.minimum(weights / usual, 1)[:, None]
    ends, _, _ = mesh_edges(body.faces)
    one, two = np.concatenate([ends, ends[:, ::-1]]).T
    degree = np.maximum(np.bincount(one, minlength=count), 1)[:, None]
    colours = np.where(hold > 0, shown, (sums.sum(0) / weights.sum())[None])
    for _ in range(300):
        beside = np.stack([np.bincount(one, colours[two, c], count) for c in range(3)], 1) / degree
        colours = (beside + hold * shown) / (1 + hold)
    return colours


def _to_the_edges(picture: Array, known: Array) -> Array:
    """The picture with every unknown texel as the nearest known one: what lies beside an island shows through at its
    edge where a texture is seen from afar."""
    if known.all() or not known.any():
        return picture
    _, label = cv2.distanceTransformWithLabels(1 - known, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    row, column = np.nonzero(known)
    nearest = np.zeros(int(label.max()) + 1, np.int64)
    nearest[label[row, column]] = np.arange(len(row))
    number = nearest[label]
    return picture[row[number], column[number]]
