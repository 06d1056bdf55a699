# SPDX-License-Identifier: GPL-3.0-or-later
"""The motion on the animator's own character: which bone plays which joint, and the operator that keys it."""

from __future__ import annotations

import bpy
from bpy.props import BoolProperty, CollectionProperty, IntProperty, PointerProperty, StringProperty

from ..core.errors import DasrError, counted
from ..scene import retarget
from ..scene.request import Summary
from .preferences import category_folders
from .telling import failed, tell
from .waiting import waiting


class DasrBonePair(bpy.types.PropertyGroup):
    """One joint of the category, and the character's bone that plays it."""

    name: StringProperty(name="Joint", description="Joint of the category")
    bone: StringProperty(name="Bone", description="Bone of your character that moves like this joint; empty for none")


def _target_changed(self, context) -> None:
    rigs = [item for item in context.scene.objects if retarget.is_reconstruction(item)]
    if retarget.is_gone(self.source) and len(rigs) == 1:
        self.source = rigs[0]
    self.pairs.clear()
    if self.source is not None and self.target is not None:
        try:
            _match(self)
        except DasrError:
            pass  # the list stays empty, and the button says why


def _match(settings: DasrRetarget) -> int:
    """Fill the list; returns how many joints have a bone. Raises DasrError."""
    category = retarget.reconstruction_category(settings.source, category_folders())
    found = retarget.matched(category, settings.target)
    settings.pairs.clear()
    for joint, bone in found.items():
        pair = settings.pairs.add()
        pair.name, pair.bone = joint, bone
    return sum(bool(bone) for bone in found.values())


class DasrRetarget(bpy.types.PropertyGroup):
    """What the next retargeting takes, kept with the scene."""

    source: PointerProperty(
        name="From",
        description="Rig of a reconstruction",
        type=bpy.types.Object,
        poll=lambda _self, item: retarget.is_reconstruction(item) and not retarget.is_gone(item),
        update=_target_changed,
    )
    target: PointerProperty(
        name="Character",
        description="Armature of your character, which takes on the motion",
        type=bpy.types.Object,
        poll=lambda _self, item: (
            item.type == "ARMATURE" and not retarget.is_reconstruction(item) and not retarget.is_gone(item)
        ),
        update=_target_changed,
    )
    pairs: CollectionProperty(name="Bones", description="Which bone plays which joint", type=DasrBonePair)
    pair_index: IntProperty(name="Joint", description="The one that is chosen in the list", min=0)
    in_clip: BoolProperty(
        name="Stand in the Clip",
        description="Move and scale the character's object so that it stands where the subject does in the clip. "
        "Without, it moves about where it is, as far as its own legs carry it",
        default=False,
    )
    free: BoolProperty(
        name="Constraints Off",
        description="The action keys the influence of constraints at 0 that would move the bones all the same, such as "
        "the IK of legs. The controls of a rig that Rigify generated keep theirs",
        default=True,
    )


def follow(scene: bpy.types.Scene, rig: str) -> None:
    """Take a new reconstruction's rig for the source, where the one that was chosen has left its scenes."""
    settings = scene.dasr.retarget
    if settings.source is not None and retarget.is_gone(settings.source):
        settings.source = bpy.data.objects[rig]


class DASR_UL_bones(bpy.types.UIList):
    """Joints, each with a bone to choose."""

    def draw_item(self, context, layout, _data, item, _icon, _active, _property, _index=0, _flag=0):
        row = layout.split(factor=0.4)
        row.label(text=item.name, translate=False)  # "Tail" is the end of a bone in Blender's translations
        row.prop_search(item, "bone", context.scene.dasr.retarget.target.data, "bones", text="", icon="BONE_DATA")

    def filter_items(self, _context, data, name):
        helper = bpy.types.UI_UL_list
        wanted = self.filter_name
        shown = helper.filter_items_by_name(wanted, self.bitflag_filter_item, getattr(data, name), "name")
        return shown if wanted else [], []


class _Ready:
    """An operator that wants both armatures."""

    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context) -> bool:
        settings = context.scene.dasr.retarget
        if retarget.is_gone(settings.source):
            cls.poll_message_set("Choose the rig of a reconstruction first")
            return False
        if retarget.is_gone(settings.target):
            cls.poll_message_set("Choose your character's armature first")
            return False
        return True

    def execute(self, context):
        try:
            return self.act(context, context.scene.dasr.retarget)
        except DasrError as error:
            return failed(self, context, error)


class DASR_OT_match_bones(_Ready, bpy.types.Operator):
    """Find the character's bones anew, by their names and where they lie"""

    bl_idname = "dasr.match_bones"
    bl_label = "Match Bones"

    def act(self, _context, settings):
        retarget.forget_bones(settings.target)
        found = _match(settings)
        self.report({"INFO"}, f"{found} of {len(settings.pairs)} joints have a bone: look through the list")
        return {"FINISHED"}


class DASR_OT_retarget(_Ready, bpy.types.Operator):
    """Key the reconstruction's motion onto the character, as a new action"""

    bl_idname = "dasr.retarget"
    bl_label = "Retarget Motion"

    def act(self, context, settings):
        category = retarget.reconstruction_category(settings.source, category_folders())
        if not settings.pairs:
            _match(settings)
        bones = {pair.name: pair.bone for pair in settings.pairs}
        with waiting(context):
            done = retarget.retarget(
                category,
                settings.source,
                settings.target,
                bones,
                context.scene,
                in_clip=settings.in_clip,
                free=settings.free,
            )
        first, last = done.frames
        moved = f"{counted(done.bones, 'bone')} of {settings.target.name}"
        tell(self, context, Summary(f"'{done.action}' moves {moved}, frames {first}–{last}", tuple(done.warnings)))
        return {"FINISHED"}


def draw(panel: bpy.types.Panel, context) -> None:
    """The panel."""
    layout, settings = panel.layout, context.scene.dasr.retarget
    layout.use_property_split = True
    layout.use_property_decorate = False
    layout.enabled = not context.window_manager.dasr.running
    layout.prop(settings, "source", icon="ARMATURE_DATA")
    layout.prop(settings, "target", icon="OUTLINER_OB_ARMATURE")
    if settings.pairs and not retarget.is_gone(settings.target):
        row = layout.row(align=True)
        played = sum(bool(pair.bone) for pair in settings.pairs)
        row.label(text=f"{played} of {len(settings.pairs)} joints have a bone")
        row.operator("dasr.match_bones", text="", icon="FILE_REFRESH")
        layout.template_list("DASR_UL_bones", "", settings, "pairs", settings, "pair_index", rows=6)
    layout.prop(settings, "in_clip")
    layout.prop(settings, "free")
    layout.operator("dasr.retarget", icon="POSE_HLT")


CLASSES = (DASR_UL_bones, DASR_OT_match_bones, DASR_OT_retarget)
