# SPDX-License-Identifier: GPL-3.0-or-later
"""The optimisation of the field: steps, checkpoints that resume, the log and progress pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch

from ...core.files import written_atomically
from ..errors import TrainingError
from ..parallel import Precision, Team
from ..student.checkpoint import read
from ..student.schedule import Clock, learning_rate
from .config import LossWeights
from .frames import Frames
from .objective import draw_rows, objective
from .render import Model

REFRESH = 50
"""steps between new copies of the distance on its grid"""

Picture = Callable[[Model, Path], None]


class Optimiser:
    """A run over a model, saved so that it can go on from any checkpoint as if it had never stopped."""

    def __init__(
        self, model: Model, frames: Frames, out: Path, team: Team, picture: Picture | None = None, videos: str = ""
    ) -> None:
        """videos: what tells them from others with as many frames."""
        self.model, self.frames, self.out, self.team, self.picture = model, frames, out, team, picture
        self.config, self.videos = model.config, videos
        config = model.config
        model.to(team.device)
        self.precision = Precision(config.precision, team.device)
        field = [*model.canonical.parameters(), *model.morphology.parameters()]
        shape = [*model.gaussians.parameters(), *model.shape.parameters()]
        groups = [
            {"params": field, "share": config.rate, "weight_decay": 1e-4},
            {"params": shape, "share": config.shape_rate, "weight_decay": 0.0},
            {"params": list(model.poses.parameters()), "share": config.pose_rate, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99), eps=1e-10)
        self.parameters = [p for group in groups for p in group["params"]]
        self.clock = Clock(config.steps, config.minutes)
        self.checkpoint, self.log = out / "teacher.pt", out / "teacher.csv"
        out.mkdir(parents=True, exist_ok=True)
        self.tally: dict[str, list[float]] = {}
        if self.checkpoint.exists():
            self._load()
        elif team.leads:
            self.log.unlink(missing_ok=True)

    def _generator(self, step: int) -> torch.Generator:
        """Randomness that depends on the seed, the step and the process alone."""
        seed = np.random.SeedSequence([self.config.seed, step, self.team.rank]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    def run(self, until: int | None = None, progress: Callable[[float, str], None] | None = None) -> Model:
        """Optimise to the end, or to step `until`."""
        config, clock, model = self.config, self.clock, self.model
        clock.start()
        while True:
            share = self.team.agree(clock.progress)[0]
            if share >= 1.0 or (until is not None and clock.step >= until):
                break
            if clock.step % REFRESH == 0:
                model.refresh()
            self._step(share)
            if progress is not None and clock.step % 10 == 0:
                progress(min(share, 1.0), f"step {clock.step}, loss {np.mean(self.tally['loss'][-50:]):.4f}")
            if clock.step % config.save_every == 0:
                self._keep(share)
            if (
                self.picture
                and config.picture_every
                and clock.step % config.picture_every == 0
                and self.team.leads
            ):
                self.picture(model, self.out / f"step-{clock.step:06d}.jpg")
        self._keep(min(self.clock.progress, 1.0))
        clock.stop()
        return model

    def _step(self, share: float) -> None:
        config, model = self.config, self.model
        generator = self._generator(self.clock.step)
        rows = draw_rows(self.frames, config.frames, generator)
        with self.precision.autocast():
            loss, parts = objective(model, self.frames, rows, share, generator)
        grads = torch.autograd.grad(loss * self.precision.scale, self.parameters, allow_unused=True)
        scale = 1.0 / (self.precision.scale * self.team.world)
        summed = self.team.add_up(list(grads), self.parameters)
        for parameter, grad in zip(self.parameters, summed, strict=True):
            parameter.grad = None if grad is None else grad * scale
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(share, group["share"])
        finite = bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(self.parameters, 2.0)))
        if finite:
            self.optimiser.step()
        self.precision.stepped(finite)
        self.clock.step += 1
        for name, value in {"loss": float(loss.detach()), **parts}.items():
            self.tally.setdefault(name, []).append(value)

    def _keep(self, share: float) -> None:
        if not self.team.leads:
            return
        if self.tally:
            means = {name: f"{np.mean(values):.6g}" for name, values in self.tally.items()}
            minutes = f"{self.clock.elapsed:.3f}"
            self._note({"step": str(self.clock.step), "minutes": minutes, "share": f"{share:.4f}", **means})
        self.tally = {}
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.clock.step,
            "minutes": self.clock.elapsed,
            "scale": (self.precision.scale, self.precision.good),
            "config": asdict(self.config),
            "rows": self.frames.rows,
            "videos": self.videos,
        }
        with written_atomically(self.checkpoint) as path:
            torch.save(state, path)

    def _note(self, row: dict[str, str]) -> None:
        columns = ["step", "minutes", "share", "loss", *(f.name for f in fields(LossWeights))]
        new = not self.log.exists()
        with open(self.log, "a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def _load(self) -> None:
        """Go on from the checkpoint; TrainingError when it is damaged or of another run."""
        state = read(self.checkpoint, "model")
        ours = asdict(self.config)
        changed = sorted(
            k
            for k in ours
            if k not in ("device", "picture_every", "save_every") and ours[k] != state["config"].get(k)
        )
        if [tuple(r) for r in state["rows"]] != self.frames.rows:
            changed.append("its frames")
        if state.get("videos", self.videos) != self.videos:
            changed.append("its videos")
        mine, kept = self.model.state_dict(), state["model"]
        alike = mine.keys() == kept.keys() and all(kept[k].shape == mine[k].shape for k in mine)
        if changed or not alike:  # unlike with the same settings: another version's student or fit
            what = ", ".join(changed) or "the shape that it started from"
            raise TrainingError(
                f"{self.checkpoint}: was begun with other settings ({what}); choose another folder"
            )
        self.model.load_state_dict(kept)
        self.optimiser.load_state_dict(state["optimiser"])
        self.precision.scale, self.precision.good = state["scale"]
        self.clock.step, self.clock.before = state["step"], state["minutes"]
