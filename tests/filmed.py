# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered clips of a walk in a world that stays where it is while the camera turns, trembles, travels or zooms.

The floor is a textured plane and everything beyond a painted panorama, so the background moves as a real one
does. World: z up, floor at z = 0. Everything is known: camera, root, joints and which foot stands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from dasr_blender.clip import Clip, Masks
from dasr_blender.core import Category, Motion, find_feet, project, rasterize, transform
from dasr_blender.core.mesh import vertex_normals
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.demo import DUTY, TOUCH_DOWN, DemoOptions, coat, walk

Array = np.ndarray

KINDS = ("still", "pan", "handheld", "zoom", "travel")
EYE = 1.3  # metres above the floor


@dataclass(frozen=True, eq=False)
class Film:
    """frames (T, H, W, 3) and masks (T, H, W) uint8; motion: the truth, its world the first frame's camera;
    standing (T, F) bool by the walk's own timing, feet in `find_feet`'s order."""

    frames: Array
    masks: Array
    motion: Motion
    standing: Array

    @property
    def clip(self) -> Clip:
        count, height, width = self.frames.shape[:3]
        return Clip(
            fps=self.motion.fps,
            size=(width, height),
            original_size=(width, height),
            frame_index=np.arange(count),
            source="film",
            source_count=count,
            sha256="0" * 64,
            pixels=self.frames,
        )

    @property
    def subject(self) -> Masks:
        return Masks.pack([mask > 127 for mask in self.masks], "folder")


def film(
    category: Category,
    kind: str,
    frames: int = 72,
    size: tuple[int, int] = (640, 360),
    focal: float = 1.1,
    seed: int = 0,
    plain: bool = False,
) -> Film:
    """A quadruped walks past a camera of this `kind`. focal: over the longer side, in the first frame.
    plain: a background with nothing to follow."""
    motion, standing, camera_from_world = acted(category, kind, frames, size, focal, seed)
    floor = _plain() if plain else _noise((1024, 1024), seed + 1, (110, 120, 70), 60)
    panorama = _plain() if plain else _panorama(seed + 2)
    pictures, masks = [], []
    colours = coat(category, seed)
    light = np.array([-0.4, -0.75, -0.53])
    for t in range(frames):
        back = _background(floor, panorama, camera_from_world[t], float(motion.focal_px[t]), size)
        posed = category.posed_vertices(motion.morphology, motion.joint_rotations[t : t + 1])[0]
        seen = transform(motion.camera_from_root[t], posed)
        places = project(seen, float(motion.focal_px[t]), motion.principal_point)
        shade = 0.42 + 0.62 * np.clip(vertex_normals(seen, category.body.faces) @ light, 0, 1)
        raster = rasterize(
            np.column_stack([places * 2, seen[:, 2]])[None],
            category.body.faces,
            (2 * size[0], 2 * size[1]),
        )
        body = np.clip(raster.interpolate((colours * shade[:, None]).astype(np.float32))[0], 0, 255)
        cover = cv2.resize(raster.mask[0].astype(np.float32), size, interpolation=cv2.INTER_AREA)
        small = cv2.resize(body, size, interpolation=cv2.INTER_AREA)
        grain = np.random.default_rng([seed, t]).normal(0, 1.5, (*back.shape[:2], 1))
        pictures.append((small + back * (1 - cover[..., None]) + grain).clip(0, 255).astype(np.uint8))
        masks.append((cover * 255).round().astype(np.uint8))
    return Film(np.stack(pictures), np.stack(masks), motion, standing)


