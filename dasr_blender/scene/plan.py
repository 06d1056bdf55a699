# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scene will hold, decided and checked before anything is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import Category, Contacts, DasrError, Motion, MotionError, find_contacts, find_feet
from ..core.contacts import runs
from ..core.files import clip_name
from ..core.rotation import make_continuous, matrix_to_quat
from .action import ActionPlan, contact_property, pose_basis
from .armature import (
    MIN_LENGTH,
    ArmaturePlan,
    BonePlan,
    bone_collection,
    bone_rotation,
    bone_tails,
)
from .camera import CameraPlan, blender_camera, find_background, intrinsics
from .mesh import MeshPlan, ShapeKeyPlan
from .placement import PLACEMENTS, world_from_camera

RELIEF_KEY = "relief"
CATEGORY, SOURCE = "dasr_category", "dasr_source"  # what a rig knows of its body and of its clip
RIG_SUFFIX = " rig"


class ScenePlanError(DasrError):
    """The scene cannot be made as asked."""


@dataclass(frozen=True)
class SceneSettings:
    """What is set on the scene itself, with its active camera, if `set_scene`: rate, range and render size."""

    fps: float
    frame_range: tuple[int, int]
    resolution: tuple[int, int]
    set_scene: bool


@dataclass(frozen=True)
class ScenePlan:
    """Everything that `build_scene` writes. `frames` (T,): the scene frame of each frame of the motion."""

    name: str
    frames: np.ndarray
    mesh: MeshPlan
    armature: ArmaturePlan
    action: ActionPlan
    camera: CameraPlan
    settings: SceneSettings
    body_length: float
    warnings: tuple[str, ...]


def plan_scene(
    category: Category,
    motion: Motion,
    *,
    clip_path: str | Path | None,
    placement: str = "camera",
    names: str = "neutral",
    name: str | None = None,
    start_frame: int = 1,
    set_scene: bool = False,
    texture: Path | None = None,
) -> ScenePlan:
    """Decide the whole scene.

    Args:
        clip_path: the clip, for the camera's background and the name; None for no background.
        placement: "camera" (it stands still), "root" (the subject's root does), "ground" (feet on z = 0).
        names: bone-name profile of the category.
        name: what the collection is called; by default the clip's file name.
        start_frame: scene frame that shows the motion's first frame. Later ones follow at the clip's own
            pace, so that a motion of every second frame still plays in step with the movie.
        set_scene: give the scene the clip's frame rate, range, render size and camera.
        texture: picture in the body's UV map, in place of the motion's appearance.

    Raises:
        ScenePlanError: an argument is unknown, or motion and category do not fit each other.
    """
    _check(category, motion, placement, names)
    name = clip_name(clip_path or motion.source or "clip") if name is None else name.strip() or "clip"
    index = motion.frame_index.astype(np.int64)
    frames = int(start_frame) + index - index[0]

    vertices, joints = category.body.shaped(motion.morphology, motion.relief)
    offset = np.array([0.0, 0.0, -vertices[:, 2].min()])  # the armature rests with its feet on z = 0
    length = float(np.ptp(vertices, axis=0).max())
    at_rest = np.eye(4)
    at_rest[:3, 3] = offset
    feet = find_feet(category, motion)
    world = world_from_camera(placement, category, motion, at_rest, feet)
    contacts = find_contacts(category, motion, feet)

    armature = _plan_armature(category, motion, contacts, vertices, joints, offset, names, name + RIG_SUFFIX)
    axes = np.stack([bone.rotation for bone in armature.bones])
    location, rotations = pose_basis(world @ motion.camera_from_root, motion.joint_rotations, axes, offset)
    action = ActionPlan(
        name=f"{name} motion",
        frames=frames,
        root_location=location,
        bone_rotations=rotations,
        confidence=np.clip(np.nan_to_num(motion.confidence), 0, 1),
        interpolation="BEZIER" if np.any(np.diff(frames) > 1) else "LINEAR",
        contacts=contacts,
        cuts=motion.cuts,
    )
    camera, warning = _plan_camera(motion, world, frames, clip_path, length, name)
    return ScenePlan(
        name=name,
        frames=frames,
        mesh=_plan_mesh(category, motion, offset, armature, texture, f"{name} mesh"),
        armature=armature,
        action=action,
        camera=camera,
        settings=SceneSettings(
            fps=motion.fps,
            frame_range=(int(frames[0]), int(frames[-1])),
            resolution=(int(motion.image_size[0]), int(motion.image_size[1])),
            set_scene=set_scene,
        ),
        body_length=length,
        warnings=(warning,) if warning else (),
    )


