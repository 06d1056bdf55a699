# SPDX-License-Identifier: GPL-3.0-or-later
"""A numpy triangle rasteriser: silhouettes, depth, and which point of the surface every pixel shows.

Scan conversion over the whole batch at once. Edges are cut by the pixel rows they meet. A silhouette only needs
those at which the number of layers changes: +1 or −1 where one crosses the middle of a row, and a running sum along
it. Depth needs the pixels inside too: every triangle is cut into spans (about three to a triangle at the sizes we
draw), and because spans hold no pixel outside the triangle, nothing is tested and thrown away. Edges are always
evaluated from their upper end, so two triangles that share one agree on it to the bit, and a mesh has neither cracks
nor pixels drawn by both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache

import numpy as np

from .mesh import mesh_edges

Array = np.ndarray

NEAR = 1e-3  # metres
_TRIANGLES_AT_ONCE = 1 << 15  # keeps the temporaries in cache
_PIXELS_AT_ONCE = 1 << 20
_HITS_AT_ONCE = 1 << 14


class Raster:
    """What :func:`rasterize` found.

    face: ``(B, h, w)`` int32, the nearest face at each pixel's centre, −1 where there is none.
    depth: ``(B, h, w)`` float32, camera z in metres, inf where there is nothing.
    """

    def __init__(self, face: Array, depth: Array, pixels: Array, faces: Array) -> None:
        self.face = face
        self.depth = depth
        self._pixels = pixels
        self._faces = faces

    @property
    def mask(self) -> Array:
        """``(B, h, w)`` bool."""
        return self.face >= 0

    @cached_property
    def hits(self) -> tuple[Array, Array, Array]:
        """Batch, row and column ``(N,)`` of every pixel that shows a face."""
        batch, row, column = np.nonzero(self.face >= 0)
        return batch, row, column

    @cached_property
    def hit_bary(self) -> Array:
        """Perspective-correct barycentric coordinates ``(N, 3)`` at :attr:`hits`.

        With homogeneous corners ``p_i = (x_i z_i, y_i z_i, z_i)`` they are proportional to the solution of
        ``[p_0 p_1 p_2] l = (x, y, 1)``, here by Cramer's rule; corners behind the camera need no special case
        (Olano & Greer, "Triangle Scan Conversion Using 2D Homogeneous Coordinates", 1997).
        """
        batch, row, column = self.hits
        table = np.moveaxis(np.asarray(self._pixels, dtype=np.float64), -1, 0)  # (3, B, V)
        found = np.empty((len(batch), 3))
        for start in range(0, len(batch), _HITS_AT_ONCE):
            part = slice(start, start + _HITS_AT_ONCE)
            corner = self._faces[self.face[batch[part], row[part], column[part]]].T  # (3, n)
            x, y, z = table[:, batch[part], corner]
            # Relative to the pixel, the determinants are 2D cross products times two depths.
            x -= column[part] + 0.5
            y -= row[part] + 0.5
            x *= z
            y *= z
            weight = np.stack([x[i] * y[j] - x[j] * y[i] for i, j in ((1, 2), (2, 0), (0, 1))])
            total = weight.sum(axis=0)
            found[part] = (weight / np.where(total == 0, 1, total)).T
        return found

    @cached_property
    def bary(self) -> Array:
        """``(B, h, w, 3)`` float32, barycentric coordinates in the face; zero where there is none."""
        bary = np.zeros(self.face.shape + (3,), np.float32)
        bary[self.hits] = self.hit_bary
        return bary

    def interpolate(self, attribute: Array) -> Array:
        """Vertex values ``(V, C)`` or ``(B, V, C)`` over the picture, ``(B, h, w, C)``, else 0."""
        attribute = np.asarray(attribute)
        batch, row, column = self.hits
        corner = self._faces[self.face[batch, row, column]]
        dtype = attribute.dtype if attribute.dtype.kind == "f" else np.dtype(np.float32)
        values = np.zeros((len(batch), attribute.shape[-1]), dtype)
        for k in range(3):
            ends = attribute[corner[:, k]] if attribute.ndim == 2 else attribute[batch, corner[:, k]]
            values += ends * self.hit_bary[:, k, None].astype(dtype)
        picture = np.zeros(self.face.shape + attribute.shape[-1:], dtype)
        picture[batch, row, column] = values
        return picture


def rasterize(pixels: Array, faces: Array, size: tuple[int, int], near: float = NEAR) -> Raster:
    """Draw a batch of meshes with a z-buffer.

    pixels: ``(B, V, 3)``, x and y in pixels and the camera depth z in metres; points behind the camera as
    :func:`~dasr_blender.core.camera.project` gives them.  faces: ``(F, 3)``.  size: (width, height).
    Both sides of a face are drawn; what is nearer than `near` is cut away.
    """
    pixels, faces = np.asarray(pixels), np.asarray(faces)
    width, height = int(size[0]), int(size[1])
    batch = len(pixels)
    # One integer per pixel orders by nearness and names the face: the bits of the float32 1/z, which rise
    # with it, above the face's number.
    nearest = np.full(batch * height * width, -1, np.int64)
    for first, part in _chunks(pixels, faces, width, height):
        frame, face, corners = _triangles(part, faces, near)
        triangle, row, start, stop = _spans(corners, width, height)
        plane, low, high = _inverse_depth_planes(corners)
        base = ((first + frame[triangle]) * height + row) * width
        lengths = stop - start
        ends = np.cumsum(lengths)
        begin = 0
        while begin < len(lengths):
            done = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + _PIXELS_AT_ONCE)))
            some = slice(begin, end)
            n, tri = lengths[some], triangle[some]
            # 1/z is linear in the picture: its value at the span's start, and the step from pixel to pixel.
            at_start = plane[0, tri] * (start[some] + 0.5) + plane[1, tri] * (row[some] + 0.5) + plane[2, tri]
            owner = np.repeat(np.arange(len(n)), n)
            along = np.arange(len(owner)) - np.repeat(ends[some] - n - done, n)
            value = (at_start[owner] + plane[0, tri][owner] * along).astype(np.float32)
            np.clip(value, low[tri][owner], high[tri][owner], out=value)
            key = (value.view(np.int32).astype(np.int64) << 32) | face[tri].astype(np.int64)[owner]
            np.maximum.at(nearest, (base[some] + start[some])[owner] + along, key)
            begin = end
    empty = nearest < 0
    found = np.where(empty, -1, nearest & 0xFFFFFFFF).astype(np.int32)
    inverse = (nearest >> 32).astype(np.int32).view(np.float32)
    depth = np.divide(1, inverse, out=np.full(len(nearest), np.inf, np.float32), where=~empty)
    shape = (batch, height, width)
    return Raster(found.reshape(shape), depth.reshape(shape), pixels, faces)


def silhouette(pixels: Array, faces: Array, size: tuple[int, int], near: float = NEAR) -> Array:
    """Which pixels' centres a batch of meshes covers, ``(B, h, w)`` bool; arguments as :func:`rasterize`.

    How many faces lie over a pixel is told by the edges beside it: what an edge adds for one face it takes for the
    next, unless they look different ways or there is no next. So only the outlines of a body are scanned.
    """
    pixels, faces = np.asarray(pixels), np.asarray(faces)
    width, height = int(size[0]), int(size[1])
    covered = np.zeros((len(pixels), height, width), bool)
    ends, owners, signs = _edges(faces.tobytes(), faces.dtype.str)
    for first, part in _chunks(pixels, faces, width, height):
        whole = (np.isfinite(part).all(-1) & (part[..., 2] >= near)).all(1)
        frame, x, y, weight = _outlines(part[whole], faces, ends, owners, signs)
        frame = np.flatnonzero(whole)[frame]
        if not whole.all():  # something is behind the camera: triangle by triangle
            cut = np.flatnonzero(~whole)
            owner, _, corners = _triangles(part[cut], faces, near)
            facing = _facing(corners[:, 0], corners[:, 1])
            frame = np.concatenate([frame, *[cut[owner]] * 3])
            x, y = (
                np.concatenate([v, *(corners[[k, (k + 1) % 3], axis] for k in range(3))], 1)
                for axis, v in enumerate((x, y))
            )
            weight = np.concatenate([weight, *[facing] * 3])
        layers = _layers(frame, x, y, weight, len(part), width, height)
        covered[first : first + len(part)] = layers[..., :width] > 0.5
    return covered


@lru_cache(16)
def _edges(faces: bytes, kind: str) -> tuple[Array, Array, Array]:
    """`mesh_edges` of faces as they lie in memory: the same few meshes are drawn again and again."""
    return mesh_edges(np.frombuffer(faces, kind).reshape(-1, 3))


def _facing(x: Array, y: Array) -> Array:
    """Which way triangles with corners ``(3, …)`` look, ``(…)``: 1, −1, or 0 for those without area."""
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    return (area > 0).astype(np.int8) - (area < 0)


def _outlines(
    pixels: Array, faces: Array, ends: Array, owners: Array, signs: Array
) -> tuple[Array, Array, Array, Array]:
    """Edges at which the number of layers changes: frame ``(N,)``, x and y of both ends ``(2, N)``, and weight
    ``(N,)``."""
    x, y = np.moveaxis(pixels[..., :2].astype(np.float64), -1, 0)
    facing = _facing(*(np.moveaxis(v[:, faces], -1, 0) for v in (x, y)))
    weight = facing[:, owners[:, 0]] * signs[:, 0] + facing[:, owners[:, 1]] * signs[:, 1]
    frame, edge = np.nonzero(weight)
    at = ends[edge].T
    return frame, x[frame, at], y[frame, at], weight[frame, edge]


def _layers(frame: Array, x: Array, y: Array, weight: Array, count: int, width: int, height: int) -> Array:
    """Layers of faces ``(count, h, w + 1)`` over every pixel, from edges as `_outlines` finds them."""
    down = y[1] > y[0]
    (xa, xb), (ya, yb) = (np.where(down, v, v[::-1]) for v in (x, y))
    top, stop = (np.ceil(np.clip(v - 0.5, 0, height)).astype(np.int64) for v in (ya, yb))
    kept = np.flatnonzero(stop > top)
    xa, xb, ya, yb, top, frame = (v[kept] for v in (xa, xb, ya, yb, top, frame))
    rows = stop[kept] - top
    slope, value = (xb - xa) / (yb - ya), np.where(down, -weight, weight)[kept]
    owner = np.repeat(np.arange(len(kept)), rows)
    row = np.arange(len(owner)) - np.repeat(np.cumsum(rows) - rows - top, rows)
    at = xa[owner] + (row + 0.5 - ya[owner]) * slope[owner]
    column = np.ceil(np.clip(at - 0.5, 0, width)).astype(np.int64)
    cell = (frame[owner] * height + row) * (width + 1) + column
    change = np.bincount(cell, value[owner], minlength=count * height * (width + 1))
    return np.cumsum(change.reshape(count, height, width + 1), axis=2)


def _chunks(pixels: Array, faces: Array, width: int, height: int) -> Iterator[tuple[int, Array]]:
    """Runs of frames as (first, ``(b, V, 3)``), short enough for the temporaries."""
    cost = max(2 * len(faces), width * height // 4, 1)
    step = max(1, 2 * _TRIANGLES_AT_ONCE // cost)
    for first in range(0, len(pixels), step):
        yield first, pixels[first : first + step]


def _triangles(pixels: Array, faces: Array, near: float) -> tuple[Array, Array, Array]:
    """Drawable triangles: frame ``(N,)``, face ``(N,)`` and corners ``(3, 3, N)`` as [corner][xyz].

    Triangles that cross the near plane are cut, those behind it left out, as are those that are not finite.
    """
    table = np.moveaxis(np.asarray(pixels, dtype=np.float64), -1, 0)  # (3, b, V)
    count = len(faces)
    ok = np.isfinite(table).all(axis=0)
    front = (table[2] >= near) & ok
    frames = len(pixels)
    if front.all():
        corners = table[:, :, faces.T].transpose(2, 0, 1, 3).reshape(3, 3, frames * count)
        return np.repeat(np.arange(frames), count), np.tile(np.arange(count), frames), corners
    seen = front[:, faces]  # (b, F, 3)
    whole = seen.all(axis=2)
    cut = seen.any(axis=2) & ~whole & ok[:, faces].all(axis=2)
    frame, face = np.nonzero(whole)
    corners = table[:, frame, faces.T[:, face]].swapaxes(0, 1)
    if cut.any():
        cut_frame, cut_face = np.nonzero(cut)
        owner, extra = _clip(table[:, cut_frame, faces.T[:, cut_face]].swapaxes(0, 1), near)
        frame = np.concatenate([frame, cut_frame[owner]])
        face = np.concatenate([face, cut_face[owner]])
        corners = np.concatenate([corners, extra], axis=2)
    return frame, face, corners


def _clip(corners: Array, near: float) -> tuple[Array, Array]:
    """Cut triangles ``(3, 3, N)`` at the near plane: whose each piece is, and the pieces ``(3, 3, M)``.

    (x z, y z, z) is linear in camera space whatever the focal length, so the cut is made there.
    """
    space = corners.copy()
    space[:, :2] *= corners[:, 2:]
    inside = space[:, 2] >= near
    owners, pieces = [], []
    for alone in (False, True):  # two corners in front, or only one
        chosen = np.flatnonzero(inside.sum(axis=0) == (1 if alone else 2))
        odd = np.argmax(inside[:, chosen] == alone, axis=0)  # the corner unlike the other two
        a, b, c = (space[(odd + k) % 3, :, chosen].T for k in range(3))
        ab = a + (b - a) * ((near - a[2]) / (b[2] - a[2]))
        ac = a + (c - a) * ((near - a[2]) / (c[2] - a[2]))
        for piece in [(a, ab, ac)] if alone else [(ab, b, c), (ab, c, ac)]:
            owners.append(chosen)
            pieces.append(np.stack(piece))
    found = np.concatenate(pieces, axis=2)
    found[:, :2] /= np.maximum(found[:, 2:], near)
    return np.concatenate(owners), found


def _spans(corners: Array, width: int, height: int) -> tuple[Array, Array, Array, Array]:
    """Spans of triangles ``(3, 3, N)`` in the picture: triangle, row, first column, last column + 1."""
    x, y = corners[:, 0], corners[:, 1]
    (x0, y0), (x1, y1), (x2, y2) = (x[0], y[0]), (x[1], y[1]), (x[2], y[2])
    # a sorting network by y
    x0, y0, x1, y1 = _ordered(x0, y0, x1, y1)
    x1, y1, x2, y2 = _ordered(x1, y1, x2, y2)
    x0, y0, x1, y1 = _ordered(x0, y0, x1, y1)
    top = np.ceil(np.clip(y0 - 0.5, 0, height)).astype(np.int64)
    rows = np.ceil(np.clip(y2 - 0.5, 0, height)).astype(np.int64) - top
    rows[(np.maximum(np.maximum(x0, x1), x2) <= 0.5) | (np.minimum(np.minimum(x0, x1), x2) > width - 0.5)] = 0
    kept = np.flatnonzero(rows)
    rows = rows[kept]
    x0, y0, x1, y1, x2, y2 = (v[kept] for v in (x0, y0, x1, y1, x2, y2))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        long, upper, lower = (x2 - x0) / (y2 - y0), (x1 - x0) / (y1 - y0), (x2 - x1) / (y2 - y1)
    owner = np.repeat(np.arange(len(kept)), rows)
    row = np.arange(len(owner)) - np.repeat(np.cumsum(rows) - rows - top[kept], rows)
    middle = row + 0.5
    below = middle >= y1[owner]
    short_x, short_y, slope = (
        np.where(below, b[owner], a[owner]) for a, b in ((x0, x1), (y0, y1), (upper, lower))
    )
    one = x0[owner] + (middle - y0[owner]) * long[owner]
    two = short_x + (middle - short_y) * slope
    start = np.ceil(np.clip(np.minimum(one, two) - 0.5, 0, width)).astype(np.int64)
    stop = np.ceil(np.clip(np.maximum(one, two) - 0.5, 0, width)).astype(np.int64)
    some = np.flatnonzero(stop > start)
    return kept[owner[some]], row[some], start[some], stop[some]


def _ordered(xa: Array, ya: Array, xb: Array, yb: Array) -> tuple[Array, Array, Array, Array]:
    swap = ya > yb
    return np.where(swap, xb, xa), np.where(swap, yb, ya), np.where(swap, xa, xb), np.where(swap, ya, yb)


def _inverse_depth_planes(corners: Array) -> tuple[Array, Array, Array]:
    """1/z over each triangle as ``a x + b y + c``, ``(3, N)``, and its float32 bounds ``(N,)``."""
    x, y = corners[:, 0], corners[:, 1]
    inverse = 1 / corners[:, 2]
    dx1, dx2, dy1, dy2 = x[1] - x[0], x[2] - x[0], y[1] - y[0], y[2] - y[0]
    d1, d2 = inverse[1] - inverse[0], inverse[2] - inverse[0]
    area = dx1 * dy2 - dx2 * dy1
    area = np.where(area == 0, np.inf, area)
    a = (d1 * dy2 - d2 * dy1) / area
    b = (d2 * dx1 - d1 * dx2) / area
    plane = np.stack([a, b, inverse[0] - a * x[0] - b * y[0]])
    return plane, inverse.min(axis=0).astype(np.float32), inverse.max(axis=0).astype(np.float32)
