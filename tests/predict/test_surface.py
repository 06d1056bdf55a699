# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface map as evidence, and the coarse body that silhouettes are drawn of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from surface_truth import GRID, with_map
from toy_clips import UPRIGHT
from tracked import HALF_TURN, Case, angles, case

from dasr_blender.core import (
    Category,
    encode_root,
    load_category,
    project,
    silhouette,
    transform,
)
from dasr_blender.core.camera import CropBox
from dasr_blender.core.rotation import geodesic, rotvec_to_matrix
from dasr_blender.predict import Prediction, TrackConfig
from dasr_blender.predict.coarse import coarse_body
from dasr_blender.predict.silhouettes import CropView
from dasr_blender.predict.student import _joined_maps
from dasr_blender.predict.surface import Surface, disagreement, map_view, read_surface, refine


@pytest.fixture
def clip(toy_category: Category) -> Case:
    return case(toy_category, frames=10, seed=9)


def parts(category: Category, given: Case, prediction: Prediction) -> tuple[CropView, Surface]:
    config = TrackConfig()
    motion = given.motion
    view = CropView.of(
        given.center,
        given.side,
        motion.focal_px,
        motion.principal_point,
        given.masks,
        np.asarray(motion.image_size),
        config.size,
    )
    body = coarse_body(category.body.vertices, category.body.faces, config.vertices)
    surface = read_surface(category, prediction, body, config)
    assert surface is not None
    return view, surface


def test_points_of_the_map_are_drawn_where_they_are_seen(toy_category: Category, clip: Case) -> None:
    view, surface = parts(toy_category, clip, with_map(toy_category, clip))
    pose = clip.motion.camera_from_root
    frames = np.arange(len(pose))
    box = CropBox(clip.center, clip.side)
    seen = project(transform(pose, surface.point), clip.motion.focal_px, clip.motion.principal_point)
    off = np.linalg.norm(box.crop_pixels(seen, GRID) / GRID - 0.5 - surface.seen, axis=-1)
    assert np.median(off[surface.weight > 0]) < 1 / GRID
    assert disagreement(surface, view, pose, frames, TrackConfig()).max() < 0.25


def test_the_map_tells_views_apart_that_a_silhouette_does_not(toy_category: Category, clip: Case) -> None:
    view, surface = parts(toy_category, clip, with_map(toy_category, clip))
    pose = clip.motion.camera_from_root
    frames = np.arange(len(pose))
    turned = pose.copy()
    turned[:, :3, :3] = pose[:, :3, :3] @ HALF_TURN
    right = disagreement(surface, view, pose, frames, TrackConfig())
    wrong = disagreement(surface, view, turned, frames, TrackConfig())
    assert (wrong > right + 0.3).all()


def test_the_map_alone_finds_the_root(toy_category: Category, clip: Case) -> None:
    prediction = with_map(toy_category, clip)
    view, surface = parts(toy_category, clip, prediction)
    rotation, place = map_view(surface, TrackConfig())
    true, _ = encode_root(
        clip.motion.camera_from_root,
        clip.center,
        clip.side,
        clip.motion.focal_px,
        clip.motion.principal_point,
    )
    assert np.allclose(rotation @ np.swapaxes(rotation, 1, 2), np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation).min() > 0.99
    raw = np.rad2deg(geodesic(rotation, true))
    assert np.median(raw) < 20
    config = TrackConfig(surface_evidence=200.0, surface_turn=0.5, surface_steps=6)
    finer, _ = refine(surface, view, rotation, place, np.arange(len(place)), config)
    assert np.median(np.rad2deg(geodesic(finer, true))) < 0.6 * np.median(raw)


def test_refining_moves_towards_the_truth_and_not_beyond_the_prior(
    toy_category: Category, clip: Case
) -> None:
    view, surface = parts(toy_category, clip, with_map(toy_category, clip))
    motion = clip.motion
    rotation, place = encode_root(
        motion.camera_from_root, clip.center, clip.side, motion.focal_px, motion.principal_point
    )
    rng = np.random.default_rng(0)
    frames = np.arange(len(place))
    off = rotation @ rotvec_to_matrix(rng.normal(0, 0.2, (len(place), 3)))
    shifted = place + rng.normal(0, 0.05, place.shape)
    config = TrackConfig(surface_evidence=100.0)
    turned, moved = refine(surface, view, off, shifted, frames, config)
    assert geodesic(turned, rotation).mean() < 0.5 * geodesic(off, rotation).mean()
    assert np.abs(moved - place).mean() < 0.5 * np.abs(shifted - place).mean()
    still, held = refine(surface, view, off, shifted, frames, replace(config, surface_evidence=0.0))
    assert np.allclose(still, off, atol=1e-9) and np.allclose(held, shifted, atol=1e-9)


