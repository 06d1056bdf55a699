# SPDX-License-Identifier: GPL-3.0-or-later
"""Training on synthetic and a teacher's clips together: the share holds, quality weighs, old shards still serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_training import three_steps, weights
from toy_clips import random_motion, write_clips

from dasr_blender.core import Category, Motion
from dasr_blender.training import distill
from dasr_blender.training.clip_folder import read_origin
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.pack import pack
from dasr_blender.training.sources import Source, divide, windows
from dasr_blender.training.student import log
from dasr_blender.training.student.body import TorchBody
from dasr_blender.training.student.dasr import DasrWeights, dasr_loss
from dasr_blender.training.student.data import NO_AUGMENT, Shard, augment, record_type
from dasr_blender.training.student.losses import BodySurface, LossConfig, first_look_loss, student_loss
from dasr_blender.training.student.rotation import rotvec_to_sixd, yaw_sixd
from dasr_blender.training.student.scores import scores, summary, verdict
from dasr_blender.training.student.surface import NOTHING, surface_grid

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]


def as_teacher(dataset: Path, qualities: np.ndarray) -> None:
    """Clip folders as a teacher leaves them: each frame with a quality."""
    for folder in sorted(dataset.iterdir()):
        motion = Motion.load(folder / "motion.npz")
        replace(motion, confidence=np.resize(qualities, len(motion))).save(folder / "motion.npz")
        (folder / "meta.json").write_text(json.dumps({"source": "teacher"}))


@pytest.fixture(scope="module")
def home(toy_category: Category, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic clips and four of a teacher, packed."""
    home = tmp_path_factory.mktemp("distilling")
    write_clips(toy_category, home / "synthetic", 4)
    write_clips(toy_category, home / "taught", 4, seed=7)
    as_teacher(home / "taught", np.array([1.0, 0.5, 0.0, 0.25]))
    for name in ("synthetic", "taught"):
        assert pack(home / name, home / f"{name}-shard", toy_category, crop=64) == 4
    return home


@pytest.fixture(scope="module")
def config(toy_category_folder: Path, home: Path) -> distill.TrainConfig:
    plain = three_steps(toy_category_folder, home / "synthetic-shard", clip_batch=4)
    return replace(plain, teacher=(home / "taught-shard",), teacher_share=(0.3,), teacher_held_out=4)


def as_before(folder: Path, out: Path) -> Path:
    """A shard as it was packed before frames had a quality and clips an origin."""
    out.mkdir()
    index = json.loads((folder / "index.json").read_text())
    new, old = (record_type(index["joints"], index["morphology"], q) for q in (True, False))
    records = np.fromfile(folder / "targets.bin", new)
    records[list(old.names or ())].astype(old).tofile(out / "targets.bin")
    for name in ("crops.u8", "surface.u16"):
        (out / name).write_bytes((folder / name).read_bytes())
    clips = [{k: v for k, v in clip.items() if k != "origin"} for clip in index["clips"]]
    del index["quality"]
    (out / "index.json").write_text(json.dumps(index | {"clips": clips}))
    return out


# -- packing -------------------------------------------------------------------------------------------------


def test_a_shard_keeps_each_frames_quality_and_each_clips_origin(home: Path) -> None:
    taught, synthetic = Shard(home / "taught-shard", 0), Shard(home / "synthetic-shard", 0)
    assert taught.quality[:5].tolist() == [1.0, 0.5, 0.0, 0.25, 1.0] and bool((synthetic.quality == 1).all())
    assert {clip["origin"] for clip in taught.clips} == {"teacher"}
    assert "48 frames of 4 clips (teacher 4)" in str(Source(taught))
    assert taught.batch(np.array([3, 1]))["quality"].tolist() == [0.25, 0.5]
    # what is not to be trusted at all is not drawn, and stays in its clip
    assert 2 not in taught.training_rows and 3 in taught.training_rows and 2 in taught.clip_rows(0)
    assert read_origin(home / "synthetic") == "unknown"


