# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clips: what is found in folders, keypoints carried through time, green screens."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("scipy")

from toy_clips import random_motion, render

from dasr_blender.clip import Masks, load_clip
from dasr_blender.core import Category
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.evaluate.chroma import chroma_masks, screen_hue
from dasr_blender.training.evaluate.keypoints import read_keypoints, transfer, vertex_under
from dasr_blender.training.evaluate.real import find_clips, find_masks, real_scores
from dasr_blender.training.evaluate.seen_motion import seen_jitter


def test_clips_are_found_in_folders_of_any_depth_and_by_pattern(tmp_path: Path):
    for folder in ("camel/frames", "camel/masks", "man"):
        (tmp_path / folder).mkdir(parents=True)
    for video in ("dog-1.mp4", "man/0.mp4", "man/10.mp4", "notes.txt"):
        (tmp_path / video).write_bytes(b"")
    assert {c.name for c in find_clips([tmp_path])} == {"camel", "dog-1", "man-0", "man-10"}
    assert [c.name for c in find_clips([tmp_path], ["man-*"])] == ["man-0", "man-10"]
    assert find_clips([tmp_path / "camel"])[0].source == tmp_path / "camel" / "frames"
    with pytest.raises(TrainingError, match="no such"):
        find_clips([tmp_path / "missing"])
    with pytest.raises(TrainingError, match="No real clip"):
        find_clips([tmp_path], ["cow"])


@pytest.mark.parametrize("kind", ["badja", "viser"])
def test_keypoint_files_are_read_in_their_own_order(tmp_path: Path, kind: str):
    point = [540, 960] if kind == "badja" else [960, 540]  # the middle of 1920×1080
    entry = {
        "image_path": "x/00005.jpg",
        "joints": [point, [0, 0], [10, 10]],
        "visibility": [True, True, False],
    }
    path = tmp_path / f"keypoints_{kind}.json"
    path.write_text(json.dumps([entry, {**entry, "image_path": "x/00099.jpg"}]))
    found = read_keypoints(path, {"00005": 2}, (960, 540))
    assert list(found) == [2]
    points, visible = found[2]
    assert points[0] == pytest.approx([480, 270]) and visible.tolist() == [True, False, False]
    path.write_text('{"a": 1}')
    with pytest.raises(TrainingError, match="keypoints"):
        read_keypoints(path, {}, (10, 10))


def test_keypoints_ride_on_the_nearest_vertex():
    pixels = np.array([[[10.0, 10, 2], [10, 11, 1], [60, 10, 1]]])
    assert vertex_under(pixels[0], np.array([[10.0, 10.0], [58.0, 10]])).tolist() == [
        1,
        2,
    ]  # the nearer in depth
    moved = np.concatenate([pixels, pixels + [30, 0, 0], pixels + [0, 40, 0]])
    seen = np.array([True, True])
    start = np.array([[12.0, 10.0], [60.0, 12.0]])
    keypoints = {t: (start + shift, seen) for t, shift in enumerate(([0, 0], [30, 0], [0, 40]))}
    carried, still, pairs = transfer(moved, keypoints, np.full(3, 10000.0))  # 20 pixels of room
    assert (carried, still, pairs) == (1.0, 0.0, 12)
    carried, still, _ = transfer(np.repeat(pixels, 3, 0), keypoints, np.full(3, 10000.0))
    assert carried == still == 0.0
    assert transfer(moved, {0: keypoints[0]}, np.ones(3))[2] == 0


def test_scores_of_a_perfect_motion(toy_category: Category):
    motion = random_motion(toy_category, 5, 4)
    _, drawn = render(toy_category, motion)
    masks = Masks.pack([m > 0 for m in drawn], "folder")
    scores = real_scores(toy_category, motion, masks)
    assert (
        scores["iou"] > 0.99
        and scores["frames"] == 5
        and 0 < scores["jitter_percent"] < 15
        and "pck_t" not in scores
    )
    empty = Masks.pack([None, *(m > 0 for m in drawn[1:])], "folder")
    assert real_scores(toy_category, motion, empty)["iou"] > 0.99  # a frame without a mask says nothing


def screen_clip(folder: Path, colour: tuple[int, int, int]) -> Path:
    (folder / "frames").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(4):
        picture = np.full((120, 160, 3), colour, np.uint8) + rng.integers(
            0, 12, (120, 160, 3), dtype=np.uint8
        )
        picture[30:100, 60 + 4 * i : 90 + 4 * i] = (150, 110, 90)
        cv2.imwrite(str(folder / "frames" / f"{i:05d}.png"), picture[..., ::-1])
    return folder


def test_a_green_screen_is_keyed_and_a_meadow_is_not_mistaken_for_one(tmp_path: Path):
    green = load_clip(screen_clip(tmp_path / "green", (20, 150, 40)) / "frames")
    hue = screen_hue(green)
    assert hue is not None
    masks = chroma_masks(green, hue)
    truth = np.zeros((120, 160), bool)
    truth[30:100, 64:94] = True
    found = masks.mask(1) > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.95 and masks.source == "chroma key"
    grey = load_clip(screen_clip(tmp_path / "grey", (120, 128, 118)) / "frames")
    assert screen_hue(grey) is None


def test_masks_come_from_the_folder_else_from_what_can_be_seen(tmp_path: Path):
    folder = screen_clip(tmp_path / "green", (20, 150, 40))
    real = find_clips([folder])[0]
    clip = load_clip(real.source)
    assert find_masks(real, clip, tmp_path)[1] == "chroma key"
    (folder / "masks").mkdir()
    for i in range(4):
        picture = np.zeros((120, 160), np.uint8)
        picture[30:100, 60:90] = 255
        cv2.imwrite(str(folder / "masks" / f"{i:05d}.png"), picture)
    masks, source = find_masks(real, clip, tmp_path)
    assert source == "true" and masks.boxes[0].tolist() == [60, 30, 90, 100]


@pytest.mark.parametrize(("turns", "expected"), [(0.0, 0.0), (1.0, 4.0), (2.0, 8.0)])
def test_jitter_of_the_picture_is_that_of_what_moves_in_it(turns: float, expected: float):
    """A spotted disc that goes right at three pixels a frame, and up and down besides: its steps differ by 2 or 4
    pixels from frame to frame, of a disc whose area is 50 squared."""
    rng = np.random.default_rng(0)
    side, radius = 50, 50 / np.sqrt(np.pi)
    spots = cv2.GaussianBlur(rng.uniform(0, 255, (200, 260, 3)).astype(np.float32), (0, 0), 2.0)
    spots = np.clip((spots - 128) * 6 + 128, 0, 255)
    ground = np.full((200, 260, 3), 90, np.uint8)
    frames, masks = [], []
    for t in range(8):
        x, y = 60 + 3 * t, 90 + turns * (t % 2)
        row, column = np.mgrid[:200, :260]
        mask = (column - x) ** 2 + (row - y) ** 2 < radius**2
        moved = cv2.warpAffine(spots, np.float32([[1, 0, x], [0, 1, y - 90]]), (260, 200), borderMode=cv2.BORDER_WRAP)
        frames.append(np.where(mask[..., None], moved, ground).astype(np.uint8))
        masks.append(mask)
    assert seen_jitter(frames, masks) == pytest.approx(expected, rel=0.15, abs=0.4)
    assert np.isnan(seen_jitter(frames[:2], masks[:2]))
    assert side**2 == pytest.approx(masks[0].sum(), rel=0.02)
