# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace

import bpy
import cv2
import numpy as np
import pytest
from helpers import camera_from_world, camera_vertices, scene_camera_from_root, world_vertices
from toy import toy_motion

from dasr_blender.core import find_contacts, project, transform
from dasr_blender.demo import DemoOptions, demo_motion
from dasr_blender.scene import PLACEMENTS, ScenePlanError, build_scene, compat, plan_scene
from dasr_blender.scene.build import mode_kept


def frames_of(built):
    for i, frame in enumerate(built.plan.frames):
        built.scene.frame_set(int(frame))
        yield i


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_camera_sees_the_motion_exactly(toy_category, wild, placement):
    plan = plan_scene(toy_category, wild, clip_path=None, placement=placement)
    built = build_scene(plan)
    expected = camera_vertices(toy_category, wild)
    axes = np.stack([bone.rotation for bone in plan.armature.bones])
    bones = [built.armature.data.bones[bone.name] for bone in plan.armature.bones]
    rest = np.array([np.array(bone.matrix_local)[:3, :3] for bone in bones])
    np.testing.assert_allclose(rest, axes, atol=2e-6)
    for i in frames_of(built):
        pose = scene_camera_from_root(built)
        np.testing.assert_allclose(pose, wild.camera_from_root[i], atol=1e-4)
        in_camera = transform(camera_from_world(built.camera), world_vertices(built.mesh))
        assert np.abs(in_camera - expected[i]).max() < 1e-4 * plan.body_length
    np.testing.assert_array_equal(np.array(built.armature.matrix_world), np.eye(4))


@pytest.mark.parametrize("size", [(320, 200), (200, 320)])
def test_pixels(toy_category, wild, size):
    """Projecting through Blender's own camera matrix gives core's pixels, at every focal length."""
    wild = replace(wild, image_size=np.array(size), principal_point=np.array(size) * [0.53, 0.46])
    built = build_scene(plan_scene(toy_category, wild, clip_path=None, set_scene=True))
    scene = built.scene
    assert (scene.render.resolution_x, scene.render.resolution_y) == size
    expected = project(camera_vertices(toy_category, wild), wild.focal_px, wild.principal_point)
    for i in frames_of(built):
        deps = bpy.context.evaluated_depsgraph_get()
        camera = built.camera.evaluated_get(deps)
        matrix = np.array(camera.calc_matrix_camera(deps, x=size[0], y=size[1])) @ np.array(
            camera.matrix_world.inverted()
        )
        points = world_vertices(built.mesh)
        clip = np.c_[points, np.ones(len(points))] @ matrix.T
        pixels = np.stack(
            [
                (clip[:, 0] / clip[:, 3] + 1) / 2 * size[0],
                (1 - clip[:, 1] / clip[:, 3]) / 2 * size[1],
            ],
            axis=1,
        )
        assert np.abs(pixels - expected[i]).max() < 0.05


def test_what_the_outliner_shows(toy_category, motion):
    built = build_scene(plan_scene(toy_category, motion, clip_path=None, name="goat"))
    assert built.scene.collection.children[0] == built.collection
    assert sorted(o.name for o in built.collection.objects) == ["goat camera", "goat mesh", "goat rig"]
    assert built.mesh.parent == built.armature and built.mesh.modifiers[0].object == built.armature
    rig = built.armature
    assert set(rig.data.collections.keys()) == {"Body", "Legs", "Head", "Tail"}
    assert rig.pose.bones["chest"]["confidence"] == pytest.approx(0.8)
    assert all(bone.rotation_mode == "QUATERNION" for bone in rig.pose.bones)
    assert built.mesh.data.shape_keys.name == "goat mesh"
    assert [key.name for key in built.mesh.data.shape_keys.key_blocks] == [
        "Basis",
        *toy_category.morphology_names,
    ]
    for key, value in zip(built.mesh.data.shape_keys.key_blocks[1:], motion.morphology, strict=True):
        assert key.value == pytest.approx(value, abs=1e-6)
    assert max(len(v.groups) for v in built.mesh.data.vertices) <= 4
    sums = [sum(g.weight for g in v.groups) for v in built.mesh.data.vertices]
    np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_colours(toy_category, motion):
    built = build_scene(plan_scene(toy_category, motion, clip_path=None))
    data = built.mesh.data
    colours = np.empty(4 * len(data.vertices), dtype=np.float32)
    data.color_attributes.active_color.data.foreach_get("color_srgb", colours)
    expected = toy_category.body.colours(motion.appearance)
    np.testing.assert_allclose(colours.reshape(-1, 4)[:, :3], expected, atol=1 / 200)
    tree = built.mesh.active_material.node_tree
    link = next(link for link in tree.links if link.to_socket.name == "Base Color")
    assert link.from_node.layer_name == data.color_attributes.active_color.name
    mean = expected.mean(0) ** 2.2  # for formats whose materials know no colours of vertices
    np.testing.assert_allclose(link.to_socket.default_value[:3], mean, atol=1 / 200)


