# SPDX-License-Identifier: GPL-3.0-or-later
"""The teacher's field and its rendering, against slow twins and shapes whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dasr_blender.core import Category
from dasr_blender.training.teacher.config import FieldConfig
from dasr_blender.training.teacher.encoding import Grids, Waves
from dasr_blender.training.teacher.fields import Box, Canonical, Sampled, ball_distance, body_distance, box_of
from dasr_blender.training.teacher.rays import resampled, spans, stratified
from dasr_blender.training.teacher.render import composite
from dasr_blender.training.teacher.rig import Views


@pytest.fixture(scope="module")
def canonical(toy_category: Category) -> Canonical:
    torch.manual_seed(0)
    return Canonical(toy_category, np.zeros(len(toy_category.morphology)), None, FieldConfig(base_grid=48), 2)


def test_composite_is_the_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    density = 30 * torch.rand(4, 6, generator=generator)
    depth = torch.sort(1 + torch.rand(4, 6, generator=generator), -1).values
    weight, reached = composite(density, depth)
    for r in range(4):
        left = 1.0
        for i in range(6):
            step = float(depth[r, i + 1] - depth[r, i]) if i < 5 else float(depth[r, 5] - depth[r, 4])
            alpha = 1 - np.exp(-float(density[r, i]) * step)
            assert reached[r, i] == pytest.approx(left, rel=1e-4)
            assert weight[r, i] == pytest.approx(left * alpha, rel=1e-3, abs=1e-6)
            left *= 1 - alpha
    assert (weight.sum(-1) <= 1 + 1e-6).all()


def test_composite_has_its_gradient() -> None:
    density = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    depth = torch.linspace(1, 2, 5, dtype=torch.float64).expand(2, 5)
    assert torch.autograd.gradcheck(lambda d: composite(20 * d, depth), (density,))


def test_starts_as_the_body(toy_category: Category, canonical: Canonical) -> None:
    body = toy_category.body
    points = np.random.default_rng(0).uniform(canonical.box.low, canonical.box.high, (400, 3))
    true = body_distance(body.vertices, body.faces, points)
    with torch.no_grad():
        found = canonical.distance(torch.tensor(points, dtype=torch.float32)).numpy()
        on = canonical.distance(torch.tensor(body.vertices)).abs()
    assert (true < 0).any() and np.abs(found - true).mean() < 0.015
    assert on.mean() < 0.02


def test_slope_of_a_known_distance(canonical: Canonical) -> None:
    """Of the ball |x| − r the gradient is x/|x|."""
    box = Box(np.full(3, -1.0), np.full(3, 1.0))
    points, sides = box.grid(96)
    ball = Sampled(box, (np.linalg.norm(points, axis=1) - 0.5).reshape(1, *sides))
    x = torch.tensor([[0.4, 0.2, 0.1], [-0.5, 0.1, 0.3]])
    assert ball(x)[:, 0].numpy() == pytest.approx(np.linalg.norm(x, axis=1) - 0.5, abs=2e-3)
    kept = canonical.base
    canonical.base = ball
    try:
        with torch.no_grad():
            for layer in canonical.shape:
                if isinstance(layer, torch.nn.Linear):
                    layer.weight.mul_(0)
                    layer.bias.mul_(0)
            slope = canonical.slope(x, 0.02)
    finally:
        canonical.base = kept
    assert torch.allclose(slope, torch.nn.functional.normalize(x, dim=-1), atol=0.05)


def test_density_is_volsdf(canonical: Canonical) -> None:
    distance = torch.tensor([-0.2, -0.01, 0.0, 0.01, 0.2])
    found = canonical.density(distance, 0.01)
    assert found.tolist() == pytest.approx(
        [100.0, 100 * (1 - 0.5 * np.exp(-1)), 50.0, 50 * np.exp(-1), 0.0], abs=1e-3
    )


def test_ball_is_symmetric_and_inside_in_the_middle(toy_category: Category) -> None:
    vertices = toy_category.body.vertices.astype(np.float64)
    middle = 0.5 * (vertices.min(0) + vertices.max(0))
    assert ball_distance(vertices, middle[None] + 1e-3)[0] < 0
    assert ball_distance(vertices, vertices[np.abs(vertices[:, 1]).argmax()][None])[0] > 0


def test_box_is_symmetric(toy_category: Category) -> None:
    box = box_of(toy_category.body.vertices + np.array([0.1, 0, 0]))
    assert box.low[0] == -box.high[0]
    points, (z, y, x) = box.grid(10)
    assert len(points) == x * y * z and points[1, 0] > points[0, 0] and points[1, 1] == points[0, 1]


def test_waves_are_switched_on_one_after_another() -> None:
    waves = Waves(4, 1.0)
    points = torch.rand(5, 3)
    waves.share = 0.5
    half = waves(points)
    assert half.shape == (5, waves.size)
    assert (half[:, 3 + 12 :] == 0).all() and (half[:, 3:9].abs().sum() > 0)
    waves.share = 1.0
    assert (waves(points)[:, 3 + 18 :].abs().sum()) > 0


def test_grids_read_what_they_hold() -> None:
    grids = Grids(torch.tensor([-1.0] * 3), torch.tensor([1.0] * 3), sides=(3, 5))
    with torch.no_grad():
        for level in grids.levels:
            level.zero_()
        grids.levels[0][0, 2, 1, 1, 1] = 7.0
    at_middle = grids(torch.zeros(1, 3)).detach()
    assert at_middle.shape == (1, grids.size)
    assert at_middle[0, 3 + 2] == pytest.approx(7.0)
    grids.share = 0.0
    assert grids(torch.zeros(1, 3))[0, 3:].abs().sum() == 0


def test_rays_look_where_the_body_is() -> None:
    views = Views(torch.eye(3)[None], torch.tensor([[0.0, 0, 3]]))
    body = torch.tensor([[[0.0, 0, -0.5], [0, 0, 0.5], [0.6, 0, 0]]])
    direction = torch.tensor([[[0.0, 0, 1], [0.2, 0, 1], [0, 2, 1]]])
    near, far, some = spans(views, body, direction, 0.1)
    assert some.tolist() == [[True, True, False]]
    assert near[0].tolist()[:2] == pytest.approx([2.4, 2.9])
    assert far[0].tolist()[:2] == pytest.approx([3.6, 3.1])
    assert near[0, 2] < far[0, 2]


def test_samples_go_where_the_weight_is() -> None:
    depth = stratified(torch.tensor([[1.0]]), torch.tensor([[2.0]]), 20, None)
    assert depth[0, 0, 0] == pytest.approx(1.025) and depth[0, 0, -1] == pytest.approx(1.975)
    weight = torch.zeros_like(depth)
    weight[..., 13] = 1.0
    found = resampled(depth, weight, 10, None)
    assert ((found - depth[..., 13:14]).abs() <= 0.026).float().mean() >= 0.6
    assert (torch.diff(found, dim=-1) >= 0).all()
    spread = resampled(depth, torch.ones_like(depth), 10, None)
    assert spread.min() < 1.12 and spread.max() > 1.88
