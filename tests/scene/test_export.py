# SPDX-License-Identifier: GPL-3.0-or-later
"""What other programs will get, by importing it into an empty Blender again."""

from __future__ import annotations

import json
import os
import struct
import sys
from dataclasses import dataclass

import bpy
import numpy as np
import pytest
from helpers import camera_from_world, world_vertices
from toy import toy_motion

from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.scene import FORMATS, ScenePlanError, build_scene, compat, export_scene, losses, plan_scene

START, FRAMES = 5, 21  # exports must not depend on where the scene starts
SAMPLED = (0, 10, 20)  # every tenth frame
HALF_VIEW = (160 / (1.2 * 320), 120 / (1.2 * 320))  # tangents of half the field of view, across and up


@dataclass
class Original:
    """The scene before export: vertices (n, V, 3), joints (n, J, 3) and cameras (n, 4, 4) in the sampled frames."""

    folder: object
    files: dict
    length: float
    names: list[str]
    vertices: np.ndarray
    joints: np.ndarray
    cameras: np.ndarray
    heads: np.ndarray  # (FRAMES, J, 3), joints in every frame
    contacts: dict[str, list]


def sample(mesh, rig, camera, frames, names=None):
    vertices, joints, cameras = [], [], []
    names = names or [bone.name for bone in rig.pose.bones]
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        evaluated = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
        joints.append([np.array(rig.matrix_world @ evaluated.pose.bones[n].head) for n in names])
        if mesh:
            vertices.append(world_vertices(mesh))
        if camera:
            cameras.append(camera_from_world(camera))
    return np.array(vertices), np.array(joints), np.array(cameras), names


def snapshot(built):
    scene, blocks = built.scene, built.mesh.data.shape_keys.key_blocks
    layer = bpy.context.view_layer
    keys = [
        [tuple(p.co) + tuple(p.handle_left) + tuple(p.handle_right) for p in c.keyframe_points]
        for c in compat.action_curves(built.action)
    ]
    return (
        keys,
        tuple(built.action.frame_range),
        [(b.value, tuple(b.data[7].co)) for b in blocks],
        (scene.render.fps, scene.render.fps_base, scene.frame_start, scene.frame_end, scene.frame_current),
        (scene.name, scene.render.resolution_x, scene.render.resolution_y),
        (layer.objects.active.name, sorted(o.name for o in layer.objects.selected)),
    )


@pytest.fixture(params=["camera", "root"])
def original(request, toy_category, tmp_path):
    motion = toy_motion(toy_category, FRAMES)
    motion.morphology[:] = np.linspace(-0.5, 0.7, len(motion.morphology))
    turn = np.linspace(0, 1, FRAMES)[:, None] * [0.1, 0.3, 0.05]
    motion.world_from_camera[:, :3, :3] = rotvec_to_matrix(turn)
    plan = plan_scene(
        toy_category, motion, clip_path=None, placement=request.param, name="toy", start_frame=START
    )
    built = build_scene(plan)
    frames = [START + i for i in SAMPLED]
    vertices, joints, cameras, names = sample(built.mesh, built.armature, built.camera, frames)
    heads = sample(None, built.armature, None, range(START, START + FRAMES))[1]
    bpy.context.scene.frame_set(9)
    before = snapshot(built)
    contacts = json.loads(built.armature["dasr_contacts"])
    assert any(contacts.values())
    files = export_scene(built, tmp_path / "out", FORMATS, "toy")
    assert snapshot(built) == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(f"toy.{f}" for f in FORMATS)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 25
    return Original(tmp_path / "out", files, plan.body_length, names, vertices, joints, cameras, heads, contacts)


def imported():
    meshes = [o for o in bpy.data.objects if o.type == "MESH"]
    rigs = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    cameras = [o for o in bpy.data.objects if o.type == "CAMERA"]
    assert (len(meshes), len(rigs), len(cameras)) == (1, 1, 1)
    return meshes[0], rigs[0], cameras[0]


def worst_vertex(expected, found):
    """Largest distance over all frames from a vertex to its counterpart: the one whose path is nearest.

    Both ways, because writers split vertices at seams. (n, V, 3) and (n, W, 3).
    """
    distance = np.linalg.norm(expected[:, :, None] - found[:, None], axis=-1).max(0)  # (V, W)
    return max(distance.min(0).max(), distance.min(1).max())


