# SPDX-License-Identifier: GPL-3.0-or-later
"""A small rig built in Blender, exported, baked: what comes back must move as Blender moves it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dasr_blender.training.errors import TrainingError
from dasr_blender.training.synth import bake as baking
from dasr_blender.training.synth.rig import load_rig
from dasr_blender.training.synth.rigs import RIGS, RigSpec, find_bone, rig_file

# Builds a box of several segments on four bones, turned a quarter about Z (it looks along +X) and three times
# too large, animates it, exports it, bakes it, and stores Blender's own evaluated vertices of some frames.
_BUILD = """
    import bpy, sys, math, numpy as np
    from dasr_blender.training.synth.bake import bake
    from dasr_blender.training.synth.rigs import Link, RigSpec

    folder = sys.argv[1]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 24
    heads = {"rump": (-1.5, 0, 3), "breast": (1.5, 0, 3)}
    for x, end in ((1.4, "front"), (-1.4, "hind")):
        for y, side in ((0.5, "L"), (-0.5, "R")):
            heads[end + "." + side] = (x, y, 2.6)
    data = bpy.data.armatures.new("bones")
    arm = bpy.data.objects.new("bones", data)
    bpy.context.collection.objects.link(arm)
    bpy.context.view_layer.objects.active = arm
    bpy.ops.object.mode_set(mode="EDIT")
    for name, head in heads.items():
        bone = data.edit_bones.new(name)
        bone.head, bone.tail = head, (head[0], head[1], head[2] - 1)
        if name not in ("rump",):
            bone.parent = data.edit_bones["breast" if name.startswith("front") else "rump"]
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=8, y_subdivisions=6, size=3.2, location=(0, 0, 2.5))
    grid = bpy.context.object
    bpy.ops.object.transform_apply(location=True)
    groups = {name: grid.vertex_groups.new(name=name) for name in heads}
    for v in grid.data.vertices:
        for name, head in heads.items():
            weight = math.exp(-sum((a - b) ** 2 for a, b in zip(v.co, head)))
            groups[name].add([v.index], weight, "REPLACE")
    grid.parent = arm
    grid.modifiers.new("Armature", "ARMATURE").object = arm
    material = bpy.data.materials.new("red")
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (1.0, 0.0, 0.0, 1.0)
    grid.data.materials.append(material)
    loose = bpy.data.meshes.new("loose")
    loose.from_pydata([(9, 9, 9), (10, 9, 9), (9, 10, 9)], [], [(0, 1, 2)])
    bpy.context.collection.objects.link(bpy.data.objects.new("loose", loose))
    for frame, angle in ((0, 0.0), (10, 0.9)):
        for name in heads:
            bone = arm.pose.bones[name]
            bone.rotation_mode = "XYZ"
            bone.rotation_euler = (angle, 0.3 * angle, -0.5 * angle)
            bone.keyframe_insert("rotation_euler", frame=frame)
    bpy.context.scene.frame_end = 10
    bpy.ops.export_scene.gltf(filepath=folder + "/box.glb", export_animations=True)

    links = {"front_upper." + s: Link(("front." + s,), "front." + s) for s in "LR"}
    links |= {"hind_upper." + s: Link(("hind." + s,), "hind." + s) for s in "LR"}
    spec = RigSpec(links)
    bake(folder + "/box.glb", folder + "/box.npz", spec=spec)
    arm = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    grid = next(o for o in bpy.data.objects if o.type == "MESH" and o.parent == arm)
    truth = []
    for frame in (0, 4, 10):
        bpy.context.scene.frame_set(frame)
        seen = grid.evaluated_get(bpy.context.evaluated_depsgraph_get())
        world = np.array(seen.matrix_world)
        truth.append(np.array([v.co[:] for v in seen.data.vertices]) @ world[:3, :3].T + world[:3, 3])
    np.save(folder + "/truth.npy", np.stack(truth))
    sys.stdout.flush()
    __import__("os")._exit(0)