def test_a_shard_of_an_earlier_version_still_serves(
    toy_category: Category, home: Path, config: distill.TrainConfig, tmp_path: Path
) -> None:
    old = as_before(home / "synthetic-shard", tmp_path / "old")
    ours, theirs = Shard(home / "synthetic-shard", 0), Shard(old, 0)
    a, b = (shard.batch(np.arange(0, 48, 7)) for shard in (ours, theirs))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    same = [
        weights(distill.train(replace(config, shard=shard, teacher=(), out=tmp_path / name, clip_steps=1)))
        for shard, name in ((old, "a"), (home / "synthetic-shard", "b"))
    ]
    assert all(torch.equal(same[0][k], same[1][k]) for k in same[0])
    # clips that are right throughout may still be added; others would lose what is known about them
    write_clips(toy_category, tmp_path / "more", 1, frames=3, seed=1)
    assert pack(tmp_path / "more", old, toy_category, crop=64) == 1 and theirs.refresh() and theirs.rows == 51
    assert theirs.records["frame"][-3:].tolist() == [0, 1, 2] and bool((theirs.quality == 1).all())
    with pytest.raises(TrainingError, match="before frames had a quality"):
        pack(home / "taught", old, toy_category, crop=64)
    assert Shard(old, 0).rows == 51


def test_labels_of_the_surface_lie_on_the_raised_body(toy_category: Category) -> None:
    """A clip's own relief is part of what its pictures show."""
    plain = random_motion(toy_category, 3, 5)
    raised = replace(plain, relief=np.full(len(toy_category.body.vertices), 0.03))
    at = np.array([[80.0, 60.0]] * 3), np.full(3, 120.0)
    thin, thick = (surface_grid(toy_category, m, *at, 36) != NOTHING for m in (plain, raised))
    assert not (thin & ~thick).any() and thick.sum() > 1.2 * thin.sum()


# -- the share -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "count"), [(0.3, 8), (0.05, 4), (0.5, 1), (0.77, 13)])
def test_the_share_holds_over_batches_and_nearly_in_each(share: float, count: int, home: Path) -> None:
    shard = Shard(home / "synthetic-shard", 0)
    sources = Source(shard, 1 - share), Source(shard, share, "teacher_")
    given = np.array([divide([s.share for s in sources], count, number) for number in range(1000)])
    assert bool((given.sum(1) == count).all()) and bool((given >= 0).all())
    assert np.abs(given[:, 1] - share * count).max() < 1
    assert abs(given[:, 1].sum() - 1000 * share * count) <= 1
    assert divide([1.0], count, 5) == [count]


@pytest.mark.parametrize("count", [1, 4, 32])
def test_several_teachers_have_a_share_each(count: int, home: Path) -> None:
    shard, shares = Shard(home / "synthetic-shard", 0), np.array([0.02, 0.48, 0.18, 0.32])
    sources = tuple(Source(shard, share) for share in shares)
    given = np.array([divide([s.share for s in sources], count, number) for number in range(1000)])
    assert bool((given.sum(1) == count).all()) and bool((given >= 0).all())
    assert np.abs(given - shares * count).max() < 2
    assert np.abs(given.sum(0) - 1000 * shares * count).max() <= 2


def test_batches_of_both_stages_are_mixed_as_asked(
    config: distill.TrainConfig, home: Path, tmp_path: Path
) -> None:
    trainer = distill.Trainer(replace(config, out=tmp_path), distill.load_category(config.category))
    whose = {
        source.shard.records["root_translation"][row].tobytes(): source.whose
        for source in trainer.run_of.sources
        for row in range(source.shard.rows)
    }
    held = {
        source.shard.records["root_translation"][row].tobytes()
        for source in trainer.run_of.sources
        for row in source.shard.validation_rows
    }
    seen: Counter[str] = Counter()
    for step in range(50):
        for part in range(2):
            rows = trainer.frames._stored(step, part)["root_translation"].numpy()
            assert len(rows) == 4 and not held & {row.tobytes() for row in rows}
            seen.update(whose[row.tobytes()] for row in rows)
    assert seen == {"": 280, "teacher_": 120}

    drawn: list[int] = []
    real = trainer.run_of.loss

    def watch(out: object, batch: dict[str, torch.Tensor], *rest: object, **more: object):
        quality = batch["quality"].reshape(-1, 12)
        drawn.append(int((quality < 1).any(1).sum()))
        return real(out, batch, *rest, **more)  # pyright: ignore[reportArgumentType]

    trainer.clips.begin(trainer.clocks["clips"])
    trainer.run_of.loss = watch  # pyright: ignore[reportAttributeAccessIssue]
    assert [len(c["features"]) for c in trainer.clips.cached] == [4, 3]
    for step in range(10):
        for part in range(2):
            trainer.clips.step(step, part)
    assert sum(drawn) == round(0.3 * 2 * 20)


