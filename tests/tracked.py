# SPDX-License-Identifier: GPL-3.0-or-later
"""A rendered clip of the toy quadruped, and what a student might say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from toy_clips import random_motion, render

from dasr_blender.clip.crop import crop_boxes, sample_square
from dasr_blender.core import Category, Motion, encode_root
from dasr_blender.core.rotation import geodesic, quat_multiply, rotvec_to_matrix, rotvec_to_quat
from dasr_blender.predict import Prediction, track
from dasr_blender.predict.fit_body import Start

HALF_TURN = rotvec_to_matrix(np.array([0, 0, np.pi]))


@dataclass
class Case:
    motion: Motion
    center: np.ndarray
    side: np.ndarray
    masks: np.ndarray
    prediction: Prediction

    def run(self, category: Category, **changes: object) -> Motion:
        given = {
            "center": self.center,
            "side": self.side,
            "masks": self.masks,
            "prediction": self.prediction,
            "focal": self.motion.focal_px,
            **changes,
        }
        return track(
            category,
            given["prediction"],
            given["center"],
            given["side"],
            given["masks"],
            given["focal"],
            self.motion.principal_point,
            self.motion.image_size,
            self.motion.fps,
        )


def case(
    category: Category,
    frames: int = 16,
    noise: float = 0.0,
    wrong: tuple[int, ...] = (),
    seed: int = 5,
    shift: float = 0.0,
    relief: np.ndarray | None = None,
    motion: Motion | None = None,
) -> Case:
    """A rendered clip and what a student might say of it: the truth and its half turn, now and then swapped.

    motion: the truth; a random one of so many frames if None.
    """
    motion = replace(motion or random_motion(category, frames, seed), relief=relief)
    frames = len(motion)
    _, masks = render(category, motion)
    boxes = []
    for mask in masks:
        y, x = np.nonzero(mask)
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    center, side = crop_boxes(np.array(boxes))
    crops = np.stack(
        [sample_square(m, c, float(s), 128) for m, c, s in zip(masks, center, side, strict=True)]
    )
    rng = np.random.default_rng(seed)
    rotation, translation = encode_root(
        motion.camera_from_root, center, side, motion.focal_px, motion.principal_point
    )
    rotation = rotation @ rotvec_to_matrix(rng.normal(0, noise, (frames, 3)))
    both = np.stack([rotation, rotation @ HALF_TURN], 1)
    places = np.stack([translation, translation], 1) + shift
    logprob = np.log(np.tile([0.8, 0.2], (frames, 1)))
    logprob[list(wrong)] = logprob[list(wrong), ::-1]
    wobble = rotvec_to_quat(rng.normal(0, noise, (frames, len(category.skeleton), 3)))
    prediction = Prediction(
        root_rotation=both,
        root_translation=places,
        root_logprob=logprob,
        joint_rotations=quat_multiply(motion.joint_rotations, wobble),
        morphology=motion.morphology,
        appearance=motion.appearance,
        joint_confidence=np.ones((frames, len(category.skeleton))),
    )
    return Case(motion, center, side, crops, prediction)


def start_of(given: Case, motion: Motion) -> Start:
    """What the fit's unknowns are counted from."""
    _, place = encode_root(
        motion.camera_from_root, given.center, given.side, motion.focal_px, motion.principal_point
    )
    return Start(
        motion.camera_from_root[:, :3, :3],
        place,
        motion.joint_rotations,
        motion.morphology,
        given.center,
        given.side,
        np.asarray(motion.focal_px, np.float64),
        np.asarray(motion.principal_point, np.float64),
    )


def crops_of(given: Case) -> np.ndarray:
    """The clip's crops ``(T, 4, 128, 128)`` uint8, black but for the mask."""
    crops = np.zeros((len(given.masks), 4, 128, 128), np.uint8)
    crops[:, 3] = given.masks
    return crops


def angles(a: Motion, b: Motion) -> np.ndarray:
    """Degrees between the roots of two motions."""
    return np.rad2deg(geodesic(a.camera_from_root[:, :3, :3], b.camera_from_root[:, :3, :3]))
