# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a category's student network over the crops of a clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from ..core.category import Category
from ..core.motion import shots_of
from ..core.progress import between, shot_by_shot
from ..core.rotation import matrix_to_quat, sixd_to_matrix, slerp
from ..core.skeleton import clamp_rotations, mirror_rotations
from .errors import PredictError
from .pieces import run_in_pieces
from .providers import AUTO, open_session, trial_inputs

Array = np.ndarray

_OF_CLIP = ("morphology", "appearance")  # all else is of single frames
_REQUIRED = (
    "root_rotation",
    "root_translation",
    "root_logprob",
    "joint_rotations",
    "morphology",
    "joint_confidence",
)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the student says about a clip of T frames, with M hypotheses of the root pose a frame.

    root_rotation ``(T, M, 3, 3)`` and root_translation ``(T, M, 3)`` = (u, v, w), relative to the crop
    (core.camera.decode_root); root_logprob ``(T, M)``, best first is not promised; joint_rotations
    ``(T, J, 4)`` wxyz within the limits, identity at the root; morphology ``(K,)``; appearance ``(A,)``;
    joint_confidence ``(T, J)`` in 0…1; surface_map ``(T, h, w, 3)``, the rest-pose point that each pixel of
    the crop shows, and surface_confidence ``(T, h, w)``, both None for a network without them; told_rotation
    ``(T, 3, 3)``, relative to the crop's ray, the root's view that landmarks tell, and told_sure ``(T,)`` in 0…1, both
    None where a category has none.
    """

    root_rotation: Array
    root_translation: Array
    root_logprob: Array
    joint_rotations: Array
    morphology: Array
    appearance: Array
    joint_confidence: Array
    surface_map: Array | None = None
    surface_confidence: Array | None = None
    told_rotation: Array | None = None
    told_sure: Array | None = None

    def __len__(self) -> int:
        return len(self.root_rotation)

    def part(self, frames: slice | Array) -> Prediction:
        """What is said about some of the frames."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{n: v[frames] for n, v in values.items() if v is not None and n not in _OF_CLIP})

    @classmethod
    def joined(cls, shots: Sequence[Prediction]) -> Prediction:
        """Shots of one clip, one after another: what is the whole clip's is their mean, weighted by their frames."""
        values: dict[str, Array | None] = {}
        for name in (f.name for f in fields(cls)):
            each = [getattr(shot, name) for shot in shots]
            if name in _OF_CLIP:
                values[name] = np.average(each, axis=0, weights=[len(shot) for shot in shots])
            else:
                values[name] = None if any(value is None for value in each) else np.concatenate(each)
        return cls(**values)  # pyright: ignore[reportArgumentType]


