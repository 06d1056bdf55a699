# SPDX-License-Identifier: GPL-3.0-or-later
"""The predictors that are compared: the category's own, baselines, and any other bundle or network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...clip.flow import flow
from ...core.camera import decode_root
from ...core.category import Category, load_category
from ...core.motion import Motion
from ...predict import Landmarks, Prediction, Refiner, Student, fit, track
from ..errors import TrainingError
from .scene import Scene

Array = np.ndarray

OURS, SINGLE, MEAN = "predictor", "single frames", "mean pose, true root"
ONCE = "predictor without its second look"
FIT = "predictor and fit"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a row says about a clip; own: how many of the prediction's hypotheses are the network's own; tracked: the
    motion before a second look."""

    motion: Motion
    prediction: Prediction | None = None
    own: int = 0
    tracked: Motion | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """A line of the table. name: its name without the seed; seed: what follows `@` in it, or ''."""

    name: str
    category: Category
    seed: str = ""

    @property
    def label(self) -> str:
        """Name and seed."""
        return f"{self.name}@{self.seed}" if self.seed else self.name

    def answer(self, scene: Scene) -> Answer | None:
        """The clip's motion; None where the row has nothing to say (no truth to start from)."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class MeanPose(Row):
    """The category's mean body in its rest pose, at the true root: what knowing nothing but the root scores."""

    def answer(self, scene: Scene) -> Answer | None:
        if scene.true is None:
            return None
        count = len(scene)
        rest = np.zeros((count, len(self.category.skeleton), 4))
        rest[..., 0] = 1
        return Answer(
            replace(scene.true, joint_rotations=rest, morphology=np.zeros(len(self.category.morphology)))
        )


@dataclass(frozen=True, eq=False)
class Tracked(Row):
    """Feed-forward: network over the clip, landmarks and a second look where the category has them, tracking."""

    student: Student | None = None
    landmarks: Landmarks | None = None
    refiner: Refiner | None = None

    def answer(self, scene: Scene) -> Answer | None:
        return scene.once(f"answer of {self.label}", lambda: self._answer(scene))

    def _answer(self, scene: Scene) -> Answer:
        student = self.student or Student(self.category)
        crops = scene.crops(self.category.network.input_size)
        prediction = student.run(crops, scene.crop_info, cuts=scene.cuts)
        if self.landmarks is not None:
            prediction = self.landmarks.run(prediction, crops, scene.cuts)
        tracked = motion = track(
            self.category,
            prediction,
            scene.center,
            scene.side,
            crops[:, 3],
            scene.focal,
            scene.principal_point,
            scene.size,
            scene.fps,
            cuts=scene.cuts,
        )
        if self.refiner is not None:
            motion = self.refiner.run(
                motion, prediction, crops[:, 3], scene.center, scene.side, scene.interpolated
            )
        return Answer(motion, prediction, own_hypotheses(student, prediction), tracked)


@dataclass(frozen=True, eq=False)
class FittedToClip(Row):
    """The whole pipeline: a feed-forward row's motion, bent onto the clip."""

    tracked: Tracked | None = None
    quality: str = "standard"

    def answer(self, scene: Scene) -> Answer | None:
        tracked = self.tracked or feed_forward(OURS, self.category)
        answer = tracked.answer(scene)
        if answer is None or answer.prediction is None or answer.tracked is None:
            return None
        filmed = scene.egomotion
        begin = answer.motion if filmed is None else filmed.filmed(self.category, answer.motion)
        found = fit(
            self.category,
            replace(answer.tracked, world_from_camera=begin.world_from_camera),
            answer.prediction,
            scene.crops(self.category.network.input_size),
            scene.center,
            scene.side,
            begin=begin,
            flow=flow,
            interpolated=scene.interpolated,
            masks_given=scene.masks_given,
            camera_trust=0.0 if filmed is None else filmed.trust,
            quality=self.quality,
        )
        return Answer(found.motion)


