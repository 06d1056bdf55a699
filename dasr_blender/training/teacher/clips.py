# SPDX-License-Identifier: GPL-3.0-or-later
"""The videos a teacher explains, with what is known about each frame so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...core.motion import Motion
from ...predict import Prediction
from ..evaluate.scene import Scene

Array = np.ndarray


@dataclass(eq=False)
class TeacherClip:
    """One video and its poses.

    scene: frames, masks and crops, in pixels of the working size.  motion: the poses as they are known now, in the same
    pixels, one row a frame of the scene.  prediction: what the student said, None without one.  quality ``(T,)`` in
    0…1: how far a frame is to be trusted; 0 for one that was rejected.  subject: number of the individual it shows.
    held: left out of learning shape and colours; only its poses are sought.
    """

    scene: Scene
    motion: Motion
    prediction: Prediction | None
    quality: Array
    subject: int = 0
    held: bool = False

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def name(self) -> str:
        return self.scene.name

    @property
    def used(self) -> Array:
        """Numbers of the frames that were not rejected."""
        return np.flatnonzero(self.quality > 0)

    def with_motion(self, motion: Motion) -> TeacherClip:
        return replace(self, motion=motion)
