# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigged models of the user's: joint maps, filming, scores; and the surface of a rig found again from labels."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

import toy
from tiny_predictor import save_tiny_category

from dasr_blender.core import Category, load_category
from dasr_blender.core.camera import project, transform
from dasr_blender.core.raster import silhouette
from dasr_blender.core.rotation import slerp
from dasr_blender.core.skeleton import forward_kinematics
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.evaluate import joint_map, rigged
from dasr_blender.training.evaluate.bake_any import bake_any
from dasr_blender.training.evaluate.options import EvaluateConfig
from dasr_blender.training.evaluate.rig_surface import rendered_rig
from dasr_blender.training.evaluate.rows import MeanPose, make_rows
from dasr_blender.training.synth.rig import Rig


def toy_rig(category: Category, frames: int = 20, factor: float = 3.0) -> Rig:
    """The toy body as a rig with a bone a joint, another size, and one action."""
    skeleton = category.skeleton
    joints = category.body.joints.astype(np.float64) * factor
    posed = forward_kinematics(skeleton, joints, toy.toy_rotations(skeleton, frames))
    rest = np.tile(np.eye(4), (len(skeleton), 1, 1))
    rest[:, :3, 3] = joints
    return Rig(
        "toy",
        category.body.vertices.astype(np.float64) * factor,
        category.body.faces,
        category.body.appearance_mean,
        np.arange(len(category.body.vertices)),
        category.body.skin_index,
        category.body.skin_weight,
        tuple(toy.artist_name(n) for n in skeleton.names),
        skeleton.parents,
        rest,
        joints,
        joints + [0, 0, -0.1],
        ("walk",),
        np.array([0, frames]),
        posed.astype(np.float32),
        24.0,
    )


def test_a_map_with_a_wrong_name_says_which(toy_category: Category, tmp_path: Path):
    rig, names = toy_rig(toy_category), toy_category.skeleton.names
    path = tmp_path / "x.joints.json"
    path.write_text(json.dumps({"head": "Head", "jaw": None}))
    assert joint_map.read_joint_map(path, rig, names) == {"head": rig.bone_names.index("Head")}
    for text, reason in (
        ('{"nose": "Head"}', "no joint 'nose'"),
        ('{"head": "Hed"}', "no bone 'Hed'"),
        ("[", "x.joints"),
    ):
        path.write_text(text)
        with pytest.raises(TrainingError, match=reason):
            joint_map.read_joint_map(path, rig, names)
    path.write_bytes('{"head": "Köpf"}'.encode("latin-1"))
    with pytest.raises(TrainingError, match="x.joints"):
        joint_map.read_joint_map(path, rig, names)


@pytest.fixture(scope="module")
def renderer():
    render = pytest.importorskip("dasr_blender.training.synth.render")
    try:
        made = render.Renderer()
    except render.RenderUnavailable as error:
        pytest.skip(str(error))
    yield made
    made.close()


def test_a_filmed_rig_lies_where_its_surface_says(toy_category: Category, renderer):
    rig = toy_rig(toy_category)
    joints = {n: i for i, n in enumerate(toy_category.skeleton.names)}
    scene = rigged.film(rig, "toy-0", np.random.default_rng(3), renderer, joints, frames=6)
    assert (
        len(scene) == 6 and scene.surface is not None and not scene.sized and scene.meta["action"] == "walk"
    )
    seen = np.stack(scene.surface.vertices)
    pixels = np.concatenate([project(seen, scene.focal, scene.principal_point), seen[..., 2:]], -1)
    drawn, masks = silhouette(pixels, rig.faces, scene.size), np.stack(scene.masks) > 127
    assert (drawn & masks).sum() / (drawn | masks).sum() > 0.98
    gap = np.linalg.norm(scene.joints["head"][:, None] - seen, axis=-1).min(1)
    assert gap.max() < 0.6  # a joint rides inside the surface of an animal 4 m long


