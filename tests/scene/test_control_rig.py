# SPDX-License-Identifier: GPL-3.0-or-later
"""The motion on a control rig that Rigify generated, as Blender then plays it."""

from __future__ import annotations

import subprocess
import sys

import bpy
import numpy as np
import pytest
from toy import toy_motion

from dasr_blender.core import load_category
from dasr_blender.scene import build_scene, plan_scene
from dasr_blender.scene.retarget import RetargetError, matched, retarget

FRAMES = 3


GENERATE = """
import bpy, addon_utils, os, sys
bpy.ops.wm.read_factory_settings(use_empty=True)
if addon_utils.enable("rigify", default_set=True) is not None:
    getattr(bpy.ops.object, f"armature_basic_{sys.argv[1]}_metarig_add")()
    metarig = bpy.context.object
    bpy.ops.pose.rigify_generate()
    rig = next(item for item in bpy.data.objects if item.type == "ARMATURE" and item != metarig)
    bpy.data.libraries.write(sys.argv[2], {rig})
os._exit(0)  # a process that has used Rigify may hang when it ends
"""


@pytest.fixture(scope="module", params=["human", "quadruped"])
def generated(request, tmp_path_factory):
    """A category's name, and a file with the rig that Rigify generates of its basic metarig."""
    path = tmp_path_factory.mktemp("rigify") / "rig.blend"
    command = [sys.executable, "-c", GENERATE, request.param, str(path)]
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    if not path.is_file():
        pytest.skip("Blender has no Rigify here")
    return request.param, path


@pytest.fixture
def rigged(generated):
    """The category, a reconstruction, and the generated rig."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    category = load_category(generated[0])
    motion = toy_motion(category, FRAMES, image_size=(320, 200), seed=3)
    built = build_scene(plan_scene(category, motion, clip_path=None, placement="ground", name="toy"))
    with bpy.data.libraries.load(str(generated[1])) as (there, here):
        here.objects = there.objects
    rig = next(item for item in here.objects if item.type == "ARMATURE")
    built.scene.collection.objects.link(rig)
    bpy.context.view_layer.update()
    return category, built, rig


def along(rig, first, second) -> np.ndarray:
    shown = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    way = shown.matrix_world.to_3x3() @ (shown.pose.bones[second].head - shown.pose.bones[first].head)
    return np.array(way.normalized())


def test_limbs_and_tail_of_a_generated_rig_point_as_the_reconstruction_s(rigged) -> None:
    category, built, rig = rigged
    bones = matched(category, rig)
    assert bones["root"] == "torso" and not any(bone.startswith(("ORG-", "DEF-", "MCH-")) for bone in bones.values())
    done = retarget(category, built.armature, rig, bones, built.scene, in_clip=True)
    assert not any("constraints" in told for told in done.warnings)
    own = {bone["joint"]: bone.name for bone in built.armature.pose.bones if "joint" in bone}
    profile, skeleton = category.profiles["rigify"], category.skeleton
    switches = [bone for bone in rig.pose.bones if "IK_FK" in bone]
    for bone in switches:
        bone["IK_FK"] = 0.0  # as another action may leave it: this one says that limbs turn
    assert len(switches) == 4
    compared = 0
    for frame in range(1, FRAMES + 1):
        built.scene.frame_set(frame)
        for j, joint in enumerate(skeleton.names):
            child = skeleton.main_child(j)
            if skeleton.roles[j] != "limb" or child is None or joint.startswith("shoulder") or "foot" in joint:
                continue
            following = skeleton.names[child]
            bent = along(rig, f"DEF-{profile[joint]}", f"DEF-{profile[following]}")  # what bends the mesh
            wanted = along(built.armature, own[joint], own[following])
            assert bent @ wanted > np.cos(np.radians(1)), (frame, joint)
            compared += 1
    assert compared >= FRAMES * 8


def test_a_generated_rig_that_is_not_shown_is_refused(rigged) -> None:
    category, built, rig = rigged
    bones = matched(category, rig)
    for collection in list(rig.users_collection):
        collection.objects.unlink(rig)
    bpy.context.view_layer.update()
    with pytest.raises(RetargetError, match="not in the scene"):
        retarget(category, built.armature, rig, bones, built.scene)
    assert rig.animation_data is None or rig.animation_data.action is None
