# SPDX-License-Identifier: GPL-3.0-or-later
"""The two stages of training, as in DASR (CVPR 2023): single frames, then clips of features computed once."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .errors import TrainingError
from .parallel import Precision, Team
from .sources import Source, divide, draw, joined, windows
from .student.body import TorchBody
from .student.checkpoint import AnyStudent
from .student.dasr import DasrWeights, dasr_loss
from .student.data import NO_AUGMENT, AugmentConfig, Batch, augment
from .student.losses import BodySurface, first_look_loss, student_loss
from .student.model import Seen
from .student.schedule import Clock
from .student.scores import scores, summaries
from .train_config import TrainConfig

Groups = list[tuple[float, list[nn.Parameter]]]


@dataclass
class Run:
    """What both stages work with."""

    config: TrainConfig
    student: AnyStudent
    sources: tuple[Source, ...]
    body: TorchBody
    surface: BodySurface
    team: Team
    precision: Precision

    @property
    def crop(self) -> int:
        """Side of the network's crop, pixels."""
        return self.sources[0].shard.crop

    @property
    def threads(self) -> int:
        """Parts of a batch that this process computes side by side; a GPU takes its part whole."""
        return self.config.threads if self.team.device.type == "cpu" else 1

    @property
    def parts(self) -> int:
        """Parts of a batch over all processes."""
        return self.threads * self.team.world

    def generator(self, *key: int) -> torch.Generator:
        """Randomness that depends on the seed and the step alone, so a resumed run draws what it would have."""
        seed = int(np.random.SeedSequence([self.config.seed, *key]).generate_state(1)[0])
        return torch.Generator().manual_seed(seed)

    def here(self, batch: Batch) -> Batch:
        """A batch on the device that trains."""
        if self.team.device.type == "cpu":
            return batch
        return {k: v.pin_memory().to(self.team.device, non_blocking=True) for k, v in batch.items()}

    def see(self, batch: Batch, keep: Tensor | None = None, leads: bool = True) -> Seen:
        """The network on an augmented batch, in the precision of the run."""
        with self.precision.autocast():
            return self.student.see(batch["crops"], batch["crop_info"], keep, leads)

    def loss(
        self, out: dict[str, Tensor], batch: Batch, surface: BodySurface | None = None, clip: int = 1
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of the run's recipe."""
        if self.student.config.design == "dasr":
            return dasr_loss(out, batch, self.body, DasrWeights(), surface)
        return student_loss(out, batch, self.body, self.config.loss, surface, clip)


def dropout(shape: tuple[int, ...], rate: float, generator: torch.Generator) -> Tensor:
    """Zeros for a share `rate` of the entries, and 1/(1 − rate) for the rest."""
    return (torch.rand(shape, generator=generator) >= rate) / (1.0 - rate)


class FrameStage:
    """Backbone, surface map, heads and looking back, on single frames."""

    name = "frames"

    def __init__(self, run: Run) -> None:
        self.run = run
        self._reader = ThreadPoolExecutor(2) if run.team.device.type == "cuda" else None
        self._ahead: dict[tuple[int, int], Future[Batch]] = {}

    def begin(self, clock: Clock) -> None:
        """Nothing to prepare."""

    def groups(self) -> Groups:
        """Shares of the learning rate, and the parameters they hold for."""
        pretrained, rest = self.run.student.frame_groups()
        return [(self.run.config.backbone_rate, pretrained), (1.0, rest)]

    def _stored(self, step: int, part: int) -> Batch:
        run = self.run
        count, number = run.config.batch // run.parts, step * run.parts + part
        return draw(run.sources, count, number, run.generator(2, step, part))

    def _batch(self, step: int, part: int) -> Batch:
        """The stored rows of a step; on a GPU those of the next steps are read meanwhile."""
        if self._reader is None:
            return self._stored(step, part)
        for ahead in range(step, step + 3):
            if (ahead, part) not in self._ahead:
                self._ahead[ahead, part] = self._reader.submit(self._stored, ahead, part)
        return self.run.here(self._ahead.pop((step, part)).result())

    def step(self, step: int, part: int) -> tuple[Tensor, dict[str, float], int]:
        """Loss, its parts and the number of frames of one part of a step's batch."""
        run, generator = self.run, self.run.generator(5, step, part)
        batch = augment(self._batch(step, part), run.crop, run.config.augment, generator, run.surface.twin)
        count, width = len(batch["crops"]), run.student.dropped
        keep = dropout((count, width), run.config.dropout, generator).to(run.team.device) if width else None
        seen = run.see(batch, keep, leads=part == 0)
        loss, parts = run.loss({**seen.answer, **seen.surface}, batch, run.surface)
        if seen.first is not None:
            first, _ = first_look_loss(seen.first, batch, run.body, run.config.loss)
            loss = loss + run.config.loss.weights.first_look * first
        return loss, parts, count

    @torch.no_grad()
    def validate(self, most: int = 384) -> dict[str, float]:
        """Scores on frames of clips that are not trained on."""
        run = self.run
        run.student.eval()
        found: dict[str, list[dict[str, np.ndarray]]] = {}
        for source in run.sources:
            rows = source.shard.validation_rows
            rows = (
                rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)] if len(rows) else rows
            )
            for start in range(0, len(rows), 64):
                batch = run.here(source.shard.batch(rows[start : start + 64]))
                batch = augment(batch, run.crop, NO_AUGMENT, run.generator(0), run.surface.twin)
                seen = run.see(batch)
                answer = {**seen.answer, **seen.surface}
                found.setdefault(source.whose, []).append(scores(answer, batch, run.body, run.surface))
        return summaries(found)


