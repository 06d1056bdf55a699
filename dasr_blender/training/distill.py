# SPDX-License-Identifier: GPL-3.0-or-later
"""Train a category's student on pseudo ground truth, whoever made it: the synthetic clips or a teacher.

Two stages, as in DASR (CVPR 2023): first the network and its heads on single frames, then the temporal encoder
on features of whole clips, computed once. Both run for a number of steps or for a number of minutes; the
learning rate follows the share of the work done, so it has always come down when the time is up.
"""

from __future__ import annotations

import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.category import Category, load_category
from ..core.errors import DasrError
from ..core.files import written_atomically
from .student import log
from .student.body import TorchBody
from .student.data import NO_AUGMENT, AugmentConfig, Batch, Shard, augment
from .student.losses import BodySurface, LossConfig, first_look_loss, student_loss
from .student.model import Student, StudentConfig
from .student.scores import scores, summary


@dataclass(frozen=True)
class TrainConfig:
    """How a student is trained."""

    shard: Path
    """Packed clips (see `pack`)."""
    out: Path
    """Folder for the checkpoint, the log and its plot."""
    category: str = "quadruped"
    minutes: float = 60.0
    """Time for both stages together; only used where the number of steps is 0."""
    frame_steps: int = 0
    """Steps of the first stage; 0: as many as fit."""
    clip_steps: int = 0
    """Steps of the second stage; 0: as many as fit."""
    clip_share: float = 0.16
    """Share of `minutes` for the second stage, its features included."""
    batch: int = 64
    clip_batch: int = 32
    clip_frames: int = 12
    rate: float = 1.2e-3
    """Highest learning rate."""
    backbone_rate: float = 0.25
    """Learning rate of the backbone, as a share of that."""
    decay: float = 0.02
    seed: int = 0
    dropout: float = 0.1
    threads: int = 2
    """Parts of a batch computed side by side; part of the recipe, as each has its own statistics."""
    checkpoint_minutes: float = 2.0
    vertices: int = 500
    """Vertices of the body that the loss looks at."""
    imagenet: bool = True
    """Start from ImageNet weights."""
    frozen_blocks: int = 0
    """Leave the stem and this many blocks of the backbone as they are: with 5, training is 1.5 times as fast."""
    resume: bool = False
    plot: bool = True
    start: Path | None = None
    """Begin with the weights of another run's checkpoint, as far as their shapes fit."""
    width: int = 512
    hypotheses: int = 6
    surface: bool = True
    look_back: bool = True
    place: bool = True
    temporal: Literal["none", "conv", "attention"] = "conv"
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


def learning_rate(progress: float, highest: float) -> float:
    """One cycle: up over the first twentieth, then down a cosine to a thousandth. progress: 0…1."""
    if progress < 0.05:
        return highest * (0.04 + 0.96 * progress / 0.05)
    return highest * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.05) / 0.95))))


class Clock:
    """Share of a stage that is done, by steps or by the minutes it has been running (resumes included)."""

    def __init__(self, steps: int, minutes: float) -> None:
        self.steps, self.minutes = steps, minutes
        self.before, self.started, self.step = 0.0, time.monotonic(), 0

    @property
    def elapsed(self) -> float:
        return self.before + (time.monotonic() - self.started) / 60

    @property
    def progress(self) -> float:
        return self.step / self.steps if self.steps else self.elapsed / max(self.minutes, 1e-9)


