# SPDX-License-Identifier: GPL-3.0-or-later
"""A category from a template and one video, in the smallest setting; what is done is not done twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("gpytoolbox")
pytest.importorskip("moderngl")

from trees import little_tree

from dasr_blender import cli
from dasr_blender.core import Category, DasrError, load_category, save_category
from dasr_blender.core.motion import Motion
from dasr_blender.predict import FitConfig, Student
from dasr_blender.training.body.template import template_category
from dasr_blender.training.evaluate.real import find_clips
from dasr_blender.training.new_category.adopt import adopt, adopted, flesh, held_back
from dasr_blender.training.new_category.config import NewCategoryConfig
from dasr_blender.training.new_category.run import _Run, new_category
from dasr_blender.training.new_category.steps import Steps
from dasr_blender.training.synth.camera import CameraConfig
from dasr_blender.training.synth.clips import SynthConfig, generate
from dasr_blender.training.synth.corrupt import CorruptConfig
from dasr_blender.training.synth.render import Renderer, RenderUnavailable
from dasr_blender.training.teacher.consensus import FinishConfig

SHORT = FitConfig(vertices=150, steps=(2, 2), relief=4, window=16)
CLEAN = CorruptConfig(
    occluder=0, exposure=0, noise=0, clean_mask=1, low_light=0, defocus=0, small=0, shaken=0
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tree.json and videos/swim/{frames,masks}, and the template's bundle in body/."""
    try:
        Renderer().close()
    except RenderUnavailable as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("new")
    (folder / "tree.json").write_text(json.dumps(little_tree()))
    save_category(template_category("fish", folder / "tree.json", 500), folder / "body")
    camera = CameraConfig(cut_share=0.0, zoom_share=0.0)
    generate(
        SynthConfig(
            rigs=folder, out=folder / "set", category=str(folder / "body"), clips=1, frames=14, workers=1,
            hair_share=0.0, blur_share=0.0, camera=camera, corrupt=CLEAN,
        )
    )  # fmt: skip
    for kind in ("frames", "masks"):
        shutil.copytree(folder / "set" / "000000" / kind, folder / "videos" / "swim" / kind)
    return folder


@pytest.fixture(scope="module")
def config(here: Path) -> NewCategoryConfig:
    return NewCategoryConfig(
        name="fish",
        skeleton=here / "tree.json",
        videos=here / "videos",
        out=here / "out" / "fish",
        work=here / "work",
        minutes=0.2,
        clips=26,
        steps=2,
        crop=64,
        width=64,
        batch=8,
        imagenet=False,
        vertices=300,
        workers=1,
    )


def test_a_video_and_a_template_become_a_category(config: NewCategoryConfig, monkeypatch) -> None:
    from dasr_blender.training.new_category import lesson

    # Two steps of training do not follow anything: every frame counts, and the fit is short.
    trusting = lesson.RegisterConfig(least_iou=0.0, jump=361.0)
    monkeypatch.setattr(lesson, "REGISTER", trusting)
    monkeypatch.setattr(lesson, "FINISH", FinishConfig(SHORT, SHORT, rounds=1, least=0.0))
    said: list[str] = []
    made = new_category(config, said.append)
    assert made.path == config.bundle.resolve()
    category = load_category(config.bundle)
    assert category.version == "1.0.0" and "CARD.md" in category.hashes
    assert category.training["new_category"]["lesson"]["frames"] > 0
    prediction = Student(category, "cpu").run(
        np.zeros((3, 4, 64, 64), np.uint8), np.full((3, 3), 0.3, np.float32)
    )
    assert np.isfinite(prediction.joint_rotations).all()
    text = (config.bundle / "CARD.md").read_text()
    assert "swim" in text and "**mean**" in text
    assert (config.workshop / "template.png").is_file() and (config.workshop / "learnt.png").is_file()

    said.clear()
    new_category(config, said.append)
    assert len(said) == 8 and all(line.endswith("done before") for line in said)


def test_the_learnt_shape_becomes_the_mean_and_motions_keep_their_surface(here: Path) -> None:
    category = load_category(here / "body")
    rng = np.random.default_rng(0)
    morphology = rng.normal(0, 0.1, len(category.morphology))
    bumps = 0.01 * np.sin(20 * category.body.vertices[:, 1].astype(np.float64))
    relief = (bumps + bumps[category.body.mirror_vertex]) / 2
    grown = adopt(category, morphology, relief)
    assert grown.body.problem() is None
    motion = Motion.load(here / "set" / "000000" / "motion.npz")
    motion = replace(motion, morphology=morphology, relief=relief)
    again = adopted(motion, morphology, grown)
    np.testing.assert_allclose(grown.posed_vertices(again), category.posed_vertices(motion), atol=1e-5)
    assert again.category_version == grown.version
    low, high = grown.morphology_range.T
    assert (low <= -morphology + 1e-9).all() and (
        high >= -morphology - 1e-9
    ).all()  # the template is still in reach


def test_a_fin_is_not_sunk_to_a_thread(here: Path) -> None:
    body = load_category(here / "body").body
    thick = flesh(body)
    fins, trunk = np.isin(body.owner, [1, 2]), body.owner == 0
    assert 0.02 < np.median(thick[fins]) < 0.12 and np.median(thick[trunk]) > 0.12
    relief = held_back(body, np.full(len(body.vertices), -0.02))
    assert (relief[fins] > -0.02 - 1e-9).all() and relief[fins].mean() > -0.016
    assert relief[trunk].mean() < relief[fins].mean() - 0.005
    raised = np.full(len(body.vertices), 0.02)
    np.testing.assert_allclose(held_back(body, raised), raised)


