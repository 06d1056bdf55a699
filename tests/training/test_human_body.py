# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped human's body, and the steps that make one from MakeHuman's material."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from dasr_blender.core import Category, CategoryError, load_category
from dasr_blender.core.rotation import quat_to_rotvec
from dasr_blender.training.body import main
from dasr_blender.training.body.decimate import decimate
from dasr_blender.training.body.human_landmarks import NAMES, profiles, skeleton, split
from dasr_blender.training.body.makehuman import Macro, MakeHuman
from dasr_blender.training.body.poses import HUMAN_POSES, PEOPLE
from dasr_blender.training.body.sheet import morphology_sheet, pose, typical

SOURCE = Path(__file__).parents[3] / "shared" / "data" / "human" / "makehuman"
FLIP = np.array([-1.0, 1, 1])

needs_source = pytest.mark.skipif(
    not SOURCE.is_dir(), reason="MakeHuman's data lies in ../shared, which is absent"
)


@pytest.fixture(scope="module")
def human() -> Category:
    return load_category("human")


def edges_of(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.sort(np.concatenate([faces[:, [i, (i + 1) % 3]] for i in range(3)]), 1)
    return np.unique(edges, axis=0, return_counts=True)


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(np.einsum("fi,fi", a, np.cross(b, c)) / 6)


def test_every_profile_names_every_joint_once(human: Category) -> None:
    assert set(human.profiles) == {"neutral", "rigify", "mixamo", "unreal", "unity"}
    for bones in human.profiles.values():
        assert tuple(bones) == human.skeleton.names == NAMES
        assert len(set(bones.values())) == len(NAMES)
    assert human.profiles["mixamo"]["forearm.L"] == "mixamorig:LeftForeArm"
    assert (
        human.profiles["unreal"]["toe.R"] == "ball_r" and human.profiles["unity"]["shin.R"] == "RightLowerLeg"
    )
    assert human.profiles == profiles()


def test_the_skin_is_one_closed_surface(human: Category) -> None:
    body = human.body
    _, times = edges_of(body.faces)
    assert np.all(times == 2)
    assert len(body.vertices) - len(times) + len(body.faces) == 2  # Euler: a sphere
    assert len(np.unique(body.faces)) == len(body.vertices)
    assert 0.05 < volume(body.vertices, body.faces) < 0.11  # cubic metres: a person of 1.7 m, facing outward
    assert np.abs(body.skin_weight.sum(1) - 1).max() < 1e-5


def test_stature_and_where_it_looks(human: Category) -> None:
    rest, at = human.body.joints, human.skeleton.index
    assert np.ptp(human.body.vertices[:, 2]) == pytest.approx(1.7, abs=0.03)
    trunk = np.linalg.norm(rest[at("upper_arm.L")] - rest[at("thigh.L")])
    assert human.nominal_size == pytest.approx(trunk, abs=0.02)
    assert rest[at("hand.L"), 0] > 0.3 and rest[at("toe.L"), 1] < rest[at("foot.L"), 1] - 0.05
    for side in "LR":  # the arm is straight, so that bones point along it in any program
        upper, fore, hand = (rest[at(f"{n}.{side}")].astype(float) for n in ("upper_arm", "forearm", "hand"))
        a, b = fore - upper, hand - fore
        assert a @ b > 0.98 * np.linalg.norm(a) * np.linalg.norm(b)


def test_left_and_right_are_mirror_images(human: Category) -> None:
    body, skeleton_ = human.body, human.skeleton
    other = body.mirror_vertex
    assert np.array_equal(other[other], np.arange(len(other)))
    np.testing.assert_allclose(body.vertices[other] * FLIP, body.vertices, atol=1e-6)
    np.testing.assert_allclose(body.joints[skeleton_.mirror] * FLIP, body.joints, atol=1e-6)
    np.testing.assert_allclose(body.morphology_vertices[:, other] * FLIP, body.morphology_vertices, atol=1e-6)
    np.testing.assert_allclose(body.appearance_basis[:, other], body.appearance_basis, atol=1e-6)
    dense = np.zeros((len(other), len(NAMES)))
    np.add.at(dense, (np.arange(len(other))[:, None], body.skin_index), body.skin_weight)
    np.testing.assert_allclose(dense[other][:, skeleton_.mirror], dense, atol=1e-5)
    flipped = skeleton_.limits[skeleton_.mirror] * np.array([1, -1, -1])[None, :, None]
    np.testing.assert_allclose(np.sort(flipped, -1), skeleton_.limits)


@pytest.mark.parametrize("name", sorted(PEOPLE))
def test_typical_people_are_whole(human: Category, name: str) -> None:
    beta = typical(human, name)
    low, high = human.morphology_range.T
    assert np.all((beta >= low) & (beta <= high))
    vertices, joints = human.body.shaped(beta)
    size = volume(vertices, human.body.faces) / volume(human.body.vertices, human.body.faces)
    assert 0.5 < size < 2.2
    inside = vertices.min(0) < joints
    assert inside.all() and (joints < vertices.max(0)).all()


def test_lengths_grow_as_named(human: Category) -> None:
    at, names = human.skeleton.index, human.morphology_names

    def length(name: str, value: float, start: str, end: str) -> float:
        beta = np.zeros(len(names))
        beta[names.index(name)] = value
        joints = human.body.shaped(beta)[1]
        return float(np.linalg.norm(joints[at(end)] - joints[at(start)]))

    for name, start, end in (
        ("leg_length", "thigh.L", "foot.L"), ("arm_length", "upper_arm.R", "hand.R"),
        ("shoulder_width", "upper_arm.L", "upper_arm.R"),
    ):  # fmt: skip
        assert length(name, 0.2, start, end) == pytest.approx(1.2 * length(name, 0.0, start, end), rel=2e-3)
    beta = np.zeros(len(names))
    beta[names.index("clothing_legs")] = 1.0
    shift = np.linalg.norm(human.body.shaped(beta)[0] - human.body.vertices, axis=1)
    assert shift.max() == pytest.approx(0.03, rel=0.02) and np.median(shift[human.body.owner < 14]) == 0


@pytest.mark.parametrize("name", sorted(HUMAN_POSES))
def test_poses_do_not_tear_or_collapse_the_skin(human: Category, name: str) -> None:
    body = human.body
    rotations = pose(human, HUMAN_POSES[name])
    wanted = np.zeros((len(NAMES), 3))
    for joint, vector in HUMAN_POSES[name].items():
        wanted[human.skeleton.index(joint)] = vector
    np.testing.assert_allclose(
        quat_to_rotvec(rotations), wanted, atol=1e-6
    )  # the limits allow what people do
    posed = human.posed_vertices(None, rotations[None])[0]
    edges, _ = edges_of(body.faces)
    rest, now = (np.linalg.norm(v[edges[:, 0]] - v[edges[:, 1]], axis=1) for v in (body.vertices, posed))
    assert np.percentile(now / rest, 99) < 2.2 and np.percentile(now / rest, 1) > 0.25
    assert 0.85 < volume(posed, body.faces) / volume(body.vertices, body.faces) < 1.12


def test_sheet_shows_every_proportion(human: Category) -> None:
    size = 24
    picture = morphology_sheet(human, size)
    tiles = 8 + 2 * len(human.morphology)
    assert picture.shape == (tiles // 4 * size, 4 * 2 * size, 3) and picture.min() < 120


def test_decimation_keeps_a_subset_and_closes_under_mirroring() -> None:
    count = 13
    u, v = np.meshgrid(np.linspace(0, np.pi, count), np.linspace(0, 1, count), indexing="ij")
    height = 0.2 * np.sin(3 * u)
    vertices = np.stack([np.sin(u) * (0.2 + v), np.cos(u), height + v * 0], -1).reshape(-1, 3)
    number = np.arange(count * count).reshape(count, count)
    a, b, c, d = (
        number[:-1, :-1].ravel(),
        number[1:, :-1].ravel(),
        number[1:, 1:].ravel(),
        number[:-1, 1:].ravel(),
    )
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    keep, thin = decimate(vertices, faces, 70, np.ones(len(vertices)))
    assert len(keep) == 70 and len(np.unique(keep)) == 70 and set(np.unique(thin)) == set(range(70))
    edges, times = edges_of(thin)
    assert times.max() == 2
    assert len(keep) - len(edges) + len(thin) == 1  # still a disc
    rim_before = set(np.unique(edges_of(faces)[0][edges_of(faces)[1] == 1]))
    assert {int(keep[v]) for v in np.unique(edges[times == 1])} <= {int(v) for v in rim_before}


def test_skeleton_is_a_tree_of_named_sides() -> None:
    tree = skeleton()
    assert len(tree) == 22 and tree.roles[0] == "root"
    for j, name in enumerate(tree.names):
        assert split(tree.names[tree.mirror[j]])[0] == split(name)[0]
    assert np.all(tree.limits[..., 0] <= 0) and np.all(tree.limits[..., 1] >= 0)


def test_a_folder_without_the_base_mesh_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CategoryError, match=r"base\.obj"):
        main(["--category", "human", "--source", str(tmp_path), "--out", str(tmp_path / "human")])


@needs_source
def test_characters_differ_as_their_names_say() -> None:
    source = MakeHuman(SOURCE)
    mean, heavy, woman, man = (
        source.shape(Macro(**kind)) for kind in ({}, {"weight": 1.0}, {"sex": 0.0}, {"sex": 1.0})
    )
    body = np.unique(source.quads)
    triangles = np.concatenate([source.quads[:, :3], source.quads[:, [0, 2, 3]]])
    assert volume(heavy, triangles) > 1.1 * volume(mean, triangles)
    assert np.ptp(man[body, 2]) > np.ptp(woman[body, 2]) + 0.05
    np.testing.assert_allclose((woman + man) / 2, mean, atol=1e-9)  # linear in the shares
    weights = source.weights({"Hips": 0, "LeftArm": 1, "Head": 2}, 3)
    np.testing.assert_allclose(weights[body].sum(1), 1)