def test_one_action_with_three_slots(toy_category, wild):
    built = build_scene(plan_scene(toy_category, wild, clip_path=None, placement="root"))
    assert len(bpy.data.actions) == 1
    owners = [built.armature, built.camera, built.camera.data]
    assert [owner.animation_data.action for owner in owners] == [built.action] * 3
    assert len({owner.animation_data.action_slot.handle for owner in owners}) == 3
    assert [s.target_id_type for s in built.action.slots] == ["OBJECT", "OBJECT", "CAMERA"]
    # the colours that Blender gives its own keys
    shown = {curve.data_path.rpartition(".")[2]: curve.color_mode for curve in compat.action_curves(built.action)}
    assert (shown["location"], shown["rotation_quaternion"], shown["lens"]) == ("AUTO_RGB", "AUTO_YRGB", "AUTO_RAINBOW")
    lens = wild.focal_px * 36 / 320
    for i in frames_of(built):
        assert built.camera.data.lens == pytest.approx(lens[i], rel=1e-5)
        assert built.armature["confidence"] == pytest.approx(wild.confidence[i], abs=1e-6)


def test_a_rig_takes_another_clips_motion(toy_category, wild):
    """As by hand in the Action editor, where nothing is said of slots."""
    first, second = (build_scene(plan_scene(toy_category, wild, clip_path=None, name=name)) for name in "ab")
    for owner, other in (
        (first.armature, second.armature),
        (first.camera, second.camera),
        (first.camera.data, second.camera.data),
    ):
        owner.animation_data.action = second.action
        assert owner.animation_data.action_slot == other.animation_data.action_slot


def test_contacts_are_curves_and_markers(toy_category):
    motion = demo_motion(toy_category, DemoOptions(frames=40))
    found = find_contacts(toy_category, motion)
    built = build_scene(plan_scene(toy_category, motion, clip_path=None, start_frame=11))
    assert len(found.touch_downs()) > 3 and found.standing.any(0).all() and not found.standing.all(0).any()
    for i in frames_of(built):
        shown = [built.armature[f"contact_{foot}"] for foot in found.feet]
        np.testing.assert_array_equal(shown, found.standing[i])
    built.scene.frame_set(11 + found.touch_downs()[0][0] - 1, subframe=0.9)
    assert built.armature[f"contact_{found.touch_downs()[0][1]}"] == 0  # it steps, and does not fade
    markers = sorted((m.frame, m.name) for m in built.action.pose_markers)
    assert markers == sorted((11 + t, f"{foot} down") for t, foot in found.touch_downs())
    stances = json.loads(built.armature["dasr_contacts"])
    assert set(stances) == set(found.feet)
    for foot, standing in zip(found.feet, found.standing.T, strict=True):
        frames = np.concatenate([np.arange(round(a * 24), round(b * 24) + 1) for a, b in stances[foot]])
        np.testing.assert_array_equal(frames, np.flatnonzero(standing))


@pytest.mark.parametrize("stride", [1, 3])
def test_nothing_moves_into_another_shot(toy_category, wild, stride):
    cut = replace(wild, cuts=np.array([4]), frame_index=stride * np.arange(len(wild)))
    built = build_scene(plan_scene(toy_category, cut, clip_path=None, placement="root", start_frame=1))
    owners = [(built.armature, "RIG"), (built.camera, "CAMERA")]
    at = {frame: [] for frame in (1 + 3 * stride, 4 * stride + 0.9, 1 + 2 * stride, 3 * stride + 0.9)}
    for frame, seen in at.items():
        built.scene.frame_set(int(frame), subframe=frame % 1)
        seen += [np.array(built.armature.pose.bones[1].matrix), np.array(built.camera.matrix_world)]
        seen.append(built.camera.data.lens)
    last, before_cut, earlier, between = at.values()
    for n in range(len(owners) + 1):
        np.testing.assert_allclose(before_cut[n], last[n], atol=1e-6)
        assert np.abs(np.asarray(between[n]) - earlier[n]).max() > 1e-3  # within a shot it does move
    assert (1 + 4 * stride, "shot 2") in {(m.frame, m.name) for m in built.action.pose_markers}


