# SPDX-License-Identifier: GPL-3.0-or-later
"""Legs that pass each other in the picture, seen by a network that took one for the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from toy_clips import UPRIGHT, random_motion, render
from tracked import case

from dasr_blender.clip.crop import extract_crops
from dasr_blender.clip.flow import flow
from dasr_blender.core import Category, Motion
from dasr_blender.core.rotation import geodesic, quat_to_matrix, rotvec_to_matrix, rotvec_to_quat
from dasr_blender.core.skeleton import mirror_rotations
from dasr_blender.predict import FitConfig, Prediction, fit
from dasr_blender.predict.passing import (
    Passing,
    dips,
    exchanged_limbs,
    limb_pairs,
    mirrored_answer,
    stretches,
)

FRAMES, PERIOD = 64, 36  # legs cross at 9, 27, 45 and 63


@dataclass
class Walk:
    """A rendered walk, its crops, and what a network says that confused some legs over some frames."""

    true: Motion
    seen: Motion
    prediction: Prediction
    crops: np.ndarray
    center: np.ndarray
    side: np.ndarray
    wrong: np.ndarray


class _Pictures:
    def __init__(self, frames: np.ndarray, masks: np.ndarray) -> None:
        self.frames, self.masks = frames, masks

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, i: int) -> np.ndarray:
        return self.frames[i]

    def mask(self, i: int) -> np.ndarray:
        return self.masks[i].astype(np.float32) / 255


def walk(category: Category, wrong: dict[str, slice], yaw: float = 60.0, flipped: bool = False) -> Walk:
    """The toy walking past, legs of a pair half a period apart; wrong: the limb's name → where it is exchanged."""
    body, skeleton = category.body, category.skeleton
    rng = np.random.default_rng(2)
    coat = rng.uniform(0.1, 0.9, (len(body.vertices), 3))
    painted = replace(category, body=replace(body, appearance_mean=coat))
    motion = random_motion(category, FRAMES, seed=3, size=(320, 240))
    turned = np.radians(-yaw if flipped else yaw) * np.array([0, 0, 1.0])
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    poses[:, :3, :3] = rotvec_to_matrix(np.array([0.15, 0, 0])) @ UPRIGHT @ rotvec_to_matrix(turned)
    poses[:, 2, 3] = 2.2
    vectors = np.zeros((FRAMES, len(skeleton), 3))
    swing = 0.5 * np.cos(2 * np.pi * np.arange(FRAMES) / PERIOD)
    for n, name in enumerate(("front_upper", "hind_upper")):
        for sign, side in ((1, "L"), (-1, "R")):
            vectors[:, skeleton.index(f"{name}.{side}"), 0] = (1 - 2 * n) * sign * swing
    true = replace(motion, camera_from_root=poses, joint_rotations=rotvec_to_quat(vectors))
    given = case(category, motion=true)
    frames, masks = render(painted, true)
    crops = extract_crops(_Pictures(frames, masks), _Pictures(frames, masks), given.center, given.side, 192)
    exchanged = np.zeros((FRAMES, len(skeleton)), bool)
    for left, right in limb_pairs(skeleton):
        part = wrong.get(skeleton.names[left[0]])
        if part is not None:
            exchanged[part, np.concatenate([left, right])[:, None]] = True
    joints = np.where(
        exchanged[..., None], mirror_rotations(skeleton, true.joint_rotations), true.joint_rotations
    )
    seen = replace(true, joint_rotations=joints, joint_confidence=np.full(joints.shape[:2], 0.6))
    said = replace(given.prediction, joint_rotations=joints, joint_confidence=seen.joint_confidence)
    return Walk(true, seen, said, crops, given.center, given.side, exchanged)


def found_in(category: Category, given: Walk) -> np.ndarray:
    return exchanged_limbs(category, given.seen, given.crops, given.center, given.side, flow)


def test_pairs_are_left_limbs_and_their_mirrors(toy_category: Category) -> None:
    names, parts = toy_category.skeleton.names, ("upper", "lower", "foot", "toe")
    found = [[[names[j] for j in limb] for limb in pair] for pair in limb_pairs(toy_category.skeleton)]
    assert found == [
        [[f"{end}_{part}.{side}" for part in parts] for side in "LR"] for end in ("front", "hind")
    ]


def test_dips_are_where_something_falls_and_rises() -> None:
    wave = np.cos(2 * np.pi * np.arange(60) / 20)
    assert dips(wave, 0.5) == [10, 30, 50]
    assert (
        dips(0.1 * wave, 0.5) == [] and dips(np.arange(9.0), 0.5) == [] and dips(-np.arange(9.0), 0.5) == []
    )


