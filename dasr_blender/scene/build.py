# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned scene, written in one go or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import bpy

from .action import write_action
from .armature import write_armature
from .camera import write_camera
from .mesh import write_mesh
from .plan import ScenePlan, ScenePlanError, SceneSettings

_KINDS = ("objects", "meshes", "armatures", "cameras", "actions", "materials", "movieclips", "collections")


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
    a scene without a camera gets this one.

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
        if plan.settings.set_range:
            _set_range(scene, plan.settings)
        if plan.settings.take_over:
            scene.render.resolution_x, scene.render.resolution_y = plan.settings.resolution
            scene.render.resolution_percentage = 100
            scene.render.pixel_aspect_x = scene.render.pixel_aspect_y = 1.0
        render = scene.render
        aspect = render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)
        camera, warning = write_camera(plan.camera, collection, aspect)
        action = write_action(plan.action, plan.armature, plan.camera, armature, camera)
        if plan.settings.take_over or scene.camera is None:
            scene.camera = camera
        if plan.settings.set_range:
            scene.frame_set(plan.settings.frame_range[0])
        else:
            scene.frame_set(scene.frame_current)  # show the pose of the current frame
    names = (scene.name, collection.name, mesh.name, armature.name, camera.name, action.name)
    return BuiltScene(plan, *names, warnings=plan.warnings + ((warning,) if warning else ()))


def frame_rate(fps: float) -> tuple[int, float]:
    """Blender's whole `fps` and the divisor `fps_base` that make up a rate, as 30 and 1.001 for 29.97."""
    whole = max(1, round(fps))
    return whole, whole / fps


def _set_range(scene: bpy.types.Scene, settings: SceneSettings) -> None:
    scene.render.fps, scene.render.fps_base = frame_rate(settings.fps)
    scene.frame_start, scene.frame_end = settings.frame_range


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
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise ScenePlanError(
                f"Blender could not write the scene ({reason}); nothing was changed."
            ) from error
        raise
