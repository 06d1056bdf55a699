# SPDX-License-Identifier: GPL-3.0-or-later
"""Train a category's refiner: answers of its student to labelled clips, made worse, brought back to the truth.

The student is asked once and stays as it is, so a step costs what the small network costs. Its answers should err as
they will on new clips: take a student that was not trained on the animals in them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...core.category import REFINER, Category, load_category
from ...core.files import written_atomically
from ..errors import TrainingError
from ..parallel import Precision
from ..settings import above_zero, at_least
from ..sources import shares_of
from ..student import log
from ..student.checkpoint import check_category, check_sizes, load_weights, plain, read, refuse_to_overwrite
from ..student.schedule import Clock, learning_rate
from ..student.scores import TEACHER
from ..student.shipped import arrays_of, is_shipped, load_network
from .data import POSE, Answers, collect
from .learn import METRES, Mistakes, RefinerLoss, errors, loss_of, mirrored, mistaken, refined, with_truth
from .network import WITHIN, Refiner, RefinerConfig, State


@dataclass(frozen=True)
class RefinerTraining:
    """How a refiner is trained."""

    clips: Path
    """Folder of labelled clips (see `synth`)."""
    out: Path
    """Folder for the student's answers, the checkpoint and the log."""
    teacher: tuple[Path, ...] = ()
    """Folders of clips that a teacher labelled (see `teach`), to train on together with those of `clips`."""
    teacher_share: tuple[float, ...] = (0.3,)
    """Share of every batch that comes from each teacher's clips."""
    teacher_held_out: int = 8
    """Each n-th clip of a teacher is kept for validation; 0 for none."""
    start: Path | None = None
    """Begin with the weights of a checkpoint (refiner.pt), a bundle or its refiner.onnx."""
    category: str = "quadruped"
    """Bundle whose student answers: a name or a folder."""
    workers: int = 2
    """Processes that collect the student's answers."""
    minutes: float = 60.0
    """Time for the training, without the answers; only used where the number of steps is 0."""
    clock: Literal["wall", "cpu"] = "wall"
    steps: int = 0
    batch: int = 6
    """Clips a step."""
    length: int = 12
    """Frames of each."""
    rounds: int = 3
    rate: float = 1.5e-3
    decay: float = 0.01
    width: int = 128
    blocks: int = 2
    seed: int = 0
    threads: int = 2
    """Parts of a batch computed side by side."""
    checkpoint_minutes: float = 2.0
    validation_every: int = 25
    """Each n-th clip is for validation; 0 for none."""
    resume: bool = False
    """Go on with the training in `out`, if there is one."""
    loss: RefinerLoss = field(default_factory=RefinerLoss)
    mistakes: Mistakes = field(default_factory=Mistakes)


def check(config: RefinerTraining) -> None:
    """Raise TrainingError for what cannot be meant."""
    at_least(1, config, "batch", "length", "rounds", "threads", "workers", "width", "blocks")
    at_least(0, config, "steps", "seed", "teacher_held_out", "validation_every", "decay")
    above_zero(config, "rate", *(() if config.steps else ("minutes",)))


def make_refiner(category: Category, width: int = 128, blocks: int = 2) -> Refiner:
    """A new network for a category."""
    sizes = RefinerConfig(
        joints=len(category.skeleton), morphology=len(category.morphology), width=width, blocks=blocks
    )
    return Refiner(sizes, category)


def load_refiner(checkpoint: Path, category: Category) -> tuple[Refiner, dict[str, Any]]:
    """The network of a checkpoint and what else that holds.

    Raises OSError, and TrainingError for one that is damaged or of another category.
    """
    state = read(checkpoint, "refiner")
    check_category(checkpoint, state, category)
    refiner = Refiner(RefinerConfig(**state["sizes"]), category)
    load_weights(refiner, state["refiner"], checkpoint)
    return refiner.eval(), state


