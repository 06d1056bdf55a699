# SPDX-License-Identifier: GPL-3.0-or-later
"""From a skeleton template and videos to a category bundle, step by step, each done once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.category import CARD, DESCRIPTION, Category, load_category, save_category
from ...core.files import files_in, sha256_of, written_atomically
from ...core.views import read_views, views_path
from ..body.template import template_category
from ..body.template_sheet import template_sheet
from ..distill import train
from ..errors import TrainingError
from ..evaluate.real import RealClip, find_clips
from ..evaluate.rows import FittedToClip, feed_forward
from ..evaluate.scores import overlap
from ..export import export
from ..pack import pack
from ..parallel import join
from ..picture import write_picture
from ..synth.clips import SynthConfig, generate
from ..teacher.colours import vertex_colours
from ..teacher.product import write_pseudo_truth
from ..teacher.register import read_scene
from ..train_config import TrainConfig
from .adopt import adopt, adopted
from .card import card
from .config import NewCategoryConfig
from .lesson import SHAPE, learn, learn_by_field, mean_iou, write_shape
from .steps import Steps

Facts = dict[str, Any]
CREDIT = "Body and network made by `dasr train new-category` from this template and videos of the subject"
IMAGENET = ", starting from EfficientNet-Lite0's ImageNet weights (Apache-2.0)."


def new_category(config: NewCategoryConfig, say: Callable[[str], None] = print) -> Category:
    """Make the category; goes on where an earlier run with the same settings stopped.

    Raises DasrError or OSError with one sentence.
    """
    config.check()
    join(config.device)  # says that there is none before the clips are rendered, not after
    if (config.bundle / DESCRIPTION).is_file() and "new_category" not in load_category(config.bundle).training:
        raise TrainingError(f"{config.bundle}: holds a category that was not made like this; choose another --out")
    return _Run(config, say).run(find_clips((config.videos,), config.only))  # found before any long work


def seen(videos: Sequence[RealClip]) -> list[Facts]:
    """What a step that looks at the videos depends on: their files and their masks'."""
    return [
        {
            "name": video.name,
            "source": [str(video.source), files_in(video.source)],
            "masks": [] if video.folder is None else files_in(video.folder / "masks"),
        }
        for video in videos
    ]


