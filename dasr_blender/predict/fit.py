# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracked motion bent onto this clip: its masks, its surface map, its flow.

Damped least squares (Levenberg–Marquardt) over all frames of a window at once, with analytic derivatives through
kinematics, proportions and skinning. What belongs to what — which rim to which outline — is settled anew before
every step, as in iterative closest points; then everything is a smooth least-squares problem whose normal equations
form a chain of frames (`blocks`), so that time and memory are linear in the clip's length. Long clips are solved in
windows that overlap, after their proportions were solved from frames spread over the clip.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.camera import encode_root, ray_rotation, transform
from ..core.category import Category
from ..core.contacts import runs
from ..core.ground import foot_joints
from ..core.motion import Motion
from ..core.progress import Progress
from ..core.rotation import (
    geodesic,
    make_continuous,
    matrix_to_quat,
    matrix_to_rotvec,
    quat_conjugate,
    quat_multiply,
    quat_to_matrix,
    quat_to_rotvec,
)
from ..core.skeleton import clamp_rotations, mirror_rotations
from ..core.smooth import smooth_rotations
from ..core.workers import shared_out, worker_count
from .errors import PredictError
from .evidence import ClipData, Evidence, FlowMaker, frame_trust, prior_errors
from .fit_body import BodyModel, Start, in_crop, pose
from .fit_config import DEFAULT_FIT, QUALITIES, FitConfig
from .fit_relief import relief
from .fit_solve import Solved, Window
from .limbs import better_limbs
from .passing import Passing, exchanged_limbs, mirrored_answer, stretches
from .planting import plant
from .silhouettes import CropView
from .student import Prediction
from .surface import strongest
from .track import coarse_of
from .twins import KINDS, Twin, doubtful, journey, twin_of

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Fitted:
    """The motion after the fit, what it cost, and how it came about.

    loss ``(T,)``: cost of each frame.  steps and parts: of each window, how many steps and what each residual costs at
    the end.  seconds: spent on each residual, summed over threads.
    twins: stretches whose twins were tried.  passings: those whose left and right limbs were
    exchanged.  prediction: the network's answer with those limbs exchanged.
    """

    motion: Motion
    loss: Array
    prediction: Prediction
    steps: list[int] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    twins: list[Twin] = field(default_factory=list)
    passings: list[Passing] = field(default_factory=list)


def fit(
    category: Category,
    motion: Motion,
    prediction: Prediction,
    crops: Array,
    center: Array,
    side: Array,
    *,
    begin: Motion | None = None,
    flow: FlowMaker | None = None,
    interpolated: Array | None = None,
    masks_given: bool = False,
    focal_known: bool = True,
    shape_known: bool = False,
    camera_trust: Array | float = 0.0,
    quality: str = "standard",
    config: FitConfig = DEFAULT_FIT,
    progress: Progress | None = None,
) -> Fitted:
    """Bend a tracked motion onto its clip.

    motion: what `track` found, in the pixels of center and side; a relief in it is kept and added to. All its shots
    show one body, and nothing else is carried from one to the next.  prediction:
    what it was found from.  begin: the second look's poses, from which the body is bent. Its places are believed; its
    turns are not, but the motion's: that look and the fit see the same masks, which must not count twice.  crops
    ``(T, 4, S, S)`` uint8: masked colours, then the mask.  center ``(T, 2)``, side ``(T,)``: the crops, pixels.  flow:
    makes the displacement from one picture to the next, `clip.flow.flow`; None does without.  interpolated ``(T,)``
    bool: frames whose mask was only filled in.  masks_given: masks came with the clip or from a person, so that their
    outlines are the subject's; automatic ones have errors of their own.  focal_known: leave the focal length as it is.
    shape_known: leave morphology and relief as they are.  camera_trust: how far the motion's `world_from_camera` is
    believed to be how the camera moved, 0…1, one number or ``(T,)``: so firmly feet that stand are kept where they
    stand.
    quality: one of `QUALITIES`; draft leaves it at `begin`.
    Raises PredictError when the arrays do not belong to one clip or there is no such quality.
    """
    count, begin = len(motion), motion if begin is None else begin
    if quality not in QUALITIES:
        raise PredictError(f"There is no quality '{quality}': choose one of {', '.join(QUALITIES)}.")
    if len(begin) != count:
        raise PredictError(f"The motion has {count} frames but its second look {len(begin)}; look at it again.")
    if not len(prediction) == len(crops) == len(center) == len(side) == count:
        raise PredictError(
            f"The motion has {count} frames but there are {len(prediction)} predicted, {len(crops)} crops and "
            f"{len(side)} boxes; cut the crops anew."
        )
    if np.ndim(crops) != 4 or crops.shape[1] != 4 or crops.shape[2] != crops.shape[3] or crops.dtype != np.uint8:
        raise PredictError(
            f"The crops are {crops.dtype} of the shape {np.shape(crops)}, but must be uint8, (T, 4, S, S): masked "
            "colours, then the mask, 0…255; cut the crops anew."
        )
    if interpolated is not None and np.shape(interpolated) != (count,):
        raise PredictError(f"The motion has {count} frames but {np.shape(interpolated)} say whose mask was filled in.")
    if quality == "draft":
        return Fitted(begin, np.zeros(count), prediction)
    solver = _Solver(
        category, motion, begin, prediction, crops, np.asarray(center, np.float64), np.asarray(side, np.float64),
        flow, interpolated, masks_given, focal_known, shape_known, camera_trust, quality, config,
        progress or (lambda share, text: None),
    )  # fmt: skip
    return solver.run()


