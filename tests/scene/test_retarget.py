# SPDX-License-Identifier: GPL-3.0-or-later
"""The motion on another armature, as Blender then plays it."""

from __future__ import annotations

import json
from dataclasses import replace

import bpy
import numpy as np
import pytest
from helpers import world_vertices
from mathutils import Euler, Matrix, Vector
from toy import toy_motion

from dasr_blender.core import Category, forward_kinematics
from dasr_blender.scene import build_scene, compat, plan_scene
from dasr_blender.scene.character import read_character
from dasr_blender.scene.retarget import (
    BONES,
    RetargetError,
    forget_bones,
    is_reconstruction,
    matched,
    reconstruction_category,
    retarget,
)

FREE = ("front_toe.L", "front_toe.R")  # joints whose bones hang on no leg


def character(category: Category, *, scale=0.01, lying=True, spread=0.0, mode="XYZ", free=(), connected=False):
    """An armature with the toy's joints under an artist's names, 100 times as long and scaled back, Y up and turned
    back; its front legs rest spread, its bones' rolls are its own."""
    skeleton, joints = category.skeleton, category.body.joints.astype(float)
    rest = np.zeros((1, len(skeleton), 4))
    rest[..., 0] = 1
    for name, angle in (("front_upper.L", spread), ("front_upper.R", -spread)):
        rest[0, skeleton.index(name)] = [np.cos(angle / 2), 0, np.sin(angle / 2), 0]
    heads = forward_kinematics(skeleton, joints, rest)[0, :, :3, 3]
    heads[:, 2] -= category.body.vertices[:, 2].min()
    data = bpy.data.armatures.new("hero")
    rig = bpy.data.objects.new("hero", data)
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    turn = Matrix.Rotation(-np.pi / 2, 3, "X") if lying else Matrix.Identity(3)
    bpy.ops.object.mode_set(mode="EDIT")
    made = [data.edit_bones.new("Armature_root")]
    made[0].head, made[0].tail = (0, 0, 0), (0, 0, 0.3 / scale)
    for j, joint in enumerate(skeleton.names):
        bone = data.edit_bones.new(f"my {joint}")
        child = next(iter(skeleton.children(j)), None)
        along = heads[child] - heads[j] if child else [0, 0, 0.05]
        bone.head = turn @ Vector(heads[j]) / scale
        bone.tail = bone.head + turn @ Vector(along) / scale
        bone.roll = 0.7 * j
        parent = int(skeleton.parents[j])
        bone.parent = made[0] if joint in free or parent < 0 else made[1 + parent]
        made.append(bone)
    if connected:  # the trunk cannot be moved but by what it hangs on
        made[0].tail = made[1].head
        made[1].use_connect = True
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.scale = (scale,) * 3
    rig.rotation_euler = Euler((np.pi / 2 if lying else 0, 0, 0))
    for bone in rig.pose.bones:
        bone.rotation_mode = mode
    bpy.context.view_layer.update()
    return rig


def heads_in_world(rig, names):
    shown = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return np.array([shown.matrix_world @ shown.pose.bones[name].head for name in names])


@pytest.fixture
def built(toy_category: Category):
    motion = toy_motion(toy_category, 12, image_size=(320, 200), seed=3)
    motion = replace(motion, morphology=np.zeros_like(motion.morphology))
    return build_scene(plan_scene(toy_category, motion, clip_path=None, placement="ground", name="toy"))


def own_names(category: Category) -> dict[str, str]:
    return {joint: f"my {joint}" for joint in category.skeleton.names}


def bones_of(built) -> list[str]:
    return [bone.name for bone in built.plan.armature.bones]


@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ", "AXIS_ANGLE"])
@pytest.mark.parametrize("shape", [{}, {"free": FREE}, {"connected": True}, {"lying": False, "scale": 1.0}])
def test_every_joint_goes_where_the_reconstruction_s_goes(toy_category, built, mode, shape) -> None:
    rig = character(toy_category, spread=0.7, mode=mode, **shape)
    done = retarget(toy_category, built.armature, rig, own_names(toy_category), built.scene, in_clip=True)
    assert done.frames == (1, 12) and done.bones == len(toy_category.skeleton) and not done.warnings
    names = list(own_names(toy_category).values())
    for frame in (1, 5, 12):
        built.scene.frame_set(frame)
        wanted = heads_in_world(built.armature, bones_of(built))
        np.testing.assert_allclose(heads_in_world(rig, names), wanted, atol=2e-4)
    curves = compat.action_curves(bpy.data.actions[done.action])
    assert {len(c.keyframe_points) for c in curves} == {12}
    located = {c.data_path for c in curves if c.data_path.endswith("location")}
    assert len(located) == 1 + len(shape.get("free", ()))  # lengths are the character's own


