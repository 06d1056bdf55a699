# SPDX-License-Identifier: GPL-3.0-or-later
"""From videos to pseudo ground truth: register, optimise the field, finish on the mesh, write the clip folders."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, median_filter

from ...core.category import Category, load_category
from ...core.files import written_atomically
from ..errors import TrainingError
from ..evaluate.scores import overlap
from ..parallel import Team, join, leave
from ..picture import write_picture
from ..settings import above_zero, at_least
from .clips import TeacherClip
from .colours import vertex_colours
from .config import FieldConfig, LossWeights, at
from .consensus import FIRM, FinishConfig, filled_out, fit_clips, shared_shape
from .frames import Frames, load_frames
from .mesh import fit_topology
from .model import make_model
from .optimise import Optimiser
from .outcome import field_picture, posed_clips, subject_surface
from .product import SHORTEST, turntable, write_glb, write_pseudo_truth
from .register import RegisterConfig, common_morphology, has_mask, mask_quality, register
from .render import Model

Array = np.ndarray
Report = Callable[[float, str], None]

# The size of a silhouette says how far its subject is, but so does how it stands: distance must not follow every frame.
STEADY = replace(FIRM, root_depth=0.05, jolt_shift=0.00054, shift_rate=0.04)  # at 10 frames a second a jolt of 0.002
STEADY_FOR = 0.16
"""seconds over which distances are smoothed before the last fit"""


@dataclass(frozen=True)
class TeachConfig:
    """Explain videos of a subject, or of a category, by one neural field."""

    videos: tuple[Path, ...]
    """Videos, clip folders (frames/, masks/) or folders of such."""
    out: Path
    """Folder for the pseudo ground truth (`set`), the surface, pictures and report.json."""
    category: str = "quadruped"
    """Category bundle whose student starts the poses: a name or a folder."""
    only: tuple[str, ...] = ()
    """Clips whose names match one of these patterns; all without."""
    held: tuple[str, ...] = ()
    """Names of clips that shape and colours are not learned from; they are fitted with the shape frozen."""
    subjects: str = "one"
    """'one' individual in all videos, or 'each' its own"""
    masks: Path | None = None
    """Where automatic masks are kept; by default a folder in `out`."""
    field: FieldConfig = FieldConfig()
    register: RegisterConfig = RegisterConfig()
    finish: FinishConfig = FinishConfig(pose_fit=STEADY)
    mesh: bool = True
    """Finish on the mesh; without, poses and proportions stay as the field left them."""
    resolution: int = 128
    """cells along the longest side of the grid that the surface is taken from"""
    threads: int = 0
    """of the processor; 0 for all"""


@dataclass(eq=False)
class Taught:
    """What the teacher found.

    clips: with their final poses and each frame's quality.  shapes: morphology (K,) and relief (V,) of every subject;
    colours (V, 3) of every subject.  folders: the clip folders written.  facts: report.json's.
    """

    clips: list[TeacherClip]
    shapes: list[tuple[Array, Array]]
    colours: list[Array]
    folders: list[Path]
    facts: dict[str, Any]


class _Teaching:
    """One run."""

    def __init__(self, config: TeachConfig, team: Team, report: Report | None) -> None:
        self.config, self.team = config, team
        self.category = load_category(config.category)
        self.tell = report or (lambda share, text: None)
        self.seconds: dict[str, float] = {}
        self.steps = 0

    @contextmanager
    def stage(self, name: str, share: float, text: str) -> Iterator[None]:
        self.tell(share, text)
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 1)

    def run(self) -> Taught:
        config, category = self.config, self.category
        with self.stage("register", 0.0, "Finding the subject in every video"):
            clips = register(
                category, config.videos, config.masks or config.out / "masks", config.held, config.only,
                config.register, lambda name, n, of: self.tell(0.25 * n / of, f"{name} followed, {n} of {of}"),
            )  # fmt: skip
            if config.subjects == "each":
                clips = [replace(clip, subject=n) for n, clip in enumerate(clips)]
            start = [judged(category, clip) for clip in clips]
        learned = [clip for clip in clips if not clip.held and len(clip.used)]
        with self.stage("shape", 0.25, "One shape for all videos"):
            shapes, learned = self._first_shape(learned, 1 + max(clip.subject for clip in clips))
        with self.stage("frames", 0.3, "Flow and surface maps"):
            frames = load_frames(category, learned, config.field.crop)
        with self.stage("field", 0.32, "Optimising the field"):
            model = self._optimise(learned, frames, shapes)
        with self.stage("mesh", 0.8, "The mesh"):
            posed = posed_clips(model, learned, frames)
            clips = [next((p for p in posed if p.name == clip.name), clip) for clip in clips]
            field_iou = mean_iou([judged(category, clip) for clip in posed])
            if config.mesh:
                shapes, clips = self._finish(model, clips, shapes)
            else:
                shapes = [
                    (model.shape.coefficients(s), np.zeros(len(category.body.vertices)))
                    for s in range(len(shapes))
                ]
        clips = [judged(category, clip, config.register.kept_iou) for clip in clips]
        for clip in clips:  # what a doubtful mask agrees with is no truth
            clip.quality = clip.quality * mask_quality(clip.scene, config.register)
        with self.stage("product", 0.95, "Writing what was found"):
            taught = self._write(clips, shapes)
        facts = {
            "category": [category.name, category.version],
            "frames": int(sum(len(clip.used) for clip in learned)),
            "rejected": int(sum(len(clip) - len(clip.used) for clip in clips)),
            "iou": {
                "start": mean_iou([c for c in start if not c.held]),
                "field": field_iou,
                "end": mean_iou([c for c in clips if not c.held]),
                "held": mean_iou([c for c in clips if c.held]),
            },
            "clips": {c.name: {"iou": _iou(c), "frames": len(c), "held": c.held} for c in clips},
            "seconds": self.seconds,
            "device": str(self.team.device),
            "steps": self.steps,
        }
        taught.facts = facts
        if self.team.leads:
            with written_atomically(config.out / "report.json") as path:
                path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        self.tell(1.0, "Done")
        return taught

    def _first_shape(
        self, clips: list[TeacherClip], subjects: int
    ) -> tuple[list[tuple[Array, Array]], list[TeacherClip]]:
        """The shape that each subject starts from (what all share, where no clip shows it); the clips posed with it."""
        shapes: list[tuple[Array, Array]] = []
        out: list[TeacherClip] = []
        plain = np.zeros(len(self.category.body.vertices))
        for subject in range(subjects):
            own = [clip for clip in clips if clip.subject == subject]
            if not own:
                shapes.append((common_morphology(clips), plain))
            elif self.config.register.start == "fit":
                shape = shared_shape(self.category, own, self.config.finish)
                shapes.append(shape)
                out += fit_clips(self.category, [steady(clip) for clip in own], *shape, self.config.finish)
            else:
                shapes.append((common_morphology(own), plain))
                out += own
        return shapes, [judged(self.category, clip) for clip in out]

    def _optimise(
        self, clips: list[TeacherClip], frames: Frames, shapes: Sequence[tuple[Array, Array]]
    ) -> Model:
        config = self.config.field
        morphology = np.mean([shape[0] for shape in shapes], axis=0)
        relief = np.mean([shape[1] for shape in shapes], axis=0)
        model = make_model(self.category, clips, frames, morphology, relief, config, len(shapes))
        rows = np.linspace(0, len(frames) - 1, 6).round().astype(int).tolist()

        def picture(model: Model, path: Path) -> None:
            image = field_picture(model, frames, rows, at(config.beta, 1.0) * model.canonical.unit)
            write_picture(path, image)

        optimiser = Optimiser(model, frames, self.config.out / "field", self.team, picture, fingerprint(clips))
        optimiser.run(progress=lambda share, text: self.tell(0.32 + 0.48 * share, text))
        self.steps = optimiser.clock.step
        return model

    def _finish(
        self, model: Model, clips: list[TeacherClip], shapes: list[tuple[Array, Array]]
    ) -> tuple[list[tuple[Array, Array]], list[TeacherClip]]:
        """The category's topology laid on each subject's surface, and all poses fitted with that shape frozen."""
        found, out = [], []
        for subject, (_, relief) in enumerate(shapes):
            # a frame that was lost at the start may be found now
            own = [
                replace(clip, quality=has_mask(clip.scene, self.config.register).astype(np.float64))
                for clip in clips
                if clip.subject == subject
            ]
            vertices, faces, _ = subject_surface(model, subject, self.config.resolution)
            morphology, relief = fit_topology(
                self.category, model.shape.coefficients(subject), vertices, faces, relief0=relief
            )
            shown = [clip for clip in own if not clip.held]
            relief = filled_out(self.category, shown, morphology, relief, self.config.finish.raised)
            shape = morphology, relief
            found.append(shape)
            out += fit_clips(self.category, [steady(clip) for clip in own], *shape, self.config.finish)
        return found, out

    def _write(self, clips: list[TeacherClip], shapes: list[tuple[Array, Array]]) -> Taught:
        category, out = self.category, self.config.out
        if not self.team.leads:
            return Taught(clips, shapes, [], [], {})
        colours = []
        for subject, (morphology, relief) in enumerate(shapes):
            own = [clip for clip in clips if clip.subject == subject and not clip.held]
            paint = vertex_colours(category, own, morphology, relief)
            colours.append(paint)
            if not own:
                continue
            name = "subject" if len(shapes) == 1 else f"subject-{subject}"
            write_picture(out / f"{name}-turntable.jpg", turntable(category, morphology, relief, paint))
            best = max(own, key=lambda clip: float(clip.quality.max()))
            write_glb(category, best.motion, int(best.quality.argmax()), paint, out / f"{name}.glb")
        folders = write_pseudo_truth(category, [clip for clip in clips if not clip.held], out / "set")
        if any(
            clip.held for clip in clips
        ):  # beside, for a look at what a student makes of clips it never saw
            write_pseudo_truth(category, [clip for clip in clips if clip.held], out / "held")
        return Taught(clips, shapes, colours, folders, {})


def steady(clip: TeacherClip, seconds: float = STEADY_FOR) -> TeacherClip:
    """The clip with its root's distances smoothed in time, shot by shot, each frame moved along its ray."""
    motion = clip.motion
    pose = np.array(motion.camera_from_root, np.float64)
    for shot in motion.shots:
        distance = np.log(motion.camera_from_root[shot, 2, 3])
        smooth = gaussian_filter1d(
            median_filter(distance, 5, mode="nearest"), seconds * motion.fps, mode="nearest"
        )
        pose[shot, :3, 3] *= np.exp(smooth - distance)[:, None]
    return clip.with_motion(replace(motion, camera_from_root=pose))


