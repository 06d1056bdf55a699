# SPDX-License-Identifier: GPL-3.0-or-later
"""One shape for all clips of a subject, by fitting each for itself and then letting them agree; no field, no torch.

A clip alone confuses a subject's shape with how it stands and how far it is: a broad chest is also a near one. Clips
that show it from other sides are wrong in other ways, so their robust mean is nearer the truth than any of them, and
poses that are fitted with that shape held fast are nearer theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from ...clip.flow import flow
from ...core.camera import encode_root
from ...core.category import Category
from ...core.motion import Motion
from ...core.skinning import dense_weights
from ...predict import FitConfig, Prediction, fit
from ...predict.fit_relief import part_radius
from ..errors import TrainingError
from ..evaluate.scores import overlap
from .clips import TeacherClip

Array = np.ndarray

# What a clip is bent by when its shape is known: near its outlines, and freer of where it began.
FIRM = FitConfig(passing=False, outline_noise=0.006, joint_turn=4.0, rest=3.0, root_turn=0.3, root_depth=0.3)
# And when it is not: a relief that is only what many outlines ask for, at distances that may still change with it.
STIFF = FitConfig(passing=False, outline_noise=0.006, relief_height=0.05, morphology=0.6, root_depth=0.15)


@dataclass(frozen=True)
class FinishConfig:
    """How the teacher's poses are bent onto the clips, and how a shape is agreed on."""

    shape_fit: FitConfig = STIFF
    """weights while a clip's own shape is sought"""
    pose_fit: FitConfig = FIRM
    """weights once the shape is known"""
    rounds: int = 2
    """how often every clip is fitted with its shape free, and the shape agreed on"""
    least: float = 0.3
    """agreement with its masks below which a clip has no say in the shape"""
    raised: float = 0.015
    """how far the field's surface may be raised all over to end where it is seen to, as a share of the nominal size"""
    deepest: float = 0.35
    """how far the surface may be sunk, as a share of its distance from the bone"""
    focal_known: bool = True
    """leave the clips' focal lengths as they are"""
    workers: int = 2
    """clips that are fitted at the same time"""


def shared_shape(
    category: Category, clips: Sequence[TeacherClip], config: FinishConfig, given: Motion | None = None
) -> tuple[Array, Array]:
    """The morphology ``(K,)`` and the relief ``(V,)``, metres, that the clips agree on.

    Clips that are held, or of which no frame is used, have no say.  given: whose shape to start from; None starts
    from the clips' proportions as they are.  Raises TrainingError when no clip has a say.
    """
    asked = [clip for clip in clips if not clip.held and len(clip.used)]
    if not asked:
        raise TrainingError(
            "No clip to learn a shape from: all are held out, or none has a frame to be trusted."
        )
    relief = np.zeros(len(category.body.vertices))
    if given is None:
        weight = np.array([len(clip.used) for clip in asked], np.float64)
        morphology = robust_mean(_in_std(category, asked), weight) * category.body.morphology_scale
    else:
        morphology = np.asarray(given.morphology, np.float64)
        relief = relief + given.relief if len(given.relief) else relief
    for _ in range(config.rounds):
        asked = fit_clips(category, asked, morphology, relief, config, shape_known=False)
        weight = np.array([_say(clip, config.least) for clip in asked])
        if not weight.any():
            raise TrainingError(
                "No clip agrees with its masks well enough to learn a shape from; look at the masks."
            )
        morphology = robust_mean(_in_std(category, asked), weight) * category.body.morphology_scale
        found = [c.motion.relief if len(c.motion.relief) else np.zeros(len(relief)) for c in asked]
        # a clip may sink what hides in it; over the rounds a leg must not become a thread
        relief = np.maximum(robust_mean(np.stack(found), weight), -config.deepest * thickness(category))
    return morphology, relief


def thickness(category: Category) -> Array:
    """How thick the body is round the bones at each vertex, ``(V,)`` metres."""
    body = category.body
    weights = dense_weights(body.skin_index, body.skin_weight, len(category.skeleton))
    return weights @ part_radius(category)


