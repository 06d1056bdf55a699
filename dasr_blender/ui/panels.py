# SPDX-License-Identifier: GPL-3.0-or-later
"""The DASR tab in the sidebars of the 3D view and of the clip editor."""

from __future__ import annotations

import bpy

from ..scene import compat
from . import corrections, retarget, telling, views
from .properties import EXPORTS
from .wrapping import draw_sentence


def _draw(panel: bpy.types.Panel, context) -> None:
    layout, settings, status = panel.layout, context.scene.dasr, context.window_manager.dasr
    layout.use_property_split = True
    layout.use_property_decorate = False

    column = layout.column()
    column.enabled = not status.running
    clip = bpy.app.translations.contexts.id_movieclip  # elsewhere Blender's translations take the word for "cut off"
    column.prop(settings, "source", text="Clip", text_ctxt=clip, expand=True)
    column.prop(settings, "movie_clip" if settings.source == "MOVIECLIP" else "filepath")
    column.prop(settings, "category")
    column.prop(settings, "quality")
    column.separator()
    column.prop(settings, "placement")
    column.prop(settings, "names")
    column.prop(settings, "texture")
    column.prop(settings, "set_scene_range")

    layout.separator()
    if status.running:
        row = layout.row(align=True)
        row.progress(factor=status.fraction, text=f"{100 * status.fraction:.0f} %")
        row.operator("dasr.cancel", text="", icon="X")
        layout.label(text=status.text[:1].upper() + status.text[1:], translate=False)
        layout.label(text="Esc cancels", icon="INFO")
    else:
        button = layout.row()
        button.scale_y = 1.6
        button.operator("dasr.reconstruct", icon="ARMATURE_DATA")
    if message := telling.shown(context):
        _draw_message(layout.box().column(align=True), context, message)


def _draw_message(column: bpy.types.UILayout, context, message: str) -> None:
    """What was done last, or why nothing was; then warnings."""
    for number, sentence in enumerate(message.splitlines()):
        warning = number > 0 or context.window_manager.dasr.failed
        draw_sentence(column, context, sentence, "ERROR" if warning else "")


def _draw_clip(panel: bpy.types.Panel, context) -> None:
    layout, settings = panel.layout, context.scene.dasr
    layout.use_property_split = True
    layout.use_property_decorate = False
    layout.enabled = not context.window_manager.dasr.running
    layout.prop(settings, "masks")
    layout.prop(settings, "use_range")
    if settings.use_range:
        column = layout.column(align=True)
        column.prop(settings, "frame_first")
        column.prop(settings, "frame_last")
    layout.prop(settings, "frame_step")
    layout.prop(settings, "use_subject")
    if settings.use_subject:
        column = layout.column(align=True)
        column.prop(settings, "subject_x")
        column.prop(settings, "subject_y")
    layout.separator()
    layout.prop(settings, "focal_px")
    layout.prop(settings, "camera")
    layout.operator("dasr.solve_camera", icon="CON_CAMERASOLVER")


def _draw_output(panel: bpy.types.Panel, context) -> None:
    layout, settings = panel.layout, context.scene.dasr
    layout.use_property_split = True
    layout.use_property_decorate = False
    layout.enabled = not context.window_manager.dasr.running
    layout.prop(settings, "directory")
    layout.label(text="Also Export")
    row = layout.row(align=True)
    row.use_property_split = False
    for kind, *_ in EXPORTS:
        choice = row.row(align=True)
        choice.enabled = compat.can_write(kind) or kind in settings.formats  # what cannot be written can be taken away
        choice.prop_enum(settings, "formats", kind)
    layout.prop(settings, "overlay")
    layout.operator("dasr.render_over_clip", icon="RENDER_ANIMATION")


class _Main:
    bl_label = "Video to Animated Rig"
    draw = _draw


class _Clip:
    bl_label = "Clip, Masks and Camera"
    bl_options = {"DEFAULT_CLOSED"}
    draw = _draw_clip


class _Corrections:
    bl_label = "Correct the Masks"
    bl_options = {"DEFAULT_CLOSED"}
    draw = corrections.draw


class _Views:
    bl_label = "Set Views by Hand"
    bl_options = {"DEFAULT_CLOSED"}
    draw = views.draw


class _Retarget:
    bl_label = "Retarget to a Character"
    bl_options = {"DEFAULT_CLOSED"}
    draw = retarget.draw


class _Output:
    bl_label = "Output"
    bl_options = {"DEFAULT_CLOSED"}
    draw = _draw_output


def _panels(space: str, prefix: str, **own: type) -> list[type[bpy.types.Panel]]:
    """The main panel and its children, in the sidebar of one kind of editor; own: those that only this one has."""
    place = {"bl_space_type": space, "bl_region_type": "UI", "bl_category": "DASR"}
    child = {**place, "bl_parent_id": prefix}
    children = {"clip": _Clip, "corrections": _Corrections, "views": _Views, **own, "output": _Output}
    return [
        type(prefix, (_Main, bpy.types.Panel), place),
        *(type(f"{prefix}_{name}", (part, bpy.types.Panel), child) for name, part in children.items()),
    ]


class DASR_MT_operators(bpy.types.Menu):
    """Where F3, which searches menus, finds what the tab does."""

    bl_idname = "DASR_MT_operators"
    bl_label = "DASR"

    def draw(self, _context) -> None:
        for name in (
            *("reconstruct", "cancel", "solve_camera", "add_template", "save_view"),
            *("match_bones", "retarget", "render_over_clip"),
        ):
            self.layout.operator(f"dasr.{name}")


def _menu(menu: bpy.types.Menu, _context) -> None:
    menu.layout.separator()
    menu.layout.menu(DASR_MT_operators.bl_idname)


_MENUS = ("VIEW3D_MT_object", "VIEW3D_MT_pose", "CLIP_MT_clip")


def attach() -> None:
    for name in _MENUS:
        getattr(bpy.types, name).append(_menu)


def detach() -> None:
    for name in _MENUS:
        getattr(bpy.types, name).remove(_menu)


CLASSES = (
    *_panels("VIEW_3D", "DASR_PT_view3d", retarget=_Retarget),
    *_panels("CLIP_EDITOR", "DASR_PT_clip"),
    DASR_MT_operators,
)
