# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/python.md does what it says, on a clip and a category small enough."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import pytest

pytest.importorskip("onnx")

from tiny_predictor import save_tiny_category, write_tiny_refiner
from toy_clips import random_motion, render

from dasr_blender.core import Motion, load_category, save_category

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not here")
def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    folder = save_tiny_category(tmp_path / "categories")
    category = load_category(folder)
    write_tiny_refiner(folder / "refiner.onnx", category)
    save_category(category, folder)
    for kind, pictures in zip(
        ("frames", "masks"), render(category, random_motion(category, 4, 3)), strict=True
    ):
        (tmp_path / kind).mkdir()
        for i, picture in enumerate(pictures):
            cv2.imwrite(str(tmp_path / kind / f"{i:04d}.png"), picture)
    steps, job = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for said, here in (
        ('"quadruped"', repr(str(folder))),
        ('"dog.mp4", end=60', '"frames"'),
        ("automatic_masks(clip)", 'masks_from_folder("masks", clip)'),
        ("import automatic_masks", "import masks_from_folder"),
    ):
        assert steps.count(said) == 1, said
        steps = steps.replace(said, here)
    job = job.replace(
        'clip="dog.mp4", out="dog", end=60', f'clip="frames", out="dog", category={str(folder)!r}'
    )
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(steps, found)
    assert isinstance(found["motion"], Motion) and found["pixels"].shape == (
        4,
        len(category.body.vertices),
        2,
    )
    assert (tmp_path / "dog-overlay.mp4").stat().st_size > 1000
    exec(job.replace('out="dog"', 'out="dog", masks="masks"'), {})
    assert "dog" in capsys.readouterr().out and (tmp_path / "dog" / "motion.npz").is_file()
