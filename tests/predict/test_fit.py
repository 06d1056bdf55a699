# SPDX-License-Identifier: GPL-3.0-or-later
"""The fit: its solver, its derivatives, and whether it finds the way back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from surface_truth import with_map
from tracked import Case, angles, case, crops_of, start_of

from dasr_blender.clip.flow import flow
from dasr_blender.core import Category, Motion
from dasr_blender.core.pose_errors import PoseErrors
from dasr_blender.core.rotation import (
    geodesic,
    quat_multiply,
    quat_to_matrix,
    rotvec_to_matrix,
    rotvec_to_quat,
)
from dasr_blender.predict import FitConfig, PredictError, fit
from dasr_blender.predict.blocks import Chain
from dasr_blender.predict.contour import find_rims, nearest_rim, read_outlines, sample
from dasr_blender.predict.evidence import ClipData, follow, frame_trust
from dasr_blender.predict.fit import _Solver
from dasr_blender.predict.fit_body import (
    BodyModel,
    Posed,
    Start,
    in_crop,
    inverse_left_jacobian,
    left_jacobian,
    points,
    pose,
    rows,
    visible_vertices,
)
from dasr_blender.predict.fit_relief import relief
from dasr_blender.predict.fit_solve import Window
from dasr_blender.predict.residuals import (
    body_to_mask,
    excess,
    flow_rows,
    mask_to_body,
    planted_feet,
    rim_distance,
    rotation_vectors,
    shifted,
    surface_map,
)
from dasr_blender.predict.track import coarse_of
from dasr_blender.predict.twins import KINDS, twin_of


@pytest.fixture(scope="module")
def clip(toy_category: Category) -> Case:
    return case(toy_category, frames=10, seed=3)


# ---- the solver


def dense(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    frames, n = chain.right.shape
    g = len(chain.shared_right)
    whole = np.zeros((frames * n + g,) * 2)
    for t in range(frames):
        here = slice(t * n, t * n + n)
        whole[here, here] = chain.diagonal[t]
        whole[here, frames * n :] = chain.border[t]
        whole[frames * n :, here] = chain.border[t].T
        if t + 1 < frames:
            after = slice(t * n + n, t * n + 2 * n)
            whole[here, after], whole[after, here] = chain.upper[t], chain.upper[t].T
    whole[frames * n :, frames * n :] = chain.corner
    return whole, np.concatenate([chain.right.ravel(), chain.shared_right])


def some_chain(frames: int, size: int, shared: int) -> Chain:
    rng = np.random.default_rng(frames)
    square = rng.normal(size=(frames, size, size + 4))
    return Chain(
        square @ np.swapaxes(square, 1, 2) + 8 * size * np.eye(size),
        rng.normal(size=(frames - 1, size, size)),
        rng.normal(size=(frames, size, shared)),
        np.eye(shared) * 20.0 * frames,
        rng.normal(size=(frames, size)),
        rng.normal(size=shared),
    )


@pytest.mark.parametrize(
    ("frames", "size", "shared"), [(1, 4, 2), (2, 4, 2), (3, 4, 0), (7, 5, 3), (12, 3, 0)]
)
def test_chain_agrees_with_a_dense_solver(frames: int, size: int, shared: int) -> None:
    chain = some_chain(frames, size, shared)
    whole, right = dense(chain)
    wanted = np.linalg.solve(whole, right)
    found, common = chain.solve()
    assert np.concatenate([found.ravel(), common]) == pytest.approx(wanted, abs=1e-12)
    alone = np.linalg.inv(whole[: frames * size, : frames * size])
    assert chain.variances().ravel() == pytest.approx(np.diag(alone), abs=1e-12)


def test_damping_raises_the_diagonal_alone() -> None:
    chain = some_chain(4, 3, 2)
    whole, right = dense(chain)
    wanted = np.linalg.solve(whole + 0.5 * np.diag(np.diag(whole)), right)
    assert np.concatenate([x.ravel() for x in chain.solve(0.5)]) == pytest.approx(wanted, abs=1e-12)


# ---- derivatives


class Bent:
    """A body away from where it was counted from, and how it looks a little further on."""

    def __init__(self, category: Category, given: Case, frames: int = 3) -> None:
        bumps = relief(category, 3, 0.1 * category.nominal_size)
        self.model = BodyModel(category, coarse_of(category, 120), bumps)
        self.start = start_of(given, given.motion).part(slice(0, frames))
        rng = np.random.default_rng(1)
        self.frames = rng.normal(0, 0.15, (frames, self.model.size))
        self.frames[:, 3:6] *= 0.2
        self.shared = rng.normal(0, 0.2, self.model.shared)
        self.vertex = rng.integers(0, len(self.model.rest), (frames, 8))

    def at(self, t: int | None = None, k: int = 0, step: float = 0.0) -> Posed:
        frames, shared = self.frames.copy(), self.shared.copy()
        if t is None:
            shared[k] += step
        else:
            frames[t, k] += step
        return pose(self.model, self.start, frames, shared)

    def own(self, value, h: float = 2e-3) -> np.ndarray:
        """Central differences of value(posed) (T, N, …) by its own frame's unknowns, (T, N, …, n)."""
        out = []
        for k in range(self.model.size):
            columns = []
            for t in range(len(self.frames)):
                columns.append((value(self.at(t, k, h))[t] - value(self.at(t, k, -h))[t]) / (2 * h))
            out.append(np.stack(columns))
        return np.stack(out, -1)

    def following(self, value, h: float = 2e-3) -> np.ndarray:
        """The same by the next frame's unknowns; the last frame's are zero."""
        out = []
        for k in range(self.model.size):
            columns = [
                (value(self.at(t + 1, k, h))[t] - value(self.at(t + 1, k, -h))[t]) / (2 * h)
                for t in range(len(self.frames) - 1)
            ]
            out.append(np.stack([*columns, np.zeros_like(columns[0])]))
        return np.stack(out, -1)

    def common(self, value, h: float = 2e-3) -> np.ndarray:
        out = [
            (value(self.at(None, k, h)) - value(self.at(None, k, -h))) / (2 * h)
            for k in range(self.model.shared)
        ]
        return np.stack(out, -1)

    def seen(self, posed: Posed, vertex: np.ndarray | None = None) -> np.ndarray:
        vertex = self.vertex if vertex is None else vertex
        return posed.seen[np.arange(len(vertex))[:, None], vertex].astype(np.float64)