@pytest.mark.parametrize("stride", [1, 3])
def test_it_does_not_move_into_another_shot(toy_category, stride) -> None:
    motion = toy_motion(toy_category, 12, image_size=(320, 200), seed=3)
    motion = replace(motion, cuts=np.array([4]), frame_index=stride * np.arange(len(motion)))
    built = build_scene(plan_scene(toy_category, motion, clip_path=None, placement="ground", name="toy"))
    rig = character(toy_category)
    retarget(toy_category, built.armature, rig, own_names(toy_category), built.scene, in_clip=True)
    names, cut = list(own_names(toy_category).values()), 1 + 4 * stride
    at = {}
    for frame in (cut - 2, cut - 1.5, cut - 1, cut - 0.1, cut):
        built.scene.frame_set(int(frame), subframe=frame % 1)
        at[frame] = heads_in_world(rig, names)
    np.testing.assert_allclose(at[cut - 0.1], at[cut - 1], atol=1e-6)
    assert np.abs(at[cut] - at[cut - 1]).max() > 1e-3
    if stride == 1:  # within a shot it does move
        assert np.abs(at[cut - 1.5] - at[cut - 2]).max() > 1e-3


@pytest.mark.parametrize("layered", [False, True])
def test_keys_that_were_moved_count_where_they_are(toy_category, built, layered) -> None:
    rig, names, animation = character(toy_category), own_names(toy_category), built.armature.animation_data
    action, slot = animation.action, animation.action_slot
    if layered:
        strip = animation.nla_tracks.new().strips.new("walk", 101, action)
        strip.action_slot, strip.scale = slot, 2
        animation.nla_tracks.new().strips.new("off", 500, action)
        animation.nla_tracks[1].mute = True
        animation.action = None
    else:
        for curve in compat.played_curves(animation):
            for key in curve.keyframe_points:
                key.co_ui.x = 101 + 2 * (key.co_ui.x - 1)
            curve.update()
    done = retarget(toy_category, built.armature, rig, names, built.scene, in_clip=True)
    assert done.frames == (101, 123)
    for frame in (101, 123):
        built.scene.frame_set(frame)
        wanted = heads_in_world(built.armature, bones_of(built))
        np.testing.assert_allclose(heads_in_world(rig, names.values()), wanted, atol=2e-4)


def test_stretched_time_does_not_count(toy_category, built) -> None:
    rig, names, render = character(toy_category), own_names(toy_category), built.scene.render
    render.frame_map_new = 200
    retarget(toy_category, built.armature, rig, names, built.scene, in_clip=True)
    assert (render.frame_map_old, render.frame_map_new) == (100, 200)
    render.frame_map_new = 100
    built.scene.frame_set(12)
    wanted = heads_in_world(built.armature, bones_of(built))
    np.testing.assert_allclose(heads_in_world(rig, names.values()), wanted, atol=2e-4)


def test_where_it_is_it_moves_as_far_as_its_legs_carry_it(toy_category, built) -> None:
    rig = character(toy_category, scale=1.0, lying=False)
    rig.data.transform(Matrix.Scale(2, 4))
    rig.location, rig.rotation_euler = (5, 0, 0), (0, 0, np.pi / 2)
    bpy.context.view_layer.update()
    before = rig.matrix_world.copy()
    done = retarget(toy_category, built.armature, rig, own_names(toy_category), built.scene)
    assert done.scale == pytest.approx(2, abs=1e-4) and rig.matrix_world == before
    for frame in (1, 12):
        built.scene.frame_set(frame)
        there = heads_in_world(built.armature, bones_of(built))
        wanted = 2 * there @ np.array(before.to_3x3()).T + [5, 0, 0]
        np.testing.assert_allclose(heads_in_world(rig, own_names(toy_category).values()), wanted, atol=3e-4)


