# SPDX-License-Identifier: GPL-3.0-or-later
"""The texture on the mesh, in the .blend and in files for other programs."""

from __future__ import annotations

from pathlib import Path

import bpy
import cv2
import numpy as np
import pytest
from toy import toy_motion

from dasr_blender.scene import ScenePlanError, build_scene, compat, export_scene, plan_scene
from dasr_blender.scene.standalone import write_files


@pytest.fixture
def texture(tmp_path) -> Path:
    """Red rises to the right, green upwards."""
    u, v = np.meshgrid((np.arange(64) + 0.5) / 64, 1 - (np.arange(64) + 0.5) / 64)
    path = tmp_path / "walk-texture.png"
    cv2.imwrite(str(path), np.rint(255 * np.stack([np.full_like(u, 0.2), v, u], -1)).astype(np.uint8))
    return path


def written(category, texture, folder, formats) -> dict[str, Path]:
    motion = toy_motion(category, 3, image_size=(64, 48))
    files, _ = write_files(
        category, motion, clip_path="walk.mp4", out_dir=folder, formats=formats, stem="walk", texture=texture
    )
    return files


def shown() -> tuple[bpy.types.Object, bpy.types.Image]:
    """The mesh of the open file that the armature bends, and the picture that its material takes its colour from."""
    mesh = next(item for item in bpy.data.objects if item.type == "MESH" and item.find_armature())
    nodes = mesh.data.materials[0].node_tree.nodes
    shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    node = shader.inputs["Base Color"].links[0].from_node
    assert node.type == "TEX_IMAGE"
    return mesh, node.image


def pixels(image: bpy.types.Image) -> np.ndarray:
    """(h, w, 3) 0…1, from the lowest row up."""
    return np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)[..., :3]


def test_the_blend_holds_it(toy_category, texture, tmp_path):
    files = written(toy_category, texture, tmp_path, ["blend"])
    texture.unlink()
    bpy.ops.wm.open_mainfile(filepath=str(files["blend"]))
    mesh, image = shown()
    assert image.packed_file and pixels(image)[10, 30] == pytest.approx([30.5 / 64, 10.5 / 64, 0.2], abs=0.01)
    # what solid shading and programs without textures show: each vertex by the places of its corners
    uv, faces = toy_category.body.uv, toy_category.body.faces
    vertex = int(faces[7, 1])
    places = uv[faces == vertex]
    colour = np.array(mesh.data.color_attributes.active_color.data[vertex].color_srgb)[:3]
    assert colour[:2] == pytest.approx(places.mean(0), abs=0.02)


@pytest.mark.parametrize("kind", ["glb", "fbx", "usd"])
def test_other_programs_get_it(toy_category, texture, tmp_path, kind):
    if not compat.can_write(kind):
        pytest.skip("this Blender was built without USD")
    out = tmp_path / "out"
    out.mkdir()
    beside = out / texture.name
    texture.rename(beside)
    files = written(toy_category, beside, out, [kind, "blend"])
    assert sorted(path.name for path in out.iterdir()) == sorted([beside.name, f"walk.{kind}", "walk.blend"])
    if kind != "usd":  # which names it as its neighbour
        beside.unlink()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    importers = {
        "glb": bpy.ops.import_scene.gltf,
        "fbx": bpy.ops.import_scene.fbx,
        "usd": bpy.ops.wm.usd_import,
    }
    importers[kind](filepath=str(files[kind]))
    _, image = shown()
    assert pixels(image)[10, 30] == pytest.approx([30.5 / 64, 10.5 / 64, 0.2], abs=0.01)
    bpy.ops.wm.open_mainfile(filepath=str(files["blend"]))
    assert shown()[1].packed_file


def test_usd_carries_a_texture_that_lies_elsewhere(toy_category, texture, tmp_path):
    if not compat.can_write("usd"):
        pytest.skip("this Blender was built without USD")
    out = tmp_path / "out"
    out.mkdir()
    files = written(toy_category, texture, out, ["usd"])
    texture.unlink()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.wm.usd_import(filepath=str(files["usd"]))
    assert pixels(shown()[1])[10, 30] == pytest.approx([30.5 / 64, 10.5 / 64, 0.2], abs=0.01)


def test_usd_touches_no_picture_that_is_packed_otherwise_than_its_file(toy_category, texture, tmp_path):
    if not compat.can_write("usd"):
        pytest.skip("this Blender was built without USD")
    motion = toy_motion(toy_category, 3, image_size=(64, 48))
    built = build_scene(plan_scene(toy_category, motion, clip_path=None, texture=texture))
    texture.write_bytes(b"another picture since")
    built.mesh.data.materials.append(None)
    built.mesh.data.materials.append(bpy.data.materials.new("plain"))  # without nodes, in Blender 4.5
    files = export_scene(built, tmp_path, ["usd"], "walk")
    _, image = shown()
    assert image.packed_file and pixels(image)[10, 30] == pytest.approx([30.5 / 64, 10.5 / 64, 0.2], abs=0.01)
    texture.unlink()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.wm.usd_import(filepath=str(files["usd"]))
    assert pixels(shown()[1])[10, 30] == pytest.approx([30.5 / 64, 10.5 / 64, 0.2], abs=0.01)


def test_one_that_cannot_be_read_leaves_nothing_behind(toy_category, tmp_path):
    bad = tmp_path / "walk-texture.png"
    bad.write_bytes(b"no picture")
    plan = plan_scene(toy_category, toy_motion(toy_category, 3), clip_path=None, texture=bad)
    with pytest.raises(ScenePlanError, match="nothing was changed"):
        build_scene(plan)
    assert not bpy.data.objects and not bpy.data.images and not bpy.data.meshes


def test_without_one_the_vertices_have_the_networks_colours(toy_category):
    built = build_scene(plan_scene(toy_category, toy_motion(toy_category, 3), clip_path=None))
    nodes = built.mesh.data.materials[0].node_tree.nodes
    assert not any(node.type == "TEX_IMAGE" for node in nodes) and not bpy.data.images
