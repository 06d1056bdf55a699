# SPDX-License-Identifier: GPL-3.0-or-later
"""Contact sheets of the body: all proportions at their ends, nine animals, and strong poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core import Category
from ...core.mesh import vertex_normals
from ...core.raster import rasterize
from ...core.rotation import rotvec_to_quat
from .morphology import PRESETS, preset

Rotations = dict[str, tuple[float, float, float]]
POSES: dict[str, Rotations] = {
    "walk": {
        "front_upper.L": (-0.4, 0, 0), "front_lower.L": (0.2, 0, 0), "front_upper.R": (0.3, 0, 0),
        "front_lower.R": (-0.3, 0, 0), "front_foot.R": (0.8, 0, 0), "hind_upper.L": (0.35, 0, 0),
        "hind_lower.L": (0.1, 0, 0), "hind_upper.R": (-0.45, 0, 0), "hind_lower.R": (0.3, 0, 0),
        "hind_foot.R": (-0.2, 0, 0), "tail_1": (0.3, 0, 0.3), "head": (0.2, 0, 0),
    },
    "gallop": {
        "front_upper.L": (-1.0, 0, 0), "front_lower.L": (-0.2, 0, 0), "front_upper.R": (-0.7, 0, 0),
        "front_lower.R": (-0.9, 0, 0), "front_foot.R": (0.8, 0, 0), "hind_upper.L": (0.9, 0, 0),
        "hind_lower.L": (-0.2, 0, 0), "hind_upper.R": (0.7, 0, 0), "hind_foot.R": (0.5, 0, 0),
        "pelvis": (0.3, 0, 0), "spine": (-0.2, 0, 0), "neck_1": (0.5, 0, 0), "tail_1": (1.2, 0, 0),
    },
    "graze": {
        "neck_1": (1.1, 0, 0), "neck_2": (0.8, 0, 0), "head": (-0.3, 0, 0), "jaw": (0.4, 0, 0),
        "front_upper.L": (-0.3, 0, 0), "tail_1": (1.5, 0, 0),
    },
    "sit": {
        "pelvis": (-0.75, 0, 0), "spine": (-0.3, 0, 0), "hind_upper.L": (-0.9, 0.2, 0),
        "hind_upper.R": (-0.9, -0.2, 0), "hind_lower.L": (1.4, 0, 0), "hind_lower.R": (1.4, 0, 0),
        "hind_foot.L": (-1.3, 0, 0), "hind_foot.R": (-1.3, 0, 0), "tail_1": (0.9, 0, 0.4),
    },
    "turn": {
        "spine": (0, 0, 0.45), "chest": (0, 0, 0.4), "neck_1": (0, 0, 0.7), "neck_2": (0, 0, 0.7),
        "head": (0.2, 0.3, 0.5), "pelvis": (0, 0, -0.4), "tail_1": (0.5, 0, 0.8), "tail_2": (0, 0, 0.7),
        "ear.L": (0.6, 0, 0), "ear.R": (-0.5, 0, 0),
    },
    "lie": {
        "front_upper.L": (0.5, 0, 0), "front_lower.L": (-1.7, 0, 0), "front_upper.R": (0.5, 0, 0),
        "front_lower.R": (-1.7, 0, 0), "hind_upper.L": (-1.1, 0.3, 0), "hind_lower.L": (1.6, 0, 0),
        "hind_foot.L": (-1.5, 0, 0), "hind_upper.R": (-1.1, -0.3, 0), "hind_lower.R": (1.6, 0, 0),
        "hind_foot.R": (-1.5, 0, 0), "neck_1": (0.3, 0, 0),
    },
}  # fmt: skip


def pose(category: Category, rotations: Rotations) -> np.ndarray:
    """Joint rotations (J, 4) of a pose given as rotation vectors, within the limits."""
    vectors = np.zeros((len(category.skeleton), 3))
    for name, vector in rotations.items():
        vectors[category.skeleton.index(name)] = vector
    limits = category.skeleton.limits
    return rotvec_to_quat(np.clip(vectors, limits[..., 0], limits[..., 1]))


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


def tile(
    category: Category, vertices: np.ndarray, label: str, size: int = 150, metres: float = 1.75
) -> np.ndarray:
    """Side and three-quarter view beside each other with a label below, (size, 2·size, 3)."""
    import cv2

    colours = category.body.colours()
    views = [draw(vertices, category.body.faces, colours, a, (size, size), metres) for a in (0.0, 0.75)]
    picture = np.ascontiguousarray(np.concatenate(views, 1))
    cv2.putText(picture, label, (4, size - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (40, 40, 40), 1, cv2.LINE_AA)
    return picture


def _grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    blank = np.full_like(tiles[0], 242)
    tiles = tiles + [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def morphology_sheet(category: Category) -> np.ndarray:
    """Nine animals and the rest body, then every coefficient at its minimum and maximum."""
    tiles = [tile(category, category.body.shaped()[0], "mean")]
    tiles += [tile(category, category.body.shaped(preset(n))[0], n) for n in PRESETS]
    tiles += [np.full_like(tiles[0], 242)] * 2
    for k, proportion in enumerate(category.morphology):
        for value in (proportion.minimum, proportion.maximum):
            beta = np.zeros(len(category.morphology))
            beta[k] = value
            tiles.append(tile(category, category.body.shaped(beta)[0], f"{proportion.name} {value:+.2f}"))
    return _grid(tiles, 4)


def pose_sheet(category: Category) -> np.ndarray:
    """Strong poses on the mean body, a horse and a camel, seen from both sides."""
    tiles = []
    for animal in (None, "horse", "cat"):
        beta = preset(animal) if animal else np.zeros(len(category.morphology))
        for name, rotations in POSES.items():
            vertices = category.posed_vertices(beta, pose(category, rotations)[None])[0]
            tiles.append(tile(category, vertices, f"{animal or 'mean'}: {name}", 260, 1.9))
    return _grid(tiles, 3)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture (h, w, 3)."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
