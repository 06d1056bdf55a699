# SPDX-License-Identifier: GPL-3.0-or-later
"""Limbs that lie in a gap find the mask's limb."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tracked import Case, case, crops_of, start_of

from dasr_blender.core import Category, Motion
from dasr_blender.core.pose_errors import CONFIDENCE_ANGLE
from dasr_blender.core.rotation import geodesic, quat_multiply, quat_to_matrix, rotvec_to_quat
from dasr_blender.predict import fit
from dasr_blender.predict.evidence import ClipData
from dasr_blender.predict.fit_body import BodyModel
from dasr_blender.predict.fit_config import DEFAULT_FIT
from dasr_blender.predict.limbs import better_limbs, limb_roots, limbs_of
from dasr_blender.predict.track import coarse_of

FRAMES = 12


@pytest.fixture(scope="module")
def clip(toy_category: Category) -> Case:
    """A clip whose network expects to be off by 14 degrees."""
    found = case(toy_category, frames=FRAMES, seed=3)
    confidence = np.full(found.prediction.joint_confidence.shape, np.exp(-0.25 / CONFIDENCE_ANGLE))
    return replace(found, prediction=replace(found.prediction, joint_confidence=confidence))


def search(category: Category, given: Case, motion: Motion, **changes: float) -> np.ndarray | None:
    """What the search changes about a motion, as unknowns ``(T, n)``."""
    config = replace(DEFAULT_FIT, **changes)
    model = BodyModel(category, coarse_of(category, config.limb_vertices))
    start = start_of(given, motion)
    count = len(motion)
    size = np.asarray(motion.image_size)
    data = ClipData(start, crops_of(given), size, given.prediction, np.ones(count), None)
    evidence = data.window(model, np.arange(count), start, config)
    linked = np.append(np.ones(count - 1, bool), False)
    zero = np.zeros((count, model.size))
    return better_limbs(model, evidence, zero, np.zeros(model.shared), linked, motion.fps, config)


def bent(motion: Motion, joint: int, angle: float, frames: slice = slice(None)) -> Motion:
    """The motion with one joint turned about its first axis, radians."""
    rotations = np.array(motion.joint_rotations, np.float64)
    rotations[frames, joint] = quat_multiply(rotvec_to_quat(np.array([angle, 0, 0])), rotations[frames, joint])
    return replace(motion, joint_rotations=rotations)


def off(category: Category, motion: Motion, true: Motion, changed: np.ndarray, joint: int) -> np.ndarray:
    """Degrees ``(T,)`` between a joint's rotation after the change and the truth."""
    first = 6 + 3 * (joint - 1)
    turn = rotvec_to_quat(changed[:, first : first + 3])
    found = quat_multiply(turn, np.asarray(motion.joint_rotations[:, joint], np.float64))
    return np.degrees(geodesic(quat_to_matrix(found), quat_to_matrix(true.joint_rotations[:, joint])))


def a_leg(category: Category) -> int:
    return next(j for j in limb_roots(category.skeleton) if category.skeleton.roles[j] == "limb")


def test_limbs_begin_where_their_role_does(toy_category: Category) -> None:
    skeleton = toy_category.skeleton
    roots = limb_roots(skeleton)
    for j in roots:
        assert skeleton.roles[int(skeleton.parents[j])] != skeleton.roles[j] or skeleton.roles[j] == "spine"
    hanging = {k for limb in limbs_of(BodyModel(toy_category, coarse_of(toy_category, 300))) for k in limb.joints}
    limbs = {j for j, role in enumerate(skeleton.roles) if role in ("limb", "tail", "head")}
    assert limbs <= hanging and 0 not in hanging


def test_the_first_offset_is_none_and_all_are_as_likely_as_the_steps_say(toy_category: Category) -> None:
    model = BodyModel(toy_category, coarse_of(toy_category, 300))
    for limb in limbs_of(model):
        assert (limb.offsets[0] == 0).all() and len(limb.offsets) == 45
        index = limb.unknowns.ravel() - 6
        within = np.linalg.inv(model.pose_errors.correlation[np.ix_(index, index)])
        flat = limb.offsets.reshape(45, -1)
        far = np.sqrt(np.einsum("cn,nm,cm->c", flat, within, flat))
        assert far.max() == pytest.approx(np.sqrt(1.8**2 + 2 * 1.1**2), rel=1e-4)


def test_a_leg_in_the_wrong_place_goes_to_the_masks(toy_category: Category, clip: Case) -> None:
    leg = a_leg(toy_category)
    wrong = bent(clip.motion, leg, 0.45)
    changed = search(toy_category, clip, wrong)
    assert changed is not None
    before, after = (
        off(toy_category, wrong, clip.motion, u, leg) for u in (np.zeros_like(changed), changed)
    )
    assert before.mean() == pytest.approx(np.degrees(0.45), abs=1e-3) and after.mean() < 0.75 * before.mean()


def test_limbs_that_are_right_stay_and_an_empty_mask_moves_none(toy_category: Category, clip: Case) -> None:
    changed = search(toy_category, clip, clip.motion)
    if changed is not None:
        assert np.abs(changed).max() < 0.35  # a cell of the silhouette, not another leg's place
    nothing = replace(clip, masks=np.zeros_like(clip.masks))
    assert search(toy_category, nothing, clip.motion) is None


def test_one_bad_mask_does_not_make_a_leg_jump(toy_category: Category, clip: Case) -> None:
    leg = a_leg(toy_category)
    masks = clip.masks.copy()
    masks[6] = masks[6][:, ::-1]  # one frame shows something else
    changed = search(toy_category, replace(clip, masks=masks), clip.motion)
    first = 6 + 3 * (leg - 1)
    if changed is not None:
        step = np.abs(np.diff(changed[:, first : first + 3], axis=0)).max(1)
        assert step.max() < 0.3


def test_the_fit_ends_nearer_with_the_search_than_without(toy_category: Category, clip: Case) -> None:
    leg = a_leg(toy_category)
    wrong = bent(clip.motion, leg, 0.6)
    ends = []
    for evidence in (0.0, DEFAULT_FIT.limb_evidence):
        config = replace(DEFAULT_FIT, limb_evidence=evidence)
        found = fit(toy_category, wrong, clip.prediction, crops_of(clip), clip.center, clip.side, config=config)
        assert ("limbs" in found.seconds) == (evidence > 0)
        ends.append(float(np.nanmean(found.motion.mask_iou)))
    assert ends[1] > ends[0] - 0.002
