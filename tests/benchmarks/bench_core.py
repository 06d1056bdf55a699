# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast core is, beside the plain way to do the same: ``python tests/benchmarks/bench_core.py``.

Times are CPU time on one core and the best of a few runs. The naive twins run on fewer frames.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is imported

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[k]) for k in (2, 1)]

from toy import standard_skeleton, toy_rotations

from dasr_blender.core import dual_quaternion, linear_blend, rasterize, silhouette, skin_transforms
from dasr_blender.core.rotation import rotvec_to_matrix


def best_of(runs: int, work: Callable[[], object]) -> float:
    """CPU seconds of the fastest of some runs."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def ball(triangles: int) -> tuple[np.ndarray, np.ndarray]:
    """A lumpy ball of about so many triangles."""
    n = max(4, round((triangles / 2) ** 0.5))
    theta, phi = np.meshgrid(
        np.linspace(0.01, np.pi - 0.01, n + 1), np.linspace(0, 2 * np.pi, n, endpoint=False)
    )
    radius = 1 + 0.2 * np.sin(3 * theta) * np.cos(2 * phi)
    points = np.stack(
        [radius * np.sin(theta) * np.cos(phi), radius * np.sin(theta) * np.sin(phi), radius * np.cos(theta)],
        -1,
    )
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    a, b = i * (n + 1) + j, (i + 1) % n * (n + 1) + j
    faces = np.concatenate(
        [np.stack([a, b, a + 1], -1).reshape(-1, 3), np.stack([b, b + 1, a + 1], -1).reshape(-1, 3)]
    )
    return points.reshape(-1, 3), faces


def pictures(points: np.ndarray, frames: int, size: int) -> np.ndarray:
    """The ball from all sides, filling most of the picture: ``(B, V, 3)``."""
    turn = rotvec_to_matrix(np.random.default_rng(0).normal(0, 1.5, (frames, 3)))
    space = points @ np.swapaxes(turn, 1, 2) + [0, 0, 5]
    return np.concatenate([space[..., :2] / space[..., 2:] * size * 1.9 + size / 2, space[..., 2:]], axis=-1)


def looped_raster(pixels: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The usual z-buffer: triangle by triangle, every pixel of its bounding box tested."""
    width, height = size
    depth = np.full((len(pixels), height, width), np.inf)
    for b, points in enumerate(pixels):
        for p0, p1, p2 in points[faces]:
            low = np.clip(np.floor(np.minimum(np.minimum(p0, p1), p2)[:2]).astype(int), 0, size)
            high = np.clip(np.ceil(np.maximum(np.maximum(p0, p1), p2)[:2]).astype(int), 0, size)
            area = (p1[0] - p0[0]) * (p2[1] - p0[1]) - (p2[0] - p0[0]) * (p1[1] - p0[1])
            if np.any(low >= high) or area == 0:
                continue
            x = np.arange(low[0], high[0])[None, :] + 0.5
            y = np.arange(low[1], high[1])[:, None] + 0.5
            w0 = ((p1[0] - x) * (p2[1] - y) - (p2[0] - x) * (p1[1] - y)) / area
            w1 = ((p2[0] - x) * (p0[1] - y) - (p0[0] - x) * (p2[1] - y)) / area
            w2 = 1 - w0 - w1
            inside = (w0 >= 0) & (w1 >= 0) & (w2 >= 0)
            inverse = np.where(inside, w0 / p0[2] + w1 / p1[2] + w2 / p2[2], 1)
            part = depth[b, low[1] : high[1], low[0] : high[0]]
            np.minimum(part, np.where(inside, 1 / inverse, np.inf), out=part)
    return depth


def naive_linear_blend(
    vertices: np.ndarray, index: np.ndarray, weight: np.ndarray, transforms: np.ndarray
) -> None:
    for frame in transforms:
        for v, point in enumerate(vertices):
            sum(w * (frame[j] @ np.append(point, 1.0))[:3] for j, w in zip(index[v], weight[v], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--naive-frames", type=int, default=1)
    options = parser.parse_args()
    rows: list[tuple[str, float, float]] = []

    for triangles, size in ((2000, 128), (8000, 128), (8000, 512)):
        points, faces = ball(triangles)
        batch = pictures(points, options.frames, size)
        few = batch[: options.naive_frames]
        naive = best_of(1, lambda few=few, faces=faces, size=size: looped_raster(few, faces, (size, size)))
        drawn = rasterize(
            few, faces, (size, size)
        ).depth  # the two must agree before their times mean anything
        assert np.allclose(drawn, looped_raster(few, faces, (size, size)), rtol=1e-5)
        for name, draw in (("silhouette", silhouette), ("rasterize", rasterize)):
            fast = best_of(3, lambda d=draw, b=batch, f=faces, s=size: d(b, f, (s, s)))
            label = f"{name}, {len(faces)} triangles, {size} x {size}"
            rows.append((label, fast / options.frames, naive / len(few)))

    rng = np.random.default_rng(1)
    skeleton, joints = standard_skeleton()
    vertices = rng.normal(0, 0.3, (3000, 3)).astype(np.float32)
    index = rng.integers(0, len(skeleton), (3000, 4))
    weight = rng.dirichlet(np.ones(4), 3000).astype(np.float32)
    rotations = toy_rotations(skeleton, options.frames)
    transforms = skin_transforms(skeleton, joints, rotations)
    few = transforms[: options.naive_frames]
    naive = best_of(1, lambda: naive_linear_blend(vertices, index, weight, few)) / len(few)
    for name, skin in (("linear blend", linear_blend), ("dual quaternion", dual_quaternion)):
        fast = best_of(3, lambda s=skin: s(vertices, index, weight, transforms))
        rows.append((f"{name}, 3000 vertices", fast / options.frames, naive))
    fast = best_of(3, lambda: skin_transforms(skeleton, joints, rotations))
    rows.append(("skin transforms, 30 joints", fast / options.frames, float("nan")))

    print(f"{'ms a frame, one core':<44}{'core':>9}{'naive':>11}{'ratio':>9}")
    for name, fast, slow in rows:
        ratio = "" if np.isnan(slow) else f"{slow * 1e3:11.1f}{slow / fast:8.0f}x"
        print(f"{name:<44}{fast * 1e3:9.3f}{ratio}")


if __name__ == "__main__":
    main()
