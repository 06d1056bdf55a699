# SPDX-License-Identifier: GPL-3.0-or-later
"""How a category's network errs: which way its joints are usually off, and which are off together.

The network says of every joint how far it expects to be off; that is one angle a joint. A leg is three times as often
too far forward as twisted, and a thigh that is too far forward comes with a shank that is too far back. What the
network cannot say about a frame is measured once, on clips that it was not trained on, and lies in the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

CONFIDENCE_ANGLE = 0.5
"""radians; a joint's confidence is exp(−expected error / this)"""


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """Errors of the joints but the root, each a rotation vector about its parent's axes, from the answer to the truth.

    scale ``(J − 1, 3)``: usual size of each component, as a share of `credible_error`.
    correlation ``(3 (J − 1), 3 (J − 1))``: of the components, joint by joint; positive definite.
    """

    scale: Array
    correlation: Array

    @staticmethod
    def unknown(joints: int) -> PoseErrors:
        """For a network whose errors nobody measured: the same every way, and each joint by itself."""
        return PoseErrors(np.full((joints - 1, 3), 3**-0.5), np.eye(3 * (joints - 1)))

    def problem(self, joints: int) -> tuple[str, str] | None:
        """The field that does not fit a skeleton of `joints` joints and what is wrong with it; None if all is well."""
        if self.scale.shape != (joints - 1, 3):
            return "scale", f"has the shape {self.scale.shape}, but {joints - 1} joints need {(joints - 1, 3)}"
        size = 3 * (joints - 1)
        if self.correlation.shape != (size, size):
            return "correlation", f"has the shape {self.correlation.shape}, but needs {(size, size)}"
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            return "scale", "must be positive"
        if not np.isfinite(self.correlation).all() or np.abs(self.correlation - self.correlation.T).max() > 1e-4:
            return "correlation", "must be symmetric"
        if np.linalg.eigvalsh(self.correlation).min() < 1e-3:
            return "correlation", "must be positive definite"
        return None


def expected_error(confidence: Array) -> Array:
    """The error in radians that a joint's confidence (any shape, 0…1) stands for."""
    return -CONFIDENCE_ANGLE * np.log(np.clip(confidence, 1e-6, 1.0))


def credible_error(confidence: Array) -> Array:
    """The same between 5° and 29°: what `PoseErrors.scale` is a share of. No joint is surer, and none more lost."""
    return np.clip(expected_error(confidence), 0.08, 0.5)