def acted(
    category: Category, kind: str, frames: int, size: tuple[int, int], focal: float, seed: int = 0, fps: int = 24
) -> tuple[Motion, Array, Array]:
    """The true motion, which foot stands (T, F), and camera_from_world (T, 4, 4), without drawing anything."""
    options = DemoOptions(frames=frames, cycle=fps, size=size)
    rotations = walk(category, options)
    count = np.arange(frames)
    motion = Motion(
        fps=float(fps),
        frame_index=count,
        image_size=np.array(size),
        focal_px=np.full(frames, focal * max(size)),
        principal_point=np.array(size) / 2,
        camera_from_root=np.tile(np.eye(4), (frames, 1, 1)),
        joint_rotations=rotations,
        morphology=np.zeros(len(category.morphology)),
        appearance=np.zeros(len(category.body.appearance_basis)),
        confidence=np.ones(frames),
        joint_confidence=np.ones((frames, len(category.skeleton))),
        mask_iou=np.ones(frames),
        category=category.name,
        category_version=category.version,
        source="film.mp4",
    )
    # In body space first: standing feet go backwards as fast as the body goes forwards.
    feet = find_feet(category, motion)
    names = [category.skeleton.names[j] for j in feet.joints]
    starts = np.array([TOUCH_DOWN[f"{name.split('_')[0]}.{name[-1]}"] for name in names])
    standing = ((count[:, None] / options.cycle - starts) % 1.0) < DUTY
    both = (standing[1:] & standing[:-1]).astype(float)
    step = np.diff(feet.sole[..., :2], axis=0)
    step = -(step * both[..., None]).sum(1) / np.maximum(both.sum(1), 1)[:, None]
    way = np.concatenate([np.zeros((1, 2)), np.cumsum(step, axis=0)])
    height = -category.posed_vertices(motion.morphology, rotations)[..., 2].min(axis=1)
    world = np.tile(np.eye(4), (frames, 1, 1))
    heading = rotvec_to_matrix(np.array([0.0, 0.0, 0.5 * np.pi - 0.25]))
    world[:, :3, :3] = heading
    world[:, :3, 3] = np.column_stack([way, height]) @ np.diag([1.0, 1, 0]) @ heading.T
    world[:, :3, 3] += [0, 0, 1] * height[:, None]
    distance = 3.4 if kind != "zoom" else 4.2
    world[:, :3, 3] += np.array([0.0, distance, 0.0]) - [*(0.5 * world[[0, -1], :2, 3].sum(0)), 0.0]
    camera, zoom = _camera(kind, world[:, :3, 3], seed, fps)
    motion = replace(
        motion,
        focal_px=motion.focal_px * zoom,
        camera_from_root=camera @ world,
        world_from_camera=camera[0] @ np.linalg.inv(camera),
    )
    return motion.validate(category), standing, camera


def _camera(kind: str, root: Array, seed: int, fps: int) -> tuple[Array, Array]:
    """camera_from_world (T, 4, 4) and focal length over the first (T,)."""
    count = len(root)
    time = np.linspace(0, 1, count)
    eye = np.tile([0.0, 0.0, EYE], (count, 1))
    target, zoom, shake = root.mean(0) * np.ones((count, 1)), np.ones(count), np.zeros((count, 3))
    if kind != "still":
        target = 0.5 * target + 0.5 * root if kind == "zoom" else root.copy()
        target[:, 2] = root[:, 2].mean()
    if kind == "zoom":
        zoom = np.exp(np.log(1.6) * time**2 * (3 - 2 * time))
    if kind in ("handheld", "travel"):
        shake = np.radians(1.2) * _tremble(count, seed, fps) * [1.0, 1.0, 0.7]
        eye = eye + 0.012 * _tremble(count, seed + 9, fps)
    if kind == "travel":
        eye = eye + np.column_stack([1.2 * (time - 0.5), 0.3 * time, np.zeros(count)])
    ahead = target - eye
    yaw = np.arctan2(ahead[:, 0], ahead[:, 1])
    pitch = np.arctan2(ahead[:, 2], np.linalg.norm(ahead[:, :2], axis=1))
    level = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # camera_from_world, looking along +y
    turn = rotvec_to_matrix(yaw[:, None] * [0, 0, 1.0])  # about world z, right is positive
    nod = rotvec_to_matrix(pitch[:, None] * [-1.0, 0, 0])  # about camera x, up is positive
    camera = np.tile(np.eye(4), (count, 1, 1))
    camera[:, :3, :3] = rotvec_to_matrix(shake) @ nod @ level @ turn
    camera[:, :3, 3] = -np.einsum("tij,tj->ti", camera[:, :3, :3], eye)
    return camera, zoom


def _tremble(count: int, seed: int, fps: int) -> Array:
    """A hand's movement (T, 3): sums of sines of 0.4 to 3 Hz at that many frames a second, about ±1."""
    rng = np.random.default_rng(seed)
    time = np.arange(count)[:, None, None] / fps
    rate = rng.uniform(0.4, 3.0, (1, 3, 5))
    return (np.sin(2 * np.pi * rate * time + rng.uniform(0, 6.28, (1, 3, 5))) / (1 + rate)).sum(-1)


