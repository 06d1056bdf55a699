# SPDX-License-Identifier: GPL-3.0-or-later
"""A template before a clip: it stands where one can see it, and what is set by hand is what is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import bpy
import cv2
import numpy as np
import pytest
from helpers import camera_from_world, camera_vertices, world_vertices
from toy import toy_motion

from dasr_blender.core import (
    Category,
    DasrError,
    Motion,
    View,
    ViewError,
    project,
    read_views,
    transform,
    write_view,
)
from dasr_blender.core.rotation import quat_to_matrix, rotvec_to_matrix
from dasr_blender.scene import views
from dasr_blender.scene.template import add_template

FRAMES, SIZE = 12, (320, 200)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "toy.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 24, SIZE)
    for i in range(FRAMES):
        writer.write(np.full((SIZE[1], SIZE[0], 3), 10 * i, np.uint8))
    writer.release()
    return path


@pytest.fixture
def truth(toy_category: Category) -> Motion:
    """Twelve frames of the mean body, in any attitude."""
    motion = toy_motion(toy_category, FRAMES, image_size=SIZE, seed=3)
    pose, time = motion.camera_from_root.copy(), np.linspace(0, 1, FRAMES)
    pose[:, :3, :3] = rotvec_to_matrix(np.stack([3 * time, 1 - time, 5 * time], 1)) @ pose[:, :3, :3]
    return replace(
        motion,
        camera_from_root=pose,
        morphology=np.zeros(len(motion.morphology)),
        focal_px=np.full(FRAMES, 290.0),
        principal_point=np.array(SIZE) / 2,
    )


def view_at(motion: Motion, i: int) -> View:
    size, point = motion.image_size, motion.principal_point
    return View(
        i, float(motion.focal_px[i]), size, point, motion.camera_from_root[i], motion.joint_rotations[i]
    )


def same(found: View, want: View, tolerance: float = 1e-5) -> None:
    assert found.frame == want.frame and found.image_size.tolist() == want.image_size.tolist()
    assert found.focal_px == pytest.approx(want.focal_px, rel=1e-6)
    np.testing.assert_allclose(found.principal_point, want.principal_point, atol=1e-4)
    np.testing.assert_allclose(found.camera_from_root, want.camera_from_root, atol=tolerance)
    rotations = (quat_to_matrix(np.asarray(v.joint_rotations, np.float64)) for v in (found, want))
    np.testing.assert_allclose(*rotations, atol=tolerance)


def pose_by_hand(rig: bpy.types.Object, category: Category, motion: Motion, i: int) -> None:
    """Turn every bone as a person would who knew the answer: by its posed matrix, one after another."""
    camera = np.linalg.inv(camera_from_world(bpy.context.scene.camera))
    world = [camera @ motion.camera_from_root[i]]
    local = quat_to_matrix(motion.joint_rotations[i])
    joints = category.body.shaped(None)[1]
    for j in range(1, len(joints)):
        step, parent = np.eye(4), int(category.skeleton.parents[j])
        step[:3, :3], step[:3, 3] = local[j], joints[j] - joints[parent]
        world.append(world[parent] @ step)
    from mathutils import Matrix

    for name, pose in zip(category.skeleton.names, world, strict=True):
        bone = rig.pose.bones[name]
        pose = pose.copy()
        pose[:3, :3] = pose[:3, :3] @ np.array(bone.bone.matrix_local, np.float64)[:3, :3]
        bone.matrix = rig.matrix_world.inverted() @ Matrix(pose.tolist())
        bpy.context.view_layer.update()


def test_the_template_stands_in_the_middle_of_the_picture(toy_category: Category, clip: Path) -> None:
    scene = bpy.context.scene
    rig, warning = add_template(toy_category, clip, scene)
    assert warning == "" and rig.animation_data is None and not bpy.data.actions
    camera = scene.camera
    image = camera.data.background_images[0]
    assert image.clip.filepath.endswith("toy.avi") and image.display_depth == "BACK"
    material = rig.children[0].active_material
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    assert material.diffuse_color[3] < 0.7 and shader.inputs["Alpha"].default_value < 0.7  # one sees through it
    view = views.view_of(rig, toy_category, scene)
    seen = transform(camera_from_world(camera), world_vertices(rig.children[0]))
    rest = np.zeros((1, 30, 4))
    rest[..., 0] = 1
    mine = transform(view.camera_from_root, toy_category.posed_vertices(None, rest)[0])
    assert np.abs(seen - mine).max() < 1e-4
    pixels = project(seen, np.array(view.focal_px), view.principal_point)
    low, high = pixels.min(0), pixels.max(0)
    assert np.abs((low + high) / 2 - np.array(SIZE) / 2).max() < 0.1 * SIZE[0]
    assert 0.35 < ((high - low) / SIZE).max() < 0.75
    head, tail = (rig.pose.bones[n].head for n in ("head", "tail_4"))
    assert (camera.matrix_world.inverted() @ head).x > (camera.matrix_world.inverted() @ tail).x
    assert all(rig.pose.bones["head"].lock_location) and not any(rig.pose.bones["root"].lock_location)
    assert views.find_rig(bpy.context) == rig and views.known_frames(rig) == []


def test_what_is_set_by_hand_is_what_is_read(toy_category: Category, truth: Motion, clip: Path) -> None:
    scene = bpy.context.scene
    rig, _ = add_template(toy_category, clip, scene, start_frame=5, focal=290.0, set_scene=True)
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (5, 5 + FRAMES - 1, 5)
    assert (scene.render.resolution_x, scene.render.resolution_y) == SIZE
    for i in (7, 2):
        scene.frame_set(5 + i)
        pose_by_hand(rig, toy_category, truth, i)
        view, path = views.save_view(rig, toy_category, scene)
        same(view, view_at(truth, i))
    assert path == clip.with_name("toy.views.json") and views.known_frames(rig) == [2, 7]
    for found in read_views(clip, toy_category):
        same(found, view_at(truth, found.frame))
    # the pose is there again when one comes back to the frame, and as the motion says
    for i in (2, 7):
        scene.frame_set(views.scene_frame(rig, i))
        same(views.view_of(rig, toy_category, scene), view_at(truth, i))
        seen = transform(camera_from_world(scene.camera), world_vertices(rig.children[0]))
        assert np.abs(seen - camera_vertices(toy_category, truth)[i]).max() < 1e-4
    views.forget_view(rig, 7)
    assert views.known_frames(rig) == [2]
    keys = {p.co.x for curve in _curves(rig) for p in curve.keyframe_points}
    assert keys == {7.0}  # the scene's frame that shows the clip's frame 2
    views.forget_view(rig, 2)
    assert not path.exists() and views.known_frames(rig) == []


def test_a_template_is_in_step_with_a_reconstruction_of_a_part(toy_category: Category, clip: Path) -> None:
    scene = bpy.context.scene
    scene.frame_set(50)
    rig, _ = add_template(toy_category, clip, scene, start_frame=10, set_scene=True, first=3, last=7)
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (10, 14, 10)
    assert views.clip_frame(rig, 10) == 3 and views.scene_frame(rig, 0) == 7
    assert views.view_of(rig, toy_category, scene).frame == 3
    with pytest.raises(DasrError, match=f"begins at {FRAMES}, and .* ends at frame {FRAMES - 1}"):
        add_template(toy_category, clip, scene, first=FRAMES)
    assert len(bpy.data.armatures) == len(bpy.data.movieclips) == 1


def test_a_linked_template_is_left_alone(toy_category: Category, clip: Path, tmp_path: Path) -> None:
    rig, _ = add_template(toy_category, clip, bpy.context.scene)
    views.save_view(rig, toy_category, bpy.context.scene)
    kept, blend = clip.with_name("toy.views.json").read_bytes(), str(tmp_path / "template.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(blend, link=True) as (inside, wanted):
        wanted.collections = inside.collections
    scene = bpy.context.scene
    scene.collection.children.link(wanted.collections[0])
    rig = views.find_rig(bpy.context)
    assert rig is not None
    for change in (
        lambda: views.save_view(rig, toy_category, scene),
        lambda: views.forget_view(rig, 0),
    ):
        with pytest.raises(ViewError, match=r"linked from .*template\.blend"):
            change()
    assert clip.with_name("toy.views.json").read_bytes() == kept


def _curves(rig: bpy.types.Object):
    from dasr_blender.scene.compat import action_curves

    return action_curves(rig.animation_data.action)


def test_views_beside_the_clip_come_with_a_new_template(
    toy_category: Category, truth: Motion, clip: Path
) -> None:
    for i in (3, 9):
        write_view(clip, toy_category, view_at(truth, i))
    scene = bpy.context.scene
    rig, _ = add_template(toy_category, clip, scene)
    assert views.known_frames(rig) == [3, 9] and scene.frame_current == 4
    for i in (3, 9):
        scene.frame_set(views.scene_frame(rig, i))
        same(views.view_of(rig, toy_category, scene), view_at(truth, i))


@pytest.mark.parametrize("images", [False, True])
def test_views_are_kept_where_the_clip_is_now(toy_category: Category, clip: Path, tmp_path: Path, images: bool) -> None:
    shown = tmp_path / "old" / ("take" if images else clip.name)
    shown.parent.mkdir()
    if images:
        shown.mkdir()
        for i in range(3):
            cv2.imwrite(str(shown / f"a.{i:04d}.png"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    else:
        clip.rename(shown)
    rig, _ = add_template(toy_category, shown, bpy.context.scene)
    shown.parent.rename(tmp_path / "new")
    for movie in bpy.data.movieclips:  # as Blender does where the .blend moves with its clip
        movie.filepath = movie.filepath.replace("/old/", "/new/")
    view, path = views.save_view(rig, toy_category, bpy.context.scene)
    assert path.parent == tmp_path / ("new/take" if images else "new") and not (tmp_path / "old").exists()
    assert views.known_frames(rig) == [view.frame]
    views.forget_view(rig, view.frame)
    assert not path.exists()
    views.forget_view(rig, view.frame)  # somebody took the file away


def test_moving_and_scaling_the_rig_as_an_object_counts_too(
    toy_category: Category, truth: Motion, clip: Path
) -> None:
    """Twice as large at twice the distance is the same picture: the body's own size is what is kept."""
    scene = bpy.context.scene
    rig, _ = add_template(toy_category, clip, scene, focal=290.0)
    scene.frame_set(3)
    pose_by_hand(rig, toy_category, truth, 2)
    before = views.view_of(rig, toy_category, scene)
    from mathutils import Matrix, Vector

    eye = scene.camera.matrix_world.translation
    rig.matrix_world = Matrix.Translation(eye) @ Matrix.Scale(2, 4) @ Matrix.Translation(-eye)
    same(views.view_of(rig, toy_category, scene), before)
    rig.matrix_world = Matrix.Translation(Vector((0.3, 0, 0.1)))
    bpy.context.view_layer.update()
    moved = views.view_of(rig, toy_category, scene)
    shift = np.linalg.norm(moved.camera_from_root[:3, 3] - before.camera_from_root[:3, 3])
    assert shift == pytest.approx(np.hypot(0.3, 0.1), abs=1e-5)
    rig.scale = (1, 1, 1.5)
    with pytest.raises(ViewError, match="stretched"):
        views.save_view(rig, toy_category, scene)