@pytest.mark.parametrize("flipped", [False, True])
def test_a_network_that_was_right_is_left_alone(toy_category: Category, flipped: bool) -> None:
    assert not found_in(toy_category, walk(toy_category, {}, flipped=flipped)).any()


@pytest.mark.parametrize(
    ("wrong", "flipped"),
    [
        ({"hind_upper.L": slice(9, 27)}, False),
        ({"front_upper.L": slice(27, FRAMES)}, True),
        ({"front_upper.L": slice(0, 27), "hind_upper.L": slice(45, FRAMES)}, True),
    ],
)
def test_legs_that_were_confused_between_crossings_are_found(
    toy_category: Category, wrong: dict[str, slice], flipped: bool
) -> None:
    given = walk(toy_category, wrong, flipped=flipped)
    args = toy_category, given.seen, given.prediction, given.crops, given.center, given.side
    given.seen = fit(
        *args, flow=flow, config=FitConfig(passing=False)
    ).motion  # on the outlines, still confused
    found = found_in(toy_category, given)
    assert (found == given.wrong)[:, given.wrong.any(0)].mean() > 0.9
    assert {s.limb for s in stretches(toy_category.skeleton, found)} == set(wrong)


def test_stretches_are_named_from_first_to_last(toy_category: Category) -> None:
    skeleton = toy_category.skeleton
    marked = np.zeros((9, len(skeleton)), bool)
    left, right = limb_pairs(skeleton)[1]
    marked[np.array([0, 1, 5, 8])[:, None], np.concatenate([left, right])] = True
    assert stretches(skeleton, marked) == [
        Passing("hind_upper.L", 0, 1), Passing("hind_upper.L", 5, 5), Passing("hind_upper.L", 8, 8)
    ]  # fmt: skip


def test_the_surface_map_of_exchanged_legs_changes_sides(toy_category: Category) -> None:
    given, body = walk(toy_category, {"hind_upper.L": slice(0, 3)}), toy_category.body
    shown = np.tile(body.vertices[None, :, None], (FRAMES, 1, 1, 1)).astype(np.float32)
    said = replace(
        given.prediction, surface_map=shown, surface_confidence=np.ones(shown.shape[:3], np.float32)
    )
    after = mirrored_answer(toy_category, said, given.wrong)
    assert after.surface_map is not None and np.array_equal(after.surface_map[3:], shown[3:])
    legs = np.array([toy_category.skeleton.names[j].startswith("hind") for j in body.owner])
    feet = legs & (body.vertices[:, 2] < -0.3)
    flipped = shown[0] * np.array([-1, 1, 1], np.float32)
    assert np.array_equal(after.surface_map[0, feet], flipped[feet])
    front = np.array([toy_category.skeleton.names[j].startswith("front") for j in body.owner])
    assert np.array_equal(after.surface_map[0, front], shown[0, front])
    assert np.array_equal(shown[0, :, 0], body.vertices.astype(np.float32)), (
        "the network's answer was changed"
    )


def test_the_fit_gives_legs_back_that_were_confused(toy_category: Category) -> None:
    given = walk(toy_category, {"hind_upper.L": slice(9, 27)}, yaw=75.0)
    legs = np.flatnonzero([name.startswith("hind") for name in toy_category.skeleton.names])

    def off(motion: Motion) -> float:
        a, b = (quat_to_matrix(m.joint_rotations[12:24][:, legs]) for m in (motion, given.true))
        return float(np.degrees(geodesic(a, b)).mean())

    args = toy_category, given.seen, given.prediction, given.crops, given.center, given.side
    with_it = fit(*args, flow=flow)
    without = fit(*args, flow=flow, config=FitConfig(passing=False))
    assert [(s.limb, abs(s.first - 9) < 3, abs(s.last - 26) < 3) for s in with_it.passings] == [
        ("hind_upper.L", True, True)
    ]
    assert not without.passings and not fit(*args).passings, "without flow nothing is followed"
    assert off(with_it.motion) < 0.5 * off(without.motion)
    step = geodesic(
        quat_to_matrix(with_it.motion.joint_rotations[1:, legs]),
        quat_to_matrix(with_it.motion.joint_rotations[:-1, legs]),
    )
    assert np.degrees(step).max() < 20, "legs leap where they were exchanged"
