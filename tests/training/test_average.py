# SPDX-License-Identifier: GPL-3.0-or-later
"""The mean of several networks' weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from tiny_training import bundle_and_shard, three_steps, weights

from dasr_blender.core import load_category
from dasr_blender.training import average, distill, export
from dasr_blender.training.__main__ import main as training
from dasr_blender.training.errors import TrainingError


@pytest.fixture(scope="module")
def made(toy_category_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, distill.TrainConfig]:
    """A folder with two trained networks, first/ and second/, a bundle of the first, and two damaged copies of it.

    Beside it the first's settings.
    """
    folder = tmp_path_factory.mktemp("average")
    category, bundle = bundle_and_shard(toy_category_folder, folder), folder / "toy"
    config = replace(three_steps(bundle, folder / "shard", clip_batch=2), out=folder / "first")
    state = torch.load(distill.train(config), weights_only=True)
    torch.save({**state, "stage": "frames"}, folder / "frames.pt")
    torch.save({**state, "sizes": {**state["sizes"], "width": 128}}, folder / "wide.pt")
    export.export(folder / "first" / "student.pt", category, bundle)
    distill.train(replace(config, out=folder / "second", start=folder / "first" / "student.pt", seed=5))
    return folder, config


def test_each_array_is_the_mean_by_share(made: tuple[Path, distill.TrainConfig]) -> None:
    folder = made[0]
    sources = [folder / name / "student.pt" for name in ("first", "second")]
    one, other = map(weights, sources)
    mean = average.average(sources, (3, 1))["student"]
    apart = 0
    for name, value in one.items():
        if value.is_floating_point():
            assert torch.allclose(mean[name], 0.75 * value + 0.25 * other[name], atol=1e-6), name
            apart += not torch.equal(mean[name], value)
        else:
            assert torch.equal(mean[name], other[name])  # counters of the last one
    assert apart > 100
    equal = average.average(sources)["student"]["frame_heads.root.weight"]
    assert torch.allclose(equal, (one["frame_heads.root.weight"] + other["frame_heads.root.weight"]) / 2, atol=1e-6)


def test_a_bundle_counts_as_the_network_in_it(made: tuple[Path, distill.TrainConfig]) -> None:
    folder = made[0]
    second = folder / "second" / "student.pt"
    mean = average.average([folder / "toy", second])["student"]
    expected = average.average([folder / "first" / "student.pt", second])["student"]
    for name, value in mean.items():
        if not name.startswith(("frame_heads.spread", "frame_heads.appearance")):  # the clip stage's instead
            assert torch.allclose(value.float(), expected[name].float(), atol=1e-4), name


def test_the_mean_is_exported_and_started_from_but_not_resumed(
    made: tuple[Path, distill.TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, config = made
    out = folder / "mean" / "student.pt"
    names = [str(folder / name / "student.pt") for name in ("first", "second")]
    with pytest.raises(TrainingError, match="is one of the networks"):
        average.main(["--networks", *names, "--out", names[1]])
    assert average.main(["--networks", *names, "--out", str(out)]) == 0
    bundle = folder / "toy-mean"
    shutil.copytree(folder / "toy", bundle)
    category = export.export(out, load_category(bundle), bundle)
    assert category.predictor_path is not None
    distill.train(replace(config, out=folder / "further", start=out))
    again = average.average([folder / "second" / "student.pt", out])["student"]  # a mean may enter another
    assert again.keys() == weights(out).keys()
    with pytest.raises(TrainingError, match="begin one from it with --start"):
        distill.train(replace(config, out=out.parent, resume=True))
    capsys.readouterr()


@pytest.mark.parametrize(
    ("networks", "shares", "words"),
    [
        (["first/student.pt"], [], "two networks or more"),
        (["toy", "toy"], [], "one of them has to be a checkpoint"),
        (["first/student.pt", "second/student.pt"], ["1"], "give each one a share"),
        (["first/student.pt", "second/student.pt"], ["1", "-1"], "give each one a share"),
        (["first/student.pt", "second/student.pt"], ["0", "0"], "give each one a share"),
        (["first/student.pt", "frames.pt"], [], "its training on clips has not begun"),
        (["first/student.pt", "wide.pt"], [], "of another make"),
        (["first/student.pt", "gone.pt"], [], "gone.pt"),
    ],
)
def test_what_has_no_mean_says_so(
    made: tuple[Path, distill.TrainConfig],
    networks: list[str],
    shares: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = made[0]
    arguments = ["--networks", *(str(folder / name) for name in networks), "--out", str(tmp_path / "mean.pt")]
    assert training(["average", *arguments, *(["--weights", *shares] if shares else [])]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "mean.pt").exists()


def test_a_folder_in_the_way_is_named_as_it_was_given(
    made: tuple[Path, distill.TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(next(made[0].rglob("student.pt")))
    assert training(["average", "--networks", checkpoint, checkpoint, "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"average: {tmp_path}: ")
