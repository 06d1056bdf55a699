# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a training is, and how fast it learns there."""

from __future__ import annotations

import math
import time
from typing import Literal


def learning_rate(progress: float, highest: float) -> float:
    """One cycle: up over the first twentieth, then down a cosine to a thousandth. progress: 0…1."""
    if progress < 0.05:
        return highest * (0.04 + 0.96 * progress / 0.05)
    return highest * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.05) / 0.95))))


class Clock:
    """Share of a stage that is done, by steps or by the minutes it has been running (resumes included).

    kind: minutes on the wall, or of `cores` processors' work, so that runs compared on a busy machine do as much.
    """

    def __init__(
        self, steps: int, minutes: float, kind: Literal["wall", "cpu"] = "wall", cores: int = 1
    ) -> None:
        self.steps, self.minutes, self.kind, self.cores = steps, minutes, kind, cores
        self.before, self.step = 0.0, 0
        self.stopped = False
        self.start()

    def _now(self) -> float:
        return time.monotonic() if self.kind == "wall" else time.process_time() / self.cores

    def start(self) -> None:
        """The stage begins, or goes on, now."""
        self.started = self._now()

    def stop(self) -> None:
        """Keep the time so far."""
        self.before = self.elapsed
        self.start()

    @property
    def elapsed(self) -> float:
        """Minutes."""
        return self.before + (self._now() - self.started) / 60

    @property
    def progress(self) -> float:
        """0…1; beyond 1 when there was no time left."""
        if self.stopped:
            return 1.0
        return self.step / self.steps if self.steps else self.elapsed / max(self.minutes, 1e-9)


class Patience:
    """Whether a validation score still falls."""

    def __init__(self, allowed: int) -> None:
        """allowed: scores in a row that may be no better than the best one; 0 for any number."""
        self.allowed, self.best, self.waited = allowed, math.inf, 0

    def better(self, score: float | None) -> bool:
        """Take note of a score (None: there was nothing to score); True when it is the best so far."""
        if score is None or not self.allowed:
            return False
        if score < self.best:
            self.best, self.waited = score, 0
            return True
        self.waited += 1
        return False

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return bool(self.allowed) and self.waited >= self.allowed
