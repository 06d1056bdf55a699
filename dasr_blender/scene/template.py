# SPDX-License-Identifier: GPL-3.0-or-later
"""A category's body put before a clip, to be lined up with it by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np

from ..core import Category, Motion, default_focal, read_views, views_path
from ..core.files import clip_name
from ..core.listing import is_pattern
from ..core.rotation import quat_to_matrix
from .action import pose_basis
from .armature import write_armature
from .build import all_or_nothing, set_picture, set_time
from .camera import CV_FROM_BLENDER, find_background, movie_clip, render_aspect, write_camera
from .mesh import write_mesh
from .plan import ScenePlan, ScenePlanError, plan_scene
from .views import CATEGORY, CLIP, FIRST, key_pose, scene_frame

GLASSY = 0.55  # opacity of the body
FILLS = 0.6  # of the picture, that the body is first shown at
# camera_from_body of a subject that looks to the picture's right: its −Y is the camera's +x, its Z is up
FROM_THE_SIDE = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


def first_pose(category: Category, size: tuple[int, int], focal: float) -> np.ndarray:
    """camera_from_root (4, 4) of the body at rest, seen from its right side, in the middle of the picture.

    size: width and height, pixels.
    """
    seen = category.body.vertices.astype(np.float64) @ FROM_THE_SIDE.T
    low, high = seen.min(0), seen.max(0)
    extent = (high - low) / 2
    depth = focal * max(2 * extent[0] / (FILLS * size[0]), 2 * extent[1] / (FILLS * size[1]))
    pose = np.eye(4)
    pose[:3, :3] = FROM_THE_SIDE
    pose[:3, 3] = -(low + high) / 2 + [0, 0, depth + extent[2]]
    return pose


def template_motion(
    category: Category, clip: bpy.types.MovieClip, fps: float, focal: float = 0.0, frame: int = 0
) -> Motion:
    """The body at rest before one frame of a clip; focal in pixels, 0 for the usual one."""
    size = int(clip.size[0]), int(clip.size[1])
    focal, joints = focal or default_focal(size), len(category.skeleton)
    rest = np.zeros((1, joints, 4))
    rest[..., 0] = 1
    return Motion(
        fps=fps,
        frame_index=np.array([frame]),
        image_size=np.array(size),
        focal_px=np.array([focal]),
        principal_point=np.array(size) / 2,
        camera_from_root=first_pose(category, size, focal)[None],
        joint_rotations=rest,
        morphology=np.zeros(len(category.morphology)),
        appearance=np.zeros(len(category.body.appearance_basis)),
        confidence=np.ones(1),
        joint_confidence=np.ones((1, joints)),
        mask_iou=np.full(1, np.nan),
        category=category.name,
        category_version=category.version,
    )


def add_template(
    category: Category,
    clip: str | Path,
    scene: bpy.types.Scene,
    names: str = "neutral",
    start_frame: int = 1,
    focal: float = 0.0,
    set_scene: bool = False,
    first: int = 0,
    last: int | None = None,
) -> tuple[bpy.types.Object, str]:
    """Put the category's body before a clip; returns the rig, and a warning ("" for none).

    The scene looks through the clip's camera from then on. Views that lie beside the clip already are keyed.

    Args:
        clip: movie, folder of images, or a pattern of images.
        names: bone-name profile of the category.
        start_frame: scene frame that shows the clip's frame `first`.
        focal: pixels; 0 for that of the views, or else the usual one.
        set_scene: give the scene the clip's frame rate, range and render size too.
        first, last: the part of the clip that is used, counted from 0, both of them in it; by default all of it.

    Raises:
        DasrError: the clip or its views cannot be read, or Blender refused; nothing is left behind.
    """
    name, views = clip_name(clip), read_views(views_path(clip), category)
    with all_or_nothing():
        background, _ = find_background(name, clip, start_frame, np.array([first]))
        shown = movie_clip(background) if background else None
        if shown is None:
            missing = not is_pattern(clip) and not Path(clip).exists()
            raise ScenePlanError(
                f"There is no file or folder {clip}: check the path"
                if missing
                else f"Blender cannot show {clip}: choose a video, or images that are numbered one by one"
            )
        end = max(shown.frame_duration, 1) - 1
        if first > end:
            raise ScenePlanError(f"The frame range begins at {first}, and {clip} ends at frame {end}: begin earlier")
        focal = focal or (views[0].focal_px if views else 0.0)
        motion = template_motion(category, shown, shown.fps or 24.0, focal, first)
        plan = plan_scene(
            category, motion, clip_path=clip, names=names, name=f"{name} template", start_frame=start_frame
        )
        marks = {CATEGORY: category.name, CLIP: str(clip), FIRST: float(start_frame - first)}
        plan = replace(plan, armature=replace(plan.armature, properties=marks, switches={}))
        if set_scene:  # before the camera: its background is fitted to the render's shape
            set_picture(scene, plan.settings.resolution)
        armature, warning = _write(plan, scene)
        for view in views:
            frame = scene_frame(armature, view.frame)
            _pose(plan, armature, _world(plan) @ view.camera_from_root, view.joint_rotations)
            key_pose(armature, frame)
    final = start_frame + (end if last is None else min(last, end)) - first
    if set_scene:
        warning = " ".join(filter(None, [warning, *set_time(scene, motion.fps, (start_frame, final))]))
    inside = start_frame <= scene.frame_current <= final
    to_see = scene_frame(armature, views[0].frame) if views else start_frame
    scene.frame_set(scene.frame_current if inside and not views else to_see)
    return armature, warning


def _write(plan: ScenePlan, scene: bpy.types.Scene) -> tuple[bpy.types.Object, str]:
    collection = bpy.data.collections.new(plan.name)
    scene.collection.children.link(collection)
    armature = write_armature(plan.armature, collection, scene)
    _make_glassy(write_mesh(plan.mesh, collection, armature))
    camera, warning = write_camera(plan.camera, collection, render_aspect(scene))
    scene.camera = camera
    _place(plan, armature, plan.action.root_location[0], plan.action.bone_rotations[0])
    for bone in armature.pose.bones:  # a joint turns; it does not leave its place
        bone.lock_scale = (True, True, True)
        bone.lock_location = (bone.parent is not None,) * 3
    return armature, warning


def _make_glassy(mesh: bpy.types.Object) -> None:
    """Let the picture behind the body shine through it, in solid and in rendered views."""
    material = mesh.active_material
    material.diffuse_color[3] = GLASSY
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Alpha"].default_value = GLASSY


def _world(plan: ScenePlan) -> np.ndarray:
    """world_from_camera (4, 4), OpenCV's camera."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = quat_to_matrix(plan.camera.rotation[0]), plan.camera.location[0]
    return pose @ CV_FROM_BLENDER


def _pose(
    plan: ScenePlan, armature: bpy.types.Object, world_from_root: np.ndarray, rotations: np.ndarray
) -> None:
    bones = plan.armature.bones
    axes = np.stack([bone.rotation for bone in bones])
    location, turns = pose_basis(world_from_root[None], rotations[None], axes, bones[0].head)
    _place(plan, armature, location[0], turns[0])


def _place(plan: ScenePlan, armature: bpy.types.Object, location: np.ndarray, turns: np.ndarray) -> None:
    for bone, turn in zip(plan.armature.bones, turns, strict=True):
        pose = armature.pose.bones[bone.name]
        pose.rotation_quaternion = turn
        if bone.parent < 0:
            pose.location = location
