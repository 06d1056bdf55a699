# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel asks the worker for, and the camera that Blender itself adds to its answer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import bpy
import cv2
import numpy as np
import pytest
from filmed import Film, film
from helpers import camera_from_world

from dasr_blender.core import Motion
from dasr_blender.core.files import sha256_of
from dasr_blender.core.rotation import geodesic
from dasr_blender.scene.plan import ScenePlanError
from dasr_blender.scene.request import (
    JobRequest,
    Summary,
    beside_others,
    chosen_path,
    clip_path,
    clip_start,
    finish_job,
    is_chosen,
    settings_problem,
)
from dasr_blender.scene.solve import CameraSolveError

FRAMES = 14


@pytest.fixture(scope="module")
def pan(toy_category) -> Film:
    return film(toy_category, "pan", frames=FRAMES, size=(400, 224), seed=5)


@pytest.fixture
def movie(pan, tmp_path) -> Path:
    path = tmp_path / "pan.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 24, (400, 224))
    for frame in pan.frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


def asked(movie: Path, clip: bpy.types.MovieClip | None = None, **changes) -> JobRequest:
    values = {
        "filepath": str(movie),
        "directory": str(movie.parent / "out"),
        "category": "toy",
        "placement": "camera",
        "names": "neutral",
        "formats": set(),
        "masks": "",
        "use_range": False,
        "frame_step": 1,
        "use_subject": False,
        "focal_px": 0.0,
        "camera": "auto",
        "overlay": False,
        "set_scene_range": False,
    } | changes
    settings = _Settings(**values)
    return JobRequest.from_settings(
        settings, clip=clip, start_frame=1, category_folders=(), fallback_directory=movie.parent
    )


class _Settings(SimpleNamespace):
    """The panel's settings; what a test does not say is at its first choice."""

    def __getattr__(self, name: str) -> str:
        return {"quality": "standard"}.get(name, "")


def option(request: JobRequest, name: str) -> str | None:
    line = request.arguments()
    return line[line.index(name) + 1] if name in line else None


def test_what_the_worker_is_asked(movie):
    assert option(asked(movie), "--camera") is None and option(asked(movie), "--focal") is None
    assert option(asked(movie, camera="still"), "--camera") == "still"
    # a worker has no Blender to solve in: the solve comes after it
    assert option(asked(movie, camera="solve", focal_px=300.0), "--camera") is None
    assert option(asked(movie, camera="solve", focal_px=300.0), "--focal") == "300.0"
    picked = {"use_subject": True, "subject_x": 30, "subject_y": 40}
    assert option(asked(movie, **picked), "--subject") == "30,40"
    assert option(asked(movie, masks=str(movie.parent), **picked), "--subject") is None  # given masks know it


def finished(
    request: JobRequest, pan: Film, toy_category, motion: Motion | None = None, solve_only: bool = False, **result
):
    """The job's last step, after a worker that took the camera to stand still."""
    folder = request.directory
    blind = Motion(**{**vars(motion or pan.motion), "world_from_camera": None})
    blind.save(folder / "motion.npz")
    summary = finish_job(
        JobRequest(**{**vars(request), "category": str(toy_category.path)}),
        {"motion": str(folder / "motion.npz"), **result},
        bpy.context.scene,
        lambda i: cv2.dilate(pan.masks[i], np.ones((9, 9))) < 128,
        solve_only,
    )
    return summary, Motion.load(folder / "motion.npz")


def turned(motion: Motion, pan: Film) -> float:
    truth = pan.motion.world_from_camera[:, :3, :3]
    return float(np.degrees(geodesic(motion.world_from_camera[:, :3, :3], truth).max()))


