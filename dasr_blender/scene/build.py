# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned scene, written in one go or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import bpy

from . import compat
from .action import write_action
from .armature import write_armature
from .camera import clip_path, images_behind, render_aspect, write_camera
from .mesh import write_mesh
from .plan import SOURCE, ScenePlan, ScenePlanError

_KINDS = ("objects", "meshes", "armatures", "cameras", "actions", "materials", "images", "movieclips", "collections")


@dataclass(frozen=True)
class BuiltScene:
    """What was made, by name: a live pointer does not survive an undo. `warnings`: the plan's and later ones."""

    plan: ScenePlan = field(repr=False)
    scene_name: str
    collection_name: str
    mesh_name: str
    armature_name: str
    camera_name: str
    action_name: str
    warnings: tuple[str, ...] = ()

    @property
    def scene(self) -> bpy.types.Scene:
        return bpy.data.scenes[self.scene_name]

    @property
    def collection(self) -> bpy.types.Collection:
        return bpy.data.collections[self.collection_name]

    @property
    def mesh(self) -> bpy.types.Object:
        return bpy.data.objects[self.mesh_name]

    @property
    def armature(self) -> bpy.types.Object:
        return bpy.data.objects[self.armature_name]

    @property
    def camera(self) -> bpy.types.Object:
        return bpy.data.objects[self.camera_name]

    @property
    def action(self) -> bpy.types.Action:
        return bpy.data.actions[self.action_name]


def build_scene(plan: ScenePlan, scene: bpy.types.Scene | None = None) -> BuiltScene:
    """Write `plan` into `scene` (the current one by default): a collection with mesh, rig and camera.

    Rate, range, render size and active camera of the scene are left alone unless the plan says otherwise;
    a scene without a camera, or with that of an earlier reconstruction of the clip, gets this one.

    Raises:
        ScenePlanError: Blender refused (a linked or read-only scene, a clip it cannot open …); nothing
            is left behind.
    """
    scene = scene or bpy.context.scene
    with all_or_nothing():
        collection = bpy.data.collections.new(plan.name)
        scene.collection.children.link(collection)
        armature = write_armature(plan.armature, collection, scene)
        mesh = write_mesh(plan.mesh, collection, armature)
        warnings = list(plan.warnings)
        if plan.settings.set_scene:
            warnings += set_time(scene, plan.settings.fps, plan.settings.frame_range)
            set_picture(scene, plan.settings.resolution)
        camera, warning = write_camera(plan.camera, collection, render_aspect(scene))
        action = write_action(plan.action, plan.armature, plan.camera, armature, camera)
        if plan.settings.set_scene or scene.camera is None or of_same_clip(scene.camera, armature):
            scene.camera = camera
        if plan.settings.set_scene:
            scene.frame_set(plan.settings.frame_range[0])
        else:
            scene.frame_set(scene.frame_current)  # show the pose of the current frame
    names = (scene.name, collection.name, mesh.name, armature.name, camera.name, action.name)
    return BuiltScene(plan, *names, warnings=(*warnings, warning) if warning else tuple(warnings))


def of_same_clip(item: bpy.types.Object, rig: bpy.types.Object) -> bool:
    """Whether an object was made with a reconstruction of the clip of `rig`. A clip, or a folder of images, in another
    place may have the same name: where both have a clip behind their camera, that decides."""
    if all(other.get(SOURCE) != rig[SOURCE] for other in _beside(item)):
        return False
    one, two = (
        {clip_path(image.clip) for other in _beside(each) for image in images_behind(other)} for each in (item, rig)
    )
    return not one or not two or bool(one & two)


def _beside(item: bpy.types.Object) -> Iterator[bpy.types.Object]:
    """The objects of an object's collections."""
    return (other for group in item.users_collection for other in group.objects)


def frame_rate(fps: float) -> tuple[int, float]:
    """Blender's whole `fps` and the divisor `fps_base` that make up a rate, as 30 and 1.001 for 29.97."""
    whole = max(1, round(fps))
    return whole, whole / fps


def set_time(scene: bpy.types.Scene, fps: float, frame_range: tuple[int, int]) -> list[str]:
    """Give the scene a clip's rate and range; returns what to say where it cannot have all of that."""
    scene.render.fps, scene.render.fps_base = frame_rate(fps)
    scene.frame_start, scene.frame_end = frame_range
    if frame_range[0] >= scene.frame_start:
        return []
    return [
        f"The clip begins at frame {frame_range[0]} and a scene's range at {scene.frame_start} at the earliest: give "
        "the movie clip a later Start Frame to have all of it in the range"
    ]


def is_evaluated(item: bpy.types.Object) -> bool:
    """Whether Blender moves an object in the scene that is shown: hidden ones, too, but none that is switched off.

    What a property of the scene points at has an evaluated copy all the same, which stands still.
    """
    return any(seen.original == item for seen in bpy.context.evaluated_depsgraph_get().ids)


@contextmanager
def unstretched(scene: bpy.types.Scene) -> Iterator[None]:
    """Time Stretching, which plays other frames than are asked for, is off in the block."""
    render = scene.render
    stretched = render.frame_map_old, render.frame_map_new
    render.frame_map_old = render.frame_map_new = 100
    try:
        yield
    finally:
        render.frame_map_old, render.frame_map_new = stretched


def set_picture(scene: bpy.types.Scene, size: tuple[int, int]) -> None:
    """Render a clip's width and height, in whole and square pixels."""
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.pixel_aspect_x = scene.render.pixel_aspect_y = 1.0


@contextmanager
def mode_kept(scene: bpy.types.Scene) -> Iterator[None]:
    """Whoever poses or edits something in `scene` goes on with it after the block; in object mode nothing is kept."""
    context = bpy.context
    layer = context.view_layer if context.scene == scene else scene.view_layers[0]
    active = layer.objects.active
    mode = active.mode if active is not None else "OBJECT"
    selected, together = list(layer.objects.selected), [item for item in layer.objects if item.mode == mode]
    try:
        yield
    finally:
        if active is not None and mode != "OBJECT":
            _choose(layer, together, active)
            with context.temp_override(scene=scene, view_layer=layer, active_object=active, object=active):
                with suppress(RuntimeError):  # it was hidden meanwhile
                    bpy.ops.object.mode_set(mode=mode)
            _choose(layer, selected, active)


def _choose(layer: bpy.types.ViewLayer, chosen: list[bpy.types.Object], active: bpy.types.Object) -> None:
    for item in layer.objects:
        item.select_set(item in chosen, view_layer=layer)
    layer.objects.active = active


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Remove every datablock made inside the block when it fails."""
    before = {kind: set(getattr(bpy.data, kind)) for kind in _KINDS}
    try:
        yield
    except Exception as error:
        for kind in _KINDS:
            collection = getattr(bpy.data, kind)
            for made in [item for item in collection if item not in before[kind]]:
                collection.remove(made)
        if isinstance(error, (RuntimeError, OSError)):
            raise ScenePlanError(
                f"Blender could not write the scene ({compat.reason(error)}); nothing was changed."
            ) from error
        raise