def check(original, first_frame, tolerance):
    mesh, rig, camera = imported()
    assert max(len(v.groups) for v in mesh.data.vertices) <= 4
    frames = [first_frame + i for i in SAMPLED]
    vertices, joints, cameras, _ = sample(mesh, rig, camera, frames, original.names)
    assert worst_vertex(original.vertices, vertices) < tolerance * original.length
    assert np.abs(joints - original.joints).max() < tolerance * original.length
    # and what the lens makes of them: the picture's corners in the camera's own space
    bpy.context.scene.render.resolution_x, bpy.context.scene.render.resolution_y = 320, 240
    frame = np.array(camera.data.view_frame(scene=bpy.context.scene))
    np.testing.assert_allclose(np.abs(frame[:, :2] / frame[:, 2:]), [HALF_VIEW] * 4, rtol=1e-4)
    return cameras


def gltf_of(path):
    blob = path.read_bytes()
    return json.loads(blob[20 : 20 + struct.unpack("<I", blob[12:16])[0]])


def test_glb(original):
    bpy.ops.import_scene.gltf(filepath=str(original.files["glb"]), disable_bone_shape=True)
    cameras = check(original, 0, 0.001)
    np.testing.assert_allclose(cameras, original.cameras, atol=1e-4)
    assert len(bpy.data.actions) == 1
    _, rig, camera = imported()
    assert rig.animation_data.action == camera.animation_data.action
    gltf = gltf_of(original.files["glb"])
    assert len(gltf["animations"]) == 1 and len(gltf["skins"]) == 1
    assert "JOINTS_1" not in str(gltf["meshes"]) and "COLOR_0" in str(gltf["meshes"])
    times = [gltf["accessors"][s["input"]] for s in gltf["animations"][0]["samplers"]]
    assert min(a["min"][0] for a in times) == 0
    assert max(a["max"][0] for a in times) == pytest.approx((FRAMES - 1) / 25, abs=1e-6)
    assert gltf["meshes"][0]["extras"]["targetNames"][0] == "leg_length"
    assert json.loads(rig["dasr_contacts"]) == original.contacts


def test_fbx(original):
    bpy.ops.import_scene.fbx(filepath=str(original.files["fbx"]))
    cameras = check(original, 1, 0.005)
    np.testing.assert_allclose(cameras, original.cameras, atol=5e-4)
    mesh, rig, camera = imported()
    for thing in (rig, camera):
        np.testing.assert_allclose(thing.matrix_world.to_scale(), 1, atol=1e-5)
        assert thing.animation_data.action.name == f"{thing.name}|toy motion"  # the take, among many clips
    assert len(bpy.data.scenes[0].objects) == 3
    keys = [c for c in compat.action_curves(rig.animation_data.action) if "head" in c.data_path]
    assert keys[0].range()[0] == 1
    assert json.loads(rig["dasr_contacts"]) == original.contacts


def test_usd(original):
    bpy.ops.wm.usd_import(filepath=str(original.files["usd"]), set_frame_range=False)
    mesh, rig, camera = imported()
    frames = [START + i for i in SAMPLED]
    names = [bone.name for bone in rig.pose.bones]
    assert len(names) == len(original.names)
    usd_names = [n.replace(".", "_") for n in original.names]
    vertices, joints, cameras, _ = sample(mesh, rig, camera, frames, usd_names)
    assert np.abs(joints - original.joints).max() < 0.001 * original.length
    assert worst_vertex(original.vertices, vertices) < 0.001 * original.length
    np.testing.assert_allclose(cameras, original.cameras, atol=1e-4)
    kept = [str(v) for o in (rig, rig.data, rig.parent) if o for k, v in o.items() if "dasr_contacts" in k]
    assert [json.loads(text) for text in kept[:1]] == [original.contacts]


def test_bvh(original):
    assert compat.enable_addon("io_anim_bvh")
    bpy.ops.import_anim.bvh(filepath=str(original.files["bvh"]))  # Y up, as every reader takes it to be
    rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    assert {b.name for b in rig.data.bones} >= set(original.names)
    _, joints, _, _ = sample(None, rig, None, range(1, 1 + FRAMES), original.names)
    assert np.abs(joints - original.heads).max() < 1e-4
    lines = original.files["bvh"].read_text().splitlines()
    motion = lines.index("MOTION")
    assert lines[motion + 1 : motion + 3] == [f"Frames: {FRAMES}", "Frame Time: 0.040000"]
    channels = [line.split()[1] for line in lines if line.strip().startswith("CHANNELS")]
    assert channels == ["6"] + ["3"] * (len(original.names) - 1)
    rows = [line.split() for line in lines[motion + 3 :]]
    assert len(rows) == FRAMES and {len(row) for row in rows} == {sum(map(int, channels))}


def test_blend(original):
    bpy.ops.wm.open_mainfile(filepath=str(original.files["blend"]))
    mesh, rig, camera = imported()
    vertices, joints, cameras, _ = sample(mesh, rig, camera, [START + i for i in SAMPLED], original.names)
    np.testing.assert_allclose(vertices, original.vertices, atol=1e-6)
    np.testing.assert_allclose(cameras, original.cameras, atol=1e-6)