def test_a_solve_is_made_and_taken_up_again(pan, movie, toy_category):
    worker = {"camera": "the camera turns", "warnings": ["a", "b"], "camera_warnings": ["b"]}
    as_is, still = finished(asked(movie), pan, toy_category, **worker)
    assert not still.camera_moves and as_is.text.endswith("the camera turns") and as_is.warnings == ("a", "b")
    solved, motion = finished(asked(movie, camera="solve"), pan, toy_category, **worker)
    assert turned(motion, pan) < 0.4 and "solved by Blender's tracker" in solved.text
    assert solved.warnings[0] == "a" and "b" not in solved.warnings  # what was doubtful about the camera no longer is
    camera = bpy.context.scene.camera
    assert camera.name == "pan camera.001"  # the scene goes on looking at the clip
    poses = []
    for frame in (1, FRAMES):
        bpy.context.scene.frame_set(frame)
        poses.append(camera_from_world(camera))
    np.testing.assert_allclose(poses[0] @ np.linalg.inv(poses[1]), motion.world_from_camera[-1], atol=1e-4)
    # now the movie clip has a solve: it is found, its lens is asked for, and it is used
    again = asked(movie)
    assert again.solved_clip and float(option(again, "--focal") or 0) == pytest.approx(
        pan.motion.focal_px[0], rel=1e-4
    )
    used, motion = finished(again, pan, toy_category)
    assert turned(motion, pan) < 0.4 and "solved by Blender's tracker" in used.text
    assert not asked(movie, camera="still").solved_clip


def test_a_solve_that_fails_leaves_the_workers_camera(pan, movie, toy_category):
    request = asked(movie, camera="solve")
    movie.write_bytes(b"no movie")
    summary, motion = finished(request, pan, toy_category, camera="the camera turns")
    assert not motion.camera_moves and "the camera turns" in summary.text
    assert any("pan.avi" in warning for warning in summary.warnings)
    gone, _ = finished(JobRequest(**{**vars(request), "solved_clip": "old"}), pan, toy_category)
    assert any("old" in warning for warning in gone.warnings)


def test_a_solve_alone_builds_nothing_where_it_fails(pan, movie, toy_category):
    request = asked(movie, camera="solve")
    movie.write_bytes(b"no movie")
    with pytest.raises(CameraSolveError, match=r"pan\.avi"):
        finished(request, pan, toy_category, solve_only=True)
    assert not bpy.data.objects and not bpy.data.movieclips


def test_an_export_that_fails_is_a_warning(pan, movie, toy_category, monkeypatch):
    def refuse(built, directory, formats, stem):
        if formats == ["glb"]:
            raise ScenePlanError("dog.glb could not be written.")

    monkeypatch.setattr("dasr_blender.scene.request.export_scene", refuse)
    summary, _ = finished(asked(movie, formats={"glb", "fbx"}), pan, toy_category)
    assert f"; fbx written to {movie.parent / 'out'}" in summary.text
    assert "dog.glb could not be written." in summary.warnings
    assert any(item.type == "ARMATURE" for item in bpy.context.scene.objects)


@pytest.mark.parametrize("sequence", [False, True])
def test_a_movie_clip_and_the_rig_are_in_step(pan, movie, toy_category, sequence):
    shown = movie
    if sequence:
        for i, frame in enumerate(pan.frames):
            cv2.imwrite(str(movie.with_name(f"shot.{i + 101:04d}.png")), frame[..., ::-1])
        shown = movie.with_name("shot.0101.png")
    clip = bpy.data.movieclips.load(str(shown))
    clip.frame_start, clip.frame_offset = 50, 3
    assert clip_start(clip) == 47
    request = asked(movie, clip=clip)
    assert request.start_frame == 1 and request.clip_start == 47
    blind = Motion(**{**vars(pan.motion), "frame_index": pan.motion.frame_index + 5})
    summary, _ = finished(request, pan, toy_category, motion=blind)
    rig, camera = (next(o for o in bpy.context.scene.objects if o.type == kind) for kind in ("ARMATURE", "CAMERA"))
    assert tuple(rig.animation_data.action.frame_range) == (52, 52 + FRAMES - 1)  # the file's frame 5 is shown at 52
    assert list(bpy.data.movieclips) == [clip] and camera.data.background_images[0].clip == clip


def test_a_sequence_counts_from_the_first_image_of_the_folder(pan, tmp_path):
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"shot.{i + 8:04d}.png"), pan.frames[i])
    clip = bpy.data.movieclips.load(str(tmp_path / "shot.0010.png"))
    clip.frame_start, clip.frame_offset = 20, 1
    assert clip_path(clip) == str(tmp_path / "shot.####.png")
    assert clip_start(clip) == 17  # image 10 is shown at 19


