# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera that was solved elsewhere, in a unit that only the feet know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from filmed import acted

from dasr_blender.core import Category, Motion, filmed_by, filmed_following, find_feet
from dasr_blender.core.ground import mean_up
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.core.travel import where_most


@pytest.fixture(scope="module")
def truth(toy_category: Category) -> Motion:
    return acted(toy_category, "travel", 60, (640, 360), 1.1)[0]


def length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


@pytest.mark.parametrize("unit", [0.03, 1.0, 40.0])
def test_the_feet_tell_the_unit(toy_category: Category, truth: Motion, unit: float) -> None:
    solved = truth.world_from_camera.copy()
    solved[:, :3, 3] /= unit
    away = np.eye(4)  # a solver puts its world where it likes
    away[:3, :3], away[:3, 3] = rotvec_to_matrix(np.array([0.3, -1.0, 0.2])), [1, 2, 3]
    blind = replace(truth, world_from_camera=None)
    found, metres = filmed_by(toy_category, blind, away @ solved)
    assert metres == pytest.approx(unit, rel=0.1)
    np.testing.assert_allclose(found.world_from_camera[0], np.eye(4), atol=1e-9)
    gap = np.linalg.norm(found.world_from_root[:, :3, 3] - truth.world_from_root[:, :3, 3], axis=1)
    assert gap.max() < 0.06 * length(truth.world_from_root[:, :3, 3])
    blind_gap = np.linalg.norm(blind.world_from_root[:, :3, 3] - truth.world_from_root[:, :3, 3], axis=1)
    assert gap.max() < 0.2 * blind_gap.max()
    np.testing.assert_array_equal(found.camera_from_root, truth.camera_from_root)
    np.testing.assert_array_equal(blind.world_from_camera, np.tile(np.eye(4), (60, 1, 1)))  # left as it was


def floor_points(category: Category, truth: Motion, unit: float, seed: int = 0) -> np.ndarray:
    """What a solver has of the floor, and of stones and bushes on it, in the first camera's world."""
    rng = np.random.default_rng(seed)
    first = camera_over_floor(category, truth)
    floor = np.column_stack([rng.uniform(-4, 4, 400), rng.uniform(1, 12, 400), np.zeros(400)])
    floor[::4, 2] = rng.uniform(0.2, 1.0, 100)
    return (floor @ first[:3, :3].T + first[:3, 3] + rng.normal(0, 0.01, (400, 3))) / unit


def camera_over_floor(category: Category, truth: Motion) -> np.ndarray:
    """camera_from_world of the first frame, with the floor at z = 0: from the truth's own lowest feet."""
    lowest = find_feet(category, truth).lowest
    feet = lowest[np.arange(len(lowest)), (lowest @ mean_up(truth)).argmin(1)]
    normal = -np.linalg.svd(feet - feet.mean(0))[2][2]
    normal *= -np.sign(normal @ feet.mean(0))
    forward = np.array([0, 0, 1.0]) - normal[2] * normal
    forward /= np.linalg.norm(forward)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([np.cross(forward, normal), forward, normal])
    pose[:3, 3] = (normal @ feet.mean(0)) * normal
    return pose


@pytest.mark.parametrize("unit", [0.03, 1.0, 40.0])
def test_the_floor_tells_the_unit_whatever_the_gait(
    toy_category: Category, truth: Motion, unit: float
) -> None:
    """Legs that do not swing at all, as a poor reconstruction has them, would say that the camera stood still."""
    points = floor_points(toy_category, truth, unit)
    stiff = replace(truth, world_from_camera=None, joint_rotations=truth.joint_rotations * [1.0, 0, 0, 0])
    stiff.joint_rotations[..., 0] = 1
    solved = truth.world_from_camera.copy()
    solved[:, :3, 3] /= unit
    _, by_gait = filmed_by(toy_category, stiff, solved)
    found, metres = filmed_by(toy_category, stiff, solved, points)
    assert metres == pytest.approx(unit, rel=0.07) and abs(by_gait / unit - 1) > 0.3
    gap = np.linalg.norm(found.world_from_root[:, :3, 3] - truth.world_from_root[:, :3, 3], axis=1)
    assert gap.max() < 0.06 * length(truth.world_from_root[:, :3, 3])
    # points far from the feet say nothing, and the gait has to do
    away = points[np.abs(points[:, 0] * unit) > 3.5] + [30 / unit, 0, 0]
    assert filmed_by(toy_category, stiff, solved, away)[1] == by_gait


def test_a_camera_that_only_turns_has_no_unit(toy_category: Category, truth: Motion) -> None:
    turning = truth.world_from_camera.copy()
    turning[:, :3, 3] = 0
    found, metres = filmed_by(toy_category, truth, turning)
    assert metres == 0
    np.testing.assert_allclose(found.world_from_camera, turning, atol=1e-12)


