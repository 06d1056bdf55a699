# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped quadruped's body, and the steps that make one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from dasr_blender.core import Category, load_category
from dasr_blender.core.raster import rasterize
from dasr_blender.training.body import main
from dasr_blender.training.body.landmarks import (
    NAMES,
    PARENTS,
    REST,
    SOURCES,
    joints,
    mirror_joints,
    segments,
)
from dasr_blender.training.body.morphology import COEFFICIENTS, PRESETS, joint_basis, preset
from dasr_blender.training.body.poses import ANIMAL_POSES as POSES
from dasr_blender.training.body.shape import mirrored, onto_rest, rim_edges, split_rim
from dasr_blender.training.body.sheet import pose
from dasr_blender.training.body.weights import diffuse, heat_weights, keep_four

FLIP = np.array([-1.0, 1, 1])


@pytest.fixture(scope="module")
def quadruped() -> Category:
    return load_category("quadruped")


def corners(category: Category) -> dict[str, np.ndarray]:
    """The nine animals and both ends of every proportion."""
    out = {name: preset(name) for name in PRESETS}
    for k, (low, high) in enumerate(category.morphology_range):
        for value in (low, high):
            beta = np.zeros(len(category.morphology))
            beta[k] = value
            out[f"{category.morphology[k].name} {value:+.2f}"] = beta
    return out


def normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    n = np.cross(b - a, c - a)
    return n / np.linalg.norm(n, axis=1, keepdims=True)


