# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasteriser against a test of every pixel with every triangle."""

from __future__ import annotations

import numpy as np
import pytest
from naive_raster import naive_raster

from dasr_blender.core import Category, Motion, rasterize, silhouette, transform
from dasr_blender.core.camera import project

SIZE = (48, 36)


def soup(
    seed: int, frames: int = 2, triangles: int = 40, spread: float = 8.0
) -> tuple[np.ndarray, np.ndarray]:
    """Random triangles, some small, some large, some partly outside the picture."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform((-10, -10), (58, 46), (frames, triangles, 1, 2))
    corner = centre + rng.normal(0, spread, (frames, triangles, 3, 2))
    depth = rng.uniform(1, 5, (frames, triangles, 3, 1))
    pixels = np.concatenate([corner, depth], axis=-1).reshape(frames, triangles * 3, 3)
    return pixels, np.arange(triangles * 3).reshape(-1, 3)


@pytest.mark.parametrize("spread", [0.4, 3.0, 20.0])
def test_equals_the_test_of_every_pixel(spread: float) -> None:
    pixels, faces = soup(0, spread=spread)
    raster = rasterize(pixels, faces, SIZE)
    face, depth, bary = naive_raster(pixels, faces, SIZE)
    assert (face >= 0).any() and (face < 0).any()
    np.testing.assert_array_equal(raster.face, face)
    np.testing.assert_allclose(raster.depth, depth, rtol=1e-6)
    np.testing.assert_allclose(raster.bary, bary, atol=1e-6)
    np.testing.assert_array_equal(silhouette(pixels, faces, SIZE), face >= 0)
    np.testing.assert_array_equal(raster.mask, face >= 0)


def test_a_large_batch_is_its_frames_one_by_one() -> None:
    """Long enough to be worked off in several runs."""
    pixels, faces = soup(1, frames=120, triangles=400, spread=4.0)
    together = rasterize(pixels, faces, SIZE)
    masks = silhouette(pixels, faces, SIZE)
    for t in (0, 59, 119):
        alone = rasterize(pixels[t : t + 1], faces, SIZE)
        np.testing.assert_array_equal(together.face[t], alone.face[0])
        np.testing.assert_array_equal(masks[t], alone.mask[0])


def test_outlines_tell_what_a_mesh_covers() -> None:
    """A lump of random shape, seen from anywhere: whole, turned inside out, in tatters, partly behind the camera."""
    rng = np.random.default_rng(4)
    rows, columns = 9, 16
    turn, rise = np.arange(columns) * 2 * np.pi / columns, np.linspace(-1.4, 1.4, rows)[:, None]
    ball = np.stack([np.cos(rise) * np.cos(turn), np.cos(rise) * np.sin(turn), np.sin(rise) + 0 * turn], -1)
    ball = np.concatenate([(ball * rng.uniform(0.5, 1.5, (rows, columns, 1))).reshape(-1, 3), [[0, 0, -1], [0, 0, 1]]])
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = (i * columns + j).ravel(), (i * columns + (j + 1) % columns).ravel()
    ring, k = np.arange(columns), (np.arange(columns) + 1) % columns
    top, low = len(ball) - 1, len(ball) - 2
    faces = np.concatenate(
        [
            np.stack([a, b, b + columns], 1), np.stack([a, b + columns, a + columns], 1),
            np.stack([k, ring, np.full(columns, low)], 1),
            np.stack([ring, k, np.full(columns, 0)], 1) + [(rows - 1) * columns, (rows - 1) * columns, top],
        ]
    )  # fmt: skip
    turns = np.linalg.qr(rng.normal(size=(12, 3, 3)))[0]
    turns *= np.sign(np.linalg.det(turns))[:, None, None]
    seen = ball @ turns.swapaxes(1, 2) + [0, 0, 6]
    pixels = np.concatenate([seen[..., :2] / seen[..., 2:] * 70 + 25, seen[..., 2:]], -1)
    whole = rasterize(pixels, faces, SIZE).mask
    assert whole.any((1, 2)).all()
    np.testing.assert_array_equal(silhouette(pixels, faces, SIZE), whole)
    np.testing.assert_array_equal(silhouette(pixels, faces[:, ::-1], SIZE), whole)
    holed = faces[rng.permutation(len(faces))[: len(faces) * 2 // 3]]
    holed = np.concatenate([holed, holed[:5, ::-1], holed[:3]])  # edges of one face, of three and of four
    np.testing.assert_array_equal(silhouette(pixels, holed, SIZE), rasterize(pixels, holed, SIZE).mask)
    pixels[3] += [0, 0, -6]  # partly behind the camera
    assert (pixels[3, :, 2] < 0).any() and (pixels[3, :, 2] > 0).any()
    np.testing.assert_array_equal(silhouette(pixels, holed, SIZE), rasterize(pixels, holed, SIZE).mask)


def test_a_mesh_has_neither_cracks_nor_doubles() -> None:
    """A triangulated grid whose corners lie anywhere, on pixel centres too, covers each pixel exactly once."""
    rng = np.random.default_rng(2)
    n = 9
    y, x = np.meshgrid(np.linspace(-4, 44, n), np.linspace(-4, 56, n), indexing="ij")
    x[1:-1, 1:-1] += np.round(rng.uniform(-2, 2, (n - 2, n - 2)) * 2) / 2
    y[1:-1, 1:-1] += np.round(rng.uniform(-2, 2, (n - 2, n - 2)) * 2) / 2
    points = np.stack([x.ravel(), y.ravel(), np.ones(n * n)], axis=-1)[None]
    a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([a, a + 1, a + n], 1), np.stack([a + 1, a + n + 1, a + n], 1)])
    count = sum(silhouette(points, faces[k : k + 1], SIZE).astype(int) for k in range(len(faces)))
    np.testing.assert_array_equal(count, 1)


def test_interpolation_is_perspective_correct() -> None:
    """The camera-space point at each pixel projects back to that pixel's centre, at the depth drawn."""
    rng = np.random.default_rng(3)
    space = rng.uniform((-1, -1, 1), (1, 1, 4), (1, 30, 3))
    pp = np.array([24.0, 18.0])
    pixels = np.concatenate([project(space, 30.0, pp), space[..., 2:]], axis=-1)
    raster = rasterize(pixels, np.arange(30).reshape(-1, 3), SIZE)
    shown = raster.interpolate(space)
    batch, row, column = raster.hits
    assert len(batch) > 100
    seen = project(shown[batch, row, column], 30.0, pp)
    np.testing.assert_allclose(seen, np.stack([column, row], 1) + 0.5, atol=1e-8)
    np.testing.assert_allclose(shown[..., 2][raster.mask], raster.depth[raster.mask], rtol=1e-5)
    assert not shown[~raster.mask].any()
    np.testing.assert_allclose(raster.interpolate(space[0]), shown)