def test_a_path_that_is_not_there_is_not_believed(toy_category: Category) -> None:
    """A solver's drift while the true camera only turned: the feet stand still without it."""
    pan = acted(toy_category, "pan", 60, (640, 360), 1.1)[0]
    drift = pan.world_from_camera.copy()
    drift[:, 1, 3] = np.linspace(0, 5, 60)
    found, metres = filmed_by(toy_category, pan, drift)
    assert 5 * metres < 0.05 * length(pan.world_from_root[:, :3, 3])


@pytest.mark.parametrize("kept", [0.0, 0.3])
def test_standing_feet_tell_how_a_camera_goes_along(toy_category: Category, truth: Motion, kept: float) -> None:
    """One that keeps pace leaves the walk on the spot; only legs say how far it went."""
    root = truth.world_from_root[:, :3, 3]
    blind = replace(truth, world_from_camera=truth.world_from_camera.copy())
    blind.world_from_camera[:, :3, 3] -= (1 - kept) * (root - root[0])
    before = np.linalg.norm(blind.world_from_root[:, :3, 3] - root, axis=1).max() / length(root)
    found = filmed_following(toy_category, blind)
    assert np.linalg.norm(found.world_from_root[:, :3, 3] - root, axis=1).max() < 0.05 * length(root) < before
    np.testing.assert_array_equal(found.world_from_camera[:, :3, :3], truth.world_from_camera[:, :3, :3])
    np.testing.assert_array_equal(found.camera_from_root, truth.camera_from_root)


@pytest.mark.parametrize("fps", [6, 24, 120])
def test_a_way_that_feet_tell_is_as_long_at_any_rate(toy_category: Category, fps: int) -> None:
    truth = acted(toy_category, "travel", 10 * fps // 4, (640, 360), 1.1, fps=fps)[0]
    turning = truth.world_from_camera.copy()
    turning[:, :3, 3] = 0
    found = filmed_following(toy_category, replace(truth, world_from_camera=turning)).world_from_root[:, :3, 3]
    root = truth.world_from_root[:, :3, 3]
    assert np.linalg.norm(found - found[0] - root + root[0], axis=1).max() < 0.05 * length(root)


def test_more_frames_a_second_ask_no_more_of_each(
    toy_category: Category, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every foot of every moment is compared with every other."""
    asked: list[int] = []

    def counted(points: np.ndarray, weights: np.ndarray, width: float) -> np.ndarray:
        asked.append(len(points))
        return where_most(points, weights, width)

    most = {}
    monkeypatch.setattr("dasr_blender.core.travel.where_most", counted)
    for fps in (30, 240):
        asked.clear()
        filmed_following(toy_category, acted(toy_category, "travel", 2 * fps, (640, 360), 1.1, fps=fps)[0])
        most[fps] = max(asked)
    assert most[240] < 1.2 * most[30]


def test_a_camera_that_goes_round_a_subject_is_told_by_its_feet(toy_category: Category, truth: Motion) -> None:
    """It stands, and the camera's turning is all that was found."""
    count = len(truth)
    turn = rotvec_to_matrix(np.linspace(0, 0.8, count)[:, None] * [0.0, 1.0, 0.0])
    root = truth.camera_from_root[0]
    around = np.tile(np.eye(4), (count, 1, 1))
    around[:, :3, :3] = turn
    around[:, :3, 3] = root[:3, 3] - turn @ root[:3, 3]
    turning = around.copy()
    turning[:, :3, 3] = 0
    stands = replace(
        truth,
        joint_rotations=np.repeat(truth.joint_rotations[:1], count, 0),
        camera_from_root=np.linalg.inv(around) @ root,
        world_from_camera=turning,
    )
    assert np.ptp(stands.world_from_root[:, :3, 3], axis=0).max() > 1.0
    found = filmed_following(toy_category, stands)
    assert np.ptp(found.world_from_root[:, :3, 3], axis=0).max() < 0.1
    np.testing.assert_allclose(found.world_from_camera, around, atol=0.1)


def test_two_frames_and_no_feet_say_nothing(toy_category: Category, truth: Motion) -> None:
    two = truth.part(slice(0, 2))
    assert filmed_following(toy_category, two) is two
    slow = replace(truth, fps=2.0)  # a foot may step between two frames
    assert filmed_following(toy_category, slow) is slow
    seen, unit = filmed_by(toy_category, slow, truth.world_from_camera)
    assert unit == 0.0 and not seen.world_from_camera[:, :3, 3].any()
    skeleton = replace(toy_category.skeleton, roles=("spine",) * len(toy_category.skeleton))
    assert filmed_following(replace(toy_category, skeleton=skeleton), truth) is truth
