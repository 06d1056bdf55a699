# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera's movement: from made-up tracks, and from rendered and made-up pictures."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from filmed import film

from dasr_blender.clip import Clip, Masks, find_egomotion
from dasr_blender.clip.egomotion import Egomotion, solve_turns
from dasr_blender.clip.tracks import Key, Link, TrackingConfig
from dasr_blender.clip.turning import Edge, agree, fit_turn, turned
from dasr_blender.core import Category
from dasr_blender.core.rotation import geodesic, rotvec_to_matrix

FOCAL = 700.0
MIDDLE = np.array([320.0, 180.0])


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(geodesic(a, b)).max())


def scattered(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-MIDDLE, MIDDLE, (count, 2))


@pytest.mark.parametrize("zoom", [False, True])
def test_a_turn_among_many_wrong_points(zoom: bool) -> None:
    rng = np.random.default_rng(1)
    a = scattered(300)
    rotation, scale = rotvec_to_matrix(np.array([0.02, -0.12, 0.05])), 1.15 if zoom else 1.0
    b = turned(a, FOCAL, rotation, scale) + rng.normal(0, 0.2, a.shape)
    b[:140] += rng.uniform(15, 25, (140, 2))  # a crowd that goes its own way, all of it together
    found = fit_turn(a, b, FOCAL, zoom)
    assert degrees(found.rotation, rotation) < 0.03
    assert found.scale == pytest.approx(scale, rel=1e-3)
    assert not found.inliers[:140].any() and found.inliers[140:].mean() > 0.95
    assert found.share == pytest.approx(160 / 300, abs=0.01)


def test_turning_is_no_zoom_and_zooming_no_turn() -> None:
    a = scattered(200)
    turn = rotvec_to_matrix(np.array([0.05, 0.15, 0.0]))
    assert fit_turn(a, turned(a, FOCAL, turn, 1.0), FOCAL, True).scale == pytest.approx(1, abs=1e-6)
    found = fit_turn(a, turned(a, FOCAL, np.eye(3), 1.3), FOCAL, True)
    assert degrees(found.rotation, np.eye(3)) < 1e-4 and found.scale == pytest.approx(1.3)


def test_key_frames_agree_with_a_place_seen_again() -> None:
    """Ten nodes there and back; every step is measured 0.5 degrees too far, the last sees the first again."""
    true = np.concatenate([np.linspace(0, 0.5, 6), np.linspace(0.4, 0, 5)])
    truth = rotvec_to_matrix(true[:, None] * [0, 1.0, 0])
    slip = rotvec_to_matrix(np.array([0, np.radians(0.5), 0]))
    steps = [truth[n + 1].T @ truth[n] @ slip for n in range(10)]
    chained = [np.eye(3)]
    for step in steps:
        chained.append(chained[-1] @ step.T)
    edges = [Edge(n, n + 1, step, 1.02, 1.0) for n, step in enumerate(steps)]
    edges += [Edge(0, 10, np.eye(3), 1.0, 100.0)]
    rotations, scales = agree(np.stack(chained), 1.02 ** np.arange(11), edges)
    assert degrees(np.stack(chained), truth) > 4.9 and degrees(rotations[-1], truth[-1]) < 0.1
    np.testing.assert_array_equal(rotations[0], np.eye(3))
    assert scales[-1] == pytest.approx(1, abs=5e-3) and scales[0] == 1


def made_up(rotation: np.ndarray, zoom: np.ndarray, seed: int = 0, wrong: float = 0.2) -> list[Link]:
    """Links as tracking makes them, to key frames 6 frames apart, of a world infinitely far away."""
    rng = np.random.default_rng(seed)
    links = []
    for t in range(1, len(rotation)):
        key = (t - 1) // 6 * 6
        a = scattered(200, seed=key)
        b = turned(a, FOCAL * zoom[key], rotation[t].T @ rotation[key], zoom[t] / zoom[key])
        b += rng.normal(0, 0.15, b.shape)
        inside = (np.abs(b) < MIDDLE).all(axis=1)
        b[rng.random(len(b)) < wrong] += rng.uniform(-30, 30, 2)
        a, b = a[inside], b[inside]
        links.append(Link(key, t, a, b, fit_turn(a, b, 768.0, True)))
    return links


def solved(
    links: list[Link], focal: float = 768.0, calibrate: bool = True, keys: list[Key] | None = None
) -> Egomotion:
    comparer = SimpleNamespace(focal=768.0, scale=0.5, middle=MIDDLE, config=TrackingConfig())
    return solve_turns(comparer, links, keys or [], focal, calibrate)  # type: ignore[arg-type]


