# SPDX-License-Identifier: GPL-3.0-or-later
"""A template's pose before its clip, read back as a hand-set `View`, kept and forgotten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import bpy
import numpy as np

from ..core import Category, View, ViewError, remove_view, views_path, write_view
from ..core.rotation import matrix_to_quat
from ..core.views import set_frames
from .build import is_evaluated
from .camera import CV_FROM_BLENDER, clip_path, images_behind
from .plan import CATEGORY

# what a template's armature object knows of itself beside its category: clip, and scene frame of the clip's first frame
CLIP, FIRST = "dasr_clip", "dasr_clip_start"


def find_rig(context: bpy.types.Context) -> bpy.types.Object | None:
    """The template that is meant: the active one, or the active mesh's, or else the scene's only one."""
    active = context.view_layer.objects.active if context.view_layer else None
    for found in (active, active.parent if active else None):
        if _ours(found):
            return found
    rigs = [item for item in context.scene.objects if _ours(item)]
    return rigs[0] if len(rigs) == 1 else None


def _ours(item: bpy.types.Object | None) -> bool:
    return item is not None and item.type == "ARMATURE" and CLIP in item


def known_frames(armature: bpy.types.Object) -> list[int]:
    """Frames of the clip, from 0, whose view is kept."""
    return set_frames(views_path(clip_of(armature)))


def clip_of(armature: bpy.types.Object) -> str:
    """The clip that a template stands before, as it was given, in the folder where its movie clip is now."""
    given, shown = str(armature[CLIP]), None
    with suppress(ViewError):
        shown = _background(_camera(armature))
    if shown is None:
        return given
    path = clip_path(shown)
    if shown.source != "SEQUENCE":
        return path
    folder, name = os.path.split(path)
    return path if os.path.splitext(given)[1].lower() == os.path.splitext(name)[1].lower() else folder


def clip_frame(armature: bpy.types.Object, scene_frame: int) -> int:
    """Number, from 0, of the clip's frame that the scene shows."""
    background = _background(_camera(armature))
    if background is None:
        return scene_frame - int(armature[FIRST])
    return scene_frame - background.frame_start + background.frame_offset


def scene_frame(armature: bpy.types.Object, frame: int) -> int:
    """The scene frame that shows the clip's frame number `frame`."""
    return frame - clip_frame(armature, 0)


def _camera(armature: bpy.types.Object) -> bpy.types.Object:
    beside = [item for group in armature.users_collection for item in group.objects if item.type == "CAMERA"]
    if len(beside) != 1:
        raise ViewError(f"The collection of {armature.name} must hold its one camera; put it back there.")
    return beside[0]


def _background(camera: bpy.types.Object) -> bpy.types.MovieClip | None:
    return next((image.clip for image in images_behind(camera)), None)


# Of a pose bone's posed matrix P and its resting axes R (see `action`): P = M · G · R, with M the root's pose and G
# the joint's turn, so that the rotation of P · Rᵀ is M · G_j, and Rot(q_j) = (M · G_parent)ᵀ · (M · G_j). The root's
# joint is the origin of body space: M's translation is P's.
def view_of(armature: bpy.types.Object, category: Category, scene: bpy.types.Scene) -> View:
    """What the scene shows now: the body before the camera, however it was moved there.

    A rig that was scaled stands for one of the body's own size at another depth, which the camera cannot tell apart.

    Raises:
        ViewError: the rig is not the category's, is stretched or switched off, or stands before no clip.
    """
    if armature[CATEGORY] != category.name:
        raise ViewError(f"{armature.name} is a rig of '{armature[CATEGORY]}', not of '{category.name}'.")
    camera = _camera(armature)
    clip = _background(camera)
    if clip is None or not clip.size[0]:
        raise ViewError(f"The camera of {armature.name} shows no clip; add the template again.")
    bpy.context.view_layer.update()
    graph = bpy.context.evaluated_depsgraph_get()
    rig, lens = armature.evaluated_get(graph), camera.evaluated_get(graph)
    for item in (armature, camera):
        if not is_evaluated(item):
            raise ViewError(
                f"{item.name} does not move while it is switched off: tick its collection in the Outliner, and switch "
                "on the monitor icons of both."
            )
    bones = {str(bone["joint"]): bone for bone in rig.pose.bones if "joint" in bone}
    missing = [name for name in category.skeleton.names if name not in bones]
    if missing:
        raise ViewError(f"{armature.name} has no bone for '{missing[0]}' of '{category.name}'; add it anew.")
    object_pose = np.array(rig.matrix_world, np.float64)
    posed = np.array([np.array(bones[name].matrix, np.float64) for name in category.skeleton.names])
    rest = np.array(
        [np.array(bones[name].bone.matrix_local, np.float64)[:3, :3] for name in category.skeleton.names]
    )
    camera_pose = np.array(lens.matrix_world, np.float64)
    camera_pose[:3, :3] = _rotation(camera_pose[:3, :3], lens.name)[0]
    turned = CV_FROM_BLENDER @ np.linalg.inv(camera_pose) @ object_pose @ posed  # (J, 4, 4)
    each = [_rotation(pose[:3, :3], armature.name) for pose in turned]
    rotation = np.stack([turn for turn, _ in each]) @ np.swapaxes(rest, 1, 2)  # M · G_j
    local = rotation.copy()
    local[1:] = np.swapaxes(rotation[category.skeleton.parents[1:]], 1, 2) @ rotation[1:]
    local[0] = np.eye(3)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation[0], turned[0, :3, 3] / each[0][1]
    size, focal, point = _picture(lens.data, clip)
    frame = clip_frame(armature, scene.frame_current)
    if not 0 <= frame < max(clip.frame_duration, 1):
        raise ViewError(
            f"The scene's frame {scene.frame_current} shows no frame of the clip; go to one that does."
        )
    return View(frame, focal, size, point, pose, matrix_to_quat(local))


