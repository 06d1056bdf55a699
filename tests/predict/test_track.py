# SPDX-License-Identifier: GPL-3.0-or-later
"""From hypotheses to a motion: the right path, the right place, smooth and steady."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_clips import random_motion, render
from tracked import angles, case

from dasr_blender.clip.crop import crop_boxes, sample_square
from dasr_blender.core import Category, decode_root, encode_root
from dasr_blender.core.rotation import (
    geodesic,
    quat_to_matrix,
    rotvec_to_matrix,
    rotvec_to_quat,
)
from dasr_blender.core.smooth import smooth, smooth_rotations
from dasr_blender.predict import PredictError, Prediction, TrackConfig, track
from dasr_blender.predict.path import choose
from dasr_blender.predict.track import smooth_root
from dasr_blender.predict.views import Views, gather


def test_the_truth_comes_out_as_a_valid_motion(toy_category: Category) -> None:
    given = case(toy_category)
    found = given.run(toy_category)
    found.validate(toy_category)
    assert angles(found, given.motion).max() < 3
    assert np.abs(found.camera_from_root[:, :3, 3] - given.motion.camera_from_root[:, :3, 3]).max() < 0.08
    assert found.mask_iou.min() > 0.8 and 0.5 < found.confidence.min() <= found.confidence.max() <= 1
    dots = (found.joint_rotations[1:] * found.joint_rotations[:-1]).sum(-1)
    assert dots.min() > 0


def test_frames_that_flip_are_outvoted(toy_category: Category) -> None:
    given = case(toy_category, wrong=(3, 7, 8, 12))
    assert angles(given.run(toy_category), given.motion).max() < 8


def test_noise_is_smoothed(toy_category: Category) -> None:
    given = case(toy_category, frames=30, noise=0.12)
    found = given.run(toy_category)
    raw = np.rad2deg(
        geodesic(
            decode_root(
                given.prediction.root_rotation[:, 0],
                given.prediction.root_translation[:, 0],
                given.center,
                given.side,
                given.motion.focal_px,
                given.motion.principal_point,
            )[:, :3, :3],
            given.motion.camera_from_root[:, :3, :3],
        )
    )
    assert angles(found, given.motion).mean() < 0.7 * raw.mean()
    before = geodesic(
        quat_to_matrix(given.prediction.joint_rotations), quat_to_matrix(given.motion.joint_rotations)
    )
    after = geodesic(quat_to_matrix(found.joint_rotations), quat_to_matrix(given.motion.joint_rotations))
    assert after[:, 1:].mean() < 0.85 * before[:, 1:].mean()


def test_translation_is_solved_from_the_mask(toy_category: Category) -> None:
    """A prediction that is too far left, low and near comes back to what the picture shows."""
    given = case(toy_category, shift=0.12)
    found = given.run(toy_category)
    truth = given.motion.camera_from_root[:, :3, 3]
    predicted = decode_root(
        given.prediction.root_rotation[:, 0],
        given.prediction.root_translation[:, 0],
        given.center,
        given.side,
        given.motion.focal_px,
        given.motion.principal_point,
    )[:, :3, 3]
    error, before = (
        np.linalg.norm(x - truth, axis=1) / truth[:, 2] for x in (found.camera_from_root[:, :3, 3], predicted)
    )
    assert np.median(error) < 0.35 * np.median(before)
    assert found.mask_iou.min() > 0.75


def test_a_mask_cut_by_the_border_does_not_shrink_the_subject(toy_category: Category) -> None:
    motion = random_motion(toy_category, 8, 5)
    width = int(motion.image_size[0])
    pose = motion.camera_from_root.copy()
    depth = pose[:, 2, 3]
    pose[:, 0, 3] = (
        (width * 0.98 - motion.principal_point[0]) / motion.focal_px * depth
    )  # half out on the right
    motion.camera_from_root = pose
    _, masks = render(toy_category, motion)
    boxes = np.array(
        [
            (np.nonzero(m.any(0))[0][[0, -1]].tolist() + np.nonzero(m.any(1))[0][[0, -1]].tolist())
            for m in masks
        ]
    )[:, [0, 2, 1, 3]] + [0, 0, 1, 1]
    assert (boxes[:, 2] == width).all()
    center, side = crop_boxes(boxes)
    crops = np.stack(
        [sample_square(m, c, float(s), 128) for m, c, s in zip(masks, center, side, strict=True)]
    )
    rotation, translation = encode_root(pose, center, side, motion.focal_px, motion.principal_point)
    prediction = Prediction(
        root_rotation=rotation[:, None],
        root_translation=translation[:, None],
        root_logprob=np.zeros((8, 1)),
        joint_rotations=motion.joint_rotations,
        morphology=motion.morphology,
        appearance=motion.appearance,
        joint_confidence=np.ones((8, 30)),
    )
    found = track(
        toy_category,
        prediction,
        center,
        side,
        crops,
        motion.focal_px,
        motion.principal_point,
        motion.image_size,
        motion.fps,
    )
    ratio = found.camera_from_root[:, 2, 3] / depth
    assert 0.85 < ratio.min() and ratio.max() < 1.15


def test_one_frame_and_an_empty_mask_work(toy_category: Category) -> None:
    alone = case(toy_category, frames=1)
    assert len(alone.run(toy_category)) == 1
    given = case(toy_category, frames=6)
    given.masks[2] = 0
    found = given.run(toy_category)
    found.validate(toy_category)
    assert (
        np.isnan(found.mask_iou[2]) and found.confidence[2] == 0 and np.isfinite(found.camera_from_root).all()
    )


def test_arrays_of_different_lengths_are_refused(toy_category: Category) -> None:
    given = case(toy_category, frames=4)
    whole = given.run(toy_category)
    shares = given.run(toy_category, masks=given.masks / 255.0)
    assert np.array_equal(shares.camera_from_root, whole.camera_from_root)
    for name, wrong, reason in (
        ("masks", given.masks[:3], r"not \(4, 2\), \(4,\) and \(3, "),
        ("masks", given.masks[:, :-1], "cut the crops anew"),  # of the picture's shape, not the crop's
        ("masks", given.masks[:, None], "cut the crops anew"),
        ("center", given.center[:, 0], r"not \(4,\), "),
        ("side", np.full(4, np.nan), "not finite"),
        ("focal", np.full(3, 200.0), r"one a frame, \(4,\), not \(3,\)"),
        ("focal", np.nan, "not finite"),
    ):
        with pytest.raises(PredictError, match=reason):
            given.run(toy_category, **{name: wrong})


def test_the_path_is_the_cheapest_of_all_paths() -> None:
    """Dynamic programming against every path there is."""
    from itertools import product

    rng = np.random.default_rng(0)
    rotation = rotvec_to_matrix(rng.normal(0, 1, (5, 3, 3)))
    translation, agreement = rng.normal(0, 0.2, (5, 3, 3)), rng.random((5, 3))
    logprob = np.log(rng.dirichlet([1, 1, 1], 5))
    config = TrackConfig()
    free = config.turn_rate / 24 + config.turn_noise

    def cost(path: tuple[int, ...]) -> float:
        total = sum(-logprob[t, m] + config.silhouette * (1 - agreement[t, m]) for t, m in enumerate(path))
        total /= 1 + config.alike * 24
        for t in range(1, 5):
            a, b = path[t - 1], path[t]
            turn = float(geodesic(rotation[t - 1, a], rotation[t, b])) / free
            move = np.abs(translation[t - 1, a] - translation[t, b]).sum() / config.shift_noise
            total += min(0.15 * turn**2 + 0.1 * move, config.largest_jump)
        return float(total)

    best = min(product(range(3), repeat=5), key=cost)
    assert tuple(choose(rotation, translation, logprob, agreement, 24.0)) == best


def test_smoothing_keeps_lines_and_parabolas_and_steady_turns() -> None:
    t = np.linspace(0, 1, 20)
    line = np.stack([t, 3 - 2 * t], 1)
    assert np.abs(smooth(line, 2.0)[4:-4] - line[4:-4]).max() < 1e-2
    axis = np.array([0.3, -0.2, 0.9])
    turning = rotvec_to_quat(t[:, None] * 2 * axis)
    held = smooth_rotations(turning, 2.0)
    assert np.rad2deg(geodesic(quat_to_matrix(held), quat_to_matrix(turning))).max() < 3
    constant = np.tile(turning[3], (7, 1))
    assert np.allclose(
        smooth_rotations(constant * np.array([1, -1, 1, -1, 1, -1, 1])[:, None], 2.0), constant
    )
    noise = np.random.default_rng(0).normal(0, 1, (400, 1))
    assert smooth(noise, 2.0).std() < 0.6


def test_smoothing_of_the_root_does_not_lag() -> None:
    frames = 40
    pose = np.tile(np.eye(4), (frames, 1, 1))
    t = np.arange(frames)
    pose[:, :3, :3] = rotvec_to_matrix(np.stack([0 * t, 0.5 * np.sin(t / 6), 0 * t], 1))
    pose[:, :3, 3] = np.stack([np.sin(t / 6), np.cos(t / 9), 3 + np.sin(t / 8)], 1)
    out = smooth_root(pose, 2.0, 2.0)
    angle = np.arctan2(out[:, 0, 2], out[:, 0, 0])
    lag = [np.corrcoef(angle[5:-5], 0.5 * np.sin((t[5:-5] - d) / 6))[0, 1] for d in (-1, 0, 1)]
    assert np.argmax(lag) == 1
    assert np.abs(out[:, :3, 3] - pose[:, :3, 3]).max() < 0.05


def test_distances_are_steadied_more_than_places_in_the_picture() -> None:
    shake = 0.1 * (-1.0) ** np.arange(60)
    pose = np.tile(np.eye(4), (60, 1, 1))
    pose[:, :3, 3] = np.stack([shake, shake, np.ones(60)], 1) * np.exp(shake)[:, None]
    out = smooth_root(pose, 0.5, 4.0)
    place, depth = out[:, :2, 3] / out[:, 2:3, 3], np.log(out[:, 2, 3])
    assert np.abs(depth[4:-4]).max() < 0.005 < 0.02 < np.abs(place[4:-4]).min()


def opinions(turns: list[list[float]], share: list[float]) -> Prediction:
    rotation = rotvec_to_matrix(np.array(turns))[None]
    count = len(turns)
    return Prediction(
        root_rotation=rotation,
        root_translation=np.arange(count)[None, :, None] * np.ones(3),
        root_logprob=np.log(np.array([share])),
        joint_rotations=np.zeros((1, 30, 4)),
        morphology=np.zeros(11),
        appearance=np.zeros(3),
        joint_confidence=np.ones((1, 30)),
    )


def test_opinions_that_agree_add_up() -> None:
    """Two middling hypotheses of one view outweigh a single likelier one of another, and are averaged."""
    views = gather(opinions([[0, 0, 0.0], [0, 0, 3.0], [0, 0, 0.1]], [0.31, 0.38, 0.31]))
    assert np.allclose(np.exp(views.logprob[0, :2]), [0.62, 0.38])
    assert np.allclose(views.rotation[0, 0], rotvec_to_matrix(np.array([0, 0, 0.05])), atol=1e-6)
    assert np.allclose(views.translation[0, :2], [[1.0] * 3, [1.0] * 3])


def test_the_view_from_the_other_end_stands_upright() -> None:
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # seen from its front by a level camera
    for yaw, other in ((0.0, np.pi), (0.5, np.pi - 0.5), (-1.2, np.pi + 1.2)):
        given = gather(opinions([[0.0, 0, 0]], [1.0]))
        first = (upright @ rotvec_to_matrix(np.array([0, 0, yaw])))[None, None]
        views = replace(given, rotation=first).with_reversed(0.2)
        expected = upright @ rotvec_to_matrix(np.array([0, 0, other]))
        assert np.allclose(views.rotation[0, 1], expected, atol=1e-9)
        assert np.isclose(np.exp(views.logprob[0, 1]), 0.2)


def test_a_stretch_of_wrong_headings_is_overruled(toy_category: Category) -> None:
    """The student sees the back for the front in a fifth of the clip and offers nothing else there."""
    given = case(toy_category, frames=30, seed=9)
    heading = given.prediction.root_rotation[:, :1]
    mistaken = Views(heading, given.prediction.root_translation[:, :1], np.zeros((30, 1))).with_reversed(0.2)
    rotation = heading.copy()
    rotation[22:28] = mistaken.rotation[22:28, 1:]
    seen = replace(
        given.prediction,
        root_rotation=rotation,
        root_translation=given.prediction.root_translation[:, :1],
        root_logprob=np.zeros((30, 1)),
    )
    found = given.run(toy_category, prediction=seen)
    between = geodesic(rotation[24, 0], heading[24, 0])
    assert between > 0.8
    assert angles(found, given.motion).max() < np.rad2deg(between) / 3
