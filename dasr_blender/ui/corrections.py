# SPDX-License-Identifier: GPL-3.0-or-later
"""Correct the mask: a list of what was said of single frames, and the operators that fill it."""

from __future__ import annotations

import os

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from ..pointing import Place, box_between, pixel_at, shown_frame, spoken, strokes
from ..scene.compat import path_options
from ..scene.request import clip_start, is_chosen, said_in_full
from .wrapping import draw_sentence

KINDS = [
    ("ON", "On It", "This place is on the subject", "ADD", 0),
    ("OFF", "Beside It", "This place is not on the subject", "REMOVE", 1),
    ("BOX", "Box", "The subject is in this box, all of it", "MESH_PLANE", 2),
    ("MASK", "Mask Image", "An image of the clip's size, the subject white", "IMAGE_DATA", 3),
]
_ICONS = {kind: icon for kind, _, _, icon, _ in KINDS}
_COLOURS = {"ON": (0.3, 1.0, 0.4, 1.0), "OFF": (1.0, 0.3, 0.2, 1.0), "BOX": (0.3, 1.0, 0.4, 1.0)}
_handlers: list[object] = []
_drag: list[Place] = []  # corners of the box that is being drawn, in pixels of the picture


class DasrCorrection(bpy.types.PropertyGroup):
    """One statement about one frame of the clip; places in pixels from the picture's upper left."""

    kind: EnumProperty(name="Kind", description="What is said of the frame", items=KINDS, default="ON")
    frame: IntProperty(name="Frame", description="Frame of the clip, counted from 0", min=0)
    x: FloatProperty(name="X", description="Pixels from the left of the picture", subtype="PIXEL", min=0.0, precision=0)
    y: FloatProperty(name="Y", description="Pixels from the top of the picture", subtype="PIXEL", min=0.0, precision=0)
    width: FloatProperty(
        name="Width", description="Of the box, in pixels", subtype="PIXEL", min=1.0, default=100.0, precision=0
    )
    height: FloatProperty(
        name="Height", description="Of the box, in pixels", subtype="PIXEL", min=1.0, default=100.0, precision=0
    )
    filepath: StringProperty(
        name="Mask",
        description="Image of the clip's size, white where the subject is",
        subtype="FILE_PATH",
        options=path_options(),
    )

    def argument(self) -> str:
        """As the command line takes it."""
        numbers = (self.x, self.y, self.width, self.height)
        return spoken(self.kind, self.frame, numbers, bpy.path.abspath(self.filepath))


def _frame(context) -> int:
    """Frame of the chosen clip that the scene shows now."""
    scene, settings = context.scene, context.scene.dasr
    clip = getattr(context.space_data, "clip", None)
    if clip is None or not is_chosen(clip, settings):
        clip = settings.movie_clip if settings.source == "MOVIECLIP" else None
    if clip is not None:
        return shown_frame(scene.frame_current, clip_start(clip))
    return shown_frame(scene.frame_current, scene.frame_start, settings.frame_first if settings.use_range else 0)


def _add(context, kind: str, **values) -> None:
    settings = context.scene.dasr
    said = settings.corrections.add()
    said.kind, said.frame = kind, _frame(context)
    for name, value in values.items():
        setattr(said, name, value)
    settings.correction_index = len(settings.corrections) - 1


