# SPDX-License-Identifier: GPL-3.0-or-later
"""From a clip to a `Motion`: the whole pipeline as one function, with progress and cancel.

    clip → masks → camera → crops → student → track → fit → motion.npz, texture, overlay, report.json

No Blender and no torch in here: the extension runs it in a worker process and builds the scene itself, the
command line goes on to `scene/` in the same process.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from .clip import (
    Clip,
    Masks,
    Subject,
    crop_boxes,
    extract_crops,
    in_shots,
    load_clip,
)
from .clip.flow import flow
from .core import Cancelled, Category, DasrError, Motion, load_category, one_world
from .core.camera import crop_info
from .core.category import LANDMARKS
from .core.files import DAMAGED, sha256_of, whole_name
from .core.progress import between
from .doubts import cut_warnings, find_warnings, twin_warnings
from .filming import Filming, check_focal, how_filmed
from .masking import body_silhouettes, doubtful_frames, find_masks, mask_inputs
from .predict import (
    Fitted,
    Landmarks,
    PredictError,
    Prediction,
    Refiner,
    Student,
    bake_texture,
    clip_views,
    fit,
    track,
)
from .workspace import Workspace, fingerprint

Progress = Callable[[float, str, str], None]  # fraction 0…1, stage, text for a person


@dataclass(frozen=True)
class JobOptions:
    """What to reconstruct and how.

    Attributes:
        clip: video file, folder of frames, or a pattern such as `shot.####.png`.
        out: folder for everything that is written.
        category: name of a category, or path of its folder.
        masks: folder with one mask image a frame; None takes the alpha channel of a clip of images, or else makes
            them.
        corrections: of the automatic masks: texts such as `12:340,200`, or folders (`clip.corrections`).
        start, end, step: frames of the clip to use, as a Python slice.
        subject: which animal, when there are several; pixels of the original picture.
        focal: focal length in pixels of the original picture, in the first frame; None takes what the file
            states, or what a wide pan tells, or else assumes 1.2 × the longer side.
        camera: "auto" finds how it turns and zooms, "still" says that it does not; "solve" is as "auto" here,
            and who has Blender then solves it with Blender's tracker (`scene.solve`).
        fps: frames a second, when the file does not know or is wrong.
        place, formats, names: for the scene and its exports; reported, not used by the job.
        texture: also write `<stem>-texture.png`, what the frames show of the body.
        overlay: also write `<stem>-overlay.mp4`.
        max_side: frames are worked on at no more than this many pixels on the longer side.
        provider: what the network runs on, one of `predict.providers.CHOICES`.
        threads: of the processor, for the network; 0 for one a core.
        quality: how hard the result is bent onto the picture, one of `predict.QUALITIES`.
    """

    clip: str
    out: str
    category: str = "quadruped"
    masks: str | None = None
    corrections: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None
    step: int = 1
    subject: Subject | None = None
    focal: float | None = None
    camera: str = "auto"
    fps: float | None = None
    place: str = "camera"
    formats: tuple[str, ...] = ()
    names: str = "neutral"
    texture: bool = True
    overlay: bool = True
    max_side: int = 960
    provider: str = "auto"
    threads: int = 0
    quality: str = "standard"

    @property
    def stem(self) -> str:
        """Name of the clip without folder and ending, for naming what is written."""
        return whole_name(self.clip)


@dataclass
class JobResult:
    """What a job made.

    Attributes:
        motion: the reconstruction; pixels of the original picture.
        motion_path, texture_path, overlay_path: files written.
        category: the category it was made with.
        seconds: wall time of each stage; stages taken over from an earlier run are in `reused`.
        warnings: sentences for the user.
        filming: how the camera moved, its focal length and where that comes from.
        mask_source: where the masks came from.
        interpolated: (T,) bool, frames whose mask was filled in from their neighbours.
        provider: what the network ran on, for people; None when its answers were taken from an earlier run.
        fitted: what the fit did; its motion is in pixels of the working size.
    """

    options: JobOptions
    motion: Motion
    motion_path: Path
    category: Category
    workspace: Workspace
    texture_path: Path | None = None
    overlay_path: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    filming: Filming | None = None
    mask_source: str = ""
    interpolated: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    provider: str | None = None
    fitted: Fitted | None = None

    @property
    def masks_path(self) -> Path | None:
        """Where the masks it was made with are kept."""
        kept = sorted(self.workspace.hidden.glob("masks-*.npz"), key=lambda path: path.stat().st_mtime)
        return kept[-1] if kept else None

    @property
    def motion_seconds(self) -> float:
        """Wall time from the clip to the motion; texture and overlay are exports."""
        return sum(time for stage, time in self.seconds.items() if stage not in ("texture", "overlay"))


class _Run:
    """Progress, cancel and the clock of one run."""

    # Share of the whole that each stage takes, measured on 90 frames of 854×480 with automatic masks.
    SHARES = {
        "clip": 0.03,
        "masks": 0.44,
        "camera": 0.05,
        "crops": 0.01,
        "student": 0.09,
        "track": 0.02,
        "refine": 0.02,
        "fit": 0.22,
        "texture": 0.05,
        "overlay": 0.07,
    }

    def __init__(self, progress: Progress | None, cancel: Callable[[], bool] | None) -> None:
        self._progress, self._cancel = progress, cancel
        self.seconds: dict[str, float] = {}
        self.reused: list[str] = []

    def check(self) -> bool:
        """Raise Cancelled once the user asked for it; also serves callees that poll for a bool."""
        if self._cancel is not None and self._cancel():
            raise Cancelled("Stopped as asked")
        return False

    def report(self, stage: str, fraction: float, text: str) -> None:
        self.check()
        if self._progress is not None:
            names = list(self.SHARES)
            done = sum(self.SHARES[name] for name in names[: names.index(stage)])
            self._progress(done + self.SHARES[stage] * min(max(fraction, 0.0), 1.0), stage, text)

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[Callable[..., None]]:
        self.report(name, 0.0, text)
        begin = time.perf_counter()
        yield lambda fraction, words="", *_: self.report(name, fraction, words or text)
        self.seconds[name] = self.seconds.get(name, 0.0) + round(time.perf_counter() - begin, 3)


def run_job(
    options: JobOptions, progress: Progress | None = None, cancel: Callable[[], bool] | None = None
) -> JobResult:
    """Reconstruct one clip; writes `motion.npz`, the texture and the overlay into `options.out`.

    progress is called with (fraction, stage, text); cancel is polled between frames. A second run with the
    same inputs takes finished stages from `<out>/.dasr/`.
    Raises DasrError (a subclass for each layer) with one sentence for the user, and Cancelled.
    """
    run = _Run(progress, cancel)
    category = load_category(options.category)
    if category.predictor_path is None or not Path(category.predictor_path).is_file():
        raise DasrError(
            f"category {category.name} in {category.path} has no predictor.onnx: choose another category, or train one"
        )
    if options.names not in category.profiles:
        known = ", ".join(category.profiles)
        raise DasrError(
            f"category {category.name} has no bone names '{options.names}': choose one of {known}"
        )
    workspace = Workspace(Path(options.out), needed=50_000_000)
    try:
        with run.stage("clip", "Reading the clip") as step:
            clip = load_clip(
                options.clip,
                options.start,
                options.end,
                options.step,
                options.max_side,
                options.fps,
                step,
                run.check,
            )
            check_focal(options, clip)
            workspace.require(20_000_000 + len(clip) * 300_000)
            clip = in_shots(clip)
        key = fingerprint(
            clip.sha256, clip.frame_index.tolist(), clip.cuts.tolist(), clip.pace, clip.size,
            mask_inputs(options, category), code_hash(),
        )  # fmt: skip
        masks = _masks(options, category, clip, workspace, key, run)
        filming = _filming(options, clip, masks, workspace, key, run)
        motion, student, fitted = _predict(options, category, clip, masks, filming, workspace, key, run)
        if options.quality == "best" and not masks.given:
            better = _masks_by_body(options, category, clip, masks, motion, workspace, key, run)
            if better is not None:
                masks, key = better, fingerprint(key, hashlib.sha256(better.packed.tobytes()).hexdigest())
                again = _predict(options, category, clip, masks, filming, workspace, key, run, "again")
                motion, student, fitted = again[0], again[1] or student, again[2]
        motion_path = workspace.out / "motion.npz"
        with workspace.guarding(motion_path):
            motion.save(motion_path)
        result = JobResult(
            options,
            motion,
            motion_path,
            category,
            workspace,
            seconds=run.seconds,
            reused=run.reused,
            filming=filming,
            mask_source=masks.source,
            interpolated=np.asarray(masks.interpolated, bool),
            provider=None if student is None else student.opened.label,
            fitted=fitted,
        )
        result.warnings = (
            clip.warnings
            + cut_warnings(clip.cuts, clip.frame_index)
            + masks.warnings
            + filming.egomotion.warnings
            + ([] if student is None else list(student.opened.notes))
            + find_warnings(motion, category, result.interpolated, masks.boxes, clip.size)
            + twin_warnings(fitted.twins, motion.frame_index)
        )
        if options.texture:
            with run.stage("texture", "Gathering the texture") as step:
                result.texture_path = _texture(result, clip, masks, workspace, step)
        if options.overlay:
            from .overlay import write_overlay

            with run.stage("overlay", "Drawing the overlay") as step:
                target = workspace.out / f"{options.stem}-overlay.mp4"
                with workspace.writing(target) as temporary:
                    write_overlay(temporary, clip, category, motion, step)
                result.overlay_path = target
        return result
    finally:
        workspace.close()


def _texture(
    result: JobResult, clip: Clip, masks: Masks, workspace: Workspace, step: Callable[..., None]
) -> Path | None:
    """Write what the frames show of the body; None, and a warning, where the category's body can have no texture."""
    try:
        views = clip_views(result.motion, clip.frame, masks.mask)
        texture = bake_texture(result.category, views, progress=step)
    except PredictError as error:
        result.warnings.append(str(error))
        return None
    target = workspace.out / f"{result.options.stem}-texture.png"
    with workspace.writing(target) as temporary:
        temporary.write_bytes(texture.png())
    return target


