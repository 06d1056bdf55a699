# SPDX-License-Identifier: GPL-3.0-or-later
"""Before and after distilling: against the teacher, against the truth and on real clips, each by itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("tyro")
pytest.importorskip("onnx")

from tiny_predictor import save_tiny_category
from toy_clips import write_clips

from dasr_blender.core import Category, Motion, load_category
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.training import __main__ as training
from dasr_blender.training import distill_report
from dasr_blender.training.distill_report import AFTER, BEFORE, TEACHER, ReportConfig
from dasr_blender.training.errors import TrainingError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Category:
    return load_category(save_tiny_category(tmp_path_factory.mktemp("bundle")))


def turned(motion: Motion, degrees: np.ndarray) -> Motion:
    """The motion with its root turned about its own height, frame by frame (T,) degrees."""
    pose = motion.camera_from_root.copy()
    pose[:, :3, :3] = pose[:, :3, :3] @ rotvec_to_matrix(np.deg2rad(degrees)[:, None] * [0, 0, 1.0])
    return replace(motion, camera_from_root=pose)


@pytest.fixture(scope="module")
def home(tiny: Category, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips with their truth; a teacher labelled two, 5° off, and one frame badly, of which it is unsure."""
    home = tmp_path_factory.mktemp("clips")
    write_clips(tiny, home / "truth", 3, frames=5)
    for folder in sorted((home / "truth").iterdir())[:2]:
        shutil.copytree(folder, home / "taught" / folder.name)
        motion = Motion.load(folder / "motion.npz")
        wrong = turned(motion, np.array([5.0, 5, 170, 5, 5]))
        sure = np.array([1.0, 1, 0, 0.5, 1])
        replace(wrong, confidence=sure).save(home / "taught" / folder.name / "motion.npz")
    # another clip that only happens to have the third one's name
    write_clips(tiny, home / "elsewhere", 1, frames=5, seed=3)
    (home / "elsewhere" / "030000").rename(home / "elsewhere" / "000002")
    return home


@pytest.fixture(scope="module")
def written(tiny: Category, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One report on everything; before and after are the same network, as a bundle and as a file."""
    out = tmp_path_factory.mktemp("out")
    arguments = ["distill-report", "--before", tiny.path, "--after", tiny.predictor_path, "--out", out]
    arguments += ["--category", tiny.path, "--teacher", home / "taught", home / "elsewhere"]
    arguments += ["--truth", home / "truth", "--real", home / "truth" / "000001"]
    assert training.main([str(a) for a in arguments]) == 0
    return out


def test_every_part_has_both_students_and_the_truth_also_judges_the_teacher(written: Path) -> None:
    result = json.loads((written / "scores.json").read_text(encoding="utf-8"))
    assert set(result["teacher"]["rows"]) == set(result["real"]["rows"]) == {BEFORE, AFTER}
    assert set(result["truth"]["rows"]) == {BEFORE, AFTER, TEACHER}
    for part in ("teacher", "truth", "real"):
        assert result[part]["rows"][BEFORE] == result[part]["rows"][AFTER]
        for name in ("iou", "jitter_percent"):
            assert result[part]["rows"][AFTER][name] > 0, (part, name)
    for name in ("root_chosen_deg", "root_tracked_deg", "joints_mean_deg", "cd_cm", "cd_scaled_share"):
        assert result["teacher"]["rows"][AFTER][name] > 0 and result["truth"]["rows"][AFTER][name] > 0
    # the frames it is unsure of are not asked about, but it is judged by what it wrote of them
    assert result["teacher"]["frames"] == 2 * 4 + 5 and result["truth"]["frames"] == 15
    judged = result["truth"]["each"][TEACHER]
    assert set(judged) == {"000000", "000001"}  # not the other clip of the third one's name
    assert result["truth"]["rows"][TEACHER]["root_tracked_deg"] == pytest.approx(5.0, abs=1e-2)
    assert result["truth"]["rows"][TEACHER]["root_tracked_over_30"] == pytest.approx(0.2)
    assert result["truth"]["rows"][TEACHER]["joints_mean_deg"] < 1e-2
    assert "000002" in result["teacher"]["each"][AFTER]


def test_the_table_is_one_and_says_what_it_holds(written: Path) -> None:
    text = (written / "table.md").read_text(encoding="utf-8")
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert len(grid) == 2 + 2 + 3 + 2 and len({line.count("|") for line in grid}) == 1
    for words in (
        "against the teacher · before",
        "against the truth · the teacher itself",
        "real clips · after",
    ):
        assert text.count(f"| {words} ") == 1
    assert "against the teacher: 3 clips, 13 frames" in text and "the 2 of those clips" in text
    assert "- IoU:" in text and (written / "real-000001.jpg").stat().st_size > 5000


def test_only_clips_that_training_left_out_can_be_asked_for(tiny: Category, tmp_path: Path, home: Path) -> None:
    pytest.importorskip("torch")
    from dasr_blender.training.pack import pack

    pack(home / "truth", tmp_path, tiny, crop=32)
    config = ReportConfig(
        before=home, after=home, out=tmp_path, teacher=(home / "taught",), left_out_of=tmp_path, held_out=2
    )
    assert [f.name for f in distill_report.teacher_folders(config)] == ["000001"]
    with pytest.raises(TrainingError, match="keeps none"):
        distill_report.teacher_folders(replace(config, held_out=3))
    assert len(distill_report.teacher_folders(replace(config, left_out_of=None))) == 2


def test_what_it_cannot_do_is_one_sentence(tiny: Category, home: Path, tmp_path: Path, capsys) -> None:
    usual = ["--category", str(tiny.path), "--out", str(tmp_path), "--before", str(tiny.path)]
    for more, reason in (
        (["--after", str(tiny.path)], "Nothing to compare on"),
        (["--after", str(tmp_path / "no.onnx"), "--truth", str(home / "truth")], "no such bundle"),
        (["--after", str(tmp_path / "no.pt"), "--truth", str(home / "truth")], "no.pt"),
        (["--after", str(tiny.path), "--teacher", str(tmp_path)], "holds no clip folder"),
    ):
        assert training.main(["distill-report", *usual, *more]) == 1
        error = capsys.readouterr().err
        assert reason in error and len(error.splitlines()) == 1


def test_a_checkpoint_is_exported_first(toy_category: Category, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from dataclasses import asdict

    from dasr_blender.predict import Student
    from dasr_blender.training.evaluate.rows import make_rows
    from dasr_blender.training.student.checkpoint import make_student
    from dasr_blender.training.student.config import StudentConfig

    student = make_student(StudentConfig(crop=64, width=64, appearance=3), toy_category)
    state = {"student": student.state_dict(), "sizes": asdict(student.config), "stage": "clips"}
    torch.save(state, tmp_path / "student.pt")
    found = distill_report.network(tmp_path / "student.pt", toy_category, tmp_path, "after")
    assert found == tmp_path / "after.onnx"
    (row,) = make_rows(replace(toy_category, predictor_path=None), [f"after={found}"], False, "draft")
    assert isinstance(row.student, Student)  # pyright: ignore[reportAttributeAccessIssue]
    assert distill_report.network(found, toy_category, tmp_path, "x") == found