@pytest.fixture(scope="module")
def bent(toy_category: Category, clip: Case) -> Bent:
    return Bent(toy_category, clip)


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(found - wanted).max() < 5e-3 * max(np.abs(wanted).max(), 1e-3)


def test_derivatives_of_a_place_in_the_picture(bent: Bent) -> None:
    posed = bent.at()
    target = bent.seen(posed) + 0.01
    found = surface_map(
        posed, points(posed, bent.vertex), bent.seen(posed), target, np.ones(bent.vertex.shape), 1.0, 1e3, 1.0
    )

    def value(other: Posed) -> np.ndarray:
        error = bent.seen(other) - target
        return np.concatenate([error[..., 0], error[..., 1]], 1)

    close(found.own, bent.own(value))
    close(found.shared, bent.common(value))


def test_what_is_shown_faces_the_camera_and_nothing_hides_it(bent: Bent) -> None:
    model, count = bent.model, len(bent.frames)
    start = replace(bent.start, joints=np.tile([1.0, 0, 0, 0], (count, model.joints, 1)))
    posed = pose(model, start, np.zeros_like(bent.frames), np.zeros_like(bent.shared))
    order, shown = visible_vertices(posed, len(model.rest))
    away = np.linalg.norm(posed.camera, axis=-1)
    cosine = -(model.normals @ np.swapaxes(posed.rotation, 1, 2) * posed.camera).sum(-1) / away
    for t, (vertices, seen) in enumerate(zip(order, shown, strict=True)):
        assert sorted(vertices) == list(range(len(model.rest))) and list(seen) == sorted(seen, reverse=True)
        assert 0.1 * len(seen) < seen.sum() < 0.6 * len(seen)
        assert cosine[t, vertices[seen]].min() > 0.19
        others = vertices[
            ~seen & (cosine[t, vertices] > 0.21) & (np.abs(posed.seen[t, vertices]) < 0.5).all(-1)
        ]
        near = np.linalg.norm(posed.seen[t, :, None] - posed.seen[t, others], axis=-1) < 0.06
        before = posed.camera[t, :, None, 2] < posed.camera[t, others, 2] - 0.03
        assert (near & before).any(0).all(), "left out though it faces the camera and nothing hides it"


def test_derivatives_of_a_place_in_space(bent: Bent) -> None:
    posed = bent.at()
    direction = np.random.default_rng(0).normal(size=(*bent.vertex.shape, 3)).astype(np.float32)
    own, shared = rows(posed, points(posed, bent.vertex), direction[:, None], None)
    index = np.arange(len(bent.vertex))[:, None]

    def value(other: Posed) -> np.ndarray:
        return (other.camera[index, bent.vertex].astype(np.float64) * direction).sum(-1)

    close(own, bent.own(value))
    close(shared, bent.common(value))


def test_derivatives_of_both_ways_between_outlines(bent: Bent, clip: Case) -> None:
    frames = len(bent.frames)
    outlines = read_outlines(
        clip.masks[:frames], bent.start.center, bent.start.side, clip.motion.image_size, 30
    )
    # a plane for a distance, so that its slope is the same wherever it is read
    at = (np.arange(128) + 0.5) / 128 - 0.5
    plane = (0.6 * at[None, :] + 0.8 * at[:, None]).astype(np.float32)
    outlines = replace(outlines, distance=np.repeat(plane[None], frames, 0))
    posed = bent.at()
    rims = find_rims(posed, 96, 40)
    assert (rims.length > 0).sum(1).min() >= 20
    ends = points(posed, rims.ends.reshape(frames, -1))
    pair = np.arange(80).reshape(1, -1, 2).repeat(frames, 0)
    found = body_to_mask(posed, ends.mixed(pair, np.full((frames, 40), 0.5)), rims, outlines, 1.0, 1e3, 1.0)
    known = rims.length > 0

    index = np.arange(frames)[:, None]

    def distance(other: Posed) -> np.ndarray:
        middle = other.camera[index[..., None], rims.ends].mean(2)
        return rim_distance(in_crop(middle, other.start, other.focal), rims, outlines)[0].astype(np.float64)

    close(found.own[known], bent.own(distance)[known])
    close(found.shared[known], bent.common(distance)[known])

    slot, share = nearest_rim(outlines, rims, posed, 0.1)
    touched = ends.mixed(np.stack([2 * slot, 2 * slot + 1], -1), share)
    found = mask_to_body(posed, touched, outlines, 1.0, 1e3, 1.0, 0.5)
    pieces = rims.ends[index, slot]
    beside = np.stack([-outlines.normal[..., 1], outlines.normal[..., 0]], -1)

    def offsets(other: Posed) -> np.ndarray:
        first, second = other.camera[index, pieces[..., 0]], other.camera[index, pieces[..., 1]]
        spot = first + share[..., None].astype(np.float32) * (second - first)
        gap = in_crop(spot, other.start, other.focal).astype(np.float64) - outlines.point
        return np.concatenate([(gap * outlines.normal).sum(-1), (gap * beside).sum(-1)], 1)

    assert offsets(posed) == pytest.approx(found.value, abs=1e-4)
    close(found.own, bent.own(offsets))
    close(found.shared, bent.common(offsets))


