# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's rig in the names that other programs expect, and what is left of it in their formats."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from helpers import camera_vertices, scene_camera_from_root, world_vertices

from dasr_blender.core import Category, Motion, forward_kinematics, load_category, transform
from dasr_blender.demo import DemoOptions, demo_motion
from dasr_blender.scene import build_scene, compat, export_scene, losses, plan_scene
from dasr_blender.scene.plan import ScenePlanError

FRAMES = 7
LIMBS = (("upper_arm", "forearm"), ("forearm", "hand"), ("thigh", "shin"), ("shin", "foot"), ("foot", "toe"))


@pytest.fixture(scope="module")
def human() -> Category:
    return load_category("human")


@pytest.fixture(scope="module")
def stroll(human: Category) -> Motion:
    proportions = (("leg_length", 0.08), ("weight", 0.6), ("sex", 0.7), ("clothing_legs", 0.5))
    return demo_motion(human, DemoOptions(frames=FRAMES, cycle=FRAMES, morphology=proportions))


def world_joints(rig: bpy.types.Object, names: list[str]) -> np.ndarray:
    """Heads (J, 3) of the posed bones in the world, at the current frame."""
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return np.array([rig.matrix_world @ posed.pose.bones[n].head for n in names])


def test_the_scene_is_the_motion(human: Category, stroll: Motion) -> None:
    built = build_scene(plan_scene(human, stroll, clip_path=None, names="unity", placement="ground"))
    expected = camera_vertices(human, stroll)
    for t in (0, 3, 6):
        bpy.context.scene.frame_set(1 + t)
        found = scene_camera_from_root(built)
        np.testing.assert_allclose(found, stroll.camera_from_root[t], atol=1e-4)
        camera = found @ np.linalg.inv(root_world(built))
        vertices = transform(camera, world_vertices(built.mesh))
        assert np.abs(vertices - expected[t]).max() < 2e-3
        assert abs(world_vertices(built.mesh)[:, 2].min()) < 0.05  # the feet stand on the floor


def root_world(built) -> np.ndarray:
    """world_from_root (4, 4) at the current frame."""
    rig = built.armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    bone = built.plan.armature.bones[0]
    posed = np.array(rig.matrix_world @ rig.pose.bones[bone.name].matrix)
    posed[:3, :3] = posed[:3, :3] @ bone.rotation.T
    return posed


@pytest.mark.parametrize("names", ["neutral", "rigify", "mixamo", "unreal", "unity"])
def test_bones_lie_along_the_limbs(human: Category, stroll: Motion, names: str) -> None:
    built = build_scene(plan_scene(human, stroll, clip_path=None, names=names))
    bones, called = built.armature.data.bones, human.profiles[names]
    assert set(bones.keys()) == set(called.values())

    def direction(joint: str) -> np.ndarray:
        bone = bones[called[joint]]
        return np.array((bone.tail_local - bone.head_local).normalized())

    for side, sign in (("L", 1), ("R", -1)):
        for start, end in LIMBS:
            gap = bones[called[f"{start}.{side}"]].tail_local - bones[called[f"{end}.{side}"]].head_local
            assert gap.length < 1e-5
        assert direction(f"upper_arm.{side}")[0] * sign > 0.5 and direction(f"forearm.{side}")[2] < -0.3
        assert direction(f"hand.{side}") @ direction(f"forearm.{side}") > 0.8
        assert direction(f"shin.{side}")[2] < -0.95 and direction(f"toe.{side}")[1] < -0.8
        assert abs(direction(f"thigh.{side}")[0]) < 0.2
        assert bones[called[f"hand.{side}"]].collections[0].name == "Arms"
        assert bones[called[f"toe.{side}"]].collections[0].name == "Legs"
        assert bones[called[f"toe.{side}"]].color.palette == {"L": "THEME04", "R": "THEME01"}[side]
    for joint in ("root", "spine_1", "spine_2", "chest", "neck", "head"):
        assert direction(joint)[2] > 0.85, joint
    left, right = (np.array(bones[called[f"forearm.{s}"]].matrix_local.to_3x3()) for s in "LR")
    mirrored = np.diag([-1.0, 1, 1]) @ left @ np.diag([-1.0, 1, 1])  # Blender's own mirrored pose
    np.testing.assert_allclose(right, mirrored, atol=1e-5)


IMPORTERS = {
    "glb": (0, lambda path: bpy.ops.import_scene.gltf(filepath=path, disable_bone_shape=True)),
    "fbx": (1, lambda path: bpy.ops.import_scene.fbx(filepath=path)),
    "usd": (1, lambda path: bpy.ops.wm.usd_import(filepath=path, set_frame_range=False)),
    "bvh": (1, lambda path: bpy.ops.import_anim.bvh(filepath=path)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "names"),
    [("glb", "mixamo"), ("fbx", "mixamo"), ("fbx", "unreal"), ("glb", "unity"), ("usd", "mixamo"), ("bvh", "mixamo")],
)  # fmt: skip
def test_other_programs_get_the_names_and_the_movement(
    human: Category, stroll: Motion, kind: str, names: str, tmp_path
) -> None:
    built = build_scene(plan_scene(human, stroll, clip_path=None, names=names, set_scene=True))
    called = list(human.profiles[names].values())
    joints, skin, frames = [], [], (0, 3, 6)
    for t in frames:
        bpy.context.scene.frame_set(1 + t)
        joints.append(world_joints(built.armature, called))
        skin.append(world_vertices(built.mesh)[::40])
    # the scene itself says what the motion says, joint by joint
    posed = forward_kinematics(
        human.skeleton, human.body.shaped(stroll.morphology)[1], stroll.joint_rotations
    )
    away = np.linalg.norm(joints[1] - joints[1][0], axis=1)
    np.testing.assert_allclose(away, np.linalg.norm(posed[3, :, :3, 3], axis=1), atol=1e-4)
    path = export_scene(built, tmp_path, [kind], "walk")[kind]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 24
    if kind == "bvh":
        assert compat.enable_addon("io_anim_bvh")
    first, read = IMPORTERS[kind]
    read(str(path))
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    seen = [n.replace(":", "_").replace(".", "_") for n in called] if kind == "usd" else called
    assert set(seen) <= {bone.name for bone in rig.data.bones}
    mesh = next((o for o in bpy.data.objects if o.type == "MESH"), None)
    for i, t in enumerate(frames):
        bpy.context.scene.frame_set(first + t)
        np.testing.assert_allclose(world_joints(rig, seen), joints[i], atol=1e-4 if kind == "bvh" else 3e-3)
        if kind != "bvh":
            assert mesh is not None
            gaps = np.linalg.norm(skin[i][:, None] - world_vertices(mesh)[None], axis=-1)
            assert gaps.min(1).max() < 5e-3


def test_names_that_a_category_lacks_and_a_format_changes(human: Category, stroll: Motion) -> None:
    with pytest.raises(ScenePlanError, match="no bone names 'mixamo'"):
        quadruped = load_category("quadruped")
        still = demo_motion(quadruped, DemoOptions(frames=2))
        plan_scene(quadruped, still, clip_path=None, names="mixamo")
    plan = plan_scene(human, stroll, clip_path=None, names="mixamo")
    assert "':'" in losses(plan, ["usd"])[0] and losses(plan, ["fbx", "glb"]) == []