def test_a_long_clip_gives_all_its_stretches_and_a_short_one_none(home: Path) -> None:
    source = Source(Shard(home / "taught-shard", 4))
    source.shard.clips[0] |= {"rows": 30}
    source.shard.clips[1] |= {"rows": 11}
    train, held = windows(source, 12, 2, seed=0)
    assert sorted(train) == [0, 0, 18, 18, 24, 24] and held == [36]


def test_training_on_both_resumes_to_the_same_weights(config: distill.TrainConfig, tmp_path: Path) -> None:
    whole = distill.train(replace(config, out=tmp_path / "whole"))
    setting = replace(config, out=tmp_path / "part", checkpoint_minutes=-1.0)
    for stage, at in (("frames", 2), ("clips", 1)):
        part = distill.Trainer(replace(setting, resume=True), distill.load_category(config.category))
        worker = getattr(part, stage)
        real = worker.step

        def stop(step: int, number: int, real=real, at=at):
            if step == at:
                raise KeyboardInterrupt
            return real(step, number)

        worker.step = stop
        with pytest.raises(KeyboardInterrupt):
            part.run()
    resumed = distill.train(replace(setting, resume=True))
    one, two = weights(whole), weights(resumed)
    assert all(torch.equal(one[k], two[k]) for k in one)
    row = log.read(tmp_path / "part" / "log.csv")[-1]
    assert float(row["val_teacher_root_chosen_deg"]) > 0 and float(row["val_teacher_joints_deg"]) > 0
    assert not row["val_root_chosen_deg"]  # four synthetic clips: none is held out