class ClipStage:
    """The temporal encoder and the heads behind it, on features of stretches of clips."""

    name = "clips"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.cached: list[Batch] = []  # one of each source
        self.validation: list[Batch] = []

    def groups(self) -> Groups:
        """Shares of the learning rate, and the parameters they hold for."""
        student, named = self.run.student, self.run.config.heads
        parts = [getattr(student.heads, name) for name in named] or [student.temporal, student.heads]
        return [(1.0, [p for part in parts for p in part.parameters()])]

    def begin(self, clock: Clock) -> None:
        """Features of stretches of clips, each with one draw of the augmentation, until half the stage's time is gone.

        Validation clips first, then training clips in a random order, all once before any a second time.
        Raises TrainingError when no clip is long enough.
        """
        run, length = self.run, self.run.config.clip_frames
        run.student.eval()
        starts: list[tuple[list[int], list[int]]] = []
        for source in run.sources:
            source.shard.refresh()
            starts.append(windows(source, length, 1 if clock.steps else 4, run.config.seed))
        left = 0.0 if clock.steps else clock.minutes - clock.elapsed
        begun = clock.elapsed

        def until(share: float) -> float | None:
            return None if clock.steps else begun + share * left

        self.validation, self.cached = [], []
        for k, (_, held) in enumerate(starts):
            self.validation.append(self._cache(k, held, NO_AUGMENT, clock, until(0.15)))
        made: dict[int, Batch] = {}
        spent = 0.15
        for k in reversed(
            range(len(starts))
        ):  # the teacher's few first: the others have what time they leave
            spent += 0.4 * run.sources[k].share
            made[k] = self._cache(k, starts[k][0], run.config.augment, clock, until(spent))
            if not made[k]:
                folder = run.sources[k].shard.folder
                raise TrainingError(f"{folder}: no clip has {length} frames; pack longer clips")
        self.cached = [made[k] for k in range(len(starts))]
        if run.team.leads:
            print(
                f"features of {' and '.join(str(len(c['features'])) for c in self.cached)} stretches",
                flush=True,
            )

    def _cache(
        self, of: int, starts: list[int], setting: AugmentConfig, clock: Clock, until: float | None
    ) -> Batch:
        """Features and targets (N, T, …) of stretches of a source, by all processes, each its groups of eight."""
        run, threads, found = self.run, self.run.threads, {}
        groups = [starts[i : i + 8] for i in range(0, len(starts), 8)]
        mine = range(run.team.rank, len(groups), run.team.world)
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for start in range(0, len(mine), threads):
                if found and until is not None and clock.elapsed > until:
                    break
                numbers = mine[start : start + threads]
                features = pool.map(lambda i: self._features(of, groups[i], setting, i), numbers)
                found.update(zip(numbers, features, strict=True))
        found = run.team.union(found)
        each = [found[number] for number in sorted(found)]
        return {k: torch.cat([one[k] for one in each]) for k in each[0]} if each else {}

    @torch.no_grad()
    def _features(self, of: int, starts: list[int], setting: AugmentConfig, key: int) -> Batch:
        run, length = self.run, self.run.config.clip_frames
        shard, generator = self.run.sources[of].shard, run.generator(3, key, *([of] if of else []))
        batch = run.here(shard.batch((np.array(starts)[:, None] + np.arange(length)).ravel()))
        batch = augment(batch, run.crop, setting, generator, run.surface.twin, length)
        seen = run.see(batch)
        batch["features"], batch["appearance_target"] = seen.features, seen.answer["appearance"]
        return {
            k: v.unflatten(0, (len(starts), length)).cpu()
            for k, v in batch.items()
            if k not in ("crops", "surface", "joints_mirrored")
        }

    def _answers(self, features: Tensor) -> dict[str, Tensor]:
        student = self.run.student
        with self.run.precision.autocast():
            out = student.heads(student.temporal(features))
        return {k: v.flatten(0, 1) for k, v in out.items()}

    def step(self, step: int, part: int) -> tuple[Tensor, dict[str, float], int]:
        """Loss, its parts and the number of frames of one part of a step's batch."""
        run, generator = self.run, self.run.generator(4, step, part)
        count = max(1, run.config.clip_batch // run.parts)
        parts_of: list[Batch] = []
        shares = divide([s.share for s in run.sources], count, step * run.parts + part)
        for cached, some in zip(self.cached, shares, strict=True):
            pick = torch.randint(len(cached["features"]), (some,), generator=generator)
            if some:
                parts_of.append({k: v[pick] for k, v in cached.items()})
        batch = joined(parts_of)
        if torch.rand((), generator=generator) < 0.5:  # a walk backwards is as smooth as a walk
            batch = {k: v.flip(1) for k, v in batch.items()}
        features = batch.pop("features")
        # The features know the training pictures better than they will know new ones; noise evens that out.
        features = features * dropout(features.shape, run.config.dropout, generator)
        noise = torch.randn(features.shape, generator=generator)
        features = features + run.config.feature_noise * features.std() * noise
        flat = run.here({k: v.flatten(0, 1) for k, v in batch.items()})
        out = self._answers(features.to(run.team.device))
        loss, parts = run.loss(out, flat, clip=run.config.clip_frames)
        return loss, parts, len(flat["crop_info"])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Scores on clips that are not trained on."""
        run = self.run
        run.student.eval()
        found: dict[str, list[dict[str, np.ndarray]]] = {}
        for source, validation in zip(run.sources, self.validation, strict=True):
            if validation:
                batch = run.here(dict(validation))
                out = self._answers(batch.pop("features"))
                flat = {k: v.flatten(0, 1) for k, v in batch.items()}
                found.setdefault(source.whose, []).append(scores(out, flat, run.body, run.surface))
        return summaries(found)
