# SPDX-License-Identifier: GPL-3.0-or-later
"""From crops to a motion: the student, one smooth path through its answers, a second look, the fit to the picture. And
what the frames show of the body, as its texture."""

from __future__ import annotations

from .config import TrackConfig
from .errors import PredictError
from .fit import Fitted, fit
from .fit_config import QUALITIES, FitConfig
from .landmarks import Landmarks
from .refine import Refiner
from .student import Prediction, Student
from .texture import Texture, View, bake_texture, clip_views
from .track import track
from .twins import WORDS as TWIN_WORDS
from .twins import Twin

__all__ = [
    "QUALITIES",
    "TWIN_WORDS",
    "FitConfig",
    "Fitted",
    "Landmarks",
    "PredictError",
    "Prediction",
    "Refiner",
    "Student",
    "Texture",
    "TrackConfig",
    "Twin",
    "View",
    "bake_texture",
    "clip_views",
    "fit",
    "track",
]