def judged(category: Category, clip: TeacherClip, least: float = 0.0) -> TeacherClip:
    """The clip with its frames' quality as they agree with their masks now; rejected ones stay so, and those whose
    agreement is below `least` join them."""
    iou = np.nan_to_num(overlap(category, clip.motion, clip.scene.masks), nan=0.0)
    motion = replace(clip.motion, mask_iou=iou)
    return replace(clip, motion=motion, quality=np.where((clip.quality > 0) & (iou >= least), iou, 0.0))


def fingerprint(clips: Sequence[TeacherClip]) -> str:
    """SHA-256 of the clips' names and of each one's first picture."""
    whole = hashlib.sha256()
    for clip in clips:
        whole.update(clip.name.encode())
        whole.update(np.ascontiguousarray(clip.scene.frames[0]).tobytes())
    return whole.hexdigest()


def _iou(clip: TeacherClip) -> float:
    """Mean agreement over all frames that have a mask of their own."""
    values = clip.motion.mask_iou
    if clip.scene.interpolated is not None:
        values = values[~clip.scene.interpolated]
    return round(float(np.mean(values)), 4) if len(values) else 0.0


def mean_iou(clips: Sequence[TeacherClip]) -> float | None:
    """Mean over the clips of their frames' agreement with the masks, rejected ones included; None without clips."""
    return round(float(np.mean([_iou(clip) for clip in clips])), 4) if clips else None