@dataclass(frozen=True, eq=False)
class SingleFrames(Row):
    """The network shown one frame at a time, its likeliest hypothesis taken as it is: no clip, no smoothing."""

    student: Student | None = None

    def answer(self, scene: Scene) -> Answer | None:
        student = self.student or Student(self.category)
        frames = np.arange(len(scene))
        crops = scene.crops(self.category.network.input_size)
        prediction = student.run(crops, scene.crop_info, cuts=frames[1:])
        chosen = prediction.root_logprob.argmax(1)
        pose = decode_root(
            prediction.root_rotation[frames, chosen],
            prediction.root_translation[frames, chosen],
            scene.center,
            scene.side,
            scene.focal,
            scene.principal_point,
        )
        motion = Motion(
            fps=scene.fps,
            frame_index=frames,
            image_size=np.array(scene.size),
            focal_px=scene.focal,
            principal_point=scene.principal_point,
            camera_from_root=pose,
            joint_rotations=prediction.joint_rotations,
            morphology=prediction.morphology,
            appearance=prediction.appearance,
            confidence=np.clip(np.exp(prediction.root_logprob[frames, chosen]), 0, 1),
            joint_confidence=prediction.joint_confidence,
            mask_iou=np.full(len(scene), np.nan),
            cuts=scene.cuts,
            category=self.category.name,
            category_version=self.category.version,
        )
        return Answer(motion, prediction, own_hypotheses(student, prediction))


def feed_forward(name: str, category: Category, seed: str = "") -> Tracked:
    """The category's network, with its landmarks and its refiner where it has them."""
    landmarks = None if category.landmarks_path is None else Landmarks(category)
    refiner = None if category.refiner_path is None else Refiner(category)
    return Tracked(name, category, seed, Student(category), landmarks, refiner)


def own_hypotheses(student: Student, prediction: Prediction) -> int:
    """A student that also looks in the mirror appends what it saw there; the network's own come first."""
    return prediction.root_logprob.shape[1] // (2 if getattr(student, "mirror", False) else 1)


def make_rows(
    category: Category, others: Sequence[str] = (), baselines: bool = True, quality: str = "draft"
) -> list[Row]:
    """The category's predictor, with the fit of `quality` unless that is draft, its baselines, and `others`.

    Each of the others is NAME[@SEED]=PATH of a bundle or an .onnx file. An .onnx file speaks for the category's body,
    without a second look, and must answer as its own network does; a category that has no network yet is scored by the
    others alone, the first of which then is the one shown single frames. Raises TrainingError for what cannot be read
    as NAME=PATH or has another skeleton, and what loading raises.
    """
    rows: list[Row] = []
    if category.predictor_path is not None or not others:
        rows.append(feed_forward(OURS, category))
    for text in others:
        label, sign, path = text.partition("=")
        name, _, seed = label.partition("@")
        if not sign or not name or not path:
            raise TrainingError(f"--rows takes NAME=PATH, such as window13@0=runs/0.onnx, not '{text}'")
        other = _category(category, Path(path))
        if other.skeleton.names != category.skeleton.names:
            raise TrainingError(
                f"{path}: has other joints than category '{category.name}'; it cannot be compared"
            )
        rows.append(feed_forward(name, other, seed))
    first = rows[0]
    assert isinstance(first, Tracked)
    if quality != "draft":
        rows.insert(1, FittedToClip(FIT, first.category, tracked=first, quality=quality))
    if baselines:
        at = 2 if quality != "draft" else 1
        rows[at:at] = [
            SingleFrames(SINGLE, first.category, student=first.student),
            MeanPose(MEAN, category),
        ]
        if first.refiner is not None:
            once = Tracked(ONCE, first.category, student=first.student, landmarks=first.landmarks)
            rows.insert(at, once)
    labels = [row.label for row in rows]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise TrainingError(
            f"Two rows are called {', '.join(sorted(twice))}; give each a name or a seed of its own"
        )
    return rows


def _category(category: Category, path: Path) -> Category:
    """The bundle at `path`, or the category with the network at `path`."""
    if path.is_dir():
        return load_category(path)
    if not path.is_file():
        raise TrainingError(f"{path}: there is no such bundle or .onnx file")
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own unrelated types
        raise TrainingError(f"{path}: not a network that onnxruntime can load ({error})") from error
    shape = next((i.shape for i in session.get_inputs() if i.name == "crops"), [])
    side = shape[-1] if shape and isinstance(shape[-1], int) else category.network.input_size
    network = replace(category.network, input_size=side)
    return replace(category, predictor_path=path, refiner_path=None, landmarks_path=None, network=network, hashes={})