class Trainer:
    """The run: network, optimiser, data and clock, saved together so that a run can go on from any checkpoint."""

    def __init__(self, config: TrainConfig, category: Category) -> None:
        self.config, self.category = config, category
        torch.manual_seed(config.seed)
        self.shard = Shard(config.shard)
        sizes = StudentConfig(
            joints=len(category.skeleton),
            morphology=len(category.morphology),
            appearance=len(category.body.appearance_basis),
            crop=self.shard.crop,
            width=config.width,
            hypotheses=config.hypotheses,
            surface=config.surface,
            look_back=config.look_back,
            place=config.place,
            temporal=config.temporal,
        )
        self.student = Student(sizes, category)
        self.body, self.surface = TorchBody(category, config.vertices), BodySurface(category)
        self.stage, self.clocks = "frames", self._clocks()
        self.checkpoint = config.out / "student.pt"
        self.log = config.out / "log.csv"
        config.out.mkdir(parents=True, exist_ok=True)
        if config.resume and self.checkpoint.exists():
            self._load()
        else:
            self.log.unlink(missing_ok=True)
            if config.imagenet:
                self.student.backbone.load_imagenet()
            if config.start is not None:
                taken, left = start_from(self.student, config.start)
                print(f"{config.start}: {taken} arrays taken, {left} begin anew", flush=True)
        self.student.backbone.frozen = config.frozen_blocks
        self.student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _clocks(self) -> dict[str, Clock]:
        c = self.config
        return {
            "frames": Clock(c.frame_steps, c.minutes * (1 - c.clip_share)),
            "clips": Clock(c.clip_steps, c.minutes * c.clip_share),
        }

    def _generator(self, *key: int) -> torch.Generator:
        """Randomness that depends on the seed and the step alone, so a resumed run draws what it would have."""
        seed = int(np.random.SeedSequence([self.config.seed, *key]).generate_state(1)[0])
        return torch.Generator().manual_seed(seed)

    # -- saving ----------------------------------------------------------------------------------------------

    def save(self, optimiser: torch.optim.Optimizer) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "student": self.student.state_dict(),
            "sizes": asdict(self.student.config),
            "stage": self.stage,
            "optimiser": optimiser.state_dict(),
            "category": self.category.name,
            "clocks": {
                name: (clock.step, clock.elapsed if name == self.stage else clock.before)
                for name, clock in self.clocks.items()
            },
            "config": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self.config).items()},
        }
        with written_atomically(self.checkpoint) as path:
            torch.save(state, path)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.stage, self._optimiser_state = state["stage"], state["optimiser"]
        for name, (step, minutes) in state["clocks"].items():
            self.clocks[name].step, self.clocks[name].before = step, minutes
        log.trim(self.log, sum(minutes for _, minutes in state["clocks"].values()) + 1e-6)

    # -- the two stages --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do what is left of both stages."""
        if self.stage == "frames":
            self._stage("frames", self._frame_parameters(), self._frame_step, self._validate_frames)
            self.student.start_temporal()
            self.stage = "clips"
            self._optimiser_state = None
        self.clocks["clips"].started = time.monotonic()
        self._cache_features()
        parameters = [*self.student.temporal.parameters(), *self.student.heads.parameters()]
        self._stage("clips", [(1.0, parameters)], self._clip_step, self._validate_clips)

    def _frame_parameters(self) -> list[tuple[float, list[torch.nn.Parameter]]]:
        """Groups of (share of the learning rate, parameters) of the first stage."""
        student = self.student
        rest = [student.layout, student.place, student.level, student.merge, student.frame_heads]
        rest += [part for part in (student.surface, student.look) if part is not None]
        return [
            (self.config.backbone_rate, list(student.backbone.parameters())),
            (1.0, [p for module in rest for p in module.parameters()]),
        ]

    _optimiser_state: dict[str, Any] | None = None

    def _stage(
        self, name: str, groups: list[tuple[float, list[torch.nn.Parameter]]], step: Any, validate: Any
    ) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        config, clock = self.config, self.clocks[name]
        parameters = [p for _, group in groups for p in group]
        optimiser = torch.optim.AdamW(
            [{"params": group, "share": share} for share, group in groups],
            config.rate,
            weight_decay=config.decay,
            fused=True,
        )
        if self._optimiser_state is not None:
            optimiser.load_state_dict(self._optimiser_state)
        if name == "frames":
            clock.started = time.monotonic()
        done_before = sum(c.before for n, c in self.clocks.items() if n != name)
        saved = reported = time.monotonic()
        images, sums, count = 0, {}, 0
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())

        def share(part: int) -> tuple[tuple[Tensor | None, ...], dict[str, float], int]:
            loss, parts, seen = step(clock.step, part)
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            return found, {"loss": float(loss.detach()), **parts}, seen

        # One thread of Python to a core, each with its part of the batch: they meet once a step. A pool inside
        # every operation meets a thousand times a step, and stands still whenever another program has a core.
        with (
            Progress(*columns, refresh_per_second=1, disable=not sys.stderr.isatty()) as bar,
            ThreadPoolExecutor(config.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            task = bar.add_task(name, total=1.0)
            while clock.progress < 1.0:
                rate = learning_rate(clock.progress, config.rate)
                for group in optimiser.param_groups:
                    group["lr"] = rate * group["share"]
                self.student.train()
                done = list(pool.map(share, range(config.threads)))
                for i, parameter in enumerate(parameters):
                    grads = [g for g in (found[i] for found, _, _ in done) if g is not None]
                    parameter.grad = sum(grads[1:], grads[0]).div_(config.threads) if grads else None
                norm = torch.nn.utils.clip_grad_norm_(parameters, 5.0)
                if torch.isfinite(norm):
                    optimiser.step()
                clock.step += 1
                images, count = images + sum(seen for _, _, seen in done), count + config.threads
                for _, parts, _ in done:
                    for key, value in parts.items():
                        sums[key] = sums.get(key, 0.0) + value
                now = time.monotonic()
                last = clock.progress >= 1.0
                if last or now - saved > config.checkpoint_minutes * 60:
                    speed = images / max(now - reported, 1e-9)
                    row: dict[str, float | str] = {
                        "step": str(clock.step),
                        "stage": name,
                        "minutes": done_before + clock.elapsed,
                        "images_per_s": speed,
                        "lr": rate,
                        **{k: v / count for k, v in sums.items()},
                        **validate(),
                    }
                    log.append(self.log, row)
                    self.save(optimiser)
                    _report(row)
                    if self.shard.refresh():
                        print(f"{self.shard.rows} frames of {len(self.shard.clips)} clips", flush=True)
                    saved = reported = time.monotonic()
                    images, sums, count = 0, {}, 0
                bar.update(task, completed=min(clock.progress, 1.0))
        clock.before, clock.started = clock.elapsed, time.monotonic()
        self.save(optimiser)

    def _frame_step(self, step: int, part: int) -> tuple[Tensor, dict[str, float], int]:
        generator = self._generator(2, step, part)
        count = self.config.batch // self.config.threads
        pick = torch.randint(len(self.shard.training_rows), (count,), generator=generator).numpy()
        batch = augment(
            self.shard.batch(self.shard.training_rows[pick]),
            self.shard.crop,
            self.config.augment,
            generator,
            self.surface.twin,
        )
        keep = _dropout((count, self.student.level.num_features), self.config.dropout, generator)
        seen = self.student.see(batch["crops"], batch["crop_info"], keep, leads=part == 0)
        loss, parts = student_loss(
            {**seen.answer, **seen.surface}, batch, self.body, self.config.loss, self.surface
        )
        if seen.first is not None:
            first, _ = first_look_loss(seen.first, batch, self.body, self.config.loss)
            loss = loss + self.config.loss.weights.first_look * first
        return loss, parts, count

    @torch.no_grad()
    def _validate_frames(self, most: int = 384) -> dict[str, float]:
        self.student.eval()
        rows = self.shard.validation_rows
        rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)] if len(rows) else rows
        found = []
        for start in range(0, len(rows), 64):
            batch = augment(
                self.shard.batch(rows[start : start + 64]),
                self.shard.crop,
                NO_AUGMENT,
                self._generator(0),
                self.surface.twin,
            )
            seen = self.student.see(batch["crops"], batch["crop_info"])
            found.append(scores({**seen.answer, **seen.surface}, batch, self.body, self.surface))
        return summary(found)

    def _cache_features(self) -> None:
        """Features of clips, each clip with one draw of the augmentation, until half of the stage's time is gone.

        Validation clips first, then training clips in a random order, all once before any a second time.
        """
        self.student.eval()
        self.shard.refresh()
        clock, length, threads = self.clocks["clips"], self.config.clip_frames, self.config.threads
        usable = {int(c) for c in range(len(self.shard.clips)) if self.shard.clips[c]["rows"] >= length}
        order = np.random.default_rng(self.config.seed).permutation(self.shard.training_clips)
        held = [int(c) for c in self.shard.validation_clips if int(c) in usable][:64]
        passes = 1 if clock.steps else 4
        train = [int(c) for _ in range(passes) for c in order if int(c) in usable]
        until = clock.elapsed + 0.55 * (clock.minutes - clock.elapsed)

        @torch.no_grad()
        def features_of(clips: list[int], setting: AugmentConfig, key: int) -> Batch:
            rows = np.concatenate([self.shard.clip_rows(c)[:length] for c in clips])
            twin = self.surface.twin
            batch = augment(
                self.shard.batch(rows), self.shard.crop, setting, self._generator(3, key), twin, length
            )
            seen = self.student.see(batch["crops"], batch["crop_info"])
            batch["features"], batch["appearance_target"] = seen.features, seen.answer["appearance"]
            return {
                k: v.unflatten(0, (len(clips), length))
                for k, v in batch.items()
                if k not in ("crops", "surface", "joints_mirrored")
            }

        def cache(clips: list[int], setting: AugmentConfig) -> dict[str, Tensor]:
            groups, found = [clips[i : i + 8] for i in range(0, len(clips), 8)], []
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for start in range(0, len(groups), threads):
                    if found and not clock.steps and clock.elapsed > until:
                        break
                    numbers = range(start, min(start + threads, len(groups)))
                    found += pool.map(lambda i: features_of(groups[i], setting, i), numbers)
            return {k: torch.cat([f[k] for f in found]) for k in found[0]} if found else {}

        self.cached_validation = cache(held, NO_AUGMENT)
        self.cached = cache(train, self.config.augment)
        if not self.cached:
            raise ValueError(f"{self.config.shard}: no clip has {length} frames; pack longer clips")
        print(f"features of {len(self.cached['features'])} clips", flush=True)

    def _clip_step(self, step: int, part: int) -> tuple[Tensor, dict[str, float], int]:
        generator = self._generator(4, step, part)
        count = max(1, self.config.clip_batch // self.config.threads)
        pick = torch.randint(len(self.cached["features"]), (count,), generator=generator)
        batch = {k: v[pick] for k, v in self.cached.items()}
        if torch.rand((), generator=generator) < 0.5:  # a walk backwards is as smooth as a walk
            batch = {k: v.flip(1) for k, v in batch.items()}
        features = batch.pop("features")
        # The features know the training pictures better than they will know new ones; noise evens that out.
        features = features * _dropout(features.shape, self.config.dropout, generator)
        features = features + 0.05 * features.std() * torch.randn(features.shape, generator=generator)
        out = self.student.heads(self.student.temporal(features))
        flat = {k: v.flatten(0, 1) for k, v in batch.items()}
        loss, parts = student_loss(
            {k: v.flatten(0, 1) for k, v in out.items()},
            flat,
            self.body,
            self.config.loss,
            clip=self.config.clip_frames,
        )
        return loss, parts, len(flat["crop_info"])

    @torch.no_grad()
    def _validate_clips(self) -> dict[str, float]:
        self.student.eval()
        if not self.cached_validation:
            return {}
        batch = dict(self.cached_validation)
        out = self.student.heads(self.student.temporal(batch.pop("features")))
        flat = {k: v.flatten(0, 1) for k, v in batch.items()}
        return summary([scores({k: v.flatten(0, 1) for k, v in out.items()}, flat, self.body, self.surface)])


def _dropout(shape: tuple[int, ...], rate: float, generator: torch.Generator) -> Tensor:
    """Zeros for a share `rate` of the entries, and 1/(1 − rate) for the rest."""
    return (torch.rand(shape, generator=generator) >= rate) / (1.0 - rate)


def _report(row: dict[str, float | str]) -> None:
    shown = (
        "loss",
        "images_per_s",
        "val_root_chosen_deg",
        "val_root_best_deg",
        "val_root_over_30",
        "val_translation",
        "val_joints_deg",
        "val_morphology",
        "val_vertices",
        "val_surface",
    )
    text = "  ".join(f"{k} {float(row[k]):.3g}" for k in shown if k in row)
    print(f"{float(row['minutes']):6.1f} min  {row['stage']} step {row['step']}  {text}", flush=True)


_OF_THE_CATEGORY = tuple(
    [
        "look.body.",
        "look.points",
        *(f"{h}.{end}" for h in ("heads", "frame_heads") for end in ("lower", "upper")),
    ]
)
"""arrays of a network that say what its category is, not what it learnt"""


def start_from(student: Student, checkpoint: Path) -> tuple[int, int]:
    """Take what fits of another network's weights; returns how many arrays were taken and how many were not."""
    state = torch.load(checkpoint, weights_only=True)["student"]
    own = student.state_dict()
    fits = {
        k: v
        for k, v in state.items()
        if k in own and own[k].shape == v.shape and not k.startswith(_OF_THE_CATEGORY)
    }
    student.load_state_dict({**own, **fits})
    return len(fits), len(own) - len(fits)


def load_student(checkpoint: Path, category: Category) -> Student:
    """The network of a checkpoint, ready to answer. Raises FileNotFoundError and RuntimeError (wrong sizes)."""
    state = torch.load(checkpoint, weights_only=True)
    student = Student(StudentConfig(**state["sizes"]), category)
    student.load_state_dict(state["student"])
    if state["stage"] == "frames":  # the second stage has not begun: answer frame by frame
        student.start_temporal()
    return student.eval()


def train(config: TrainConfig) -> Path:
    """Train, or go on training; returns the checkpoint."""
    torch.set_num_threads(1)
    trainer = Trainer(config, load_category(config.category))
    trainer.run()
    if config.plot:
        log.plot(trainer.log, config.out / "log.png")
    return trainer.checkpoint


def main(argv: list[str] | None = None) -> int:
    """`train`: the student of a category from a shard."""
    import tyro

    config = tyro.cli(TrainConfig, args=argv, prog="train")
    try:
        checkpoint = train(config)
    except (DasrError, OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    print(f"checkpoint: {checkpoint}")
    return 0
