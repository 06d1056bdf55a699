# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person says of single frames: reading it, refusing it, and what it does to the masks around."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rendered import ellipse_mask, ground, write_images
from test_automatic import HEIGHT, WIDTH, overlaps, redness, scene

from dasr_blender.clip import (
    Clip,
    Correction,
    Looks,
    MaskError,
    Subject,
    automatic_masks,
    load_clip,
    parse_correction,
    read_corrections,
)


def test_texts() -> None:
    assert parse_correction("12:340,200.5") == Correction(12, point=(340.0, 200.5), origin="12:340,200.5")
    assert not parse_correction("0:!3,4").inside and parse_correction("7:1,2,30,40").box == (1.0, 2.0, 30.0, 40.0)
    for text in ("12:340,200.5", "0:!3,4", "7:1,2,30,40"):
        assert parse_correction(text).text == text


@pytest.mark.parametrize("text", ["12", "12:", "12:5", "12:1,2,3", "a:1,2", "12:!1,2,3,4", "12:x,y", "-1:3,4"])
def test_no_texts(text: str) -> None:
    with pytest.raises(MaskError, match="correction"):
        read_corrections([text])


def test_a_mask_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="no mask image .* to correct frame 3 with"):
        parse_correction(f"3:{tmp_path}")  # a folder
    with pytest.raises(MaskError, match=r"no mask image masks/xx\.png to correct frame 3 with: check the path"):
        parse_correction("3:masks/xx.png")


@pytest.mark.parametrize("text", ["3:nan,2", "3:1,2,0,5", "3:inf,inf"])
def test_no_places(text: str) -> None:
    with pytest.raises(MaskError, match="correction"):
        parse_correction(text)