def filled_out(
    category: Category,
    clips: Sequence[TeacherClip],
    morphology: Array,
    relief: Array,
    highest: float,
    steps: int = 15,
    frames: int = 24,
) -> Array:
    """The relief ``(V,)``, metres, raised all over by what makes the clips' silhouettes agree best with their masks.

    A volume of finite sharpness is seen as thicker than its zero level: a ray that passes close by gathers density too,
    so that level comes to lie within the masks that it explains (4 mm in a man, at β = 1 cm).
    highest: that is tried, as a share of the body's nominal size, in so many steps.  frames: looked at, of each clip.
    """
    heights = np.linspace(0, highest * category.nominal_size, steps + 1)
    agree = np.zeros(len(heights))
    for clip in clips:
        if not len(clip.used):
            continue
        some = np.unique(np.linspace(0, len(clip.used) - 1, frames).round().astype(int))
        some = np.asarray(clip.used)[some]
        motion, masks = clip.motion.part(some), [clip.scene.masks[i] for i in some]
        for n, height in enumerate(heights):
            body = replace(motion, morphology=morphology, relief=relief + height)
            agree[n] += np.nansum(overlap(category, body, masks))
    return relief + heights[agree.argmax()]


def fit_clips(
    category: Category,
    clips: Sequence[TeacherClip],
    morphology: Array,
    relief: Array,
    config: FinishConfig,
    shape_known: bool = True,
) -> list[TeacherClip]:
    """The clips with their poses fitted from where they are, with the shape given: held fast, or only begun with.

    morphology ``(K,)``; relief ``(V,)`` metres. Rejected frames follow their neighbours; clips of which no frame is
    used are only given the shape.
    """

    def one(clip: TeacherClip) -> TeacherClip:
        motion = reshaped(category, clip.motion, morphology, relief)
        if not len(clip.used):
            return clip.with_motion(motion)
        scene = clip.scene
        found = fit(
            category,
            motion,
            clip.prediction if clip.prediction is not None else _own_word(clip),
            scene.crops(category.network.input_size),
            scene.center,
            scene.side,
            flow=flow,
            interpolated=clip.quality <= 0,
            focal_known=config.focal_known,
            shape_known=shape_known,
            quality="best",
            config=config.pose_fit if shape_known else config.shape_fit,
        )
        return clip.with_motion(found.motion)

    if config.workers <= 1:
        return [one(clip) for clip in clips]
    with ThreadPoolExecutor(config.workers) as pool:
        return list(pool.map(one, clips))


def reshaped(category: Category, motion: Motion, morphology: Array, relief: Array) -> Motion:
    """The motion with another shape, moved along the view so that it looks as large as before."""
    before, after = (
        category.body.shaped(*shape)[0]
        for shape in ((motion.morphology, motion.relief), (morphology, relief))
    )
    pose = np.array(motion.camera_from_root, np.float64)
    pose[:, :3, 3] *= np.linalg.norm(after - after.mean(0)) / np.linalg.norm(before - before.mean(0))
    return replace(motion, camera_from_root=pose, morphology=morphology, relief=relief)


def robust_mean(values: Array, weight: Array, rounds: int = 10) -> Array:
    """Mean ``(N,)`` of rows ``(C, N)`` with weights ``(C,)``; a row far from the others counts little.

    Reweighted least squares on the rows' distances, whose scale is their weighted median (Geman & McClure).
    """
    middle = (weight[:, None] * values).sum(0) / weight.sum()
    for _ in range(rounds):
        away = np.sqrt(((values - middle) ** 2).mean(1))
        order = np.argsort(away)
        reached = np.searchsorted(np.cumsum(weight[order]), 0.5 * weight.sum())
        usual = max(float(away[order[min(reached, len(order) - 1)]]), 1e-9)
        share = weight / (1 + (away / (2 * usual)) ** 2) ** 2
        middle = (share[:, None] * values).sum(0) / share.sum()
    return middle


def _in_std(category: Category, clips: Sequence[TeacherClip]) -> Array:
    """Proportions ``(C, K)`` in standard deviations of the category."""
    return np.stack([clip.motion.morphology for clip in clips]) / category.body.morphology_scale


def _say(clip: TeacherClip, least: float) -> float:
    """What a clip's word on the shape is worth: its good frames, and how well they agree with their masks."""
    agree = np.nan_to_num(np.asarray(clip.motion.mask_iou, np.float64)[clip.used], nan=0.0)
    return float((np.clip((agree - least) / (1 - least), 0, 1) ** 2 * clip.quality[clip.used]).sum())


def _own_word(clip: TeacherClip) -> Prediction:
    """What a student would have had to say for the clip's poses to be its word; without a surface map."""
    motion, scene = clip.motion, clip.scene
    rotation, place = encode_root(
        motion.camera_from_root, scene.center, scene.side, motion.focal_px, motion.principal_point
    )
    return Prediction(
        root_rotation=rotation[:, None],
        root_translation=place[:, None],
        root_logprob=np.zeros((len(motion), 1)),
        joint_rotations=motion.joint_rotations,
        morphology=motion.morphology,
        appearance=motion.appearance,
        joint_confidence=np.full(motion.joint_rotations.shape[:2], 0.5),
    )