def test_a_folder_of_rigged_models_is_scored(toy_category: Category, tmp_path: Path, monkeypatch, renderer):
    category = load_category(save_tiny_category(tmp_path / "bundle"))
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("one.glb", "two.glb", "broken.glb"):
        (folder / name).write_bytes(name.encode())
    (folder / "two.joints.json").write_text(json.dumps({n: toy.artist_name(n) for n in category.skeleton.names}))

    def bake(path: Path, cache: Path) -> Rig:
        if path.stem == "broken":
            raise TrainingError(f"{path}: holds no armature")
        return toy_rig(category)

    monkeypatch.setattr(rigged, "bake_any", bake)
    config = EvaluateConfig(out=tmp_path / "out", rigged=folder, views=1)
    part = rigged.evaluate_rigged(
        config, folder, category, make_rows(category, baselines=False), lambda *_: None
    )
    assert (
        part["clips"] == 2 and part["with_joint_map"] == ["two"] and "armature" in part["left_out"]["broken"]
    )
    one, two = (part["each"]["predictor"][f"{name}-0"] for name in ("one", "two"))
    shared = {"iou", "cd_share", "ama_cd_cm", "jitter_percent", "jitter_true_percent"}
    assert shared <= set(one) and shared <= set(two)
    assert "mpjpe_cm" not in one and {"mpjpe_cm", "pa_mpjpe_cm", "root_tracked_deg", "translation"} <= set(
        two
    )
    scene = rigged.film(toy_rig(category), "x", np.random.default_rng(0), renderer, {}, 3)
    assert MeanPose("mean", category).answer(scene) is None  # no true root to start from
    with pytest.raises(TrainingError, match="no .glb"):
        rigged.find_rigged(tmp_path / "bundle")


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/fox.glb", "b/fox.glb", "dog/scene.gltf", "in/scene.gltf")]
    paths.append(tmp_path / "b/fox.gltf")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert dict(rigged.find_rigged(tmp_path)) == {
        "fox": paths[0], "b-fox": paths[1], "dog": paths[2], "in": paths[3], "b-fox.gltf": paths[4],
    }  # fmt: skip


def test_a_rigs_own_surface_is_found_again_from_the_labels(toy_category: Category, tmp_path: Path):
    rig, skeleton = toy_rig(toy_category), toy_category.skeleton
    rotations = toy.toy_rotations(skeleton, 20)
    np.savez(
        tmp_path / "toy.npz",
        vertices=rig.vertices, faces=rig.faces, colours=rig.colours, point_index=rig.point_index,
        skin_index=rig.skin_index, skin_weight=rig.skin_weight, bone_names=np.array(rig.bone_names),
        bone_parents=rig.bone_parents, bone_rest=rig.bone_rest, bone_heads=rig.bone_heads, bone_tails=rig.bone_tails,
        clip_names=np.array(rig.clip_names), clip_start=rig.clip_start, pose=rig.pose, fps=np.array(24.0),
    )  # fmt: skip
    np.savez(
        tmp_path / "toy.mapping.npz",
        scale=np.array(3.0), category=np.array("toy"), morphology=np.zeros(11), joint_rotations=rotations,
        rig_from_root=np.tile(np.eye(4), (20, 1, 1)),
    )  # fmt: skip
    times = np.array([2.0, 2.4, 2.8, 3.2, 3.6, 4.0, 4.4, 4.8])
    low = times.astype(int)
    played = slerp(rotations[low], rotations[low + 1], (times - low)[:, None])
    true = replace(toy.toy_motion(toy_category), joint_rotations=played, morphology=np.zeros(11))
    meta = {"source": "rig", "rig": "toy", "action": "walk"}
    found = rendered_rig(tmp_path, toy_category, true, meta)
    assert found is not None and found.source == "rig"
    expected = transform(true.camera_from_root, toy_category.posed_vertices(true))
    assert np.abs(np.stack(found.vertices) - expected).max() < 0.02
    assert rendered_rig(tmp_path, toy_category, true, {**meta, "rig": "other"}) is None
    assert rendered_rig(tmp_path, toy_category, replace(true, morphology=np.full(11, 0.1)), meta) is None
    other = replace(true, joint_rotations=toy.toy_rotations(skeleton, 8, seed=5))
    assert rendered_rig(tmp_path, toy_category, other, meta) is None  # no pose of the rig's


