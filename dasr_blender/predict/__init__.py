# SPDX-License-Identifier: GPL-3.0-or-later
"""From crops to a motion: the student network, and the choice of one smooth path through its answers."""

from __future__ import annotations

from .config import TrackConfig
from .errors import PredictError
from .student import Prediction, Student
from .track import track

__all__ = ["PredictError", "Prediction", "Student", "TrackConfig", "track"]