def test_near_plane_cuts_as_a_picture_of_points_says() -> None:
    """A floor that runs under and behind the camera fills the picture exactly below its horizon."""
    pp, focal = np.array([24.0, 18.0]), 20.0
    floor = np.array([[[-500, 1, -500], [500, 1, -500], [500, 1, 500], [-500, 1, 500]]], dtype=float)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    pixels = np.concatenate([project(floor, focal, pp), floor[..., 2:]], axis=-1)
    raster = rasterize(pixels, faces, SIZE)
    np.testing.assert_array_equal(raster.mask[0], np.broadcast_to(np.arange(36)[:, None] >= 18, (36, 48)))
    np.testing.assert_array_equal(silhouette(pixels, faces, SIZE), raster.mask)
    row = np.arange(18, 36) + 0.5
    expected = np.broadcast_to((focal / (row - 18))[:, None], (18, 48))
    np.testing.assert_allclose(raster.depth[0, 18:], expected, rtol=1e-3)
    shown = raster.interpolate(floor)[0, 18:]
    np.testing.assert_allclose(shown[..., 2], expected, rtol=1e-6)
    np.testing.assert_allclose(shown[..., 1], 1, rtol=1e-6)


@pytest.mark.parametrize(
    "corner", [(10, 10, -1), (np.nan, 5, 2), (np.inf, 5, 2), (1e18, -1e18, 2), (5, 5, 0)]
)
def test_wild_corners_spoil_nothing_else(corner: tuple[float, float, float]) -> None:
    good = np.array([[2, 2, 2], [30, 3, 2], [4, 30, 2]], dtype=float)
    wild = np.array([corner, corner, corner], dtype=float)
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    got = rasterize(np.concatenate([good, wild])[None], faces, SIZE)
    alone = rasterize(good[None], faces[:1], SIZE)
    np.testing.assert_array_equal(got.face, alone.face)
    np.testing.assert_array_equal(got.depth, alone.depth)


def test_nothing_to_draw() -> None:
    pixels, faces = soup(4)
    behind = pixels * [1, 1, -1]
    for points, triangles in ((behind, faces), (pixels, faces[:0]), (pixels[:0], faces)):
        raster = rasterize(points, triangles, SIZE)
        assert raster.face.shape == (len(points), SIZE[1], SIZE[0])
        assert not raster.mask.any() and np.all(np.isinf(raster.depth))
        assert not silhouette(points, triangles, SIZE).any()
        assert raster.interpolate(np.ones((pixels.shape[1], 2))).shape == (*raster.face.shape, 2)


def test_the_toy_animal(toy_category: Category, motion: Motion) -> None:
    points = transform(motion.camera_from_root, toy_category.posed_vertices(motion))[:2]
    pixels = np.concatenate(
        [project(points, motion.focal_px[:2] / 4, motion.principal_point / 4), points[..., 2:]], -1
    )
    face, depth, _ = naive_raster(pixels, toy_category.body.faces, (80, 60))
    raster = rasterize(pixels, toy_category.body.faces, (80, 60))
    np.testing.assert_array_equal(raster.mask, face >= 0)
    np.testing.assert_allclose(raster.depth, depth, rtol=1e-6)
