# SPDX-License-Identifier: GPL-3.0-or-later
"""Training as a run: it goes on where it stopped, alone or with others, and stops when there is nothing to gain."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tiny_training import three_steps, weights
from toy_clips import write_clips

from dasr_blender.core import Category
from dasr_blender.training import distill, export, sources
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.pack import pack
from dasr_blender.training.parallel import Precision, Team, join
from dasr_blender.training.student import log
from dasr_blender.training.student.checkpoint import make_student, start_from
from dasr_blender.training.student.config import StudentConfig
from dasr_blender.training.student.model import Student
from dasr_blender.training.student.schedule import Clock, Patience
from dasr_blender.training.student.scores import verdict

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shard(toy_category: Category, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shard")
    write_clips(toy_category, folder / "clips", 4)
    pack(folder / "clips", folder / "shard", toy_category, crop=64)
    return folder / "shard"


@pytest.fixture(scope="module")
def config(toy_category_folder: Path, shard: Path) -> distill.TrainConfig:
    """Three steps of each stage."""
    return three_steps(toy_category_folder, shard, clip_batch=2)


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[k].float() - b[k].float()).abs().max()) for k in a)


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Share of the weights that differ by more than rounding."""
    pairs = [(a[k].float(), b[k].float()) for k in a]
    return sum(int(((x - y).abs() > 1e-5).sum()) for x, y in pairs) / sum(x.numel() for x, _ in pairs)


def test_the_second_stage_resumes_to_the_same_weights(config: distill.TrainConfig, tmp_path: Path) -> None:
    whole = distill.train(replace(config, out=tmp_path / "whole"))
    setting = replace(config, out=tmp_path / "part", checkpoint_minutes=-1.0)
    part = distill.Trainer(setting, distill.load_category(config.category))
    real = part.clips.step

    def stop(step: int, number: int):
        if step == 2:
            raise KeyboardInterrupt
        return real(step, number)

    part.clips.step = stop
    with pytest.raises(KeyboardInterrupt):
        part.run()
    state = torch.load(part.checkpoint, weights_only=True)
    assert state["stage"] == "clips" and state["clocks"]["clips"][0] == 2
    resumed = distill.train(replace(setting, resume=True))
    assert furthest(weights(whole), weights(resumed)) == 0.0
    assert [row["step"] for row in log.read(part.log)] == ["1", "2", "3", "1", "2", "3"]


