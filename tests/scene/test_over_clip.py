# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders of the scene over its clip."""

from __future__ import annotations

import bpy
import cv2
import numpy as np
import pytest
from toy import toy_motion

from dasr_blender.scene import build_scene, compat, plan_scene
from dasr_blender.scene.over_clip import OverClipError, render_over_clip
from dasr_blender.scene.standalone import write_files

SIZE = (64, 48)
COLOURS = ((40, 90, 200), (200, 60, 40), (60, 180, 90), (220, 210, 60))  # of the clip's frames, RGB


@pytest.fixture
def clip(tmp_path):
    """Images of one colour each."""
    folder = tmp_path / "walk"
    folder.mkdir()
    for i, colour in enumerate(COLOURS):
        cv2.imwrite(str(folder / f"{i:04d}.png"), np.full((SIZE[1], SIZE[0], 3), colour[::-1], np.uint8))
    return folder


@pytest.fixture
def built(toy_category, clip):
    motion = toy_motion(toy_category, len(COLOURS), image_size=SIZE)
    return build_scene(plan_scene(toy_category, motion, clip_path=clip, set_scene=True, start_frame=11))


def rendered(scene: bpy.types.Scene, frame: int, folder) -> np.ndarray:
    """What F12 gives, (h, w, 3) uint8."""
    render = scene.render
    render.engine, scene.cycles.samples = "CYCLES", 1
    render.filepath, render.image_settings.file_format = str(folder / "shown.png"), "PNG"
    scene.frame_set(frame)
    bpy.ops.render.render(write_still=True, scene=scene.name)
    return cv2.imread(render.filepath)[..., ::-1]


def beside(picture: np.ndarray, colour) -> np.ndarray:
    """Which pixels (h, w) show the clip's frame of this colour."""
    return np.abs(picture.astype(int) - colour).max(-1) <= 3


def test_renders_show_the_rig_over_the_frame_of_the_clip(built, tmp_path):
    compat.light_all_round(built.scene)
    told = render_over_clip(built.scene)
    assert "AgX would change" in told and "(F12)" in told
    for i in (1, 3):
        clip = beside(rendered(built.scene, 11 + i, tmp_path), COLOURS[i])
        assert 0.3 < clip.mean() < 0.97  # the rest is the rig
        assert clip[:2].all() and clip[-2:].all()


def test_the_clip_fills_a_render_of_another_size(built, tmp_path):
    built.scene.render.resolution_x, built.scene.render.resolution_y = 90, 30
    render_over_clip(built.scene)
    picture = rendered(built.scene, 12, tmp_path)
    assert picture.shape == (30, 90, 3) and beside(picture, COLOURS[1])[:, [0, -1]].all()


def test_what_the_compositor_did_before_it_goes_on_doing(built, tmp_path):
    scene = built.scene
    picture = compat.compositor_picture(scene)
    tree = picture.id_data
    for link in list(picture.links):
        tree.links.remove(link)
    green = tree.nodes.new("CompositorNodeRGB")
    green.outputs[0].default_value = (0, 1, 0, 1)
    own = tree.nodes.new("CompositorNodeAlphaOver")
    tree.links.new(green.outputs[0], compat.alpha_over_sockets(own)[1])
    tree.links.new(own.outputs[0], picture)
    render_over_clip(scene)
    assert beside(rendered(scene, 11, tmp_path), (0, 255, 0)).all()
    assert green.name in tree.nodes


def test_asked_twice_it_takes_the_present_cameras_clip(built, toy_category, tmp_path):
    scene = built.scene
    render_over_clip(scene)
    nodes = compat.compositor_picture(scene).id_data.nodes
    over = next(node for node in nodes if node.bl_idname == "CompositorNodeAlphaOver")
    size = next(node for node in nodes if node.bl_idname == "CompositorNodeScale")
    blur = nodes.new("CompositorNodeBlur")  # the artist's
    links = compat.compositor_picture(scene).id_data.links
    links.new(size.outputs[0], blur.inputs[0])
    links.new(blur.outputs[0], compat.alpha_over_sockets(over)[0])
    count = len(nodes)
    other = tmp_path / "run"
    other.mkdir()
    for i in range(2):
        cv2.imwrite(str(other / f"{i:04d}.png"), np.full((SIZE[1], SIZE[0], 3), 255, np.uint8))
    motion = toy_motion(toy_category, 2, image_size=SIZE)
    build_scene(plan_scene(toy_category, motion, clip_path=other, set_scene=True))
    assert "run" in render_over_clip(scene) and "view transform" not in render_over_clip(scene)
    assert len(nodes) == count and compat.alpha_over_sockets(over)[0].links[0].from_node == blur
    assert beside(rendered(scene, 1, tmp_path), (255, 255, 255))[:2].all()


@pytest.mark.parametrize("lacks", ["a camera", "a clip"])
def test_without_a_clip_nothing_is_changed(built, lacks):
    scene = built.scene
    if lacks == "a camera":
        scene.camera = None
    else:
        built.camera.data.background_images.clear()
    with pytest.raises(OverClipError, match=r"has no (camera|clip behind it): select"):
        render_over_clip(scene)
    assert not scene.render.film_transparent and scene.view_settings.view_transform == "AgX"


@pytest.mark.parametrize("missing", [False, True])
def test_the_command_lines_blend_renders_over_its_clip(toy_category, clip, tmp_path, missing):
    motion = toy_motion(toy_category, len(COLOURS), image_size=SIZE)
    path = tmp_path / "gone.mp4" if missing else clip
    files, _ = write_files(
        toy_category, motion, clip_path=path, out_dir=tmp_path, formats=["blend"], stem="toy"
    )
    bpy.ops.wm.open_mainfile(filepath=str(files["blend"]))
    picture = rendered(bpy.context.scene, 1, tmp_path)
    assert beside(picture, COLOURS[0])[:2].all() == (not missing)