def test_a_camera_that_turns_turns_in_the_camera_placement(toy_category, wild):
    built = build_scene(plan_scene(toy_category, wild, clip_path=None, placement="camera"))
    first = camera_from_world(built.camera)
    for i in frames_of(built):
        moved = np.linalg.inv(camera_from_world(built.camera))
        np.testing.assert_allclose(first @ moved, wild.world_from_camera[i], atol=1e-4)


def test_constant_focal_length_is_not_keyed(toy_category, motion):
    built = build_scene(plan_scene(toy_category, motion, clip_path=None))
    assert not [c for c in compat.action_curves(built.action) if c.data_path == "lens"]
    camera_keys = [c for c in compat.action_curves(built.action) if c.data_path == "rotation_quaternion"]
    assert [len(c.keyframe_points) for c in camera_keys] == [1] * 4


def test_scene_is_left_alone_unless_asked(toy_category, motion):
    scene = bpy.context.scene
    camera = bpy.data.objects.new("mine", bpy.data.cameras.new("mine"))
    scene.collection.objects.link(camera)
    scene.camera = camera

    def settings():
        r = scene.render
        return (r.fps, r.fps_base, scene.frame_start, scene.frame_end, r.resolution_x, scene.frame_current)

    before = settings()
    build_scene(plan_scene(toy_category, motion, clip_path=None, start_frame=40))
    assert settings() == before and scene.camera == camera
    build_scene(plan_scene(toy_category, motion, clip_path=None, start_frame=40, set_scene=True))
    assert (scene.frame_start, scene.frame_end) == (40, 47)
    assert scene.render.fps / scene.render.fps_base == pytest.approx(25)
    assert scene.camera != camera and (scene.render.resolution_x, scene.render.resolution_y) == (320, 240)
    built = build_scene(plan_scene(toy_category, replace(motion, fps=29.97), clip_path=None, set_scene=True))
    assert scene.camera == built.camera
    assert (scene.render.resolution_x, scene.render.resolution_y) == (320, 240)
    assert scene.render.fps / scene.render.fps_base == pytest.approx(29.97, rel=1e-6)
    built = build_scene(plan_scene(toy_category, motion, clip_path=None, start_frame=-3, set_scene=True))
    assert (scene.frame_start, scene.frame_end) == (0, 4) and "begins at frame -3" in built.warnings[-1]


def test_every_third_frame_stays_in_step(toy_category, motion):
    motion = replace(motion, frame_index=3 * np.arange(8))
    built = build_scene(plan_scene(toy_category, motion, clip_path=None))
    for i in frames_of(built):
        np.testing.assert_allclose(scene_camera_from_root(built), motion.camera_from_root[i], atol=1e-4)
    built.scene.frame_set(2)
    x = scene_camera_from_root(built)[0, 3]
    assert motion.camera_from_root[0, 0, 3] < x < motion.camera_from_root[1, 0, 3]


def test_one_frame(toy_category):
    motion = toy_motion(toy_category, 1)
    built = build_scene(plan_scene(toy_category, motion, clip_path=None, placement="ground"))
    built.scene.frame_set(1)
    np.testing.assert_allclose(scene_camera_from_root(built), motion.camera_from_root[0], atol=1e-4)


def test_rigify_names_while_another_object_is_edited(toy_category, motion):
    other = bpy.data.objects.new("other", bpy.data.armatures.new("other"))
    bpy.context.scene.collection.objects.link(other)
    bpy.context.view_layer.objects.active = other
    bpy.ops.object.mode_set(mode="EDIT")
    built = build_scene(plan_scene(toy_category, motion, clip_path=None, names="rigify"))
    assert set(built.armature.data.bones.keys()) == set(toy_category.profiles["rigify"].values())
    assert other.mode == "OBJECT" and not other.data.bones
    assert bpy.context.view_layer.objects.active == built.armature