def test_steps_are_done_once_and_again_when_something_before_them_changed(tmp_path: Path) -> None:
    done: list[str] = []

    def run(first: int, second: int) -> list[str]:
        done.clear()
        steps = Steps(tmp_path, lambda text: None)
        for name, setting in (("a", first), ("b", second)):
            steps.do(name, name, setting, lambda f, n=name: (done.append(n), {"n": n})[1])
        return list(done)

    assert run(1, 1) == ["a", "b"]
    assert run(1, 1) == []
    assert run(1, 2) == ["b"]
    assert run(2, 2) == ["a", "b"]


class _Noted(_Run):
    """A run that only notes which steps it does."""

    def __init__(self, config: NewCategoryConfig, body: Category) -> None:
        super().__init__(config, lambda text: None)
        self.body, self.done = body, list[str]()

    def _do(self, folder: Path, *_: object) -> dict[str, object]:
        self.done.append(folder.name)
        return {}

    def _template(self, folder: Path) -> dict[str, object]:
        save_category(self.body, folder)
        return self._do(folder)

    _clips = _train = _score = _learn = _do

    def _bundle(self) -> Category:
        return self.body


def test_corrected_masks_and_views_are_seen_and_nothing_else_is_done_again(
    toy_category: Category, config: NewCategoryConfig, tmp_path: Path
) -> None:
    clip = tmp_path / "videos" / "swim"
    for kind in ("frames", "masks"):
        (clip / kind).mkdir(parents=True)
        (clip / kind / "0.png").write_bytes(b"x")
    film = tmp_path / "videos" / "film.mp4"
    film.write_bytes(b"x")
    config = replace(config, videos=tmp_path / "videos", work=tmp_path / "work")

    def done() -> list[str]:
        run = _Noted(config, toy_category)
        run.run(find_clips((config.videos,)))
        return run.done

    views = json.dumps({"category": "toy", "views": []})
    late = ["lesson", "second clips", "second", "after"]
    assert done() == ["template", "first clips", "first", "before", *late]
    assert done() == []
    (clip / "masks" / "0.png").write_bytes(b"corrected")
    assert done() == ["before", *late] and done() == []
    (clip / "views.json").write_text(views)
    assert done() == late and done() == []
    film.with_name("film.views.json").write_text(views)
    assert done() == late and done() == []
    (clip / "views.json").write_text(views + " ")
    assert done() == late
    (clip / "views.json").unlink()
    assert done() == late
    (clip / "frames" / "0.png").write_bytes(b"another")
    assert done() == ["before", *late]


def test_views_of_another_category_are_refused_before_the_training(
    toy_category: Category, config: NewCategoryConfig, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"x")
    film.with_name("film.views.json").write_text(json.dumps({"category": "cow", "views": []}))
    run = _Noted(replace(config, videos=film, work=tmp_path / "work"), toy_category)
    with pytest.raises(DasrError, match="was set with the category 'cow', not 'toy'"):
        run.run(find_clips((film,)))
    assert run.done == ["template"]


def test_an_interrupted_step_finds_what_it_left(tmp_path: Path) -> None:
    def stopped(folder: Path):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Steps(tmp_path, lambda text: None).do("a", "a", 1, stopped)
    found: list[bool] = []
    Steps(tmp_path, lambda text: None).do("a", "a", 1, lambda f: found.append((f / "half").exists()))
    Steps(tmp_path, lambda text: None).do("a", "a", 2, lambda f: found.append((f / "half").exists()))
    assert found == [True, False]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "a/b"}, "no name for a category"),
        ({"skeleton": Path("none.json")}, "no such skeleton"),
        ({"videos": Path("nowhere")}, "no such folder"),
        ({"minutes": 0.0}, "must be positive"),
        ({"teacher_share": 1.0}, "between 0 and 1"),
        ({"hair_share": 7.0}, "--hair-share must lie between 0 and 1"),
        ({"vertices": 3}, "--vertices must be at least 200"),
        ({"crop": 100}, "--crop must be a multiple of 32"),
        ({"batch": 0}, "--batch and --width must be positive"),
        ({"seed": -1}, "--seed must be at least 0, not -1"),
        ({"frozen_blocks": -1}, "--frozen-blocks must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_meant_is_said_before_any_work(config: NewCategoryConfig, changes, says: str) -> None:
    with pytest.raises(DasrError, match=says):
        replace(config, **changes).check()


def test_a_category_of_another_make_is_not_written_over(config: NewCategoryConfig, here: Path, tmp_path: Path) -> None:
    elsewhere = replace(config, work=tmp_path / "work")
    with pytest.raises(DasrError, match="body: holds a category that was not made like this; choose another --out"):
        new_category(replace(elsewhere, out=here / "body"))
    with pytest.raises(DasrError, match="there is no device 'foo'"):
        new_category(replace(elsewhere, out=tmp_path / "fish", device="foo"))
    assert not list(tmp_path.iterdir())


def test_dasr_train_new_category_is_the_command(capsys) -> None:
    assert cli.main(["train", "new-category", "--help"]) == 0
    assert "--skeleton" in capsys.readouterr().out


def test_the_command_says_what_is_wrong_in_one_line(here: Path, capsys, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["fish", "--skeleton", str(here / "tree.json"), "--videos", str(tmp_path / "empty")]
    assert cli.main(["train", "new-category", *arguments, "--out", str(tmp_path / "fish")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("new-category: No real clip") and error.count("\n") == 1
    assert not (tmp_path / "fish").exists()
