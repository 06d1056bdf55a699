# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders that show the rig over the clip, as the viewport does behind the camera: the compositor's part."""

from __future__ import annotations

import bpy

from ..core import DasrError
from . import compat
from .camera import frame_method, images_behind, render_aspect

_MARK = "dasr_over_clip"  # on the node that lays the picture over the clip
_FAITHFUL = "Standard"  # the view transform that shows a clip's colours as they were filmed


class OverClipError(DasrError):
    """The scene cannot be rendered over a clip."""


def problem(scene: bpy.types.Scene) -> str:
    """Why a scene cannot be rendered over a clip, in a sentence; "" where it can."""
    if scene.camera is not None and images_behind(scene.camera):
        return ""
    which = (
        "The scene has no camera" if scene.camera is None else f"{scene.camera.name} has no clip behind it"
    )
    return (
        f"{which}: select a reconstruction's camera and press Ctrl Numpad 0, or reconstruct with Set Up Scene"
    )


def render_over_clip(scene: bpy.types.Scene) -> str:
    """Have the scene's renders show it over the clip that is behind its camera; returns what to tell of it.

    Three nodes come before the compositor's output: the clip in step with the scene, brought to the render's size as
    the camera shows it, and what was shown so far laid over it. Asked again, they get the present camera's clip. The
    film becomes transparent, and the view transform the one that leaves a clip's colours alone.

    Raises:
        OverClipError: there is no camera, no clip behind it, or the compositor's nodes belong to another file.
    """
    if lacking := problem(scene):
        raise OverClipError(lacking)
    camera = scene.camera
    picture = compat.compositor_picture(scene)
    tree = picture.id_data
    if tree.library is not None:
        raise OverClipError(
            f"The compositor's nodes, {tree.name}, are linked from another file: make them local"
        )
    over = next((node for node in tree.nodes if _MARK in node), None)
    if over is None:
        over = _laid_over(picture, scene)
    background, _ = compat.alpha_over_sockets(over)
    size = _feeding(background, "CompositorNodeScale", -200, -220)
    clip, across = images_behind(camera)[0].clip, render_aspect(scene)
    fit = camera.data.sensor_fit
    if fit == "AUTO":
        fit = "HORIZONTAL" if across >= 1 else "VERTICAL"
    compat.scale_to_render(size, frame_method(fit, clip.size[0] / max(clip.size[1], 1), across))
    _feeding(size.inputs[0], "CompositorNodeMovieClip", -300, 0).clip = clip
    scene.render.use_compositing = True
    scene.render.film_transparent = True
    return f"Renders (F12) show the scene over {clip.name}{_faithful(scene)}"


def _laid_over(picture: bpy.types.NodeSocket, scene: bpy.types.Scene) -> bpy.types.Node:
    """A node that lays what `picture`, the compositor's output, showed so far over something."""
    tree, output = picture.id_data, picture.node
    if not picture.links:
        _feeding(picture, "CompositorNodeRLayers", -300, 0).scene = scene
    shown = picture.links[0].from_socket
    output.location.x += 600
    over = _put_before(picture, "CompositorNodeAlphaOver", -250, 0)
    over[_MARK] = True
    _, foreground = compat.alpha_over_sockets(over)
    tree.links.new(shown, foreground)
    return over


def _feeding(socket: bpy.types.NodeSocket, kind: str, x: float, y: float) -> bpy.types.Node:
    """The node of a kind that a socket takes its picture from: where there is another or none, a new one, `x` and `y`
    away."""
    if socket.links and socket.links[0].from_node.bl_idname == kind:
        return socket.links[0].from_node
    return _put_before(socket, kind, x, y)


def _put_before(socket: bpy.types.NodeSocket, kind: str, x: float, y: float) -> bpy.types.Node:
    """A new node that a socket takes its picture from."""
    tree, beside = socket.id_data, socket.node
    node = tree.nodes.new(kind)
    node.location = (beside.location.x + x, beside.location.y + y)
    tree.links.new(node.outputs[0], socket)
    return node


def _faithful(scene: bpy.types.Scene) -> str:
    """Show the clip's colours as they are; returns what to say where they were not."""
    view = scene.view_settings
    before = view.view_transform
    if before == _FAITHFUL:
        return ""
    try:
        view.view_transform = _FAITHFUL
    except TypeError:  # a studio's own colour configuration has no transform of that name
        return f"; its colours come out as {before} makes them"
    return f"; the view transform is {_FAITHFUL}, since {before} would change the clip's colours"