def test_a_glb_holds_its_own_motion_alone(toy_category, tmp_path):
    plan = plan_scene(toy_category, toy_motion(toy_category, 3), clip_path=None, start_frame=7)
    first, second = build_scene(plan), build_scene(plan)
    for built in (first, second):
        gltf = gltf_of(export_scene(built, tmp_path, ["glb"], built.collection_name)["glb"])
        assert [animation["name"] for animation in gltf["animations"]] == [built.action_name]


def test_a_scene_that_is_not_shown_is_exported(toy_category, tmp_path, monkeypatch):
    shown, other = bpy.context.scene, bpy.data.scenes.new("other")
    mine = bpy.data.objects.new("mine", bpy.data.meshes.new("mine"))
    shown.collection.objects.link(mine)
    bpy.context.view_layer.objects.active = mine
    bpy.ops.object.mode_set(mode="EDIT")
    motion = toy_motion(toy_category, 3, seed=3)
    built = build_scene(plan_scene(toy_category, motion, clip_path=None, name="toy"), other)
    files = export_scene(built, tmp_path, FORMATS, "toy")
    assert bpy.context.scene == shown and bpy.context.mode == "EDIT_MESH" and mine.mode == "EDIT"
    sizes = {kind: path.stat().st_size for kind, path in files.items()}
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.context.window.scene = other
    for kind, path in export_scene(built, tmp_path / "shown", ("glb", "fbx", "usd", "bvh"), "toy").items():
        assert path.stat().st_size == pytest.approx(sizes[kind], rel=0.01)
    bpy.context.window.scene = shown
    monkeypatch.setattr("dasr_blender.scene.export._window", lambda: None)
    with pytest.raises(ScenePlanError, match="no window to export scene 'other' from"):
        export_scene(built, tmp_path / "none", ["glb"], "toy")
    assert not list((tmp_path / "none").iterdir())


def test_files_are_in_metres_whatever_the_scenes_unit(toy_category, tmp_path):
    plan = plan_scene(toy_category, toy_motion(toy_category, 3), clip_path=None)
    unit = bpy.context.scene.unit_settings
    unit.scale_length = 0.01
    built = build_scene(plan)
    _, heads, _, names = sample(None, built.armature, None, [1])
    files = export_scene(built, tmp_path, ["glb", "fbx", "usd"], "toy")
    assert unit.scale_length == pytest.approx(0.01)
    for kind, load, first in (
        ("glb", bpy.ops.import_scene.gltf, 0),
        ("fbx", bpy.ops.import_scene.fbx, 1),
        ("usd", bpy.ops.wm.usd_import, 1),
    ):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        load(filepath=str(files[kind]))
        rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
        np.testing.assert_allclose(rig.matrix_world.to_scale(), 1, atol=1e-5)
        known = [name.replace(".", "_") for name in names] if kind == "usd" else names
        np.testing.assert_allclose(sample(None, rig, None, [first], known)[1], heads, atol=1e-4)


@pytest.mark.parametrize("start", [-4, 3])
def test_all_frames_are_written_whatever_the_scenes_time(toy_category, tmp_path, start):
    plan = plan_scene(toy_category, toy_motion(toy_category, 9, seed=3), clip_path=None, start_frame=start)
    built, render = build_scene(plan), bpy.context.scene.render
    _, heads, _, names = sample(None, built.armature, None, range(start, start + 9))
    render.frame_map_new = 50
    before = snapshot(built)
    files = export_scene(built, tmp_path, ["glb", "fbx", "usd", "bvh"], "toy")
    assert snapshot(built) == before and (render.frame_map_old, render.frame_map_new) == (100, 50)
    assert ("begins at frame 0" in " ".join(losses(plan, files))) == (start < 0)
    for kind, load, first in (
        ("glb", bpy.ops.import_scene.gltf, 0),
        ("fbx", bpy.ops.import_scene.fbx, 1),
        ("usd", bpy.ops.wm.usd_import, max(start, 0)),
        ("bvh", bpy.ops.import_anim.bvh, 1),
    ):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.context.scene.render.fps = 25
        load(filepath=str(files[kind]))
        rig = next(o for o in bpy.data.objects if o.type == "ARMATURE")
        known = [name.replace(".", "_") for name in names] if kind == "usd" else names
        found = sample(None, rig, None, range(first, first + 9), known)[1]
        np.testing.assert_allclose(found, heads, atol=2e-3, err_msg=kind)