def test_a_folder(tmp_path: Path) -> None:
    mask = ellipse_mask(WIDTH, HEIGHT, (40, 45), (24, 13))
    cv2.imwrite(str(tmp_path / "000004.png"), mask)
    rows = [
        {"frame": 2, "point": [64, 45]},
        {"frame": 3, "point": [1, 2], "inside": False},
        {"frame": 5, "box": [1, 2, 3, 4]},
    ]
    (tmp_path / "corrections.json").write_text(json.dumps(rows))
    found = read_corrections([tmp_path, f"9:{tmp_path / '000004.png'}"])
    assert [c.frame for c in found] == [4, 2, 3, 5, 9] and [c.inside for c in found][1:3] == [True, False]
    assert found[0].mask is not None and np.array_equal(found[0].mask, mask > 0)
    assert found[4].mask is not None and np.array_equal(found[4].mask, mask > 0)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("corrections.json", "[{]", "no list of corrections"),
        ("corrections.json", '[{"frame": 1}]', "must be one mask, one box or one point"),
        ("corrections.json", '[{"point": [1, 2]}]', "no list of corrections"),
        ("corrections.json", '{"frame": 1}', "no list of corrections"),
        ("000003.png", "no image", "damaged or no image"),
        ("mask.png", "no number", "no frame number in its name"),
        ("notes.txt", "nothing", "holds no mask image"),
    ],
)
def test_bad_folders(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(MaskError, match=words):
        read_corrections([tmp_path])
    with pytest.raises(MaskError, match="neither a folder"):
        read_corrections([tmp_path / "absent"])


def test_what_cannot_be(tmp_path: Path) -> None:
    clip, red, _ = scene(tmp_path, 4)
    inside = red[1]

    def refused(words: str, *said: Correction) -> None:
        with pytest.raises(MaskError, match=words):
            automatic_masks(clip, network=redness, corrections=said)

    refused("outside the clip's 0 to 3", Correction(9, point=(5, 5)))
    refused("outside the picture of 240×160", Correction(1, point=(500, 5)))
    refused("outside the picture of 240×160", Correction(1, box=(300, 5, 20, 20)))
    refused("another shape than the clip's", Correction(1, mask=np.ones((50, 50), bool)))
    refused("two masks", Correction(1, mask=inside), Correction(1, mask=inside))
    refused("contradicts the mask", Correction(1, mask=inside), Correction(1, point=(200, 150)))
    refused("contradicts the mask", Correction(1, mask=inside), Correction(1, point=(52, 45), inside=False))
    refused("on the subject and beside it", Correction(1, point=(52, 45)), Correction(1, point=(52, 45), inside=False))
    refused("outside the box round it", Correction(1, box=(0, 0, 30, 30)), Correction(1, point=(52, 45)))
    clip = load_clip(tmp_path, step=2)  # without frame 1, which counts as the one before
    refused("Frame 0 is given two masks", Correction(0, mask=inside), Correction(1, mask=inside))
    with pytest.raises(MaskError, match="is empty"):
        Correction(0, mask=np.zeros((4, 4), bool))
    with pytest.raises(MaskError, match="one mask, one box or one point"):
        Correction(0)


def blind(image: np.ndarray) -> np.ndarray:
    """Stand-in that sees only the red half of the subject."""
    return cv2.resize(
        (image[..., 0].astype(int) - image[..., 1] > 60).astype(np.float32), (320, 320), interpolation=cv2.INTER_AREA
    )


def two_toned(folder: Path, count: int = 13) -> tuple[Clip, list[np.ndarray], list[np.ndarray]]:
    """A body half red, half brown, of which `blind` sees the red half; its true masks and the red halves'."""
    background, texture = ground(WIDTH, HEIGHT), 0.8 + 0.2 * np.random.default_rng(2).random((HEIGHT, WIDTH))
    frames, whole, red = [], [], []
    for i in range(count):
        x = 60 + 8 * i
        both = ellipse_mask(WIDTH, HEIGHT, (x, 80), (40, 22))
        half = both.copy()
        half[:, x:] = 0
        shades = np.roll(texture, 8 * i, axis=1)[..., None]  # moves with the body
        frame = np.where(both[..., None] > 0, shades * (150, 140, 200), background)
        frames.append(np.where(half[..., None] > 0, shades * (230, 50, 40), frame).astype(np.uint8))
        whole.append(both > 0)
        red.append(half > 0)
    return load_clip(write_images(folder, frames)), whole, red


def test_a_mask_teaches_the_other_frames(tmp_path: Path) -> None:
    clip, whole, red = two_toned(tmp_path)
    looks = Looks(clip, lambda: blind)
    before = automatic_masks(clip, looks=looks)
    assert overlaps(before, red).min() > 0.8 > 0.6 > overlaps(before, whole).max()
    asked = looks.asked
    after = automatic_masks(clip, looks=looks, corrections=[Correction(6, mask=whole[6])])
    assert overlaps(after, whole).min() > 0.95  # the brown half of every frame, from one
    assert looks.asked - asked <= 9  # answers are kept: the rest of a correction is quick
    both = automatic_masks(clip, looks=looks, corrections=[Correction(k, mask=whole[k]) for k in (2, 6, 10)])
    assert overlaps(both, whole).min() > 0.95


def test_a_click_adds_and_takes_away(tmp_path: Path) -> None:
    clip, whole, _ = two_toned(tmp_path, 5)
    added = automatic_masks(clip, network=blind, corrections=[Correction(2, point=(95, 80))])
    assert overlaps(added, whole)[2] > 0.85 and overlaps(added, whole)[[1, 3]].min() > 0.8

    def greedy(image: np.ndarray) -> np.ndarray:
        return np.maximum(blind(image), redness(image))

    clip, red, blue = scene(tmp_path / "scene", 5)
    joined = [a | b for a, b in zip(red, blue, strict=True)]
    wrong = automatic_masks(clip, Subject(2, point=(168, 115)), network=greedy)
    assert overlaps(wrong, blue).min() > 0.85
    click = [Correction(2, point=(64, 45))]  # far from what was found: it is another body that is meant
    right = automatic_masks(clip, network=greedy, corrections=click)
    assert overlaps(right, red).min() > 0.8 and overlaps(right, joined).max() < 0.6


def test_a_box_names_the_subject(tmp_path: Path) -> None:
    clip, red, _ = scene(tmp_path)
    masks = automatic_masks(clip, network=redness, corrections=[Correction(6, box=(86, 18, 54, 54))])
    assert overlaps(masks, red).min() > 0.8


def test_boxes_and_clicks_draw_no_luck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GrabCut begins at random colours: the same ones whatever was drawn before."""
    cut, drawn = cv2.grabCut, []

    def grab_cut(*given):
        drawn.append(int(cv2.randu(np.zeros(1, np.int32), 0, 1 << 30)[0]))
        return cut(*given)

    monkeypatch.setattr(cv2, "grabCut", grab_cut)
    clip, _, _ = scene(tmp_path, 1)
    said = [parse_correction(text) for text in ("0:12,28,57,35", "0:!60,58")]
    for seed in (1, 2):
        cv2.setRNGSeed(seed)
        automatic_masks(clip, network=lambda image: np.zeros((320, 320), np.float32), corrections=said)
    assert len(drawn) >= 4 and len(set(drawn)) == 1


def test_looks_are_kept(tmp_path: Path) -> None:
    clip, _, _ = scene(tmp_path / "clip", 4)
    looks = Looks(clip, lambda: redness)
    first = automatic_masks(clip, looks=looks)
    looks.save(tmp_path / "looks.npz")
    again = Looks(clip, lambda: pytest.fail("the network is not needed"))
    again.load(tmp_path / "looks.npz")
    assert np.array_equal(automatic_masks(clip, looks=again).packed, first.packed) and again.asked == 0
    (tmp_path / "looks.npz").write_bytes(b"damaged")
    fresh = Looks(clip, lambda: redness)
    fresh.load(tmp_path / "looks.npz")
    assert np.array_equal(automatic_masks(clip, looks=fresh).packed, first.packed) and fresh.asked > 0