def test_which_movie_clip_is_the_chosen_one(pan, movie):
    other = movie.with_name("other.avi")
    other.write_bytes(movie.read_bytes())
    for i in range(3):
        cv2.imwrite(str(movie.with_name(f"shot.{i + 8:04d}.png")), pan.frames[i])
    shown, wrong, images = (
        bpy.data.movieclips.load(str(path)) for path in (movie, other, movie.with_name("shot.0009.png"))
    )
    file = _Settings(source="FILE", filepath=str(movie), movie_clip=None)
    assert is_chosen(shown, file) and not is_chosen(wrong, file) and not is_chosen(images, file)
    for path in (movie.with_name("shot.0008.png"), movie.with_name("shot.####.png"), movie.parent):
        assert is_chosen(images, _Settings(source="FILE", filepath=str(path)))
    assert not is_chosen(shown, _Settings(source="FILE"))
    other.unlink()
    assert not is_chosen(wrong, _Settings(source="FILE", filepath=str(other.with_name("gone.avi"))))
    assert is_chosen(wrong, _Settings(source="MOVIECLIP", movie_clip=wrong, filepath=str(movie)))


def test_a_folder_is_listed_again_only_when_it_changed(pan, tmp_path, monkeypatch):
    """The clip editor's tools ask at every redraw which clip is the chosen one, the panel what a file stands for."""
    for i in (8, 9):
        cv2.imwrite(str(tmp_path / f"shot.{i:04d}.png"), pan.frames[i])
    clip = bpy.data.movieclips.load(str(tmp_path / "shot.0008.png"))
    file = _Settings(source="FILE", filepath=str(tmp_path / "shot.0008.png"))
    listed, own = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: listed.append(self) or own(self))
    assert is_chosen(clip, file) and listed
    once = len(listed)
    assert is_chosen(clip, file) and chosen_path(file.filepath).endswith("####.png") and len(listed) == once
    cv2.imwrite(str(tmp_path / "shot.0007.png"), pan.frames[7])
    os.utime(tmp_path, ns=(1, 1))
    assert is_chosen(clip, file) and len(listed) > once
    assert clip_start(clip) == 0  # it is the second image now


def test_settings_that_ask_for_nothing_that_can_be_done(monkeypatch):
    said = SimpleNamespace(kind="MASK", filepath="", frame=7, is_property_set=lambda name: False)
    settings = _Settings(use_range=False, frame_first=9, frame_last=4, masks="", corrections=[], formats={"glb", "usd"})
    assert settings_problem(settings) == ""
    settings.corrections = [said]
    assert "frame 7 has no file yet" in settings_problem(settings)
    said.kind = "ON"
    assert "frame 7 has no place yet" in settings_problem(settings)
    said.is_property_set = lambda name: name == "x"  # the picture's left edge
    assert settings_problem(settings) == ""
    said.kind = "MASK"
    settings.masks = "masks"  # they are used instead
    assert settings_problem(settings) == ""
    settings.directory = "//out"
    assert "//out is relative to the .blend file" in settings_problem(settings)
    settings.directory = ""
    settings.use_range = True
    assert "ends at 4" in settings_problem(settings)
    settings.frame_last = 9
    monkeypatch.setattr("dasr_blender.scene.compat.can_write", lambda kind: kind != "usd")
    assert "without USD" in settings_problem(settings)


def test_a_summary_is_sentences():
    summary = Summary("1 frame reconstructed", ("The clip has one frame: the rig is static", "It is late."))
    assert summary.whole == "1 frame reconstructed.\nThe clip has one frame: the rig is static.\nIt is late."


def test_a_chosen_image_stands_for_its_sequence(pan, tmp_path):
    names = ["shot.0008.png", "shot.0009.png", "shot.0010.png", "still.0001.png", "still.0007.png", "plain.png"]
    for name in names:
        cv2.imwrite(str(tmp_path / name), pan.frames[0])
    meant = [Path(chosen_path(str(tmp_path / name))).name for name in names]
    assert meant == ["shot.####.png"] * 3 + names[3:]
    assert asked(tmp_path / "shot.0009.png").clip == str(tmp_path / "shot.####.png")
    for path in (str(tmp_path), str(tmp_path / "gone.0001.png"), "", str(tmp_path / "a.mp4")):
        assert chosen_path(path) == path


def test_the_overlay_and_another_pace_are_told(pan, movie, toy_category):
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = 30, 1.0
    overlay = {"files": {"motion": "motion.npz", "overlay": "pan-overlay.mp4"}}
    summary, _ = finished(asked(movie), pan, toy_category, **overlay)
    assert f"; overlay video written to {movie.parent / 'out'}" in summary.text
    (pace,) = summary.warnings
    assert "24 frames a second and the scene 30, so it plays faster" in pace
    summary, _ = finished(asked(movie, set_scene_range=True), pan, toy_category)
    assert not any("faster" in words for words in summary.warnings) and "overlay" not in summary.text


