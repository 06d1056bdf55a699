# SPDX-License-Identifier: GPL-3.0-or-later
"""The built scene as .blend, .glb, .fbx, .usd and .bvh.

Other programs differ from Blender in four ways, and each is met while the file is written and undone after:

- They count time in seconds, from 0. So the scene runs at the clip's own rate, and for glTF and FBX the
  first frame is moved to time 0 (Blender's FBX importer puts time 0 on frame 1, its glTF importer on 0).
- They bind a skeleton to the mesh as stored, and many cut morph weights to 0…1. So the clip's proportions
  become the base mesh, which is then the shape the armature's rest pose fits, and each proportion a morph
  target at 0.
- BVH says nothing of axes, and its readers take Y to be up: a copy of the rig, turned so, is written.
- glTF's camera has one lens for the whole clip, with its axis in the middle of the picture; `losses` says
  when that matters.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from ..core.files import write_refusal, written_atomically
from . import compat
from .build import BuiltScene, frame_rate, unstretched
from .plan import ScenePlan, ScenePlanError

_ROOM = 1 << 16  # bytes that must still find room behind a file
FORMATS = ("blend", "glb", "fbx", "usd", "bvh")


@dataclass(frozen=True)
class Cast:
    """What goes into the files.

    objects: the armature first.  actions: all that they play; the armature's first.  fps, frame_range (first and last)
    and resolution: of the clip.  morphed: the mesh whose shape keys' present mix other programs get as its basis.
    """

    scene: bpy.types.Scene
    objects: tuple[bpy.types.Object, ...]
    actions: tuple[bpy.types.Action, ...]
    fps: float
    frame_range: tuple[int, int]
    resolution: tuple[int, int]
    morphed: bpy.types.Object | None = None

    @property
    def armature(self) -> bpy.types.Object:
        return self.objects[0]


def export_scene(
    built: BuiltScene, out_dir: str | Path, formats: Iterable[str], stem: str
) -> dict[str, Path]:
    """`export_cast` of a built scene: rig, mesh and camera."""
    settings = built.plan.settings
    objects = (built.armature, built.mesh, built.camera)
    span = settings.frame_range
    cast = Cast(built.scene, objects, (built.action,), settings.fps, span, settings.resolution, built.mesh)
    return export_cast(cast, out_dir, formats, stem)


def export_cast(cast: Cast, out_dir: str | Path, formats: Iterable[str], stem: str) -> dict[str, Path]:
    """Write `stem`.<format> for each format, each whole or not at all, and return where they are.

    The scene is as before when it returns. A .blend is a copy of the whole file that is open.

    Raises:
        ScenePlanError: an unknown format, a place that cannot be written, or a file that came out empty.
    """
    formats = list(dict.fromkeys(formats))
    unknown = [kind for kind in formats if kind not in FORMATS]
    if unknown:
        raise ScenePlanError(f"There is no format '{unknown[0]}'; choose from {', '.join(FORMATS)}.")
    written = {}
    for kind in formats:
        path = Path(out_dir).resolve() / f"{stem}.{kind}"
        try:
            with written_atomically(path) as temporary:
                with compat.quiet():
                    _WRITERS[kind](cast, temporary)
                _require_whole(temporary, path)
        except (OSError, RuntimeError) as error:
            reason = error if isinstance(error, OSError) else compat.reason(error)
            raise ScenePlanError(write_refusal(path, reason)) from error
        written[kind] = path
    return written


def _require_whole(temporary: Path, path: Path) -> None:
    """Raise ScenePlanError for a file that was not written, and OSError for one that the disk had no room for.

    Blender's writers of .blend and .usd do not tell when they were cut off; then nothing can be added either.
    """
    if not temporary.is_file() or temporary.stat().st_size == 0:
        raise ScenePlanError(f"Blender wrote nothing to {path}; is the disk full?")
    with open(temporary, "r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.write(bytes(_ROOM))
        stream.truncate(end)


def losses(plan: ScenePlan, formats: Iterable[str]) -> list[str]:
    """What the chosen formats cannot hold of this plan, a sentence each."""
    formats, camera, found = set(formats), plan.camera, []
    if "glb" in formats and len(camera.lens_mm) > 1:
        found.append("The .glb keeps the first frame's focal length, because glTF cannot animate it.")
    if "glb" in formats and max(map(abs, camera.shift)) > 1e-3:
        found.append(
            "The .glb has the optical axis in the middle of the picture, because glTF has no lens shift."
        )
    if "fbx" in formats and camera.sensor_fit == "VERTICAL":
        found.append(
            "Blender imports the .fbx's upright camera too narrow: set its Sensor Fit to Vertical there."
        )
    replaced = sorted(set(re.findall(r"\W", "".join(bone.name for bone in plan.armature.bones))))
    if "usd" in formats and plan.settings.frame_range[0] < 0:
        found.append("The .usd begins at frame 0, because Blender writes none before that.")
    if "usd" in formats and replaced:
        marks = " and ".join(f"'{mark}'" for mark in replaced)
        found.append(f"The .usd has '_' for {marks} in the bones' names, because USD allows letters and digits only.")
    if "bvh" in formats:
        found.append("The .bvh holds the skeleton alone, because BVH has neither mesh nor camera.")
    return found


def _write_blend(cast: Cast, path: Path) -> None:
    bpy.ops.wm.save_as_mainfile(
        filepath=str(path), copy=True, check_existing=False, compress=True, relative_remap=True
    )


def _write_glb(cast: Cast, path: Path) -> None:
    options = compat.known(
        bpy.ops.export_scene.gltf,
        filepath=str(path),
        check_existing=False,
        export_format="GLB",
        use_selection=True,
        use_active_scene=True,  # else all scenes of the open file, which crashes Blender 4.5
        export_cameras=True,
        export_animations=True,
        export_animation_mode="ACTIONS",
        export_anim_single_armature=False,  # else every armature's action in the open file, played by this one
        export_optimize_animation_size=False,
        export_optimize_animation_keep_anim_object=True,  # a camera that stands still is animated too
        export_frame_range=False,
        export_anim_slide_to_zero=False,
        export_force_sampling=True,
        export_skins=True,
        export_influence_nb=4,
        export_morph=True,
        export_morph_normal=False,
        export_morph_animation=False,
        export_rest_position_armature=True,
        export_vertex_color="MATERIAL",
        export_all_vertex_colors=False,  # glTF multiplies a texture by the first of them
        export_draco_mesh_compression_enable=False,
        export_extras=True,
    )
    with _prepared(cast, at_zero=True, shaped=True):
        bpy.ops.export_scene.gltf(**options)


def _write_fbx(cast: Cast, path: Path) -> None:
    options = compat.known(
        bpy.ops.export_scene.fbx,
        filepath=str(path),
        check_existing=False,
        use_selection=True,
        object_types={"ARMATURE", "MESH", "CAMERA"},
        apply_scale_options="FBX_SCALE_ALL",  # else every object node carries a scale of 100
        add_leaf_bones=False,
        bake_space_transform=False,  # breaks armatures
        bake_anim=True,
        bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False,
        bake_anim_simplify_factor=0.0,
        mesh_smooth_type="FACE",
        colors_type="SRGB",
        path_mode="COPY",
        embed_textures=True,
        use_custom_props=True,
    )
    with _prepared(cast, at_zero=True, shaped=True), _called(cast.scene, cast.actions[0].name):
        bpy.ops.export_scene.fbx(**options)


def _write_usd(cast: Cast, path: Path) -> None:
    if not bpy.app.build_options.usd:  # some distributions leave it out
        raise ScenePlanError("This Blender was built without USD; leave out the format usd.")
    options = compat.known(
        bpy.ops.wm.usd_export,
        filepath=str(path),
        check_existing=False,
        selected_objects_only=True,
        visible_objects_only=False,
        export_animation=True,
        export_armatures=True,
        export_shapekeys=True,
        export_cameras=True,
        export_materials=True,
        export_lights=False,
        convert_world_material=False,
        evaluation_mode="VIEWPORT",
        root_prim_path="/root",
        export_custom_properties=True,
        allow_unicode=True,  # the default from 5.0 on; else 4.5 has '_' for what is not ASCII, one for each byte
    )
    folder = path.parent / "textures"  # Blender makes it, and leaves it empty where textures stay where they are
    made = not folder.exists()
    with (
        _prepared(cast, at_zero=cast.frame_range[0] < 0, shaped=True),  # a scene's range begins at 0 or later
        _textures_beside(cast, path.parent) as mode,
    ):
        bpy.ops.wm.usd_export(**options, export_textures_mode=mode)
    if made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _write_bvh(cast: Cast, path: Path) -> None:
    if not compat.enable_addon("io_anim_bvh"):
        raise ScenePlanError("This Blender lacks its BVH add-on; leave out the format bvh.")
    first, last = cast.frame_range
    with _prepared(cast), _rig_with_y_up(cast.armature):
        bpy.ops.export_anim.bvh(
            filepath=str(path),
            check_existing=False,
            frame_start=first,
            frame_end=last,
            rotate_mode="ZXY",  # its lock, a pitch of 90°, is rarer than a turn of 90°, where XYZ locks
            root_transform_only=True,
        )


_WRITERS: dict[str, Callable[[Cast, Path], None]] = {
    "blend": _write_blend,
    "glb": _write_glb,
    "fbx": _write_fbx,
    "usd": _write_usd,
    "bvh": _write_bvh,
}


@contextlib.contextmanager
def _textures_beside(cast: Cast, folder: Path) -> Iterator[str]:
    """How USD's writer is to take textures: where all lie in the folder that is written to they are named there
    ("KEEP"), for which they must not be packed into the .blend; else it writes files of its own ("NEW")."""
    meshes = [item.data for item in cast.objects if item.type == "MESH"]
    trees = [material.node_tree for mesh in meshes for material in mesh.materials if material and material.node_tree]
    nodes = [node for tree in trees for node in tree.nodes if node.type == "TEX_IMAGE"]
    images = {node.image for node in nodes if node.image is not None}
    if not images or not all(_is_in(folder, image) for image in images):
        yield "NEW"
        return
    for image in images:
        image.unpack(method="REMOVE")
    try:
        yield "KEEP"
    finally:
        for image in images:
            image.pack()


def _is_in(folder: Path, image: bpy.types.Image) -> bool:
    """Whether what is packed of an image is a file in a folder."""
    if image.packed_file is None or image.library is not None:
        return False
    file = Path(bpy.path.abspath(image.filepath))
    return file.is_file() and file.resolve().parent == folder.resolve() and file.read_bytes() == image.packed_file.data


@contextlib.contextmanager
def _prepared(cast: Cast, *, at_zero: bool = False, shaped: bool = False) -> Iterator[None]:
    """The scene as the other programs want it, and afterwards as it was.

    Its objects are selected and the rig is active; the scene has the clip's rate, range and picture
    size, on which glTF's field of view depends, and metres for its unit, in which FBX scales everything;
    its time is not stretched.

    Args:
        at_zero: move the keys so that the first is at frame 0.
        shaped: make the shape keys' present mix the basis.
    """
    scene = cast.scene
    render = scene.render
    first, last = cast.frame_range
    with contextlib.ExitStack() as undo:
        undo.enter_context(_shown(scene))
        layer = bpy.context.view_layer
        was = (render.fps, render.fps_base, scene.frame_start, scene.frame_end, scene.frame_current)
        undo.callback(_set_time, scene, *was)
        undo.enter_context(unstretched(scene))
        undo.callback(setattr, scene.unit_settings, "scale_length", scene.unit_settings.scale_length)
        scene.unit_settings.scale_length = 1.0
        undo.callback(_set_picture, scene, *_picture(scene))
        _set_picture(scene, *cast.resolution, 1.0, 1.0)
        objects = list(cast.objects)
        active, selected = layer.objects.active, list(layer.objects.selected)
        if active is not None and active.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")
        undo.callback(_select, layer, selected, active)
        _select(layer, objects, objects[0])
        if shaped and cast.morphed is not None:
            undo.enter_context(_shape_as_basis(cast.morphed))
        if at_zero:
            for action in cast.actions:
                _shift_keys(action, -first)
                undo.callback(_shift_keys, action, first)
            first, last = 0, last - first
        _set_time(scene, *frame_rate(cast.fps), first, last, first)
        undo.enter_context(bpy.context.temp_override(scene=scene, view_layer=layer, active_object=objects[0]))
        yield


@contextlib.contextmanager
def _shown(scene: bpy.types.Scene) -> Iterator[None]:
    """The scene in a window: exporters see nothing of one that only the context is said to have."""
    if bpy.context.scene == scene:
        yield
        return
    window = _window()
    if window is None:
        raise ScenePlanError(
            f"There is no window to export scene '{scene.name}' from: open Blender's window and that scene, and "
            "reconstruct again."
        )
    before = window.scene
    window.scene = scene
    try:
        with bpy.context.temp_override(window=window):
            yield
    finally:
        window.scene = before


def _window() -> bpy.types.Window | None:
    return bpy.context.window or next(iter(bpy.context.window_manager.windows), None)


@contextlib.contextmanager
def _called(scene: bpy.types.Scene, name: str) -> Iterator[None]:
    """The scene under another name: FBX's take has the scene's, and every clip would be called "Scene"."""
    before, scene.name = scene.name, name
    try:
        yield
    finally:
        scene.name = before


@contextlib.contextmanager
def _rig_with_y_up(armature: bpy.types.Object) -> Iterator[None]:
    """A copy of the rig as the active object, turned so that what was up is along Y and what was -Y along Z.

    Poses are relative to the rest pose, so they turn with it.
    """
    rig = armature.copy()
    rig.data = bones = armature.data.copy()
    armature.users_collection[0].objects.link(rig)
    try:
        bones.transform(Matrix.Rotation(-math.pi / 2, 4, "X"))
        with bpy.context.temp_override(object=rig, active_object=rig):
            yield
    finally:
        bpy.data.objects.remove(rig)
        bpy.data.armatures.remove(bones)
        bpy.context.view_layer.update()  # else the removed copy stays among the selected objects, as None


def _set_time(scene: bpy.types.Scene, fps: int, base: float, start: int, end: int, current: int) -> None:
    scene.render.fps, scene.render.fps_base = fps, base
    scene.frame_start, scene.frame_end = start, end
    scene.frame_set(current)


def _picture(scene: bpy.types.Scene) -> tuple[int, int, float, float]:
    render = scene.render
    return render.resolution_x, render.resolution_y, render.pixel_aspect_x, render.pixel_aspect_y


def _set_picture(scene: bpy.types.Scene, width: int, height: int, aspect_x: float, aspect_y: float) -> None:
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = aspect_x, aspect_y


def _select(
    layer: bpy.types.ViewLayer, objects: list[bpy.types.Object], active: bpy.types.Object | None
) -> None:
    for chosen in list(layer.objects.selected):
        chosen.select_set(False, view_layer=layer)
    for chosen in objects:
        chosen.select_set(True, view_layer=layer)
    layer.objects.active = active


def _shift_keys(action: bpy.types.Action, frames: int) -> None:
    """Move every key, and the action's own range, by whole frames: exact in floating point."""
    for curve in compat.action_curves(action):
        points = curve.keyframe_points
        for field in ("co", "handle_left", "handle_right"):
            values = np.empty(2 * len(points), dtype=np.float32)
            points.foreach_get(field, values)
            values[::2] += frames
            points.foreach_set(field, values)
        curve.update()
    start, end = action.frame_start + frames, action.frame_end + frames
    action.frame_start, action.frame_end = min(start, action.frame_end), end
    action.frame_start = start


@contextlib.contextmanager
def _shape_as_basis(mesh: bpy.types.Object) -> Iterator[None]:
    """Move all shape keys so that their mix becomes the basis and every slider stands at 0."""
    blocks = mesh.data.shape_keys.key_blocks
    values = [block.value for block in blocks]
    stored = [np.empty(3 * len(block.data), dtype=np.float32) for block in blocks]
    for block, array in zip(blocks, stored, strict=True):
        block.data.foreach_get("co", array)
    move = np.zeros(len(stored[0]))
    for value, array in zip(values[1:], stored[1:], strict=True):
        move += value * (array.astype(np.float64) - stored[0])

    def put(arrays: list[np.ndarray], sliders: list[float]) -> None:
        for block, array, value in zip(blocks, arrays, sliders, strict=True):
            block.data.foreach_set("co", array)
            block.value = value
        mesh.data.vertices.foreach_set("co", arrays[0])
        mesh.data.update()

    put([(array + move).astype(np.float32) for array in stored], [0.0] * len(blocks))
    try:
        yield
    finally:
        put(stored, values)
