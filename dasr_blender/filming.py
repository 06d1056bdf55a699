# SPDX-License-Identifier: GPL-3.0-or-later
"""How the clip was filmed: the job's stage that finds the camera's movement and its focal length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .clip import Clip, ClipError, Egomotion, Egomotions, Masks, find_egomotions, standing_still, stated_focal
from .core.camera import default_focal
from .core.files import DAMAGED, written_atomically

if TYPE_CHECKING:
    from .job import JobOptions
    from .workspace import Workspace

SHORTEST = 1 / 36  # focal length by the picture's longer side: a lens of 1 mm before 36, Blender's least
LONGEST = 1000.0  # the same for a telescope's: a field of view of a twentieth of a degree
CHOICES = ("auto", "still", "solve")
SOURCES = {
    "given": "as given",
    "file": "from the file",
    "pan": "from the pan",
    "assumed": "assumed",
}


@dataclass(frozen=True, eq=False)
class Filming:
    """egomotion: how the camera moved in each shot.  focal: of the first frame, pixels of the working size.
    source: where that comes from, one of `SOURCES`.  scale: working pixels per original pixel.
    solved: what Blender's tracker did instead, in words."""

    egomotion: Egomotions
    focal: float
    source: str
    scale: float
    solved: str = ""

    @property
    def focal_px(self) -> np.ndarray:
        """Focal length of each frame ``(T,)``, pixels of the working size."""
        shots = self.egomotion.shots
        return np.concatenate([(shot.focal or self.focal) * shot.focal_scale for shot in shots])

    def words(self) -> str:
        """One line for people."""
        ego = self.egomotion
        if self.solved:
            moves = f"is {self.solved}"
        elif ego.still:
            moves = "stands still"
        else:
            moves = f"turns by up to {np.degrees(ego.angle):.1f}°"
            if ego.zooms:
                moves += f" and zooms {ego.focal_scale.min():.2f}× to {ego.focal_scale.max():.2f}×"
            if ego.travels:
                moves += " and travels as standing feet tell"
        return (
            f"the camera {moves}; focal length {self.focal / self.scale:.0f} pixels, {SOURCES[self.source]}"
        )

    def summary(self) -> dict[str, Any]:
        """For the report; pixels of the original picture."""
        ego = self.egomotion
        residual = float(np.median(ego.residual_px[1:])) if len(ego.residual_px) > 1 else 0.0
        return {
            "solved": self.solved or None,
            "still": ego.still,
            "zooms": ego.zooms,
            "travels": ego.travels,
            "degrees": round(float(np.degrees(ego.angle)), 3),
            "zoom": [round(float(ego.focal_scale.min()), 4), round(float(ego.focal_scale.max()), 4)],
            "residual_px": round(residual / self.scale, 3),
        }


def check_focal(options: JobOptions, clip: Clip) -> None:
    """Raise ClipError for a focal length that no camera has, of Blender's or else, before any work is done with it."""
    longer = max(clip.original_size)
    if options.focal is not None and options.focal < SHORTEST * longer:
        raise ClipError(
            f"--focal {options.focal:g} is too short for pictures of {longer} pixels, where Blender's cameras begin at "
            f"{SHORTEST * longer:.1f}: is it in millimetres? On 36 mm film, multiply it by {longer / 36:.4g}"
        )
    if options.focal is not None and options.focal > LONGEST * longer:
        raise ClipError(
            f"--focal {options.focal:g} is too long for pictures of {longer} pixels: give the focal length in pixels, "
            f"{LONGEST * longer:.0f} at most"
        )


def how_filmed(
    options: JobOptions,
    clip: Clip,
    masks: Masks,
    stage: Path,
    workspace: Workspace,
    progress: Callable[[float, str], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> tuple[Filming, bool]:
    """The camera of a clip, and whether it was taken from an earlier run's file `stage`.

    The focal length is the user's; else what the file states; else what a wide pan tells; else assumed.
    """
    stated = None if options.focal else stated_focal(options.clip, clip.original_size)
    known = options.focal or stated
    source = "given" if options.focal else "file" if stated else "assumed"
    focal = (known or default_focal(clip.original_size)) * clip.scale
    if options.camera == "still":
        still = tuple(standing_still(shot.stop - shot.start) for shot in clip.shots)
        return Filming(Egomotions(still), focal, source, clip.scale), False
    egomotion = _load(stage, len(clip.shots))
    reused = egomotion is not None
    if egomotion is None:
        egomotion = find_egomotions(clip, masks, focal, known is None, progress=progress, cancel=cancel)
        with workspace.guarding(stage):
            _save(stage, egomotion)
    if egomotion.focal is not None:
        focal, source = egomotion.focal, "pan"
    return Filming(egomotion, focal, source, clip.scale), reused


def _save(path: Path, egomotion: Egomotions) -> None:
    values: dict[str, Any] = {}
    for n, shot in enumerate(egomotion.shots):
        own = {f.name: getattr(shot, f.name) for f in fields(shot)}
        own["focal"] = np.nan if shot.focal is None else shot.focal
        own["warnings"] = np.array(shot.warnings, dtype=np.str_)
        values |= {f"{n}.{name}": value for name, value in own.items()}
    with written_atomically(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **values)


def _load(path: Path, shots: int) -> Egomotions | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            every = [{f.name: stored[f"{n}.{f.name}"] for f in fields(Egomotion)} for n in range(shots)]
    except DAMAGED:
        path.unlink(missing_ok=True)
        return None
    found = []
    for values in every:
        known: dict[str, Any] = dict(values)
        for name in ("still", "zooms", "travels"):
            known[name] = bool(known[name])
        known["focal"] = float(known["focal"]) if np.isfinite(known["focal"]) else None
        known["warnings"] = [str(w) for w in known["warnings"]]
        found.append(Egomotion(**known))
    return Egomotions(tuple(found))
