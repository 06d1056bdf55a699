# SPDX-License-Identifier: GPL-3.0-or-later
"""The second look that is shipped, at a body that stands beside where the picture shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_clips import random_motion
from tracked import case

from dasr_blender.core import load_category
from dasr_blender.predict import Refiner, TrackConfig
from dasr_blender.predict.silhouettes import CropView


@pytest.mark.parametrize("name", ["quadruped", "human"])
def test_the_shipped_refiner_brings_the_body_back_over_the_mask(name: str) -> None:
    category = load_category(name)
    truth = random_motion(category, 8, seed=4)
    calm = truth.joint_rotations.copy()
    calm[..., :] = [1.0, 0.0, 0.0, 0.0]
    given = case(
        category, motion=replace(truth, joint_rotations=calm, morphology=np.zeros(len(category.morphology)))
    )
    beside = given.motion.camera_from_root.copy()
    beside[:, :3, 3] += [0.06, -0.05, 0.35]
    start = replace(given.motion, camera_from_root=beside)

    def overlap(motion) -> float:
        size = TrackConfig().iou_size
        view = CropView.of(
            given.center, given.side, np.asarray(motion.focal_px), np.asarray(motion.principal_point),
            given.masks, np.asarray(motion.image_size), size,
        )  # fmt: skip
        frames = np.arange(len(motion))
        posed = category.posed_vertices(motion)
        return float(
            view.overlap(
                view.drawn(motion.camera_from_root, posed, category.body.faces, frames), frames
            ).mean()
        )

    found = Refiner(category).run(start, given.prediction, given.masks, given.center, given.side)
    found.validate(category)
    before, after = overlap(start), overlap(found)
    assert after > before + 0.05, (before, after)
    assert np.allclose(found.mask_iou.mean(), after, atol=1e-6)

    def off(motion) -> float:
        return float(
            np.linalg.norm((motion.camera_from_root - given.motion.camera_from_root)[:, :2, 3], axis=1).mean()
        )

    assert off(found) < 0.6 * off(start)
