# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel shows and a scene remembers."""

from __future__ import annotations

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from ..arguments import QUALITIES
from ..choices import Choice, category_choices, profile_choices
from ..scene.compat import can_write, path_options
from .corrections import DasrCorrection
from .preferences import category_folders
from .retarget import DasrBonePair, DasrRetarget

EXPORTS = [
    ("glb", "glTF", "Binary glTF"),
    ("fbx", "FBX", "Autodesk FBX"),
    ("usd", "USD", "Universal Scene Description"),
    ("bvh", "BVH", "Motion of the skeleton only"),
]

# Blender keeps no reference to the strings of a dynamic enum: they must outlive the call.
_category_items: list[Choice] = []
_profile_items: list[Choice] = []


def _categories(_self, _context) -> list[Choice]:
    _category_items[:] = category_choices(category_folders())
    return _category_items


def _profiles(self, _context) -> list[Choice]:
    _profile_items[:] = profile_choices(self.category, category_folders())
    return _profile_items


def _category_changed(self, context) -> None:
    self.category_said = self.category
    if self.names_said not in {name for name, *_ in _profiles(self, context)}:  # the new category has no such names
        self.names = "neutral"


def _names_changed(self, _context) -> None:
    self.names_said = self.names


def export_choices() -> list[tuple[str, str, str]]:
    """`EXPORTS`; those that this Blender cannot write say so, since a greyed button tells nothing else."""
    lacking = "; this Blender was built without it"
    return [(kind, name, words if can_write(kind) else words + lacking) for kind, name, words in EXPORTS]


class DasrSettings(bpy.types.PropertyGroup):
    """Settings of the next reconstruction, kept with the scene."""

    source: EnumProperty(
        name="Clip",
        description="Where the clip comes from",
        default="FILE",
        items=[
            ("FILE", "File", "A video, or a folder of frames, on disk"),
            ("MOVIECLIP", "Movie Clip", "A movie clip already in this file"),
        ],
    )
    filepath: StringProperty(
        name="Video",
        description="Video file, an image of a numbered sequence, a folder of frames, or a pattern: shot.####.png",
        subtype="FILE_PATH",
        options=path_options(),
    )
    movie_clip: PointerProperty(
        name="Movie Clip",
        description="Movie clip of this file. The rig moves in step with it",
        type=bpy.types.MovieClip,
    )
    category: EnumProperty(
        name="Category",
        description="What kind of subject the clip shows",
        items=_categories,
        update=_category_changed,
    )
    use_range: BoolProperty(name="Frame Range", description="Use only part of the clip", default=False)
    frame_first: IntProperty(
        name="First", description="First frame of the clip, counted from 0", min=0, default=0
    )
    frame_last: IntProperty(
        name="Last", description="Last frame of the clip, counted from 0", min=0, default=100
    )
    frame_step: IntProperty(name="Step", description="Use every n-th frame", min=1, default=1)
    masks: StringProperty(
        name="Masks",
        description="Folder of mask images, one a frame. Empty: masks are made automatically",
        subtype="DIR_PATH",
        options=path_options(),
    )
    corrections: CollectionProperty(
        name="Corrections", description="What was said of single frames", type=DasrCorrection
    )
    correction_index: IntProperty(name="Correction", description="The one that is chosen in the list", min=0)
    use_subject: BoolProperty(
        name="Pick Subject", description="Say which subject to follow when several are seen", default=False
    )
    subject_x: IntProperty(
        name="X", description="A pixel on the subject, from the left of the picture", subtype="PIXEL", min=0
    )
    subject_y: IntProperty(
        name="Y", description="A pixel on the subject, from the top of the picture", subtype="PIXEL", min=0
    )
    focal_px: FloatProperty(
        name="Focal Length",
        description="In pixels of the clip; 0 takes it from the file, a solve or a wide pan, or else assumes one",
        subtype="PIXEL",
        min=0.0,
        default=0.0,
        precision=0,
    )
    quality: EnumProperty(
        name="Quality",
        description="How hard the body is bent onto the picture",
        default="standard",
        items=[(name, *words) for name, words in QUALITIES.items()],
    )
    camera: EnumProperty(
        name="Camera",
        description="How the camera's own movement is found",
        default="auto",
        items=[
            (
                "auto",
                "Automatic",
                "Turning and zooming, from the background, and how far it travels, from standing feet; or the clip's "
                "own solve, if it has one in this file",
            ),
            # not "Still", which some of Blender's translations take for a picture or for "even now"
            ("still", "Standing Still", "The camera stood still"),
            ("solve", "Blender's Tracker", "Solve it with Blender's motion tracker, as for one that travels"),
        ],
    )
    placement: EnumProperty(
        name="Placement",
        description="Where in the world the subject and its camera are put",
        default="camera",
        items=[
            ("camera", "As Filmed", "On the first frame's camera, which is level and turns as it was turned"),
            ("root", "Subject Still", "The subject's root stands still and the camera moves around it"),
            ("ground", "On the Ground", "Upright, with the feet on the floor, walking through the scene"),
        ],
    )
    names: EnumProperty(
        name="Bone Names",
        description="Which names the rig's bones get",
        items=_profiles,
        update=_names_changed,
    )
    category_said: StringProperty(options={"HIDDEN"})  # `category`, to be named when it is not installed any more
    names_said: StringProperty(options={"HIDDEN"})  # `names`, to be read when the category has no such names any more
    set_scene_range: BoolProperty(
        name="Set Up Scene",
        default=False,
        description="Give the scene the clip's frame rate, range and resolution, and its camera to look through",
    )
    formats: EnumProperty(
        name="Also Export",
        description="Files of the reconstruction for other programs, written beside the report",
        options={"ENUM_FLAG"},
        default=set(),
        items=export_choices(),
    )
    texture: BoolProperty(
        name="Texture",
        default=True,
        description="Give the mesh a texture of what the clip's frames show, else the network's plain colours",
    )
    overlay: BoolProperty(
        name="Overlay Video",
        default=False,
        description="Also write a video of the result drawn over the clip",
    )
    directory: StringProperty(
        name="Folder",
        description="For exports and the report. Empty: a folder named after the clip beside the .blend file, "
        "or, while that is not saved, in 'results' in the extension's folder of Blender's user files",
        subtype="DIR_PATH",
        options=path_options(),
    )
    retarget: PointerProperty(
        name="Retarget", description="Whose motion goes onto which character, and by which bones", type=DasrRetarget
    )
    # the clip and the folder of the last reconstruction, whatever is chosen and wherever the .blend is saved later
    result_clip: StringProperty(options={"HIDDEN"})
    result_directory: StringProperty(options={"HIDDEN"})
    told: StringProperty(options={"HIDDEN"})  # the status's, from when what it tells of was done


class DasrStatus(bpy.types.PropertyGroup):
    """State of the running job: lives with the window manager, so it is never saved."""

    running: BoolProperty()
    fraction: FloatProperty(min=0.0, max=1.0)
    text: StringProperty()
    message: StringProperty()  # what came of the last one, or of a retargeting, a sentence a line
    failed: BoolProperty()  # the message says why nothing did
    told: StringProperty()  # when the message was told; "" for one of nothing that could be undone


CLASSES = (DasrCorrection, DasrBonePair, DasrRetarget, DasrSettings, DasrStatus)


def attach() -> None:
    bpy.types.Scene.dasr = PointerProperty(type=DasrSettings)
    bpy.types.WindowManager.dasr = PointerProperty(type=DasrStatus)


def detach() -> None:
    del bpy.types.Scene.dasr
    del bpy.types.WindowManager.dasr
