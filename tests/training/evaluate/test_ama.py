# SPDX-License-Identifier: GPL-3.0-or-later
"""AMA sequences: a folder of that form, rendered here, is read back as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("trimesh")

from toy_clips import random_motion, render

from dasr_blender.core import Category, Motion
from dasr_blender.core.camera import project
from dasr_blender.core.raster import silhouette
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.evaluate import ama
from dasr_blender.training.evaluate.options import EvaluateConfig
from dasr_blender.training.evaluate.rows import Answer, Row
from dasr_blender.training.evaluate.scene import Scene, posed_in_camera

FRAMES = 4


def write_sequence(folder: Path, category: Category, seed: int = 2) -> tuple[Motion, np.ndarray]:
    """An AMA folder of the toy, in centimetres, its world turned and shifted; returns the motion and the world's
    pose camera_from_world (metres)."""
    motion = random_motion(category, FRAMES, seed)
    motion = replace(motion, focal_px=np.full(FRAMES, motion.focal_px[0]))
    pose = np.eye(4)
    pose[:3, :3] = rotvec_to_matrix(np.array([0.5, -1.0, 0.3]))
    pose[:3, 3] = [0.2, -0.3, 1.5]
    for name in ("meshes", "calibration", "images", "silhouettes"):
        (folder / name).mkdir(parents=True)
    points = (posed_in_camera(category, motion) - pose[:3, 3]) @ pose[:3, :3] * 100
    frames, masks = render(category, motion)
    for t in range(FRAMES):
        lines = ["v " + " ".join(f"{x:.5f}" for x in p) for p in points[t]]
        lines += ["f " + " ".join(str(k + 1) for k in face) for face in category.body.faces]
        (folder / "meshes" / f"mesh_{t:04d}.obj").write_text("\n".join(lines) + "\n")
        cv2.imwrite(str(folder / "images" / f"Image1_{t:04d}.png"), frames[t][..., ::-1])
        cv2.imwrite(str(folder / "silhouettes" / f"Silhouette1_{t:04d}.png"), masks[t])
    intrinsics = np.diag([motion.focal_px[0], motion.focal_px[0], 1.0])
    intrinsics[:2, 2] = motion.principal_point
    scaled = pose[:3].copy()
    scaled[:, 3] *= 100
    np.savetxt(folder / "calibration" / "Camera1.Pmat.cal", -3.7 * intrinsics @ scaled)
    return motion, pose


def test_a_projection_of_any_sign_and_scale_comes_apart():
    rotation = rotvec_to_matrix(np.array([1.0, 2.0, -0.5]))
    intrinsics = np.array([[900.0, 0, 320], [0, 910, 240], [0, 0, 1]])
    projection = intrinsics @ np.c_[rotation, [0.1, 0.2, 3.0]]
    for factor in (1.0, -2.5, 1e-4):
        found = ama.decompose(factor * projection)
        assert np.allclose(found.intrinsics, intrinsics)
        assert np.allclose(found.camera_from_world[:3, :3], rotation)
        assert np.allclose(found.camera_from_world[:3, 3], [0.1, 0.2, 3.0])
    with pytest.raises(ValueError, match="projection"):
        ama.decompose(np.zeros((3, 4)))


def test_units_are_told_by_size():
    assert [ama.unit(np.array([[0, 0, 0], [0, s, 0]])) for s in (1.8, 180.0, 1800.0)] == [1.0, 0.01, 0.001]


def test_a_sequence_is_read_as_it_was_written(toy_category: Category, tmp_path: Path):
    motion, _ = write_sequence(tmp_path / "swing", toy_category)
    scene = ama.read_sequence(tmp_path / "swing", 1, tmp_path / "cache")
    assert len(scene) == FRAMES and scene.name == "swing-1" and scene.meta["masks"] == "true"
    assert scene.focal == pytest.approx(motion.focal_px, rel=1e-4)
    assert scene.principal_point == pytest.approx(motion.principal_point, abs=1e-2)
    assert scene.surface is not None
    true = posed_in_camera(toy_category, motion)
    assert np.abs(np.stack(scene.surface.vertices) - true).max() < 1e-4
    seen = np.stack(scene.surface.vertices)
    pixels = np.concatenate([project(seen, scene.focal, scene.principal_point), seen[..., 2:]], -1)
    drawn = silhouette(pixels, scene.surface.faces, scene.size)
    masks = np.stack(scene.masks) > 127
    assert (drawn & masks).sum() / (drawn | masks).sum() > 0.98
    assert len(ama.read_sequence(tmp_path / "swing", 1, tmp_path / "cache2", frames=2)) == 2


def test_a_perfect_answer_scores_a_perfect_surface(toy_category: Category, tmp_path: Path):
    motion, _ = write_sequence(tmp_path / "swing", toy_category)

    class Oracle(Row):
        def answer(self, scene: Scene) -> Answer | None:
            return Answer(motion)

    config = EvaluateConfig(out=tmp_path / "out", ama=(tmp_path / "swing",))
    part = ama.evaluate_ama(config, [Oracle("oracle", toy_category)], lambda *_: None)
    scores = part["rows"]["oracle"]["all"]
    assert part["clips"] == 1 and part["dataset"] == "swing" and part["surfaces"] == {"scan": 1}
    assert (
        scores["ama_cd_cm"] < 0.1 and scores["ama_f2"] == 1 and scores["cd_cm"] < 0.4 and scores["iou"] > 0.97
    )
    assert "root_tracked_deg" not in scores  # a scan has no root


def test_what_is_missing_is_named(toy_category: Category, tmp_path: Path):
    with pytest.raises(TrainingError, match="Pmat"):
        ama.cameras(tmp_path)
    write_sequence(tmp_path / "swing", toy_category)
    config = EvaluateConfig(out=tmp_path, ama=(tmp_path / "swing",), cameras=(5,))
    with pytest.raises(TrainingError, match="camera 5"):
        ama.evaluate_ama(config, [], lambda *_: None)
    for path in (tmp_path / "swing" / "meshes").iterdir():
        path.unlink()
    with pytest.raises(TrainingError, match="mesh_N"):
        ama.read_sequence(tmp_path / "swing", 1, tmp_path)
    (tmp_path / "swing" / "calibration" / "Camera1.Pmat.cal").write_text("x")
    with pytest.raises(TrainingError, match="Camera1"):
        ama.read_sequence(tmp_path / "swing", 1, tmp_path)


def test_silhouettes_go_by_their_numbers_and_are_read_anew(toy_category: Category, tmp_path: Path):
    write_sequence(tmp_path / "swing", toy_category)
    folder = tmp_path / "swing" / "silhouettes"
    right = ama.read_sequence(tmp_path / "swing", 1, tmp_path / "cache").masks
    cv2.imwrite(str(folder / "Silhouette1_9999.png"), right[0])  # of a picture that is not there
    for path in sorted((tmp_path / "swing" / "images").iterdir())[:1]:
        path.unlink()
    fewer = ama.read_sequence(tmp_path / "swing", 1, tmp_path / "cache").masks
    assert len(fewer) == FRAMES - 1 and all(np.array_equal(a, b) for a, b in zip(fewer, right[1:], strict=True))
    cv2.imwrite(str(folder / "Silhouette1_0001.png"), right[3])
    assert np.array_equal(ama.read_sequence(tmp_path / "swing", 1, tmp_path / "cache").masks[0], right[3])


def test_a_damaged_mesh_is_named(toy_category: Category, tmp_path: Path):
    write_sequence(tmp_path / "swing", toy_category)
    path = tmp_path / "swing" / "meshes" / "mesh_0001.obj"
    whole = path.read_text()
    for content, reason in (
        ("hello", "not a readable mesh"),
        (f"{whole}v 0 0 0\nf 1 2 -1\n", "vertices, but mesh_0000"),
    ):
        path.write_text(content)
        with pytest.raises(TrainingError, match=rf"mesh_0001\.obj: .*{reason}"):
            ama.read_sequence(tmp_path / "swing", 1, tmp_path)


def test_sequences_of_one_name_are_refused(toy_category: Category, tmp_path: Path):
    for where in ("one", "two"):
        write_sequence(tmp_path / where / "swing", toy_category)
    with pytest.raises(TrainingError, match="Two sequences are called swing"):
        ama.find_views([tmp_path / "one" / "swing", tmp_path / "two" / "swing"])
