# SPDX-License-Identifier: GPL-3.0-or-later
"""Every difference between the Blender versions we support (4.5, 5.0, 5.1, 5.2), and nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

import bpy

VERSION: tuple[int, int, int] = tuple(bpy.app.version)


def new_action(name: str, slots: dict[str, str]) -> tuple[bpy.types.Action, dict[str, Any], dict[str, Any]]:
    """An Action with one layer, one keyframe strip, and a slot for each entry of `slots`.

    The layered interface is the one that works from 4.4 on: `Action.fcurves` is gone in 5.0, and on 4.5
    it fills a "Legacy Slot" that nothing plays.

    Args:
        name: the Action's name.
        slots: slot name → id type ("OBJECT", "CAMERA", …).

    Returns:
        The action, slot name → slot, and slot name → channelbag (where the curves go).
    """
    action = bpy.data.actions.new(name)
    made = {key: action.slots.new(id_type=kind, name=key) for key, kind in slots.items()}
    strip = action.layers.new("Layer").strips.new(type="KEYFRAME")
    return action, made, {key: strip.channelbag(slot, ensure=True) for key, slot in made.items()}


def assign_action(owner: bpy.types.ID, action: bpy.types.Action, slot: Any) -> None:
    """Play `slot` of `action` on `owner`; the slot can only be chosen after the action."""
    animation = owner.animation_data or owner.animation_data_create()
    animation.action = action
    animation.action_slot = slot


def action_curves(action: bpy.types.Action) -> list[bpy.types.FCurve]:
    """Every curve of a layered action, of all its slots."""
    bags = [
        strip.channelbag(slot) for layer in action.layers for strip in layer.strips for slot in action.slots
    ]
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def node_material(name: str) -> bpy.types.Material:
    """A material with a node tree; from 5.0 on every material has one and the switch is deprecated."""
    material = bpy.data.materials.new(name)
    if VERSION < (5, 0, 0):
        material.use_nodes = True
    return material


def workbench(scene: bpy.types.Scene) -> None:
    """Render with Workbench, whose name is the same everywhere, showing the meshes' own colours."""
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.display.shading.color_type = "VERTEX"


def known(operator: Any, **options: Any) -> dict[str, Any]:
    """Those of `options` this version's operator has: exporters gain and lose switches between versions."""
    properties = operator.get_rna_type().properties
    return {key: value for key, value in options.items() if key in properties}


def enable_addon(module: str) -> bool:
    """Switch on an add-on that Blender ships; False when this build lacks it."""
    import addon_utils

    if addon_utils.check(module)[1]:
        return True
    return addon_utils.enable(module, default_set=False) is not None


@contextlib.contextmanager
def quiet(errors: bool = False) -> Iterator[io.StringIO]:
    """Keep the exporters' chatter off stdout, where a worker speaks JSON: Python's prints and C's alike.

    errors: also what C writes on stderr.
    """
    sys.stdout.flush()
    text = io.StringIO()
    saved: dict[int, int] = {}
    try:
        for stream in (1, 2) if errors else (1,):
            saved[stream] = os.dup(stream)
    except OSError:  # no console at all, as in a windowed Blender on Windows
        with contextlib.redirect_stdout(text):
            yield text
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in saved:
            os.dup2(sink, stream)
        with contextlib.redirect_stdout(text):
            yield text
    finally:
        for stream, copy in saved.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(sink)