def test_derivatives_of_flow(bent: Bent) -> None:
    posed = bent.at()
    following = shifted(posed)
    there = points(following, bent.vertex)
    here_seen = bent.seen(posed)
    there_seen = in_crop(there.camera, following.start, following.focal)
    moved = (here_seen + 0.02).astype(np.float32)
    weight = np.ones(bent.vertex.shape)
    weight[-1] = 0
    found = flow_rows(
        posed, following, points(posed, bent.vertex), there, there_seen, moved, weight, 1.0, 1.0
    )
    assert found.following is not None
    index = np.minimum(np.arange(len(bent.vertex)) + 1, len(bent.vertex) - 1)

    def value(other: Posed) -> np.ndarray:
        landed = other.seen[index[:, None], bent.vertex].astype(np.float64)
        # what flow says where the point was first, carried along with the point
        error = landed - (moved + bent.seen(other) - here_seen)
        return np.concatenate([error[..., 0], error[..., 1]], 1)

    close(found.own[:-1], bent.own(value)[:-1])
    close(found.following[:-1], bent.following(value)[:-1])
    close(found.shared[:-1], bent.common(value)[:-1])


def test_derivatives_of_planted_feet(bent: Bent) -> None:
    posed = bent.at()
    rng = np.random.default_rng(4)
    frames = np.arange(len(bent.vertex))[:, None]
    target = posed.camera[frames, bent.vertex] + rng.normal(0, 0.05, (*bent.vertex.shape, 3))
    standing = np.ones(bent.vertex.shape, np.float32)
    found = planted_feet(
        posed, points(posed, bent.vertex), target, standing, 1.0, np.full(standing.shape, 0.1)
    )

    def value(other: Posed) -> np.ndarray:
        gap = other.camera[frames, bent.vertex].astype(np.float64) - target
        return np.concatenate([gap[..., k] for k in range(3)], 1)

    assert value(posed) == pytest.approx(found.value, abs=1e-4)
    close(found.own, bent.own(value))
    close(found.shared[..., :-1], bent.common(value)[..., :-1])
    near = np.linalg.norm(target - posed.camera[frames, bent.vertex], axis=-1)
    assert (found.weight[:, : near.shape[1]][near > 0.1] < 0.25).all()  # a foot too far off is let go


def test_derivatives_of_joint_rotations_and_limits(bent: Bent) -> None:
    posed = bent.at()
    vector, motion = rotation_vectors(posed)
    wanted = bent.own(lambda other: rotation_vectors(other)[0], 1e-5)
    for j in range(vector.shape[1]):
        close(motion[:, j], wanted[:, j, :, 6 + 3 * j : 9 + 3 * j])
    limits = np.repeat(np.array([[-0.05, 0.05]]), 3, 0)[None].repeat(vector.shape[1] + 1, 0)
    over, slope = excess(posed, limits, 1.0)
    assert (over != 0).any() and (over == 0).any()
    wanted = bent.own(lambda other: excess(other, limits, 1.0)[0], 1e-6)
    for j in range(vector.shape[1]):
        close(slope[:, j], wanted[:, j, :, 6 + 3 * j : 9 + 3 * j])


def test_left_jacobian_near_zero_and_far() -> None:
    for size in (1e-6, 0.5, 3.0):
        vector = size * np.array([0.6, -0.5, 0.62])
        for k in range(3):
            step = np.eye(3)[k] * 1e-6
            turn = rotvec_to_matrix(vector + step) @ rotvec_to_matrix(vector - step).T
            spin = np.array([turn[2, 1], turn[0, 2], turn[1, 0]]) / 2e-6
            assert spin == pytest.approx(left_jacobian(vector)[:, k], abs=1e-6)
        assert inverse_left_jacobian(vector) @ left_jacobian(vector) == pytest.approx(np.eye(3), abs=1e-9)