def test_two_processes_draw_what_one_draws(config: distill.TrainConfig, tmp_path: Path) -> None:
    """torchrun with gloo: the same rows in the same parts, so the same losses."""
    distill.train(replace(config, out=tmp_path / "alone", threads=2))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "dasr_blender.training", "train", "--shard", str(config.shard)]
    command += ["--teacher", str(config.teacher[0]), "--teacher-share", "0.3", "--teacher-held-out", "4"]
    command += ["--out", str(tmp_path / "both"), "--category", config.category, "--threads", "1"]
    command += ["--frame-steps", "3", "--clip-steps", "3", "--batch", "8", "--clip-batch", "4"]
    command += ["--width", "64", "--vertices", "50", "--no-imagenet", "--no-plot", "--device", "cpu"]
    command += ["--checkpoint-minutes", "1e9"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("(teacher 4)") == 1
    rows = [log.read(tmp_path / name / "log.csv") for name in ("alone", "both")]
    for ours, theirs in zip(*rows, strict=True):
        for name in ("loss", "root", "joints", "vertices"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-2), name


def test_what_cannot_be_mixed_is_refused_in_a_sentence(
    toy_category: Category, home: Path, config: distill.TrainConfig, tmp_path: Path
) -> None:
    category = distill.load_category(config.category)
    for share in (0.0, 1.0, 1.5):
        with pytest.raises(TrainingError, match="between 0 and 1"):
            distill.Trainer(replace(config, out=tmp_path, teacher_share=(share,)), category)
    with pytest.raises(TrainingError, match="names 2 and --teacher-share 1"):
        distill.Trainer(replace(config, out=tmp_path, teacher=config.teacher * 2), category)
    with pytest.raises(TrainingError, match=r"all together, must lie between 0 and 1, not at 1\.1"):
        many = replace(config, out=tmp_path, teacher=config.teacher * 2, teacher_share=(0.5, 0.6))
        distill.Trainer(many, category)
    pack(home / "taught", tmp_path / "small", toy_category, crop=32)
    with pytest.raises(TrainingError, match="another shape"):
        distill.Trainer(replace(config, out=tmp_path, teacher=(tmp_path / "small",)), category)
    with pytest.raises(TrainingError, match="no frame to train on"):
        distill.Trainer(replace(config, out=tmp_path, teacher_held_out=1), category)


# -- quality -------------------------------------------------------------------------------------------------


@pytest.fixture
def batch(toy_category: Category, home: Path) -> dict[str, torch.Tensor]:
    """Twelve frames, a clip; quality 1 but for rows 2 (0) and 3 (a quarter)."""
    shard, twin = Shard(home / "synthetic-shard", 0), BodySurface(toy_category).twin
    batch = augment(shard.batch(np.arange(12)), 64, NO_AUGMENT, torch.Generator(), twin)
    batch["quality"] = torch.ones(12)
    batch["quality"][2], batch["quality"][3] = 0.0, 0.25
    return batch


def answers() -> dict[str, torch.Tensor]:
    """What a network could say, every frame with leaves of its own."""
    torch.manual_seed(0)
    out = {
        "root_rotation": yaw_sixd(torch.arange(6) * 1.05).expand(12, 6, 6) + 0.1 * torch.randn(12, 6, 6),
        "root_translation": 0.1 * torch.randn(12, 6, 3),
        "root_logprob": torch.randn(12, 6),
        "joint_rotations": rotvec_to_sixd(0.3 * torch.randn(12, 30, 3)),
        "joint_spread": torch.randn(12, 30),
        "morphology": torch.randn(12, 11),
        "appearance": torch.randn(12, 3),
        "surface_map": torch.randn(12, 16, 16, 3),
        "surface_spread": torch.randn(12, 16, 16),
        "surface_visible": torch.randn(12, 16, 16),
    }
    return {k: v.detach().requires_grad_() for k, v in out.items()}


@pytest.mark.parametrize("recipe", ["student", "dasr", "clip", "first look"])
@pytest.mark.parametrize("multiplex", ["relaxed", "softmax"])
def test_a_frame_counts_by_its_quality_and_without_any_not_at_all(
    toy_category: Category, batch: dict[str, torch.Tensor], recipe: str, multiplex: str
) -> None:
    body, surface = TorchBody(toy_category, 50), BodySurface(toy_category)
    setting = LossConfig(multiplex=multiplex)  # pyright: ignore[reportArgumentType]

    def gradients(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        out = answers()
        said = {**out, "root_logprob": out["root_logprob"].log_softmax(-1)}
        if recipe == "dasr":
            loss, _ = dasr_loss(said, batch, body, DasrWeights(), surface)
        elif recipe == "first look":
            loss, _ = first_look_loss(said, batch, body, setting)
        elif recipe == "clip":
            targets = {**batch, "appearance_target": torch.zeros(12, 3)}
            loss, _ = student_loss(said, targets, body, setting, clip=12)
        else:
            loss, _ = student_loss(said, batch, body, setting, surface)
        loss.backward()
        return {k: v.grad for k, v in out.items() if v.grad is not None}

    some, full = gradients(batch), gradients({**batch, "quality": torch.ones(12)})
    assert some.keys() == full.keys() and len(some) >= 5
    for name, grad in some.items():
        assert not grad[2].any(), name
        if full[name].any():
            assert bool(full[name][2].any()) and bool(grad[0].any()), name
        if recipe != "clip":  # where frames do not hang together
            assert torch.allclose(grad[3], 0.25 * full[name][3], atol=1e-7), name
            assert torch.allclose(grad[5], full[name][5], atol=1e-7), name


def test_scores_leave_out_what_is_not_to_be_trusted(
    toy_category: Category, batch: dict[str, torch.Tensor]
) -> None:
    out = {k: v.detach() for k, v in answers().items()}
    body, surface = TorchBody(toy_category, 50), BodySurface(toy_category)
    found = scores(out, batch, body, surface)
    assert len(found["chosen"]) == len(found["vertices"]) == 11
    row = summary([found], "teacher_")
    assert row and all(name.startswith("val_teacher_") and name in log.FIELDS for name in row)
    assert summary([scores(out, {**batch, "quality": torch.zeros(12)}, body, surface)]) == {}


def test_the_verdict_weighs_both_by_their_share() -> None:
    own = {"val_root_chosen_deg": 10.0, "val_translation": 0.1, "val_joints_deg": 15.0, "val_vertices": 0.05}
    theirs = {f"val_teacher_{k.removeprefix('val_')}": 2 * v for k, v in own.items()}
    assert verdict(own) == pytest.approx(1.0) and verdict({**own, **theirs}) == pytest.approx(1.0)
    assert verdict({**own, **theirs}, 0.3) == pytest.approx(1.3)
    assert verdict(own, 0.3) == pytest.approx(1.0) and verdict(theirs, 0.3) == pytest.approx(2.0)
    assert verdict(theirs) is None