def test_bad_requests(toy_category, tmp_path):
    built = build_scene(plan_scene(toy_category, toy_motion(toy_category, 2), clip_path=None))
    with pytest.raises(ScenePlanError, match="'dae'"):
        export_scene(built, tmp_path, ["glb", "dae"], "toy")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ScenePlanError, match="Cannot write .*toy.glb: Not a directory|Cannot write .*: File exists"):
        export_scene(built, tmp_path / "file", ["glb"], "toy")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_in_the_way_is_one_sentence(toy_category, tmp_path, kind):
    built = build_scene(plan_scene(toy_category, toy_motion(toy_category, 2), clip_path=None))
    (tmp_path / f"toy.{kind}").mkdir()
    with pytest.raises(ScenePlanError) as caught:
        export_scene(built, tmp_path, [kind], "toy")
    assert str(caught.value).startswith(f"Cannot write {tmp_path / f'toy.{kind}'}: ")
    assert ".part" not in str(caught.value) and "Errno" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [f"toy.{kind}"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX limits")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_is_one_sentence(toy_category, tmp_path, kind, capfd):
    import resource
    import signal

    built = build_scene(plan_scene(toy_category, toy_motion(toy_category, 9), clip_path=None))
    signals, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    capfd.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ScenePlanError, match=f"^No space left while writing .*toy.{kind}: [^\n]*$"):
            export_scene(built, tmp_path, [kind], "toy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signals)
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())


def test_the_reason_of_an_operators_error():
    report = "Error: Python: Traceback (most recent call last):\n  File 'x.py', line 1, in f\n{}\nLocation: ops.py:9\n"
    for words, expected in (
        (report.format("OSError: [Errno 28] No space left on device"), "No space left on device"),
        (report.format("KeyError: 'bone'"), "KeyError: 'bone'"),
        (report.format("KeyError: 'bone'").replace("Location", "Pfad"), "KeyError: 'bone'"),  # Blender in German
        ("Error: Cannot open file /x.usd\nLocation: ops.py:109\n", "Cannot open file /x.usd"),
        ("Operator bpy.ops.x.poll() failed", "Operator bpy.ops.x.poll() failed"),
        ("", "RuntimeError"),
    ):
        assert compat.reason(RuntimeError(words)) == expected


def test_one_frame(toy_category, tmp_path):
    built = build_scene(plan_scene(toy_category, toy_motion(toy_category, 1), clip_path=None))
    assert set(export_scene(built, tmp_path, FORMATS, "still")) == set(FORMATS)


def test_names_in_any_script_come_back(toy_category, tmp_path):
    built = build_scene(plan_scene(toy_category, toy_motion(toy_category, 2), clip_path=None, name="歩く_ä"))
    files = export_scene(built, tmp_path, ["glb", "fbx", "usd", "bvh"], "歩く ä")
    for kind, read in (
        ("glb", bpy.ops.import_scene.gltf),
        ("fbx", bpy.ops.import_scene.fbx),
        ("usd", bpy.ops.wm.usd_import),
        ("bvh", bpy.ops.import_anim.bvh),
    ):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        read(filepath=str(files[kind]))
        (rig,) = [item for item in bpy.data.objects if item.type == "ARMATURE"]
        assert rig.name.startswith("歩く"), kind


def test_what_a_format_cannot_hold(toy_category, wild):
    zooming = plan_scene(toy_category, wild, clip_path=None)
    assert len(losses(zooming, ["glb"])) == 2 and not losses(zooming, ["fbx", "blend"])
    plain = plan_scene(toy_category, toy_motion(toy_category, 3), clip_path=None)
    assert not losses(plain, ["glb"]) and "BVH" in losses(plain, ["bvh"])[0]
    assert "'_' for '.'" in losses(plain, ["usd"])[0]
    upright = plan_scene(toy_category, toy_motion(toy_category, 3, image_size=(240, 320)), clip_path=None)
    assert "Sensor Fit" in losses(upright, ["fbx"])[0] and not losses(plain, ["fbx"])


def test_an_upright_camera_in_fbx(toy_category, tmp_path):
    plan = plan_scene(toy_category, toy_motion(toy_category, 2, image_size=(240, 320)), clip_path=None)
    file = export_scene(build_scene(plan), tmp_path, ["fbx"], "toy")["fbx"]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.fbx(filepath=str(file))
    scene, lens = bpy.context.scene, imported()[2].data
    scene.render.resolution_x, scene.render.resolution_y = 240, 320
    lens.sensor_fit = "VERTICAL"  # what `losses` advises
    frame = np.array(lens.view_frame(scene=scene))
    half_view = (120 / (1.2 * 320), 160 / (1.2 * 320))
    np.testing.assert_allclose(np.abs(frame[:, :2] / frame[:, 2:]), [half_view] * 4, rtol=1e-4)


def test_a_windowed_blender_has_no_streams_to_silence(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # so it is on Windows
    monkeypatch.setattr(sys, "stderr", None)
    with compat.quiet():
        print("said by an exporter")