def winding(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Winding number of a closed mesh about each point (P,): 1 inside, 0 outside (van Oosterom & Strackee 1983)."""
    a, b, c = (vertices[faces[:, i]][None] - points[:, None] for i in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    up = (a * np.cross(b, c)).sum(-1)
    down = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return (2 * np.arctan2(up, down)).sum(1) / (4 * np.pi)


def test_the_bundle_is_a_quadruped_of_the_agreed_size(quadruped: Category) -> None:
    body, skeleton = quadruped.body, quadruped.skeleton
    assert skeleton.names == NAMES and np.array_equal(skeleton.parents, PARENTS)
    assert 2000 <= len(body.vertices) <= 5000 and np.allclose(body.joints, joints(REST), atol=1e-6)
    span = body.joints[skeleton.index("hind_upper.L")] - body.joints[skeleton.index("front_upper.L")]
    assert np.linalg.norm(span) == pytest.approx(quadruped.nominal_size, abs=0.01)
    assert (
        body.vertices[:, 1].argmin() in np.nonzero(np.abs(body.vertices[:, 0]) < 0.03)[0]
    )  # the nose is in front
    assert np.all(skeleton.limits[..., 0] <= 0) and np.all(skeleton.limits[..., 1] >= 0)
    assert np.array_equal(skeleton.limits[skeleton.mirror], skeleton.limits)
    assert len(set(quadruped.profiles["rigify"].values())) == len(NAMES)


def test_the_mesh_is_closed_and_faces_outward(quadruped: Category) -> None:
    body = quadruped.body
    directed = np.concatenate([body.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    assert len(np.unique(directed, axis=0)) == len(directed)  # no edge is used twice in one direction
    assert {tuple(e) for e in directed} == {tuple(e[::-1]) for e in directed}
    assert len(body.vertices) - len(directed) // 2 + len(body.faces) == 2  # a sphere, topologically
    a, b, c = (body.vertices[body.faces[:, i]].astype(float) for i in range(3))
    assert (a * np.cross(b, c)).sum() / 6 > 0.03  # cubic metres


def test_everything_is_symmetric(quadruped: Category) -> None:
    body, swap = quadruped.body, mirror_joints()
    m = body.mirror_vertex
    assert np.array_equal(m[m], np.arange(len(m)))
    assert np.allclose(body.vertices[m] * FLIP, body.vertices, atol=1e-6)
    assert np.allclose(body.morphology_vertices[:, m] * FLIP, body.morphology_vertices, atol=1e-5)
    assert np.allclose(body.morphology_joints[:, swap] * FLIP, body.morphology_joints, atol=1e-6)
    assert np.allclose(body.appearance_basis[:, m], body.appearance_basis, atol=1e-5)
    dense = np.zeros((len(m), len(NAMES)))
    np.add.at(dense, (np.arange(len(m))[:, None], body.skin_index), body.skin_weight)
    assert np.abs(dense[m][:, swap] - dense).max() < 1e-3
    faces = {tuple(sorted(f)) for f in body.faces}
    assert {tuple(sorted(f)) for f in m[body.faces]} == faces


def test_weights_sum_to_one_and_every_joint_moves_something(quadruped: Category) -> None:
    body = quadruped.body
    assert body.skin_weight.shape[1] == 4 and np.allclose(body.skin_weight.sum(1), 1, atol=1e-5)
    hold = np.bincount(body.skin_index.ravel(), body.skin_weight.ravel(), len(NAMES))
    assert np.all(hold > 5), [NAMES[i] for i in np.nonzero(hold <= 5)[0]]


def test_uvs_lie_in_the_unit_square_and_do_not_overlap(quadruped: Category) -> None:
    uv = quadruped.body.uv.astype(float)
    assert uv.min() >= 0 and uv.max() <= 1
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    assert area.sum() > 0.3 and np.mean(area < 1e-8) < 0.01
    size = 1024
    flat = np.concatenate([uv.reshape(-1, 2) * size, np.ones((3 * len(uv), 1))], 1)
    corners_of = np.arange(3 * len(uv)).reshape(-1, 3)
    corners_of = np.where((a[:, :1] * b[:, 1:] - a[:, 1:] * b[:, :1]) > 0, corners_of, corners_of[:, ::-1])
    covered = np.asarray(rasterize(flat[None], corners_of, (size, size)).mask)[0].mean()
    assert covered == pytest.approx(area.sum(), rel=0.02)


def test_proportions_keep_the_root_and_all_joints_inside(quadruped: Category) -> None:
    body = quadruped.body
    rest = normals(body.vertices.astype(float), body.faces)
    for name, beta in corners(quadruped).items():
        vertices, moved = body.shaped(beta)
        assert np.abs(moved[0]).max() < 1e-6
        outside = np.nonzero(winding(vertices, body.faces, moved) < 0.5)[0]
        assert len(outside) == 0, (name, [NAMES[i] for i in outside])
        turned = (normals(vertices, body.faces) * rest).sum(1) < 0
        assert turned.mean() < 0.01, (name, turned.mean())


def test_random_bodies_stay_whole(quadruped: Category) -> None:
    body, rng = quadruped.body, np.random.default_rng(3)
    rest = normals(body.vertices.astype(float), body.faces)
    low, high = quadruped.morphology_range.T
    for _ in range(20):
        beta = np.clip(rng.normal(size=len(low)) * body.morphology_std, low, high)
        assert ((normals(body.shaped(beta)[0], body.faces) * rest).sum(1) < 0).mean() < 0.01


def test_coefficients_are_fractions_of_change(quadruped: Category) -> None:
    body, names = quadruped.body, quadruped.morphology_names

    def length(beta: np.ndarray, *chain: str) -> float:
        moved = body.shaped(beta)[1][[NAMES.index(n) for n in chain]]
        return float(np.linalg.norm(np.diff(moved, axis=0), axis=1).sum())

    measures = {
        "leg_length": ("front_upper.R", "front_lower.R", "front_foot.R", "front_toe.R"),
        "neck_length": ("neck_1", "neck_2", "head"),
        "tail_length": ("tail_1", "tail_2", "tail_3", "tail_4"),
    }
    for name, chain in measures.items():
        beta = np.zeros(len(names))
        beta[names.index(name)] = 0.5
        assert length(beta, *chain) == pytest.approx(1.5 * length(0 * beta, *chain), rel=1e-4)
    beta = np.zeros(len(names))
    beta[names.index("body_length")] = 0.3
    reach = body.shaped(beta)[1][:, 1] / np.where(body.joints[:, 1] == 0, 1, body.joints[:, 1])
    assert reach[NAMES.index("hind_upper.L")] == pytest.approx(1.3, rel=1e-4)


def test_feet_share_the_ground_at_every_preset(quadruped: Category) -> None:
    for name in PRESETS:
        vertices, _ = quadruped.body.shaped(preset(name))
        front, hind = (vertices[side, 2].min() for side in (vertices[:, 1] < 0, vertices[:, 1] > 0))
        if name != "fox":  # its long tail may hang lower than its feet
            assert front == pytest.approx(hind, abs=0.02), name


def test_poses_within_the_limits_do_not_tear_the_skin(quadruped: Category) -> None:
    body = quadruped.body
    edges = np.unique(np.sort(np.concatenate([body.faces[:, [i, (i + 1) % 3]] for i in range(3)]), 1), axis=0)

    def lengths(vertices: np.ndarray) -> np.ndarray:
        return np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)

    rest = lengths(body.vertices.astype(float))
    volume = np.einsum("fi,fi", body.vertices[body.faces[:, 0]], _cross(body.vertices, body.faces))
    for name, rotations in POSES.items():
        posed = quadruped.posed_vertices(np.zeros(len(COEFFICIENTS)), pose(quadruped, rotations)[None])[0]
        stretch = lengths(posed) / rest
        assert np.percentile(stretch, 99) < 2.0 and np.percentile(stretch, 0.5) > 0.2, name
        kept = np.einsum("fi,fi", posed[body.faces[:, 0]], _cross(posed, body.faces)) / volume
        assert 0.8 < kept < 1.15, (name, kept)


def _cross(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return np.cross(vertices[faces[:, 1]], vertices[faces[:, 2]])


def test_coat_directions_are_independent_and_the_belly_is_lighter(quadruped: Category) -> None:
    body = quadruped.body
    flat = body.appearance_basis.reshape(len(body.appearance_basis), -1).astype(float)
    gram = flat @ flat.T
    assert len(flat) == 8 and np.abs(gram / gram[0, 0] - np.eye(8)).max() < 0.02
    assert body.appearance_mean.min() >= 0 and body.appearance_mean.max() <= 1
    trunk = np.abs(body.vertices[:, 1]) < 0.15
    up = trunk & (body.vertices[:, 2] > 0.12)
    down = trunk & (body.vertices[:, 2] < -0.12) & (np.abs(body.vertices[:, 0]) < 0.05)
    assert body.appearance_mean[down].mean() > body.appearance_mean[up].mean() + 0.15


def test_landmarks_are_complete_and_the_joint_bases_mirror() -> None:
    for name, table in SOURCES.items():
        assert set(table) == set(REST), name
    swap = mirror_joints()
    for coefficient in COEFFICIENTS:
        basis = joint_basis(coefficient.name)
        assert np.allclose(basis[swap] * FLIP, basis) and not basis[0].any()


def tube(rings: int = 30, around: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """A closed tube along Y from 0 to 1, radius 0.08."""
    angle = 2 * np.pi * np.arange(around) / around
    circle = 0.08 * np.stack([np.cos(angle), np.sin(angle)], -1)
    y = np.linspace(0, 1, rings)
    points = [[c[0], t, c[1]] for t in y for c in circle] + [[0, 0, 0], [0, 1, 0]]
    faces = []
    for i in range(rings - 1):
        for j in range(around):
            a, b = i * around + j, i * around + (j + 1) % around
            faces += [[a, b, a + around], [b, b + around, a + around]]
    for j in range(around):
        k = (j + 1) % around
        faces += [[rings * around, k, j], [rings * around + 1, *((rings - 1) * around + np.array([j, k]))]]
    vertices, triangles = np.array(points, float), np.array(faces)
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    if (a * np.cross(b, c)).sum() < 0:
        triangles = triangles[:, ::-1]
    return vertices, triangles


def test_heat_weights_of_a_straight_tube_change_over_at_the_joint() -> None:
    vertices, faces = tube()
    bones = [(0, np.zeros(3), np.array([0, 0.5, 0])), (1, np.array([0, 0.5, 0]), np.array([0, 1.0, 0]))]
    weights = heat_weights(vertices, faces, bones, 2)
    assert np.allclose(weights.sum(1), 1) and weights.min() >= 0
    share = np.array(
        [weights[np.abs(vertices[:, 1] - t) < 0.02, 1].mean() for t in (0.1, 0.4, 0.5, 0.6, 0.9)]
    )
    assert share[0] < 0.02 and share[-1] > 0.98 and np.all(np.diff(share) > 0)
    assert share[2] == pytest.approx(0.5, abs=0.1)
    blurred = diffuse(weights, vertices, faces, 0.01)
    assert np.allclose(blurred.sum(1), 1) and blurred[:, 1].std() < weights[:, 1].std()


def test_keep_four_drops_the_smallest() -> None:
    index, weight = keep_four(np.array([[0.3, 0.2, 0.2, 0.2, 0.1], [0.995, 0.005, 0, 0, 0]]))
    assert 4 not in index[0] and weight[0].sum() == pytest.approx(1) and weight[0, 0] == pytest.approx(1 / 3)
    assert weight[1].tolist() == [1, 0, 0, 0] and index[1, 0] == 0


def test_a_split_and_mirrored_half_closes_without_seams() -> None:
    vertices, faces = tube(12, 8)
    # fold the tube's end caps away: what is left is a strip with two rims, cut along one line of vertices
    half = np.array([[0.0, y, z] for y in (0, 1.0) for z in (0, 0.4)] + [[0.5, 0.5, 0.2]])
    triangles = np.array([[0, 1, 4], [1, 3, 4], [3, 2, 4], [2, 0, 4]])[:, ::-1]
    points, split = split_rim(half, triangles, 0.3)
    rim = rim_edges(split)
    assert np.linalg.norm(points[rim[:, 0]] - points[rim[:, 1]], axis=1).max() <= 0.3
    whole, closed, back = mirrored(points, split)
    assert len(rim_edges(closed)) == 0 and np.allclose(whole[back] * FLIP, whole)
    assert len(whole) - len(closed) * 3 // 2 + len(closed) == 2
    assert len(rim_edges(faces)) == 0 and len(vertices) == 98


def test_bending_carries_source_landmarks_onto_the_rest_pose() -> None:
    source = SOURCES["Horse"]
    scale = 0.6 / (source["hind_upper"][1] - source["front_upper"][1])
    ball, faces = tube(20, 10)
    # a small body around the cannon of the left foreleg must land around that of the rest pose
    a, b = (np.array(source[n]) for n in ("front_foot", "front_toe"))
    axis = (b - a) / np.linalg.norm(b - a)
    side = np.array([1.0, 0, 0])
    frame = np.stack([side, axis, np.cross(side, axis)], 1)
    leg = a + (ball * [0.5 / scale / 4, np.linalg.norm(b - a), 0.5 / scale / 4]) @ frame.T
    if np.linalg.det(frame) < 0:
        faces = faces[:, ::-1]
    bent = onto_rest(leg, faces, source)
    middle = (np.array(REST["front_foot"]) + np.array(REST["front_toe"])) / 2
    assert np.linalg.norm(bent.mean(0) - middle) < 0.03
    assert {j for j, _, _ in segments(source)} == set(range(len(NAMES)))


def test_the_command_draws_a_sheet_and_refuses_to_do_nothing(tmp_path, quadruped: Category) -> None:
    import cv2

    picture = tmp_path / "sheet.png"
    assert main(["--output", str(quadruped.path), "--sheet", str(picture)]) == 0
    image = cv2.imread(str(picture))
    assert image.shape[1] == 1200 and 0.03 < np.mean(np.abs(image.astype(int) - 242).max(-1) > 40) < 0.5
    with pytest.raises(SystemExit):
        main([])
