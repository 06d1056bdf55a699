# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading Blender's evaluated scene back into arrays."""

from __future__ import annotations

import bpy
import numpy as np

from dasr_blender.core import Category, Motion, transform
from dasr_blender.scene import BuiltScene
from dasr_blender.scene.camera import CV_FROM_BLENDER


def world_vertices(mesh: bpy.types.Object) -> np.ndarray:
    """Deformed vertices (V, 3) in the world at the current frame."""
    evaluated = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
    data = evaluated.to_mesh()
    points = np.empty(3 * len(data.vertices), dtype=np.float32)
    data.vertices.foreach_get("co", points)
    matrix = np.array(evaluated.matrix_world)
    evaluated.to_mesh_clear()
    return transform(matrix, points.reshape(-1, 3).astype(np.float64))


def camera_from_world(camera: bpy.types.Object) -> np.ndarray:
    """OpenCV camera from the world, (4, 4), at the current frame."""
    evaluated = camera.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return CV_FROM_BLENDER @ np.linalg.inv(np.array(evaluated.matrix_world, dtype=np.float64))


def scene_camera_from_root(built: BuiltScene) -> np.ndarray:
    """camera_from_root (4, 4) as the scene has it at the current frame."""
    rig = built.armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    bone = built.plan.armature.bones[0]
    world_from_root = np.array(rig.matrix_world @ rig.pose.bones[bone.name].matrix, np.float64)
    world_from_root[:3, :3] = world_from_root[:3, :3] @ bone.rotation.T  # without the bone's own axes
    return camera_from_world(built.camera) @ world_from_root


def camera_vertices(category: Category, motion: Motion) -> np.ndarray:
    """What core says: posed vertices (T, V, 3) in camera space."""
    return transform(motion.camera_from_root, category.posed_vertices(motion))
