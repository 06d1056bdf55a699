# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between a clip's crops and its motion."""

from __future__ import annotations

from ..core.errors import DasrError


class PredictError(DasrError):
    """The network cannot be run, or does not fit its category or its input; the message says what to do."""