def test_a_quick_turn_that_the_map_sees_is_followed(toy_category: Category) -> None:
    """Half a turn in ten frames, with a student that stays sure of the old heading and never offers another."""
    given = case(toy_category, frames=30, seed=4)
    turn = np.concatenate([np.zeros(10), np.linspace(0, np.pi, 10), np.full(10, np.pi)])
    pose = given.motion.camera_from_root.copy()
    pose[:, :3, :3] = UPRIGHT @ rotvec_to_matrix(turn[:, None] * np.array([0, 0, 1.0]) + [0, 0, 0.6])
    given.motion.camera_from_root = pose
    rotation, place = encode_root(
        pose, given.center, given.side, given.motion.focal_px, given.motion.principal_point
    )
    stale = rotation.copy()
    stale[10:] = stale[9]
    changes = {
        "root_rotation": np.stack([stale, stale @ HALF_TURN], 1),
        "root_translation": np.stack([place, place], 1),
        "root_logprob": np.log(np.tile([0.9, 0.1], (30, 1))),
    }
    prediction = with_map(toy_category, given, **changes)
    found = given.run(toy_category, prediction=prediction)
    blind = given.run(toy_category, prediction=replace(given.prediction, **changes))
    assert angles(blind, given.motion).max() > 60
    assert angles(found, given.motion).max() < 35 and np.median(angles(found, given.motion)) < 15


def test_a_network_without_a_map_and_a_map_that_knows_nothing(toy_category: Category, clip: Case) -> None:
    plain = clip.run(toy_category)
    blind = with_map(toy_category, clip)
    assert blind.surface_confidence is not None
    blind = replace(blind, surface_confidence=np.zeros_like(blind.surface_confidence))
    found = clip.run(toy_category, prediction=blind)
    assert np.allclose(found.camera_from_root, plain.camera_from_root, atol=1e-6)


def test_maps_of_both_sides_of_the_mirror_are_joined() -> None:
    rng = np.random.default_rng(0)
    surface = rng.normal(0, 0.3, (2, 4, 4, 3)).astype(np.float32)
    confidence = rng.uniform(0.2, 1, (2, 4, 4)).astype(np.float32)

    def answer(points: np.ndarray, trust: np.ndarray) -> Prediction:
        empty = np.zeros(0)
        return Prediction(empty, empty, empty, empty, empty, empty, empty, points, trust)

    def mirrored(points: np.ndarray) -> np.ndarray:
        return points[:, :, ::-1] * np.array([-1, 1, 1], np.float32)

    same = _joined_maps(answer(surface, confidence), answer(mirrored(surface), confidence[:, :, ::-1]))
    assert np.allclose(same["surface_map"], surface, atol=1e-6)
    assert np.allclose(same["surface_confidence"], confidence, atol=1e-6)
    other = surface + np.array([0.6, 0, 0], np.float32)
    apart = _joined_maps(answer(surface, confidence), answer(mirrored(other), confidence[:, :, ::-1]))
    assert (apart["surface_confidence"] < 0.1 * confidence).all()
    assert _joined_maps(
        replace(answer(surface, confidence), surface_map=None), same and answer(surface, confidence)
    ) == {
        "surface_map": None,
        "surface_confidence": None,
    }


def test_the_coarse_body_has_nearly_the_same_silhouette() -> None:
    category = load_category("quadruped")
    body = coarse_body(category.body.vertices, category.body.faces, 600)
    assert len(body.vertex) == 600 and len(body.faces) < 0.2 * len(category.body.faces)
    rotations = np.tile(np.array([1.0, 0, 0, 0]), (8, len(category.skeleton), 1))
    rotations[:, :, 1] = np.random.default_rng(1).normal(0, 0.15, rotations.shape[:2])
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    beta = np.linspace(-0.2, 0.2, len(category.morphology))
    pose = np.tile(np.eye(4), (8, 1, 1))
    pose[:, :3, :3] = UPRIGHT @ rotvec_to_matrix(np.arange(8)[:, None] * np.array([0, 0, np.pi / 4]))
    pose[:, 2, 3] = 3.0
    drawn = []
    for vertices, faces in (
        (category.posed_vertices(beta, rotations), category.body.faces),
        (body.posed(category, beta, rotations), body.faces),
    ):
        seen = transform(pose, vertices)
        pixels = project(seen, 96.0, np.array([24.0, 24.0]))
        drawn.append(silhouette(np.concatenate([pixels, seen[..., 2:]], -1), faces, (48, 48)))
    iou = (drawn[0] & drawn[1]).sum((1, 2)) / (drawn[0] | drawn[1]).sum((1, 2))
    assert iou.min() > 0.9 and iou.mean() > 0.93


@pytest.mark.parametrize("count", [300, 900])
@pytest.mark.parametrize("name", ["quadruped", "human"])
def test_a_coarse_body_is_neither_thinner_nor_thicker(name: str, count: int) -> None:
    """Seen from anywhere, its outlines are as large as the body's; without being swollen they are 2 to 9 % smaller."""
    body = load_category(name).body
    coarse = coarse_body(body.vertices, body.faces, count)
    turns = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 3, 3)))[0]

    def area(vertices: np.ndarray, faces: np.ndarray) -> float:
        seen = (vertices - body.vertices.mean(0)) @ turns
        pixels = seen * [90, 90, 1] + [128, 128, 10]
        return float(silhouette(pixels, faces, (256, 256)).sum())

    whole, kept = area(body.vertices, body.faces), body.vertices[coarse.vertex]
    assert area(kept + coarse.swell, coarse.faces) / whole == pytest.approx(1, abs=0.006)
    assert area(kept, coarse.faces) / whole < 0.98