def test_who_poses_goes_on_posing(toy_category, motion):
    layer, rigs = bpy.context.view_layer, []
    for name in ("one", "two", "other"):
        rigs.append(bpy.data.objects.new(name, bpy.data.armatures.new(name)))
        bpy.context.scene.collection.objects.link(rigs[-1])
        rigs[-1].select_set(name != "other")
    layer.objects.active = rigs[1]
    bpy.ops.object.mode_set(mode="POSE")
    with mode_kept(bpy.context.scene):
        built = build_scene(plan_scene(toy_category, motion, clip_path=None))
        assert layer.objects.active == built.armature
    assert [rig.mode for rig in rigs] == ["POSE", "POSE", "OBJECT"] and built.armature.mode == "OBJECT"
    assert layer.objects.active == rigs[1] and set(layer.objects.selected) == set(rigs[:2])
    with mode_kept(bpy.context.scene):
        bpy.ops.object.mode_set(mode="OBJECT")
        rigs[1].hide_viewport = True
    assert rigs[1].mode == "OBJECT"  # where it is hidden, nobody can go on
    rigs[1].hide_viewport = False
    with mode_kept(bpy.context.scene):
        built = build_scene(plan_scene(toy_category, motion, clip_path=None))
    assert layer.objects.active == built.armature


def test_failure_leaves_nothing_behind(toy_category, motion, tmp_path, monkeypatch):
    plan = plan_scene(toy_category, motion, clip_path=colour_clip(tmp_path, "movie"))

    def refuse(*args, **kwargs):
        raise RuntimeError("Error: out of memory")

    monkeypatch.setattr("dasr_blender.scene.build.write_action", refuse)
    with pytest.raises(ScenePlanError, match="out of memory"):
        build_scene(plan)
    for kind in (
        "objects",
        "meshes",
        "armatures",
        "cameras",
        "actions",
        "materials",
        "collections",
        "movieclips",
    ):
        assert not len(getattr(bpy.data, kind)), kind


def test_unreadable_background_is_a_warning(toy_category, motion, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no movie")
    built = build_scene(plan_scene(toy_category, motion, clip_path=broken))
    assert "broken.mp4" in built.warnings[0]
    assert not bpy.data.movieclips and not built.camera.data.background_images
    wide = build_scene(plan_scene(toy_category, motion, clip_path=colour_clip(tmp_path, "movie")))
    assert not wide.warnings
    motion.image_size[:] = 480, 640
    turned = build_scene(plan_scene(toy_category, motion, clip_path=tmp_path / "greys.avi"))
    assert "another shape" in turned.warnings[0]


def colour_clip(tmp_path, kind):
    """Twelve frames that differ in grey level, as a folder or a movie."""
    frames = [np.full((48, 64, 3), 20 * i + 10, dtype=np.uint8) for i in range(12)]
    if kind == "folder":
        folder = tmp_path / "greys"
        folder.mkdir()
        for i, frame in enumerate(frames):
            cv2.imwrite(str(folder / f"{i + 7:04d}.png"), frame)
        return folder
    path = tmp_path / "greys.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize("kind", ["folder", "movie"])
def test_background_shows_the_right_frame(toy_category, motion, tmp_path, kind):
    motion = replace(motion, frame_index=3 + np.arange(8), image_size=np.array([64, 48]))
    path = colour_clip(tmp_path, kind)
    built = build_scene(plan_scene(toy_category, motion, clip_path=path, start_frame=31, set_scene=True))
    image = built.camera.data.background_images[0]
    assert built.camera.data.show_background_images and image.alpha == 1
    clip = image.clip
    assert tuple(clip.size) == (64, 48) and clip.frame_duration == 12
    scene = built.scene
    for i in (0, 1, 7):
        scene.frame_set(31 + i)
        assert shown_grey(scene, clip, tmp_path) == pytest.approx(20 * (i + 3) + 10, abs=4)
    # the same clip again is not loaded twice; with another start it is, and the first stays as it was
    build_scene(plan_scene(toy_category, motion, clip_path=path, start_frame=31))
    assert len(bpy.data.movieclips) == 1
    build_scene(plan_scene(toy_category, motion, clip_path=path, start_frame=1))
    assert len(bpy.data.movieclips) == 2 and (clip.frame_start, clip.frame_offset) == (31, 3)


def shown_grey(scene, clip, path):
    """Grey level of the movie clip at the scene's current frame, rendered by Blender's compositor."""
    if bpy.app.version >= (5, 0, 0):
        tree = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        output = tree.nodes.new("NodeGroupOutput")
        scene.compositing_node_group = tree
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("CompositorNodeComposite")
    node = tree.nodes.new("CompositorNodeMovieClip")
    node.clip = clip
    tree.links.new(node.outputs["Image"], output.inputs[0])
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.view_settings.view_transform = "Standard"
    scene.render.filepath = str(path / "shown.png")
    bpy.ops.render.render(write_still=True)
    return float(cv2.imread(scene.render.filepath).mean())
