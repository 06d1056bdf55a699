# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of motions whose error is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from toy import toy_motion
from toy_clips import random_motion, render

from dasr_blender.clip.crop import crop_boxes
from dasr_blender.core import Category, Motion
from dasr_blender.core.camera import project
from dasr_blender.core.pose_errors import CONFIDENCE_ANGLE, expected_error
from dasr_blender.core.raster import rasterize
from dasr_blender.core.rotation import quat_multiply, rotvec_to_matrix, rotvec_to_quat
from dasr_blender.predict import Prediction
from dasr_blender.training.clip_folder import mask_boxes
from dasr_blender.training.evaluate.reliability import joint_pairs, reliability
from dasr_blender.training.evaluate.scene import Scene, TrueSurface, body_length, posed_in_camera
from dasr_blender.training.evaluate.scores import (
    clip_scale,
    compare,
    compare_places,
    hypothesis_errors,
    jitter,
    surface_errors,
    surface_map_errors,
)
from dasr_blender.training.evaluate.torso import named_places, torso_angle


def scene_of(category: Category, motion: Motion) -> Scene:
    frames, masks = render(category, motion)
    boxes = mask_boxes(list(masks))
    assert boxes is not None
    surface = TrueSurface(list(posed_in_camera(category, motion)), category.body.faces, "labels")
    return Scene(
        "toy",
        list(frames),
        list(masks),
        boxes,
        motion.focal_px,
        motion.principal_point,
        motion.fps,
        motion,
        category,
        surface,
        body_length(category, motion),
    )


def prediction_of(category: Category, motion: Motion, **given) -> Prediction:
    count, joints = len(motion), len(category.skeleton)
    values = {
        "root_rotation": np.tile(np.eye(3), (count, 2, 1, 1)),
        "root_translation": np.zeros((count, 2, 3)),
        "root_logprob": np.log(np.tile([0.7, 0.3], (count, 1))),
        "joint_rotations": motion.joint_rotations,
        "morphology": motion.morphology,
        "appearance": np.zeros(3),
        "joint_confidence": np.ones((count, joints)),
    }
    return Prediction(**{**values, **given})


def test_truth_scores_nothing_and_known_errors_are_found(toy_category: Category, motion: Motion):
    perfect = compare(toy_category, motion, motion)
    for name in ("root_deg", "translation", "joints_deg", "mpjpe_cm", "pa_mpjpe_cm", "morphology"):
        assert perfect[name].max() < 1e-3, name
    pose = motion.camera_from_root.copy()
    pose[:, :3, :3] = pose[:, :3, :3] @ rotvec_to_matrix(np.array([0, 0, np.radians(20)]))
    pose[:, 2, 3] += 0.25
    bent = quat_multiply(motion.joint_rotations, rotvec_to_quat(np.array([np.radians(12), 0, 0])))
    bent[:, 0] = [1, 0, 0, 0]
    wrong = compare(toy_category, replace(motion, camera_from_root=pose, joint_rotations=bent), motion)
    assert wrong["root_deg"] == pytest.approx(20, abs=1e-3) and wrong["joints_deg"] == pytest.approx(
        12, abs=1e-3
    )
    assert wrong["translation"] == pytest.approx(0.25 / motion.camera_from_root[:, 2, 3])


def test_procrustes_forgives_a_similarity_and_acceleration_a_steady_drift():
    true = np.random.default_rng(1).normal(size=(5, 8, 3))
    turn = rotvec_to_matrix(np.array([1.0, 0.3, -0.2]))
    moved = compare_places(1.4 * true @ turn.T + 2.0, true)
    assert moved["pa_mpjpe_cm"].max() < 1e-6 and moved["mpjpe_cm"].min() > 50
    drift = np.arange(5)[:, None, None] * np.array([0.1, 0, 0.02])
    assert np.nanmax(compare_places(true + drift, true)["accel_cm"]) < 1e-9
    shake = np.zeros((5, 1, 3))
    shake[2, 0, 1] = 0.01
    accel = compare_places(true + shake, true)["accel_cm"]
    assert np.isnan(accel[[0, -1]]).all() and accel[1:-1] == pytest.approx([1, 2, 1])


def test_jitter_is_acceleration_over_the_root_of_the_area():
    pixels = np.zeros((4, 2, 2))
    pixels[2, :, 0] = 3.0
    assert jitter(pixels, np.full(4, 900.0))[1:-1] == pytest.approx([10, 20])
    assert np.isnan(jitter(pixels[:2], np.ones(2))).all()


def test_surface_errors_see_depth_that_the_scaled_ones_forgive(toy_category: Category):
    true = random_motion(toy_category, 4, 3)
    scene = scene_of(toy_category, true)
    same = surface_errors(toy_category, true, scene)
    assert np.nanmax(same["cd_cm"]) < 0.3 and same["ama_cd_cm"].max() < 1e-6 and same["ama_f2"].min() == 1
    assert np.isfinite(same["cd_cm"]).tolist() == [True, False, False, True]
    pose = true.camera_from_root.copy()
    pose[:, :3, 3] *= 1.1
    far = replace(true, camera_from_root=pose)
    errors = surface_errors(toy_category, far, scene)
    assert np.nanmean(errors["cd_cm"]) > 15
    assert np.nanmean(errors["cd_scaled_share"]) < 0.5 * np.nanmean(errors["cd_share"])
    assert clip_scale(toy_category, far, scene) == pytest.approx(1 / 1.1, rel=0.02)
    scene.sized = False
    unsized = surface_errors(toy_category, far, scene)
    assert unsized["cd_share"] == pytest.approx(errors["cd_scaled_share"], nan_ok=True)