TIME = np.linspace(0, 1, 40)
PAN = rotvec_to_matrix(np.stack([0.06 * np.sin(6 * TIME), 0.6 * TIME, 0.03 * np.sin(9 * TIME)], axis=1))


def test_a_pan_tells_rotation_and_focal_length() -> None:
    found = solved(made_up(PAN, np.ones(40)))
    assert not found.still and not found.zooms and not found.warnings
    np.testing.assert_array_equal(found.focal_scale, 1)
    assert found.focal == pytest.approx(FOCAL / 0.5, rel=0.03)  # in working pixels, twice the compared ones
    assert degrees(found.rotation, PAN) < 0.03 * np.degrees(0.6)
    given = solved(made_up(PAN, np.ones(40)), FOCAL, calibrate=False)
    assert given.focal is None and degrees(given.rotation, PAN) < 0.1
    assert np.degrees(given.angle) == pytest.approx(np.degrees(0.6), rel=0.02)
    assert np.median(given.inliers[1:]) > 100 and 0 < np.median(given.residual_px) < 0.8


def test_zoom_is_told_from_rotation() -> None:
    zoom = np.exp(0.5 * TIME**2)
    found = solved(made_up(PAN, zoom), FOCAL, calibrate=False)
    assert found.zooms and degrees(found.rotation, PAN) < 0.1
    np.testing.assert_allclose(found.focal_scale, zoom, rtol=5e-3)
    only = solved(made_up(np.tile(np.eye(3), (40, 1, 1)), zoom), FOCAL, calibrate=False)
    assert only.zooms and degrees(only.rotation, np.eye(3)) < 0.05


def test_walking_closer_is_no_zoom() -> None:
    """Everything grows, but what is near grows more: parallax, which no zoom has."""
    rng = np.random.default_rng(2)
    links = []
    for t in range(1, 24):
        key = (t - 1) // 4 * 4
        a = scattered(200, seed=key)
        depth = np.random.default_rng(key + 1).uniform(3, 15, 200)
        scale = (depth - 0.04 * key) / (depth - 0.04 * t)
        b = a * scale[:, None] + rng.normal(0, 0.1, a.shape)
        links.append(Link(key, t, a, b, fit_turn(a, b, 768.0, True)))
    found = solved(links, calibrate=False)
    assert not found.zooms
    np.testing.assert_array_equal(found.focal_scale, 1)


def test_a_narrow_pan_tells_no_focal_length() -> None:
    narrow = rotvec_to_matrix(TIME[:, None] * [0, 0.1, 0])
    assert solved(made_up(narrow, np.ones(40))).focal is None


def pictures(frames: list[np.ndarray]) -> Clip:
    height, width = frames[0].shape[:2]
    return Clip(
        fps=24.0,
        size=(width, height),
        original_size=(width, height),
        frame_index=np.arange(len(frames)),
        source="made up",
        source_count=len(frames),
        sha256="",
        pixels=np.stack(frames),
    )