def start_from(refiner: Refiner, source: Path, category: Category) -> None:
    """Give `refiner` the weights of a checkpoint, a bundle or its refiner.onnx.

    Raises OSError, and TrainingError for a file that is damaged, or of another category or other sizes.
    """
    if is_shipped(source):
        weights = arrays_of(load_network(source, REFINER), WITHIN)
    else:
        state = read(source, "refiner")
        check_category(source, state, category)
        weights = state["refiner"]
    own = dict(refiner.named_parameters())
    if any(k not in weights or weights[k].shape != p.shape for k, p in own.items()):
        raise TrainingError(
            f"{source} holds a refiner of other sizes than this one; give its --width and --blocks, or no --start"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(torch.as_tensor(weights[name]))


def counterparts(refiner: Refiner, category: Category) -> tuple[Tensor, Tensor]:
    """Numbers of each joint's and each point's counterpart on the other side, (J,) and (V,)."""
    points = refiner.surface.vertices.numpy()
    other = points * np.array([-1.0, 1.0, 1.0], np.float32)
    nearest = [int(np.linalg.norm(points - p, axis=1).argmin()) for p in other]
    return torch.as_tensor(category.skeleton.mirror.astype(np.int64)), torch.tensor(nearest)


class RefinerTrainer:
    """The run: network, optimiser, data and clock."""

    def __init__(self, config: RefinerTraining) -> None:
        """Collects what is missing of the student's answers. Raises TrainingError and what reading clips raises."""
        self.config, self.category = config, load_category(config.category)
        check(config)
        shares = shares_of(config.teacher, config.teacher_share, "one folder alone, give it with --clips")
        torch.manual_seed(config.seed)
        self.refiner = make_refiner(self.category, config.width, config.blocks)
        self.checkpoint, self.log = config.out / "refiner.pt", config.out / "log.csv"
        refuse_to_overwrite(self.checkpoint, config.resume)
        config.out.mkdir(parents=True, exist_ok=True)
        self.precision = Precision("fp32", torch.device("cpu"))
        self.clock = Clock(config.steps, config.minutes, config.clock, config.threads)
        self.parameters = list(self.refiner.parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, config.rate, weight_decay=config.decay)
        if config.resume and self.checkpoint.exists():
            self._load()
        else:
            if config.start is not None:
                start_from(self.refiner, config.start, self.category)
            self.log.unlink(missing_ok=True)
        points = self.refiner.surface.vertices.numpy()
        kept = [config.out / "answers"]
        kept += [config.out / f"answers-{n}-{f.parent.name}-{f.name}" for n, f in enumerate(config.teacher)]
        for clips, folder in zip((config.clips, *config.teacher), kept, strict=True):
            count = collect(clips, self.category, points, folder, config.workers)
            print(f"answers to {count} clips of {clips}", flush=True)
        held = [config.validation_every, *[config.teacher_held_out] * len(config.teacher)]
        self.answers = Answers(kept, config.length, held, shares)
        self.mirror = counterparts(self.refiner, self.category)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        config = self.config
        state = {
            "refiner": self.refiner.state_dict(),
            "sizes": asdict(self.refiner.config),
            "rounds": config.rounds,
            "optimiser": self.optimiser.state_dict(),
            "step": self.clock.step,
            "minutes": self.clock.elapsed,
            "clips": len(self.answers.clips),
            "category": [self.category.name, self.category.version],
            "config": {k: plain(v) for k, v in asdict(config).items()},
        }
        with written_atomically(self.checkpoint) as path:
            torch.save(state, path)

    def _load(self) -> None:
        state = read(self.checkpoint, "refiner")
        check_category(self.checkpoint, state, self.category)
        check_sizes(self.checkpoint, state, self.refiner.config)
        load_weights(self.refiner, state["refiner"], self.checkpoint)
        self.optimiser.load_state_dict(state["optimiser"])
        self.clock.step, self.clock.before = state["step"], state["minutes"]
        log.trim(self.log, {"": state["step"]})

    def _add_up(self, found: list[tuple[Tensor | None, ...]], shares: list[float]) -> None:
        """The parts' gradients as the batch's."""
        for parameter, *grads in zip(self.parameters, *found, strict=True):
            known = [share * g for g, share in zip(grads, shares, strict=True) if g is not None]
            parameter.grad = torch.stack(known).sum(0) if known else None

    def part(
        self, chosen: list[tuple[int, int]], *key: int
    ) -> tuple[tuple[Tensor | None, ...], dict[str, float]]:
        """Gradients and errors of one part of a step's batch; key: what its randomness depends on beside the seed."""
        config, count = self.config, len(chosen)
        seed = np.random.SeedSequence([config.seed, 3, *key]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(seed))
        batch = self.answers.batch(chosen)
        if torch.rand((), generator=generator) < 0.5:
            batch = mirrored(batch, *self.mirror)
        batch = mistaken(batch, self.refiner.surface.std, count, config.mistakes, generator)
        loss, found = loss_of(self.refiner, batch, count, config.rounds, config.loss)
        return torch.autograd.grad(loss, self.parameters, allow_unused=True), found

    def run(self) -> None:
        """Do what is left."""
        config, clock, since = self.config, self.clock, time.monotonic()
        tally: list[dict[str, float]] = []
        clock.start()
        with ThreadPoolExecutor(config.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            while clock.progress < 1.0:
                for group in self.optimiser.param_groups:
                    group["lr"] = learning_rate(clock.progress, config.rate)
                chosen = self.answers.drawn(clock.step, config.batch, config.seed)
                shares = [chosen[i :: config.threads] for i in range(min(config.threads, config.batch))]
                steps, parts = [clock.step] * len(shares), range(len(shares))
                done = list(pool.map(self.part, shares, steps, parts))
                self._add_up([grads for grads, _ in done], [len(some) / config.batch for some in shares])
                finite = bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)))
                if finite:
                    self.optimiser.step()
                self.precision.stepped(finite)
                clock.step += 1
                tally += [found for _, found in done]
                if clock.progress >= 1.0 or time.monotonic() - since > config.checkpoint_minutes * 60:
                    self._check(tally)
                    since, tally = time.monotonic(), []
        clock.stop()
        self.save()

    def _check(self, tally: list[dict[str, float]]) -> None:
        row = {"step": self.clock.step, "minutes": round(self.clock.elapsed, 2)}
        row |= {k: round(float(np.mean([t[k] for t in tally])), 5) for k in tally[0]}
        row |= {k: round(v, 5) for k, v in self.validate().items()}
        log.append(self.log, row, tuple(row))
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        self.save()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Errors on the clips that are not trained on, as tracking leaves them (start_…) and refined (val_…); of the
        teachers' clips start_teacher_… and val_teacher_…, but for sizes and distances."""
        own, *teachers = self.answers.validation
        return self._errors_on(own) | self._errors_on([c for clips in teachers for c in clips], TEACHER)

    def _errors_on(self, clips: Iterable[int], whose: str = "") -> dict[str, float]:
        batches: list[State] = []
        ends: list[State] = []
        for clip in clips:
            batches.append(with_truth(self.refiner, self.answers.batch([(int(clip), 0)])))
            last = refined(self.refiner, batches[-1], 1, self.config.rounds)[-1]
            ends.append({k: last[k] for k in POSE})
        if not batches:
            return {}
        # over the frames that count, wherever they are: a clip that has none is no clip without errors
        batch = {k: torch.cat([one[k] for one in batches]) for k in batches[0]}
        last = {k: torch.cat([one[k] for one in ends]) for k in POSE}
        return {
            f"{when}_{whose}{k}": float(v)
            for when, state in (("start", batch), ("val", last))
            for k, v in errors(self.refiner, state, batch, len(batches)).items()
            if not (whose and k in METRES)
        }


def train(config: RefinerTraining) -> Path:
    """Train, or go on training; returns the checkpoint."""
    trainer = RefinerTrainer(config)
    trainer.run()
    return trainer.checkpoint


def main(argv: list[str] | None = None) -> int:
    """`refine`: a refiner from labelled clips and the student's answers to them."""
    import tyro

    config = tyro.cli(RefinerTraining, args=argv, prog="refine")
    checkpoint = train(config)
    print(f"checkpoint: {checkpoint}")
    return 0
