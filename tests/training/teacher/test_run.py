# SPDX-License-Identifier: GPL-3.0-or-later
"""The teacher's command from videos to clip folders that a student trains on, in about a minute."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_predictor import save_tiny_category
from toy_clips import random_motion, render

from dasr_blender.core import Motion, load_category
from dasr_blender.core.rotation import rotvec_to_matrix
from dasr_blender.training.__main__ import main
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.pack import pack
from dasr_blender.training.teacher.config import FieldConfig
from dasr_blender.training.teacher.run import TeachConfig, mean_iou, teach

SMALL = FieldConfig(
    width=16, depth=2, frames=6, rays=24, coarse=12, fine=8, crop=48, base_grid=40, regular=128, steps=24,
    save_every=8, picture_every=12, device="cpu",
)  # fmt: skip
FRAMES = 14


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle whose student always sees the animal from its right, and three clips that show it nearly so."""
    folder = tmp_path_factory.mktemp("teach")
    bundle = save_tiny_category(folder / "tiny")
    category = load_category(bundle)
    for n in range(3):
        motion = random_motion(category, FRAMES, seed=n)
        turn = rotvec_to_matrix(np.linspace([0, 0, -0.2], [0, 0, 0.2], FRAMES) + 0.1 * n)
        motion.camera_from_root[:, :3, :3] = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]) @ turn
        motion.camera_from_root[:, :3, 3] = [0.05 * n, 0, 2.6]
        motion.morphology[:] = 0.1
        for kind in ("frames", "masks"):
            (folder / "videos" / f"clip{n}" / kind).mkdir(parents=True)
        for i, (frame, mask) in enumerate(zip(*render(category, motion), strict=True)):
            at = folder / "videos" / f"clip{n}"
            cv2.imwrite(str(at / "frames" / f"{i:05d}.png"), frame[..., ::-1])
            cv2.imwrite(str(at / "masks" / f"{i:05d}.png"), mask)
    return bundle, folder / "videos"


def test_from_videos_to_what_a_student_learns_from(videos: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, clips = videos
    config = TeachConfig(
        (clips,), tmp_path / "out", str(bundle), held=("clip2",), field=SMALL, resolution=80, threads=1
    )
    said: list[float] = []
    taught = teach(config, lambda share, text: said.append(share))
    category = load_category(bundle)

    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert facts["iou"]["end"] > facts["iou"]["start"]
    assert facts["iou"]["end"] > 0.75 and facts["iou"]["held"] > 0.7
    assert mean_iou([]) is None  # as where no clip is left out
    assert facts["clips"]["clip2"]["held"] and not facts["clips"]["clip0"]["held"]
    assert said == sorted(said) and said[-1] == 1.0

    # one shape for all clips, the one that was left out too
    shapes = [clip.motion.morphology for clip in taught.clips]
    assert all(np.array_equal(shape, shapes[0]) for shape in shapes)
    assert all(np.array_equal(clip.motion.relief, taught.clips[0].motion.relief) for clip in taught.clips)

    assert len(taught.folders) == 2
    assert len(list((tmp_path / "out" / "held").glob("clip2-*"))) == 1
    for folder in taught.folders:
        motion = Motion.load(folder / "motion.npz").validate(category)
        assert (
            len(list((folder / "frames").iterdir())) == len(list((folder / "masks").iterdir())) == len(motion)
        )
        assert json.loads((folder / "meta.json").read_text())["source"] == "teacher"
    assert pack(tmp_path / "out" / "set", tmp_path / "shard", category, 64) == len(taught.folders)

    assert (tmp_path / "out" / "subject.glb").stat().st_size > 10_000
    sheet = cv2.imread(str(tmp_path / "out" / "subject-turntable.jpg"))
    assert sheet is not None and sheet.std() > 10
    assert len(list((tmp_path / "out" / "field").glob("step-*.jpg"))) == 2


def test_a_wrong_name_is_one_sentence(
    videos: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, clips = videos
    given = ["teach", "--videos", str(clips), "--out", str(tmp_path), "--category", str(bundle)]
    assert main([*given, "--held", "clip9"]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("teach: There is no clip clip9 to leave out") and "Traceback" not in error
    assert main([*given, "--only", "nothing*"]) == 1
    assert "No real clip" in capsys.readouterr().err
    for more, reason in (
        (("--held", "clip0", "clip1", "clip2"), "All clips are left out"),
        (("--threads", "-1"), "--threads must be at least 0, not -1"),
        (("--field.steps", "-1"), "--field.steps must be at least 0, not -1"),
        (("--field.steps", "0"), "--field.minutes must be above 0, not 0"),
        (("--field.save-every", "0"), "--field.save-every must be at least 1, not 0"),
        (("--field.rate", "nan"), "--field.rate must be above 0, not nan"),
        (("--resolution", "0"), "--resolution must be at least 8, not 0"),
        (("--field.without", "flwo"), "There is no loss 'flwo' to do without"),
    ):
        assert main([*given, *more]) == 1
        assert reason in capsys.readouterr().err
    for name in ("a 1", "a_1"):
        shutil.copytree(clips / "clip0", tmp_path / "alike" / name)
    assert main([*given, "--videos", str(tmp_path / "alike")]) == 1
    assert "Two clips are called a_1" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_other_videos(videos: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, clips = videos
    for name in ("clip0", "clip1"):
        shutil.copytree(clips / name, tmp_path / name / "clip")
    config = TeachConfig(
        (tmp_path / "clip0",), tmp_path / "out", str(bundle), field=replace(SMALL, steps=2), resolution=32, threads=1
    )
    teach(config)
    teach(config)  # the same go on
    with pytest.raises(TrainingError, match=r"was begun with other settings \(its videos\)"):
        teach(replace(config, videos=(tmp_path / "clip1",)))


@pytest.mark.parametrize("held", ["clip0", "clip2"])
def test_a_subject_that_nothing_is_learned_of_is_fitted_with_what_the_others_share(
    videos: tuple[Path, Path], tmp_path: Path, held: str
) -> None:
    bundle, clips = videos
    config = TeachConfig(
        (clips,), tmp_path, str(bundle), only=("clip0", "clip2"), held=(held,), subjects="each",
        field=replace(SMALL, steps=2), resolution=32, threads=1,
    )  # fmt: skip
    taught = teach(config)
    assert [clip.name for clip in taught.clips] == ["clip0", "clip2"] and len(taught.shapes) == 2
    assert [path.stem for path in tmp_path.glob("*.glb")] == [f"subject-{int(held == 'clip0')}"]