def test_the_texture_that_the_worker_wrote_is_on_the_mesh(pan, movie, toy_category):
    written = movie.parent / "pan-texture.png"
    cv2.imwrite(str(written), np.full((8, 8, 3), (30, 60, 240), np.uint8))
    files = {"motion": "motion.npz", "texture": str(written)}
    assert "--texture" in asked(movie, texture=True).arguments()
    assert "--no-texture" in asked(movie, texture=False).arguments()
    for there in (True, False):
        summary, _ = finished(asked(movie), pan, toy_category, files=files)
        (mesh,) = (item for item in bpy.data.objects[summary.rig].children if item.type == "MESH")
        colours = mesh.data.color_attributes.active_color.data
        assert (np.array(colours[0].color_srgb)[0] == pytest.approx(240 / 255, abs=0.01)) == there
        assert len(bpy.data.images) == 1  # the second mesh has none
        written.unlink(missing_ok=True)


def test_the_summary_says_where_the_clip_is_seen_and_what_stands_there_too(pan, movie, toy_category):
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(scene.camera)
    summary, _ = finished(asked(movie), pan, toy_category)
    assert any("still Camera: to see the rig before the clip, select pan camera" in w for w in summary.warnings)
    summary, _ = finished(asked(movie, set_scene_range=True), pan, toy_category)
    assert scene.camera.name == "pan camera.001"
    (earlier,) = summary.warnings
    assert earlier == "pan rig, reconstructed from this clip before, is still there: hide or delete its collection"
    for rig in [item for item in scene.objects if item.type == "ARMATURE"]:
        rig.hide_set(True)
    summary, _ = finished(asked(movie, set_scene_range=True), pan, toy_category)
    assert not summary.warnings


def test_a_clip_of_the_same_name_elsewhere_is_another(pan, movie, toy_category, tmp_path):
    scene = bpy.context.scene
    finished(asked(movie), pan, toy_category)
    assert scene.camera.name == "pan camera"
    elsewhere = tmp_path / "elsewhere" / movie.name
    elsewhere.parent.mkdir()
    shutil.copy(movie, elsewhere)
    summary, _ = finished(asked(elsewhere), pan, toy_category)
    assert scene.camera.name == "pan camera"
    assert any("still pan camera: to see" in w for w in summary.warnings)
    assert not any("before, is still there" in w for w in summary.warnings)


def test_another_clip_of_that_name_gets_a_folder_of_its_own(pan, movie, tmp_path):
    request = asked(movie, directory="")
    assert beside_others(request) == request and request.directory == tmp_path / "pan-dasr"
    kept = Motion(**{**vars(pan.motion), "source_hash": sha256_of(movie)})
    kept.save(request.directory / "motion.npz")
    assert beside_others(request) == request
    movie.write_bytes(movie.read_bytes() + b"another")
    assert beside_others(request).directory == tmp_path / "pan-dasr-2"
    kept.save(tmp_path / "pan-dasr-2" / "motion.npz")
    assert beside_others(request).directory == tmp_path / "pan-dasr-3"
    (tmp_path / "pan-dasr-2" / "motion.npz").write_bytes(b"cut off")
    assert beside_others(request).directory == tmp_path / "pan-dasr-2"


def test_folder_and_files_take_a_long_name_whole(pan, movie, toy_category):
    """Takes of one project share more than Blender's names have room for."""
    clip = movie.rename(movie.with_name("client_project_scene_04_shot_12_background_take_01.avi"))
    request = asked(clip, directory="", formats={"bvh"})
    finished(request, pan, toy_category)
    assert request.directory.name == f"{clip.stem}-dasr"
    assert (request.directory / f"{clip.stem}.bvh").is_file()


def test_another_clips_motion_is_not_solved(pan, movie, toy_category):
    other = Motion(**{**vars(pan.motion), "source": "cat.mp4", "source_hash": "0" * 64})
    with pytest.raises(ScenePlanError, match=r"another clip, cat\.mp4: reconstruct pan\.avi first"):
        finished(asked(movie, camera="solve"), pan, toy_category, motion=other, solve_only=True)
    assert not bpy.data.objects and not bpy.data.movieclips