def _rotation(matrix: np.ndarray, name: str) -> tuple[np.ndarray, float]:
    """The rotation (3, 3) and the size of a matrix; ViewError when it stretches or mirrors."""
    u, sizes, v = np.linalg.svd(matrix)
    if np.linalg.det(matrix) <= 0 or np.ptp(sizes) > 1e-3 * sizes.mean():
        raise ViewError(f"{name} is stretched or mirrored; give it the same scale along all axes.")
    return u @ v, float(sizes.mean())


def _picture(data: bpy.types.Camera, clip: bpy.types.MovieClip) -> tuple[np.ndarray, float, np.ndarray]:
    """Picture size (2,), focal length and principal point (2,) in pixels, the inverse of `camera.intrinsics`."""
    width, height = int(clip.size[0]), int(clip.size[1])
    wide = data.sensor_fit == "HORIZONTAL" or (data.sensor_fit == "AUTO" and width >= height)
    sensor = data.sensor_width if wide or data.sensor_fit == "AUTO" else data.sensor_height
    side = width if wide else height
    point = np.array([width / 2 - data.shift_x * side, height / 2 + data.shift_y * side])
    return np.array([width, height]), float(data.lens * side / sensor), point


# -- keeping -------------------------------------------------------------------------------------------------


def save_view(armature: bpy.types.Object, category: Category, scene: bpy.types.Scene) -> tuple[View, Path]:
    """Write what the scene shows now beside the clip, and key the rig's pose there. Raises ViewError."""
    _check_own(armature)
    view = view_of(armature, category, scene)
    path = write_view(clip_of(armature), category, view)
    key_pose(armature, scene.frame_current)
    return view, path


def forget_view(armature: bpy.types.Object, frame: int) -> None:
    """Remove a frame's view from the file, and the rig's keys there. Raises ViewError."""
    _check_own(armature)
    remove_view(views_path(clip_of(armature)), frame)
    if armature.animation_data is None or armature.animation_data.action is None:
        return
    for owner, name in _parts(armature):
        with suppress(RuntimeError):  # it has no such key any more
            owner.keyframe_delete(name, frame=scene_frame(armature, frame))


def _check_own(armature: bpy.types.Object) -> None:
    """Raise ViewError for a rig whose keys belong to another .blend."""
    action = armature.animation_data.action if armature.animation_data else None
    for item in (armature, action):
        if item is not None and item.library is not None:
            raise ViewError(
                f"{item.name} is linked from {bpy.path.abspath(item.library.filepath)}: set views in that file, or "
                "make it local (Object › Relations › Make Local › All)."
            )


def key_pose(armature: bpy.types.Object, frame: int) -> None:
    """Key a rig as it stands at a scene frame."""
    for owner, name in _parts(armature):
        owner.keyframe_insert(name, frame=frame)


def _parts(armature: bpy.types.Object) -> Iterator[tuple[bpy.types.bpy_struct, str]]:
    """What makes up the pose of a rig, as owner and property."""
    turn = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}
    for owner in (armature, *armature.pose.bones):
        yield owner, turn.get(owner.rotation_mode, "rotation_euler")
        if owner == armature or owner.parent is None:
            yield owner, "location"
    yield armature, "scale"
