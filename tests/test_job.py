# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline's own pieces: workspace, warnings, demo clip, overlay."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dasr_blender import workspace as workspace_module
from dasr_blender.core import Category, DasrError, Motion
from dasr_blender.core.camera import project, transform
from dasr_blender.core.files import clip_name
from dasr_blender.core.mesh import vertex_normals
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.demo import DemoOptions, demo_motion, render
from dasr_blender.doubts import cut_warnings, facing_camera, find_warnings, ranges
from dasr_blender.job import JobOptions, _load_prediction
from dasr_blender.overlay import OverlayPainter, contact_sheet, write_video
from dasr_blender.workspace import Workspace, fingerprint, remove_temporary


def test_clip_name() -> None:
    assert clip_name("shots/dog.mp4") == "dog"
    assert clip_name("shots/dog/frames/") == "dog"
    assert clip_name("shots/dog.####.png") == "dog"
    assert clip_name("shots/dog_%04d.png") == "dog"
    assert clip_name("shots/v1.2/fox.final.mov") == "fox.final"
    assert clip_name("shots/dog[a].####.png") == "dog[a]"
    assert clip_name("x" * 300 + ".mp4") == "x" * 40
    assert JobOptions("a/b.mp4", "out").stem == "b"
    assert JobOptions("x" * 50 + ".mp4", "out").stem == "x" * 50


def test_fingerprint_tells_inputs_apart() -> None:
    assert fingerprint("a", [1, 2]) == fingerprint("a", [1, 2])
    assert len({fingerprint("a", [1, 2]), fingerprint("a", [1, 3]), fingerprint(["a", 1, 2])}) == 3


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    target = workspace.out / "result.txt"
    target.write_text("old")
    for error, expected in (
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
    ):
        with pytest.raises(DasrError, match=expected), workspace.writing(target) as temporary:
            temporary.write_text("half")
            raise error
    with pytest.raises(DasrError, match="empty"), workspace.writing(target) as temporary:
        temporary.touch()
    assert target.read_text() == "old"
    with workspace.writing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert [p.name for p in workspace.out.iterdir()] == [".dasr", "result.txt"] or not list(
        tmp_path.rglob("*.part*")
    )


def test_too_little_space_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = workspace_module.shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(workspace_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DasrError, match=r"1 MB free.*50 MB"):
        Workspace(tmp_path / "out", needed=50_000_000)
    assert not (tmp_path / "out").exists()


