# SPDX-License-Identifier: GPL-3.0-or-later
"""Feet, the floor under them, and which of them stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dasr_blender.core import Category, Motion, find_contacts, find_feet, find_floor, leg_length
from dasr_blender.core.contacts import ContactConfig, _hysteresis, _join_stances
from dasr_blender.core.ground import fit_floor, mean_up
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.demo import DUTY, TOUCH_DOWN, DemoOptions, demo_motion

OPTIONS = DemoOptions(frames=60, cycle=24, yaw=0.5)


@pytest.fixture
def walk(toy_category: Category) -> Motion:
    return demo_motion(toy_category, OPTIONS)


def true_stances(feet: tuple[str, ...]) -> np.ndarray:
    """(T, F): the walk's own timing."""
    phase = np.arange(OPTIONS.frames) / OPTIONS.cycle
    starts = [TOUCH_DOWN[f"{foot.split('_')[0]}.{foot[-1]}"] for foot in feet]
    return ((phase[:, None] - starts) % 1.0) < DUTY


def shaken(motion: Motion, seed: int = 0) -> Motion:
    """The same walk filmed by hand: the camera pans, nods and trembles."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, len(motion))
    turn = time[:, None] * [0.1, 0.6, 0.05] + rng.normal(0, 0.01, (len(motion), 3))
    camera = np.tile(np.eye(4), (len(motion), 1, 1))
    camera[:, :3, :3] = rotvec_to_matrix(turn - turn[0])
    return replace(
        motion, camera_from_root=np.linalg.inv(camera) @ motion.camera_from_root, world_from_camera=camera
    )


@pytest.mark.parametrize("moving", [False, True])
def test_contacts_of_a_walk(toy_category: Category, walk: Motion, moving: bool) -> None:
    found = find_contacts(toy_category, shaken(walk) if moving else walk)
    assert found.feet == ("front_toe.L", "front_toe.R", "hind_toe.L", "hind_toe.R")
    assert [toy_category.skeleton.names[j] for j in found.joints] == list(found.feet)
    truth = true_stances(found.feet)
    assert (found.standing == truth).mean() > 0.88
    assert found.probability.min() >= 0 and found.probability.max() <= 1
    assert found.probability[truth].mean() > 0.75 > 0.25 > found.probability[~truth].mean()
    starts = [(t, foot) for t, foot in found.touch_downs()]
    expected = [
        (t, foot)
        for i, foot in enumerate(found.feet)
        for t in np.flatnonzero(truth[1:, i] & ~truth[:-1, i]) + 1
    ]
    assert len(starts) == len(expected) and starts == sorted(starts, key=lambda s: s[0])
    for t, foot in expected:
        assert any(foot == other and abs(t - when) <= 3 for when, other in starts), (t, foot)


def test_a_camera_that_is_not_taken_out_spoils_the_contacts(toy_category: Category, walk: Motion) -> None:
    blind = replace(shaken(walk), world_from_camera=None)
    truth = true_stances(find_contacts(toy_category, blind).feet)
    with_camera = (find_contacts(toy_category, shaken(walk)).standing == truth).mean()
    assert (find_contacts(toy_category, blind).standing == truth).mean() < with_camera - 0.1


def test_who_stands_still_stands_on_all_feet(toy_category: Category, walk: Motion) -> None:
    walk.camera_from_root[:] = walk.camera_from_root[0]
    walk.joint_rotations[:] = [1, 0, 0, 0]
    found = find_contacts(toy_category, walk)
    feet = find_feet(toy_category, walk)
    normal, height = find_floor(walk, feet, toy_category.nominal_size)
    near = (feet.lowest[0] @ normal - height) < 0.05 * leg_length(toy_category, walk.morphology)
    assert near.sum() >= 2
    np.testing.assert_array_equal(found.standing, np.tile(near, (len(walk), 1)))
    assert found.touch_downs() == []


@pytest.mark.parametrize("cycle", [16, 24])
def test_no_foot_stands_in_frames_too_far_apart_to_tell(toy_category: Category, cycle: int) -> None:
    """At two a second feet that are somewhere else in every frame would stand throughout."""
    walk = demo_motion(toy_category, DemoOptions(frames=240, cycle=cycle, yaw=0.5))
    truth = find_contacts(toy_category, walk).standing
    for step in (1, 2, 3, 4, 6, 8, 12):
        standing = find_contacts(toy_category, walk.part(np.arange(0, 240, step))).standing
        known = truth[::step]
        assert (standing & ~known).sum() < 0.15 * known.sum()
        assert standing.any() == (step < 5)


def test_one_blink_is_neither_a_step_nor_a_gap() -> None:
    """At 24 frames a second two frames are 83 ms: as long as the shortest stance, and gap, that is kept."""
    #   a stance with a gap of one, a stance of one, a gap of two, hesitation between the two limits
    chance = np.array([9, 9, 9, 1, 9, 9, 1, 1, 1, 9, 1, 1, 9, 9, 1, 1, 9, 9, 4, 4, 1, 1, 4, 4, 4]) / 10
    found = _hysteresis(chance[:, None], np.arange(len(chance)) / 24, ContactConfig())[:, 0]
    assert "".join("#" if s else "." for s in found) == "######......##..####....."


def test_a_floor_is_the_worlds_not_the_cameras(toy_category: Category, walk: Motion) -> None:
    moving = shaken(walk)
    still = find_floor(walk, find_feet(toy_category, walk), toy_category.nominal_size)
    found = find_floor(moving, find_feet(toy_category, moving), toy_category.nominal_size)
    assert np.degrees(np.arccos(np.clip(found[0] @ still[0], -1, 1))) < 2.0
    assert found[1] == pytest.approx(still[1], abs=0.1)


def test_legs_grow_with_the_proportion(toy_category: Category) -> None:
    beta = np.zeros(len(toy_category.morphology))
    short = leg_length(toy_category, beta)
    beta[toy_category.morphology_names.index("leg_length")] = 0.5
    assert leg_length(toy_category, beta) > 1.2 * short > 0


def test_floor_shrugs_off_a_few_wild_frames():
    rng = np.random.default_rng(0)
    along = rng.uniform(-3, 3, (60, 4, 2))
    points = np.concatenate([along, rng.normal(0, 0.01, (60, 4, 1))], axis=2)
    points[::10, :, 2] += 1.5
    normal, height = fit_floor(points, np.array([0, np.sin(0.1), np.cos(0.1)]), 0.6)
    assert normal[2] > np.cos(np.radians(1))
    assert abs(height) < 0.03


def test_mean_up_without_a_direction(toy_category, motion):
    motion.camera_from_root[:, :3, 2] = np.array([[0, 1, 0], [0, -1, 0]] * 4)
    motion.confidence[:] = 1
    np.testing.assert_allclose(mean_up(motion), [0, 1, 0])


def test_a_foot_that_does_not_get_far_has_not_stepped() -> None:
    """Three full steps of 0.5 m; a foot that is carried 0.1 m by the leg that passes it; the same after a rest."""
    times = np.arange(48) / 24
    standing = np.zeros((48, 3), bool)
    sole = np.zeros((48, 3, 3))
    for begin, end, x in ((0, 14, 0.0), (20, 34, 0.5), (40, 48, 1.0)):
        standing[begin:end, 0], sole[begin:end, 0, 0] = True, x
    for begin, end, x in ((0, 10, 0.0), (14, 20, 0.1), (26, 40, 0.6)):
        standing[begin:end, 1], sole[begin:end, 1, 0] = True, x
    for begin, end, x in ((0, 14, 0.0), (22, 36, 0.1)):
        standing[begin:end, 2], sole[begin:end, 2, 0] = True, x
    wanted = standing.copy()
    wanted[10:14, 1] = True
    _join_stances(standing, sole, times, ContactConfig())
    np.testing.assert_array_equal(standing, wanted)
