# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips that are cut: every shot by itself, one subject through them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from filmed import acted, film
from tiny_predictor import save_tiny_category
from toy_clips import random_motion
from tracked import Case, angles, case, crops_of, start_of

from dasr_blender import job
from dasr_blender.clip import (
    Clip,
    Masks,
    Subject,
    automatic_masks,
    egomotion,
    find_egomotions,
    standing_still,
)
from dasr_blender.core import (
    Category,
    Motion,
    MotionError,
    find_contacts,
    find_feet,
    find_floor,
    load_category,
    one_world,
    shots_of,
)
from dasr_blender.core.rotation import geodesic, rotvec_to_matrix
from dasr_blender.predict import FitConfig, Fitted, Prediction, Student, fit, track
from dasr_blender.predict.evidence import ClipData, frame_trust
from dasr_blender.predict.twins import doubtful
from dasr_blender.report import make_report

CUT = 12


# ---- what is a shot


def test_shots_of_a_motion_and_of_its_parts(motion: Motion, tmp_path: Path) -> None:
    count = len(motion)
    assert motion.shots == [slice(0, count)] and not len(motion.part(slice(2, 5)).cuts)
    assert replace(motion, cuts=[]).validate().shots == motion.shots
    cut = replace(motion, cuts=np.array([2, 5]))
    assert cut.shots == [slice(0, 2), slice(2, 5), slice(5, count)]
    assert cut.part(slice(1, 6)).cuts.tolist() == [1, 4]
    assert cut.part(np.array([0, 1, 5, 6])).cuts.tolist() == [2]
    whole = Motion.joined([cut.part(shot) for shot in cut.shots])
    again = Motion.joined([cut.part(slice(0, 4)), replace(cut.part(slice(5, count)), cuts=np.array([1]))])
    assert whole.cuts.tolist() == [2, 5] and again.cuts.tolist() == [2, 4, 5]
    np.testing.assert_array_equal(whole.camera_from_root, motion.camera_from_root)
    assert Motion.load(cut.save(tmp_path / "motion.npz")).cuts.tolist() == [2, 5]
    for wrong in ([0], [3, 3], [5, 2], [count]):
        with pytest.raises(MotionError, match="'cuts' must rise"):
            replace(motion, cuts=np.array(wrong)).validate()


def cut_film(category: Category) -> tuple[Motion, Motion]:
    """A walk before one camera, and the same before two: from the cut on it is seen from aside and above."""
    true, _, camera_from_world = acted(category, "still", 2 * CUT, (640, 360), 1.1)
    middle = true.camera_from_root[CUT:, :3, 3].mean(0)
    turn = rotvec_to_matrix(np.array([0.2, 0, 0])) @ rotvec_to_matrix(1.1 * camera_from_world[0, :3, 2])
    seen = np.array(true.camera_from_root, np.float64)
    seen[CUT:, :3, :3] = turn @ seen[CUT:, :3, :3]
    seen[CUT:, :3, 3] = (seen[CUT:, :3, 3] - middle) @ turn.T + middle
    return true, replace(true, camera_from_root=seen, cuts=np.array([CUT]))


def test_a_subject_goes_on_over_one_floor(toy_category: Category) -> None:
    true, cut = cut_film(toy_category)
    found = one_world(toy_category, cut)
    np.testing.assert_array_equal(found.camera_from_root, cut.camera_from_root)
    np.testing.assert_array_equal(found.world_from_camera[:CUT], cut.world_from_camera[:CUT])
    turned = np.rad2deg(geodesic(found.world_from_root[:, :3, :3], true.world_from_root[:, :3, :3]))
    apart = np.linalg.norm(found.world_from_root[:, :3, 3] - true.world_from_root[:, :3, 3], axis=1)
    step = np.linalg.norm(np.diff(true.world_from_root[:, :3, 3], axis=0), axis=1).max()
    assert turned.max() < 4.0 and apart.max() < 2 * step + 0.05
    before = np.rad2deg(geodesic(cut.world_from_root[CUT:, :3, :3], true.world_from_root[CUT:, :3, :3]))
    assert before.min() > 50, "the test's own cameras are to differ"
    normal, height = find_floor(true, find_feet(toy_category, true), toy_category.nominal_size)
    lowest = (find_feet(toy_category, found).lowest @ normal - height).min(1)
    assert np.abs(lowest).max() < 0.05


