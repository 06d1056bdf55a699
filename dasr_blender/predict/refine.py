# SPDX-License-Identifier: GPL-3.0-or-later
"""The second look: a small network lays the tracked body over mask and surface map and moves it, a few rounds long.

Feed-forward: the same arithmetic for every clip, nothing is optimised. `training/refiner/network.py` is what runs here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..core.camera import decode_root
from ..core.category import Category
from ..core.motion import Motion
from ..core.progress import shot_by_shot
from ..core.rotation import make_continuous, matrix_to_quat
from ..core.skeleton import clamp_rotations
from ..core.smooth import smooth_rotations
from .config import DEFAULTS, TrackConfig
from .errors import PredictError
from .evidence import frame_trust
from .pieces import run_in_pieces
from .providers import AUTO, open_session
from .refine_inputs import read_evidence, read_pose
from .silhouettes import CropView, check_crops
from .student import Prediction
from .track import smooth_root

Array = np.ndarray

MOVED = ("rotation", "translation", "joints", "memory")


class Refiner:
    """A category's refiner, loaded once and run on any number of clips."""

    def __init__(self, category: Category, provider: str = AUTO, batch: int = 64, threads: int = 0) -> None:
        """provider: one of `providers.CHOICES`.  batch: frames at a time.  threads: of the processor, 0 for one a core.

        Raises PredictError when the category has no refiner or it is not one.
        """
        if category.refiner_path is None:
            raise PredictError(f"Category '{category.name}' has no refiner.onnx; train one first.")
        self.category, self.batch = category, max(1, int(batch))
        self.opened = open_session(category.refiner_path, provider, threads)
        self.session = self.opened.session
        self.inputs = {i.name: i.shape for i in self.session.get_inputs()}
        facts = self.session.get_modelmeta().custom_metadata_map
        try:
            if not {*MOVED, "morphology"} <= set(self.inputs):
                raise KeyError
            if not {f"new_{n}" for n in MOVED} <= {o.name for o in self.session.get_outputs()}:
                raise KeyError
            self.rounds, self.radius = int(facts["rounds"]), int(facts["radius"])
            self.points = category.body.vertices[[int(v) for v in facts["vertices"].split()]]
        except (KeyError, ValueError, IndexError):
            raise PredictError(
                f"{category.refiner_path}: not a refiner of this version; install the category again."
            ) from None
        joints, proportions = self.inputs["joints"][1], self.inputs["morphology"][1]
        if (joints, proportions) != (len(category.skeleton), len(category.morphology)):
            raise PredictError(
                f"{category.refiner_path}: the refiner moves {joints} joints and {proportions} proportions, but the "
                f"category has {len(category.skeleton)} and {len(category.morphology)}; install the category again."
            )

    def run(
        self,
        motion: Motion,
        prediction: Prediction,
        masks: Array,
        center: Array,
        side: Array,
        interpolated: Array | None = None,
        config: TrackConfig = DEFAULTS,
        progress: Callable[[float, str], None] | None = None,
    ) -> Motion:
        """The motion moved to where mask and surface map show the subject.

        motion: as `track` found it, T frames; each of its shots is looked at by itself.  masks ``(T, S, S)``: the
        crops', uint8 0…255 or 0…1.  center ``(T, 2)`` and side ``(T,)``: of the crops, pixels.  interpolated ``(T,)``
        bool: frames whose mask was only filled in.
        Raises PredictError when the arrays do not belong to one clip.
        """
        count = len(prediction)
        if len(motion) != count:
            raise PredictError(f"There are {count} predicted frames but {len(motion)} tracked; track the clip again.")
        check_crops(count, center, side, masks)
        if interpolated is not None and np.shape(interpolated) != (count,):
            raise PredictError(f"interpolated is ({count},), one a frame, not {np.shape(interpolated)}.")
        report = progress or (lambda share, text: None)
        center, side = np.asarray(center, np.float64), np.asarray(side, np.float64)
        if len(motion.shots) > 1:
            found = []
            for shot, step in zip(motion.shots, shot_by_shot(report, motion.shots), strict=True):
                of_shot = motion.part(shot), prediction.part(shot), masks[shot], center[shot], side[shot]
                filled = None if interpolated is None else interpolated[shot]
                found.append(self.run(*of_shot, filled, config, step))
            return Motion.joined(found)
        focal = np.broadcast_to(np.asarray(motion.focal_px, np.float64), (count,))
        trust = frame_trust(masks, side, interpolated)
        size = np.asarray(motion.image_size)
        fixed = read_evidence(
            self.points, prediction, masks, center, side, focal, motion.principal_point, size
        )
        fixed["trust"] = trust.astype(np.float32)
        state = read_pose(motion, center, side)
        state["memory"] = np.zeros((count, *self.inputs["memory"][1:]), np.float32)
        for n in range(self.rounds):
            report((n + 0.1) / self.rounds, f"Looking again, round {n + 1} of {self.rounds}")
            state = self._round(state, fixed)
        return self._moved(motion, state, masks, center, side, trust, config)

    def _round(self, state: dict[str, Array], fixed: dict[str, Array]) -> dict[str, Array]:
        """One round over the whole clip, in pieces that overlap by the network's reach."""
        every = {**state, **fixed}

        def feed(first: int, last: int) -> dict[str, Array]:
            return {name: np.ascontiguousarray(every[name][first:last]) for name in self.inputs}

        wanted = [f"new_{name}" for name in MOVED]
        answers = run_in_pieces(self.session, wanted, feed, len(state["rotation"]), self.batch, self.radius)
        found = {name: answers[f"new_{name}"] for name in MOVED}
        bad = [name for name, value in found.items() if not np.isfinite(value).all()]
        if bad:
            raise PredictError(
                f"{self.category.refiner_path}: the refiner's {bad[0]} is not finite; report this clip."
            )
        return {**state, **found}

    def _moved(
        self,
        motion: Motion,
        state: dict[str, Array],
        masks: Array,
        center: Array,
        side: Array,
        trust: Array,
        config: TrackConfig,
    ) -> Motion:
        category, frames = self.category, np.arange(len(motion))
        rotation, translation, joints = (
            state[k].astype(np.float64) for k in ("rotation", "translation", "joints")
        )
        pose = decode_root(rotation, translation, center, side, motion.focal_px, motion.principal_point)
        trust = np.clip(trust, 0.05, 1)
        pose = smooth_root(pose, config.refined_sigma * motion.fps, config.depth_sigma * motion.fps, trust)
        turned = clamp_rotations(category.skeleton, matrix_to_quat(joints))
        turned = smooth_rotations(turned, config.refined_sigma * motion.fps, trust)
        turned = make_continuous(clamp_rotations(category.skeleton, turned))
        turned[:, 0] = [1, 0, 0, 0]
        view = CropView.of(
            center, side, np.broadcast_to(motion.focal_px, (len(frames),)), np.asarray(motion.principal_point),
            masks, np.asarray(motion.image_size), config.iou_size,
        )  # fmt: skip
        drawn = view.drawn(
            pose, category.posed_vertices(motion.morphology, turned), category.body.faces, frames
        )
        iou = view.overlap(drawn, frames)
        before = np.nan_to_num(motion.mask_iou, nan=0.0)
        confidence = motion.confidence * np.nan_to_num(iou, nan=0.0) / np.maximum(before, 1e-3)
        return replace(
            motion,
            camera_from_root=pose,
            joint_rotations=turned,
            mask_iou=iou,
            confidence=np.clip(confidence, 0, 1),
        )
