# SPDX-License-Identifier: GPL-3.0-or-later
"""The motion as one Action with three slots: armature, camera object, camera data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bpy
import numpy as np

from ..core import Contacts
from ..core.rotation import make_continuous, matrix_to_quat, quat_to_matrix
from . import compat
from .armature import ArmaturePlan
from .camera import CameraPlan

RIG_SLOT = "rig"


@dataclass(frozen=True)
class ActionPlan:
    """Keys at the scene's `frames` (T,).

    root_location: (T, 3) of the root bone, in its own rest axes.  bone_rotations: (T, J, 4) wxyz pose
    rotations.  confidence: (T,).  interpolation: "LINEAR" where every frame has a key, else "BEZIER".
    contacts: which foot stands when.  cuts: (C,), which of the T frames begin another shot; nothing moves into them.
    """

    name: str
    frames: np.ndarray
    root_location: np.ndarray
    bone_rotations: np.ndarray
    confidence: np.ndarray
    interpolation: str
    contacts: Contacts
    cuts: np.ndarray


def contact_property(foot: str) -> str:
    """Name of the armature's property that is 1 while the foot stands."""
    return f"contact_{foot}"


# From joints to pose bones.
#
# Armature space is body space moved by o (a shift that puts the resting feet on z = 0). Joint j rests at
# J_j with axis-aligned frame; its bone rests at  B_j = T(J_j + o) · R_j , R_j the bone's own axes. Skinning
# must carry a resting vertex v + o to  M · S_j · v , where M = world_from_root and S_j = G_j · T(−J_j) is
# core's skin transform. Blender skins with P_j · B_j⁻¹ (P_j: posed bone), so
#
#     P_j = M · G_j · T(−J_j) · T(−o) · B_j = M · G_j · R_j .
#
# Blender composes P_j = P_parent · (B_parent⁻¹ · B_j) · basis_j, thus, with G_j = G_p · T(J_j − J_p) · Rot(q_j),
#
#     basis_j = B_j⁻¹ · B_p · P_p⁻¹ · P_j
#             = R_j⁻¹ · T(−(J_j − J_p)) · T(J_j − J_p) · Rot(q_j) · R_j = R_j⁻¹ · Rot(q_j) · R_j :
#
# no translation, and the rotation is q_j seen in the bone's axes. The root has P = M · R, no parent, and
# J = 0, so basis = B⁻¹ · M · R: the rotation is R⁻¹ · M_rot · R and the location R⁻¹ · (M_trans − o).
def pose_basis(
    world_from_root: np.ndarray, joint_rotations: np.ndarray, bone_axes: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Root location (T, 3) and pose rotations (T, J, 4), continuous in sign, for Blender's pose bones.

    Args:
        world_from_root: (T, 4, 4).
        joint_rotations: (T, J, 4) local rotations; the root's (joint 0) is not used.
        bone_axes: (J, 3, 3) `BonePlan.rotation`.
        offset: (3,) armature space minus body space.
    """
    rotation = quat_to_matrix(np.asarray(joint_rotations, dtype=np.float64))
    rotation[:, 0] = world_from_root[:, :3, :3]
    local = np.swapaxes(bone_axes, -1, -2) @ rotation @ bone_axes  # (T, J, 3, 3)
    location = (world_from_root[:, :3, 3] - offset) @ bone_axes[0]  # rows: R⁻¹ · x
    return location, make_continuous(matrix_to_quat(local))


def write_action(
    plan: ActionPlan,
    armature_plan: ArmaturePlan,
    camera_plan: CameraPlan,
    armature: bpy.types.Object,
    camera: bpy.types.Object,
) -> bpy.types.Action:
    """Make the Action and assign its slots. A camera or lens that does not change gets a single key.

    Contacts are curves that step between 0 and 1, and a pose marker at every touch-down; so are there markers where
    shots begin.
    """
    rig_slot, camera_slot, lens_slot = RIG_SLOT, "camera", "lens"  # as in every other clip's: see below
    action, slots, bags = compat.new_action(
        plan.name, {rig_slot: "OBJECT", camera_slot: "OBJECT", lens_slot: "CAMERA"}
    )
    how, cuts = plan.interpolation, plan.cuts
    for j, bone in enumerate(armature_plan.bones):
        path = f'pose.bones["{bpy.utils.escape_identifier(bone.name)}"]'
        if bone.parent < 0:
            write_keys(bags[rig_slot], f"{path}.location", bone.name, plan.frames, plan.root_location, how, cuts)
        values = plan.bone_rotations[:, j]
        write_keys(bags[rig_slot], f"{path}.rotation_quaternion", bone.name, plan.frames, values, how, cuts)
    write_keys(bags[rig_slot], '["confidence"]', "Confidence", plan.frames, plan.confidence[:, None], how, cuts)
    for foot, standing in zip(plan.contacts.feet, plan.contacts.standing.T, strict=True):
        path = f'["{bpy.utils.escape_identifier(contact_property(foot))}"]'
        write_keys(
            bags[rig_slot], path, "Contacts", plan.frames, standing[:, None].astype(float), "CONSTANT"
        )
    for t, foot in plan.contacts.touch_downs(cuts):
        action.pose_markers.new(f"{foot} down").frame = int(plan.frames[t])
    for n, cut in enumerate(cuts, 2):
        action.pose_markers.new(f"shot {n}").frame = int(plan.frames[cut])
    for path, values in (("location", camera_plan.location), ("rotation_quaternion", camera_plan.rotation)):
        moves = cuts if len(values) > 1 else cuts[:0]
        write_keys(bags[camera_slot], path, "Camera", plan.frames[: len(values)], values, how, moves)
    lens = camera_plan.lens_mm[:, None]
    if len(lens) > 1:
        write_keys(bags[lens_slot], "lens", "Lens", plan.frames, lens, how, cuts)
    action.use_frame_range = True
    action.frame_start, action.frame_end = float(plan.frames[0]), float(plan.frames[-1])
    # Blender gives whoever takes another Action the slot that is called as the one before. Were slots called after
    # their objects, a rig that takes another clip's motion would get none, and stand still.
    compat.assign_action(armature, action, slots[rig_slot])
    compat.assign_action(camera, action, slots[camera_slot])
    compat.assign_action(camera.data, action, slots[lens_slot])
    return action


def write_keys(
    bag: object,
    path: str,
    group: str,
    frames: np.ndarray,
    values: np.ndarray,
    interpolation: str,
    cuts: Sequence[int] | np.ndarray = (),
) -> None:
    """One curve in a channelbag for each column of `values` (T, n); interpolation: Blender's name of one; cuts: keys
    that the curve leaps to from the one before."""
    member = bag.groups.get(group) or bag.groups.new(group)
    # as Blender's own keys: X red, Y green and Z blue, and W of quaternions yellow
    colours = {3: "AUTO_RGB", 4: "AUTO_YRGB"}.get(values.shape[1], "AUTO_RAINBOW")
    for index, column in enumerate(values.T):
        curve = bag.fcurves.new(path, index=index)
        curve.group = member
        curve.color_mode = colours
        points = curve.keyframe_points
        points.add(len(frames))
        points.foreach_set("co", np.stack([frames, column], axis=1).astype(np.float32).ravel())
        for field, item in (
            ("interpolation", interpolation),
            ("handle_left_type", "AUTO_CLAMPED"),
            ("handle_right_type", "AUTO_CLAMPED"),
        ):
            number = points[0].bl_rna.properties[field].enum_items[item].value
            points.foreach_set(field, np.full(len(frames), number, dtype=np.int32))
        for cut in cuts:
            before, after = points[int(cut) - 1], points[int(cut)]
            before.interpolation = "CONSTANT"
            before.handle_left_type = after.handle_right_type = "VECTOR"  # slopes are of one shot
        curve.update()
