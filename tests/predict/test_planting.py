# SPDX-License-Identifier: GPL-3.0-or-later
"""Feet that stand stay where they stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tracked import Case, case, crops_of, start_of

from dasr_blender.core import Category, Motion, find_contacts, find_feet, leg_length
from dasr_blender.core.rotation import quat_multiply, rotvec_to_matrix, rotvec_to_quat
from dasr_blender.core.travel import where_most
from dasr_blender.demo import DemoOptions, demo_motion
from dasr_blender.predict import FitConfig, fit
from dasr_blender.predict.fit import _Solver
from dasr_blender.predict.fit_body import BodyModel, pose
from dasr_blender.predict.planting import plant
from dasr_blender.predict.track import coarse_of

CONFIG = FitConfig(vertices=200)


@pytest.fixture(scope="module")
def walk(toy_category: Category) -> Case:
    """A walk filmed by a camera that pans; the network trembles."""
    true = demo_motion(toy_category, DemoOptions(frames=36, cycle=24, yaw=0.5))
    pan = np.tile(np.eye(4), (len(true), 1, 1))
    pan[:, :3, :3] = rotvec_to_matrix(np.linspace(0, 1, len(true))[:, None] * [0, 0.15, 0])
    seen = np.linalg.inv(pan) @ true.camera_from_root
    true = replace(true, camera_from_root=seen, world_from_camera=pan)
    given = case(toy_category, motion=true)
    rng = np.random.default_rng(2)
    wobble = rng.normal(0, 0.12, (len(true) // 6 + 2, len(toy_category.skeleton), 3))
    at = np.arange(len(true)) / 6
    low = at.astype(int)
    turn = wobble[low] + (at - low)[:, None, None] * (wobble[low + 1] - wobble[low])
    turn[:, 0] = 0
    said = quat_multiply(rotvec_to_quat(turn), true.joint_rotations)
    return replace(given, prediction=replace(given.prediction, joint_rotations=said))


def slide(category: Category, motion: Motion, standing: np.ndarray) -> float:
    """Mean way of standing feet, percent of the leg's length a frame."""
    step = np.linalg.norm(np.diff(find_feet(category, motion).sole, axis=0), axis=-1)
    both = standing[1:] & standing[:-1]
    return float(100 * step[both].mean() / leg_length(category, motion.morphology))


@pytest.mark.parametrize("window", [192, 20])
def test_feet_that_stand_do_not_slide(toy_category: Category, walk: Case, window: int) -> None:
    truth = find_contacts(toy_category, walk.motion).standing
    said = replace(walk.motion, joint_rotations=walk.prediction.joint_rotations)
    args = (toy_category, said, walk.prediction, crops_of(walk), walk.center, walk.side)
    config = replace(CONFIG, window=window, overlap=8, proportions=20)
    free = fit(*args, config=config).motion
    held = fit(*args, config=config, camera_trust=1.0).motion
    assert slide(toy_category, free, truth) > 2.0
    assert slide(toy_category, held, truth) < 0.5 * slide(toy_category, free, truth)
    found = find_contacts(toy_category, held).standing
    assert slide(toy_category, held, found) < 1.0 < slide(toy_category, walk.motion, truth)
    assert np.nanmean(held.mask_iou) > np.nanmean(free.mask_iou) - 0.05  # the true feet slide a little