def test_edits_of_the_reconstruction_count_and_the_former_motion_is_kept(toy_category, built) -> None:
    rig = character(toy_category)
    rig.animation_data_create().action = bpy.data.actions.new("mine")
    rig.pose.bones["my head"].location = (3, 0, 0)
    built.action.pose_markers.new("foot down").frame = 4
    head = built.armature.pose.bones[bones_of(built)[toy_category.skeleton.index("head")]]
    limit = head.constraints.new("LIMIT_ROTATION")
    limit.use_limit_x = limit.use_limit_y = limit.use_limit_z = True
    limit.owner_space = "LOCAL"
    neck = own_names(toy_category) | {"jaw": "", "ear.L": ""}
    done = retarget(toy_category, built.armature, rig, neck, built.scene, in_clip=True)
    assert bpy.data.actions["mine"].use_fake_user and rig.animation_data.action.name == done.action
    assert ("foot down", 4) in {(m.name, m.frame) for m in rig.animation_data.action.pose_markers}
    built.scene.frame_set(7)
    names = bones_of(built)
    np.testing.assert_allclose(
        heads_in_world(rig, ["my head", "my neck_2"]),
        heads_in_world(built.armature, [names[toy_category.skeleton.index(j)] for j in ("head", "neck_2")]),
        atol=2e-4,
    )
    assert matched(toy_category, rig) == neck  # remembered
    rig.data.bones["my head"].name = "other"
    told_anew = matched(toy_category, rig)
    assert told_anew["head"] == "other" and told_anew["jaw"] == "my jaw"
    rig[BONES] = "no JSON"
    assert matched(toy_category, rig) == told_anew


def test_bones_between_and_beside_stay_as_they_are_posed(toy_category, built) -> None:
    rig = character(toy_category, scale=1.0, lying=False, mode="QUATERNION")
    rig.pose.bones["my jaw"].rotation_quaternion = (0.9, 0.1, 0, 0)
    basis = rig.pose.bones["my jaw"].matrix_basis.copy()
    chosen = own_names(toy_category) | {"jaw": "", "spine": "", "hind_upper.L": "", "front_lower.L": ""}
    told = retarget(toy_category, built.armature, rig, chosen, built.scene).warnings
    assert told == ("2 joints had no bone in 'hero': spine, hind_upper.L.",)  # the upper foreleg reaches to the foot
    assert rig.pose.bones["my jaw"].matrix_basis == basis
    assert not any("my jaw" in curve.data_path for curve in compat.action_curves(rig.animation_data.action))


def test_constraints_and_layers_are_told(toy_category, built) -> None:
    rig = character(toy_category)
    rig.pose.bones["my hind_foot.L"].constraints.new("IK")
    track = rig.animation_data_create().nla_tracks.new()
    track.strips.new("old", 1, bpy.data.actions.new("old"))
    names = own_names(toy_category)
    told = " ".join(retarget(toy_category, built.armature, rig, names, built.scene, free=False).warnings)
    assert "my hind_foot.L" in told and "also follow constraints" in told and "NLA" in told


def test_constraints_that_overrule_the_keys_are_switched_off(toy_category, built) -> None:
    rig = character(toy_category, spread=0.4, mode="QUATERNION")
    held = bpy.data.objects.new("held", None)
    built.scene.collection.objects.link(held)
    held.location = (1, 2, 3)
    bones = rig.pose.bones
    for bone, kind, chain in (
        ("my hind_lower.L", "IK", 2), ("my hind_toe.R", "IK", 3), ("Armature_root", "COPY_LOCATION", 0),
        ("my front_foot.R", "IK", 1),
    ):  # fmt: skip
        constraint = bones[bone].constraints.new(kind)
        constraint.target = held
        if chain:
            constraint.chain_count = chain
    bones["my front_foot.R"].constraints[0].mute = True
    names = own_names(toy_category) | {"hind_toe.R": ""}  # whose constraint moves the leg above it

    def off(free: bool) -> tuple[float, set[str], str]:
        told = retarget(toy_category, built.armature, rig, names, built.scene, in_clip=True, free=free).warnings
        keyed = {c.data_path for c in compat.action_curves(rig.animation_data.action) if "constraints" in c.data_path}
        built.scene.frame_set(7)
        played = [joint for joint in names if names[joint]]
        order = [bones_of(built)[toy_category.skeleton.index(joint)] for joint in played]
        wanted = heads_in_world(built.armature, order)
        apart = np.abs(heads_in_world(rig, [names[joint] for joint in played]) - wanted).max()
        return float(apart), keyed, " ".join(told)

    apart, keyed, told = off(free=False)
    assert apart > 0.1 and not keyed and "also follow constraints" in told
    for _ in range(2):  # the second time their influence is 0 because the first action says so
        apart, keyed, told = off(free=True)
        assert apart < 3e-4 and len(keyed) == 3
        assert "3 constraints" in told and "my hind_toe.R" in told and "also follow" not in told
    bones["my hind_lower.L"].constraints[0].driver_add("influence").driver.expression = "1.0"
    apart, keyed, told = off(free=True)
    assert apart > 0.1 and len(keyed) == 2 and "1 bone of 'hero' (my hind_lower.L) also follow" in told