def check(config: TeachConfig) -> None:
    """Raise TrainingError for what cannot be meant."""
    if config.subjects not in ("one", "each"):
        raise TrainingError(f"subjects must be 'one' or 'each', not '{config.subjects}'")
    at_least(0, config, "threads", *(f"field.{name}" for name in ("steps", "seed", "picture_every")))
    sizes = ("width", "depth", "frequencies", "frames", "rays", "coarse", "fine", "regular", "save_every")
    at_least(1, config, *(f"field.{name}" for name in sizes))
    at_least(8, config, "resolution", "field.crop", "field.base_grid", "field.morph_grid")
    above_zero(config, *(f"field.{name}" for name in ("rate", "pose_rate", "shape_rate")))
    if not config.field.steps:
        above_zero(config, "field.minutes")
    losses = [one.name for one in fields(LossWeights)]
    unknown = [name for name in config.field.without if name not in losses]
    if unknown:
        raise TrainingError(f"There is no loss '{unknown[0]}' to do without; there are {', '.join(losses)}")


def teach(config: TeachConfig, report: Report | None = None) -> Taught:
    """Run the teacher; a run that was stopped goes on from its last checkpoint.

    Raises DasrError with one sentence when the videos cannot be used.
    """
    check(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    team = join(config.field.device)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        return _Teaching(config, team, report).run()
    finally:
        leave(team)


def main(argv: list[str] | None = None) -> int:
    """`teach`: pseudo ground truth of a category from ordinary videos."""
    import tyro
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    config = tyro.cli(TeachConfig, args=argv, prog="teach")
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("teach", total=1.0)
        taught = teach(config, lambda share, text: bar.update(task, completed=share, description=text))
    iou = taught.facts["iou"]
    print(
        f"mask IoU: {iou['start']:.3f} at the start, {iou['field']:.3f} by the field, {iou['end']:.3f} at the end"
    )
    if iou["held"] is not None:
        print(f"left out: {iou['held']:.3f}")
    print(f"{len(taught.folders)} clip folders in {config.out / 'set'}; {config.out / 'report.json'}")
    if not taught.folders:
        print(
            f"A clip folder takes {SHORTEST} frames in a row that agree with their masks to "
            f"{config.register.kept_iou:g}, which no video has"
        )
    return 0
