# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: gradients of a step, the checkpoint that a run goes on from, when to stop."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ..core.category import Category
from ..core.files import written_atomically
from .errors import TrainingError
from .parallel import Precision, Team, join
from .sources import open_sources
from .stages import ClipStage, FrameStage, Run
from .student import log
from .student.body import TorchBody
from .student.checkpoint import (
    check_category,
    check_sizes,
    load_weights,
    make_student,
    plain,
    read,
    refuse_to_overwrite,
    start_from,
)
from .student.losses import BodySurface
from .student.model import Student
from .student.schedule import Clock, Patience, learning_rate
from .student.scores import verdict
from .train_config import TrainConfig, settled, sizes_of


class Trainer:
    """The run: network, optimiser, data and clocks, saved together so that a run can go on from any checkpoint."""

    def __init__(self, config: TrainConfig, category: Category, team: Team | None = None) -> None:
        """team: the processes that train; None to join those that torchrun started, if any.

        Raises TrainingError for settings, shards and checkpoints that cannot be used, OSError for missing ones.
        """
        config = settled(config)
        self.config, self.category = config, category
        self.checkpoint, self.log = config.out / "student.pt", config.out / "log.csv"
        refuse_to_overwrite(self.checkpoint, config.resume)
        team = team or join(config.device)
        torch.manual_seed(config.seed)
        sources = open_sources(config, category)
        self.student = make_student(sizes_of(config, category, sources[0].shard.crop), category)
        body, surface = TorchBody(category, config.vertices), BodySurface(category)
        self.team, self.precision = team, Precision(config.precision, team.device)
        self.run_of = Run(config, self.student, sources, body, surface, team, self.precision)
        parts = self.run_of.parts
        if config.batch < 2 * parts:  # each part has statistics of its own, and one frame has none
            raise TrainingError(
                f"--batch {config.batch} leaves less than two frames to each of {parts} parts ({team.world} processes, "
                f"{self.run_of.threads} --threads each); give at least {2 * parts}"
            )
        if isinstance(self.student, Student) and config.frozen_blocks > (most := len(self.student.backbone.blocks)):
            raise TrainingError(f"--frozen-blocks must be at most {most}, not {config.frozen_blocks}")
        self.frames, self.clips = FrameStage(self.run_of), ClipStage(self.run_of)
        self.stage, self.best = "frames", None
        share = 1.0 if config.clips_only else config.clip_share
        kind, cores = config.clock, config.threads
        self.clocks = {
            "frames": Clock(config.frame_steps, config.minutes * (1 - share), kind, cores),
            "clips": Clock(config.clip_steps, config.minutes * share, kind, cores),
        }
        self.patience = Patience(config.patience)
        config.out.mkdir(parents=True, exist_ok=True)
        self._optimiser_state: dict[str, Any] | None = None
        if config.resume and self.checkpoint.exists():
            self._load()
        else:
            self._begin()
        for module in (body, surface):
            module.to(team.device)
        if isinstance(self.student, Student):
            self.student.backbone.frozen = config.frozen_blocks
        self.student.to(team.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        team.alike(self.student)
        if team.leads:
            print(*sources, sep="\n", flush=True)
        self.curves = log.Curves(config.out) if config.plot and team.leads else None

    def _begin(self) -> None:
        config = self.config
        if self.team.leads:
            self.log.unlink(missing_ok=True)
        if config.imagenet:
            self.student.load_imagenet()
        start, without = config.start, ()
        if config.frames_from is not None:
            start, without = config.frames_from, ("temporal.", "heads.")
        if start is None:
            return
        taken, left = start_from(self.student, start, without)
        if self.team.leads:
            print(f"{start}: {taken} arrays taken, {left} begin anew", flush=True)
        if config.frames_from is not None:
            self.student.start_temporal()
        if config.clips_only:
            self.stage = "clips"

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
            "stopped": [name for name, clock in self.clocks.items() if clock.stopped],
            "patience": (self.patience.best, self.patience.waited),
            "best": self.best,
            "scale": (self.precision.scale, self.precision.good),
            "config": {k: plain(v) for k, v in asdict(self.config).items()},
        }
        with written_atomically(self.checkpoint) as path:
            torch.save(state, path)

    def _load(self) -> None:
        state = read(self.checkpoint)
        check_category(self.checkpoint, state, self.category)
        check_sizes(self.checkpoint, state, self.student.config)
        if "optimiser" not in state:
            raise TrainingError(
                f"{self.checkpoint} is a mean of networks, which no run can go on with; begin one from it with --start"
            )
        load_weights(self.student, state["student"], self.checkpoint)
        self.stage, self._optimiser_state = state["stage"], state["optimiser"]
        for name, (step, minutes) in state["clocks"].items():
            self.clocks[name].step, self.clocks[name].before = step, minutes
        for name in state.get("stopped", ()):
            self.clocks[name].stopped = True
        self.patience.best, self.patience.waited = state.get("patience", (self.patience.best, 0))
        self.best = state.get("best")
        self.precision.scale, self.precision.good = state.get("scale", (self.precision.scale, 0))
        if self.team.leads:
            log.trim(self.log, {name: step for name, (step, _) in state["clocks"].items()})

    # -- the loop --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do what is left of both stages."""
        if self.stage == "frames":
            self._do(self.frames)
            self.student.start_temporal()
            self.stage, self._optimiser_state = "clips", None
            self.patience = Patience(self.config.patience)
        self._do(self.clips)

    def _do(self, stage: FrameStage | ClipStage) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        config, clock, team = self.config, self.clocks[stage.name], self.team
        clock.start()
        (progress,) = team.agree(clock.progress)
        if progress < 1.0:
            stage.begin(clock)
        groups = [(share, group) for share, group in stage.groups() if group]
        parameters = [p for _, group in groups for p in group]
        optimiser = torch.optim.AdamW(
            [{"params": group, "share": share} for share, group in groups],
            config.rate,
            weight_decay=config.decay,
            fused=True,
        )
        if self._optimiser_state is not None:
            optimiser.load_state_dict(self._optimiser_state)
        since = time.monotonic()
        tally = log.Tally()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        threads = self.run_of.threads

        def share(part: int) -> tuple[tuple[Tensor | None, ...], dict[str, float], int]:
            loss, parts, seen = stage.step(clock.step, part)
            found = torch.autograd.grad(loss * self.precision.scale, parameters, allow_unused=True)
            return found, {"loss": float(loss.detach()), **parts}, seen

        # One thread of Python to a core, each with its part of the batch: they meet once a step. A pool inside
        # every operation meets a thousand times a step, and stands still whenever another program has a core.
        hidden = not (sys.stderr.isatty() and team.leads)
        (progress,) = team.agree(clock.progress)
        with (
            Progress(*columns, refresh_per_second=1, disable=hidden) as bar,
            ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            task = bar.add_task(stage.name, total=1.0)
            while progress < 1.0:
                rate = learning_rate(progress, config.rate)
                for group in optimiser.param_groups:
                    group["lr"] = rate * group["share"]
                self.student.train()
                mine = range(team.rank * threads, (team.rank + 1) * threads)
                done = list(pool.map(share, mine))
                self._follow(optimiser, parameters, [found for found, _, _ in done])
                clock.step += 1
                for _, parts, seen in done:
                    tally.add(parts, seen)
                due = time.monotonic() - since > config.checkpoint_minutes * 60
                progress, due = team.agree(clock.progress, due)
                if due or progress >= 1.0:
                    clock.stopped = self._check(stage, optimiser, rate, tally)
                    since, tally = time.monotonic(), log.Tally()
                    progress = 1.0 if clock.stopped else progress
                bar.update(task, completed=min(progress, 1.0))
        clock.stop()
        if self.best is not None:
            self.student.load_state_dict(self.best)
            self.best = None
        if team.leads:
            self.save(optimiser)

    def _follow(
        self,
        optimiser: torch.optim.Optimizer,
        parameters: list[torch.nn.Parameter],
        found: list[tuple[Tensor | None, ...]],
    ) -> None:
        """One step along the mean of all parts' gradients."""
        sums: list[Tensor | None] = []
        for each in zip(*found, strict=True):
            grads = [g for g in each if g is not None]
            sums.append(reduce(torch.add, grads) if grads else None)
        share = 1.0 / (self.run_of.parts * self.precision.scale)
        for parameter, grad in zip(parameters, self.team.add_up(sums, parameters), strict=True):
            parameter.grad = None if grad is None else grad.mul_(share)
        finite = bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, 5.0)))
        if finite:
            optimiser.step()
        self.precision.stepped(finite)

    def _check(
        self, stage: FrameStage | ClipStage, optimiser: torch.optim.Optimizer, rate: float, tally: log.Tally
    ) -> bool:
        """Validate, log and save; True when the stage is to end early."""
        self.team.alike(self.student)  # the leader's running statistics
        if not all(bool(value.isfinite().all()) for value in self.student.state_dict().values()):
            raise TrainingError(
                f"After step {self.clocks[stage.name].step} of the {stage.name} the network holds numbers that are not "
                "finite, and is not saved; lower --rate, or look at what the clips hold"
            )
        over = False
        everyone = self.team.union({self.team.rank: tally})
        if self.team.leads:
            for rank in range(1, self.team.world):
                tally.join(everyone[rank])
            clock = self.clocks[stage.name]
            done_before = sum(c.before for name, c in self.clocks.items() if name != stage.name)
            found = stage.validate()
            row: log.Row = {
                "step": str(clock.step),
                "stage": stage.name,
                "minutes": done_before + clock.elapsed,
                "lr": rate,
                **tally.row(),
                **found,
            }
            log.append(self.log, row)
            if self.patience.better(verdict(found, sum(s.share for s in self.run_of.sources[1:]))):
                self.best = {k: v.detach().cpu().clone() for k, v in self.student.state_dict().items()}
            self.save(optimiser)
            print(log.line(row), flush=True)
            if self.curves is not None:
                self.curves.show(self.log, row)
            over = self.patience.over
        for source in self.run_of.sources:
            if source.shard.refresh() and self.team.leads:
                print(source, flush=True)
        return bool(self.team.agree(over)[0])
