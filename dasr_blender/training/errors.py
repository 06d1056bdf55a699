# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between rigged models or videos and a predictor."""

from __future__ import annotations

from ..core.errors import DasrError


class TrainingError(DasrError):
    """Settings, or a file that a step before or the user made, cannot be used; the message says what to do."""
