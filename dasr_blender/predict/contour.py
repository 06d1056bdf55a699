# SPDX-License-Identifier: GPL-3.0-or-later
"""Outlines: of the masks, once a clip; of the body, at every step; and which part of one belongs to the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..core.raster import silhouette
from ..core.workers import worker_count
from .fit_body import Posed

Array = np.ndarray

_FAR = 1e3


@dataclass(frozen=True, eq=False)
class Outlines:
    """The masks' outlines; lengths in crop sides, places from the crop's centre.

    distance ``(T, S, S)`` float32: signed distance to the outline at the pixels' centres, positive outside.
    point ``(T, N, 2)``, normal ``(T, N, 2)`` outward and weight ``(T, N)``: points of the outline that lie inside the
    picture, weight 0 where there are fewer than N.  inside ``(T, S, S)`` bool: the part of the crop in the picture.
    area ``(T,)``: of the mask, square crop sides.
    """

    distance: Array
    point: Array
    normal: Array
    weight: Array
    inside: Array
    area: Array

    @property
    def size(self) -> int:
        return self.distance.shape[-1]

    def thinned(self) -> Outlines:
        """Every second point."""
        return replace(
            self, point=self.point[:, ::2], normal=self.normal[:, ::2], weight=self.weight[:, ::2]
        )

    def part(self, frames: slice) -> Outlines:
        """Some of the frames."""
        names = ("distance", "point", "normal", "weight", "inside", "area")
        return Outlines(*(getattr(self, name)[frames] for name in names))


def read_outlines(masks: Array, center: Array, side: Array, image_size: Array, number: int) -> Outlines:
    """From the crops' masks ``(T, S, S)``, uint8 0…255 or 0…1, soft at their rims.

    center ``(T, 2)``, side ``(T,)`` and image_size (width, height): pixels. number: points a frame.
    An outline along the picture's border is where the picture ends, not the subject, and is left out.
    """
    count, size = masks.shape[:2]
    at = (np.arange(size) + 0.5) / size - 0.5
    x, y = (center[:, k, None] + side[:, None] * at for k in range(2))
    inside = ((y >= 0) & (y < image_size[1]))[:, :, None] & ((x >= 0) & (x < image_size[0]))[:, None, :]
    soft = masks.astype(np.float32) * (1 / 255 if masks.dtype == np.uint8 else 1.0)
    distance = np.empty((count, size, size), np.float32)
    point, normal = np.zeros((count, number, 2), np.float32), np.zeros((count, number, 2), np.float32)
    weight = np.zeros((count, number), np.float32)

    def one(t: int) -> None:
        distance[t] = _signed(soft[t], inside[t]) / size
        places, outward = _crossings(soft[t], inside[t])
        chosen = (np.arange(min(number, len(places))) * len(places)) // max(min(number, len(places)), 1)
        point[t, : len(chosen)] = places[chosen] / size - 0.5
        normal[t, : len(chosen)] = outward[chosen]
        weight[t, : len(chosen)] = 1.0

    with ThreadPoolExecutor(worker_count()) as pool:
        list(pool.map(one, range(count)))
    return Outlines(distance, point, normal, weight, inside, (soft > 0.5).mean((1, 2)))


def _signed(mask: Array, inside: Array) -> Array:
    """Distance in pixels to the outline, positive outside, from a soft mask (S, S); unknown land is no background."""
    solid = mask > 0.5
    background = (~solid & inside).astype(np.uint8)
    if not solid.any():
        return np.full(mask.shape, _FAR, np.float32)
    out = cv2.distanceTransform((~solid).astype(np.uint8), cv2.DIST_L2, 5)
    deep = (
        cv2.distanceTransform(1 - background, cv2.DIST_L2, 5)
        if background.any()
        else np.full(mask.shape, _FAR)
    )
    distance = np.where(solid, 0.5 - deep, out - 0.5).astype(np.float32)
    rim = (np.abs(distance) < 1) & (mask > 0.02) & (mask < 0.98)  # a soft mask knows fractions of a pixel
    return np.where(rim, 0.5 - mask, distance)


def _crossings(mask: Array, inside: Array) -> tuple[Array, Array]:
    """Where a soft mask (S, S) passes one half between neighbours: places ``(n, 2)`` pixels and outward normals.

    In the order of their angle about the middle, so that any n-th of them are spread over the outline.
    """
    smooth = cv2.GaussianBlur(mask, (0, 0), 1.0)
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    found, normals = [], []
    for axis in (0, 1):
        a, b = (mask[:, :-1], mask[:, 1:]) if axis else (mask[:-1], mask[1:])
        known = (inside[:, :-1] & inside[:, 1:]) if axis else (inside[:-1] & inside[1:])
        row, column = np.nonzero(((a > 0.5) != (b > 0.5)) & known)
        first, second = a[row, column], b[row, column]
        share = (0.5 - first) / (second - first)
        place = np.stack([column + 0.5, row + 0.5], 1)
        place[:, 0 if axis else 1] += share
        found.append(place)
        to_row, to_column = row + (0 if axis else 1), column + (1 if axis else 0)
        slope = np.stack(
            [gx[row, column] + gx[to_row, to_column], gy[row, column] + gy[to_row, to_column]], 1
        )
        normals.append(-slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6))
    places, outward = np.concatenate(found), np.concatenate(normals)
    middle = places.mean(0) if len(places) else np.zeros(2)
    order = np.argsort(np.arctan2(places[:, 1] - middle[1], places[:, 0] - middle[0]), kind="stable")
    return places[order].astype(np.float32), outward[order].astype(np.float32)


@dataclass(frozen=True, eq=False)
class Rims:
    """Pieces of the body's outline, at most R a frame.

    ends ``(T, R, 2)`` coarse vertices; middle ``(T, R, 2)``, normal ``(T, R, 2)`` outward, length ``(T, R)``: in crop
    sides; length 0 where there are fewer.  drawn ``(T, S, S)`` bool: the silhouette they bound.
    """

    ends: Array
    middle: Array
    normal: Array
    length: Array
    drawn: Array


def find_rims(posed: Posed, size: int, number: int) -> Rims:
    """The outline of the posed body: edges between a face that looks here and one that does not, where nothing else
    of the body lies just outside. size: of the silhouette, pixels; number: R.

    Occluding contours of a mesh; Hertzmann, "Introduction to 3D Silhouette Detection", 1999.
    """
    model = posed.model
    pixels = np.concatenate([(posed.seen + 0.5) * size, posed.camera[..., 2:]], -1)
    drawn = silhouette(pixels, model.faces, (size, size))
    seen = posed.seen
    a, b, c = model.faces.T
    x, y = np.ascontiguousarray(np.moveaxis(seen, -1, 0))
    left, up = x[:, a], y[:, a]
    away = (x[:, b] - left) * (y[:, c] - up) - (y[:, b] - up) * (x[:, c] - left) > 0
    one, two = away[:, model.edge_faces[:, 0]], away[:, model.edge_faces[:, 1]]
    frame, edge = np.nonzero(one != two)
    ends = model.edges[edge]
    first, second = seen[frame, ends[:, 0]], seen[frame, ends[:, 1]]
    along = second - first
    length = np.maximum(np.linalg.norm(along, axis=1), 1e-6)
    normal = np.stack([along[:, 1], -along[:, 0]], 1) / length[:, None]
    # outward is away from the rest of either face
    third, other = (seen[frame, model.across[edge, k]] for k in range(2))
    inward = (third + other) / 2 - first
    normal *= -np.sign((normal * inward).sum(1, keepdims=True) + 1e-12)
    middle = 0.5 * (first + second)
    outer = np.ones(len(frame), bool)
    for step in (1.0, 2.2):  # pixels
        probe = np.floor((middle + 0.5) * size + step * normal).astype(np.int64)
        within = ((probe >= 0) & (probe < size)).all(1)
        x, y = np.clip(probe, 0, size - 1).T
        outer &= ~(drawn[frame, y, x] & within)
    frame, ends, middle, normal, length = (v[outer] for v in (frame, ends, middle, normal, length))
    return _in_slots(len(seen), number, frame, ends, middle, normal, length, drawn)


def _in_slots(
    count: int,
    number: int,
    frame: Array,
    ends: Array,
    middle: Array,
    normal: Array,
    length: Array,
    drawn: Array,
) -> Rims:
    """At most `number` a frame, evenly taken, into arrays of one size."""
    total = np.bincount(frame, minlength=count)
    rank = np.arange(len(frame)) - (np.cumsum(total) - total)[frame]
    share = np.minimum(1.0, number / np.maximum(total, 1))[frame]
    slot = np.floor(rank * share).astype(np.int64)
    kept = (np.floor((rank - 1) * share) != slot) | (rank == 0)
    frame, slot = frame[kept], slot[kept]
    out = Rims(
        np.zeros((count, number, 2), np.int64),
        np.full((count, number, 2), _FAR, np.float32),
        np.zeros((count, number, 2), np.float32),
        np.zeros((count, number), np.float32),
        drawn,
    )
    for target, values in (
        (out.ends, ends),
        (out.middle, middle),
        (out.normal, normal),
        (out.length, length),
    ):
        target[frame, slot] = values[kept]
    return out


def sample(distance: Array, place: Array) -> tuple[Array, Array]:
    """Signed distances ``(T, N)`` and their unit slopes ``(T, N, 2)`` at places ``(T, N, 2)``; both in crop sides.

    distance: as in `Outlines`. Places outside the crop are brought to its rim and their way there is added.
    """
    count, size = distance.shape[:2]
    at = place.astype(np.float64) * size + size / 2 - 0.5
    held = np.clip(at, 1.0, size - 2.001)
    corner = np.floor(held).astype(np.int64)
    fx, fy = np.moveaxis((held - corner).astype(np.float32), -1, 0)
    base = (np.arange(count)[:, None] * size + corner[..., 1]) * size + corner[..., 0]
    flat = distance.reshape(-1)

    def bilinear(dx: int, dy: int) -> Array:
        near = base + dy * size + dx
        top = flat[near] * (1 - fx) + flat[near + 1] * fx
        return top * (1 - fy) + (flat[near + size] * (1 - fx) + flat[near + size + 1] * fx) * fy

    right, left, below, above = bilinear(1, 0), bilinear(-1, 0), bilinear(0, 1), bilinear(0, -1)
    slope = np.stack([right - left, below - above], -1)
    slope /= np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-9)
    beyond = ((at - held) / size).astype(np.float32)
    return bilinear(0, 0) + (beyond * slope).sum(-1), slope


def nearest_rim(outlines: Outlines, rims: Rims, posed: Posed, turn: float) -> tuple[Array, Array]:
    """The rim that each point of the masks' outlines belongs to: slots ``(T, N)``, and share ``(T, N)`` of the way from
    the piece's first end to its second.

    The nearest by distance, with `turn` for a rim that faces the other way.
    """
    away = (outlines.point[..., 0, None] - rims.middle[:, None, :, 0]) ** 2
    away += (outlines.point[..., 1, None] - rims.middle[:, None, :, 1]) ** 2
    facing = outlines.normal @ np.swapaxes(rims.normal, 1, 2)
    away += turn**2 * (0.5 - 0.5 * facing) ** 2
    away += np.where(rims.length > 0, 0.0, _FAR)[:, None]
    slot = away.argmin(2)
    rows = np.arange(len(slot))[:, None]
    ends = rims.ends[rows, slot]
    first, second = posed.seen[rows, ends[..., 0]], posed.seen[rows, ends[..., 1]]
    along = second - first
    square = np.maximum((along**2).sum(-1), 1e-12)
    return slot, np.clip(((outlines.point - first) * along).sum(-1) / square, 0, 1)
