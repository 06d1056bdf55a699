# SPDX-License-Identifier: GPL-3.0-or-later
"""Contact sheets of the body: all proportions at their ends, nine animals, and strong poses."""

from __future__ import annotations

import numpy as np

from ...core import Category
from ...core.mesh import vertex_normals
from ...core.raster import rasterize
from ...core.rotation import rotvec_to_quat
from .poses import GALLERIES, Rotations


def pose(category: Category, rotations: Rotations) -> np.ndarray:
    """Joint rotations (J, 4) of a pose given as rotation vectors, within the limits."""
    vectors = np.zeros((len(category.skeleton), 3))
    for name, vector in rotations.items():
        vectors[category.skeleton.index(name)] = vector
    limits = category.skeleton.limits
    return rotvec_to_quat(np.clip(vectors, limits[..., 0], limits[..., 1]))


def typical(category: Category, name: str | None) -> np.ndarray:
    """Coefficients (K,) of a body of the category's gallery; None for the mean."""
    values = GALLERIES[category.name].bodies[name] if name else {}
    return np.array([values.get(proportion, 0.0) for proportion in category.morphology_names])


def draw(
    vertices: np.ndarray,
    faces: np.ndarray,
    colours: np.ndarray,
    azimuth: float,
    size: tuple[int, int],
    metres: float,
) -> np.ndarray:
    """Shaded picture (h, w, 3) uint8; azimuth 0 looks at the left side, pi/2 at the face; `metres` wide."""
    c, s = np.cos(azimuth), np.sin(azimuth)
    toward = np.array([c, -s, 0.22]) / np.linalg.norm([1, 0.22])
    right = np.array([s, c, 0])
    down = np.cross(right, toward)
    down = down if down[2] < 0 else -down
    view = np.stack([right, down, -toward])
    middle = (vertices.min(0) + vertices.max(0)) / 2
    camera = (vertices - middle) @ view.T
    scale = size[0] / metres
    pixels = np.concatenate([camera[:, :2] * scale + np.array(size) / 2, camera[:, 2:] + 10], 1)
    raster = rasterize(pixels[None], faces, size)
    normals = vertex_normals(vertices, faces)
    light = np.clip(normals @ (toward * 0.75 + [0, 0, 0.3]), 0, 1) * 0.65 + 0.45
    picture = np.asarray(raster.interpolate(np.clip(colours * light[:, None], 0, 1)))[0]
    mask = np.asarray(raster.mask)[0]
    return np.where(mask[..., None], 255 * picture**0.8, 242).astype(np.uint8)


def tile(category: Category, vertices: np.ndarray, label: str, size: int, metres: float) -> np.ndarray:
    """Two views beside each other with a label below, (size, 2·size, 3)."""
    import cv2

    colours = category.body.colours()
    azimuths = GALLERIES[category.name].azimuths
    views = [draw(vertices, category.body.faces, colours, a, (size, size), metres) for a in azimuths]
    picture = np.ascontiguousarray(np.concatenate(views, 1))
    cv2.putText(picture, label, (4, size - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (40, 40, 40), 1, cv2.LINE_AA)
    return picture


def _grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    blank = np.full_like(tiles[0], 242)
    tiles = tiles + [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def morphology_sheet(category: Category, size: int = 150) -> np.ndarray:
    """The mean and typical bodies, then every coefficient at its minimum and maximum."""
    gallery = GALLERIES[category.name]

    def shown(beta: np.ndarray, label: str) -> np.ndarray:
        return tile(category, category.body.shaped(beta)[0], label, size, gallery.metres[0])

    tiles = [shown(typical(category, name), name or "mean") for name in (None, *gallery.bodies)]
    tiles += [np.full_like(tiles[0], 242)] * (-len(tiles) % 4)
    for k, proportion in enumerate(category.morphology):
        for value in (proportion.minimum, proportion.maximum):
            beta = np.zeros(len(category.morphology))
            beta[k] = value
            tiles.append(shown(beta, f"{proportion.name} {value:+.2f}"))
    return _grid(tiles, 4)


def pose_sheet(category: Category, size: int = 260) -> np.ndarray:
    """Strong poses on the mean body and on two that differ much."""
    gallery = GALLERIES[category.name]
    tiles = []
    for body in (None, *gallery.posed):
        for name, rotations in gallery.poses.items():
            vertices = category.posed_vertices(typical(category, body), pose(category, rotations)[None])[0]
            tiles.append(tile(category, vertices, f"{body or 'mean'}: {name}", size, gallery.metres[1]))
    return _grid(tiles, 3)