class _Solver:
    """A clip's fit."""

    def __init__(
        self, category: Category, motion: Motion, begin: Motion, prediction: Prediction, crops: Array, center: Array,
        side: Array, flow: FlowMaker | None, interpolated: Array | None, masks_given: bool, focal_known: bool,
        shape_known: bool, camera_trust: Array | float, quality: str, config: FitConfig, report: Progress,
    ) -> None:  # fmt: skip
        if quality == "best":
            config = replace(config, coarse_start=False)
        if masks_given:
            config = replace(config, outline_noise=min(config.outline_noise, config.given_noise))
        self.category, self.motion, self.config, self.report = category, motion, config, report
        self.raised = np.asarray(motion.relief, np.float64)  # (V,) or nothing
        bumps = relief(
            category, 0 if shape_known else config.relief, config.relief_height * category.nominal_size
        )
        self._take_shape(bumps)
        focal = np.asarray(motion.focal_px, np.float64)
        _, place = encode_root(begin.camera_from_root, center, side, focal, motion.principal_point)
        self.start = Start(
            np.asarray(motion.camera_from_root[:, :3, :3], np.float64), place,
            np.asarray(motion.joint_rotations, np.float64),
            np.asarray(motion.morphology, np.float64), center, side, focal,
            np.asarray(motion.principal_point, np.float64),
        )  # fmt: skip
        self.begin = begin
        self.first = _correction(self.start, begin)
        trust = frame_trust(crops[:, 3], side, interpolated, motion.shots)
        self.data = ClipData(self.start, crops, np.asarray(motion.image_size), prediction, trust, flow, motion.cuts)
        self.places: Array | None = None  # (T, F, 3) where feet stand
        self.held: dict[str, Array] = {}  # and what of the evidence says so, (T, F, …)
        self.crops, self.center, self.side = crops, center, side
        held = np.asarray(camera_trust if foot_joints(category) else 0.0, np.float64)
        self.feet_held = np.broadcast_to(held, (len(motion),))
        every = config.steps, config.limb_steps, config.last_steps
        self.steps, self.limb_steps, self.last_steps = (s[0 if quality == "standard" else 1] for s in every)
        self.settle = config.settle * (1.0 if quality == "standard" else 0.01)
        error = np.full(self.model.shared, 0.0 if shape_known else config.morphology)
        error[self.model.proportions :] = 1.0
        error[-1] = 0.0 if focal_known else config.focal
        self.shared_error = error

    def _take_shape(self, bumps: Array, raised: Array | None = None) -> None:
        """The bodies that are bent: with bumps ``(S, V)`` to be found, and without; both raised by what is known."""
        category, config = self.category, self.config
        self.raised = self.raised if raised is None else raised
        coarse = coarse_of(category, config.vertices)
        self.plain = BodyModel(category, coarse, None, self.raised)
        self.model = BodyModel(category, coarse, bumps, self.raised) if len(bumps) else self.plain
        self.light = BodyModel(category, coarse_of(category, config.limb_vertices), None, self.raised)

    def _settle_shape(self, shared: Array) -> Array:
        """The relief that was found becomes the body's own; returns the shared unknowns that are left."""
        found = shared[self.model.proportions : -1] @ self.model.relief
        if found.any():
            self._take_shape(self.model.relief[:0], found + self.raised if len(self.raised) else found)
        else:
            self.model = self.plain
        return self._plainly(shared)

    def _plainly(self, shared: Array) -> Array:
        """Shared unknowns ``(g, …)`` but for the relief's."""
        return np.concatenate([shared[: self.model.proportions], shared[-1:]])

    def run(self) -> Fitted:
        count, config = len(self.motion), self.config
        fitted = Fitted(self.motion, np.zeros(count), self.data.prediction)
        if config.passing and self.data.flow is not None:
            self._pass_limbs(self.data.flow, fitted)
        prior = prior_errors(self.model, self.data.prediction, np.arange(count), config)[:, 6:]
        self.prior = np.sqrt((prior**2).reshape(count, -1, 3).mean(-1))
        if count <= config.window:
            window = self._window(np.arange(count), self.start, self.shared_error)
            zero = np.zeros(self.model.shared)
            solved = self._solve(window, self.first, zero, 0.05, 0.9, fitted, np.arange(count))
            frames, losses, shared = solved.frames, solved.loss, self._settle_shape(solved.shared)
            spread = np.sqrt(np.maximum(solved.chain.variances(), 0))
        else:
            shared = self._settle_shape(self._proportions(fitted))
            frames, losses, spread = self._in_windows(shared, fitted)
        self.report(0.9, "Trying what looks alike")
        motion = self._motion(frames, shared, spread)
        frames, fitted.twins[:] = self._twins(motion, frames, shared)
        if any(twin.taken for twin in fitted.twins):
            motion = self._motion(frames, shared, spread)
        self.report(1.0, "Fitted")
        return replace(fitted, motion=motion, loss=losses, prediction=self.data.prediction)

    def _pass_limbs(self, flow: FlowMaker, fitted: Fitted) -> None:
        """Exchange left and right limbs where the network confused them: each goes where the other is drawn."""
        begun = time.perf_counter()
        skeleton = self.category.skeleton
        self.report(0.0, "Following limbs past each other")
        exchanged = exchanged_limbs(
            self.category, self.begin, self.crops, self.center, self.side, flow,
            lambda share: self.report(0.04 * share, "Following limbs past each other"),
        )  # fmt: skip
        if exchanged.any():
            fitted.passings[:] = stretches(skeleton, exchanged, self.motion.shots)
            confidence = self.motion.joint_confidence
            confidence = np.where(exchanged, confidence[:, skeleton.mirror], confidence)
            self.motion = replace(self.motion, joint_confidence=confidence)
            prediction = mirrored_answer(self.category, self.data.prediction, exchanged)
            self.data = replace(self.data, prediction=prediction)
            joints = self._exchanged(exchanged)
            begin = np.where(exchanged[..., None], joints, self.begin.joint_rotations)
            start = np.where(exchanged[..., None], joints, self.start.joints)
            for shot in self.motion.shots:
                for joints in (begin, start):
                    joints[shot] = _smooth_where_changed(joints[shot], exchanged[shot], self.motion.fps)
            self.begin = replace(self.begin, joint_rotations=begin)
            self.start = replace(self.start, joints=start)
            self.data = replace(self.data, start=self.start)
            self.first = _correction(self.start, self.begin)
        fitted.seconds["passing"] = time.perf_counter() - begun

    def _exchanged(self, exchanged: Array) -> Array:
        """Joint rotations ``(T, J, 4)`` with which limbs are drawn where those of the other side were.

        A mirrored pose does not do that, unless the body is seen square from the side; it is where the search begins.
        As targets serve the limbs on the outlines, to which they are fitted first, each for what it was taken for.
        """
        skeleton, model = self.category.skeleton, self.plain
        joints = np.array(self.begin.joint_rotations, np.float64)
        flip = np.array([-1.0, 1.0, 1.0])
        owner, longest = strongest(self.category, model.coarse.vertex), self.config.window
        owned = np.flatnonzero(exchanged.any(0)[owner])
        stretch = runs(exchanged.any(1), True, self.motion.shots)
        for part in [slice(a, min(a + longest, stop)) for first, stop in stretch for a in range(first, stop, longest)]:
            chosen, taken = np.arange(part.start, part.stop), exchanged[part]
            start = self.start.part(part)
            window = self._without_relief(self._window(chosen, start, self.shared_error))
            settled = window.solve(self.first[part], np.zeros(model.shared), self.steps, self.settle)
            before = pose(model, start, settled.frames, settled.shared)
            shape = self.start.morphology + model.std * settled.shared[: model.proportions]
            mirrored = mirror_rotations(skeleton, before.locals)
            there = model.coarse.posed(self.category, shape, mirrored)[:, owned] * flip
            target = in_crop(transform(before.camera_from_root, there), start, before.focal)
            start = replace(
                start, rotation=before.rotation, place=before.place,
                joints=np.where(taken[..., None], mirror_rotations(skeleton, joints[part]), before.locals),
            )  # fmt: skip
            prior = np.full((len(chosen), model.size), 1e-3)
            moved = np.repeat(taken[:, 1:], 3, 1)
            prior[:, 6:][moved] = window.evidence.prior[:, 6:][moved]
            evidence = replace(
                window.evidence, start=start, prior=prior, flow=None, trust=np.zeros(len(chosen)),
                surface_vertex=np.tile(owned, (len(chosen), 1)), surface_target=target.astype(np.float32),
                surface_weight=taken[:, owner[owned]].astype(np.float32),
            )  # fmt: skip
            found = replace(
                window, evidence=evidence, shared_error=np.zeros(model.shared)
            ).solve(np.zeros(settled.frames.shape), settled.shared, self.steps, self.settle)
            joints[part] = pose(model, start, found.frames, found.shared).locals
        return joints

    def _without_relief(self, window: Window) -> Window:
        """The same problem for a body whose surface is neither raised nor sunk."""
        return replace(
            window, model=self.plain, shared_error=self._plainly(window.shared_error),
            shared_range=self._plainly(window.shared_range),
        )  # fmt: skip

    def _window(
        self, chosen: Array, start: Start, shared_error: Array, tie: Array | None = None,
        tie_weight: Array | None = None,
    ) -> Window:  # fmt: skip
        evidence = self.data.window(self.model, chosen, start, self.config)
        known = self.model.proportions
        bounds = np.tile([-1.5, 3.0], (self.model.shared, 1))
        off = self.category.morphology_range - self.start.morphology[:, None]
        bounds[:known] = off / self.model.std[:, None]
        bounds = np.stack([np.minimum(bounds[:, 0], 0), np.maximum(bounds[:, 1], 0)], 1)
        return Window(
            self.model, evidence, self.config, shared_error, bounds, self.motion.fps, self.data.linked(chosen),
            tie, tie_weight,
        )  # fmt: skip

    def _solve(
        self, window: Window, frames: Array, shared: Array, begin: float, end: float, fitted: Fitted,
        chosen: Array | None = None,
    ) -> Solved:  # fmt: skip
        """First poses and proportions, then limbs in other poses, then the relief and feet that stand.

        chosen ``(n,)``: the window's frames, None where feet do not matter.
        """

        def at(first: float, last: float) -> Callable[[float], None]:
            low, high = (begin + (end - begin) * x for x in (first, last))
            return lambda share: self.report(low + (high - low) * share, "Fitting the body to the picture")

        at(0.0, 0.0)(0.0)
        plain = self._without_relief(window)
        solved = plain.solve(frames, self._plainly(shared), self.steps, self.settle, at(0.0, 0.4))
        if self.config.limb_evidence > 0:
            moved = self._moved(plain, solved, fitted, at(0.4, 0.5))
            if moved is not None:
                again = plain.solve(moved, solved.shared, self.limb_steps, self.settle, at(0.5, 0.6), near=True)
                again.steps += solved.steps
                if again.loss.sum() < solved.loss.sum():  # limbs that do not pay for themselves stay as they were
                    solved = again
        known = self.model.proportions
        shared = np.concatenate([solved.shared[:known], shared[known:-1], solved.shared[-1:]])
        if chosen is not None and self.feet_held[chosen].any():
            window = replace(window, evidence=self._planted(window.evidence, solved, chosen))
        last = window.solve(solved.frames, shared, self.last_steps, self.settle, at(0.6, 1.0), near=True)
        last.steps += solved.steps
        fitted.steps.append(last.steps)
        fitted.parts.append(last.parts)
        for name, spent in window.seconds.items():
            fitted.seconds[name] = fitted.seconds.get(name, 0.0) + spent
        return last

    def _planted(self, evidence: Evidence, solved: Solved, chosen: Array) -> Evidence:
        """The evidence with feet that stand; the places are kept for the window that follows."""
        posed = pose(self.plain, evidence.start, solved.frames, solved.shared)
        seen = self.motion.part(chosen)
        world = np.asarray(seen.world_from_camera, np.float64)
        seen = replace(
            seen,
            camera_from_root=posed.camera_from_root,
            focal_px=posed.focal,
            joint_rotations=posed.locals,
            morphology=self.start.morphology + self.plain.std * solved.shared[:-1],
            relief=self.raised,
        )
        before = None if self.places is None else self.places[chosen]
        feet = plant(self.category, seen, self.plain, posed, before)
        if self.places is None:
            self.places = np.full((len(self.motion), *feet.place.shape[1:]), np.nan)
        self.places[chosen] = feet.place
        near, far = (reach * self.category.nominal_size for reach in self.config.contact_reach)
        held = {
            "foot": np.tile(feet.vertex, (len(chosen), 1)), "planted": feet.seen_from(world),
            "standing": self.feet_held[chosen, None] * feet.sure, "leash": far + (near - far) * feet.clear,
        }  # fmt: skip
        for name, value in held.items():
            kept = self.held.setdefault(name, np.zeros((len(self.motion), *value.shape[1:]), value.dtype))
            kept[chosen] = value
        return replace(evidence, **held)

    def _standing(self, window: Window, chosen: Array) -> Window:
        """The window with feet that stand where they were found to."""
        if not self.held:
            return window
        held = {name: kept[chosen] for name, kept in self.held.items()}
        return replace(window, evidence=replace(window.evidence, **held))

    def _moved(
        self, window: Window, solved: Solved, fitted: Fitted, check: Callable[[float], None]
    ) -> Array | None:
        """The frames' unknowns with limbs in other places, None where the masks do not ask for it."""
        begun = time.perf_counter()
        moved = better_limbs(
            self.light, window.evidence, solved.frames, solved.shared, window.linked, self.motion.fps, self.config,
            check,
        )  # fmt: skip
        fitted.seconds["limbs"] = fitted.seconds.get("limbs", 0.0) + time.perf_counter() - begun
        return moved

    def _proportions(self, fitted: Fitted) -> Array:
        """The shared unknowns ``(g,)`` from frames spread over a long clip, in pairs that follow each other."""
        if not self.shared_error.any():
            return np.zeros(self.model.shared)
        count = len(self.motion)
        first = np.unique(np.linspace(0, count - 2, self.config.proportions // 2).astype(np.int64))
        chosen = np.unique(np.concatenate([first, first + 1]))
        window = self._window(chosen, self.start.part(chosen), self.shared_error)
        zero = np.zeros(self.model.shared)
        return self._solve(window, self.first[chosen], zero, 0.02, 0.1, fitted).shared

    def _in_windows(self, shared: Array, fitted: Fitted) -> tuple[Array, Array, Array]:
        """Windows one after another, shot by shot; each begins where the one before has been, and is faded into it."""
        config = self.config
        frames = self.first.copy()
        losses, spread = np.zeros(len(frames)), np.zeros(frames.shape)
        known = np.zeros(self.model.shared)
        step = config.window - config.overlap
        windows = [
            (begin, min(begin + config.window, shot.stop), begin > shot.start)
            for shot in self.motion.shots
            for begin in range(shot.start, max(shot.stop - config.overlap, shot.start + 1), step)
        ]
        for n, (begin, end, goes_on) in enumerate(windows):
            chosen = np.arange(begin, end)
            tie, weight = frames[begin:end].copy(), np.zeros(end - begin)
            shared_frames = min(config.overlap, end - begin) if goes_on else 0
            fade = np.linspace(1, 0, shared_frames + 2)[1:-1]
            weight[:shared_frames] = fade
            first = frames[begin:end].copy()
            if (
                shared_frames
            ):  # what the last common frame was corrected by is the best guess for those after it
                change = first[shared_frames - 1] - self.first[begin + shared_frames - 1]
                fading = np.exp(-np.arange(1, len(first) - shared_frames + 1) / 4.0)
                first[shared_frames:] += change * fading[:, None]
            window = self._window(chosen, self.start.part(slice(begin, end)), known, tie, weight)
            share = 0.1 + 0.8 * np.array([n, n + 1]) / len(windows)
            solved = self._solve(window, first, shared, share[0], share[1], fitted, chosen)
            new = np.ones(end - begin)
            new[:shared_frames] = 1 - fade
            frames[begin:end] += new[:, None] * (solved.frames - frames[begin:end])
            losses[begin:end] = solved.loss
            variance = np.sqrt(np.maximum(solved.chain.variances(), 0))
            spread[begin:end] += new[:, None] * (variance - spread[begin:end])
        return frames, losses, spread

    def _twins(self, motion: Motion, frames: Array, shared: Array) -> tuple[Array, list[Twin]]:
        """Doubtful stretches fitted the other way too; the unknowns with the better ones, and what was tried."""
        found: list[Twin] = []
        tracked = self.motion.confidence / np.maximum(np.nan_to_num(self.motion.mask_iou, nan=0.0), 1e-3)
        for stretch in doubtful(motion.mask_iou, np.clip(tracked, 0, 1), motion.shots):
            now = self._solved_start(frames, shared)
            best = self._stretch_cost(now, now, stretch, shared)
            better: Start | None = None
            for kind in KINDS:
                tried = self._refit(twin_of(self.category, now, stretch, kind), stretch, shared)
                ratio = self._stretch_cost(tried, now, stretch, shared) / max(best, 1e-9)
                taken = ratio < 0.95
                found.append(Twin(stretch.start, stretch.stop - 1, kind, float(ratio), taken))
                if taken:
                    best, better = best * ratio, tried
            if better is not None:
                self.start, frames = better, np.zeros_like(frames)
        return frames, found

    def _solved_start(self, frames: Array, shared: Array) -> Start:
        """The poses at the unknowns as a new start; proportions stay with the shared unknowns."""
        posed = pose(self.model, self.start, frames, shared)
        return replace(self.start, rotation=posed.rotation, place=posed.place, joints=posed.locals)

    def _refit(self, start: Start, stretch: slice, shared: Array) -> Start:
        """A stretch fitted from `start` between frames that stay."""
        margin, shot = 6, self._shot_of(stretch)
        part = slice(max(stretch.start - margin, shot.start), min(stretch.stop + margin, shot.stop))
        chosen = np.arange(part.start, part.stop)
        weight = ((chosen < stretch.start) | (chosen >= stretch.stop)).astype(np.float64)
        zero = np.zeros((len(chosen), self.model.size))
        window = self._window(chosen, start.part(part), np.zeros(self.model.shared), zero, weight)
        solved = self._standing(window, chosen).solve(zero, shared, 8, self.settle)
        posed = pose(self.model, start.part(part), solved.frames, shared)
        own = slice(stretch.start - part.start, stretch.stop - part.start)
        rotation, place, joints = start.rotation.copy(), start.place.copy(), start.joints.copy()
        rotation[stretch], place[stretch], joints[stretch] = (
            posed.rotation[own],
            posed.place[own],
            posed.locals[own],
        )
        return replace(start, rotation=rotation, place=place, joints=joints)

    def _shot_of(self, stretch: slice) -> slice:
        """The shot that a stretch lies in."""
        return next(shot for shot in self.motion.shots if stretch.start < shot.stop)

    def _stretch_cost(self, start: Start, now: Start, stretch: slice, shared: Array) -> float:
        """Cost of a stretch as it stands: the picture's, the network's and that of getting there and back."""
        chosen = np.arange(stretch.start, stretch.stop)
        window = self._window(chosen, start.part(stretch), np.zeros(self.model.shared))
        _, loss, _ = self._standing(window, chosen).linear(np.zeros((len(chosen), self.model.size)), shared, 9)
        prediction = self.data.prediction
        said = quat_to_matrix(np.asarray(prediction.joint_rotations[stretch], np.float64))
        bend = geodesic(said, quat_to_matrix(start.joints[stretch]))[:, 1:] / self.prior[stretch]
        ray = ray_rotation(start.center[stretch], start.focal[stretch], start.pp)
        turn = geodesic(ray[:, None] @ prediction.root_rotation[stretch], start.rotation[stretch][:, None])
        views = 0.5 * (turn / self.config.root_turn) ** 2 - prediction.root_logprob[stretch]
        own = 0.5 * (np.minimum(bend, 3.0) ** 2).sum() + np.minimum(views.min(1), 6.0).sum()
        shot = self._shot_of(stretch)
        within = slice(stretch.start - shot.start, stretch.stop - shot.start)
        return float(loss.sum() + own) + journey(
            start.rotation[shot], start.joints[shot], within, self.motion.fps
        )

    def _motion(self, frames: Array, shared: Array, spread: Array) -> Motion:
        count, motion, config = len(frames), self.motion, self.config
        pose_matrix, rotations = np.empty((count, 4, 4)), np.empty(motion.joint_rotations.shape)
        focal = self.start.focal * np.exp(shared[-1])
        for a in range(0, count, 256):
            part = slice(a, min(a + 256, count))
            posed = pose(self.model, self.start.part(part), frames[part], shared)
            pose_matrix[part] = posed.camera_from_root
            rotations[part] = posed.locals
        pose_matrix[:, :3, :3] = _orthonormal(pose_matrix[:, :3, :3])
        rotations = make_continuous(clamp_rotations(self.category.skeleton, rotations))
        rotations[:, 0] = [1, 0, 0, 0]
        morphology = self.start.morphology + self.model.std * shared[:-1]
        low, high = self.category.morphology_range.T
        given = self.start.morphology
        morphology = np.clip(morphology, np.minimum(low, given), np.maximum(high, given))
        fitted = replace(
            motion,
            camera_from_root=pose_matrix,
            joint_rotations=rotations,
            morphology=morphology,
            relief=self.raised if self.raised.any() else np.zeros(0),
            focal_px=focal,
        )
        iou = self._overlap(fitted)
        # The network knows best how far a joint may be off; the solved system adds where the picture says less of it
        # than of the clip's other joints.
        told = spread[:, 6:].reshape(count, -1, 3).mean(-1) / self.prior
        told = told / max(float(np.median(told)), 1e-9)
        expected = -np.log(np.clip(motion.joint_confidence[:, 1:], 1e-3, 1.0))
        sure = np.exp(-expected * told**config.spread)
        confidence = motion.joint_confidence.astype(np.float64).copy()
        confidence[:, 1:] = np.clip(sure, 0, 1)
        before = np.maximum(np.nan_to_num(motion.mask_iou, nan=0.0), 1e-3)
        overall = motion.confidence / before * np.nan_to_num(iou, nan=0.0)
        return replace(fitted, joint_confidence=confidence, confidence=np.clip(overall, 0, 1), mask_iou=iou)

    def _overlap(self, motion: Motion) -> Array:
        """Agreement of the whole body's silhouette with the mask, ``(T,)``, NaN without one."""

        def one(part: slice) -> Array:
            view = CropView.of(
                self.center[part], self.side[part], motion.focal_px[part], self.start.pp, self.crops[part, 3],
                np.asarray(motion.image_size), 64,
            )  # fmt: skip
            vertices = self.category.posed_vertices(motion.part(part))
            index = np.arange(len(vertices))
            drawn = view.drawn(motion.camera_from_root[part], vertices, self.category.body.faces, index)
            return view.overlap(drawn, index)

        with ThreadPoolExecutor(worker_count()) as pool:
            return np.concatenate(list(pool.map(one, shared_out(len(motion), 32))))


def _correction(start: Start, begin: Motion) -> Array:
    """The frames' unknowns ``(T, n)`` at which a body in the start's places is turned as in `begin`."""
    rotation = np.asarray(begin.camera_from_root[:, :3, :3], np.float64)
    turn = matrix_to_rotvec(rotation @ np.swapaxes(start.rotation, 1, 2))
    joints = quat_multiply(np.asarray(begin.joint_rotations, np.float64), quat_conjugate(start.joints))[:, 1:]
    return np.concatenate([turn, np.zeros((len(turn), 3)), quat_to_rotvec(joints).reshape(len(turn), -1)], 1)


def _smooth_where_changed(rotations: Array, exchanged: Array, fps: float) -> Array:
    """Rotations ``(T, J, 4)`` smoothed where limbs begin or cease to be exchanged ``(T, J)``."""
    near, reach = np.zeros(exchanged.shape, bool), max(1, round(0.12 * fps))
    changed = exchanged[1:] != exchanged[:-1]
    for t in np.flatnonzero(changed.any(1)):
        near[max(t + 1 - reach, 0) : t + 1 + reach] |= changed[t]
    return np.where(near[..., None], smooth_rotations(rotations, 0.06 * fps), rotations)


def _orthonormal(rotation: Array) -> Array:
    """Rotation matrices ``(T, 3, 3)`` cleaned of rounding."""
    return quat_to_matrix(matrix_to_quat(rotation))