def test_drivers_and_what_holds_the_object_are_told(toy_category, built) -> None:
    rig = character(toy_category)
    rig.pose.bones["my head"].driver_add("rotation_euler", 0).driver.expression = "0.5"
    held = bpy.data.objects.new("held", None)
    built.scene.collection.objects.link(held)
    held.location = (9, 9, 9)
    rig.constraints.new("COPY_LOCATION").target = held
    names = own_names(toy_category)
    told = retarget(toy_category, built.armature, rig, names, built.scene, in_clip=True).warnings
    assert len(told) == 2 and "my head" in told[0] and "drivers" in told[0] and "does not stand in the clip" in told[1]
    assert len(retarget(toy_category, built.armature, rig, names, built.scene).warnings) == 1


@pytest.mark.parametrize("hung", ["nowhere", "on a parent", "on the armature", "by a constraint"])
def test_the_meshes_that_it_bends_stand_in_the_clip_with_it(toy_category, built, hung) -> None:
    rig = character(toy_category, spread=0.7)
    rig.location = (4, 5, 6)
    skin = bpy.data.objects.new("skin", bpy.data.meshes.new("skin"))
    skin.data.from_pydata([tuple(rig.data.bones[name].head_local) for name in own_names(toy_category).values()], [], [])
    for number, name in enumerate(own_names(toy_category).values()):
        skin.vertex_groups.new(name=name).add([number], 1.0, "REPLACE")
    skin.modifiers.new("Armature", "ARMATURE").object = rig
    eyes = skin.copy()  # on the skin, which carries them
    eyes.parent = skin
    for item in (skin, eyes):
        built.scene.collection.objects.link(item)
    bpy.context.view_layer.update()
    skin.matrix_world = rig.matrix_world
    if hung == "on the armature":
        skin.parent, skin.matrix_parent_inverse = rig, rig.matrix_world.inverted()
    elif hung == "on a parent":
        common = bpy.data.objects.new("common", None)
        built.scene.collection.objects.link(common)
        common.rotation_euler = (0, 0, 1)
        rig.parent = skin.parent = common
    elif hung == "by a constraint":
        skin.constraints.new("COPY_LOCATION").target = built.camera
    done = retarget(toy_category, built.armature, rig, own_names(toy_category), built.scene, in_clip=True)
    if hung == "by a constraint":
        (told,) = done.warnings
        assert told.startswith("skin did not go with 'hero', which bends it")  # the eyes did, by themselves
        return
    assert not done.warnings
    built.scene.frame_set(7)
    heads = heads_in_world(rig, own_names(toy_category).values())
    for item in (skin, eyes):
        np.testing.assert_allclose(world_vertices(item), heads, atol=2e-4)


def test_what_cannot_be_is_one_sentence_and_changes_nothing(toy_category, built) -> None:
    rig, names = character(toy_category), own_names(toy_category)
    actions = set(bpy.data.actions)

    def refused(words: str, source=built.armature, target=rig, bones=names) -> None:
        with pytest.raises(RetargetError, match=words):
            retarget(toy_category, source, target, bones, built.scene)
        assert set(bpy.data.actions) == actions and BONES not in rig

    refused("as the target", target=None)
    refused("as the target", target=built.mesh)
    refused("another armature", target=built.armature)
    refused("No bone of 'hero'", bones=dict.fromkeys(names, ""))
    refused("no bone 'Hed'", bones=names | {"head": "Hed"})
    refused("no joint 'fin'", bones={"fin": "my head"})
    refused("chosen for .* and for", bones=names | {"jaw": "my head"})
    for thing in (built.armature, rig):
        thing.data.pose_position = "REST"
        refused(f"'{thing.name}' shows its Rest Position")
        thing.data.pose_position = "POSE"
        bpy.context.view_layer.objects.active = thing
        for item in (built.armature, rig):
            item.select_set(item == thing)
        bpy.ops.object.mode_set(mode="EDIT")
        refused(f"'{thing.name}' is in Edit Mode")
        bpy.ops.object.mode_set(mode="OBJECT")
    animation = rig.animation_data_create()
    track = animation.nla_tracks.new()
    track.strips.new("old", 1, bpy.data.actions.new("old")).select = track.select = True
    animation.nla_tracks.active, actions = track, set(bpy.data.actions)
    animation.use_tweak_mode = True
    refused("'hero' is in the tweak mode of an NLA strip")
    animation.use_tweak_mode = False
    built.scene["chosen"] = built.armature  # as the panel's settings point at it
    shown = bpy.context.view_layer.layer_collection.children[built.collection_name]
    shown.exclude = True
    refused("'toy rig' does not move while it is switched off")
    shown.exclude = False
    built.scene.collection.children.unlink(built.collection)
    refused("'toy rig' is not in scene 'Scene'")
    built.scene.collection.children.link(built.collection)
    del built.armature.pose.bones[bones_of(built)[3]]["joint"]
    refused("lost its bone of chest")
    for thing, name in ((None, "Nothing"), (rig, "'hero'"), (built.mesh, "toy mesh")):
        assert not is_reconstruction(thing)
        with pytest.raises(RetargetError, match=name):
            reconstruction_category(thing)