class DASR_OT_correct_point(bpy.types.Operator):
    """Click a place on or beside the subject, or drag a box round it, in the clip editor"""

    bl_idname = "dasr.correct_point"
    bl_label = "Point at the Picture"
    bl_options = {"UNDO"}

    kind: EnumProperty(name="Kind", description="What is said of the place", items=KINDS[:3], default="ON")
    _start = None

    @classmethod
    def description(cls, _context, properties) -> str:
        """What each of the three buttons says."""
        words = next(words for kind, _, words, *_ in KINDS if kind == properties.kind)
        return f"{'Drag' if properties.kind == 'BOX' else 'Click'} in the picture: {words[0].lower()}{words[1:]}"

    @classmethod
    def poll(cls, context) -> bool:
        space = context.space_data
        if space is None or space.type != "CLIP_EDITOR" or space.clip is None:
            cls.poll_message_set("Open the clip in the clip editor first")
            return False
        if not is_chosen(space.clip, context.scene.dasr):
            cls.poll_message_set("This is not the clip chosen in the DASR tab: open that one here, or choose this one")
            return False
        return True

    def invoke(self, context, _event):
        words = "Drag a box round the subject" if self.kind == "BOX" else "Click the place"
        context.workspace.status_text_set(f"{words}; Esc or right click cancels")
        context.window.cursor_modal_set("CROSSHAIR")
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        if event.type in {"ESC", "RIGHTMOUSE"}:
            return self._stop(context, {"CANCELLED"})
        if event.type == "MOUSEMOVE" and self._start is not None:
            if place := self._place(context, event):
                _drag[:] = [self._start, place]
                context.area.tag_redraw()
            return {"RUNNING_MODAL"}
        if event.type != "LEFTMOUSE":
            return {"PASS_THROUGH"} if "MOUSE" in event.type and self._start is None else {"RUNNING_MODAL"}
        if event.value != ("RELEASE" if self._start else "PRESS"):
            return {"RUNNING_MODAL"}
        place = self._place(context, event)
        if place is None:
            self.report({"WARNING"}, "That place is outside the picture: click inside it")
            return self._stop(context, {"CANCELLED"})
        if self.kind != "BOX":
            _add(context, self.kind, x=place[0], y=place[1])
            return self._stop(context, {"FINISHED"})
        if event.value == "PRESS":
            self._start = place
            return {"RUNNING_MODAL"}
        box = box_between(self._start, place)
        if box is None:
            self.report({"WARNING"}, "That box is empty: press at one corner and drag to the other")
            return self._stop(context, {"CANCELLED"})
        _add(context, "BOX", x=box[0], y=box[1], width=box[2], height=box[3])
        return self._stop(context, {"FINISHED"})

    def _place(self, context, event) -> Place | None:
        """Where the mouse is in the picture, in its pixels."""
        region = next(r for r in context.area.regions if r.type == "WINDOW")
        view = region.view2d.region_to_view(event.mouse_x - region.x, event.mouse_y - region.y)
        return pixel_at(view, context.space_data.clip.size)

    def cancel(self, _context) -> None:
        """Blender closes the window or loads another file."""
        _drag.clear()

    def _stop(self, context, outcome):
        _drag.clear()
        context.workspace.status_text_set(None)
        context.window.cursor_modal_restore()
        context.area.tag_redraw()
        return outcome


class DASR_OT_correct_mask(bpy.types.Operator):
    """Give a mask image for the frame that is shown"""

    bl_idname = "dasr.correct_mask"
    bl_label = "Add Mask Image"
    bl_options = {"UNDO"}

    filepath: StringProperty(name="Mask", subtype="FILE_PATH", options=path_options())
    filter_image: BoolProperty(default=True, options={"HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context, _event):
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context):
        if not os.path.isfile(bpy.path.abspath(self.filepath)):
            self.report({"ERROR"}, f"There is no image {self.filepath}: choose the frame's mask")
            return {"CANCELLED"}
        _add(context, "MASK", filepath=self.filepath)
        return {"FINISHED"}


class DASR_OT_correct_add(bpy.types.Operator):
    """Add a correction for the frame that is shown, and type its numbers"""

    bl_idname = "dasr.correct_add"
    bl_label = "Add Correction"
    bl_options = {"UNDO"}

    def execute(self, context):
        _add(context, "ON")
        return {"FINISHED"}


class DASR_OT_correct_remove(bpy.types.Operator):
    """Remove the chosen correction"""

    bl_idname = "dasr.correct_remove"
    bl_label = "Remove Correction"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context) -> bool:
        return bool(context.scene.dasr.corrections)

    def execute(self, context):
        settings = context.scene.dasr
        settings.corrections.remove(settings.correction_index)
        settings.correction_index = max(min(settings.correction_index, len(settings.corrections) - 1), 0)
        return {"FINISHED"}