def test_who_looks_down_at_a_cut_goes_on_the_way_it_stood(toy_category: Category) -> None:
    _, cut = cut_film(toy_category)
    down = rotvec_to_matrix(np.array([1.45, 0, 0]))
    pose, near = np.array(cut.camera_from_root), slice(CUT - 1, CUT + 1)
    pose[near, :3, :3] = pose[near, :3, :3] @ down
    found = one_world(toy_category, replace(cut, camera_from_root=pose)).world_from_root[near, :3, 0]
    assert found[0] @ found[1] > 0.95  # its right stays its right


def test_feet_of_each_shot_stand_for_themselves(toy_category: Category) -> None:
    _, cut = cut_film(toy_category)
    found = find_contacts(toy_category, one_world(toy_category, cut))
    for shot in cut.shots:
        alone = find_contacts(toy_category, cut.part(shot))
        np.testing.assert_array_equal(found.standing[shot], alone.standing)
    assert found.standing.any() and not found.standing.all()
    standing = np.zeros_like(found.standing)
    standing[5:, 0] = standing[CUT:, 1] = standing[CUT + 1 :, 2] = True
    downs = replace(found, standing=standing).touch_downs(cut.cuts)
    assert downs == [(5, found.feet[0]), (CUT + 1, found.feet[2])]  # nobody saw whether it came down at the cut


# ---- what is predicted of it


def both(category: Category) -> tuple[Case, Case, Prediction, tuple[np.ndarray, ...]]:
    """Two clips of one body, and what is known of both as the shots of one: boxes, masks, focal lengths."""
    one = case(category, frames=CUT, noise=0.06, seed=3)
    other = replace(random_motion(category, CUT, 8), morphology=one.motion.morphology)
    two = case(category, noise=0.06, seed=8, motion=other)
    prediction = Prediction.joined([one.prediction, two.prediction])
    given = [np.concatenate([getattr(one, name), getattr(two, name)]) for name in ("center", "side", "masks")]
    return one, two, prediction, (*given, np.concatenate([one.motion.focal_px, two.motion.focal_px]))


def test_predictions_are_parted_and_joined(toy_category: Category) -> None:
    one, two, prediction, _ = both(toy_category)
    assert len(prediction) == 2 * CUT
    np.testing.assert_array_equal(
        prediction.part(slice(CUT, None)).root_rotation, two.prediction.root_rotation
    )
    longer = Prediction.joined([one.prediction, two.prediction.part(slice(0, 4))])
    mean = (CUT * one.prediction.morphology + 4 * two.prediction.morphology) / (CUT + 4)
    np.testing.assert_allclose(longer.morphology, mean)
    assert prediction.surface_map is None


def test_each_shot_is_tracked_as_if_it_were_alone(toy_category: Category) -> None:
    one, two, prediction, given = both(toy_category)
    seen = one.motion.principal_point, one.motion.image_size, one.motion.fps
    shares: list[float] = []
    found = track(
        toy_category, prediction, *given, *seen, cuts=[CUT], progress=lambda share, text: shares.append(share)
    )
    assert found.cuts.tolist() == [CUT] and found.frame_index.tolist() == list(range(2 * CUT))
    assert shares == sorted(shares) and shares[-1] == 1.0
    for shot, own in zip(found.shots, (one, two), strict=True):
        alone = own.run(toy_category)
        np.testing.assert_allclose(found.camera_from_root[shot], alone.camera_from_root)
        np.testing.assert_allclose(found.joint_rotations[shot], alone.joint_rotations)


def test_the_network_is_asked_about_each_shot_by_itself(tmp_path: Path) -> None:
    student = Student(load_category(save_tiny_category(tmp_path)))
    size = student.category.network.input_size
    crops = np.random.default_rng(0).integers(0, 255, (7, 4, size, size), np.uint8)
    info = np.random.default_rng(1).normal(size=(7, 3))
    said = student.run(crops, info, cuts=[3])
    for shot in shots_of(7, [3]):
        alone = student.run(crops[shot], info[shot])
        np.testing.assert_allclose(said.root_rotation[shot], alone.root_rotation, atol=1e-6)
    each = [student.run(crops[shot], info[shot]).morphology for shot in shots_of(7, [3])]
    np.testing.assert_allclose(said.morphology, (3 * each[0] + 4 * each[1]) / 7)