def _plain() -> Array:
    return np.full((8, 8, 3), 150, np.uint8)


def _noise(shape: tuple[int, int], seed: int, colour: tuple[int, int, int], contrast: float) -> Array:
    """A tile of noise of all sizes, (h, w, 3) uint8."""
    rng = np.random.default_rng(seed)
    total = np.zeros(shape, np.float32)
    for level in range(2, 8):
        grid = rng.normal(size=(2**level, 2**level)).astype(np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        scale = shape[0] / 2**level
        wide = cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        edge = int(2 * scale)
        total += wide[edge : edge + shape[0], edge : edge + shape[1]] * 0.8**level
    total *= contrast / total.std()
    return (np.array(colour) + total[..., None]).clip(0, 255).astype(np.uint8)


def _panorama(seed: int) -> Array:
    """All round, (1024, 4096, 3): azimuth by columns, height from −45° to 45° by rows; hills, trees and sky."""
    rng = np.random.default_rng(seed)
    image = np.zeros((1024, 4096, 3), np.float32)
    rows = np.linspace(1, 0, 1024)[:, None, None]
    image[:] = np.array([225, 232, 240]) - 60 * rows
    texture = _noise((1024, 1024), seed, (0, 0, 0), 1).astype(np.float32)
    texture = _noise((1024, 1024), seed, (128, 128, 128), 45).astype(np.float32) - 128
    texture = np.tile(texture, (1, 4, 1))
    columns = np.arange(4096) / 4096 * 2 * np.pi
    for base, shade in ((0.42, (150, 165, 170)), (0.47, (95, 120, 85))):
        ridge = base + sum(0.03 * np.sin(k * columns + rng.uniform(0, 6)) / k**0.5 for k in (2, 5, 9, 17, 40))
        below = np.arange(1024)[:, None] / 1024 > ridge[None]
        image = np.where(below[..., None], np.array(shade) + texture, image)
    for _ in range(220):  # trunks, huts, stones: corners
        x, top = int(rng.integers(0, 4096)), float(rng.uniform(0.36, 0.5))
        wide, colour = int(rng.integers(4, 40)), rng.uniform(30, 200, 3)
        image[int(top * 1024) : 540, x : x + wide] = (
            colour + 0.3 * texture[int(top * 1024) : 540, x : x + wide]
        )
    return image.clip(0, 255).astype(np.uint8)


def _background(
    floor: Array, panorama: Array, camera_from_world: Array, focal: float, size: tuple[int, int]
) -> Array:
    """(H, W, 3) float32: where each pixel's ray meets the floor within 40 m, and else the panorama."""
    wide = (2 * size[0], 2 * size[1])  # twice oversampled
    x = ((np.arange(wide[0]) + 0.5) / 2 - size[0] / 2) / focal
    y = ((np.arange(wide[1]) + 0.5) / 2 - size[1] / 2) / focal
    ray = np.stack([*np.meshgrid(x, y), np.ones((wide[1], wide[0]))], axis=-1) @ camera_from_world[:3, :3]
    eye = -camera_from_world[:3, :3].T @ camera_from_world[:3, 3]
    azimuth = np.arctan2(ray[..., 0], ray[..., 1]) / (2 * np.pi) % 1.0
    rise = np.arctan2(ray[..., 2], np.linalg.norm(ray[..., :2], axis=-1)) / (0.5 * np.pi)
    h, w = panorama.shape[:2]
    far = cv2.remap(
        panorama,
        (azimuth * w - 0.5).astype(np.float32),
        ((0.5 - rise) * h - 0.5).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    down = np.minimum(ray[..., 2], -1e-4)
    reach = eye[2] / -down
    place = eye[:2] + ray[..., :2] * reach[..., None]
    near = (ray[..., 2] < 0) & (reach * np.linalg.norm(ray, axis=-1) < 40)
    tile = 6.0  # metres
    u, v = (place / tile % 1.0).transpose(2, 0, 1)
    ground = cv2.remap(
        floor,
        (u * floor.shape[1] - 0.5).astype(np.float32),
        (v * floor.shape[0] - 0.5).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    image = np.where(near[..., None], ground, far).astype(np.float32)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
