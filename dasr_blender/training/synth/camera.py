# SPDX-License-Identifier: GPL-3.0-or-later
"""Random cameras round a subject: all headings, natural heights, still or moving smoothly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CameraConfig:
    """How a clip is filmed. Angles in degrees, rates in degrees a second, sizes as shares of the frame."""

    pitch_common: tuple[float, float] = (-5.0, 30.0)
    pitch_all: tuple[float, float] = (-25.0, 70.0)
    common_share: float = 0.7
    end_on_share: float = 0.3  # clips seen from near the front or from behind, beyond those that fall so
    roll_std: float = 3.0
    field_of_view: tuple[float, float] = (20.0, 80.0)  # horizontal
    subject_size: tuple[float, float] = (0.5, 1.0)  # the mesh's box against the frame
    cut_share: float = 0.18  # clips in which the frame's edge may cut the subject
    still_share: float = 0.35
    orbit_rate: float = 35.0
    dolly_rate: float = 0.25  # share of the distance a second
    zoom_share: float = 0.12  # clips whose focal length changes
    shake_share: float = 0.3  # clips from an unsteady hand
    shake: tuple[float, float] = (0.002, 0.02)  # of the picture's width


@dataclass(frozen=True)
class CameraPath:
    """camera_from_world (T, 4, 4) OpenCV; focal_px (T,); principal_point (2,); size (width, height)."""

    camera_from_world: np.ndarray
    focal_px: np.ndarray
    principal_point: np.ndarray
    size: tuple[int, int]


def look_at(eye: np.ndarray, target: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """OpenCV camera_from_world (T, 4, 4) for eye and target (T, 3) in a Z-up world, roll (T,) radians."""
    forward = target - eye
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    rotation = np.stack([c * right + s * down, -s * right + c * down, forward], axis=1)  # (T, 3, 3)
    matrix = np.tile(np.eye(4), (len(eye), 1, 1))
    matrix[:, :3, :3] = rotation
    matrix[:, :3, 3] = -np.einsum("tij,tj->ti", rotation, eye)
    return matrix


def _aim(point: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) that takes the optical axis to the image-plane point (x/z, y/z), yaw then pitch."""
    yaw, pitch = np.arctan(point[0]), -np.arctan2(point[1], np.hypot(1.0, point[0]))
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return turn_y @ turn_x


def _drift(rng: np.random.Generator, seconds: np.ndarray, rate: float) -> np.ndarray:
    """A smooth path (T,) through 0 in the middle: constant rate plus a slow sway."""
    middle = seconds - seconds.mean()
    sway = rng.normal(0, rate * 0.15) * np.sin(2 * np.pi * rng.uniform(0.3, 1.2) * middle)
    return rng.normal(0, rate) * middle + sway


def _shaken(rng: np.random.Generator, steps: int) -> np.ndarray:
    """(T, 2) of a hand's unrest: noise of which each value keeps two thirds of the one before."""
    out = rng.normal(size=(steps, 2))
    for t in range(1, steps):
        out[t] = 0.67 * out[t - 1] + 0.74 * out[t]
    return out


def random_camera(
    rng: np.random.Generator,
    vertices: np.ndarray,
    seconds: np.ndarray,
    size: tuple[int, int],
    config: CameraConfig = CameraConfig(),
    heading: float | None = None,
) -> CameraPath:
    """A camera for posed world vertices (T, V, 3), Z up; seconds (T,); size (width, height) px.

    heading: where the subject looks, radians about +Z from +X; without it every side is as likely.
    """
    width, height = size
    low, high = vertices.min(1), vertices.max(1)
    centre = (low + high) / 2  # (T, 3)
    radius = float(np.linalg.norm(high - low, axis=1).max() / 2)
    fov = np.deg2rad(rng.uniform(*config.field_of_view))
    focal = np.full(len(seconds), width / 2 / np.tan(fov / 2))
    if rng.random() < config.zoom_share:
        focal *= np.exp(_drift(rng, seconds, 0.5))
    pitch_range = config.pitch_common if rng.random() < config.common_share else config.pitch_all
    still = rng.random() < config.still_share
    move = 0.0 if still else 1.0
    steps = len(seconds)
    yaw = rng.uniform(-np.pi, np.pi)
    if heading is not None and rng.random() < config.end_on_share:
        yaw = heading + np.pi * rng.integers(2) + rng.normal(0, 0.4)
    yaw = yaw + move * np.deg2rad(_drift(rng, seconds, config.orbit_rate))
    pitch = np.deg2rad(rng.uniform(*pitch_range) + move * _drift(rng, seconds, config.orbit_rate * 0.3))
    pitch = np.clip(pitch, np.deg2rad(-30), np.deg2rad(75))
    roll = np.deg2rad(rng.normal(0, config.roll_std) + move * _drift(rng, seconds, 3.0))
    follow = 0.0 if still else float(rng.choice([0.0, 1.0, rng.random()], p=[0.2, 0.5, 0.3]))
    target = centre.mean(0) + follow * (centre - centre.mean(0))
    direction = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)], -1)
    dolly = np.exp(move * _drift(rng, seconds, config.dolly_rate))
    wanted = rng.uniform(*config.subject_size)
    cut = rng.random() < config.cut_share
    place = rng.uniform(-1, 1, 2)
    distance, aim = radius * 1.2 / np.tan(fov / 2), np.eye(3)
    principal = np.array([width / 2, height / 2])
    sample = vertices[:, :: max(1, vertices.shape[1] // 400)]
    matrix = np.tile(np.eye(4), (steps, 1, 1))
    for attempt in range(5):  # size and place settle together; perspective couples them
        matrix = look_at(target + direction * (distance * dolly)[:, None], target, roll)
        matrix[:, :3] = np.einsum("ij,tjk->tik", aim, matrix[:, :3])
        seen = np.einsum("tij,tvj->tvi", matrix[:, :3, :3], sample) + matrix[:, None, :3, 3]
        depth = np.maximum(seen[..., 2:], 0.05 * radius)
        pixel = (seen[..., :2] / depth * focal[:, None, None] + principal).reshape(steps, -1, 2)
        box_low, box_high = pixel.min(1), pixel.max(1)
        if attempt == 4:
            break
        extent = (box_high - box_low).max(0) / np.array([width, height])
        if attempt < 3:
            distance = max(distance * float(extent.max()) / wanted, 1.35 * radius)
        slack = (np.array([width, height]) - (box_high - box_low).mean(0)) / 2
        slack = np.maximum(slack, 0) + (0.35 * (box_high - box_low).mean(0) if cut else 0.0)
        error = place * slack - ((box_low + box_high).mean(0) / 2 - principal)
        aim = _aim(error / focal.mean() * 0.9) @ aim
    if rng.random() < config.shake_share:
        reach = np.exp(rng.uniform(*np.log(config.shake))) * width / focal.mean()
        for t, shift in enumerate(_shaken(rng, steps) * reach):
            matrix[t, :3] = _aim(shift) @ matrix[t, :3]
    return CameraPath(matrix, focal, principal, size)
