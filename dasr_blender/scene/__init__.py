# SPDX-License-Identifier: GPL-3.0-or-later
"""From a motion to Blender: plan the scene as plain data, write it in one go, export it."""

from __future__ import annotations

from .build import BuiltScene, build_scene
from .export import FORMATS, export_scene, losses
from .placement import PLACEMENTS
from .plan import ScenePlan, ScenePlanError, plan_scene

__all__ = [
    "FORMATS",
    "PLACEMENTS",
    "BuiltScene",
    "ScenePlan",
    "ScenePlanError",
    "build_scene",
    "export_scene",
    "losses",
    "plan_scene",
]