def textured(size: tuple[int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (size[1] // 6, size[0] // 6, 3)).astype(np.float32)
    return cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def boxed(clip: Clip, box: tuple[int, int, int, int]) -> Masks:
    mask = np.zeros(clip.size[::-1], bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return Masks.pack([mask] * len(clip), "folder")


def test_a_still_camera_is_exactly_still_beside_a_passing_crowd() -> None:
    """Not even a train through half of the picture, with grain on top, moves the camera."""
    wall, train = textured((320, 180), 0), textured((600, 80), 1)
    frames = []
    for t in range(10):
        frame = wall.copy()
        frame[90:170] = train[:, 10 * t : 10 * t + 320]
        grain = np.random.default_rng(t).normal(0, 4, frame.shape)
        frames.append((frame + grain).clip(0, 255).astype(np.uint8))
    clip = pictures(frames)
    found = find_egomotion(clip, boxed(clip, (140, 40, 180, 120)), 384.0)
    assert found.still and not found.zooms and found.focal is None and not found.warnings
    np.testing.assert_array_equal(found.world_from_camera, np.tile(np.eye(4), (10, 1, 1)))
    np.testing.assert_array_equal(found.focal_scale, 1)


def test_noise_alone_moves_no_camera() -> None:
    """Corners of a dark, grainy wall wander by more than a still camera's should; all together they go nowhere."""
    rng = np.random.default_rng(4)
    links = []
    for t in range(1, 40):
        a = scattered(150, seed=t)
        b = a + rng.normal(0, 0.8, a.shape)
        links.append(Link(t - 1, t, a, b, fit_turn(a, b, 768.0, True)))
    keys = [Key(t, np.zeros((4, 4), np.uint8), np.zeros((0, 2)), np.eye(3)) for t in range(40)]
    still = solved(links, keys=keys)
    assert still.still and not still.zooms and still.focal is None and still.inliers[1:].min() > 75
    np.testing.assert_array_equal(still.rotation, np.tile(np.eye(3), (40, 1, 1)))
    # a slow pan, as small from frame to frame, leads somewhere; and one quick glance aside is no noise
    slow = rotvec_to_matrix(np.arange(40)[:, None] * [0, 0.3 / 768, 0])
    assert not solved(creeping(slow, rng), keys=keys).still
    glance = np.tile(np.eye(3), (40, 1, 1))
    glance[20:22] = rotvec_to_matrix(np.array([0, 0.02, 0]))
    assert not solved(creeping(glance, rng), keys=keys).still


def creeping(rotation: np.ndarray, rng: np.random.Generator) -> list[Link]:
    """Links from every frame to the next."""
    links = []
    for t in range(1, len(rotation)):
        a = scattered(150, seed=t)
        b = turned(a, 768.0, rotation[t].T @ rotation[t - 1], 1.0) + rng.normal(0, 0.5, a.shape)
        links.append(Link(t - 1, t, a, b, fit_turn(a, b, 768.0, True)))
    return links


def test_nothing_to_follow_is_said_and_still() -> None:
    frames = []
    for t in range(6):
        frame = np.full((120, 200, 3), 128, np.uint8)
        frame[40:80, 60 + 5 * t : 110 + 5 * t] = textured((50, 40), 3)[:40]
        frames.append(frame)
    clip = pictures(frames)
    found = find_egomotion(clip, boxed(clip, (55, 35, 145, 85)), 240.0)
    assert found.still and len(found.warnings) == 1 and "Too little of the background" in found.warnings[0]
    np.testing.assert_array_equal(found.rotation, np.tile(np.eye(3), (6, 1, 1)))


def test_the_subject_does_not_count() -> None:
    """A textured subject that runs to the right over a still wall would look like a pan without its mask."""
    wall, dog = textured((320, 180), 0), textured((200, 170), 1)
    frames, masks = [], []
    for t in range(8):
        frame, mask = wall.copy(), np.zeros((180, 320), bool)
        frame[5:175, 20 + 12 * t : 220 + 12 * t] = dog
        mask[5:175, 20 + 12 * t : 220 + 12 * t] = True
        frames.append(frame)
        masks.append(mask)
    clip = pictures(frames)
    assert find_egomotion(clip, Masks.pack(list(masks), "folder"), 384.0).still
    assert not find_egomotion(clip, boxed(clip, (0, 0, 4, 4)), 384.0).still


@pytest.mark.parametrize("kind", ["pan", "handheld", "zoom"])
def test_rendered_clips(toy_category: Category, kind: str) -> None:
    """An animal walks over a textured floor; the camera follows it, by hand, or zooms in."""
    made = film(toy_category, kind, frames=14, size=(400, 224))
    truth = made.motion
    seen: list[float] = []
    found = find_egomotion(
        made.clip, made.subject, float(truth.focal_px[0]), progress=lambda share, text: seen.append(share)
    )
    assert degrees(truth.world_from_camera[:, :3, :3], np.eye(3)) > 1.0 and not found.still
    assert degrees(found.rotation, truth.world_from_camera[:, :3, :3]) < 0.35
    np.testing.assert_allclose(found.focal_scale, truth.focal_px / truth.focal_px[0], rtol=0.01)
    assert found.zooms == (kind == "zoom") and not found.warnings
    assert seen == sorted(seen) and 0 < seen[-1] < 1


def test_a_camera_that_travels_is_said(toy_category: Category) -> None:
    made = film(toy_category, "travel", frames=24, size=(256, 144))
    found = find_egomotion(made.clip, made.subject, float(made.motion.focal_px[0]))
    assert "travel" in found.warnings[0] and found.travels and not found.sure


def test_one_frame() -> None:
    clip = pictures([textured((64, 48), 0)])
    assert find_egomotion(clip, boxed(clip, (10, 10, 20, 20)), 77.0).still