def test_another_jobs_half_written_file_stays(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    others, old = (workspace.hidden / f".masks-a.{name}.part.npz" for name in ("12345678-1", "12345678-2"))
    for path in (others, old):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    with workspace.writing(tmp_path / "own.txt") as own:
        own.write_text("half")
        remove_temporary(tmp_path)
        assert not own.exists()
        own.write_text("whole")
    workspace.close()
    Workspace(tmp_path)
    assert others.exists() and not old.exists()


def test_a_job_without_result_takes_its_folders_away(tmp_path: Path) -> None:
    Workspace(tmp_path / "a" / "b" / "c").close()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    Workspace(tmp_path / "a" / "b" / "c").close()
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
    with pytest.raises(DasrError, match="Cannot write .*--out"):
        Workspace(tmp_path / "a" / "b" / ("c" * 300))
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
    kept = Workspace(tmp_path / "a" / "b")
    (kept.out / "motion.npz").write_bytes(b"x")
    kept.close()
    assert [p.name for p in kept.out.iterdir()] == ["motion.npz"]


def test_stages_are_kept_by_key(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for key in ("a", "b"):
        workspace.stage("masks", key).write_bytes(b"x")
    workspace.stage("prediction", "a").write_bytes(b"x")
    workspace.forget_other("masks", "b")
    assert sorted(p.name for p in workspace.hidden.iterdir()) == ["masks-b.npz", "prediction-a.npz"]


def test_a_prediction_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "prediction-a.npz"
    np.savez(path, joint_rotations=np.zeros(1000))
    for cut in (path.read_bytes()[:-100], b"no archive", b""):
        path.write_bytes(cut)
        assert _load_prediction(path) is None and not path.exists()


def test_a_stage_that_is_open_elsewhere_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    workspace.stage("masks", "a").write_bytes(b"x")

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Access is denied")  # as on Windows

    monkeypatch.setattr(Path, "unlink", unlink)
    workspace.forget_other("masks", "b")
    assert workspace.stage("masks", "a").exists()


def turned(motion: Motion, angle: float) -> Motion:
    """The motion's animal seen at `angle`: 0 from the front, pi from behind."""
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    pose = np.tile(np.eye(4), (len(motion), 1, 1))
    pose[:, :3, :3] = upright @ rotvec_to_matrix(np.array([0, 0, angle]))
    pose[:, 2, 3] = 3.0
    return replace(motion, camera_from_root=pose, confidence=np.ones(len(motion)))


def test_warnings(motion: Motion, toy_category: Category) -> None:
    count, size = len(motion), (320, 240)
    whole, boxes = np.zeros(count, bool), np.tile([60.0, 50, 200, 180], (count, 1))
    np.testing.assert_allclose(facing_camera(turned(motion, 0.0)), 1, atol=1e-9)
    np.testing.assert_allclose(facing_camera(turned(motion, np.pi)), -1, atol=1e-9)
    assert find_warnings(turned(motion, np.pi / 2), toy_category, whole, boxes, size) == []
    assert "front" in find_warnings(turned(motion, 0.1), toy_category, whole, boxes, size)[0]
    assert "behind" in find_warnings(turned(motion, 3.0), toy_category, whole, boxes, size)[0]
    side = turned(motion, np.pi / 2)
    some = whole.copy()
    some[[2, 3, 6]] = True
    unsure = replace(side, confidence=np.where(some, 0.1, 0.9))
    assert find_warnings(unsure, toy_category, whole, boxes, size) == ["Low confidence in frames 2-3, 6"]
    unsure.confidence[[2, 3]] = 0.9
    assert find_warnings(unsure, toy_category, whole, boxes, size) == ["Low confidence in frame 6"]
    assert "edge" in find_warnings(side, toy_category, whole, boxes - [60, 0, 60, 0], size)[0]


def test_cuts_are_named_as_frames_of_the_file() -> None:
    index = np.arange(10, 50, 2)
    assert cut_warnings(np.zeros(0, int), index) == []
    (one,) = cut_warnings(np.array([5]), index)
    assert "begins at frame 20." in one
    (two,) = cut_warnings(np.array([5, 12]), index)
    assert "begins at frames 20, 34." in two


def test_ranges_name_the_clips_own_frames() -> None:
    chosen = np.array([True, True, False, True, False, True, True, True])
    assert ranges(chosen, np.arange(10, 26, 2)) == "10-12, 16, 20-24"
    assert ranges(np.arange(20) % 2 == 0, np.arange(20)).endswith("10 and 4 more")


def test_normals_of_a_tetrahedron_point_outwards() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    normals = vertex_normals(np.stack([vertices, 2 * vertices]), faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1)
    np.testing.assert_allclose(normals[0], normals[1])
    assert (np.einsum("vc,vc->v", normals[0], vertices - vertices.mean(axis=0)) > 0).all()


def test_demo_walks_on_the_ground_and_in_the_picture(toy_category: Category) -> None:
    options = DemoOptions(frames=24, size=(160, 96))
    truth = demo_motion(toy_category, options).validate(toy_category)
    pictures, masks = map(np.stack, zip(*render(toy_category, truth, options), strict=True))
    assert pictures.shape == (24, 96, 160, 3) and pictures.dtype == np.uint8
    area = masks.mean(axis=(1, 2))
    assert area.min() > 0.01 and masks[:, [0, -1]].max() == 0 and masks[:, :, [0, -1]].max() == 0
    # It goes to the right, nose first.
    pixels = project(
        transform(truth.camera_from_root, toy_category.posed_vertices(truth)),
        truth.focal_px,
        truth.principal_point,
    )
    head = toy_category.body.skin_index[:, 1] == toy_category.skeleton.index("head")
    assert pixels[-1, :, 0].mean() > pixels[0, :, 0].mean() + 5
    assert (pixels[:, head, 0].mean(axis=1) > pixels[:, :, 0].mean(axis=1)).all()
    # The mask is where the body is, and the body differs from what is behind it.
    column = np.arange(160) + 0.5
    np.testing.assert_allclose(
        (masks * column).sum((1, 2)) / masks.sum((1, 2)), pixels[..., 0].mean(axis=1), atol=12
    )
    inside, outside = pictures[0][masks[0] > 0.99].mean(), pictures[0][masks[0] == 0].mean()
    assert outside - inside > 60


class _Frames:
    """A clip's frames, as far as the overlay needs them."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures, self.size = pictures, (pictures.shape[2], pictures.shape[1])

    def __len__(self) -> int:
        return len(self.pictures)

    def frame(self, i: int) -> np.ndarray:
        return self.pictures[i]


def test_overlay_covers_the_animal(toy_category: Category, tmp_path: Path) -> None:
    options = DemoOptions(frames=4, size=(160, 96))
    truth = demo_motion(toy_category, options)
    pictures, masks = map(np.stack, zip(*render(toy_category, truth, options), strict=True))
    # The motion is in pixels of an original twice as large as the clip at hand.
    truth = replace(
        truth,
        focal_px=truth.focal_px * 2,
        principal_point=truth.principal_point * 2,
        image_size=truth.image_size * 2,
    )
    painter = OverlayPainter(_Frames(pictures), toy_category, truth)  # pyright: ignore[reportArgumentType]
    drawn = painter.frame(2)
    assert drawn.shape == (96, 640, 3)
    np.testing.assert_array_equal(drawn[:, :160], pictures[2])
    changed = np.abs(drawn[:70, 160:320].astype(int) - pictures[2][:70]).sum(axis=2) > 12
    body = masks[2][:70] > 0.5
    near = cv2.dilate(body.astype(np.uint8), np.ones((5, 5))).astype(bool)  # the outline is drawn round it
    assert (changed & body).sum() / body.sum() > 0.85 and not (changed & ~near).any()
    for first in (320, 480):  # the second view and the confidence show something
        assert len(np.unique(drawn[:, first : first + 160].reshape(-1, 3), axis=0)) > 20
    assert contact_sheet(painter, columns=2, count=3).shape == (192, 1280, 3)


def test_video_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    frames = [np.full((32, 48, 3), 90, np.uint8)] * 3
    write_video(tmp_path / "ok.mp4", iter(frames), (48, 32), 10.0, 3)
    assert cv2.VideoCapture(str(tmp_path / "ok.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    with pytest.raises(DasrError, match="no/where"):
        write_video(tmp_path / "no/where.mp4", iter(frames), (48, 32), 10.0, 3)
    with pytest.raises(DasrError, match="all 5 frames"):
        write_video(tmp_path / "short.mp4", iter(frames), (48, 32), 10.0, 5)
