# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user got wrong is one sentence and no traceback; a bug keeps its traceback; Ctrl-C is no bug."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_training import bundle_and_shard, three_steps
from toy_clips import write_clips

from dasr_blender.core import Category, load_category, save_category
from dasr_blender.training import __main__ as training
from dasr_blender.training import ablate, distill
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.interrupt import deaf_children
from dasr_blender.training.npz import read_npz
from dasr_blender.training.pack import pack
from dasr_blender.training.picture import write_picture
from dasr_blender.training.sources import open_sources
from dasr_blender.training.student.checkpoint import load_student, read
from dasr_blender.training.student.data import Shard, stored_side
from dasr_blender.training.train_config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def home(toy_category_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle `toy`, its clips, their shard, and a training `run`."""
    folder = tmp_path_factory.mktemp("mistakes")
    bundle_and_shard(toy_category_folder, folder)
    settings = three_steps(folder / "toy", folder / "shard", clip_batch=2)
    distill.train(replace(settings, out=folder / "run", frame_steps=1, clip_steps=1))
    return folder


@pytest.fixture(scope="module")
def other(home: Path) -> Path:
    """The same category by another name."""
    category = load_category(home / "toy")
    return save_category(replace(category, name="other"), home / "other")


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command refuses with."""
    assert training.main([str(a) for a in arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith(f"{arguments[0]}: "), error
    return error


def breaks(number: int) -> None:
    np.zeros(number).reshape(3, 3)


def test_what_a_worker_refuses_is_one_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        module = types.SimpleNamespace(main=lambda rest: pool.apply(*rest))
        monkeypatch.setattr(training.importlib, "import_module", lambda *_, **__: module)
        assert training.main(["pack", stored_side, (33,)]) == 1
        with pytest.raises(ValueError, match="reshape"):
            training.main(["pack", breaks, (4,)])
    assert capsys.readouterr().err.startswith("pack: a crop of 33 pixels")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.SimpleNamespace(main=lambda rest: breaks(4))
    monkeypatch.setattr(training.importlib, "import_module", lambda *_, **__: module)
    with pytest.raises(ValueError, match="reshape"):
        training.main(["pack"])


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(rest: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(training.importlib, "import_module", lambda *_, **__: types.SimpleNamespace(main=stopped))
    assert training.main(["train"]) == 130
    assert capsys.readouterr().err == "train: interrupted; what was finished until then is kept\n"


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for a child")
def test_an_interrupted_training_keeps_its_checkpoint(home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dasr_blender.training", "train", "--shard", str(home / "shard")]
    command += ["--out", str(tmp_path / "run"), "--category", str(home / "toy"), "--batch", "8", "--width", "64"]
    command += ["--vertices", "50", "--no-imagenet", "--no-plot", "--device", "cpu", "--checkpoint-minutes", "0.0001"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background do not hear it
    )  # fmt: skip
    checkpoint, until = tmp_path / "run" / "student.pt", time.monotonic() + 200
    try:
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130 and error == "train: interrupted; what was finished until then is kept\n"
    assert read(checkpoint)["clocks"]["frames"][0] >= 1
    assert not list((tmp_path / "run").glob(".*"))


def _handler(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_workers_leave_an_interrupt_to_whoever_started_them() -> None:
    before = signal.getsignal(signal.SIGINT)
    with deaf_children():
        pool = multiprocessing.get_context("spawn").Pool(1)
    with pool:
        assert pool.map(_handler, [0]) == [True]
    assert signal.getsignal(signal.SIGINT) == before


def test_arrays_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(5000))
    assert list(read_npz(path, ("a",), "make it again")) == ["a"]
    with pytest.raises(TrainingError, match=r"x\.npz: lacks the array 'b'; make it again"):
        read_npz(path, ("a", "b"), "make it again")
    whole = path.read_bytes()
    for damaged in (b"", b"PK", whole[: len(whole) // 2], whole[:60] + b"????????" + whole[68:]):
        path.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"x\.npz: not a readable file of arrays .*; make it again"):
            read_npz(path, (), "make it again")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(TrainingError, match=r"one\.npy: not a readable file of arrays"):
        read_npz(tmp_path / "one.npy", (), "make it again")
    with pytest.raises(OSError, match="none"):
        read_npz(tmp_path / "none.npz", (), "make it again")


def test_masks_of_another_size_than_the_frames_are_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_clips(load_category(home / "toy"), tmp_path / "clips", 1)
    usual = ("pack", "--dataset", folder, "--out", tmp_path / "shard", "--category", home / "toy", "--crop", "64")
    masks = sorted(folder.glob("*/masks/*.png"))
    for path in masks:
        write_picture(path, np.zeros((120, 160), np.uint8))
    assert training.main([str(word) for word in usual]) == 0
    assert "1 clips" in (told := capsys.readouterr().out) and "their masks never show the subject" in told
    write_picture(masks[3], np.full((60, 80), 255, np.uint8))
    assert "00003.png: has 80 × 60 pixels, but" in said(capsys, *usual)


def test_a_training_is_not_written_over(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in (home / "run").iterdir()}
    usual = ("train", "--shard", home / "shard", "--category", home / "toy", "--out", home / "run")
    assert "run holds a training already; go on with it by --resume, or choose another --out" in said(capsys, *usual)
    assert {path.name: path.read_bytes() for path in (home / "run").iterdir()} == before


def test_settings_that_cannot_be_meant_are_refused(
    home: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ("train", "--shard", home / "shard", "--category", home / "toy", "--out", tmp_path / "run")
    for more, reason in (
        (("--batch", "0"), "--batch must be at least 1, not 0"),
        (("--batch", "3", "--threads", "2"), "--batch 3 leaves less than two frames to each of 2 parts"),
        (("--minutes", "0"), "--minutes must be above 0"),
        (("--minutes", "nan"), "--minutes must be above 0, not nan"),
        (("--frame-steps", "-1"), "--frame-steps must be at least 0, not -1"),
        (("--clip-share", "2"), "--clip-share must be between 0 and 1, not 2"),
        (("--dropout", "1"), "--dropout must be at least 0 and below 1, not 1"),
        (("--rate", "nan"), "--rate must be at least 0, not nan"),
        (("--decay", "-1"), "--decay must be at least 0, not -1"),
        (("--seed", "-1"), "--seed must be at least 0, not -1"),
        (("--frozen-blocks", "99"), "--frozen-blocks must be at most 16, not 99"),
        (("--device", "foo"), "there is no device 'foo'"),
        (("--device", "cpu:x"), "there is no device 'cpu:x'"),
        (("--shard", tmp_path), "there is no shard"),
        (("--category", other), "was packed for 'toy', not for 'other'"),
        (("--category", "nothing"), "no category 'nothing'"),
    ):
        assert reason in said(capsys, *usual, *more)
    assert not (tmp_path / "run" / "student.pt").exists()
    rows = ("ablate", "--shard", tmp_path, "--category", home / "toy", "--out", tmp_path / "rows")
    assert "there is no shard" in said(capsys, *rows)


def test_a_shard_of_another_body_is_refused(home: Path, tmp_path: Path, toy_category: Category) -> None:
    shutil.copytree(home / "shard", tmp_path / "shard")
    less = replace(toy_category, morphology=toy_category.morphology[:-1])
    with pytest.raises(TrainingError, match="another body of 'toy'"):
        Shard(tmp_path / "shard").check(less)


def test_a_body_of_the_same_sizes_with_other_vertices_is_refused_too(
    home: Path, tmp_path: Path, toy_category: Category
) -> None:
    shutil.copytree(home / "shard", tmp_path / "shard")
    body = replace(toy_category.body, vertices=1.1 * toy_category.body.vertices)
    grown = load_category(save_category(replace(toy_category, body=body), tmp_path / "grown"))
    shard = Shard(tmp_path / "shard")
    shard.check(toy_category)
    with pytest.raises(TrainingError, match=r"packed for another body\.npz than that of 'toy' now"):
        shard.check(grown)
    with pytest.raises(TrainingError, match="was packed for another body of 'toy'"):
        pack(home / "clips", tmp_path / "shard", grown)


def test_what_is_kept_for_validation_is_said(
    home: Path, tmp_path: Path, toy_category: Category, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(shard=home / "shard", out=tmp_path)
    (source,) = open_sources(config, toy_category)
    assert str(source).endswith("none kept for validation, which each 25th clip is")
    source.shard.validation_every = 2
    source.shard.rows = 0
    source.shard.refresh()
    assert str(source).endswith(f"{len(source.shard.clips) // 2} clip kept for validation")
    with pytest.raises(TrainingError, match="--patience 3 goes by clips kept for validation"):
        open_sources(replace(config, patience=3), toy_category)


def test_a_damaged_shard_is_named(home: Path, tmp_path: Path) -> None:
    def shard(change) -> Path:
        folder = Path(shutil.copytree(home / "shard", tmp_path / f"shard-{len(list(tmp_path.iterdir()))}"))
        change(folder)
        return folder

    def cut(name: str):
        return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)

    def emptied(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps({**index, "rows": 0, "clips": []}))

    for change, reason in (
        (cut("targets.bin"), "targets.bin: is damaged, it holds 18 of the 36 frames"),
        (cut("crops.u8"), "crops.u8: is damaged"),
        (lambda f: (f / "surface.u16").unlink(), "surface.u16: is damaged, it holds 0 of"),
        (cut("index.json"), "index.json: the shard's index is damaged"),
        (lambda f: (f / "index.json").write_text("{}"), "index.json: the shard's index is damaged"),
        (emptied, "holds no clip"),
    ):
        with pytest.raises(TrainingError, match=reason):
            Shard(shard(change))


def test_a_checkpoint_that_cannot_be_used_is_named(
    home: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, bad = home / "run" / "student.pt", tmp_path / "bad.pt"
    bad.write_bytes(checkpoint.read_bytes()[:3000])
    torch.save([1, 2], tmp_path / "list.pt")
    again = Path(shutil.copytree(home / "run", tmp_path / "again"))
    training_on = ("train", "--shard", home / "shard", "--category", home / "toy", "--no-imagenet")
    exporting = ("export", "--category", home / "toy", "--checkpoint")
    for arguments, reason in (
        ((*training_on, "--out", tmp_path / "x", "--start", bad), "bad.pt is no checkpoint"),
        ((*training_on, "--out", again, "--resume", "--width", "32"), "width 64 instead of 32"),
        (("average", "--networks", checkpoint, bad, "--out", tmp_path / "mean.pt"), "bad.pt is no checkpoint"),
        ((*exporting, bad), "bad.pt is no checkpoint"),
        ((*exporting, tmp_path / "list.pt"), "list.pt holds no weights of a student"),
        ((*exporting, tmp_path / "no.pt"), "no.pt: No such file"),
        (("export", "--category", other, "--checkpoint", checkpoint), "is a network of 'toy'"),
    ):
        assert reason in said(capsys, *arguments)
    content = read(checkpoint)
    content["student"].popitem()
    torch.save(content, bad)
    with pytest.raises(TrainingError, match="holds other weights"):
        load_student(bad, load_category(home / "toy"))
    torch.save({**content, "sizes": {**content["sizes"], "joints": 3}}, bad)
    with pytest.raises(TrainingError, match="it has 3 for joints, not 30"):
        load_student(bad, load_category(home / "toy"))


def test_ablating_says_once_what_no_row_can_be_trained_with(home: Path, tmp_path: Path) -> None:
    settings = ablate.AblateConfig(shard=home / "shard", out=tmp_path, category=str(home / "toy"), batch=0)
    with pytest.raises(TrainingError, match="--batch must be at least 1"):
        ablate.ablate(settings)


def test_folders_that_hold_nothing_are_refused(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nope"):
        for arguments, reason in (
            (("map", folder, "--category", home / "toy"), "holds no baked rig"),
            (("pack", "--dataset", folder, "--out", tmp_path / "shard", "--category", home / "toy"), "no clip folder"),
            (("body", "--source", folder, "--out", tmp_path / "body"), "Husky.glb: there is no such model"),
        ):
            assert f"{folder.name}" in (error := said(capsys, *arguments)) and reason in error
    assert not (tmp_path / "shard").exists()


def test_rigs_of_another_category_are_not_mapped_to_nothing(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "Somebody.npz", vertices=np.zeros(3))
    assert "which bone of 'Somebody'" in said(capsys, "map", tmp_path, "--category", home / "toy")
    people = ("map", tmp_path, "--category", "human")
    assert "which bone of 'Somebody'" in said(capsys, *people)
    np.savez(tmp_path / "Husky.npz", vertices=np.zeros(3))
    assert "which bone of 'Husky'" in said(capsys, *people)
    animals = ("map", tmp_path, "--category", home / "toy")
    assert "Husky.npz: lacks the array 'faces'; bake the rig again" in said(capsys, *animals)
    (tmp_path / "Husky.mapping.npz").write_bytes(b"PK")
    assert "Husky.mapping.npz: not a readable file of arrays" in said(capsys, *animals)


def test_crops_are_multiples_of_32() -> None:
    assert stored_side(64) == 72 and stored_side(192) == 216
    for crop in (0, -32, 36, 100):
        with pytest.raises(TrainingError, match="multiple of 32"):
            stored_side(crop)


def test_clips_of_nothing_are_refused(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("moderngl")
    usual = ("synth", "--rigs", tmp_path, "--out", tmp_path / "set")
    assert "--clips must be at least 1" in said(capsys, *usual, "--category", home / "toy", "--clips", "0")
    assert "no category 'quadrupd'" in said(capsys, *usual, "--category", "quadrupd", "--clips", "1")
    for more in (("--seed", "-1"), ("--first", "-3"), ("--fps", "nan"), ("--hair-share", "1.5")):
        assert f"{more[0]} must be " in said(capsys, *usual, "--category", home / "toy", *more)
    assert not (tmp_path / "set").exists()