def code_hash() -> str:
    """Hash of the code that makes the stages, so that an update does not take over stale results."""
    package = Path(__file__).parent
    sources = sorted(path for part in ("core", "clip", "predict") for path in (package / part).glob("*.py"))
    return fingerprint([(path.name, sha256_of(path)) for path in sources], sha256_of(Path(__file__)))


def _masks(
    options: JobOptions, category: Category, clip: Clip, workspace: Workspace, key: str, run: _Run
) -> Masks:
    with run.stage("masks", "Finding the subject") as step:
        stage, looks = workspace.stage("masks", key), _looks(category, clip, workspace)
        masks, reused = find_masks(options, category, clip, stage, looks, workspace, step, run.check)
        if reused:
            run.reused.append("masks")
        workspace.forget_other("masks", key)
        return masks


def _looks(category: Category, clip: Clip, workspace: Workspace) -> Path:
    """Where the mask networks' answers are kept, whatever is corrected."""
    bodies = category.hashes.get(LANDMARKS)
    key = fingerprint(clip.sha256, clip.frame_index.tolist(), clip.size, bodies, code_hash())
    workspace.forget_other("looks", key)
    return workspace.stage("looks", key)


def _masks_by_body(
    options: JobOptions,
    category: Category,
    clip: Clip,
    masks: Masks,
    motion: Motion,
    workspace: Workspace,
    key: str,
    run: _Run,
) -> Masks | None:
    """Other masks for frames that the fitted body contradicts, None where there are none."""
    silhouettes = body_silhouettes(category, motion)
    if not doubtful_frames(masks, silhouettes).any():
        return None
    with run.stage("masks", "Finding the subject again, with the body's help") as step:
        stage, looks = workspace.stage("masks", key), _looks(category, clip, workspace)
        better, _ = find_masks(options, category, clip, stage, looks, workspace, step, run.check, silhouettes)
    return None if np.array_equal(better.packed, masks.packed) else better


