# SPDX-License-Identifier: GPL-3.0-or-later
"""Every difference between the Blender versions we support (4.5, 5.0, 5.1, 5.2), and nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
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
    return _curves(action, action.slots)


def played_curves(animation: bpy.types.AnimData) -> list[bpy.types.FCurve]:
    """The curves of the slot that is played of an action; none without one."""
    if animation.action is None or animation.action_slot is None:
        return []
    return _curves(animation.action, [animation.action_slot])


def _curves(action: bpy.types.Action, slots: Iterable[Any]) -> list[bpy.types.FCurve]:
    bags = [strip.channelbag(slot) for layer in action.layers for strip in layer.strips for slot in slots]
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def node_material(name: str) -> bpy.types.Material:
    """A material with a node tree; from 5.0 on every material has one and the switch is deprecated."""
    material = bpy.data.materials.new(name)
    if VERSION < (5, 0, 0):
        material.use_nodes = True
    return material


def light_all_round(scene: bpy.types.Scene) -> None:
    """Give the scene a grey world, so that what is rendered has light and shows the colours as they are."""
    scene.world = world = bpy.data.worlds.new("World")
    if VERSION < (5, 0, 0):
        world.use_nodes = True
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.8, 0.8, 0.8, 1.0)


def compositor_picture(scene: bpy.types.Scene) -> bpy.types.NodeSocket:
    """The socket whose picture a scene's compositor shows and renders; made where it had no nodes yet.

    Until 4.5 that is a Composite node's, in a tree of the scene's own; from 5.0 on a node group's output.
    """
    if VERSION < (5, 0, 0):
        scene.use_nodes = True
        tree, kind = scene.node_tree, "CompositorNodeComposite"
    else:
        if scene.compositing_node_group is None:
            scene.compositing_node_group = bpy.data.node_groups.new(f"{scene.name} compositor", "CompositorNodeTree")
        tree, kind = scene.compositing_node_group, "NodeGroupOutput"
        if tree.library is None and not any(item.in_out == "OUTPUT" for item in tree.interface.items_tree):
            tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    outputs = [node for node in tree.nodes if node.bl_idname == kind]
    output = next((node for node in outputs if getattr(node, "is_active_output", True)), None) or tree.nodes.new(kind)
    return output.inputs[0]


def alpha_over_sockets(node: bpy.types.Node) -> tuple[bpy.types.NodeSocket, bpy.types.NodeSocket]:
    """The background and the foreground of the compositor's Alpha Over."""
    first = 1 if VERSION < (5, 0, 0) else 0
    return node.inputs[first], node.inputs[first + 1]


def scale_to_render(node: bpy.types.Node, frame_method: str) -> None:
    """Have the compositor's Scale bring a picture to the render's size: "STRETCH", "FIT" or "CROP"."""
    if VERSION < (5, 0, 0):
        node.space, node.frame_method = "RENDER_SIZE", frame_method
    else:
        node.inputs["Type"].default_value = "Render Size"
        node.inputs["Frame Type"].default_value = frame_method.title()


def known(operator: Any, **options: Any) -> dict[str, Any]:
    """Those of `options` this version's operator has: exporters gain and lose switches between versions."""
    properties = operator.get_rna_type().properties
    return {key: value for key, value in options.items() if key in properties}


def can_write(kind: str) -> bool:
    """Whether this build has the exporter of a format at all: some distributions leave USD out."""
    return kind != "usd" or bool(bpy.app.build_options.usd)


def path_options() -> set[str]:
    """Options of a property that holds a path and may be relative to the .blend, where Blender asks for one."""
    known = "is_path_supports_blend_relative" in bpy.types.Property.bl_rna.properties
    return {"PATH_SUPPORTS_BLEND_RELATIVE"} if known else set()


def enable_addon(module: str) -> bool:
    """Switch on an add-on that Blender ships; False when this build lacks it."""
    import addon_utils

    if addon_utils.check(module)[1]:
        return True
    return addon_utils.enable(module, default_set=False) is not None


def reason(error: Exception) -> str:
    """What went wrong, in one line.

    Blender wraps a report in "Error: …" and "Location: …", in the user's language; that of an operator written in
    Python is a traceback, which ends with the exception.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and re.search(r"(\.py|>):-?\d+$", lines[-1]):  # the script's line that called the operator
        del lines[-1]
    last = lines[-1] if lines else type(error).__name__
    label = re.escape(bpy.app.translations.pgettext_rpt("Error"))
    return re.sub(rf"^({label}: |(\w+: )?\[Errno \d+\] )", "", last)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Blender's chatter off stdout, where a worker speaks JSON, and what it thinks of errors off stderr:
    Python's prints and C's alike."""
    if sys.stdout is not None:
        sys.stdout.flush()
    with contextlib.ExitStack() as undo:
        for stream in (1, 2):
            with contextlib.suppress(OSError):  # no console at all, as in a windowed Blender on Windows
                undo.callback(_point, stream, os.dup(stream))
                _point(stream, os.open(os.devnull, os.O_WRONLY))
        undo.enter_context(contextlib.redirect_stdout(io.StringIO()))
        undo.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield


def _point(stream: int, target: int) -> None:
    """Make the descriptor `stream` what `target` is, which is closed."""
    os.dup2(target, stream)
    os.close(target)