@pytest.mark.parametrize("window", [192, 16])
def test_one_body_is_bent_into_all_shots(toy_category: Category, window: int) -> None:
    """Its proportions are those of all, its poses those of each shot: nothing is smoothed over the cut."""
    one, two, prediction, given = both(toy_category)
    crops = np.concatenate([crops_of(one), crops_of(two)])
    seen = one.motion.principal_point, one.motion.image_size, one.motion.fps
    config = FitConfig(vertices=200)

    def fitted(cuts: list[int]) -> Fitted:
        tracked = track(toy_category, prediction, *given, *seen, cuts=cuts)
        return fit(toy_category, tracked, prediction, crops, *given[:2], config=config)

    config = replace(config, window=window, overlap=6)
    found, as_one = fitted([CUT]), fitted([]).motion
    # longer than a window: the proportions, and each shot
    assert found.motion.cuts.tolist() == [CUT] and len(found.steps) == (1 if window > 2 * CUT else 3)
    true = Motion.joined([one.motion, two.motion])
    near = slice(CUT - 2, CUT + 2)
    off, off_as_one = angles(found.motion, true), angles(as_one, true)
    assert off[near].mean() < 6 and off_as_one[near].mean() > 20 and off.mean() < 5
    overlap = found.motion.mask_iou
    assert (
        np.nanmean(overlap[near]) > 0.88 and np.nanmin(overlap[near]) > np.nanmin(as_one.mask_iou[near]) + 0.1
    )


def test_evidence_does_not_lead_over_a_cut(toy_category: Category) -> None:
    one, two, prediction, given = both(toy_category)
    tracked = track(
        toy_category, prediction, *given, one.motion.principal_point, one.motion.image_size, 24.0, cuts=[CUT]
    )
    data = ClipData(
        start_of(one, one.motion), np.concatenate([crops_of(one), crops_of(two)]), tracked.image_size, prediction,
        np.ones(2 * CUT), None, tracked.cuts,
    )  # fmt: skip
    chosen = np.array([CUT - 3, CUT - 2, CUT - 1, CUT, CUT + 1, CUT + 4, CUT + 5])
    assert data.linked(chosen).tolist() == [True, True, False, True, False, True, False]
    masks = given[2].copy()
    masks[CUT:, :, :40] = 0  # from the cut on only half of it is seen
    whole = frame_trust(masks, given[1], None)
    apart = frame_trust(masks, given[1], None, tracked.shots)
    np.testing.assert_array_equal(apart[:CUT], frame_trust(masks[:CUT], given[1][:CUT], None))
    np.testing.assert_array_equal(apart[CUT:], frame_trust(masks[CUT:], given[1][CUT:], None))
    assert not np.array_equal(whole, apart)


def test_a_stretch_that_looks_alike_ends_at_a_cut() -> None:
    agreement = np.full(40, 0.9)
    agreement[15:25] = 0.5
    found = doubtful(agreement, np.ones(40), [slice(0, 20), slice(20, 40)])
    assert sorted((s.start, s.stop) for s in found) == [(15, 20), (20, 25)]
    assert [(s.start, s.stop) for s in doubtful(agreement, np.ones(40))] == [(15, 25)]


# ---- the camera


