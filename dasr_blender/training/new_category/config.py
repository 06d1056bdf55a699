# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be asked of `train new-category`, and how its minutes are spent."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ...core.errors import DasrError
from ..settings import at_least

FEWEST_VERTICES = 200
"""with fewer a joint's skin is a matter of chance"""
SYNTH_RATE = 55.0
"""images a second that two processor cores render and pack, on the safe side"""


@dataclass(frozen=True)
class NewCategoryConfig:
    """A category bundle from a hand-written skeleton template and videos of one kind of subject."""

    name: Annotated[str, tyro.conf.Positional]
    """What the category is called: letters, digits, '_', '-' and '.'."""
    skeleton: Path
    """The template: a JSON file of joints (docs/new-category.md)."""
    videos: Path
    """Folder of videos; or of folders with frames/ and masks/, where there are masks."""
    out: Path | None = None
    """The bundle's folder; by default one with the category's name, here."""
    work: Path | None = None
    """Folder for everything in between; by default the bundle's name with -work. A second run goes on there."""
    minutes: float = 60.0
    """About how long to render and train; following the videos comes on top, about a minute for each 100 frames."""
    clock: Literal["wall", "cpu"] = "wall"
    """Minutes of training on the wall, or of two processors' work, which a busy machine takes longer for."""
    only: tuple[str, ...] = ()
    """Videos whose names match one of these patterns; all without."""
    vertices: int = 2000
    """Of the body."""
    hair_share: float = 0.15
    """Share of the rendered clips whose subject has hair or fur."""
    teacher: Literal["fit", "field"] = "fit"
    """What learns from the videos: tracking and the fit, which agree on one shape; or a neural field on top of that."""
    teacher_share: float = 0.3
    """Share of the second training that comes from the videos."""
    workers: int = 2
    """Processes that render and fit at the same time."""
    device: str = "auto"
    """What trains: auto, cpu, cuda or cuda:N."""
    seed: int = 1
    clips: int = 0
    """Rendered clips for either training; 0: as many as fit into their share of the minutes."""
    steps: int = 0
    """Steps of each stage of a training instead of minutes, to see whether everything works."""
    batch: int = 64
    """Frames a step."""
    crop: int = 128
    """Side of the network's input, pixels."""
    width: int = 512
    """Length of a frame's feature vector."""
    imagenet: bool = True
    """Start from ImageNet weights."""
    frozen_blocks: int = 5
    """Leave the stem and this many blocks of the backbone as they are in training."""

    @property
    def bundle(self) -> Path:
        """Where the category is written."""
        return self.out or Path(self.name)

    @property
    def workshop(self) -> Path:
        """Where everything in between is kept."""
        return self.work or self.bundle.with_name(f"{self.bundle.name}-work")

    def share(self, what: str) -> float:
        """Minutes of one of the parts; the field takes its own out of those of the others."""
        parts = {"first clips": 0.12, "first": 0.4, "second clips": 0.1, "second": 0.38}
        field = 0.3 if self.teacher == "field" else 0.0
        return self.minutes * (field if what == "field" else (1 - field) * parts[what])

    def clip_count(self, what: str, frames: int = 12) -> int:
        """How many clips to render for a training."""
        return self.clips or max(60, int(60 * self.share(what) * SYNTH_RATE / frames))

    def settings(self, *names: str) -> dict[str, Any]:
        """Some of the settings, as JSON has them."""
        values = asdict(self)
        return {name: str(v) if isinstance(v := values[name], Path) else v for name in names}

    def check(self) -> None:
        """Raise DasrError for what cannot be meant."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise DasrError(
                f"'{self.name}' is no name for a category: use letters, digits, '_', '-' and '.'."
            )
        if not self.skeleton.is_file():
            raise DasrError(f"{self.skeleton}: there is no such skeleton template.")
        if not self.videos.exists():
            raise DasrError(f"{self.videos}: there is no such folder of videos.")
        if self.minutes <= 0 or min(self.clips, self.steps) < 0 or self.workers < 1:
            raise DasrError("--minutes and --workers must be positive, --clips and --steps not negative.")
        at_least(0, self, "seed", "frozen_blocks")
        if not 0 <= self.hair_share <= 1:
            raise DasrError(f"--hair-share must lie between 0 and 1, not at {self.hair_share:g}.")
        if self.vertices < FEWEST_VERTICES:
            raise DasrError(f"--vertices must be at least {FEWEST_VERTICES}, not {self.vertices}.")
        if self.batch < 1 or self.width < 1:
            raise DasrError("--batch and --width must be positive.")
        if self.crop < 32 or self.crop % 32:
            raise DasrError(f"--crop must be a multiple of 32 pixels, not {self.crop}.")
        if not 0 < self.teacher_share < 1:
            raise DasrError(f"--teacher-share must lie between 0 and 1, not at {self.teacher_share:g}.")
