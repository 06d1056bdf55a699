# SPDX-License-Identifier: GPL-3.0-or-later
"""Line the category's body up with the clip on a few frames: operators that add it, keep and forget its pose."""

from __future__ import annotations

import bpy
from bpy.props import IntProperty

from ..core import load_category
from ..core.errors import DasrError
from ..scene import template, views
from ..scene.request import category_problem, range_problem
from .operators import job_request
from .preferences import category_folders


def _through_the_camera(context) -> None:
    """Look through the scene's camera in the first 3D view."""
    areas = context.screen.areas if context.screen else ()
    for area in areas:
        if area.type == "VIEW_3D":
            area.spaces.active.region_3d.view_perspective = "CAMERA"
            return


class DASR_OT_add_template(bpy.types.Operator):
    """Put the category's body before the clip, to be lined up with it by hand"""

    bl_idname = "dasr.add_template"
    bl_label = "Add Template"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context) -> bool:
        settings = context.scene.dasr
        if not (settings.movie_clip if settings.source == "MOVIECLIP" else settings.filepath):
            cls.poll_message_set("Choose a clip first")
            return False
        if context.mode != "OBJECT":
            cls.poll_message_set("Go to Object Mode first")
            return False
        if problem := category_problem(settings) or range_problem(settings):
            cls.poll_message_set(problem)
            return False
        return True

    def execute(self, context):
        asked = job_request(context)
        first, last, _ = asked.frames
        try:
            category = load_category(asked.category, asked.category_folders)
            rig, warning = template.add_template(
                category,
                asked.clip,
                context.scene,
                names=asked.names,
                start_frame=asked.scene_frame(first or 0),
                focal=asked.focal_px,
                set_scene=asked.set_scene,
                first=first or 0,
                last=None if last is None else last - 1,
            )
        except DasrError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        _through_the_camera(context)
        self.report(
            {"WARNING"} if warning else {"INFO"}, warning or f"Added {rig.name}: lay it on the picture"
        )
        return {"FINISHED"}


class _OfATemplate:
    """An operator on the template that is meant."""

    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context) -> bool:
        if views.find_rig(context) is None:
            cls.poll_message_set("Add a template first, or choose one of several")
            return False
        return True

    def execute(self, context):
        try:
            self.report({"INFO"}, self.act(views.find_rig(context), context.scene))
        except DasrError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class DASR_OT_save_view(_OfATemplate, bpy.types.Operator):
    """Keep where the body is and how it is bent on this frame, in a file beside the clip, which Undo leaves alone"""

    bl_idname = "dasr.save_view"
    bl_label = "Save View"

    def act(self, rig, scene) -> str:
        category = load_category(rig[views.CATEGORY], category_folders())
        view, path = views.save_view(rig, category, scene)
        return f"Frame {view.frame} is set, in {path}"


class DASR_OT_show_view(_OfATemplate, bpy.types.Operator):
    """Go to this frame"""

    bl_idname = "dasr.show_view"
    bl_label = "Show View"

    frame: IntProperty(name="Frame", description="Frame of the clip, counted from 0", min=0)

    def act(self, rig, scene) -> str:
        scene.frame_set(views.scene_frame(rig, self.frame))
        return f"Frame {self.frame}"


class DASR_OT_remove_view(_OfATemplate, bpy.types.Operator):
    """Forget this frame's view; Undo brings back its keys alone"""

    bl_idname = "dasr.remove_view"
    bl_label = "Remove View"

    frame: IntProperty(name="Frame", description="Frame of the clip, counted from 0", min=0)

    def act(self, rig, _scene) -> str:
        views.forget_view(rig, self.frame)
        return f"Frame {self.frame} is no longer set"


def draw(panel: bpy.types.Panel, context) -> None:
    """The panel of the frames that are set."""
    layout = panel.layout
    layout.enabled = not context.window_manager.dasr.running
    layout.operator("dasr.add_template", icon="OUTLINER_OB_ARMATURE")
    rig = views.find_rig(context)
    if rig is None:
        return
    layout.operator("dasr.save_view", icon="KEY_HLT")
    frames = views.known_frames(rig)
    column = layout.box().column(align=True)
    if not frames:
        column.label(text="No frame is set yet", icon="INFO")
    for frame in frames:
        row = column.row(align=True)
        row.operator("dasr.show_view", text=f"Frame {frame}", icon="CHECKMARK").frame = frame
        row.operator("dasr.remove_view", text="", icon="X").frame = frame


CLASSES = (DASR_OT_add_template, DASR_OT_save_view, DASR_OT_show_view, DASR_OT_remove_view)