def test_the_lens_is_what_the_camera_has(toy_category: Category, clip: Path) -> None:
    scene = bpy.context.scene
    rig, _ = add_template(toy_category, clip, scene)
    data = scene.camera.data
    for fit, sensor in (("HORIZONTAL", (36.0, 22.5)), ("VERTICAL", (36.0, 22.5)), ("AUTO", (36.0, 24.0))):
        data.sensor_fit, (data.sensor_width, data.sensor_height) = fit, sensor
        data.lens, data.shift_x = 45.0, 0.1
        view = views.view_of(rig, toy_category, scene)
        assert view.focal_px == pytest.approx(45 * 320 / 36, rel=1e-6)
        side = SIZE[1] if fit == "VERTICAL" else SIZE[0]
        assert view.principal_point == pytest.approx([160 - 0.1 * side, 100])


def test_what_cannot_be_set_is_said_and_leaves_nothing(
    toy_category: Category, truth: Motion, clip: Path, tmp_path: Path
) -> None:
    scene = bpy.context.scene
    with pytest.raises(DasrError, match=r"no file or folder .*gone\.mp4"):
        add_template(toy_category, tmp_path / "gone.mp4", scene)
    clip.with_name("toy.views.json").write_text("{")
    with pytest.raises(ViewError, match="not a readable file"):
        add_template(toy_category, clip, scene)
    clip.with_name("toy.views.json").unlink()
    assert not scene.objects and not bpy.data.movieclips and not bpy.data.armatures

    assert views.find_rig(bpy.context) is None
    rig, _ = add_template(toy_category, clip, scene)
    with pytest.raises(ViewError, match="a rig of 'toy', not of 'cat'"):
        views.save_view(rig, replace(toy_category, name="cat"), scene)
    scene.frame_set(FRAMES + 1)
    with pytest.raises(ViewError, match="shows no frame of the clip"):
        views.save_view(rig, toy_category, scene)
    scene.frame_set(1)
    rig.pose.bones["root"].location.z -= 100
    rig.pose.bones["root"].location.y += 100
    rig.matrix_world.translation = scene.camera.matrix_world.translation * 2
    rig.location = scene.camera.matrix_world @ rig.location.__class__((0, 0, 200))
    with pytest.raises(ViewError, match="behind the camera"):
        views.save_view(rig, toy_category, scene)
    assert not clip.with_name("toy.views.json").exists() and rig.animation_data is None
    second, _ = add_template(toy_category, clip, scene)
    bpy.context.view_layer.objects.active = None
    assert views.find_rig(bpy.context) is None  # which of the two?
    bpy.context.view_layer.objects.active = second.children[0]
    assert views.find_rig(bpy.context) == second
    bpy.data.objects.remove(scene.camera)
    scene["chosen"] = rig  # as a setting may point at it
    shown = bpy.context.view_layer.layer_collection.children[rig.users_collection[0].name]
    shown.exclude = True
    with pytest.raises(ViewError, match="while it is switched off"):
        views.save_view(rig, toy_category, scene)
    shown.exclude = False
    with pytest.raises(ViewError, match="its one camera"):
        views.view_of(second, toy_category, scene)