@pytest.mark.parametrize("together", [False, True])
def test_the_gradient_is_that_of_the_cost(toy_category: Category, clip: Case, together: bool) -> None:
    """Prior, rest, limits, slowness and jolts together: the chain's right side is minus the cost's slope.

    together: the network's joints err together, or each by itself.
    """
    config = FitConfig(vertices=120, rim_evidence=0, edge_evidence=0, surface_evidence=0, flow_evidence=0)
    rng = np.random.default_rng(2)
    errors = PoseErrors.unknown(len(toy_category.skeleton))
    if together:
        mixed = 0.3 * rng.normal(size=errors.correlation.shape) / len(errors.correlation) ** 0.5
        scale = errors.scale * rng.uniform(0.5, 1.5, errors.scale.shape)
        errors = PoseErrors(scale, np.eye(len(mixed)) + mixed @ mixed.T)
    category = replace(toy_category, pose_errors=errors)
    model = BodyModel(category, coarse_of(toy_category, 120))
    assert np.allclose(model.precision[6:, 6:] @ errors.correlation, np.eye(model.size - 6), atol=1e-9)
    solver = _window(category, clip, model, config)
    frames = rng.normal(0, 0.2, (len(clip.masks), model.size))
    shared = rng.normal(0, 0.5, model.shared)
    chain, _, _ = solver.linear(frames, shared, 9)

    def cost(frames: np.ndarray, shared: np.ndarray) -> float:
        return float(solver.linear(frames, shared, 9)[1].sum())

    h = 1e-5
    for t, k in ((0, 0), (2, 4), (5, 9), (9, model.size - 1)):
        step = np.zeros_like(frames)
        step[t, k] = h
        slope = (cost(frames + step, shared) - cost(frames - step, shared)) / (2 * h)
        assert -chain.right[t, k] == pytest.approx(slope, rel=1e-4, abs=1e-3)
    for k in range(model.shared):
        step = np.zeros_like(shared)
        step[k] = h
        slope = (cost(frames, shared + step) - cost(frames, shared - step)) / (2 * h)
        assert -chain.shared_right[k] == pytest.approx(slope, rel=1e-4, abs=1e-3)


def test_what_jolts_cost_a_second_does_not_hang_on_the_frame_rate(toy_category: Category, clip: Case) -> None:
    config = FitConfig(vertices=120, rim_evidence=0, edge_evidence=0, surface_evidence=0, flow_evidence=0)
    model = BodyModel(toy_category, coarse_of(toy_category, 120))
    window, costs = _window(toy_category, clip, model, config), []
    for fps in (12.0, 24.0, 240.0):
        window = replace(window, fps=fps)
        swing = np.zeros((len(clip.masks), model.size))
        swing[:, [0, 3, 6]] = (0.5 * (np.arange(len(swing)) / fps) ** 2)[:, None]  # one a second squared
        jolt, still = (window.linear(x, np.zeros(model.shared), 9)[2]["jolt"] for x in (swing, 0 * swing))
        costs.append((jolt - still) * fps)
    np.testing.assert_allclose(costs, costs[1], rtol=1e-6)


def test_a_distance_that_trembles_is_steadied_and_a_crop_that_does_is_no_distance(
    toy_category: Category, clip: Case
) -> None:
    config = FitConfig(vertices=120, rim_evidence=0, edge_evidence=0, surface_evidence=0, flow_evidence=0)
    model = BodyModel(toy_category, coarse_of(toy_category, 120))
    start = start_of(clip, clip.motion)
    tremble = 0.02 * (-1.0) ** np.arange(len(start))

    def distance(place: np.ndarray, side: np.ndarray) -> np.ndarray:
        given = replace(start, place=np.column_stack([start.place[:, :2], place]), side=side)
        window = _window(toy_category, clip, model, config, given)
        solved = window.solve(np.zeros((len(start), model.size)), np.zeros(model.shared), 20, 1e-6)
        return pose(model, given, solved.frames, solved.shared).camera_from_root[:, 2, 3]

    def jolts(depth: np.ndarray) -> float:
        return float(np.abs(np.diff(np.log(depth), n=2)).mean())

    depth = start.place[:, 2]
    assert jolts(distance(depth + tremble, start.side)) < 0.2 * jolts(np.exp(depth + tremble))
    steady = distance(depth, start.side)
    assert distance(depth + tremble, start.side * np.exp(tremble)) == pytest.approx(steady, rel=1e-4)


def _window(
    category: Category, given: Case, model: BodyModel, config: FitConfig, start: Start | None = None
) -> Window:
    start = start_of(given, given.motion) if start is None else start
    count = len(given.masks)
    size = np.asarray(given.motion.image_size)
    data = ClipData(start, crops_of(given), size, given.prediction, np.ones(count), None)
    wide = np.array([[-9.0, 9.0]]).repeat(model.shared, 0)
    linked = np.append(np.ones(count - 1, bool), False)
    evidence = data.window(model, np.arange(count), start, config)
    return Window(model, evidence, config, np.full(model.shared, 0.6), wide, 24.0, linked)


# ---- outlines