class _Run:
    def __init__(self, config: NewCategoryConfig, say: Callable[[str], None]) -> None:
        self.config, self.say = config, say
        self.work = config.workshop
        self.steps = Steps(self.work, say)
        self.facts: dict[str, Facts] = {}

    def step(self, name: str, text: str, settings: Any, work: Callable[[Path], Facts | None]) -> Facts:
        self.facts[name] = self.steps.do(name, text, settings, work)
        return self.facts[name]

    def run(self, found: Sequence[RealClip]) -> Category:
        config, videos = self.config, seen(found)
        drawn = [config.name, sha256_of(config.skeleton), config.vertices]
        self.step("template", "A body from the template", drawn, self._template)
        drawn_for = load_category(self.work / "template")
        for video in found:
            read_views(video.source, drawn_for)  # those of another category are refused here, not after the training
        self._student("first", "template", None, "the template's body")
        ask = "student does on the videos"
        self.step("before", f"How the first {ask}", videos, lambda f: self._score(f, "first"))
        views = [files_in(views_path(video.source)) for video in found]
        how = [videos, views, config.teacher, config.share("field")]
        self.step("lesson", "The subject's shape and motion from the videos", how, self._learn)
        self._student("second", "lesson", "first", "the body as it was learnt")
        self.step("after", f"How the second {ask}", videos, lambda f: self._score(f, "second"))
        return self._bundle()

    # -- the steps -------------------------------------------------------------------------------------------

    def _template(self, folder: Path) -> Facts:
        category = template_category(self.config.name, self.config.skeleton, self.config.vertices)
        save_category(category, folder)
        write_picture(self.work / "template.png", template_sheet(category))
        return {"vertices": len(category.body.vertices), "morphology": category.morphology_names}

    def _student(self, name: str, body: str, start: str | None, whose: str) -> None:
        """Clips of a body, packed, a student trained on them (and on the lesson) and exported: a bundle."""
        config = self.config
        clips = f"{name} clips"
        count = config.clip_count(clips)
        settings = [count, config.hair_share, config.seed, config.crop]
        self.step(clips, f"{count} clips of {whose}", settings, lambda f: self._clips(f, body, count, name))
        settings = config.settings(
            "minutes", "clock", "steps", "batch", "width", "imagenet", "frozen_blocks", "seed"
        )
        settings["teacher_share"] = config.teacher_share if start else 0
        long = f"{config.steps} steps a stage" if config.steps else f"{config.share(name):.0f} minutes"
        self.step(name, f"The {name} student, {long}", settings, lambda f: self._train(f, body, clips, start))

    def _clips(self, folder: Path, body: str, count: int, name: str) -> Facts:
        config = self.config
        generate(
            SynthConfig(
                rigs=folder,
                out=folder / "set",
                category=str(self.work / body),
                clips=count,
                seed=2 * config.seed + (name == "second"),
                workers=config.workers,
                hair_share=config.hair_share,
            )
        )
        category = load_category(self.work / body)
        pack(folder / "set", folder / "shard", category, config.crop, config.workers)
        return {"clips": count}

    def _train(self, folder: Path, body: str, clips: str, start: str | None) -> Facts:
        config = self.config
        category = load_category(self.work / body)
        teacher: tuple[Path, ...] = ()
        if start is not None:
            teacher = (self.work / "lesson" / f"shard-{config.crop}",)
            pack(self.work / "lesson" / "set", teacher[0], category, config.crop, config.workers)
        checkpoint = train(
            TrainConfig(
                shard=self.work / clips / "shard",
                out=folder / "run",
                category=str(self.work / body),
                teacher=teacher,
                teacher_share=(config.teacher_share,),
                teacher_held_out=0,
                minutes=config.share(folder.name),
                clock=config.clock,
                frame_steps=config.steps,
                clip_steps=config.steps,
                batch=config.batch,
                clip_batch=min(32, config.batch),
                width=config.width,
                imagenet=config.imagenet and start is None,
                frozen_blocks=config.frozen_blocks,
                start=self.work / start / "run" / "student.pt" if start else None,
                device=config.device,
                seed=config.seed,
                resume=True,
                plot=False,
                checkpoint_minutes=max(0.5, min(5.0, config.share(folder.name) / 8)),
            )
        )
        made = export(checkpoint, replace(category, path=None), folder, shard=self.work / clips / "shard")
        return {"student": made.training["student"]}

    def _score(self, _folder: Path, bundle: str) -> Facts:
        """Mean IoU of every video with its masks, tracked and fitted."""
        config, category = self.config, load_category(self.work / bundle)
        tracked = feed_forward("network", category)
        found: dict[str, list[float]] = {}
        for real in find_clips((config.videos,), config.only):
            scene = read_scene(real, self.work / "masks", category)
            rows = (tracked, FittedToClip("fit", category, tracked=tracked))
            answers = [row.answer(scene) for row in rows]
            found[real.name] = [
                round(float(np.nanmean(overlap(category, a.motion, scene.masks))), 4) for a in answers if a
            ]
            self.say(f"   {real.name}: IoU {found[real.name][0]:.3f}, with the fit {found[real.name][1]:.3f}")
        mean = np.mean(list(found.values()), axis=0)
        return {"clips": found, "tracked": round(float(mean[0]), 4), "fitted": round(float(mean[1]), 4)}

    def _learn(self, folder: Path) -> Facts:
        config, category = self.config, load_category(self.work / "first")
        cache = self.work / "masks"
        if config.teacher == "field":
            lesson = learn_by_field(
                category, config.videos, cache, config.only, config.share("field"), folder / "field",
                lambda share, text: self.say(f"   {share:4.0%} {text}"),
            )  # fmt: skip
        else:
            lesson = learn(
                category, config.videos, cache, config.only, config.workers,
                lambda name, n, of: self.say(f"   {name} ({n} of {of})"),
            )  # fmt: skip
        colours = lesson.colours
        if colours is None:
            colours = vertex_colours(category, lesson.clips, lesson.morphology, lesson.relief)
        grown = adopt(replace(category, training={}), lesson.morphology, lesson.relief, colours)
        save_category(grown, folder)
        grown = load_category(folder)
        write_shape(lesson, folder)
        clips = [c.with_motion(adopted(c.motion, lesson.morphology, grown)) for c in lesson.clips]
        write_pseudo_truth(grown, clips, folder / "set")
        write_picture(self.work / "learnt.png", template_sheet(grown))
        return {
            "how": lesson.how,
            "morphology": [round(float(v), 4) for v in lesson.morphology],
            "relief_cm": round(100 * float(np.abs(lesson.relief).max(initial=0.0)), 1),
            "clips": {
                c.name: round(float(np.mean(c.quality[c.used])), 4) for c in lesson.clips if len(c.used)
            },
            "iou": round(mean_iou(lesson.clips), 4),
            "frames": int(sum(len(c.used) for c in lesson.clips)),
            "of": int(sum(len(c) for c in lesson.clips)),
            "shape": SHAPE,
        }

    def _bundle(self) -> Category:
        """The second student's bundle with its facts and CARD.md, moved to where it was asked for."""
        config, out = self.config, self.config.bundle
        category = load_category(self.work / "second")
        facts = {**category.training, "new_category": self.facts}
        credit = CREDIT + (IMAGENET if config.imagenet else ".")
        category = replace(category, training=facts, credits=f"{category.credits} {credit}".strip())
        out.mkdir(parents=True, exist_ok=True)
        with written_atomically(out / CARD) as path:
            path.write_text(card(config, category, self.facts), encoding="utf-8")
        save_category(category, out)
        return load_category(out)