class DASR_UL_corrections(bpy.types.UIList):
    """Frame and kind of each correction."""

    bl_idname = "DASR_UL_corrections"

    def draw_item(self, _context, layout, _data, item, _icon, _active, _name, _index=0, _flag=0) -> None:
        layout.label(text=f"Frame {item.frame}", icon=_ICONS[item.kind])
        if item.kind == "MASK":
            layout.label(text=bpy.path.basename(item.filepath) or "no image yet")
        else:
            layout.label(text=f"{item.x:.0f}, {item.y:.0f}" if said_in_full(item) else "no place yet")


def draw(panel: bpy.types.Panel, context) -> None:
    """The panel below the clip's."""
    layout, settings = panel.layout, context.scene.dasr
    layout.enabled = not context.window_manager.dasr.running
    if settings.masks:
        draw_sentence(layout.column(align=True), context, "Masks come from a folder: change them there", "INFO")
        return
    row = layout.row()
    row.template_list(
        "DASR_UL_corrections", "", settings, "corrections", settings, "correction_index", rows=3
    )
    column = row.column(align=True)
    column.operator("dasr.correct_add", icon="ADD", text="")
    column.operator("dasr.correct_remove", icon="REMOVE", text="")
    buttons = layout.row(align=True)
    for kind, label, _, icon, _ in KINDS[:3]:
        buttons.operator("dasr.correct_point", text=label, icon=icon).kind = kind
    layout.operator("dasr.correct_mask", icon="IMAGE_DATA")
    if settings.correction_index < len(settings.corrections):
        said = settings.corrections[settings.correction_index]
        column = layout.column(align=True)
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(said, "frame")
        column.prop(said, "kind")
        for name in {"MASK": ("filepath",), "BOX": ("x", "y", "width", "height")}.get(said.kind, ("x", "y")):
            column.prop(said, name)


def _draw_marks() -> None:
    """What was said of the frame that is shown, and the box that is being drawn, over the picture."""
    import gpu
    from gpu_extras.batch import batch_for_shader

    context = bpy.context
    clip, settings = context.space_data.clip, context.scene.dasr
    said = settings.corrections or _drag  # else there is no need to look at files at every redraw
    if clip is None or settings.masks or not said or not is_chosen(clip, settings):
        return
    frame = _frame(context)
    marks = [(kind, place, (place[0] + size[0], place[1] + size[1])) for kind, place, size in _said(settings, frame)]
    if len(_drag) == 2:
        marks.append(("BOX", *_drag))
    width, height = clip.size
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", 2.0 * context.preferences.system.ui_scale)
    for kind, *corners in marks:
        a, b = (
            context.region.view2d.view_to_region(x / width, 1 - y / height, clip=False) for x, y in corners
        )
        shader.uniform_float("color", _COLOURS[kind])
        ends = strokes(kind, a, b, 8.0 * context.preferences.system.ui_scale)
        batch_for_shader(shader, "LINES", {"pos": [(x, y, 0.0) for x, y in ends]}).draw(shader)


def _said(settings, frame: int) -> list[tuple[str, Place, Place]]:
    """Kind, place and size of what was said of places in a frame."""
    return [
        (said.kind, (said.x, said.y), (said.width, said.height))
        for said in settings.corrections
        if said.frame == frame and said.kind in _COLOURS and said_in_full(said)
    ]


def attach() -> None:
    _handlers.append(bpy.types.SpaceClipEditor.draw_handler_add(_draw_marks, (), "WINDOW", "POST_PIXEL"))


def detach() -> None:
    _drag.clear()
    while _handlers:
        bpy.types.SpaceClipEditor.draw_handler_remove(_handlers.pop(), "WINDOW")


CLASSES = (
    DASR_OT_correct_point,
    DASR_OT_correct_mask,
    DASR_OT_correct_add,
    DASR_OT_correct_remove,
    DASR_UL_corrections,
)