def test_hypotheses_count_only_the_networks_own(toy_category: Category):
    from dasr_blender.core.camera import encode_root

    true = random_motion(toy_category, 3, 5)
    scene = scene_of(toy_category, true)
    rotation, _ = encode_root(
        true.camera_from_root, scene.center, scene.side, scene.focal, scene.principal_point
    )
    wrong = rotation @ rotvec_to_matrix(np.array([0, 0, np.radians(40)]))
    answers = np.stack([wrong, rotation, rotation], 1)
    prediction = prediction_of(
        toy_category, true, root_rotation=answers, root_logprob=np.log(np.tile([0.6, 0.3, 0.1], (3, 1)))
    )
    errors = hypothesis_errors(prediction, scene, 2)
    assert errors["likeliest_deg"] == pytest.approx(40, abs=1e-3) and errors["best_deg"].max() < 1e-3
    assert hypothesis_errors(prediction, scene, 1)["best_deg"] == pytest.approx(40, abs=1e-3)


def test_a_perfect_surface_map_has_no_error_and_a_shifted_one_its_shift(toy_category: Category):
    true = random_motion(toy_category, 3, 7)
    scene = scene_of(toy_category, true)
    assert surface_map_errors(toy_category, prediction_of(toy_category, true), scene) == {}
    posed, cells = posed_in_camera(toy_category, true), 16
    center, side = crop_boxes(scene.boxes)
    pixels = project(posed, true.focal_px, true.principal_point) - (center - side[:, None] / 2)[:, None]
    pixels = np.concatenate([pixels * (cells / side)[:, None, None], posed[..., 2:]], -1)
    drawn = rasterize(pixels, toy_category.body.faces, (cells, cells))
    canonical = drawn.interpolate(np.asarray(toy_category.body.vertices, np.float64))
    sure = np.where(drawn.mask, 0.9, 0.05)
    perfect = prediction_of(toy_category, true, surface_map=canonical, surface_confidence=sure)
    errors = surface_map_errors(toy_category, perfect, scene)
    assert errors["surface_map_cm"].max() < 1e-6 and errors["surface_map_seen"].min() == 1
    off = prediction_of(toy_category, true, surface_map=canonical + [0, 0.03, 0.04], surface_confidence=sure)
    errors = surface_map_errors(toy_category, off, scene)
    assert errors["surface_map_cm"] == pytest.approx(5)
    assert errors["surface_map_share"] == pytest.approx(0.05 / body_length(toy_category))


def test_confidence_that_means_what_it_says_lies_on_the_diagonal(toy_category: Category):
    twenty = np.exp(-np.radians(20) / CONFIDENCE_ANGLE)
    assert np.degrees(expected_error(np.array([1.0, twenty]))) == pytest.approx([0, 20])
    rng = np.random.default_rng(2)
    expected = rng.uniform(2, 40, 60000)
    honest = np.stack([expected, rng.exponential(expected)], 1)
    result = reliability(honest, bins=10)
    assert result["ece_deg"] < 0.6 and sum(result["count"]) == 60000
    boasting = reliability(honest * [0.5, 1.0])
    assert boasting["ece_deg"] == pytest.approx(expected.mean() / 2, rel=0.05)
    motion = toy_motion(toy_category)
    motion.joint_confidence = np.ones_like(motion.joint_confidence)
    motion.joint_confidence[:, 5] = 0.3  # its truth is not known
    pairs = joint_pairs(prediction_of(toy_category, motion), motion)
    assert pairs.shape == (8 * 28, 2) and np.abs(pairs).max() < 1e-3
    assert reliability(np.zeros((0, 2)))["count"] == []


def test_named_joints_give_a_root_without_labels(toy_category: Category, motion: Motion):
    names = ("front_upper.L", "front_upper.R", "hind_upper.L", "hind_upper.R", "head")
    ours, _ = named_places(toy_category, motion, {name: np.zeros((8, 3)) for name in names})
    ordered = [n for n in toy_category.skeleton.names if n in names]
    true = {name: ours[:, k] for k, name in enumerate(ordered)}
    assert torso_angle(toy_category, motion, true)["root_deg"].max() < 1e-3
    pose = motion.camera_from_root.copy()
    pose[:, :3, :3] = pose[:, :3, :3] @ rotvec_to_matrix(np.array([0, 0, np.radians(25)]))
    turned = replace(motion, camera_from_root=pose)
    assert torso_angle(toy_category, turned, true)["root_deg"] == pytest.approx(25, abs=1e-3)
    true.pop("hind_upper.L")
    assert torso_angle(toy_category, motion, true) == {}
