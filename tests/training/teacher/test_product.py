# SPDX-License-Identifier: GPL-3.0-or-later
"""Pseudo ground truth as the student's training reads it, and the mesh to look at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from toy_clips import random_motion, render

from dasr_blender.core import Category, Motion
from dasr_blender.training.clip_folder import mask_boxes
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.evaluate.scene import Scene, read_scene
from dasr_blender.training.evaluate.scores import overlap
from dasr_blender.training.pack import pack, pack_clip
from dasr_blender.training.teacher.clips import TeacherClip
from dasr_blender.training.teacher.product import turntable, write_glb, write_pseudo_truth


@pytest.fixture(scope="module")
def clip(toy_category: Category) -> TeacherClip:
    motion = random_motion(toy_category, 36, 3)
    motion = replace(motion, relief=np.full(len(toy_category.body.vertices), 0.01))
    images, masks = render(toy_category, motion)
    boxes = mask_boxes(list(masks))
    assert boxes is not None
    scene = Scene(
        "cat one.mp4", list(images), list(masks), boxes, motion.focal_px, motion.principal_point, motion.fps
    )
    quality = np.linspace(0.5, 1, 36)
    quality[[14, 15, 20]] = 0  # runs of 14, 4 and 15 frames
    return TeacherClip(scene, motion, None, quality)


def test_runs_of_good_frames_as_training_reads_them(
    toy_category: Category, clip: TeacherClip, tmp_path: Path
) -> None:
    folders = write_pseudo_truth(toy_category, [clip], tmp_path)
    assert [f.name for f in folders] == ["cat_one_mp4-00000", "cat_one_mp4-00021"]
    assert not list(tmp_path.glob(".*")) and toy_category.path is not None
    assert (tmp_path / "body.npz").read_bytes() == (toy_category.path / "body.npz").read_bytes()
    second = Motion.load(folders[1] / "motion.npz").validate(toy_category)
    assert second.frame_index.tolist() == list(range(21, 36))
    assert second.confidence == pytest.approx(clip.quality[21:])
    assert np.array_equal(second.camera_from_root, clip.motion.camera_from_root[21:])
    assert np.array_equal(second.relief, clip.motion.relief)
    meta = json.loads((folders[1] / "meta.json").read_text())
    assert meta["source"] == "teacher" and meta["clip"] == "cat one.mp4"
    assert meta["dropped"] == [14, 15, 16, 17, 18, 19, 20] and meta["frames"] == 15
    scene = read_scene(folders[1], toy_category)
    assert scene is not None and scene.true is not None
    assert np.array_equal(scene.masks[0] > 127, clip.scene.masks[21] > 127)
    assert np.mean(overlap(toy_category, scene.true, scene.masks)) > 0.95
    packed = pack_clip(folders[0], toy_category, 64)
    assert packed is not None and len(packed.crops) == 14
    assert pack(tmp_path, tmp_path / "shard", toy_category, 64) == 2


def test_no_run_goes_over_a_cut(toy_category: Category, clip: TeacherClip, tmp_path: Path) -> None:
    cut = replace(clip.with_motion(replace(clip.motion, cuts=np.array([16]))), quality=np.ones(len(clip)))
    folders = write_pseudo_truth(toy_category, [cut], tmp_path)
    found = [Motion.load(folder / "motion.npz").validate(toy_category) for folder in folders]
    assert [len(motion) for motion in found] == [16, 20] and not any(len(motion.cuts) for motion in found)
    assert found[1].frame_index[0] == 16
    np.testing.assert_array_equal(found[1].camera_from_root, clip.motion.camera_from_root[16:])


def test_a_second_run_replaces_the_first(toy_category: Category, clip: TeacherClip, tmp_path: Path) -> None:
    write_pseudo_truth(toy_category, [clip], tmp_path)
    whole = replace(clip, quality=np.ones(len(clip)))
    (folder,) = write_pseudo_truth(toy_category, [whole], tmp_path)
    assert [p.parent for p in tmp_path.glob("*/motion.npz")] == [folder]
    assert len(Motion.load(folder / "motion.npz")) == 36
    none = replace(clip, quality=np.zeros(len(clip)))
    assert write_pseudo_truth(toy_category, [none], tmp_path) == []
    with pytest.raises(TrainingError, match="Two clips are called cat_one_mp4"):
        write_pseudo_truth(toy_category, [clip, clip], tmp_path)


def test_the_posed_body_stands_upright_in_gltf(
    toy_category: Category, clip: TeacherClip, tmp_path: Path
) -> None:
    colours = np.tile([1.0, 0.5, 0.0], (len(toy_category.body.vertices), 1))
    path = write_glb(toy_category, clip.motion, 5, colours, tmp_path / "body.glb")
    scene = trimesh.load(path, process=False)
    assert isinstance(scene, trimesh.Scene)
    (mesh,) = scene.geometry.values()
    posed = toy_category.posed_vertices(clip.motion)[5]
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx(np.ptp(posed, axis=0)[[0, 2, 1]], abs=1e-4)
    assert mesh.vertices[:, 1].max() == pytest.approx(posed[:, 2].max(), abs=1e-4)
    assert mesh.vertices[:, 2].max() == pytest.approx(-posed[:, 1].min(), abs=1e-4)
    assert len(mesh.faces) == len(toy_category.body.faces)
    assert mesh.visual.vertex_attributes["color"][0, :3].tolist() == [255, 55, 0]


def test_a_turntable_shows_colours_and_all_sides(toy_category: Category) -> None:
    body = toy_category.body
    red = np.tile([0.9, 0.1, 0.1], (len(body.vertices), 1))
    sheet = turntable(
        toy_category, np.zeros(len(toy_category.morphology)), np.zeros(0), red, views=4, size=64
    )
    assert sheet.shape == (128, 256, 3) and sheet.dtype == np.uint8
    above, below = sheet[:64].astype(int), sheet[64:].astype(int)
    shown = np.abs(below - 52).max(-1) > 20
    assert (above[shown][:, 0] > above[shown][:, 1] + 30).mean() > 0.9
    assert np.ptp(below[shown], axis=1).max() <= 1  # grey
    wide = [np.ptp(np.flatnonzero(shown[:, k * 64 : k * 64 + 64].any(0))) for k in range(4)]
    assert wide[1] > 1.3 * wide[0] and wide[3] > 1.3 * wide[2]  # the sides are longer than front and back
    half = np.zeros((len(toy_category.skeleton), 4))
    half[:, 0] = 1
    again = turntable(
        toy_category, np.zeros(len(toy_category.morphology)), np.zeros(0), red, half, views=4, size=64
    )
    assert np.abs(again.astype(int) - sheet).mean() < 0.5
