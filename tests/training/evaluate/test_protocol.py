# SPDX-License-Identifier: GPL-3.0-or-later
"""Surface scores against naive twins, and what they must and must not see."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.training.evaluate.protocol import (
    Surface,
    ama_protocol,
    distances_to_scores,
    icp,
    point_triangle,
    surface_scores,
    umeyama,
)

RNG = np.random.default_rng(0)


def grid(steps: int, size: float = 1.0, z: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """A square of 2 steps² triangles at depth z."""
    at = np.linspace(-size / 2, size / 2, steps + 1)
    x, y = np.meshgrid(at, at)
    points = np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], 1)
    k = np.arange(steps * (steps + 1)).reshape(steps, steps + 1)[:, :-1].ravel()
    faces = np.concatenate(
        [np.stack([k, k + 1, k + steps + 1], 1), np.stack([k + 1, k + steps + 2, k + steps + 1], 1)]
    )
    return points, faces


def test_umeyama_finds_the_similarity_that_was_applied():
    points = RNG.normal(size=(50, 3))
    rotation = rotvec_to_matrix(np.array([0.4, -1.2, 2.0]))
    moved = 1.7 * points @ rotation.T + [1, 2, 3]
    found = umeyama(points, moved, scale=True)
    assert found.scale == pytest.approx(1.7) and np.allclose(found.rotation, rotation)
    assert np.allclose(found(points), moved)
    assert umeyama(points, moved, scale=False).scale == 1.0
    mirrored = umeyama(points, points * [-1, 1, 1], scale=True)
    assert np.linalg.det(mirrored.rotation) == pytest.approx(1)  # a rotation, never a reflection


def test_icp_lays_a_whole_sequence_back_with_one_motion():
    frames = [RNG.normal(size=(900, 3)) * [1.0, 0.6, 0.3] + [0, 0, t] for t in range(3)]
    rotation = rotvec_to_matrix(np.array([0.03, -0.05, 0.04]))
    moved = [f @ rotation.T + [0.03, 0.02, -0.04] for f in frames]
    found = icp(moved, frames, scale=False)
    assert max(np.abs(found(m) - f).max() for m, f in zip(moved, frames, strict=True)) < 1e-3


def test_scores_are_those_of_the_plain_definition():
    a, b = RNG.normal(size=(40, 3)) * 0.1, RNG.normal(size=(60, 3)) * 0.1
    gap = np.linalg.norm(a[:, None] - b[None], axis=-1)
    there, back = gap.min(0), gap.min(1)
    scores = distances_to_scores(there, back)
    assert scores[0] == pytest.approx(100 * (there.mean() + back.mean()))
    for k, limit in enumerate((0.10, 0.05, 0.02)):
        precision, recall = (back < limit).mean(), (there < limit).mean()
        expected = 0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
        assert scores[1 + k] == pytest.approx(expected)


def test_the_ama_protocol_forgives_scale_focal_length_and_one_rigid_motion_and_nothing_else():
    ball = RNG.normal(size=(1500, 3))
    shape = ball / np.linalg.norm(ball, axis=1, keepdims=True) * [0.6, 0.3, 0.2]
    shape[:, 1] += 0.6 * shape[:, 0] ** 2
    true = [shape + [0.1 * t, 0, 4.0] for t in range(4)]
    turn = rotvec_to_matrix(np.array([0.0, 0.01, 0.05]))
    found = [0.6 * (t @ turn.T) for t in true]
    found = [f * [1, 1, 0.8] for f in found]  # seen with 0.8 of the focal length
    focal = np.full(4, 1000.0)
    scores = ama_protocol(found, true, 0.8 * focal, focal)
    assert scores.shape == (4, 4) and scores[:, 0].max() < 1.5 and scores[:, 3].min() > 0.98
    assert ama_protocol(found, true, focal, focal)[:, 0].mean() > 3  # a wrong focal length is another shape
    drifting = [f + [0.1 * t, 0, 0] for t, f in enumerate(true)]
    assert (
        ama_protocol(drifting, true, focal, focal)[:, 0].max() > 3
    )  # one motion for all frames, not one each


def test_point_to_triangle_is_the_distance_to_its_nearest_point():
    corners, points = RNG.normal(size=(30, 3, 3)), RNG.normal(size=(30, 3)) * 2
    share = RNG.dirichlet([0.5, 0.5, 0.5], 20000)
    dense = np.einsum("sk,nkc->nsc", share, corners)
    naive = np.linalg.norm(dense - points[:, None], axis=-1).min(1)
    exact = point_triangle(points, corners)
    assert np.all(exact <= naive + 1e-9) and np.abs(exact - naive).max() < 0.03
    flat = np.zeros((1, 3, 3))
    assert point_triangle(np.array([[0, 3.0, 4.0]]), flat)[0] == pytest.approx(
        5
    )  # a triangle that is a point


def test_surfaces_are_measured_by_area_whatever_their_triangles():
    coarse, fine = (Surface(*grid(n)) for n in (1, 24))
    same = surface_scores([coarse], [fine])[0]
    assert same[0] < 0.1 and np.allclose(same[1:], 1)  # a millimetre: the triangles that few samples name
    points, faces = grid(5, z=3.03)
    moved = surface_scores([Surface(points, faces)], [fine])[0]
    assert moved[0] == pytest.approx(6.0, abs=0.1)  # 3 cm there and 3 cm back
    assert moved[1:].tolist() == [1, 1, 0]
    assert (
        surface_scores([Surface(points, faces)], [fine], 3.0 / 3.03)[0][0] < 0.3
    )  # one scale about the camera


def test_samples_lie_where_the_area_is():
    points, faces = grid(1)
    small = points * 0.1 + [2, 0, 0]
    both = Surface(np.concatenate([points, small]), np.concatenate([faces, np.tile(faces, (20, 1)) + 4]))
    share = (both.samples[:, 0] > 1).mean()  # twenty times over, a hundredth of the area each
    assert share == pytest.approx(0.2 / 1.2, abs=0.04)