def test_distance_is_signed_and_finer_than_a_pixel() -> None:
    size = 64
    at = np.arange(size) + 0.5
    radius = 20.3
    away = np.hypot(at[None] - 32, at[:, None] - 32) - radius
    mask = np.clip(0.5 - away, 0, 1).astype(np.float32)
    outlines = read_outlines(mask[None], np.array([[32.0, 32]]), np.array([64.0]), np.array([64, 64]), 50)
    around = np.abs(away) < 12
    assert outlines.distance[0][around] * size == pytest.approx(away[around], abs=0.75)  # chamfer distances
    reach = np.linalg.norm(outlines.point[0] * size, axis=1)
    assert reach == pytest.approx(radius, abs=0.15)
    outward = outlines.point[0] / np.linalg.norm(outlines.point[0], axis=1, keepdims=True)
    assert (outlines.normal[0] * outward).sum(1).min() > 0.98
    value, slope = sample(outlines.distance, np.array([[[0.5, 0.0], [0.3, 0.0]]], np.float32))
    assert value[0] * size == pytest.approx([32 - radius, 0.3 * 64 - radius], abs=0.7)
    assert slope[0] == pytest.approx(np.array([[1, 0], [1, 0]]), abs=0.05)


def test_the_pictures_border_is_no_outline() -> None:
    mask = np.zeros((1, 64, 64), np.float32)
    mask[0, 20:44, 16:64] = 1  # the picture ends at column 48 of the crop
    outlines = read_outlines(mask, np.array([[32.0, 32]]), np.array([64.0]), np.array([48, 64]), 200)
    given = outlines.weight[0] > 0
    assert outlines.point[0][given][:, 0].max() * 64 + 32 < 48.5
    assert not np.any(np.abs(outlines.normal[0][given][:, 0] - 1) < 0.1)
    value, _ = sample(outlines.distance, np.array([[[12 / 64, 0.0]]], np.float32))
    assert value[0, 0] * 64 < -8  # far from any known background


def test_rims_lie_on_the_silhouette(bent: Bent) -> None:
    import cv2

    posed = bent.at()
    rims = find_rims(posed, 96, 200)
    for t in range(len(bent.frames)):
        drawn = rims.drawn[t].astype(np.uint8)
        distance = np.maximum(
            cv2.distanceTransform(drawn, cv2.DIST_L2, 5), cv2.distanceTransform(1 - drawn, cv2.DIST_L2, 5)
        )
        there = rims.length[t] > 0
        x, y = np.clip((rims.middle[t][there] + 0.5) * 96, 0, 95).astype(int).T
        assert np.percentile(distance[y, x], 95) < 2.0
        # all the way round: every outline pixel has a rim near
        edge = np.argwhere(cv2.morphologyEx(drawn, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))[:, ::-1]
        gap = np.linalg.norm(edge[:, None] + 0.5 - (rims.middle[t][there] + 0.5) * 96, axis=-1).min(1)
        assert np.percentile(gap, 90) < 6


@pytest.mark.parametrize("cells", [64, 32])
def test_flow_says_the_same_at_any_size(cells: int) -> None:
    size = 64
    at = (np.arange(size) + 0.5) / size - 0.5
    disc = at[:, None] ** 2 + at**2 < 0.35**2
    masks = np.stack([disc, disc]).astype(np.uint8) * 255
    outlines = read_outlines(masks, np.full((2, 2), 50.0), np.full(2, 60.0), np.array([100, 100]), 16)
    moved = np.zeros((2, cells, cells, 2), np.float32)
    moved[0] = np.array([0.1, -0.05]) * cells
    seen = np.array([[[0.0, 0.0], [0.3, 0.0], [0.45, 0.45]]] * 2)
    landed, trust = follow(outlines, moved, seen)
    assert landed[0] == pytest.approx(seen[0] + [0.1, -0.05], abs=1e-6)
    assert trust[0].tolist() == [1, 0, 0]  # on the subject; it would leave it; beside it


