# SPDX-License-Identifier: GPL-3.0-or-later
"""A character from a file: its armature, and what hangs on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy

from . import compat
from .retarget import RetargetError, bends

SUFFIXES = (".glb", ".gltf", ".fbx", ".blend")


@dataclass(frozen=True)
class Character:
    """objects: the armature first, then the meshes that it bends or carries."""

    objects: tuple[bpy.types.Object, ...]

    @property
    def armature(self) -> bpy.types.Object:
        return self.objects[0]


def read_character(path: Path, scene: bpy.types.Scene) -> Character:
    """Put the objects of a file into `scene`, its motions left out, at rest.

    Raises RetargetError: it cannot be read, or has no armature or more than one with a mesh.
    """
    if not path.is_file():
        raise RetargetError(f"There is no file {path}: give your character's, {_kinds()}")
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise RetargetError(f"{path}: a character is {_kinds()}, not '{path.suffix}'")
    before, played = set(bpy.data.objects), set(bpy.data.actions)
    try:
        with compat.quiet():
            if kind == ".blend":
                _append(path, scene)
            elif kind == ".fbx":
                bpy.ops.import_scene.fbx(filepath=str(path))
            else:
                bpy.ops.import_scene.gltf(filepath=str(path))
    except (RuntimeError, OSError) as error:
        raise RetargetError(f"Cannot read {path}: {compat.reason(error)}") from error
    new = [item for item in bpy.data.objects if item not in before]
    armatures = [item for item in new if item.type == "ARMATURE"]
    bent = {arm: [m for m in new if m.type == "MESH" and bends(arm, m)] for arm in armatures}
    chosen = [arm for arm in armatures if bent[arm]] or armatures
    if len(chosen) != 1:
        many = f"has {len(chosen)} armatures with a mesh ({', '.join(arm.name for arm in chosen)})"
        raise RetargetError(f"{path} {many if chosen else 'has no armature'}: save one character to a file of its own")
    for action in [action for action in bpy.data.actions if action not in played]:
        bpy.data.actions.remove(action)
    armature = chosen[0]
    for bone in armature.pose.bones:
        bone.matrix_basis.identity()
    hung = [item for item in armature.children_recursive if item.type == "MESH"]
    return Character((armature, *dict.fromkeys([*hung, *bent[armature]])))


def _kinds() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _append(path: Path, scene: bpy.types.Scene) -> None:
    with bpy.data.libraries.load(str(path)) as (there, here):
        here.objects = there.objects
    items = [item for item in here.objects if item is not None]
    shapes = {bone.custom_shape for item in items if item.type == "ARMATURE" for bone in item.pose.bones}
    for item in items:
        if item not in shapes:  # those are shown as bones, not by themselves
            scene.collection.objects.link(item)