def test_places_are_the_worlds_and_go_on_from_window_to_window(toy_category: Category, walk: Case) -> None:
    motion = walk.motion
    model = BodyModel(toy_category, coarse_of(toy_category, 200))
    posed = pose(model, start_of(walk, motion), np.zeros((len(motion), model.size)), np.zeros(model.shared))
    feet = plant(toy_category, motion, model, posed, None)
    standing = find_contacts(toy_category, motion).standing
    np.testing.assert_array_equal(np.isfinite(feet.place[..., 0]), standing)
    np.testing.assert_array_equal(feet.sure > 0, standing)
    seen = feet.seen_from(motion.world_from_camera)
    gap = np.linalg.norm(seen - posed.camera[:, feet.vertex], axis=-1)[standing]
    assert np.median(gap) < 0.03 * toy_category.nominal_size and np.percentile(gap, 95) < 0.1
    begun = np.full_like(feet.place, np.nan)
    foot = int(standing[10].argmax())
    begun[10, foot] = [1.0, 2.0, 3.0]
    again = plant(toy_category, motion, model, posed, begun)
    moved = (again.place == [1.0, 2.0, 3.0]).all(-1)
    assert moved[10, foot] and not moved[:, np.arange(standing.shape[1]) != foot].any()
    stance = np.flatnonzero(moved[:, foot])
    assert standing[stance, foot].all() and len(stance) == np.ptp(stance) + 1 > 3


def test_a_foot_stands_in_the_world_of_its_own_shot(toy_category: Category, walk: Case) -> None:
    motion = walk.motion
    model = BodyModel(toy_category, coarse_of(toy_category, 200))
    posed = pose(model, start_of(walk, motion), np.zeros((len(motion), model.size)), np.zeros(model.shared))
    standing = find_contacts(toy_category, motion).standing
    middle = len(motion) // 2
    cut = middle + int(np.flatnonzero((standing[middle:-1] & standing[middle + 1 :]).any(1))[0]) + 1
    world = np.array(motion.world_from_camera)
    world[cut:, :3, 3] += [30.0, 0.0, 0.0]
    feet = plant(
        toy_category, replace(motion, world_from_camera=world, cuts=np.array([cut])), model, posed, None
    )
    both = np.isfinite(feet.place[cut - 1 : cut + 1, :, 0]).all(0)
    assert both.any() and np.abs(np.diff(feet.place[cut - 1 : cut + 1, both, 0], axis=0) - 30).max() < 1


def test_a_twin_has_to_keep_feet_where_they_stand(
    toy_category: Category, walk: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsure = np.ones(len(walk.motion))
    unsure[14:22] = 0.2
    said = replace(
        walk.motion, joint_rotations=walk.prediction.joint_rotations, confidence=unsure, mask_iou=np.ones(len(unsure))
    )
    args = (toy_category, said, walk.prediction, crops_of(walk), walk.center, walk.side)

    def exchanged() -> tuple[float, Motion]:
        """What legs exchanged would cost, over what they cost as they are, and the motion."""
        found = fit(*args, config=CONFIG, camera_trust=1.0)
        return next(t.ratio for t in found.twins if t.kind == "legs"), found.motion

    held, motion = exchanged()
    monkeypatch.setattr(_Solver, "_standing", lambda self, window, chosen: window)
    assert held > exchanged()[0] + 0.1
    assert slide(toy_category, motion, find_contacts(toy_category, motion).standing) < 1.0


def test_where_feet_cross_says_little_about_where_they_stand() -> None:
    rng = np.random.default_rng(0)
    here, there = rng.normal(0, 0.01, (6, 3)), rng.normal(0, 0.003, (8, 3)) + [0.2, 0, 0]
    points = np.concatenate([here, there])
    even = where_most(points, np.ones(14), 0.03)
    clear = where_most(points, np.repeat([1.0, 0.05], [6, 8]), 0.03)
    assert np.linalg.norm(even - [0.2, 0, 0]) < 0.01 and np.linalg.norm(clear) < 0.015


def test_who_has_no_feet_is_not_held(toy_category: Category, walk: Case) -> None:
    """A body without limbs stands on nothing, however slowly it moves."""
    skeleton = toy_category.skeleton
    swimmer = replace(toy_category, skeleton=replace(skeleton, roles=tuple("spine" for _ in skeleton.roles)))
    args = (swimmer, walk.motion, walk.prediction, crops_of(walk), walk.center, walk.side)
    free, told = (fit(*args, config=CONFIG, camera_trust=trust) for trust in (0.0, 1.0))
    assert "feet" not in told.seconds
    np.testing.assert_allclose(told.motion.camera_from_root, free.motion.camera_from_root, atol=1e-6)
