# SPDX-License-Identifier: GPL-3.0-or-later
"""Views that a person set by hand, as anchors of the poses a clip starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.motion import Motion
from ...core.rotation import make_continuous, matrix_to_quat, quat_to_matrix, slerp
from ...core.views import View

Array = np.ndarray

FADE = 0.3
"""seconds over which the joints of a view give way to those that were tracked"""


def anchored(motion: Motion, views: Sequence[View]) -> Motion:
    """The motion turned so that it agrees with the views at their frames, shot by shot; the same motion without views.

    Between two views the turn goes the shortest way from one to the other, beyond them it stays. Joints agree at the
    views and fade to the tracked ones; so do places. Views of frames that the motion lacks are passed over.
    """
    if len(motion.shots) > 1:
        return Motion.joined([anchored(motion.part(shot), views) for shot in motion.shots])
    numbers = np.asarray(motion.frame_index)
    known = [view for view in views if view.frame in numbers]
    if not known:
        return motion
    at = np.searchsorted(numbers, [view.frame for view in known])
    pose = np.array(motion.camera_from_root, np.float64)
    told = np.stack([_in_pixels_of(motion, view, int(row)) for view, row in zip(known, at, strict=True)])
    turn = matrix_to_quat(told[:, :3, :3] @ np.swapaxes(pose[at, :3, :3], 1, 2))
    log_ratio = np.log(told[:, 2, 3] / pose[at, 2, 3])
    shift = told[:, :2, 3] / told[:, 2:3, 3] - pose[at, :2, 3] / pose[at, 2:3, 3]

    rows = np.arange(len(numbers))
    high = np.clip(np.searchsorted(at, rows), 0, len(at) - 1)
    low = np.where((high > 0) & (at[high] > rows), high - 1, high)
    span = np.maximum(at[high] - at[low], 1)
    share = np.clip((rows - at[low]) / span, 0, 1)
    pose[:, :3, :3] = quat_to_matrix(slerp(turn[low], turn[high], share)) @ pose[:, :3, :3]

    near = np.abs(rows[:, None] - at).argmin(1)
    trust = np.exp(-np.abs(rows - at[near]) / (FADE * motion.fps))
    depth = pose[:, 2, 3] * np.exp(trust * log_ratio[near])
    across = pose[:, :2, 3] / pose[:, 2:3, 3] + trust[:, None] * shift[near]
    pose[:, :2, 3], pose[:, 2, 3] = across * depth[:, None], depth

    joints = np.asarray(motion.joint_rotations, np.float64)
    set_by_hand = np.stack([view.joint_rotations for view in known])[near]
    weight = np.broadcast_to(trust[:, None], joints.shape[:2])
    joints = make_continuous(slerp(joints, set_by_hand, weight))
    return replace(motion, camera_from_root=pose, joint_rotations=joints)


def _in_pixels_of(motion: Motion, view: View, row: int) -> Array:
    """The view's camera_from_root (4, 4) as the motion's focal length sees it: as large, and in the same place."""
    pose = np.array(view.camera_from_root, np.float64)
    scale = float(motion.image_size[0]) / float(view.image_size[0])
    pose[2, 3] *= float(motion.focal_px[row]) / (view.focal_px * scale)
    return pose