"""


@pytest.fixture(scope="module")
def baked(tmp_path_factory):
    pytest.importorskip("bpy")
    folder = tmp_path_factory.mktemp("box")
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_BUILD), str(folder)],
        timeout=180,
        capture_output=True,
        text=True,
    )
    assert (folder / "truth.npy").exists(), result.stderr[-2000:]
    return folder


def _to_file_space(points, truth, vertices, rest_truth, scale):
    """Undo the bake's quarter turn and scale: file x is forward (-y baked), file y is left (+x baked)."""
    turned = np.stack([-points[..., 1], points[..., 0], points[..., 2]], -1) / scale
    rest = np.stack([-vertices[:, 1], vertices[:, 0], vertices[:, 2]], -1) / scale
    return turned + (rest_truth.min(0) - rest.min(0))


def test_skinning_with_the_baked_matrices_is_blenders_own_deformation(baked):
    rig = load_rig(baked / "box.npz")
    truth = np.load(baked / "truth.npy")
    scale = float(np.load(baked / "box.npz")["scale"])
    assert rig.clip_names and len(rig.pose) == 11
    posed = _to_file_space(rig.skin(np.array([0, 4, 10])), truth, rig.vertices, truth[0], scale)
    for ours, theirs in zip(posed, truth, strict=True):
        gap = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
        # both ways: every vertex is where Blender has one, and none of Blender's is missing
        assert max(gap.min(1).max(), gap.min(0).max()) * scale < 1e-4
    assert np.abs(truth[2] - truth[0]).max() > 0.5  # it did move


def test_the_baked_rig_stands_on_the_floor_looks_along_minus_y_and_has_the_nominal_torso(baked):
    rig = load_rig(baked / "box.npz")
    names = list(rig.bone_names)
    front = (rig.bone_heads[names.index("front.L")] + rig.bone_heads[names.index("front.R")]) / 2
    hind = (rig.bone_heads[names.index("hind.L")] + rig.bone_heads[names.index("hind.R")]) / 2
    assert np.linalg.norm(front - hind) == pytest.approx(baking.TORSO_LENGTH, abs=1e-4)
    assert front[1] < hind[1] and rig.bone_heads[names.index("front.L")][0] > 0
    assert rig.vertices[:, 2].min() == pytest.approx(0, abs=1e-6)
    assert rig.skin_weight.sum(1) == pytest.approx(1, abs=1e-5)
    assert np.abs(rig.vertices[:, :2]).max() < 1  # the mesh that no bone holds is gone
    assert rig.colours == pytest.approx(np.tile([1.0, 0, 0], (len(rig.vertices), 1)), abs=0.01)


def test_a_scaled_rig_moves_alike(baked):
    rig = load_rig(baked / "box.npz")
    assert rig.scaled(2.5).skin(7) == pytest.approx(2.5 * rig.skin(7), abs=1e-5)


def test_bones_are_found_by_unique_prefix_only():
    assert find_bone(["tail_01", "tail", "ear_07"], "tail") == 1
    assert find_bone(["tail_01", "ear_07"], "ear") == 1
    with pytest.raises(TrainingError, match="2 bones"):
        find_bone(["tail_01", "tail_02"], "tail")


def test_finished_rigs_are_not_baked_again_and_failures_are_named(tmp_path, monkeypatch):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir(), target.mkdir()
    (source / "Horse.glb").write_bytes(b"not a glTF")
    (source / "Cow.glb").write_bytes(b"not a glTF")
    (target / "Horse.npz").write_bytes(b"done before")
    calls = []

    def fake(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, 1, "", "Traceback …\nbroken header\n")

    monkeypatch.setattr(baking.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(baking.subprocess, "run", fake)
    with pytest.raises(TrainingError, match=r"Cow\.glb: broken header$"):
        baking.bake_all(source, target)
    assert len(calls) == 1
    assert (target / "Horse.npz").read_bytes() == b"done before"


def test_every_table_is_symmetric_and_places_shoulders_and_hips():
    for name, spec in RIGS.items():
        assert isinstance(spec, RigSpec)
        lefts = {j for j in spec.links if j.endswith(".L")}
        assert {j[:-1] + "R" for j in lefts} == {j for j in spec.links if j.endswith(".R")}, name
        for left in lefts:
            a, b = spec.links[left], spec.links[left[:-1] + "R"]
            assert a.bones != b.bones and (a.point is None) == (b.point is None), (name, left)
        assert len(spec.sides) == 2
    assert rig_file(Path("nowhere"), "Horse") is None