def test_a_log_keeps_the_row_of_the_checkpoint_that_a_run_goes_on_from(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for stage, step in (("frames", 7), ("clips", 3), ("clips", 5)):  # minutes are rounded, and may be rounded up
        log.append(path, {"step": str(step), "stage": stage, "minutes": 1234.5678, "loss": 0.5})
    log.trim(path, {"frames": 7, "clips": 3})
    assert [(row["stage"], row["step"]) for row in log.read(path)] == [("frames", "7"), ("clips", "3")]
    log.trim(path, {"frames": 0, "clips": 0})
    assert not path.exists()


def test_a_training_that_came_to_nothing_is_no_success(config: distill.TrainConfig, tmp_path: Path) -> None:
    setting = replace(config, out=tmp_path, augment=replace(config.augment, scale=float("nan")))
    with pytest.raises(TrainingError, match="After step 3 of the frames the network holds numbers that are not finite"):
        distill.train(setting)
    assert not list(tmp_path.glob("student.pt"))
    precision = Precision("fp32", torch.device("cpu"))
    for finite in [*[False] * 29, True, *[False] * 29]:
        precision.stepped(finite)
    with pytest.raises(TrainingError, match="30 steps in a row had no finite gradient"):
        precision.stepped(False)


WATCHED = """
import pathlib, sys
from dasr_blender.training import __main__ as training
from dasr_blender.training import distill

def gloo():
    tasks = pathlib.Path("/proc/self/task")  # which only Linux has
    return any("gloo" in (task / "comm").read_text() for task in tasks.iterdir()) if tasks.is_dir() else None

def leave(team, leave=distill.leave):
    held.append(gloo())
    leave(team)

held, distill.leave = [], leave
status = training.main(sys.argv[1:])
held.append(gloo())
assert held in ([True, False], [None, None]), held
sys.exit(status)
"""


def test_two_processes_make_the_weights_that_one_makes(config: distill.TrainConfig, tmp_path: Path) -> None:
    """torchrun with gloo: two processes of one part each are one process of two parts.

    One step on frames, three on clips: sums come in another order, and Adam makes a step of its own size of what was
    nearly no gradient at all. Through the backbone that grows: after three steps on frames a tenth of the weights
    differed by more than 1e-5 on a processor without AVX-512, hardly any by more than 1e-4.

    Nor does either keep a thread of gloo's: one that lives when the interpreter ends may abort a process whose work is
    done.
    """
    (tmp_path / "watched.py").write_text(WATCHED)
    config = replace(config, frame_steps=1)
    alone = distill.train(replace(config, out=tmp_path / "alone", threads=2))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["watched.py", "train", "--shard", str(config.shard)]
    command += ["--out", str(tmp_path / "both"), "--category", config.category, "--threads", "1"]
    command += ["--frame-steps", "1", "--clip-steps", "3", "--batch", "8", "--clip-batch", "2"]
    command += ["--width", "64", "--vertices", "50", "--no-imagenet", "--no-plot", "--device", "cpu"]
    command += ["--checkpoint-minutes", "1e9"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("clips step 3") == 1  # one of them reports
    other = weights(distill.train(replace(config, out=tmp_path / "other", threads=2, clip_steps=1, seed=1)))
    one, two = weights(alone), weights(tmp_path / "both" / "student.pt")
    near, far = apart(one, two), apart(one, other)
    assert near < 0.002 and far > 0.5, (near, far)
    rows = [log.read(tmp_path / name / "log.csv") for name in ("alone", "both")]
    for ours, theirs in zip(*rows, strict=True):
        for name in ("loss", "root", "joints", "vertices"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-2), name


def test_a_team_of_one_adds_nothing() -> None:
    team, layer = join("cpu"), torch.nn.Linear(2, 2)
    found = [torch.ones(2, 2), None]
    assert team.leads and team.agree(0.25, 3.0) == [0.25, 3.0]
    assert team.add_up(found, list(layer.parameters())) is found and team.union({3: "x"}) == {3: "x"}
    with pytest.raises(TrainingError, match="'cuda:7'"):
        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
        join("cuda:7")


def test_half_precision_learns_what_full_precision_learns(
    config: distill.TrainConfig, tmp_path: Path
) -> None:
    """The loss of a step and its gradients' direction under bf16 are those of fp32."""
    category = distill.load_category(config.category)
    found = {}
    for kind in ("fp32", "bf16"):
        trainer = distill.Trainer(replace(config, out=tmp_path / kind, precision=kind), category)
        loss, parts, _ = trainer.frames.step(0, 0)
        parameters = [p for _, group in trainer.frames.groups() for p in group]
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        flat = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).flatten()
                for g, p in zip(grads, parameters, strict=True)
            ]
        )
        found[kind] = float(loss.detach()), flat
        assert parts["root"] > 0 and loss.dtype == torch.float32
    (full, straight), (half, nearly) = found["fp32"], found["bf16"]
    assert half == pytest.approx(full, rel=0.05)
    assert float(torch.nn.functional.cosine_similarity(straight, nearly, 0)) > 0.9


def test_the_scale_of_small_gradients_falls_after_an_overflow_and_rises_again() -> None:
    precision = Precision("fp16", torch.device("cpu"))
    first = precision.scale
    precision.stepped(False)
    assert precision.scale == first / 2
    for _ in range(1000):
        precision.stepped(True)
    assert precision.scale == first
    plain = Precision("auto", torch.device("cpu"))
    plain.stepped(False)
    assert plain.kind == "fp32" and plain.scale == 1.0