def _check(category: Category, motion: Motion, placement: str, names: str) -> None:
    if placement not in PLACEMENTS:
        raise ScenePlanError(f"There is no placement '{placement}'; choose one of {', '.join(PLACEMENTS)}.")
    if names not in category.profiles:
        known = ", ".join(category.profiles)
        raise ScenePlanError(
            f"Category '{category.name}' has no bone names '{names}'; choose one of {known}."
        )
    try:
        motion.validate(category)
    except MotionError as error:
        raise ScenePlanError(f"The motion does not fit the category '{category.name}': {error}") from error
    if np.any(np.diff(motion.frame_index) <= 0):
        raise ScenePlanError("The motion's frames are not in order; reconstruct the clip again.")


def _plan_armature(
    category: Category,
    motion: Motion,
    contacts: Contacts,
    vertices: np.ndarray,
    joints: np.ndarray,
    offset: np.ndarray,
    names: str,
    name: str,
) -> ArmaturePlan:
    skeleton = category.skeleton
    tails = bone_tails(skeleton, joints, vertices, category.body.owner)
    confidence = np.clip(np.nan_to_num(motion.joint_confidence), 0, 1).mean(0)
    touching = MIN_LENGTH * 1e-3 * float(np.ptp(vertices, axis=0).max())
    bones = []
    for j, joint in enumerate(skeleton.names):
        parent = int(skeleton.parents[j])
        bones.append(
            BonePlan(
                name=category.profiles[names][joint],
                joint=joint,
                parent=parent,
                head=joints[j] + offset,
                tail=tails[j] + offset,
                rotation=bone_rotation(joints[j], tails[j]),
                connected=parent >= 0
                and skeleton.main_child(parent) == j
                and bool(np.linalg.norm(tails[parent] - joints[j]) < touching),
                collection=bone_collection(joint, skeleton.roles[j]),
                confidence=float(confidence[j]),
            )
        )
    properties: dict[str, str | float] = {
        CATEGORY: category.name,
        "dasr_category_version": category.version,
        SOURCE: motion.source,
        "mask_iou": motion.mean_mask_iou or 0.0,
        "dasr_contacts": json.dumps(stances(contacts, motion)),
    }
    switches = {contact_property(foot): f"1 while {foot} stands" for foot in contacts.feet}
    return ArmaturePlan(name=name, bones=tuple(bones), properties=properties, switches=switches)


def stances(contacts: Contacts, motion: Motion) -> dict[str, list[list[float]]]:
    """Foot → when it stands, as [from, to] in seconds after the first frame; no stance reaches over a cut.

    For file formats that cannot animate a property: text they can all hold.
    """
    times = (motion.frame_index - motion.frame_index[0]) / motion.fps
    found = {}
    for foot, standing in zip(contacts.feet, contacts.standing.T, strict=True):
        found[foot] = [
            [round(float(times[a]), 4), round(float(times[b - 1]), 4)]
            for a, b in runs(standing, True, motion.shots)
        ]
    return found


def _plan_mesh(
    category: Category,
    motion: Motion,
    offset: np.ndarray,
    armature: ArmaturePlan,
    texture: Path | None,
    name: str,
) -> MeshPlan:
    body = category.body
    keys = []
    for k, proportion in enumerate(category.morphology):
        value = float(motion.morphology[k])
        low, high = min(proportion.minimum, value), max(proportion.maximum, value)
        keys.append(ShapeKeyPlan(proportion.name, body.morphology_vertices[k], value, low, high))
    if len(motion.relief):  # the clip's own shape: 0 takes it away
        keys.append(ShapeKeyPlan(RELIEF_KEY, body.raised(motion.relief), 1.0, 0.0, 1.0))
    return MeshPlan(
        name=name,
        vertices=body.vertices + offset,
        faces=body.faces,
        uv=body.uv,
        colours=body.colours(motion.appearance),
        groups=tuple(bone.name for bone in armature.bones),
        skin_index=body.skin_index,
        skin_weight=body.skin_weight,
        shape_keys=tuple(keys),
        texture=texture,
    )


def _plan_camera(
    motion: Motion,
    world: np.ndarray,
    frames: np.ndarray,
    clip_path: str | Path | None,
    length: float,
    name: str,
) -> tuple[CameraPlan, str]:
    poses = blender_camera(world)  # (1 or T, 4, 4)
    lens, sensor, fit, shift = intrinsics(motion.focal_px, motion.principal_point, motion.image_size)
    depth = motion.camera_from_root[:, 2, 3]
    background, warning = None, ""
    if clip_path is not None:
        background, warning = find_background(name, clip_path, int(frames[0]), motion.frame_index)
    return CameraPlan(
        name=f"{name} camera",
        location=poses[:, :3, 3],
        rotation=make_continuous(matrix_to_quat(poses[:, :3, :3])),
        lens_mm=lens[:1] if np.ptp(lens) < 1e-6 * lens[0] else lens,
        sensor_mm=sensor,
        sensor_fit=fit,
        shift=shift,
        clip_range=(
            float(max(1e-3, min(0.1, 0.1 * (depth.min() - length)))),
            float(max(100.0, 4 * depth.max())),
        ),
        display_size=0.3 * length,
        background=background,
    ), warning
