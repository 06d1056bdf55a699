# SPDX-License-Identifier: GPL-3.0-or-later
"""A rig made of the toy body itself, in known proportions and motion: the mapping must find them again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy import save_toy_category, toy_category_in_memory, toy_rotations

from dasr_blender.core import load_category, save_category
from dasr_blender.core.rotation import (
    geodesic,
    matrix_to_quat,
    quat_to_matrix,
    rotvec_to_matrix,
    rotvec_to_quat,
)
from dasr_blender.core.skeleton import forward_kinematics
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.synth import mapped, mapping
from dasr_blender.training.synth.fit_rig import FitConfig, TorchBody, rotation_matrix
from dasr_blender.training.synth.rig import Rig, rig_map
from dasr_blender.training.synth.rigs import RIGS, Chain, Link, RigSpec

SCALE = 1.3
JAW = 7
QUICK = FitConfig(joint_steps=120, surface_steps=60, pose_steps=40, pose_vertices=250)


@pytest.fixture(scope="module")
def category():
    return toy_category_in_memory()


@pytest.fixture(scope="module")
def truth(category):
    """Proportions, rotations (T,J,4) and roots (T,4,4) of the made-up rig: it walks in a half circle."""
    beta = np.zeros(len(category.morphology))
    beta[[0, 1, 3]] = 0.3, -0.2, 0.4  # leg_length, body_length, neck_length
    rotations = toy_rotations(category.skeleton, 12, amount=0.25)
    rotations[:, JAW] = [1, 0, 0, 0]  # no bone for it
    bend = 0.25 * np.sin(np.arange(12))[:, None] * np.array([1.0, 0.3, 0.5])
    for name, part in (("pelvis", 1.0), ("spine", 0.0), ("chest", -1.0)):  # the root is the mean of both ends
        rotations[:, category.skeleton.index(name)] = rotvec_to_quat(part * bend)
    roots = np.tile(np.eye(4), (12, 1, 1))
    roots[:, :3, :3] = rotvec_to_matrix(np.linspace(0, np.pi, 12)[:, None] * np.array([0, 0, 1.0]))
    roots[:, :3, 3] = np.linspace(0, 1, 12)[:, None] * np.array([0.5, -1.0, 0.1]) + [0, 0, 0.6]
    return beta, rotations, roots


@pytest.fixture(scope="module")
def rig(category, truth):
    beta, rotations, roots = truth
    vertices, joints = category.body.shaped(beta)
    bones = np.delete(np.arange(len(joints)), JAW)
    instead = np.searchsorted(bones, np.arange(len(joints)))
    instead[JAW] = int(np.flatnonzero(bones == category.skeleton.parents[JAW])[0])
    rest = np.tile(np.eye(4), (len(bones), 1, 1))
    rest[:, :3, :3] = rotvec_to_matrix(np.random.default_rng(0).normal(size=(len(bones), 3)))  # any bone axes
    rest[:, :3, 3] = joints[bones]
    posed = roots[:, None] @ forward_kinematics(category.skeleton, joints, rotations)[:, bones]
    posed[..., :3, :3] = posed[..., :3, :3] @ rest[None, :, :3, :3]
    names = tuple("bone_" + category.skeleton.names[b] for b in bones)
    whole = Rig(
        name="made_up",
        vertices=vertices,
        faces=category.body.faces,
        colours=np.full_like(vertices, 0.5),
        point_index=np.arange(len(vertices)),
        skin_index=instead[category.body.skin_index],
        skin_weight=category.body.skin_weight,
        bone_names=names,
        bone_parents=instead[np.maximum(category.skeleton.parents[bones], 0)] - (bones == 0),
        bone_rest=rest,
        bone_heads=joints[bones],
        bone_tails=joints[bones] + [0, 0, 0.1],
        clip_names=("walk", "turn"),
        clip_start=np.array([0, 5, 12]),
        pose=posed.astype(np.float32),
        fps=24.0,
    )
    return whole.scaled(SCALE)


def save_rig(path, rig):
    names = ("vertices", "faces", "colours", "point_index", "skin_index", "skin_weight", "bone_parents")
    arrays = {
        n: getattr(rig, n) for n in (*names, "bone_rest", "bone_heads", "bone_tails", "clip_start", "pose")
    }
    arrays |= {
        "bone_names": np.array(rig.bone_names),
        "clip_names": np.array(rig.clip_names),
        "fps": np.array(24.0),
    }
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def spec(category):
    links = {n: Link(("bone_" + n,), "bone_" + n) for i, n in enumerate(category.skeleton.names) if i != JAW}
    return RigSpec(links)


@pytest.fixture(scope="module")
def motion(category, rig, spec):
    torch.set_num_threads(1)
    return mapping.map_rig(category, rig, spec, QUICK)


def test_the_pose_is_found_again(category, truth, motion):
    _, rotations, roots = truth
    off = np.degrees(geodesic(quat_to_matrix(motion.joint_rotations), quat_to_matrix(rotations)))
    limbs = [
        i for i, n in enumerate(category.skeleton.names) if n.startswith(("front", "hind", "neck", "head"))
    ]
    assert np.median(off[:, limbs]) < 4 and off[:, limbs].mean() < 6
    turned = np.degrees(geodesic(motion.rig_from_root[:, :3, :3], roots[:, :3, :3]))
    assert turned.max() < 8
    assert np.linalg.det(motion.rig_from_root[:, :3, :3]) == pytest.approx(1, abs=1e-4)


def test_the_body_lies_on_the_rig_in_every_pose(category, rig, motion):
    assert motion.joint_error < 0.03 and motion.surface_error < 0.03
    ours = mapping.posed_body(category, motion, np.arange(12))
    gap = np.linalg.norm(ours - rig.scaled(1 / motion.scale).skin(slice(0, 12)), axis=-1)
    assert gap.mean() < 0.02  # metres, vertex by vertex: left is left and front is front


def test_proportions_and_size_are_found_again(category, truth, motion):
    beta = truth[0]
    joints = category.body.shaped(beta)[1] * SCALE
    found = category.body.shaped(motion.morphology)[1] * motion.scale
    for a, b in (("front_lower.L", "front_foot.L"), ("chest", "pelvis"), ("neck_1", "head")):
        i, j = category.skeleton.index(a), category.skeleton.index(b)
        length = np.linalg.norm(joints[i] - joints[j])
        assert np.linalg.norm(found[i] - found[j]) == pytest.approx(length, rel=0.12), (a, b)


def test_a_joint_without_bones_keeps_its_rest(motion):
    assert np.ptp(motion.joint_rotations[:, JAW], axis=0).max() < 1e-6


def test_signs_are_continuous_and_the_root_is_not_rotated(motion):
    assert np.all(motion.joint_rotations[:, 0] == [1, 0, 0, 0])
    for clip in ("walk", "turn"):
        part = motion.joint_rotations[motion.clip_slice(clip)]
        assert np.all(np.sum(part[1:] * part[:-1], -1) > 0)


def test_chains_are_sampled_by_arc_length(category, rig):
    names = category.skeleton.names
    tail = tuple(f"bone_tail_{i}" for i in (1, 2, 3, 4))
    spec = RigSpec(
        {"head": Link(("bone_head",), "bone_head")},
        (
            Chain(("tail_1", "tail_2", "tail_3", "tail_4"), tail, to_tip=True),
            Chain(("neck_1", "neck_2"), ("bone_neck_1", "bone_head"), to_tip=False),
        ),
    )
    got = rig_map(rig, names, category.body.joints, spec)
    index = {n: i for i, n in enumerate(names)}
    heads = dict(zip(rig.bone_names, rig.bone_heads, strict=True))
    assert got.point[index["tail_1"]] == pytest.approx(heads["bone_tail_1"])
    assert got.point[index["neck_1"]] == pytest.approx(heads["bone_neck_1"])
    a, b, middle = heads["bone_neck_1"], heads["bone_head"], got.point[index["neck_2"]]
    assert np.linalg.norm(middle - a) + np.linalg.norm(b - middle) == pytest.approx(np.linalg.norm(b - a))
    rows = [index[j] for j in ("tail_1", "tail_2", "tail_3", "tail_4", "neck_1", "neck_2")]
    assert got.rotation_weight[rows].sum(1) == pytest.approx(1)
    assert list(np.flatnonzero(~np.isnan(got.tip[:, 0]))) == [index["tail_4"]]
    assert (
        not got.has_point[index["pelvis"]]
        and np.isnan(got.points(rig, slice(0, 2))[:, index["pelvis"]]).all()
    )


def test_joints_without_bones_turn_with_their_parent(category, rig):
    spec = RigSpec({"head": Link(("bone_head",), "bone_head")})
    got = rig_map(rig, category.skeleton.names, category.body.joints, spec)
    turns = got.turns(rig, slice(0, 12), category.skeleton.parents)
    assert turns[:, JAW] == pytest.approx(turns[:, category.skeleton.index("head")])
    assert turns[:, 0] == pytest.approx(np.tile([1, 0, 0, 0], (12, 1)))


def test_torch_body_agrees_with_the_core(category, truth):
    _, rotations, _ = truth
    beta = np.linspace(-0.2, 0.3, len(category.morphology))
    body = TorchBody(category)
    vertices, joints = body.shaped(torch.tensor(beta, dtype=torch.float32))
    local = torch.tensor(quat_to_matrix(rotations), dtype=torch.float32)
    posed, placed = body.pose(vertices, joints, body.skin, local)
    expected = category.posed_vertices(beta, rotations)
    assert posed.numpy() == pytest.approx(expected, abs=1e-5)
    core = forward_kinematics(category.skeleton, category.body.shaped(beta)[1], rotations)
    assert placed.numpy() == pytest.approx(core[..., :3, 3], abs=1e-5)
    vectors = np.random.default_rng(1).normal(size=(20, 3))
    ours = rotation_matrix(torch.tensor(vectors, dtype=torch.float32)).numpy()
    assert ours == pytest.approx(rotvec_to_matrix(vectors), abs=1e-5)


def test_limits_are_counted_by_joint(category, motion):
    rotations = np.tile([1.0, 0, 0, 0], (4, len(category.skeleton), 1))
    rotations[0, 11] = rotvec_to_quat(np.array([3.0, 0, 0]))
    still = mapping.RigMotion(**{**vars(motion), "joint_rotations": rotations})
    beyond = mapping.beyond_limits(category, still)
    assert beyond[11] == pytest.approx(0.25) and beyond.sum() == pytest.approx(0.25)


def test_the_command_maps_a_folder_once_and_prints_the_table(
    tmp_path, rig, spec, motion, monkeypatch, capsys
):
    bundle = save_toy_category(tmp_path)
    folder = tmp_path / "rigs"
    folder.mkdir()
    save_rig(folder / "made_up.npz", rig)
    loaded = mapping.load_rig(folder / "made_up.npz")
    assert loaded.skin(3) == pytest.approx(rig.skin(3), abs=1e-5)
    asked = []

    def known(category, asked_rig, *_):
        asked.append(asked_rig.name)
        return motion

    monkeypatch.setattr(mapping, "map_rig", known)
    monkeypatch.setitem(RIGS, "made_up", spec)
    assert mapping.main_map([str(folder), "--category", str(bundle)]) == 0
    assert mapping.main_map([str(folder), "--category", str(bundle)]) == 0
    assert asked == ["made_up"]
    assert "surface %" in capsys.readouterr().out
    again = mapping.load_mapping(folder / "made_up.mapping.npz")
    assert again.joint_rotations == pytest.approx(motion.joint_rotations)
    assert (again.rig, again.scale, list(again.clip_names)) == ("made_up", motion.scale, ["walk", "turn"])
    assert matrix_to_quat(again.rig_from_root[:, :3, :3]).shape == (12, 4)


def bundle_of(folder, category, version="1.0.0", **body):
    """The category in a folder of its own, as another version and with some of its body changed."""
    changed = replace(category, version=version, body=replace(category.body, **body))
    return load_category(save_category(changed, folder / "toy"))


def test_a_mapping_outlives_a_new_version_and_not_a_new_body(
    tmp_path, category, rig, spec, motion, monkeypatch
):
    rigs = tmp_path / "rigs"
    rigs.mkdir()
    save_rig(rigs / "made_up.npz", rig)
    monkeypatch.setitem(RIGS, "made_up", spec)
    path = rigs / "made_up.mapping.npz"
    newer = bundle_of(
        tmp_path / "newer", category, "2.0.0", appearance_mean=category.body.appearance_mean * 0.5
    )
    longer = bundle_of(tmp_path / "longer", category, vertices=category.body.vertices * [1, 1.1, 1])
    softer = bundle_of(tmp_path / "softer", category, skin_index=category.body.skin_index[:, [1, 0, 2, 3]])
    other = replace(newer, name="other")

    def holds(of) -> bool:
        try:
            return mapped.load_mapped_rig(rigs, "made_up", of).name == "made_up"
        except TrainingError as error:
            assert "run the command map again" in str(error)
            return False

    motion.save(path)
    assert mapping.load_mapping(path).body == motion.body != ""
    assert [holds(c) for c in (newer, longer, softer, other)] == [True, False, False, False]

    # a file of an earlier version is believed when the body leaves the errors that it tells of
    replace(motion, body="").save(path)
    with np.load(path) as stored:
        arrays = {k: stored[k] for k in stored.files if k != "body"}
    np.savez(path, **arrays)
    assert mapping.load_mapping(path).body == ""
    assert [holds(c) for c in (newer, longer, softer, other)] == [True, False, False, False]
    with_less = replace(newer, morphology=newer.morphology[:-1])
    assert not holds(with_less)

    # and the command keeps what holds, noting that it does, and makes anew what does not
    made = []
    monkeypatch.setattr(mapping, "map_rig", lambda category, *_: made.append(category.version) or motion)
    mapping.map_all(rigs, newer)
    assert made == [] and mapping.load_mapping(path).body == motion.body
    mapping.map_all(rigs, longer)
    assert made == ["1.0.0"]


def test_an_unknown_rig_is_an_error(category, rig):
    assert "made_up" not in RIGS
    with pytest.raises(KeyError, match="made_up"):
        rig_map(rig, category.skeleton.names, category.body.joints)
