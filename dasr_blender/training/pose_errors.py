# SPDX-License-Identifier: GPL-3.0-or-later
"""How a trained student errs, measured on the clips of a shard that it was not trained on."""

from __future__ import annotations

import numpy as np
import torch

from ..core.category import Category
from ..core.pose_errors import PoseErrors, credible_error
from ..core.rotation import matrix_to_quat, quat_conjugate, quat_multiply, quat_to_rotvec
from .student.checkpoint import AnyStudent
from .student.data import NO_AUGMENT, Shard, augment
from .student.rotation import geodesic, sixd_to_matrix

Array = np.ndarray

LEAST_FRAMES = 500
"""below this, correlations would be those of a few clips"""
_FARTHEST = 4.0  # usual errors; what is farther off counts as that far
_TURNED = 0.5  # radians; where every hypothesis is farther off, joints are wrong for another reason
_SHRUNK = 0.9  # towards no correlation (Ledoit & Wolf, 2004)


def measure_pose_errors(
    student: AnyStudent, category: Category, shard: Shard, clips: int = 400
) -> PoseErrors | None:
    """The errors of a student's joints on at most `clips` validation clips of a shard.

    None when they have fewer than `LEAST_FRAMES` frames that can be used.
    """
    twin = torch.as_tensor(category.body.mirror_vertex)
    student = student.eval()
    error, weight = [], []
    for clip in shard.validation_clips[:clips]:
        rows = shard.clip_rows(int(clip))
        batch = shard.batch(rows[shard.quality[rows] > 0])
        count = len(batch["crops"])
        if not count:
            continue
        batch = augment(batch, shard.crop, NO_AUGMENT, torch.Generator().manual_seed(0), twin, count)
        with torch.no_grad():
            out = student(batch["crops"], batch["crop_info"])
            off = geodesic(sixd_to_matrix(out["root_rotation"]), batch["root_rotation"][:, None])
        answer = matrix_to_quat(sixd_to_matrix(out["joint_rotations"]).double().numpy())
        true = batch["joints"].double().numpy()
        turn = quat_to_rotvec(quat_multiply(true, quat_conjugate(answer)))[:, 1:]
        expected = credible_error(out["joint_confidence"].double().numpy()[:, 1:, None])
        known = batch["joint_weight"].numpy()[:, 1:] * (off.min(1).values < _TURNED).numpy()[:, None]
        error.append(np.clip(turn / expected, -_FARTHEST, _FARTHEST))
        weight.append(known)
    if not error:
        return None
    return summed_up(np.concatenate(error), np.concatenate(weight))


def summed_up(error: Array, weight: Array) -> PoseErrors | None:
    """Errors ``(N, J − 1, 3)`` in units of what was expected, and 1 where they are known ``(N, J − 1)``, 0 elsewhere.

    A joint that is never known errs as one whose errors nobody measured.
    """
    count, joints = weight.shape
    if (weight.max(1, initial=0) > 0).sum() < LEAST_FRAMES:
        return None
    known = np.repeat(weight > 0.5, 3, axis=1).astype(np.float64)
    flat = error.reshape(count, -1) * known
    pairs = known.T @ known
    product = flat.T @ flat / np.maximum(pairs, 1)
    never = np.diag(pairs) < 1
    scale = np.where(never, PoseErrors.unknown(2).scale[0, 0], np.sqrt(np.diag(product)))
    scale = np.maximum(scale, 0.05)
    correlation = product / scale[:, None] / scale
    np.fill_diagonal(correlation, 1.0)
    # pairs are known in different frames, so the matrix need not be one of correlations: the nearest that is
    value, vector = np.linalg.eigh(correlation)
    correlation = (vector * np.maximum(value, 0.02)) @ vector.T
    size = np.sqrt(np.diag(correlation))
    correlation = _SHRUNK * correlation / size[:, None] / size
    np.fill_diagonal(correlation, 1.0)
    return PoseErrors(scale.reshape(joints, 3), correlation)
