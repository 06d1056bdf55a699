# SPDX-License-Identifier: GPL-3.0-or-later
"""The student's hypotheses as a few distinct views of the subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.rotation import geodesic, matrix_to_rotvec, rotvec_to_matrix
from .config import DEFAULTS, TrackConfig
from .student import Prediction

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Views:
    """Distinct root poses of every frame: rotation (T, N, 3, 3), translation (T, N, 3), logprob (T, N)."""

    rotation: Array
    translation: Array
    logprob: Array

    @property
    def likely(self) -> Array:
        """``(T, N)`` bool: worth looking at. The first always is."""
        likely = self.logprob > np.log(0.03)
        likely[:, 0] = True
        return likely

    def with_reversed(self, share: float) -> Views:
        """These, and the likeliest one's heading mirrored in the picture plane, upright as before.

        An outline looks nearly the same from the front and from behind; a student that mistakes one for the
        other in some frames leaves the right answer out, and the frames around know better.
        """
        first = self.rotation[:, 0]
        up, ahead = first[..., 2], -first[..., 1] * np.array([1.0, 1.0, -1.0])
        ahead = ahead - (ahead * up).sum(-1, keepdims=True) * up
        length = np.linalg.norm(ahead, axis=-1, keepdims=True)
        back = np.where(length > 1e-3, -ahead / np.maximum(length, 1e-3), first[..., 1])
        turned = np.stack([np.cross(back, up), back, up], -1)
        return self.joined(turned, self.translation[:, 0], self.logprob[:, 0] + np.log(share))

    def joined(self, rotation: Array, translation: Array, logprob: Array) -> Views:
        """These and one more: rotation ``(T, 3, 3)``, translation ``(T, 3)``, logprob ``(T,)``."""
        return Views(
            np.concatenate([self.rotation, rotation[:, None]], 1),
            np.concatenate([self.translation, translation[:, None]], 1),
            np.concatenate([self.logprob, logprob[:, None]], 1),
        )


def gather(prediction: Prediction, config: TrackConfig = DEFAULTS) -> Views:
    """The student's M hypotheses as at most N distinct views, likeliest first.

    Repeatedly: the hypothesis with the most probability round it (a Gaussian of `twin` radians) takes all
    within twice that angle for its twins; the view is their mean and their probability is the view's.
    """
    rotation, translation = prediction.root_rotation, prediction.root_translation
    frames = np.arange(len(rotation))
    angle = geodesic(rotation[:, :, None], rotation[:, None])  # (T, M, M)
    near = np.exp(-0.5 * (angle / config.twin) ** 2)
    left = np.exp(prediction.root_logprob)
    found = []
    for _ in range(min(config.hypotheses, rotation.shape[1])):
        centre = (near @ left[..., None])[..., 0].argmax(1)
        twins = np.where(angle[frames, centre] < 2 * config.twin, left, 0.0)
        mass = twins.sum(1)
        weight = twins / np.maximum(mass, 1e-12)[:, None]
        middle = rotation[frames, centre]
        step = matrix_to_rotvec(np.swapaxes(middle, -1, -2)[:, None] @ rotation)
        turned = middle @ rotvec_to_matrix((weight[..., None] * step).sum(1))
        moved = (weight[..., None] * translation).sum(1)
        moved = np.where(mass[:, None] > 1e-9, moved, translation[frames, centre])
        found.append((turned, moved, np.log(np.maximum(mass, 1e-5))))
        left = np.where(twins > 0, 0.0, left)
    return Views(*(np.stack(parts, 1) for parts in zip(*found, strict=True)))