def test_characters_are_read_from_files(toy_category, built, tmp_path) -> None:
    path = tmp_path / "höro 1.blend"
    rig = character(toy_category)
    mesh = bpy.data.objects.new("skin", bpy.data.meshes.new("skin"))
    mesh.data.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    mesh.vertex_groups.new(name="my chest").add([0, 1, 2], 1.0, "REPLACE")
    mesh.modifiers.new("Armature", "ARMATURE").object = rig
    mesh.parent = rig
    rig.animation_data_create().action = bpy.data.actions.new("old")
    shape = bpy.data.objects.new("shape", bpy.data.meshes.new("shape"))
    rig.pose.bones["my head"].custom_shape = shape
    stands = np.array(rig.matrix_world)
    bpy.data.libraries.write(str(path), {rig, mesh, shape}, fake_user=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found = read_character(path, bpy.context.scene)
    assert [item.name for item in found.objects] == ["hero", "skin"] and not bpy.data.actions
    assert "shape" not in bpy.context.scene.objects and found.armature.pose.bones["my head"].custom_shape is not None
    new = {bone.name: f"Bone.{number:03d}" for number, bone in enumerate(found.armature.data.bones)}
    for name, other in new.items():
        found.armature.data.bones[name].name = other
    told = matched(toy_category, found.armature)  # where it stands is known at once, not only in the next frame
    np.testing.assert_allclose(found.armature.matrix_world, stands, atol=1e-7)
    assert all(told[joint] == new[f"my {joint}"] for joint in ("hind_foot.L", "front_foot.R", "head", "tail_1"))
    gltf = tmp_path / "hero.glb"
    bpy.ops.export_scene.gltf(filepath=str(gltf))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    found = read_character(gltf, bpy.context.scene)
    assert found.armature.type == "ARMATURE" and [item.name for item in found.objects[1:]] == ["skin"]
    for name, content, words in (
        ("none.glb", None, "no file"),
        ("hero.obj", b"", "not '.obj'"),
        ("bad.glb", b"glTF", "Cannot read"),
        ("bad.blend", b"x", "Cannot read"),
    ):
        wrong = tmp_path / name
        if content is not None:
            wrong.write_bytes(content)
        with pytest.raises(RetargetError, match=words):
            read_character(wrong, bpy.context.scene)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.data.libraries.write(str(tmp_path / "empty.blend"), {bpy.data.meshes.new("m")}, fake_user=True)
    with pytest.raises(RetargetError, match="no armature"):
        read_character(tmp_path / "empty.blend", bpy.context.scene)


def test_a_library_override_remembers_its_bones(toy_category, tmp_path) -> None:
    bpy.data.libraries.write(str(tmp_path / "hero.blend"), {character(toy_category)}, fake_user=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    motion = toy_motion(toy_category, 3, image_size=(320, 200))
    built = build_scene(plan_scene(toy_category, motion, clip_path=None, name="toy"))
    with bpy.data.libraries.load(str(tmp_path / "hero.blend"), link=True) as (_, here):
        here.objects = ["hero"]
    built.scene.collection.objects.link(here.objects[0])
    rig = here.objects[0].override_hierarchy_create(built.scene, bpy.context.view_layer)
    chosen = own_names(toy_category) | {"jaw": ""}
    retarget(toy_category, built.armature, rig, chosen, built.scene)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    rig = next(item for item in bpy.data.objects if item.name == "hero" and item.library is None)
    assert matched(toy_category, rig) == chosen
    forget_bones(rig)
    assert matched(toy_category, rig)["jaw"] == "my jaw"


def test_the_remembered_bones_are_plain_json(toy_category, built) -> None:
    rig = character(toy_category)
    rig[BONES] = json.dumps({"human": {"head": "x"}})
    retarget(toy_category, built.armature, rig, own_names(toy_category), built.scene)
    assert json.loads(rig[BONES]) == {"human": {"head": "x"}, toy_category.name: own_names(toy_category)}
