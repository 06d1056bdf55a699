# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene behind the subject, on drawn clips with a still camera."""

from __future__ import annotations

import cv2
import numpy as np

from dasr_blender.clip.evidence import Background

Array = np.ndarray

WIDTH, HEIGHT, COUNT = 160, 96, 24
STOOL = (slice(56, 76), slice(100, 120))
SUBJECT = (slice(24, 80), slice(60, 100))


def texture(shape: tuple[int, int], seed: int) -> Array:
    """(h, w, 3) uint8, rough at the scale of a few pixels."""
    noise = np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]


def odds_of(masks: list[Array], frames: list[Array], i: int) -> Array:
    still: list[Array | None] = [None, *(np.zeros((HEIGHT, WIDTH, 2), np.float32) for _ in range(COUNT - 1))]
    return Background(frames, list(masks), still).odds(i)


def box(*places: tuple[slice, slice]) -> Array:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for place in places:
        mask[place] = True
    return mask


def with_subject(scene: Array, place: tuple[slice, slice]) -> Array:
    frame = scene.copy()
    frame[place] = texture((56, 40), 1)
    return frame


def test_what_a_mask_took_in_is_background_where_it_stands_without_the_subject() -> None:
    """A stool is taken for a part of the subject until the subject walks off."""
    scene = texture((HEIGHT, WIDTH), 0)
    gone = (slice(24, 80), slice(2, 42))
    leaves = 16
    frames = [with_subject(scene, SUBJECT if i < leaves else gone) for i in range(COUNT)]
    masks = [box(SUBJECT, STOOL) if i < leaves else box(gone) for i in range(COUNT)]
    odds = odds_of(masks, frames, 12)
    assert np.median(odds[STOOL]) < -1.0
    assert np.median(odds[SUBJECT]) > 1.0


def test_what_stood_still_and_was_missed_at_times_is_not_background() -> None:
    """The subject never leaves; the same part of it is left out of some masks."""
    scene = texture((HEIGHT, WIDTH), 0)
    frames = [with_subject(scene, SUBJECT)] * COUNT
    masks = [box(SUBJECT, STOOL) if i < 16 else box(SUBJECT) for i in range(COUNT)]
    assert abs(np.median(odds_of(masks, frames, 12)[STOOL])) < 0.1


def test_a_subject_that_turns_in_its_place_has_left_it_too() -> None:
    """Its mask stays where it is, what is seen there does not: the stool beside it is background all the same."""
    scene = texture((HEIGHT, WIDTH), 0)
    turned = scene.copy()
    turned[SUBJECT] = texture((56, 40), 2)
    turns = 16
    frames = [with_subject(scene, SUBJECT) if i < turns else turned for i in range(COUNT)]
    masks = [box(SUBJECT, STOOL) if i < turns else box(SUBJECT) for i in range(COUNT)]
    odds = odds_of(masks, frames, 12)
    assert np.median(odds[STOOL]) < -1.0
    assert np.median(odds[SUBJECT]) >= 0.0


def test_a_short_clip_and_the_ends_of_a_long_one_are_looked_at_more_closely() -> None:
    """Eight samples where there are so many; in the middle of a long clip only the far ones, which differ most."""

    def samples(count: int, i: int) -> list[int]:
        frames = [texture((32, 48), 0)] * count
        still: list[Array | None] = [None, *(np.zeros((32, 48, 2), np.float32) for _ in range(count - 1))]
        return sorted(Background(frames, [np.zeros((32, 48), bool)] * count, still)._samples(i))

    assert samples(120, 60) == [11, 24, 35, 44, 51, 56, 64, 69, 76, 85, 96, 109]
    assert samples(120, 0) == [4, 6, 9, 12, 16, 25, 36, 49]
    assert samples(28, 14) == [2, 5, 8, 10, 18, 20, 23, 26]
    assert samples(8, 0) == [4, 6]


def test_unknown_masks_tell_nothing() -> None:
    scene = texture((HEIGHT, WIDTH), 0)
    still: list[Array | None] = [None, *(np.zeros((HEIGHT, WIDTH, 2), np.float32) for _ in range(COUNT - 1))]
    assert not Background([scene] * COUNT, [None] * COUNT, still).odds(12).any()


def test_a_mask_without_the_legs_does_not_show_the_subject_elsewhere() -> None:
    """Most of the subject is missed in a third of the frames: what is left lies within the whole one's mask."""
    scene = texture((HEIGHT, WIDTH), 0)
    frames = [with_subject(scene, SUBJECT)] * COUNT
    head = (slice(24, 42), slice(60, 100))
    masks = [box(SUBJECT) if i < 16 else box(head) for i in range(COUNT)]
    legs = odds_of(masks, frames, 12)[60:80, 60:100]
    assert abs(np.median(legs)) < 0.1
