# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders that show the rig over the clip, as the viewport does behind the camera: the compositor's part."""

from __future__ import annotations

import bpy

from ..core import DasrError
from . import compat
from .camera import frame_method, images_behind, render_aspect

_MARK = "dasr_over_clip"  # on the nodes that are put there, which part each plays
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
    over = _own(tree, "over") or _laid_over(picture, scene)
    background, _ = compat.alpha_over_sockets(over)
    size = _own(tree, "size") or _put_before(background, "CompositorNodeScale", -200, -220, "size")
    source = _own(tree, "clip") or _put_before(size.inputs[0], "CompositorNodeMovieClip", -300, 0, "clip")
    clip, across = images_behind(camera)[0].clip, render_aspect(scene)
    fit = camera.data.sensor_fit
    if fit == "AUTO":
        fit = "HORIZONTAL" if across >= 1 else "VERTICAL"
    compat.scale_to_render(size, frame_method(fit, clip.size[0] / max(clip.size[1], 1), across))
    source.clip = clip
    scene.render.use_compositing = True
    scene.render.film_transparent = True
    return f"Renders (F12) show the scene over {clip.name}{_faithful(scene)}"


def _laid_over(picture: bpy.types.NodeSocket, scene: bpy.types.Scene) -> bpy.types.Node:
    """A node that lays what `picture`, the compositor's output, showed so far over something."""
    tree, output = picture.id_data, picture.node
    if not picture.links:
        _put_before(picture, "CompositorNodeRLayers", -300, 0).scene = scene
    shown = picture.links[0].from_socket
    output.location.x += 600
    over = _put_before(picture, "CompositorNodeAlphaOver", -250, 0, "over")
    _, foreground = compat.alpha_over_sockets(over)
    tree.links.new(shown, foreground)
    return over


def _own(tree: bpy.types.NodeTree, part: str) -> bpy.types.Node | None:
    """The node that was put there for something before, wherever it is linked now."""
    return next((node for node in tree.nodes if node.get(_MARK) == part), None)


def _put_before(
    socket: bpy.types.NodeSocket, kind: str, x: float, y: float, part: str = ""
) -> bpy.types.Node:
    """A new node that a socket takes its picture from, `x` and `y` away; part: what `_own` finds it by."""
    tree, beside = socket.id_data, socket.node
    node = tree.nodes.new(kind)
    node[_MARK] = part
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