# A body on two pairs of legs, its bones named as a modeller might, exported by Blender.
_BUILD = """
    import bpy, sys
    bpy.ops.wm.read_factory_settings(use_empty=True)
    data = bpy.data.armatures.new("rig")
    arm = bpy.data.objects.new("rig", data)
    bpy.context.collection.objects.link(arm)
    bpy.context.view_layer.objects.active = arm
    bpy.ops.object.mode_set(mode="EDIT")
    def bone(name, head, tail, parent=None):
        b = data.edit_bones.new(name)
        b.head, b.tail = head, tail
        b.parent = data.edit_bones[parent] if parent else None
    bone("Pelvis", (0, 0.4, 1), (0, 0, 1))
    bone("Chest", (0, 0, 1), (0, -0.4, 1), "Pelvis")
    bone("Head", (0, -0.5, 1.2), (0, -0.8, 1.2), "Chest")
    for side, x in (("L", 0.2), ("R", -0.2)):
        bone("FrontUpperLeg." + side, (x, -0.4, 0.9), (x, -0.4, 0.5), "Chest")
        bone("FrontLowerLeg." + side, (x, -0.4, 0.5), (x, -0.4, 0), "FrontUpperLeg." + side)
        bone("Thigh." + side, (x, 0.4, 0.9), (x, 0.4, 0.5), "Pelvis")
        bone("Shin." + side, (x, 0.4, 0.5), (x, 0.4, 0), "Thigh." + side)
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=4, y_subdivisions=8, size=1.0, location=(0, 0, 1))
    mesh = bpy.context.object
    mesh.vertex_groups.new(name="Chest").add(range(len(mesh.data.vertices)), 1.0, "REPLACE")
    mesh.parent = arm
    mesh.modifiers.new("Armature", "ARMATURE").object = arm
    bpy.ops.export_scene.gltf(filepath=sys.argv[1])
    sys.stdout.flush()
    __import__("os")._exit(0)
"""


def test_a_joint_map_is_guessed_for_a_file_and_written_beside_it(
    toy_category_folder: Path, tmp_path: Path, capsys
):
    pytest.importorskip("bpy")
    model = tmp_path / "mine.glb"
    run = [sys.executable, "-c", textwrap.dedent(_BUILD), str(model)]
    result = subprocess.run(run, timeout=180, capture_output=True, text=True)
    assert model.exists(), result.stderr[-1500:]
    assert joint_map.main([str(model), "--category", str(toy_category_folder)]) == 0
    found = json.loads((tmp_path / "mine.joints.json").read_text())
    assert found["front_upper.L"] == "FrontUpperLeg.L" and found["hind_lower.R"] == "Shin.R"
    assert found["chest"] == "Chest" and found["pelvis"] == "Pelvis" and found["tail_1"] is None
    assert "11 of 30" in capsys.readouterr().out
    (tmp_path / "mine.joints.json").write_text("{}")  # mended
    with pytest.raises(TrainingError, match="is there already"):
        joint_map.main([str(model), "--category", str(toy_category_folder)])
    assert (tmp_path / "mine.joints.json").read_text() == "{}"
    with pytest.raises(TrainingError, match="no such file"):
        joint_map.main([str(tmp_path / "none.glb"), "--category", str(toy_category_folder)])


def test_without_blender_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch):
    from dasr_blender.core import DasrError
    from dasr_blender.training.synth import bake

    (tmp_path / "x.glb").write_bytes(b"x")
    monkeypatch.setattr(bake.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DasrError, match="needs bpy"):
        bake_any(tmp_path / "x.glb", tmp_path)