def test_a_pan_of_one_shot_tells_the_lens_of_the_others(
    toy_category: Category, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = film(toy_category, "still", frames=12, size=(160, 90))
    clip = replace(made.clip, cuts=np.array([4, 8]))
    asked: list[tuple[int, float, bool]] = []

    def find(clip: Clip, masks: Masks, focal: float, calibrate: bool, **_: object) -> egomotion.Egomotion:
        assert len(clip) == len(masks) == 4
        first = int(clip.frame_index[0])
        asked.append((first, focal, calibrate))
        warnings = [f"It leaves {first}.5 pixels: {egomotion.SOLVE}"] if first else []
        moved = replace(standing_still(4, warnings), still=first == 0, travels=first == 8)
        return replace(moved, focal=210.0 if first == 4 and calibrate else None)

    monkeypatch.setattr(egomotion, "find_egomotion", find)
    found = find_egomotions(clip, made.subject, 190.0)
    assert [shot.focal for shot in found.shots] == [210.0] * 3
    # one that stands still is not looked at again, one that moves is, with the focal length that is known
    assert asked == [(0, 190.0, True), (4, 190.0, True), (8, 190.0, True), (8, 210.0, False)]
    assert found.warnings == [f"It leaves 4.5 pixels: reconstruct its shot alone and {egomotion.SOLVE}"]
    assert not found.still and found.travels
    assert found.trust.tolist() == [1.0] * 4 + [0.0] * 4 + [egomotion.FEET] * 4
    motion = found.filmed(toy_category, replace(made.motion, cuts=clip.cuts))
    assert motion.cuts.tolist() == [4, 8] and len(motion) == 12


# ---- the masks


def redness(image: np.ndarray) -> np.ndarray:
    """Stand-in for the network: what is red or blue stands out."""
    colour = image.astype(np.float32).max(axis=2) - np.median(image.astype(np.float32), axis=2)
    return cv2.resize((colour > 60).astype(np.float32), (320, 320), interpolation=cv2.INTER_AREA)


def shots_of_ellipses(*shots: list[tuple[tuple[int, int], tuple[int, int], tuple[int, int, int]]]) -> Clip:
    """Eight frames a shot, each before a ground of its own; ellipses (place, axes, colour) that move to the right."""
    frames = []
    for n, bodies in enumerate(shots):
        noise = np.random.default_rng(n).integers(0, 90, (20, 30, 1)).astype(np.float32)
        ground = cv2.resize(noise, (240, 160), interpolation=cv2.INTER_CUBIC)[..., None].repeat(3, 2) + 40 * n
        for t in range(8):
            frame = ground.clip(0, 255).astype(np.uint8)
            for (x, y), axes, colour in bodies:
                cv2.ellipse(frame, (x + 3 * t, y), axes, 0, 0, 360, colour, -1)
            frames.append(frame)
    pixels = np.stack(frames)
    cuts = 8 * np.arange(1, len(shots))
    return Clip(
        24.0, (240, 160), (240, 160), np.arange(len(pixels)), "c", len(pixels), "0", pixels, cuts=cuts
    )


def shown(masks: Masks, frame: int) -> tuple[float, float, int]:
    """Middle and area of a mask."""
    rows, columns = np.nonzero(masks.mask(frame))
    return float(columns.mean()), float(rows.mean()), len(rows)


RED, BLUE = (230, 50, 40), (40, 60, 230)


def test_the_subject_is_looked_for_in_every_shot() -> None:
    clip = shots_of_ellipses([((60, 50), (24, 13), RED)], [((150, 110), (30, 18), RED)])
    steps: list[float] = []
    masks = automatic_masks(clip, network=redness, progress=lambda share, _: steps.append(share))
    for t in range(16):
        x, y = ((60, 50), (150, 110))[t // 8]
        assert np.hypot(shown(masks, t)[0] - x - 3 * (t % 8), shown(masks, t)[1] - y) < 3, t
    assert not masks.interpolated.any() and steps == sorted(steps) and steps[-1] <= 1.0


def test_another_shot_shows_the_one_that_was_picked() -> None:
    """The blue one is larger in both shots; the red one is picked in the second, and has its colours in the first."""
    red, blue = ((60, 50), (24, 13), RED), ((130, 110), (34, 20), BLUE)
    clip = shots_of_ellipses([red, blue], [((90, 120), (24, 13), RED), ((70, 45), (34, 20), BLUE)])
    alone = automatic_masks(clip, network=redness)
    assert abs(shown(alone, 0)[1] - 110) < 3 and abs(shown(alone, 12)[1] - 45) < 3
    assert alone.warnings and "frame 8" not in alone.warnings[0]
    picked = automatic_masks(clip, Subject(9, point=(95, 120)), network=redness)
    assert abs(shown(picked, 2)[1] - 50) < 3 and abs(shown(picked, 12)[1] - 120) < 3


def test_a_shot_without_the_subject_is_filled_from_its_neighbours() -> None:
    clip = shots_of_ellipses([((60, 50), (24, 13), RED)], [], [((150, 110), (30, 18), RED)])
    masks = automatic_masks(clip, network=redness)
    assert masks.interpolated.tolist() == [False] * 8 + [True] * 8 + [False] * 8
    np.testing.assert_array_equal(masks.packed[9], masks.packed[7])
    np.testing.assert_array_equal(masks.packed[15], masks.packed[16])


def test_gaps_are_filled_within_a_shot() -> None:
    left, right = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    left[5:15, 2:12], right[5:15, 28:38] = True, True
    frames = [left, None, None, right, right]
    np.testing.assert_array_equal(Masks.pack(frames, "folder", cuts=[2]).mask(1) > 0, left)
    np.testing.assert_array_equal(Masks.pack(frames, "folder", cuts=[2]).mask(2) > 0, right)
    between = Masks.pack(frames, "folder").mask(1) > 0
    assert between.any() and not (between & left).all()


# ---- all of it


def test_every_second_frame_is_a_clip_of_half_the_rate(toy_category: Category, tmp_path: Path) -> None:
    """Times are seconds, whatever a step leaves out."""
    made = film(toy_category, "pan", frames=24, size=(160, 90))
    bundle = save_tiny_category(tmp_path)
    for t in range(24):
        for folder in ("all", "half") if t % 2 == 0 else ("all",):
            for kind, picture in (("frames", made.frames[t][..., ::-1]), ("masks", made.masks[t])):
                path = tmp_path / folder / kind
                path.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path / f"{t:03d}.png"), picture)
    found = []
    for folder, step, fps in (("all", 2, 24.0), ("half", 1, 12.0)):
        given = {
            kind: str(tmp_path / folder / where) for kind, where in (("clip", "frames"), ("masks", "masks"))
        }
        options = job.JobOptions(
            **given,
            category=str(bundle),
            out=str(tmp_path / f"{folder}-out"),
            step=step,
            fps=fps,
            overlay=False,
        )
        found.append(job.run_job(options).motion)
    stepped, half = found
    assert stepped.fps == 24 and stepped.frame_index.tolist() == list(range(0, 24, 2)) and half.fps == 12
    np.testing.assert_allclose(stepped.camera_from_root, half.camera_from_root, atol=1e-9)
    np.testing.assert_allclose(stepped.joint_rotations, half.joint_rotations, atol=1e-9)


