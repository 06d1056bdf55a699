# SPDX-License-Identifier: GPL-3.0-or-later
"""Human motion and subjects: limbs point where the motion says, labels lie where the person is, splits are apart."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stick_figure import stick_figure

from dasr_blender.core.rotation import quat_to_matrix, rotvec_to_matrix
from dasr_blender.core.skeleton import forward_kinematics, skin_transforms
from dasr_blender.core.skinning import linear_blend
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.synth import human, motion_files, motions, poses
from dasr_blender.training.synth.human_rigs import HUMAN_RIGS, MOTION_RIGS, anchor_offset, human_rig
from dasr_blender.training.synth.motions import INDEX, LIMBS, NAMES, PARENTS, T_POSE, HumanMotion
from dasr_blender.training.synth.rig import Rig
from dasr_blender.training.synth.rigs_game import GAME_MOTIONS


def a_motion(seed: int, frames: int = 5) -> HumanMotion:
    return poses.pose_motion(np.random.default_rng(seed), frames, 12.0)


def directions(joints: np.ndarray) -> np.ndarray:
    """Unit directions (…, L, 3) of the limbs for joints (…, J, 3)."""
    limbs = list(LIMBS)
    out = joints[..., [j + 1 for j in limbs], :] - joints[..., limbs, :]
    return out / np.linalg.norm(out, axis=-1, keepdims=True)


@pytest.mark.parametrize("arms_down", [0.0, 45.0, 80.0])
def test_another_rest_pose_keeps_where_the_limbs_point(arms_down):
    category = stick_figure(arms_down)
    motion = a_motion(3)
    joints = category.body.joints.astype(float)
    rotations = motions.to_rest(motion.rotations, motions.rest_correction(joints))
    placed = forward_kinematics(category.skeleton, joints, rotations)[..., :3, 3]
    wanted = directions(motions.joint_places(motion.rotations))
    np.testing.assert_allclose(directions(placed), wanted, atol=2e-5)


def test_mirrored_motion_is_the_mirror_image():
    motion = a_motion(4)
    flipped = motions.mirrored(motion)
    ours = motions.joint_places(flipped.rotations)
    theirs = motions.joint_places(motion.rotations)[:, motions.MIRROR] * [-1, 1, 1]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    up = motion.world_from_root[:, :3, 2]
    np.testing.assert_allclose(flipped.world_from_root[:, :3, 2], up * [-1, 1, 1], atol=1e-9)


def motion_file(folder: Path, **turned: tuple[float, ...]) -> Path:
    """A file of two equal frames in which the named joints are turned."""
    frame = [1 / 30, 0.0, 0.9, 0.0]
    for name, width in motion_files._FIELDS:
        frame += list(turned.get(name.replace(".", "_"), (1.0, 0, 0, 0) if width == 4 else (0.0,)))
    path = folder / "humanoid3d_test.txt"
    path.write_text(json.dumps({"Loop": "wrap", "Frames": [frame, frame]}))
    return path


def test_a_motion_file_stands_with_hanging_arms_and_folds_as_people_do(tmp_path):
    half = np.sqrt(0.5)
    motion = motion_files.read_motion_file(
        motion_file(tmp_path, shin_R=(-np.pi / 2,), forearm_L=(np.pi / 2,), thigh_L=(half, 0, 0, half))
    )
    assert motion.fps == pytest.approx(30) and motion.loops and len(motion) == 2
    bones = dict(
        zip((NAMES[j] for j in LIMBS), directions(motions.joint_places(motion.rotations))[0], strict=True)
    )
    for name, aim in (
        ("upper_arm.R", (0, 0, -1)),
        ("forearm.R", (0, 0, -1)),
        ("upper_arm.L", (0, 0, -1)),
        ("forearm.L", (0, -1, 0)),  # the forearm comes forward
        ("shin.R", (0, 1, 0)),  # a folded shin goes back
        ("thigh.L", (0, -1, 0)),  # a lifted thigh goes forward
    ):
        np.testing.assert_allclose(bones[name], aim, atol=1e-6, err_msg=name)


def test_a_motion_file_of_another_figure_is_refused(tmp_path):
    path = tmp_path / "humanoid3d_dog.txt"
    path.write_text(json.dumps({"Loop": "wrap", "Frames": [[0.1] * 20]}))
    with pytest.raises(TrainingError, match="44 columns"):
        motion_files.read_motion_file(path)
    with pytest.raises(FileNotFoundError, match="--motions"):
        motion_files.find_motion_files(tmp_path / "empty")


def test_poses_are_what_they_are_called():
    rng = np.random.default_rng(0)
    height = {}
    for kind in poses.KINDS:
        heights = []
        for _ in range(12):
            rotations, root = poses.draw_pose(rng, kind)
            np.testing.assert_allclose(np.linalg.norm(rotations, axis=-1), 1, atol=1e-9)
            placed = motions.joint_places(rotations[None])[0] @ root.T
            heights.append(placed[:, 2] - placed[0, 2])
        height[kind] = np.mean(heights, axis=0)
    head, knee = INDEX["head"], INDEX["shin.L"]
    assert height["stand"][head] > 0.5 and height["kneel"][head] > 0.35
    assert height["handstand"][head] < -0.3 and height["handstand"][INDEX["foot.L"]] > 0.2
    assert abs(height["lie"][head]) < 0.25
    assert height["bend"][head] < 0.75 * height["stand"][head]
    assert height["sit"][knee] > height["stand"][knee] + 0.2
    for kind in ("kneel", "all_fours"):
        assert height[kind][INDEX["foot.L"]] > height["stand"][INDEX["foot.L"]] + 0.2


def stick_rig() -> Rig:
    """The stick figure in a T-pose as a baked rig with a Quaternius skeleton."""
    body = stick_figure(0.0).body
    spec = HUMAN_RIGS["Casual"]
    names = [n for n in NAMES if n in spec.links]  # toes have no bones
    parents, rows = [], [NAMES.index(n) for n in names]
    for j in rows:
        parents.append(-1 if PARENTS[j] < 0 else names.index(NAMES[PARENTS[j]]))
    rest = np.tile(np.eye(4), (len(names), 1, 1))
    rest[:, :3, 3] = body.joints[rows]
    bone = {j: b for b, j in enumerate(rows)} | {INDEX["toe.L"]: names.index("foot.L")}
    bone[INDEX["toe.R"]] = names.index("foot.R")
    index = np.vectorize(lambda j: bone.get(j, 0))(body.skin_index)
    return Rig(
        name="Casual", vertices=body.vertices.astype(float), faces=body.faces,
        colours=np.full((len(body.vertices), 3), 0.5), point_index=np.arange(len(body.vertices)),
        skin_index=index, skin_weight=body.skin_weight, bone_names=tuple(spec.links[n].bones[0] for n in names),
        bone_parents=np.array(parents), bone_rest=rest, bone_heads=rest[:, :3, 3], bone_tails=rest[:, :3, 3],
        clip_names=(), clip_start=np.array([0]), pose=np.zeros((0, len(names), 4, 4), np.float32), fps=24.0,
    )  # fmt: skip


def test_a_posed_rig_and_its_labels_have_their_joints_in_the_same_places():
    category, person, motion = stick_figure(45.0), human_rig(stick_rig(), np.zeros(1)), a_motion(5)
    vertices, found = person.posed(motion)
    placed = human.labels_of(category, motion, person.morphology, person.posture).placed
    found = found - anchor_offset(found, placed)[:, None]
    with_bone = person.bone >= 0
    assert with_bone.sum() == 20
    np.testing.assert_allclose(found[:, with_bone], placed[:, with_bone], atol=1e-4)
    assert np.isfinite(vertices).all() and np.ptp(vertices, axis=1).max() < 2.6


def test_a_person_in_other_proportions_keeps_its_labels():
    category, motion = stick_figure(45.0), a_motion(5)
    correction = human_rig(stick_rig(), np.zeros(1)).correction
    posture = correction.swapaxes(1, 2) @ motions.rest_correction(category.body.joints)
    person = human_rig(stick_rig(), np.zeros(1), posture)
    same = person.reshaped(category, np.zeros(1))
    np.testing.assert_allclose(same.rig.vertices, person.rig.vertices, atol=1e-9)
    np.testing.assert_allclose(same.rig.bone_heads, person.rig.bone_heads, atol=1e-9)

    other = person.reshaped(category, np.array([1.0]))
    grown = np.ptp(category.body.shaped(np.array([1.0]))[0][:, 2]) / np.ptp(category.body.vertices[:, 2])
    assert grown > 1.05
    tall = np.ptp(other.rig.vertices[:, 2]) / np.ptp(person.rig.vertices[:, 2])
    np.testing.assert_allclose(tall, grown, rtol=0.02)
    np.testing.assert_array_equal(other.posture, person.posture)
    placed = human.labels_of(category, motion, other.morphology, other.posture).placed
    for moved, near in ((other, True), (person, False)):  # labels of a tall one are not those of a short one
        _, found = moved.posed(motion)
        found = found - anchor_offset(found, placed)[:, None]
        off = np.abs(found - placed)[:, moved.bone >= 0].max()
        assert (off < 2e-3) == near, off


def test_a_rig_that_leans_at_rest_has_the_body_lean_with_it():
    category = stick_figure(45.0)
    lean = rotvec_to_matrix(np.array([0.2, 0.1, -0.3]))
    person = human_rig(stick_rig(), np.zeros(1), np.tile(lean, (22, 1, 1)))
    vertices, joints = person._at_rest(category, np.zeros(1))
    np.testing.assert_allclose(vertices, category.body.vertices @ lean.T, atol=1e-6)
    np.testing.assert_allclose(joints, category.body.joints @ lean.T, atol=1e-6)


def test_a_rigs_clip_becomes_the_motion_that_made_it():
    from dataclasses import replace

    rig, motion = stick_rig(), a_motion(6)
    still = replace(motion, rotations=motion.rotations.copy())
    for name in ("toe.L", "toe.R"):
        still.rotations[:, INDEX[name]] = [1, 0, 0, 0]
    turned = motion.world_from_root[:, None, :3, :3] @ motions.global_rotations(
        quat_to_matrix(still.rotations)
    )
    places = np.einsum(
        "tij,tkj->tki", motion.world_from_root[:, :3, :3], motions.joint_places(still.rotations)
    )
    rows = [NAMES.index(n) for n in NAMES if n in HUMAN_RIGS["Casual"].links]
    pose = np.tile(np.eye(4), (len(motion), len(rows), 1, 1))
    pose[:, :, :3, :3] = turned[:, rows]
    pose[:, :, :3, 3] = places[:, rows]
    rig = replace(rig, pose=pose, clip_names=("made",), clip_start=np.array([0, len(motion)]))
    read = next(iter(motions.rig_motions(rig, HUMAN_RIGS["Casual"])))
    np.testing.assert_allclose(quat_to_matrix(read.rotations), quat_to_matrix(still.rotations), atol=1e-5)
    np.testing.assert_allclose(read.world_from_root[:, :3, :3], motion.world_from_root[:, :3, :3], atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_labels_describe_the_body_under_the_clothes(seed):
    category = stick_figure()
    cast = human.Cast((), (), human.figure_of(category), np.zeros(0))
    config = SimpleNamespace(frames=4, fps=12.0, split="train", rig_share=0.0)
    subject = human.human_subject(np.random.default_rng(seed), config, category, [cast])  # type: ignore[arg-type]
    rest, joints = category.body.shaped(subject.morphology)
    posed = linear_blend(
        rest,
        category.body.skin_index,
        category.body.skin_weight,
        skin_transforms(category.skeleton, joints, subject.joint_rotations),
    )
    world = subject.world_from_root
    bare = np.einsum("tij,tvj->tvi", world[:, :3, :3], posed) + world[:, None, :3, 3]
    gap = np.linalg.norm(subject.vertices[:, : len(rest)] - bare, axis=-1)
    assert gap.max() < 0.15 and np.median(gap) < 0.05
    assert subject.coat is not None and len(subject.coat.light) == subject.vertices.shape[1] == len(
        subject.rest
    )
    assert subject.faces.max() < subject.vertices.shape[1]


def test_the_held_out_split_never_leaks(monkeypatch, tmp_path):
    from dasr_blender.training.synth.clips import SynthConfig

    still = np.tile([1.0, 0, 0, 0], (2, 22, 1))
    recorded = [HumanMotion(f"m{i:02d}", still, np.tile(np.eye(4), (2, 1, 1)), 30.0) for i in range(40)]
    monkeypatch.setattr(human, "load_motions", lambda folder, rigs=(): recorded)
    monkeypatch.setattr(
        human,
        "load_human_rig",
        lambda folder, name, category: SimpleNamespace(rig=SimpleNamespace(name=name)),
    )
    names = [n for n in HUMAN_RIGS if n not in MOTION_RIGS]
    for name in names:
        (tmp_path / f"{name}.npz").touch()
    seen = {}
    for split in human.SPLITS:
        config = SynthConfig(rigs=tmp_path, out=tmp_path, category="human", split=split)
        cast = human.human_rigs(config, stick_figure())[0]
        seen[split] = ({r.rig.name for r in cast.rigs}, {m.name for m in cast.motions})
    assert seen["held-out"][0] == {"Suit"} and "Suit" not in seen["train"][0]
    assert seen["unseen-motion"][0] == seen["train"][0] and len(seen["train"][0]) == len(names) - 1
    assert not seen["train"][1] & seen["held-out"][1]
    assert seen["unseen-motion"][1] == seen["held-out"][1] and len(seen["held-out"][1]) == 6
    assert seen["all"] == (set(names), {m.name for m in recorded})
    with pytest.raises(TrainingError, match="split"):
        human.split_motions(recorded, "test")


def test_the_game_s_clips_change_nothing_for_the_others():
    still = np.tile([1.0, 0, 0, 0], (2, 22, 1))

    def clip(name: str, source: str) -> HumanMotion:
        return HumanMotion(name, still, np.tile(np.eye(4), (2, 1, 1)), 30.0, source=source)

    recorded = [clip(f"m{i:02d}", "pybullet_data") for i in range(20)]
    game = [clip(f"g{i:02d}", GAME_MOTIONS) for i in range(20)]
    for split in human.SPLITS:
        before = {m.name for m in human.split_motions(recorded, split)}
        after = {m.name for m in human.split_motions(game + recorded, split)}
        assert before == {name for name in after if name[0] == "m"}
        assert {name for name in after if name[0] == "g"}


def test_a_texture_keeps_its_lights_and_darks():
    rng = np.random.default_rng(3)
    texture = rng.uniform(0.2, 0.8, (400, 3))
    rig = SimpleNamespace(colours=texture, vertices=rng.normal(size=(400, 3)))
    coats = [human._rig_coat(np.random.default_rng(seed), SimpleNamespace(rig=rig)) for seed in range(20)]
    alike = []
    for coat in coats:
        light = coat.light.astype(np.float64)
        same = np.round(texture * 3) == np.round(texture * 3)[0]  # one kind of colour gets one other
        rows = same.all(1)
        alike.append(np.corrcoef(light[rows].mean(1), texture[rows].mean(1))[0, 1])
    assert np.median(alike) > 0.95
    assert np.ptp([coat.light.mean() for coat in coats]) > 0.2


def test_t_pose_is_symmetric():
    np.testing.assert_allclose(T_POSE[motions.MIRROR] * [-1, 1, 1], T_POSE)
