# SPDX-License-Identifier: GPL-3.0-or-later
"""Control rigs that Rigify generated: which controls play the joints, and keys for them.

A control hangs on bones that follow others by constraints, so what it must be keyed with is told by Blender's own
evaluation: joint by joint from the root outwards, until every control points as wanted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..core import Category
from ..core.bone_map import match_bones

_ORIGINAL = "ORG-"  # bones of the metarig, as a generated rig keeps them
_SWITCH = "IK_FK"  # 0: limbs reach for their ends, 1: they turn as their bones are turned
_SWEEPS = 4
_NEAR = 1e-4  # radians


def is_control_rig(target: bpy.types.Object) -> bool:
    """Whether Rigify generated an armature."""
    return "rig_id" in target.data and any(bone.name.startswith(_ORIGINAL) for bone in target.data.bones)


def match_controls(category: Category, target: bpy.types.Object) -> dict[str, str | None]:
    """Joint → control, for as many joints as the rig has one for. The metarig's bones are matched, and their controls
    taken: those that turn limbs and spine, and the torso, which carries all."""
    own = target.data.bones
    kept = [bone for bone in own if bone.name.startswith(_ORIGINAL)]
    names = [bone.name.removeprefix(_ORIGINAL) for bone in kept]
    place = {bone.name: k for k, bone in enumerate(kept)}
    above = [next((place[up.name] for up in bone.parent_recursive if up.name in place), -1) for bone in kept]
    heads = np.array([bone.head_local for bone in kept], np.float64)
    found = match_bones(category, names, np.array(above, np.int64), heads)
    controls: dict[str, str | None] = {}
    for joint, bone in found.items():
        control = None if bone is None else _control(bone, joint, own)
        controls[joint] = None if control in controls.values() else control
    root = category.skeleton.names[0]
    if "torso" in own:
        controls[root] = "torso"
    return controls


def _control(bone: str, joint: str, own: Any) -> str | None:
    stem = re.match(r"(.*?)((?:\.\d+)?(?:\.[LR])?)$", bone)
    named = [f"{stem[1]}_fk{stem[2]}"] if stem else []
    if joint in ("neck", "neck_1", "neck_2"):
        named.append("neck")
    named += {"head": ["head"], "jaw": ["jaw_master"]}.get(joint, [bone])
    return next((name for name in named if name in own), None)


def turn_by_bones(target: bpy.types.Object) -> dict[str, str]:
    """Switch limbs from reaching (IK) to turning (FK); returns bone → path of its switch, for a curve at 1."""
    switched = [bone for bone in target.pose.bones if _SWITCH in bone]
    for bone in switched:
        bone[_SWITCH] = 1.0
    return {bone.name: f'{bone.path_from_id()}["{_SWITCH}"]' for bone in switched}


def control_keys(
    target: bpy.types.Object,
    chosen: Mapping[int, str],
    pointed: Mapping[int, np.ndarray],
    gone: Mapping[int, np.ndarray],
    depth: Mapping[int, int],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """Control → its rotations ``(T, 4)`` wxyz and places ``(T, 3)``, in its own axes at rest; controls that do not
    point as told all the same.

    chosen: joint → control.  pointed ``(T, 3, 3)`` and gone ``(T, 3)``: as `core.retarget` has them, in armature
    space.  depth: how many joints lie above a joint.

    The armature must be shown, and play no action. It is left in the last frame's pose.
    """
    levels = [[j for j in chosen if depth[j] == d] for d in sorted({depth[j] for j in chosen})]
    count = len(next(iter(pointed.values())))
    rotation = {bone: np.empty((count, 4)) for bone in chosen.values()}
    location = {chosen[j]: np.empty((count, 3)) for j in gone}
    off = dict.fromkeys(chosen.values(), 0.0)
    for bone in chosen.values():
        target.pose.bones[bone].matrix_basis.identity()
    for t in range(count):
        wrong = dict.fromkeys(chosen.values(), 0.0)
        for _ in range(_SWEEPS):
            for level in levels:
                shown = target.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
                for j in level:
                    place = Vector(gone[j][t]) if j in gone else None
                    _turn(target, shown, chosen[j], Matrix(pointed[j][t]), place)
                bpy.context.view_layer.update()
            shown = target.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
            for j, name in chosen.items():
                now = shown[name].matrix.to_quaternion()
                wrong[name] = now.rotation_difference(Matrix(pointed[j][t]).to_quaternion()).angle
            if max(wrong.values()) < _NEAR:
                break
        for name, values in rotation.items():
            values[t] = target.pose.bones[name].matrix_basis.to_quaternion()
            off[name] = max(off[name], wrong[name])
        for name, values in location.items():
            values[t] = target.pose.bones[name].matrix_basis.translation
    return rotation, location, [name for name, angle in off.items() if angle > np.radians(2)]


def _turn(target: bpy.types.Object, shown: Any, name: str, turn: Matrix, place: Vector | None) -> None:
    """Pose a control so that it points as told where what it hangs on, or follows, is now: turned by what is left."""
    bone, posed = target.data.bones[name], target.pose.bones[name]
    at, now = Vector(), shown[name].matrix
    if place is not None:
        above = {}
        if bone.parent is not None:
            parent = bone.parent
            above = {"parent_matrix": shown[parent.name].matrix, "parent_matrix_local": parent.matrix_local}
        wanted = Matrix.LocRotScale(place, turn, None)
        at = bone.convert_local_to_pose(wanted, bone.matrix_local, invert=True, **above).translation
    left = now.to_quaternion().inverted() @ turn.to_quaternion()
    posed.matrix_basis = Matrix.LocRotScale(at, posed.matrix_basis.to_quaternion() @ left, None)
