# SPDX-License-Identifier: GPL-3.0-or-later
"""Contact sheets of pseudo ground truth: do the labels sit on the animal, left on left, legs on legs?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ...core.camera import project, transform
from ...core.category import Category
from ...core.motion import Motion
from ...core.raster import silhouette
from ...core.skeleton import forward_kinematics
from ..clip_folder import read_meta
from ..picture import read_picture, write_picture

_LEFT, _RIGHT, _MIDDLE = (255, 60, 60), (60, 120, 255), (60, 255, 60)  # RGB


def labelled_pixels(motion: Motion, category: Category) -> tuple[np.ndarray, np.ndarray]:
    """Label geometry in the picture: joints (T, J, 3) and vertices (T, V, 3) as pixel x, y and depth."""
    _, joints = category.body.shaped(motion.morphology)
    placed = forward_kinematics(category.skeleton, joints, motion.joint_rotations)[..., :3, 3]
    out = []
    for points in (placed, category.posed_vertices(motion)):
        camera = transform(motion.camera_from_root, points)
        pixel = project(camera, motion.focal_px, motion.principal_point)
        out.append(np.concatenate([pixel, camera[..., 2:]], axis=-1))
    return out[0], out[1]


def draw_labels(
    image: np.ndarray, joints: np.ndarray, vertices: np.ndarray, category: Category, scale: int = 2
) -> np.ndarray:
    """One frame (H, W, 3) RGB enlarged, with bones (left red, right blue, middle green) and the body's outline.

    joints (J, 3), vertices (V, 3): pixels and depth from `labelled_pixels`.
    """
    height, width = image.shape[:2]
    out = cv2.resize(image, (width * scale, height * scale), interpolation=cv2.INTER_LINEAR)
    drawn = silhouette(vertices[None], category.body.faces, (width, height))[0].astype(np.uint8)
    outline, _ = cv2.findContours(
        cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST),
        cv2.RETR_EXTERNAL,
        cv2.CHAIN_APPROX_NONE,
    )
    cv2.drawContours(out, outline, -1, (255, 255, 0), 1)
    for j in np.argsort(-joints[:, 2]):
        name, parent = category.skeleton.names[j], category.skeleton.parents[j]
        colour = _LEFT if name.endswith(".L") else _RIGHT if name.endswith(".R") else _MIDDLE
        here = tuple(int(v) for v in np.clip(joints[j, :2] * scale, -9999, 9999))
        if parent >= 0:
            there = tuple(int(v) for v in np.clip(joints[parent, :2] * scale, -9999, 9999))
            cv2.line(out, there, here, colour, 1, cv2.LINE_AA)
        cv2.circle(out, here, 4 if name == "head" else 2, (255, 0, 255) if name == "head" else colour, -1)
    return out


def _tile(picture: np.ndarray, size: tuple[int, int], text: str = "") -> np.ndarray:
    """The picture (H, W, 3) fitted into a black tile of `size` (width, height), with a line of text below."""
    factor = min(size[0] / picture.shape[1], size[1] / picture.shape[0])
    small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    out = np.zeros((size[1], size[0], 3), np.uint8)
    out[: small.shape[0], : small.shape[1]] = small[: size[1], : size[0]]
    cv2.putText(out, text, (4, size[1] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def clip_strips(
    folders: Sequence[Path],
    category: Category,
    path: Path,
    columns: int = 8,
    size: tuple[int, int] = (240, 200),
) -> None:
    """One picture with a row a clip: frames over time, masked as the student sees them, every other one with labels."""
    rows = []
    for folder in folders:
        motion = Motion.load(folder / "motion.npz")
        joints, vertices = labelled_pixels(motion, category)
        meta = read_meta(folder)
        row = []
        for k, t in enumerate(np.linspace(0, len(motion) - 1, columns).round().astype(int)):
            image = np.ascontiguousarray(read_picture(folder / "frames" / f"{t:05d}.jpg"))
            mask = read_picture(folder / "masks" / f"{t:05d}.png", cv2.IMREAD_GRAYSCALE) > 127
            if k % 2:
                picture = draw_labels(image, joints[t], vertices[t], category)
            else:
                picture = np.where(mask[..., None], image, image // 6 + 20)
            text = f"{folder.name} {meta.get('rig', '')} {meta.get('source', '')}" if k == 0 else ""
            row.append(_tile(picture, size, str(meta.get("action", "")) if k == 1 else text))
        rows.append(np.hstack(row))
    write_picture(path, np.vstack(rows))


def contact_sheet(
    folders: Sequence[Path],
    category: Category,
    path: Path,
    columns: int = 5,
    tile: tuple[int, int] = (400, 300),
) -> None:
    """One picture with the first and the middle frame of each clip, plain masked and with labels."""
    tiles = []
    for folder in folders:
        motion = Motion.load(folder / "motion.npz")
        joints, vertices = labelled_pixels(motion, category)
        meta = read_meta(folder)
        t = len(motion) // 2
        image = read_picture(folder / "frames" / f"{t:05d}.jpg")
        mask = read_picture(folder / "masks" / f"{t:05d}.png", cv2.IMREAD_GRAYSCALE) > 127
        both = [np.where(mask[..., None], image, image // 6 + 20), image]
        both = [
            draw_labels(np.ascontiguousarray(both[1]), joints[t], vertices[t], category),
            cv2.resize(np.ascontiguousarray(both[0]), None, fx=2, fy=2),
        ]
        text = f"{folder.name} {meta.get('rig', '')} {meta.get('source', '')} {meta.get('action', '')}"
        row = [_tile(picture, tile, text if k == 0 else "") for k, picture in enumerate(both)]
        tiles.append(np.hstack(row))
    while len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    write_picture(path, np.vstack(rows))