class Student:
    """A category's network, loaded once and run on any number of clips."""

    def __init__(
        self,
        category: Category,
        provider: str = AUTO,
        batch: int = 64,
        mirror: bool = True,
        threads: int = 0,
    ) -> None:
        """provider: one of `providers.CHOICES`.  batch: frames at a time.  threads: of the processor, 0 for one a core.

        mirror: look at every clip in a mirror too, and take both for what they are, two opinions: twice the
        hypotheses, and the mean of everything else. Twice the time.

        Raises PredictError when the category has no network or it cannot be loaded. What did not start on the
        way is in `opened.notes`.
        """
        if category.predictor_path is None:
            raise PredictError(
                f"Category '{category.name}' has no predictor.onnx; install or train one first."
            )
        self.category, self.batch, self.mirror = category, max(1, int(batch)), mirror
        trial = trial_inputs(category.network.input_size)
        self.opened = open_session(category.predictor_path, provider, threads, trial)
        self.session = self.opened.session
        self.outputs = [o.name for o in self.session.get_outputs()]
        missing = [name for name in _REQUIRED if name not in self.outputs]
        if missing:
            raise PredictError(
                f"{category.predictor_path}: the network does not answer {', '.join(missing)}; it belongs to "
                "another version, install the category again."
            )

    def run(
        self,
        crops: Array,
        crop_info: Array,
        progress: Callable[[float, str], None] | None = None,
        cuts: Sequence[int] | Array = (),
    ) -> Prediction:
        """Answers for a whole clip.

        crops: ``(T, 4, S, S)`` uint8, RGB times mask, then the mask.  crop_info: ``(T, 3)``.  cuts: frames that begin
        another shot; what is seen in one says nothing about poses in another.
        Long clips go through in pieces that overlap by the reach of the network's temporal part, so the
        result does not depend on where they are cut. Raises PredictError when shapes or types do not fit.
        """
        size = self.category.network.input_size
        crops, crop_info = np.asarray(crops), np.asarray(crop_info)
        if crops.ndim != 4 or crops.shape[1:] != (4, size, size) or crop_info.shape != (len(crops), 3):
            raise PredictError(
                f"The crops have the shape {crops.shape} and crop_info {crop_info.shape}, but category "
                f"'{self.category.name}' takes (T, 4, {size}, {size}) and (T, 3); cut the crops anew."
            )
        if crops.dtype != np.uint8 or not np.isfinite(crop_info).all():
            raise PredictError(
                f"The crops are uint8, 0…255, not {crops.dtype}, and crop_info is finite; cut the crops anew."
            )
        if len(crops) == 0:
            raise PredictError(
                "There are no frames to predict; choose a frame range that holds at least one."
            )
        report = progress or (lambda share, text: None)
        if len(cuts):
            shots = shots_of(len(crops), cuts)
            each = zip(shots, shot_by_shot(report, shots), strict=True)
            return Prediction.joined([self.run(crops[shot], crop_info[shot], step) for shot, step in each])
        parts = 2 if self.mirror else 1
        straight = self._answers(crops, crop_info, between(report, 0.0, 1 / parts))
        if not self.mirror:
            return self._prediction(straight)
        flipped = np.ascontiguousarray(crops[..., ::-1]), crop_info * np.array([-1.0, 1.0, 1.0])
        mirrored = self._answers(*flipped, between(report, 0.5, 1.0))
        return self._both(self._prediction(straight), self._prediction(mirrored))

    def _answers(
        self, crops: Array, crop_info: Array, progress: Callable[[float, str], None]
    ) -> dict[str, Array]:
        """The network's outputs (T, …) for a clip, computed piece by piece."""

        def feed(first: int, last: int) -> dict[str, Array]:
            return {
                "crops": self._normalised(crops[first:last]),
                "crop_info": np.ascontiguousarray(crop_info[first:last], np.float32),
            }

        halo = self.category.network.temporal_radius
        return run_in_pieces(self.session, self.outputs, feed, len(crops), self.batch, halo, progress)

    def _both(self, straight: Prediction, seen: Prediction) -> Prediction:
        """A prediction joined with that of the mirrored clip, brought back to this side of the mirror."""
        flip = np.array([-1.0, 1.0, 1.0])
        skeleton = self.category.skeleton
        confidence = seen.joint_confidence[:, skeleton.mirror]
        share = confidence / np.maximum(confidence + straight.joint_confidence, 1e-9)
        return Prediction(
            root_rotation=np.concatenate(
                [straight.root_rotation, flip[:, None] * seen.root_rotation * flip], axis=1
            ),
            root_translation=np.concatenate(
                [straight.root_translation, seen.root_translation * flip], axis=1
            ),
            root_logprob=np.concatenate([straight.root_logprob, seen.root_logprob], axis=1) - np.log(2),
            joint_rotations=slerp(
                straight.joint_rotations, mirror_rotations(skeleton, seen.joint_rotations), share
            ),
            morphology=(straight.morphology + seen.morphology) / 2,
            appearance=(straight.appearance + seen.appearance) / 2,
            joint_confidence=(straight.joint_confidence + confidence) / 2,
            **_joined_maps(straight, seen),
        )

    def _normalised(self, crops: Array) -> Array:
        network = self.category.network
        values = crops.astype(np.float32) / np.float32(255)
        channels = len(network.mean)  # a category may leave the mask as it is
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (network.mean, network.std))
        values[:, :channels] = (values[:, :channels] - mean) / std
        return values

    def _prediction(self, raw: dict[str, Array]) -> Prediction:
        category = self.category
        joints = len(category.skeleton)
        if raw["joint_rotations"].shape[1] != joints or raw["morphology"].shape[1] != len(
            category.morphology
        ):
            raise PredictError(
                f"{category.predictor_path}: the network answers for {raw['joint_rotations'].shape[1]} joints and "
                f"{raw['morphology'].shape[1]} proportions, but the category has {joints} and "
                f"{len(category.morphology)}; install the category again."
            )
        bad = [name for name, value in raw.items() if not np.all(np.isfinite(value))]
        if bad:
            raise PredictError(
                f"{category.predictor_path}: the network's {bad[0]} is not finite; report this clip."
            )
        rotations = matrix_to_quat(sixd_to_matrix(raw["joint_rotations"].astype(np.float64)))
        rotations = clamp_rotations(category.skeleton, rotations)
        rotations[:, 0] = [1, 0, 0, 0]
        confidence = np.clip(raw["joint_confidence"].astype(np.float64), 0, 1)
        # One body for the whole clip: frames in which the pose was clear know more about it.
        weight = confidence.mean(1) + 1e-6
        beta = np.average(raw["morphology"].astype(np.float64), axis=0, weights=weight)
        beta = np.clip(beta * category.body.morphology_std, *category.morphology_range.T)
        appearance = raw.get("appearance", np.zeros((len(weight), 0)))
        return Prediction(
            root_rotation=sixd_to_matrix(raw["root_rotation"].astype(np.float64)),
            root_translation=raw["root_translation"].astype(np.float64),
            root_logprob=raw["root_logprob"].astype(np.float64),
            joint_rotations=rotations,
            morphology=beta,
            appearance=np.average(appearance.astype(np.float64), axis=0, weights=weight),
            joint_confidence=confidence,
            surface_map=raw.get("surface_map"),
            surface_confidence=raw.get("surface_confidence"),
        )


def _joined_maps(straight: Prediction, seen: Prediction) -> dict[str, Array | None]:
    """The surface map joined with that of the mirrored clip: the mean point by confidence, where the two agree.

    A map is a function of the picture and of which side is which; where the two looks name points far apart,
    neither is to be trusted.
    """
    if straight.surface_map is None or straight.surface_confidence is None:
        return {"surface_map": None, "surface_confidence": None}
    assert seen.surface_map is not None and seen.surface_confidence is not None
    other = seen.surface_map[:, :, ::-1] * np.array([-1.0, 1.0, 1.0], np.float32)
    ours, theirs = straight.surface_confidence, seen.surface_confidence[:, :, ::-1]
    share = (theirs / np.maximum(ours + theirs, 1e-6))[..., None]
    apart = ((straight.surface_map - other) ** 2).sum(-1)
    agreement = 1 / (1 + apart / 0.15**2)  # metres
    return {
        "surface_map": straight.surface_map + share * (other - straight.surface_map),
        "surface_confidence": (ours + theirs) / 2 * agreement,
    }
