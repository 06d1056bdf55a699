# SPDX-License-Identifier: GPL-3.0-or-later
"""The teacher from a clip to what it learned, at a size that takes seconds; stopped and gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from surface_truth import with_map
from toy_clips import render
from tracked import case

from dasr_blender.core import Category, project
from dasr_blender.core.rotation import quat_multiply, rotvec_to_matrix, rotvec_to_quat
from dasr_blender.core.views import View
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.evaluate.scene import Scene, posed_in_camera
from dasr_blender.training.evaluate.scores import compare, overlap
from dasr_blender.training.parallel import Team
from dasr_blender.training.teacher.anchors import anchored
from dasr_blender.training.teacher.clips import TeacherClip
from dasr_blender.training.teacher.config import FieldConfig
from dasr_blender.training.teacher.frames import chances, load_frames
from dasr_blender.training.teacher.model import make_model
from dasr_blender.training.teacher.optimise import Optimiser
from dasr_blender.training.teacher.outcome import field_picture, posed_clips
from dasr_blender.training.teacher.register import (
    RegisterConfig,
    common_morphology,
    mask_quality,
    quality,
    rest_motion,
)
from dasr_blender.training.teacher.rig import Poses
from dasr_blender.training.teacher.run import steady

TINY = FieldConfig(
    width=16, depth=2, frames=6, rays=24, coarse=12, fine=8, crop=48, base_grid=40, regular=128, steps=12,
    save_every=100, picture_every=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def clips(toy_category: Category) -> list[TeacherClip]:
    """Two rendered clips, their roots turned by up to 12° and their joints bent by 6°."""
    rng = np.random.default_rng(0)
    out = []
    for n, seed in enumerate((3, 8)):
        given = case(toy_category, frames=8, seed=seed)
        frames, masks = render(toy_category, given.motion)
        boxes = []
        for mask in masks:
            y, x = np.nonzero(mask)
            boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
        true = given.motion
        scene = Scene(
            f"clip-{n}", list(frames), list(masks), np.array(boxes, float), true.focal_px, true.principal_point,
            true.fps, true=true, category=toy_category, interpolated=np.zeros(8, bool),
        )  # fmt: skip
        pose = true.camera_from_root.copy()
        pose[:, :3, :3] = rotvec_to_matrix(rng.normal(0, 0.12, 3)) @ pose[:, :3, :3]
        bend = rotvec_to_quat(rng.normal(0, 0.1, true.joint_rotations.shape[1:2] + (3,)))
        joints = quat_multiply(true.joint_rotations, bend)
        joints[:, 0] = [1, 0, 0, 0]
        motion = replace(true, camera_from_root=pose, joint_rotations=joints)
        prediction = with_map(toy_category, given)
        out.append(TeacherClip(scene, motion, prediction, np.ones(8)))
    return out


def optimiser(
    category: Category, clips: list[TeacherClip], out: Path, config: FieldConfig = TINY
) -> Optimiser:
    torch.set_num_threads(1)
    frames = load_frames(category, clips, config.crop)
    model = make_model(category, clips, frames, common_morphology(clips), None, config)
    return Optimiser(model, frames, out, Team(torch.device("cpu")))


def test_poses_come_nearer_the_truth(
    toy_category: Category, clips: list[TeacherClip], tmp_path: Path
) -> None:
    config = replace(TINY, steps=120, rays=32)
    run = optimiser(toy_category, clips, tmp_path, config)
    model = run.run()
    found = posed_clips(model, clips, run.frames)

    def root(which: list[TeacherClip]) -> float:
        errors = [compare(toy_category, c.motion, c.scene.true)["root_deg"] for c in which if c.scene.true]
        return float(np.mean(errors))

    def agree(which: list[TeacherClip]) -> float:
        return float(np.mean([overlap(toy_category, c.motion, c.scene.masks).mean() for c in which]))

    assert root(found) < 0.7 * root(clips)
    assert agree(found) > agree(clips) + 0.02
    rows = (tmp_path / "teacher.csv").read_text().splitlines()
    assert rows[0].startswith("step,minutes") and len(rows) >= 2
    picture = field_picture(model, run.frames, [0, 9], 0.004, side=24)
    assert picture.shape == (96, 192, 3) and picture.dtype == np.uint8
    assert picture[:48, 48:96].std() > 5  # something was drawn


def test_a_stopped_run_ends_the_same(
    toy_category: Category, clips: list[TeacherClip], tmp_path: Path
) -> None:
    whole = optimiser(toy_category, clips, tmp_path / "whole").run().state_dict()
    optimiser(toy_category, clips, tmp_path / "halves").run(until=7)
    halves = optimiser(toy_category, clips, tmp_path / "halves").run().state_dict()
    assert whole.keys() == halves.keys()
    different = [name for name in whole if not torch.equal(whole[name], halves[name])]
    assert different == []


def test_another_runs_checkpoint_is_refused(
    toy_category: Category, clips: list[TeacherClip], tmp_path: Path
) -> None:
    optimiser(toy_category, clips, tmp_path).run(until=1)
    with pytest.raises(TrainingError, match="other settings"):
        optimiser(toy_category, clips, tmp_path, replace(TINY, seed=4))
    with pytest.raises(TrainingError, match="its frames"):
        optimiser(toy_category, clips[:1], tmp_path)
    grown = np.asarray(common_morphology(clips)) + 0.6
    frames = load_frames(toy_category, clips, TINY.crop)
    model = make_model(toy_category, clips, frames, grown, None, TINY)
    with pytest.raises(TrainingError, match="shape that it started from"):
        Optimiser(model, frames, tmp_path, Team(torch.device("cpu")))


def test_frames_know_their_neighbours_and_what_moved(
    toy_category: Category, clips: list[TeacherClip]
) -> None:
    good = np.ones(8)
    good[3] = 0  # rejected
    frames = load_frames(toy_category, [replace(clips[0], quality=good), clips[1]], 48)
    assert len(frames) == 15
    assert frames.after[:7].tolist() == [1, 2, -1, 4, 5, 6, -1]
    assert frames.before[:7].tolist() == [-1, 0, 1, -1, 3, 4, 5]
    assert (frames.flow_trust[2] == 0).all() and frames.flow_trust[1].max() > 0.5
    assert frames.draw.sum(1).numpy() == pytest.approx(np.ones(15), rel=1e-4)


def test_nothing_goes_from_one_shot_into_another(toy_category: Category, clips: list[TeacherClip]) -> None:
    cut = clips[0].with_motion(replace(clips[0].motion, cuts=np.array([5])))
    frames = load_frames(toy_category, [cut, clips[1]], 48)
    assert frames.after[:8].tolist() == [1, 2, 3, 4, -1, 6, 7, -1]
    assert frames.before[:8].tolist() == [-1, 0, 1, 2, 3, -1, 5, 6]
    assert (frames.flow_trust[4] == 0).all() and frames.flow_trust[3].max() > 0.5
    poses = Poses([cut, clips[1]], frames.rows)
    with torch.no_grad():
        poses.turn[4, 0] = 1.0
    moved = poses.residual(poses.turn, torch.arange(16))[:, 0] > 0
    assert torch.nonzero(moved).ravel().tolist() == [2, 3, 4]
    distance = np.where(np.arange(8) < 5, 2.0, 4.0)
    pose = np.array(cut.motion.camera_from_root)
    pose[:, :3, 3] *= (distance / pose[:, 2, 3])[:, None]
    found = steady(cut.with_motion(replace(cut.motion, camera_from_root=pose))).motion.camera_from_root
    np.testing.assert_allclose(found[:, 2, 3], distance, atol=1e-9)


def test_what_leaps_at_a_cut_is_no_mistake(toy_category: Category, clips: list[TeacherClip]) -> None:
    config, scene, motion = RegisterConfig(), clips[0].scene, clips[0].motion
    pose = np.array(motion.camera_from_root)
    pose[5:, :3, :3] = pose[5:, :3, :3] @ rotvec_to_matrix(np.array([0, 0, 2.0]))
    turned = replace(motion, camera_from_root=pose, mask_iou=np.full(8, 0.9))
    assert np.flatnonzero(quality(scene, turned, config) == 0).tolist() == [4, 5]
    assert (quality(scene, replace(turned, cuts=np.array([5])), config) > 0).all()
    near = [np.full_like(mask, 255) if i in (3, 4) else mask for i, mask in enumerate(scene.masks)]
    grown = replace(scene, masks=near)
    assert np.flatnonzero(mask_quality(grown, config) == 0).tolist() == [3, 4]
    assert mask_quality(replace(grown, cuts=np.array([3, 5])), config).min() == 1


def test_a_view_set_by_hand_says_nothing_about_another_shot(
    toy_category: Category, clips: list[TeacherClip]
) -> None:
    motion = clips[0].motion
    pose = np.array(motion.camera_from_root[2])
    pose[:3, :3] = pose[:3, :3] @ rotvec_to_matrix(np.array([0, 0, 1.0]))
    seen = float(motion.focal_px[2]), np.asarray(motion.image_size), np.asarray(motion.principal_point)
    view = View(2, *seen, pose, motion.joint_rotations[2])
    whole, cut = anchored(motion, [view]), anchored(replace(motion, cuts=np.array([5])), [view])
    np.testing.assert_allclose(cut.camera_from_root[:5], whole.camera_from_root[:5])
    np.testing.assert_array_equal(cut.camera_from_root[5:], motion.camera_from_root[5:])
    assert np.abs(whole.camera_from_root[5:] - motion.camera_from_root[5:]).max() > 0.1


def test_rays_are_drawn_at_the_rim() -> None:
    mask = np.zeros((60, 60), np.float32)
    mask[20:40, 20:40] = 1
    chance = chances(mask, np.ones((60, 60)))
    rim = chance[20, 20:40].mean()
    assert rim > 2 * chance[30, 30] > 0
    assert chance[30, 30] > 10 * chance[0, 0] > 0
    unknown = np.ones((60, 60))
    unknown[:, :30] = 0
    assert chances(mask, unknown)[:, :30].sum() == 0


def test_bad_frames_are_rejected(toy_category: Category, clips: list[TeacherClip]) -> None:
    scene, motion = clips[0].scene, clips[0].motion
    agree = np.full(8, 0.8)
    agree[2] = 0.2
    pose = motion.camera_from_root.copy()
    pose[5:, :3, :3] = pose[5:, :3, :3] @ rotvec_to_matrix(np.array([0, 0, np.pi]))
    found = quality(scene, replace(motion, mask_iou=agree, camera_from_root=pose), RegisterConfig())
    assert found[2] == 0 and found[4] == found[5] == 0
    assert found[[0, 1, 3, 6, 7]] == pytest.approx(0.8)


def test_a_mask_that_suddenly_grows_is_not_believed(clips: list[TeacherClip]) -> None:
    scene = clips[0].scene
    masks = [mask.copy() for mask in scene.masks]
    masks[4][:] = 255
    found = mask_quality(replace(scene, masks=masks), RegisterConfig())
    assert found.tolist() == [1, 1, 1, 1, 0, 1, 1, 1]


def test_views_set_by_hand_turn_a_clip_round(toy_category: Category, clips: list[TeacherClip]) -> None:
    true = clips[0].scene.true
    assert true is not None
    wrong = true.camera_from_root.copy()
    wrong[:, :3, :3] = wrong[:, :3, :3] @ rotvec_to_matrix(np.array([0, 0, np.pi]))  # taken for its back end
    wrong[:, :3, 3] *= 1.1
    rest = np.zeros_like(true.joint_rotations)
    rest[..., 0] = 1
    motion = replace(true, camera_from_root=wrong, joint_rotations=rest)

    def view(i: int) -> View:
        # as large and in the same place, set with twice the picture and another focal length
        pose = true.camera_from_root[i].copy()
        pose[2, 3] *= 1.5
        return View(
            i, 3.0 * true.focal_px[i], 2 * true.image_size, true.image_size, pose, true.joint_rotations[i]
        )

    found = anchored(motion, [view(1), view(6), replace(view(1), frame=99)]).validate(toy_category)
    before, after = compare(toy_category, motion, true), compare(toy_category, found, true)
    assert before["root_deg"].min() > 170
    assert after["root_deg"][[1, 6]].max() < 1e-3 and after["root_deg"].max() < 15
    assert after["joints_deg"][[1, 6]].max() < 1e-3
    assert after["joints_deg"].mean() < 0.7 * before["joints_deg"].mean()
    assert after["translation"][[1, 6]].max() < 1e-6
    assert anchored(motion, []) is motion and anchored(motion, [replace(view(1), frame=99)]) is motion


def test_without_a_student_it_starts_at_rest_from_the_side(
    toy_category: Category, clips: list[TeacherClip]
) -> None:
    scene = clips[0].scene
    motion = rest_motion(toy_category, scene).validate(toy_category)
    seen = posed_in_camera(toy_category, motion)
    pixels = project(seen, motion.focal_px, motion.principal_point)
    middle, extent = 0.5 * (pixels.min(1) + pixels.max(1)), np.ptp(pixels, axis=1).max(1)
    assert np.abs(middle - scene.center).max() < 0.1 * scene.side.min()
    assert (extent / scene.side) == pytest.approx(np.ones(8), abs=0.3)
    assert np.allclose(motion.camera_from_root[:, :3, :3] @ [0, -1, 0], [1, 0, 0])  # it looks to the right
