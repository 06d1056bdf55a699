# SPDX-License-Identifier: GPL-3.0-or-later
"""One shape for several clips, and poses that keep to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_clips import random_motion, render

from dasr_blender.core import Category, default_focal
from dasr_blender.predict import FitConfig
from dasr_blender.training.clip_folder import mask_boxes
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.evaluate.scene import Scene
from dasr_blender.training.teacher.clips import TeacherClip
from dasr_blender.training.teacher.consensus import (
    STIFF,
    FinishConfig,
    filled_out,
    fit_clips,
    reshaped,
    robust_mean,
    shared_shape,
    thickness,
)

FAST = FinishConfig(
    shape_fit=FitConfig(vertices=200, relief=8, steps=(8, 10), morphology=STIFF.morphology),
    pose_fit=FitConfig(vertices=200, steps=(8, 10), outline_noise=0.006),
    rounds=1,
)


def clip_of(category: Category, shape: np.ndarray, seed: int, frames: int = 6) -> TeacherClip:
    """A rendered clip of a body of a known shape, begun with the mean shape."""
    true = replace(random_motion(category, frames, seed), morphology=shape)
    true = replace(true, focal_px=np.full(frames, default_focal(true.image_size)))
    images, masks = render(category, true)
    boxes = mask_boxes(list(masks))
    assert boxes is not None
    scene = Scene(
        f"clip{seed}", list(images), list(masks), boxes, true.focal_px, true.principal_point, true.fps
    )
    begun = reshaped(category, true, np.zeros(len(shape)), np.zeros(0))
    return TeacherClip(scene, begun, None, np.ones(frames))


@pytest.fixture(scope="module")
def clips(toy_category: Category) -> tuple[list[TeacherClip], np.ndarray]:
    std = toy_category.body.morphology_std
    shape = np.resize([1.2, -0.9, 1.0], len(std)) * std
    made = [clip_of(toy_category, shape, seed) for seed in (1, 2, 5)]
    return made, shape


def test_clips_agree_on_a_shape_nearer_the_truth(
    toy_category: Category, clips: tuple[list[TeacherClip], np.ndarray]
) -> None:
    begun, shape = clips
    morphology, relief = shared_shape(toy_category, begun, FAST)
    assert np.linalg.norm(morphology - shape) < 0.7 * np.linalg.norm(shape)
    assert relief.shape == (len(toy_category.body.vertices),) and np.abs(relief).max() < 0.1
    done = fit_clips(toy_category, begun, morphology, relief, FAST)
    assert all(np.array_equal(clip.motion.morphology, morphology) for clip in done)
    assert all(np.array_equal(clip.motion.relief, relief) for clip in done)
    mean = fit_clips(toy_category, begun, np.zeros(len(shape)), 0 * relief, FAST)
    found, usual = (np.mean([clip.motion.mask_iou for clip in some]) for some in (done, mean))
    assert found > usual + 0.01 and found > 0.85


def test_held_and_rejected_clips_have_no_say(
    toy_category: Category, clips: tuple[list[TeacherClip], np.ndarray]
) -> None:
    one = clips[0][0]
    held = replace(clips[0][1], held=True)
    bad = replace(clips[0][2], quality=np.zeros(len(clips[0][2])))
    config = replace(FAST, workers=1)
    alone = shared_shape(toy_category, [one], config)
    together = shared_shape(toy_category, [one, held, bad], config)
    assert np.array_equal(alone[0], together[0]) and np.array_equal(alone[1], together[1])
    with pytest.raises(TrainingError, match="No clip to learn a shape from"):
        shared_shape(toy_category, [held, bad], config)
    (given,) = fit_clips(toy_category, [bad], *alone, config)
    assert np.array_equal(given.motion.morphology, alone[0])


def test_no_part_is_sunk_to_a_thread(
    toy_category: Category, clips: tuple[list[TeacherClip], np.ndarray]
) -> None:
    thin = thickness(toy_category)
    assert thin.min() > 0
    sunk = replace(clips[0][0].motion, relief=-2 * thin)
    _, relief = shared_shape(toy_category, clips[0][:1], replace(FAST, deepest=0.3), sunk)
    assert (relief >= -0.3 * thin - 1e-12).all() and relief.min() < 0


def test_a_surface_that_lies_within_its_masks_is_raised(toy_category: Category) -> None:
    size, plain = toy_category.nominal_size, np.zeros(len(toy_category.body.vertices))
    motion = random_motion(toy_category, 5, 3)
    shape = motion.morphology
    for height in (0.0, 0.01):
        thick = replace(motion, relief=plain + height * size)
        images, masks = render(toy_category, thick)
        boxes = mask_boxes(list(masks))
        assert boxes is not None
        scene = Scene("thick", list(images), list(masks), boxes, motion.focal_px, motion.principal_point, motion.fps)
        clip = TeacherClip(scene, motion, None, np.ones(len(motion)))
        unseen = replace(clip, quality=np.zeros(len(motion)))
        raised = filled_out(toy_category, [clip, unseen], shape, plain, 0.015)
        assert np.ptp(raised) == 0 and raised[0] == pytest.approx(height * size, abs=0.0021 * size)
    assert np.array_equal(filled_out(toy_category, [unseen], shape, plain, 0.015), plain)


def test_an_outlier_hardly_moves_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.1, (6, 5)) + 1
    values[3] = 9
    assert robust_mean(values, np.ones(6)) == pytest.approx(np.delete(values, 3, 0).mean(0), abs=0.06)
    heavy = np.array([1.0, 1, 1, 0, 1, 1])
    assert robust_mean(values[:, :1] * 0 + 2, heavy) == pytest.approx([2.0])


def test_another_shape_looks_as_large(toy_category: Category) -> None:
    motion = random_motion(toy_category, 3, 0)
    larger = reshaped(toy_category, motion, motion.morphology, np.full(len(toy_category.body.vertices), 0.05))
    assert (larger.camera_from_root[:, 2, 3] > motion.camera_from_root[:, 2, 3]).all()
    ratio = larger.camera_from_root[:, :3, 3] / motion.camera_from_root[:, :3, 3]
    assert ratio == pytest.approx(np.full(ratio.shape, ratio[0, 0]))