def _filming(
    options: JobOptions, clip: Clip, masks: Masks, workspace: Workspace, key: str, run: _Run
) -> Filming:
    with run.stage("camera", "Following the background") as step:
        key = fingerprint(key, options.focal)
        stage = workspace.stage("camera", key)
        filming, reused = how_filmed(options, clip, masks, stage, workspace, step, run.check)
        if reused:
            run.reused.append("camera")
        workspace.forget_other("camera", key)
        return filming


def _predict(
    options: JobOptions,
    category: Category,
    clip: Clip,
    masks: Masks,
    filming: Filming,
    workspace: Workspace,
    key: str,
    run: _Run,
    name: str = "prediction",
) -> tuple[Motion, Student | None, Fitted]:
    """The motion, the network if it had to be run, and what the fit did. name: of the stage that keeps its answer."""
    focal = filming.focal_px
    principal = 0.5 * np.asarray(clip.size, np.float64)
    center, side = crop_boxes(masks.boxes)
    key = fingerprint(key, category.hashes, focal.tolist())
    stage = workspace.stage(name, key)
    prediction, student = _load_prediction(stage), None
    size = category.network.input_size
    with run.stage("crops", "Cutting out the subject") as step:
        crops = extract_crops(clip, masks, center, side, size, progress=step)
    with run.stage("student", "Predicting the pose") as step:
        if prediction is None:
            info = crop_info(center, side, focal, principal)
            student = Student(category, options.provider, threads=options.threads)
            step(0.0, f"Predicting the pose on {student.opened.label}")
            landmarks = category.landmarks_path is not None
            prediction = student.run(crops, info, between(step, 0.0, 0.75) if landmarks else step, clip.cuts)
            if landmarks:
                finder = Landmarks(category, options.provider, threads=options.threads)
                prediction = finder.run(prediction, crops, clip.cuts, progress=between(step, 0.75, 1.0))
            with workspace.writing(stage) as temporary:
                _save_prediction(temporary, prediction)
            workspace.forget_other(name, key)
        else:
            run.reused.append("student")
    with run.stage("track", "Following the subject") as step:
        tracked = motion = track(
            category,
            prediction,
            center,
            side,
            crops[:, 3],
            focal,
            principal,
            clip.size,
            clip.rate,
            progress=step,
            cuts=clip.cuts,
        )
    interpolated = np.asarray(masks.interpolated, bool)
    if category.refiner_path is not None:
        with run.stage("refine", "Looking again") as step:
            refiner = Refiner(category, options.provider, threads=options.threads)
            motion = refiner.run(motion, prediction, crops[:, 3], center, side, interpolated, progress=step)
    motion = filming.egomotion.filmed(category, motion)
    tracked = replace(tracked, world_from_camera=motion.world_from_camera)
    with run.stage("fit", "Fitting the body to the picture") as step:
        fitted = fit(
            category,
            tracked,
            prediction,
            crops,
            center,
            side,
            begin=motion,
            flow=flow,
            interpolated=interpolated,
            masks_given=masks.given,
            camera_trust=filming.egomotion.trust,
            quality=options.quality,
            progress=step,
        )
    motion = _in_original_pixels(one_world(category, fitted.motion), clip)
    motion.validate(category)
    return motion, student, fitted


def _in_original_pixels(motion: Motion, clip: Clip) -> Motion:
    """The same motion with its camera in pixels of the original picture, its frames those of the source, and the
    clip's name on it."""
    return replace(
        motion,
        fps=clip.fps,
        focal_px=np.asarray(motion.focal_px) / clip.scale,
        principal_point=0.5 * np.asarray(clip.original_size, np.float64),
        image_size=np.asarray(clip.original_size),
        frame_index=np.asarray(clip.frame_index),
        source=Path(str(clip.source)).name,
        source_hash=clip.sha256,
    )


def _save_prediction(path: Path, prediction: Prediction) -> None:
    arrays = {f.name: getattr(prediction, f.name) for f in fields(prediction)}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def _load_prediction(path: Path) -> Prediction | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Prediction(**{f.name: stored.get(f.name) for f in fields(Prediction)})
    except DAMAGED:
        path.unlink(missing_ok=True)
        return None