def test_large_crops_are_made_smaller_for_flow(toy_category: Category, clip: Case) -> None:
    sizes = set()

    def still(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        sizes.update((a.shape, b.shape))
        return np.zeros((*a.shape[:2], 2), np.float32)

    crops = crops_of(clip)
    start = start_of(clip, clip.motion)
    data = ClipData(
        start, crops, np.asarray(clip.motion.image_size), clip.prediction, np.ones(len(crops)), still
    )
    model = BodyModel(toy_category, coarse_of(toy_category, 120))
    evidence = data.window(model, np.arange(len(crops)), start, FitConfig(flow_size=crops.shape[-1] // 2))
    half = crops.shape[-1] // 2
    assert sizes == {(half, half, 3)}
    assert evidence.flow is not None and evidence.flow.shape == (len(crops), half, half, 2)


def test_a_filled_in_mask_and_one_that_jumps_count_less() -> None:
    masks = np.zeros((9, 32, 32), np.uint8)
    masks[:, 8:24, 8:24] = 255
    masks[4, 8:24, 8:16] = 0  # half of it hidden
    side = np.full(9, 40.0)
    filled = np.zeros(9, bool)
    filled[7] = True
    masks[8] = 0
    trust = frame_trust(masks, side, filled)
    assert trust[[0, 1, 2, 3]].min() > 0.9
    assert trust[4] < 0.2 and trust[7] < 0.05 and trust[8] == 0


# ---- the whole fit


def joint_error(a: Motion, b: Motion, owners: np.ndarray) -> float:
    angle = geodesic(quat_to_matrix(a.joint_rotations), quat_to_matrix(b.joint_rotations))
    return float(np.rad2deg(angle[:, owners]).mean())


def test_at_the_truth_it_stays(toy_category: Category, clip: Case) -> None:
    found = fit(toy_category, clip.motion, clip.prediction, crops_of(clip), clip.center, clip.side).motion
    assert angles(found, clip.motion).max() < 2.5
    assert joint_error(found, clip.motion, np.arange(1, len(toy_category.skeleton))) < 2.5
    assert np.nanmean(found.mask_iou) > 0.93
    off = np.linalg.norm(found.camera_from_root[:, :3, 3] - clip.motion.camera_from_root[:, :3, 3], axis=1)
    assert (off / clip.motion.camera_from_root[:, 2, 3]).max() < 0.04


def test_from_twenty_degrees_and_a_tenth_off_it_comes_back(toy_category: Category, clip: Case) -> None:
    true = clip.motion
    bend = np.zeros((1, len(toy_category.skeleton), 4))
    bend[..., 0] = 1
    skeleton = toy_category.skeleton
    limbs = [
        j
        for j, p in enumerate(skeleton.parents)
        if skeleton.roles[j] == "limb" and skeleton.roles[p] != "limb"
    ]
    assert len(limbs) == 4  # hips and shoulders, that swing the whole leg
    bend[:, limbs] = rotvec_to_quat(np.array([np.radians(20), 0, 0]))
    poses = true.camera_from_root.copy()
    poses[:, :3, :3] = rotvec_to_matrix(np.array([0, np.radians(20), 0])) @ poses[:, :3, :3]
    poses[:, :3, 3] *= 1.1
    wrong = replace(true, camera_from_root=poses, joint_rotations=quat_multiply(bend, true.joint_rotations))
    seen = with_map(toy_category, clip)
    before = angles(wrong, true).mean()
    found = fit(
        toy_category,
        wrong,
        seen,
        crops_of(clip),
        clip.center,
        clip.side,
        quality="best",
        # priors of 0.6 radians, 0.4 and a seventh of the distance, that do not rule them out
        config=FitConfig(joint_turn=13.0, root_turn=0.4, root_depth=0.15),
    ).motion
    assert np.nanmean(found.mask_iou) > 0.87  # 0.88 or 0.91, by the order in which threads add up
    assert angles(found, true).mean() < 0.25 * before
    assert joint_error(found, true, np.array(limbs)) < 0.7 * joint_error(wrong, true, np.array(limbs))
    depth = found.camera_from_root[:, 2, 3] / true.camera_from_root[:, 2, 3]
    assert np.abs(depth - 1).mean() < 0.06  # size and distance trade places


def test_qualities_and_what_does_not_belong_together(toy_category: Category, clip: Case) -> None:
    args = (toy_category, clip.motion, clip.prediction, crops_of(clip), clip.center, clip.side)
    assert fit(*args, quality="draft").motion is clip.motion
    assert fit(*args, begin=turned(clip.motion, 5), quality="draft").motion is not clip.motion
    with pytest.raises(PredictError, match="no quality 'good'"):
        fit(*args, quality="good")
    with pytest.raises(PredictError, match="10 frames but there are 10 predicted, 9 crops"):
        fit(toy_category, clip.motion, clip.prediction, crops_of(clip)[:9], clip.center, clip.side)
    with pytest.raises(PredictError, match="10 frames but its second look 9"):
        fit(*args, begin=clip.motion.part(slice(0, 9)))
    for crops in (crops_of(clip)[:, :3], crops_of(clip)[:, :, :-2], crops_of(clip) / 255):
        with pytest.raises(PredictError, match="must be uint8"):
            fit(toy_category, clip.motion, clip.prediction, crops, clip.center, clip.side)
    with pytest.raises(PredictError, match=r"10 frames but \(9,\) say"):
        fit(*args, interpolated=np.zeros(9, bool))


def turned(motion: Motion, degrees: float, farther: float = 1.0) -> Motion:
    """The motion about the vertical, and the forelegs, each by as much; the whole so many times as far away."""
    poses = motion.camera_from_root.copy()
    poses[:, :3, :3] = rotvec_to_matrix(np.array([0, np.radians(degrees), 0])) @ poses[:, :3, :3]
    poses[:, :3, 3] *= farther
    joints = motion.joint_rotations.copy()
    joints[:, 3] = quat_multiply(rotvec_to_quat(np.array([np.radians(degrees), 0, 0])), joints[:, 3])
    return replace(motion, camera_from_root=poses, joint_rotations=joints)


def test_a_second_look_is_begun_from_and_its_turns_are_not_believed(
    toy_category: Category, clip: Case
) -> None:
    args = (clip.prediction, crops_of(clip), clip.center, clip.side)
    begin = turned(clip.motion, 12, 1.1)
    solver = _Solver(
        toy_category, clip.motion, begin, *args, None, None, False, True, False, False, "standard", FitConfig(),
        lambda share, text: None,
    )  # fmt: skip
    posed = pose(solver.model, solver.start, solver.first, np.zeros(solver.model.shared))
    np.testing.assert_allclose(posed.camera_from_root, begin.camera_from_root, atol=1e-6)
    np.testing.assert_allclose(quat_to_matrix(posed.locals), quat_to_matrix(begin.joint_rotations), atol=1e-6)

    blind = crops_of(clip)
    blind[:, 3] = 0
    found = fit(
        toy_category, clip.motion, clip.prediction, blind, clip.center, clip.side, begin=begin, quality="best"
    ).motion
    assert angles(found, clip.motion).max() < 0.5 and angles(found, begin).min() > 11
    far = found.camera_from_root[:, 2, 3] / clip.motion.camera_from_root[:, 2, 3]
    np.testing.assert_allclose(far, 1.1, atol=0.01)


def test_masks_that_were_given_are_followed_more_closely(toy_category: Category, clip: Case) -> None:
    args = (toy_category, turned(clip.motion, 8), clip.prediction, crops_of(clip), clip.center, clip.side)
    config = FitConfig(given_noise=0.006, root_turn=0.03)  # a start that is believed, though it is 8° off
    found, given = (
        fit(*args, masks_given=known, quality="best", config=config).motion for known in (False, True)
    )
    assert np.nanmean(found.mask_iou) > 0.9 and np.nanmean(given.mask_iou) > 0.9
    assert angles(given, clip.motion).mean() < 0.9 * angles(found, clip.motion).mean()


def test_a_second_look_is_begun_from_in_windows_too(toy_category: Category) -> None:
    given = case(toy_category, frames=40, noise=0.08, seed=6)
    args = (
        toy_category,
        turned(given.motion, 20),
        given.prediction,
        crops_of(given),
        given.center,
        given.side,
    )
    still = FitConfig(
        steps=(0, 0), limb_steps=(0, 0), last_steps=(0, 0), limb_evidence=0, window=24, overlap=8
    )
    found = fit(*args, begin=given.motion, config=still).motion
    assert angles(found, given.motion).max() < 0.1
    found = fit(*args, config=still).motion
    assert np.median(angles(found, given.motion)) > 19


class Hollow(Window):
    """A cost whose bottom lies behind a wall, where steps go half of the way: 0 is lower than all near it."""

    def linear(self, frames: np.ndarray, shared: np.ndarray, step: int) -> tuple:
        chain = Chain.zeros(1, 6, 0)
        chain.diagonal[0], chain.right[0] = 2 * np.eye(6), 0.3 - frames[0]
        wall = 0.1 * (0 < np.abs(frames[0]).max() < 0.25)
        return chain, np.array([0.5 * ((frames[0] - 0.3) ** 2).sum() + wall]), {}


def test_a_solve_looks_beyond_what_costs_more_on_every_side(bent: Bent) -> None:
    nothing = np.zeros(0)
    window = Hollow(bent.model, None, FitConfig(), nothing, np.zeros((0, 2)), 24.0, np.zeros(1, bool))  # type: ignore[arg-type]
    begun = np.zeros((1, 6))
    found = window.solve(begun, nothing, 8, 1e-3, near=True)
    assert (
        np.abs(found.frames - 0.3).max() < 0.05
        and found.loss.sum() < window.linear(begun, nothing, 0)[1].sum()
    )
    kept = window.solve(np.full((1, 6), 0.3), nothing, 8, 1e-3, near=True)
    assert np.array_equal(kept.frames, np.full((1, 6), 0.3)), "nothing costs less, so nothing is to move"


def swelling(category: Category) -> np.ndarray:
    """A relief ``(V,)`` that raises the belly."""
    away = np.linalg.norm(category.body.vertices - [0.0, 0.05, 0.0], axis=1)
    return 0.08 * np.exp(-0.5 * (away / 0.2) ** 2)


def test_windows_leave_no_seam(toy_category: Category) -> None:
    given = case(toy_category, frames=40, noise=0.08, seed=6, relief=0.5 * swelling(toy_category))
    config = FitConfig(vertices=200, relief=24)
    args = (
        toy_category,
        given.run(toy_category),
        given.prediction,
        crops_of(given),
        given.center,
        given.side,
    )
    whole = fit(*args, config=config, flow=flow).motion
    assert np.abs(whole.morphology - args[1].morphology).max() > 0.01 and whole.relief.max() > 0.01
    parts = fit(*args, config=replace(config, window=20, overlap=8, proportions=20), flow=flow).motion
    assert np.abs(np.nanmean(parts.mask_iou) - np.nanmean(whole.mask_iou)) < 0.02
    assert np.abs(parts.morphology - args[1].morphology).max() > 0.01 and parts.relief.max() > 0.01
    step = np.rad2deg(geodesic(parts.camera_from_root[1:, :3, :3], parts.camera_from_root[:-1, :3, :3]))
    whole_step = np.rad2deg(geodesic(whole.camera_from_root[1:, :3, :3], whole.camera_from_root[:-1, :3, :3]))
    assert (step - whole_step).max() < 3.0
    assert angles(parts, whole).mean() < 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_stretch_that_was_taken_for_its_twin_is_turned_round(toy_category: Category, kind: str) -> None:
    given = case(toy_category, frames=20, seed=7 if kind == "depth" else 12)
    wrong = slice(7, 14)
    true = start_of(given, given.motion)
    twin = twin_of(toy_category, true, wrong, kind)
    again = twin_of(toy_category, twin, wrong, kind)  # a twin's twin is the first
    assert again.rotation == pytest.approx(true.rotation) and np.abs(
        (again.joints * true.joints).sum(-1)
    ) == pytest.approx(1)
    poses = given.motion.camera_from_root.copy()
    poses[:, :3, :3] = twin.rotation
    assert np.linalg.det(poses[:, :3, :3]) == pytest.approx(1)
    unsure = given.motion.confidence.copy()
    unsure[wrong] = 0.2
    motion = replace(
        given.motion,
        camera_from_root=poses,
        joint_rotations=twin.joints,
        confidence=unsure,
        mask_iou=np.ones(20),
        joint_confidence=np.full(twin.joints.shape[:2], 0.5),
    )
    said = replace(with_map(toy_category, given), joint_confidence=motion.joint_confidence)
    found = fit(toy_category, motion, said, crops_of(given), given.center, given.side)
    assert found.twins, "nothing looked doubtful"
    assert any(t.taken and t.kind == kind and t.first <= 8 and t.last >= 12 for t in found.twins)
    if kind == "depth":
        assert angles(motion, given.motion)[wrong].min() > 30
    assert angles(found.motion, given.motion)[wrong].mean() < 15
    owners = np.flatnonzero([role == "limb" for role in toy_category.skeleton.roles])
    assert joint_error(found.motion, given.motion, owners) < 0.7 * joint_error(motion, given.motion, owners)


def test_an_empty_mask_leaves_the_tracked_pose(toy_category: Category, clip: Case) -> None:
    crops = crops_of(clip)
    crops[4, 3] = 0
    found = fit(toy_category, clip.motion, clip.prediction, crops, clip.center, clip.side).motion
    assert np.isnan(found.mask_iou[4]) and found.confidence[4] == 0
    assert angles(found, clip.motion)[4] < 4


def test_uncertainty_is_larger_where_nothing_is_seen(toy_category: Category, clip: Case) -> None:
    crops = crops_of(clip)
    crops[6:, 3] = 0
    half = np.full(clip.motion.joint_confidence.shape, 0.5)
    motion, said = (
        replace(clip.motion, joint_confidence=half),
        replace(clip.prediction, joint_confidence=half),
    )
    found = fit(toy_category, motion, said, crops, clip.center, clip.side).motion
    assert found.joint_confidence[:5, 1:].mean() > found.joint_confidence[7:, 1:].mean() + 0.004
    assert found.joint_confidence.min() >= 0 and found.joint_confidence.max() <= 1


# ---- a shape that is known


@pytest.fixture(scope="module")
def swollen(toy_category: Category) -> tuple[Case, np.ndarray]:
    """A clip of a body whose belly is raised, and by how much ``(V,)``."""
    relief = swelling(toy_category)
    return case(toy_category, frames=10, seed=3, relief=relief), relief


@pytest.mark.parametrize("frames", [10, 24])
def test_a_known_shape_comes_out_as_it_went_in(toy_category: Category, frames: int) -> None:
    given = case(toy_category, frames=frames, seed=4)
    rng = np.random.default_rng(0)
    shape = rng.normal(0, 0.1, len(toy_category.morphology))
    relief = rng.uniform(-0.01, 0.01, len(toy_category.body.vertices))
    motion = replace(given.motion, morphology=shape, relief=relief)
    config = FitConfig(vertices=200, window=16, overlap=6, relief=24)
    args = (toy_category, motion, given.prediction, crops_of(given), given.center, given.side)
    found = fit(*args, shape_known=True, config=config).motion
    assert np.array_equal(found.morphology, shape) and np.array_equal(found.relief, relief)
    assert angles(found, motion).max() > 1e-3  # the poses are free all the same
    free = fit(*args, config=config).motion
    assert not np.array_equal(free.morphology, shape)
    # the given relief stays below what is added to it: rough as it is, it cannot come from the fit
    assert np.corrcoef(np.diff(free.relief), np.diff(relief))[0, 1] > 0.9


def test_poses_are_sought_for_the_body_that_is_known(toy_category: Category, clip: Case) -> None:
    config = FitConfig(vertices=200, silhouette=64)
    coarse = coarse_of(toy_category, config.vertices)
    window = _window(toy_category, clip, BodyModel(toy_category, coarse), config)
    window = replace(window, shared_error=np.zeros(window.model.shared))
    shape = np.full(window.model.shared, 0.7)
    shape[-1] = 0.0
    begun = np.zeros((len(clip.masks), window.model.size))
    found = window.solve(begun, shape, 6, 1e-6)
    assert np.array_equal(found.shared, shape) and found.loss.sum() < window.linear(begun, shape, 1)[1].sum()


def test_a_known_relief_helps_the_poses(toy_category: Category, swollen: tuple[Case, np.ndarray]) -> None:
    given, relief = swollen
    wrong = given.run(toy_category)
    wrong = replace(wrong, morphology=given.motion.morphology)
    args = (given.prediction, crops_of(given), given.center, given.side)
    without = fit(toy_category, wrong, *args, shape_known=True).motion
    found = fit(toy_category, replace(wrong, relief=relief), *args, shape_known=True).motion
    assert np.nanmean(found.mask_iou) > np.nanmean(without.mask_iou) + 0.02

    def off(motion: Motion) -> float:
        gap = motion.camera_from_root[:, :3, 3] - given.motion.camera_from_root[:, :3, 3]
        return float(np.linalg.norm(gap, axis=1).mean())

    assert off(found) < 0.7 * off(without)
