# SPDX-License-Identifier: GPL-3.0-or-later
"""One command, one table: what is asked for is scored, printed and written."""

from __future__ import annotations

import builtins
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("tyro")
pytest.importorskip("matplotlib")
pytest.importorskip("onnx")

from tiny_predictor import save_tiny_category, write_tiny_landmarks, write_tiny_refiner
from toy_clips import random_motion, render, write_clips

from dasr_blender import cli
from dasr_blender.core import Category, load_category
from dasr_blender.predict import PredictError
from dasr_blender.training import evaluate
from dasr_blender.training.clip_folder import save_surface
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.evaluate import run
from dasr_blender.training.evaluate.options import EvaluateConfig
from dasr_blender.training.evaluate.rendered import spread
from dasr_blender.training.evaluate.rows import FIT, MEAN, ONCE, OURS, SINGLE, Row, make_rows
from dasr_blender.training.evaluate.scene import read_scene
from dasr_blender.training.evaluate.table import table


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Category:
    return load_category(save_tiny_category(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def clips(tiny: Category, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered clips, one of a held-out split, and beside them a real clip."""
    home = tmp_path_factory.mktemp("clips")
    write_clips(tiny, home / "rendered", 2, frames=4)
    folders = sorted((home / "rendered").iterdir())
    for k, folder in enumerate(folders):
        (folder / "meta.json").write_text(json.dumps({"split": "held-out" if k == 0 else "train"}))
    motion = random_motion(tiny, 5, 9)
    for kind, pictures in zip(("frames", "masks"), render(tiny, motion), strict=True):
        (home / "real" / "toy" / kind).mkdir(parents=True)
        for i, picture in enumerate(pictures):
            path = home / "real" / "toy" / kind / f"{i:05d}.png"
            cv2.imwrite(str(path), picture[..., ::-1] if picture.ndim == 3 else picture)
    points = [{"image_path": f"{i:05d}.jpg", "joints": [[500, 960], [520, 900]]} for i in range(5)]
    (home / "real" / "toy" / "keypoints_badja.json").write_text(json.dumps(points))
    return home


@pytest.fixture(scope="module")
def written(tiny: Category, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run of everything that needs no Blender leaves."""
    out = tmp_path_factory.mktemp("out")
    other = str(tiny.predictor_path)
    arguments = ["evaluate", "--dataset", clips / "rendered", "--real", clips / "real", "--out", out]
    arguments += [
        "--category",
        tiny.path,
        "--rows",
        f"wide@0={other}",
        f"wide@1={other}",
        f"bundle={tiny.path}",
    ]
    assert cli.main([str(a) for a in arguments]) == 0
    return out


def test_the_run_writes_scores_table_plots_and_pictures(written: Path):
    result = evaluate.read(written / "scores.json")
    rows = result["rendered"]["rows"]
    assert set(rows) == {OURS, FIT, SINGLE, MEAN, "wide@0", "wide@1", "bundle"}
    # an untrained network, so only the picture can tell what the fit is for
    assert rows[FIT]["all"]["iou"] > rows[OURS]["all"]["iou"]
    assert set(rows[OURS]) == {"all", "held-out", "train"} and result["mean"] == rows[OURS]["all"]
    assert rows["bundle"]["all"] == rows[OURS]["all"]  # the same network, read from its folder
    for name in (
        "root_tracked_deg",
        "root_best_deg",
        "translation",
        "joints_mean_deg",
        "mpjpe_cm",
        "pa_mpjpe_cm",
    ):
        assert rows[OURS]["all"][name] > 0
    for name in ("iou", "ama_f10", "f5", "cd_share"):
        assert 0 <= rows[OURS]["all"][name] <= 2
    assert rows[OURS]["all"]["root_best_deg"] <= rows[OURS]["all"]["root_chosen_deg"]
    assert rows[MEAN]["all"]["translation"] == 0 and rows[MEAN]["all"]["root_tracked_deg"] < 1e-2
    assert "root_best_deg" not in rows[MEAN]["all"] and "accel_of_single" not in rows[SINGLE]["all"]
    assert set(result["rendered"]["each"][OURS]) == {"000000", "000001"}
    assert result["rendered"]["reliability"][OURS]["ece_deg"] > 0
    for picture in ("scores.png", "reliability.png", "real-toy.jpg", "real-toy-bundle.jpg"):
        assert (written / picture).stat().st_size > 5000, picture


def test_the_table_has_a_line_a_row_and_split_and_says_what_its_columns_are(written: Path):
    text = (written / "table.md").read_text(encoding="utf-8")
    assert text.count(f"| {OURS} · held-out") == 1 and "| wide (2 seeds) " in text and "| wide@0 " not in text
    assert "±" in text and "- area CD %:" in text
    assert f"toy · {OURS} [true]" in text and "PCK-T" in text
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in grid}) == 2  # two tables, each of one width


def test_real_clips_have_overlap_keypoints_and_jitter(written: Path):
    (clip,) = evaluate.read(written / "scores.json")["real"]
    assert clip["name"] == "toy" and clip["masks"] == "true" and set(clip["rows"]) == {
        OURS, FIT, SINGLE, "wide@0", "wide@1", "bundle",
    }  # fmt: skip
    scores = clip["rows"][OURS]
    assert (
        scores["pck_t_zero"] == 1
        and scores["pck_pairs"] == 40
        and 0 < scores["iou_worst"] <= scores["iou"] <= 1
    )


def test_a_second_look_is_scored_beside_the_first(tiny: Category, tmp_path: Path) -> None:
    write_tiny_refiner(tmp_path / "refiner.onnx", tiny)
    write_tiny_landmarks(tmp_path / "landmarks.onnx")
    twice = replace(tiny, refiner_path=tmp_path / "refiner.onnx", landmarks_path=tmp_path / "landmarks.onnx")
    rows = make_rows(twice, [f"alone={tiny.predictor_path}"])
    assert [row.label for row in rows] == [OURS, ONCE, SINGLE, MEAN, "alone"]
    assert [getattr(row, "refiner", None) is not None for row in rows] == [True, False, False, False, False]
    assert [getattr(row, "landmarks", None) is not None for row in rows] == [True, True, False, False, False]
    clip = write_clips(tiny, tmp_path / "clips", 1) / "000000"
    scene = read_scene(clip, tiny)
    assert scene is not None
    found = {row.label: row.answer(scene) for row in rows}
    depth = {label: a.motion.camera_from_root[:, 2, 3] for label, a in found.items() if a is not None}
    assert np.allclose(np.log(depth[ONCE] / depth[OURS]), 0.1, atol=0.02)  # the sum is smoothed too
    assert np.array_equal(depth[ONCE], depth["alone"])


def test_a_category_without_a_network_is_scored_by_others(tiny: Category):
    bare = replace(tiny, predictor_path=None)
    assert [row.label for row in make_rows(bare, [f"new={tiny.predictor_path}"])] == ["new", SINGLE, MEAN]
    with pytest.raises(PredictError, match=r"no predictor\.onnx"):
        make_rows(bare)


def test_published_figures_stand_beside_ours():
    clip = {"name": "dog-w011", "masks": "automatic", "rows": {OURS: {"frames": 9, "iou": 0.7}}}
    text = table({"real": [clip]})
    assert "DASR, its authors' video" in text and "0.595" in text and "0.700" in text
    part = {"clips": 1, "frames": 9, "dataset": "T_samba", "rows": {OURS: {"all": {"ama_cd_cm": 9.0}}}}
    part |= {"seeds": {}, "surfaces": {"scan": 1}, "reliability": {}}
    text = table({"ama": part, "category": "human", "version": "1"})
    assert "DASR, as published · T_samba" in text and "11.2" in text and "handstand" not in text


def test_seeds_become_mean_and_spread():
    rows = [Row("a", None, seed) for seed in "123"] + [Row("b", None)]  # type: ignore[arg-type]
    lines = {f"a@{s}": {"all": {"iou": v}} for s, v in (("1", 0.5), ("2", 0.6), ("3", 0.7))}
    found = spread({**lines, "b": {"all": {"iou": 1.0}}}, rows)
    assert found == {"a": {"all": {"iou": {"mean": 0.6, "std": 0.1, "n": 3}}}}


def test_rows_that_cannot_be_read_are_refused_in_a_sentence(tiny: Category, tmp_path: Path, capsys):
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    for text, reason in (
        ("just-a-path", "NAME=PATH"),
        ("@0=x.onnx", "NAME=PATH"),
        (f"x={tmp_path}/none.onnx", "no such"),
        (f"x={tmp_path}/bad.onnx", "onnxruntime"),
        (f"{OURS}={tiny.predictor_path}", "Two rows"),
    ):
        with pytest.raises(TrainingError, match=reason):
            make_rows(tiny, [text])
    usual = ["evaluate", "--out", str(tmp_path), "--category", str(tiny.path)]
    assert cli.main(usual) == 1
    assert "Nothing to score" in capsys.readouterr().err
    assert cli.main([*usual, "--dataset", str(tmp_path), "--clips", "-1"]) == 1
    assert "--clips and --frames not negative" in capsys.readouterr().err
    assert cli.main([*usual, "--dataset", str(tmp_path)]) == 1
    assert "holds no clip folder" in capsys.readouterr().err


def test_what_cannot_be_done_is_said_before_anything_is_scored(tiny: Category, clips: Path, tmp_path: Path):
    """Of several inputs the last may be wrong, and the first take hours."""
    usual, said = EvaluateConfig(out=tmp_path, dataset=clips / "rendered"), []
    toy = clips / "real" / "toy"
    for wrong, reason in (
        ({"ama": (tmp_path,)}, "Pmat"),
        ({"rigged": tmp_path}, "no .glb"),
        ({"real": (tmp_path / "none",)}, "no such clip"),
        ({"real": (toy, toy)}, "Two real clips are called toy"),
        ({"dataset": None, "real": (toy,), "publish": True}, "give --dataset"),
        ({"rigs": tmp_path / "none"}, "no such folder of rigs"),
        ({"seed": -1}, "--seed must be at least 0, not -1"),
    ):
        with pytest.raises(TrainingError, match=reason):
            run.evaluate(replace(usual, **wrong), tiny, lambda *done: said.append(done))
    with pytest.raises(TrainingError, match="no network of its own"):
        run.evaluate(replace(usual, publish=True), replace(tiny, predictor_path=None))
    assert not said


def test_a_clip_that_cannot_be_scored_ends_none_of_the_others(
    tiny: Category, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    dataset = Path(shutil.copytree(clips / "rendered", tmp_path / "rendered"))
    first, *others = sorted(folder.name for folder in dataset.iterdir())
    (dataset / first / "masks" / "00000.png").write_bytes(b"no picture")
    real = tmp_path / "real"
    for name in ("a", "b"):
        shutil.copytree(clips / "real" / "toy", real / name)
    for path in (real / "b" / "masks").iterdir():
        cv2.imwrite(str(path), np.zeros(cv2.imread(str(path)).shape, np.uint8))
    usual = ["evaluate", "--category", str(tiny.path), "--quality", "draft", "--no-baselines"]
    asked = [*usual, "--out", str(tmp_path / "scores"), "--dataset", str(dataset), "--real", str(real), "--publish"]
    published = (tiny.path / "category.json").read_bytes()
    assert cli.main(asked) == 1
    said = capsys.readouterr().err
    assert f"not scored: {first}: " in said and "not scored: b: " in said and "not published" in said
    assert (tiny.path / "category.json").read_bytes() == published
    result = run.read(tmp_path / "scores" / "scores.json")
    assert result["clips"] == len(others) and [clip["name"] for clip in result["real"]] == ["a"]
    assert len(result["failed"]) == 2 and (tmp_path / "scores" / "table.md").is_file()
    shutil.rmtree(real / "a")
    assert cli.main([*usual, "--out", str(tmp_path / "none"), "--real", str(real)]) == 1
    assert "evaluate: b: " in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_a_surface_beside_the_clip_is_the_truth(tiny: Category, clips: Path):
    folder = sorted((clips / "rendered").iterdir())[1]
    before = read_scene(folder, tiny)
    assert before is not None and before.surface is not None and before.surface.source == "labels"
    corner = np.array([[0, 0, 2.0], [1, 0, 2], [0, 1, 2]])
    save_surface(folder, np.tile(corner, (4, 1, 1)), np.array([[0, 1, 2]]))
    try:
        scene = read_scene(folder, tiny)
        assert scene is not None and scene.surface is not None and scene.surface.source == "surface"
        assert scene.surface.vertices[3] == pytest.approx(corner)
        (folder / "surface.npz").write_bytes(b"?")
        with pytest.raises(TrainingError, match="surface.npz"):
            read_scene(folder, tiny)
    finally:
        (folder / "surface.npz").unlink()


def test_a_clip_that_cannot_be_read_is_told_before_the_others_are_scored(
    tiny: Category, clips: Path, tmp_path: Path, capsys
):
    bad, out = tmp_path / "bad.mp4", tmp_path / "out"
    bad.write_bytes(b"no video")
    line = ["evaluate", "--real", clips / "real", bad, "--out", out, "--category", tiny.path]
    assert cli.main([str(word) for word in line]) == 1
    assert "bad.mp4 is not a video" in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "matplotlib" or name.startswith("matplotlib."):
            raise ModuleNotFoundError(f"No module named '{name}'", name="matplotlib")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert cli.main(["evaluate", "--out", "x"]) == 1
    message = capsys.readouterr().err
    assert "matplotlib" in message and "dasr-blender[train]" in message and len(message.splitlines()) == 1


def test_evaluating_loads_no_torch(written: Path):
    """The exported network is what is scored; torch may be missing."""
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] == 'torch': raise ModuleNotFoundError('No torch', name='torch')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from dasr_blender.training.evaluate import main\n"
        "import dasr_blender.training.evaluate.real, dasr_blender.training.evaluate.ama\n"
        "import dasr_blender.training.evaluate.rig_surface, dasr_blender.training.evaluate.joint_map\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    sys.exit(stop.code)\n"
    )
    root = Path(cli.__file__).resolve().parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0 and "--rigged" in result.stdout, result.stderr


def test_a_generated_clip_may_bring_its_surface(tiny: Category, tmp_path: Path):
    from dasr_blender.training.clip_folder import load_surface
    from dasr_blender.training.synth.clips import ClipData, write_clip

    motion = random_motion(tiny, 3, 1)
    frames, masks = render(tiny, motion)
    surface = np.random.default_rng(0).normal(size=(3, 7, 3)), np.array([[0, 1, 2], [4, 5, 6]])
    meta: dict[str, object] = {"jpeg_quality": 90}
    write_clip(ClipData(frames, masks, motion, meta, surface), tmp_path / "with")
    write_clip(ClipData(frames, masks, motion, meta), tmp_path / "without")
    found = load_surface(tmp_path / "with")
    assert (
        found is not None and np.allclose(found[0], surface[0], atol=1e-6) and (found[1] == surface[1]).all()
    )
    assert load_surface(tmp_path / "without") is None