def test_a_job_over_two_shots(toy_category: Category, tmp_path: Path) -> None:
    made = [
        film(toy_category, kind, frames=14, size=(256, 144), seed=seed)
        for kind, seed in (("pan", 0), ("still", 5))
    ]
    bundle = save_tiny_category(tmp_path)
    (tmp_path / "frames").mkdir(), (tmp_path / "masks").mkdir()
    for t in range(28):
        shot = made[t // 14]
        picture = shot.frames[t % 14] if t < 14 else 255 - shot.frames[t % 14]  # by night
        cv2.imwrite(str(tmp_path / "frames" / f"{t:03d}.png"), picture[..., ::-1])
        cv2.imwrite(str(tmp_path / "masks" / f"{t:03d}.png"), shot.masks[t % 14])
    options = job.JobOptions(
        clip=str(tmp_path / "frames"),
        masks=str(tmp_path / "masks"),
        category=str(bundle),
        out=str(tmp_path / "out"),
    )
    result = job.run_job(options)
    motion = Motion.load(result.motion_path)
    assert motion.cuts.tolist() == [14] and any("begins at frame 14" in text for text in result.warnings)
    assert make_report(result, {})["clip"]["shots"] == [[0, 13], [14, 27]]
    step = np.linalg.norm(np.diff(motion.world_from_root[:, :3, 3], axis=0), axis=1)
    assert step[13] < 0.3 and result.filming is not None and len(result.filming.egomotion.shots) == 2
    again = job.run_job(options)
    assert {"masks", "camera", "student"} <= set(again.reused)
    np.testing.assert_allclose(again.motion.camera_from_root, motion.camera_from_root, atol=1e-9)


def test_another_rate_may_show_other_cuts(toy_category: Category, tmp_path: Path) -> None:
    """What was kept of shots serves no clip that is parted elsewhere: two changes near each other are a flash."""
    made = film(toy_category, "still", frames=24, size=(160, 90))
    (tmp_path / "frames").mkdir(), (tmp_path / "masks").mkdir()
    for t in range(24):
        picture = 255 - made.frames[t] if 8 <= t < 16 else made.frames[t]
        cv2.imwrite(str(tmp_path / "frames" / f"{t:03d}.png"), picture[..., ::-1])
        cv2.imwrite(str(tmp_path / "masks" / f"{t:03d}.png"), made.masks[t])
    options = job.JobOptions(
        clip=str(tmp_path / "frames"),
        masks=str(tmp_path / "masks"),
        category=str(save_tiny_category(tmp_path)),
        out=str(tmp_path / "out"),
        overlay=False,
    )
    assert job.run_job(options).motion.cuts.tolist() == [8, 16]
    flash = job.run_job(replace(options, fps=60.0))
    fresh = job.run_job(replace(options, fps=60.0, out=str(tmp_path / "fresh")))
    assert not len(flash.motion.cuts) and len(fresh.motion) == 24
    np.testing.assert_allclose(flash.motion.camera_from_root, fresh.motion.camera_from_root, atol=1e-9)