def test_a_stage_ends_when_validation_no_longer_falls(
    config: distill.TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = replace(config, out=tmp_path, frame_steps=50, checkpoint_minutes=-1.0, patience=2)
    monkeypatch.setattr(sources, "_VALIDATION", 2)  # of clips as few as these, too
    trainer = distill.Trainer(setting, distill.load_category(config.category))
    results = iter([3.0, 1.0, 2.0, 2.0, 5.0, 4.0, 6.0])
    kept: list[dict[str, torch.Tensor]] = []

    def scored() -> dict[str, float]:
        value = next(results)
        if value == 1.0:
            kept.append({k: v.clone() for k, v in trainer.student.state_dict().items()})
        names = ("val_root_chosen_deg", "val_translation", "val_joints_deg", "val_vertices")
        return dict.fromkeys(names, value)

    trainer.frames.validate = trainer.clips.validate = scored
    real = trainer.clips.begin

    def begin(clock: Clock) -> None:
        now = trainer.student.state_dict()
        for name, value in kept[0].items():  # the best weights, not the last
            if not name.startswith("heads."):
                assert torch.equal(now[name], value), name
        real(clock)

    trainer.clips.begin = begin
    trainer.run()
    state = torch.load(trainer.checkpoint, weights_only=True)
    assert state["clocks"]["frames"][0] == 4 and state["stopped"] == ["frames"] and state["best"] is None
    # and what has ended stays ended
    again = distill.Trainer(replace(setting, resume=True), distill.load_category(config.category))
    assert again.clocks["frames"].progress == 1.0


def test_patience_and_the_verdict() -> None:
    patience = Patience(2)
    assert [patience.better(s) for s in (2.0, 1.0, 1.5, None, 0.5, 0.9, 0.8)] == [
        True, True, False, False, True, False, False,
    ]  # fmt: skip
    assert patience.over and not Patience(0).over and not Patience(0).better(1.0)
    row = {"val_root_chosen_deg": 10.0, "val_translation": 0.1, "val_joints_deg": 15.0, "val_vertices": 0.05}
    assert verdict(row) == pytest.approx(1.0) and verdict({"val_vertices": 1.0}) is None


def test_a_clock_by_work_stands_still_while_nothing_is_done() -> None:
    import time

    wall, work = Clock(0, 1.0, "wall"), Clock(0, 1.0, "cpu", cores=2)
    time.sleep(0.3)
    assert wall.elapsed >= 0.3 / 60 and work.elapsed < 0.1 / 60
    before = work.elapsed
    until = time.process_time() + 0.2
    while time.process_time() < until:
        np.ones(1000).sum()
    assert (work.elapsed - before) * 60 == pytest.approx(0.1, abs=0.05)
    wall.stop()
    assert wall.before >= 0.3 / 60 and 0.0 < wall.progress < 1.0


def test_curves_are_drawn_while_it_trains(
    config: distill.TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard where it is installed, a picture elsewhere."""
    shown: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder.endswith("tensorboard")

        def add_scalar(self, name: str, value: float, step: int) -> None:
            shown.append((name, value, step))

        def flush(self) -> None: ...

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    row: log.Row = {"step": "7", "stage": "frames", "minutes": 0.5, "loss": 2.0, "images_per_s": 9.0}
    log.append(tmp_path / "log.csv", row)
    curves = log.Curves(tmp_path)
    curves.show(tmp_path / "log.csv", row)
    assert (tmp_path / "log.png").stat().st_size > 10_000

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    distill.train(replace(config, out=tmp_path / "run", plot=True))
    assert not (tmp_path / "run" / "log.png").exists()
    assert {name for name, _, _ in shown} >= {"frames/loss", "clips/loss", "frames/images_per_s"}
    assert {step for _, _, step in shown} == {3}


def test_only_the_second_stage_is_done_anew(config: distill.TrainConfig, tmp_path: Path) -> None:
    first = distill.train(replace(config, out=tmp_path / "first"))
    other = distill.train(
        replace(config, out=tmp_path / "other", frames_from=first, temporal="attention", frame_steps=99)
    )
    a, b = weights(first), weights(other)
    shared = [k for k in a if not k.startswith(("temporal.", "heads."))]
    assert len(shared) > 100 and all(torch.equal(a[k], b[k]) for k in shared)
    assert {row["stage"] for row in log.read(tmp_path / "other" / "log.csv")} == {"clips"}
    assert not torch.equal(a["heads.joints.weight"], b["heads.joints.weight"])


def test_one_head_of_clips_is_trained_alone(config: distill.TrainConfig, tmp_path: Path) -> None:
    first = distill.train(replace(config, out=tmp_path / "first"))
    other = distill.train(replace(config, out=tmp_path / "other", start=first, heads=("morphology",)))
    a, b = weights(first), weights(other)
    changed = {k for k in a if not torch.equal(a[k], b[k])}
    assert changed == {"heads.morphology.weight", "heads.morphology.bias"}
    assert {row["stage"] for row in log.read(tmp_path / "other" / "log.csv")} == {"clips"}
    root = replace(config, start=first, heads=("root",))
    for wrong in (replace(root, start=None), replace(root, recipe="dasr"), replace(root, frames_from=first)):
        with pytest.raises(TrainingError, match="--heads goes on with a network of ours"):
            distill.train(replace(wrong, out=tmp_path / "wrong"))


def test_starting_from_another_network_keeps_the_categorys_own_body(
    config: distill.TrainConfig, toy_category: Category, tmp_path: Path
) -> None:
    checkpoint = distill.train(replace(config, out=tmp_path, frame_steps=1, clip_steps=1))
    body = replace(toy_category.body, vertices=toy_category.body.vertices * 1.5)
    limits = np.where(toy_category.skeleton.limits < 0, -1.0, 1.0)
    other = replace(toy_category, body=body, skeleton=replace(toy_category.skeleton, limits=limits))
    sizes = StudentConfig(crop=64, width=64, appearance=3)
    fresh = make_student(sizes, other)
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    taken, left = start_from(fresh, checkpoint)
    after, trained = fresh.state_dict(), weights(checkpoint)
    assert taken > 200 and left > 0
    for name in ("look.body.vertices", "look.points", "heads.lower", "frame_heads.upper"):
        assert torch.equal(after[name], before[name]), name
        assert torch.equal(after[name], trained[name]) is False, name
    assert torch.equal(after["merge.weight"], trained["merge.weight"])


def test_a_network_for_larger_crops_begins_as_the_one_for_smaller(
    config: distill.TrainConfig, toy_category: Category, tmp_path: Path
) -> None:
    checkpoint = distill.train(replace(config, out=tmp_path, frame_steps=1, clip_steps=1))
    small = distill.load_student(checkpoint, toy_category)
    large = make_student(replace(small.config, crop=96), toy_category).eval()
    start_from(large, checkpoint)
    assert isinstance(small, Student) and isinstance(large, Student)
    pooled, place = torch.rand(5, 1280), torch.rand(5, 64)
    quarters = torch.rand(5, small.config.layout, 2, 2)  # what 64 pixels have; 96 have 3 x 3 cells
    thirds = torch.nn.functional.interpolate(quarters, (6, 6)).unflatten(-1, (3, 2)).mean(-1)
    thirds = thirds.unflatten(-2, (3, 2)).mean(-2)

    def merged(network: Student, layout: torch.Tensor) -> torch.Tensor:
        return network.merge(network.level(torch.cat([pooled, layout.flatten(1), place], 1)))

    flat = quarters.mean((2, 3), keepdim=True)
    assert torch.allclose(
        merged(small, flat.expand_as(quarters)), merged(large, flat.expand_as(thirds)), rtol=0.02, atol=0.02
    )
    steps = merged(small, quarters) - merged(small, flat.expand_as(quarters))
    wider = merged(large, thirds) - merged(large, flat.expand_as(thirds))
    assert torch.nn.functional.cosine_similarity(steps, wider).min() > 0.9  # where things lie is kept too


@pytest.mark.parametrize("recipe", ["dasr", "dasr-lite0"])
def test_the_published_configuration_trains_and_answers_in_our_form(
    config: distill.TrainConfig, toy_category: Category, tmp_path: Path, recipe: str
) -> None:
    setting = replace(config, out=tmp_path, recipe=recipe, frame_steps=8, clip_steps=2)  # pyright: ignore
    trainer = distill.Trainer(setting, distill.load_category(config.category))
    before = trainer.frames.step(1000, 1)[1]
    trainer.run()
    trainer.student.train()
    after = trainer.frames.step(1000, 1)[1]
    assert set(before) == {"vertices", "translation", "joints", "appearance", "root"}
    assert after["vertices"] < before["vertices"]
    student = distill.load_student(trainer.checkpoint, toy_category)
    assert student.config.design == "dasr" and student.config.radius == 6
    assert student.config.backbone == ("resnet18" if recipe == "dasr" else "lite0")
    crops, info = torch.rand(20, 4, 64, 64), torch.rand(20, 3)
    with torch.no_grad():
        out, moved = student(crops, info), student(crops, info + 0.2)
        changed = crops.clone()
        changed[10] = torch.rand(4, 64, 64)
        late = student(changed, info)
    assert out["root_rotation"].shape == (20, 6, 6) and out["joint_rotations"].shape == (20, 30, 6)
    assert not out["morphology"].any() and "surface_map" not in out  # one shape, no map
    assert all(torch.equal(out[k], moved[k]) for k in out)  # it is not told where the crop was
    apart = (late["joint_rotations"] - out["joint_rotations"]).abs().amax((1, 2))
    assert not bool(apart[:4].any()) and not bool(apart[17:].any())
    # After so few steps at such a rate its answers hardly depend on the picture: whether a frame reaches those beside
    # it is asked of what goes between frames, at weights that let it show.
    torch.manual_seed(0)
    window = make_student(student.config, toy_category).eval().temporal
    for parameter in window.parameters():
        parameter.data += 0.03 * torch.randn_like(parameter)
    codes = torch.rand(1, 20, student.config.width)
    other = codes.clone()
    other[0, 10] = torch.rand(student.config.width)
    with torch.no_grad():
        reached = (window(other) - window(codes)).abs().amax(-1)[0]
    assert bool((reached[4:17] > 1e-3).all()) and not bool(reached[:4].any()) and not bool(reached[17:].any())
    export.write_onnx(student, tmp_path / "network.onnx")
    assert export.parity(student, tmp_path / "network.onnx", (1, 5, 20)) < 1e-4


def test_a_team_is_what_torchrun_says() -> None:
    assert Team(torch.device("cpu"), 1, 2).leads is False
