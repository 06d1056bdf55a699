# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject's armature: where each bone lies, and the armature object itself."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ..core import Skeleton

MIN_LENGTH = (
    0.02  # of the body's extent: shorter bones cannot be clicked, and Blender deletes those of length 0
)
COLLECTIONS = {"root": "Body", "spine": "Body", "limb": "Legs", "head": "Head", "tail": "Tail"}
ARMS = ("shoulder", "upper_arm", "forearm", "hand")  # joints of a limb that does not carry the body


def bone_collection(joint: str, role: str) -> str:
    """Bone collection of a joint, by its name without a side and its role."""
    return "Arms" if joint.partition(".")[0] in ARMS else COLLECTIONS[role]


@dataclass(frozen=True)
class BonePlan:
    """One bone in armature space. `rotation` (3, 3) takes bone axes to armature axes: column 1 runs from
    head to tail, column 0 is the axis limbs bend about. `parent` is a bone's number, −1 for the root."""

    name: str
    joint: str
    parent: int
    head: np.ndarray
    tail: np.ndarray
    rotation: np.ndarray
    connected: bool
    collection: str
    confidence: float


@dataclass(frozen=True)
class ArmaturePlan:
    """The armature in the clip's proportions; `properties` are facts kept on the object, and `switches` the
    names of those that the motion turns on and off: 0 or 1, with what they mean."""

    name: str
    bones: tuple[BonePlan, ...]
    properties: dict[str, str | float]
    switches: dict[str, str]


def _tip(own: np.ndarray, joint: np.ndarray) -> np.ndarray | None:
    """Middle of the far end of the joint's own vertices (N, 3), None when there are too few."""
    if len(own) < 4:
        return None
    distance = np.linalg.norm(own - joint, axis=1)
    return own[distance >= 0.9 * distance.max()].mean(0)


def bone_tails(skeleton: Skeleton, joints: np.ndarray, vertices: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Where each joint's bone ends, (J, 3), symmetric as the skeleton is.

    A bone ends at its main child; a last bone at the tip of the part it moves (muzzle, toe, ear), or, when
    it moves nothing, half its parent's length further on.

    Args:
        joints: (J, 3) rest joints.
        vertices: (V, 3) rest vertices.
        owner: (V,) the joint with the most weight at each vertex.
    """
    shortest = MIN_LENGTH * float(np.ptp(vertices, axis=0).max())
    tails = np.zeros_like(joints)
    for j in range(len(skeleton)):
        twin, parent, child = int(skeleton.mirror[j]), int(skeleton.parents[j]), skeleton.main_child(j)
        if child is None and twin < j:
            tails[j] = joints[j] + (tails[twin] - joints[twin]) * [-1, 1, 1]
            continue
        tip = joints[child] if child is not None else _tip(vertices[owner == j], joints[j])
        if tip is not None and child is None and twin == j:
            tip = np.array([joints[j, 0], tip[1], tip[2]])
        if tip is None or np.linalg.norm(tip - joints[j]) < shortest:
            onward = joints[j] - joints[parent] if parent >= 0 else np.array([0, -10 * shortest, 0])
            length = float(np.linalg.norm(onward))
            onward = onward / length if length > 1e-9 else np.array([0.0, -1, 0])
            tip = joints[j] + onward * max(length / 2, shortest)
        tails[j] = tip
    return tails


def bone_rotation(head: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """Axes (3, 3) of the bone from `head` to `tail`: Y along it, X as near as can be to the body's left (+X).

    Legs, spine, neck and tail swing fore and aft mostly, which is then a turn about X on both sides; and
    Blender's mirroring of poses expects exactly this symmetry. A bone that itself runs sideways takes the
    vertical instead, with the sign of its side, which is symmetric again.
    """
    y = (tail - head) / np.linalg.norm(tail - head)
    near = np.array([1.0, 0, 0]) if abs(y[0]) < 0.9 else np.array([0, 0, np.sign(y[0])])
    x = near - (near @ y) * y
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def write_armature(
    plan: ArmaturePlan, collection: bpy.types.Collection, scene: bpy.types.Scene
) -> bpy.types.Object:
    """Make the armature object in its rest pose and leave it active, in object mode."""
    data = bpy.data.armatures.new(plan.name)
    armature = bpy.data.objects.new(plan.name, data)
    collection.objects.link(armature)
    _write_bones(plan, armature, scene)

    groups = {name: data.collections.new(name) for name in dict.fromkeys(b.collection for b in plan.bones)}
    for bone_plan in plan.bones:
        bone = data.bones[bone_plan.name]
        groups[bone_plan.collection].assign(bone)
        bone.color.palette = {".L": "THEME04", ".R": "THEME01"}.get(bone_plan.joint[-2:], "DEFAULT")
        pose = armature.pose.bones[bone_plan.name]
        pose.rotation_mode = "QUATERNION"
        pose.color.palette = bone.color.palette
        pose["joint"] = bone_plan.joint
        pose["confidence"] = bone_plan.confidence
        pose.id_properties_ui("confidence").update(
            min=0.0, max=1.0, description="Mean confidence in this joint's rotation over the clip"
        )
    for key, value in plan.properties.items():
        armature[key] = value
    for key, meaning in plan.switches.items():
        armature[key] = 0.0
        armature.id_properties_ui(key).update(min=0.0, max=1.0, description=meaning)
    armature["confidence"] = 1.0
    armature.id_properties_ui("confidence").update(
        min=0.0, max=1.0, description="Confidence in the whole pose at this frame"
    )
    data.display_type = "OCTAHEDRAL"
    armature.show_in_front = True
    return armature


def _write_bones(plan: ArmaturePlan, armature: bpy.types.Object, scene: bpy.types.Scene) -> None:
    context = bpy.context
    layer = context.view_layer if context.scene == scene else scene.view_layers[0]
    if layer.objects.active is not None and layer.objects.active.mode != "OBJECT":
        with context.temp_override(scene=scene, view_layer=layer):
            bpy.ops.object.mode_set(mode="OBJECT")
    for selected in list(layer.objects.selected):
        selected.select_set(False, view_layer=layer)
    layer.objects.active = armature
    armature.select_set(True, view_layer=layer)
    with context.temp_override(scene=scene, view_layer=layer, active_object=armature, object=armature):
        bpy.ops.object.mode_set(mode="EDIT")
        made = []
        for bone_plan in plan.bones:
            bone = armature.data.edit_bones.new(bone_plan.name)
            bone.head, bone.tail = bone_plan.head, bone_plan.tail
            bone.align_roll(bone_plan.rotation[:, 2])
            if bone_plan.parent >= 0:
                bone.parent = made[bone_plan.parent]
                bone.use_connect = bone_plan.connected
            made.append(bone)
        bpy.ops.object.mode_set(mode="OBJECT")
