# SPDX-License-Identifier: GPL-3.0-or-later
"""Every loss of the teacher: what it is worth on numbers worked out by hand, and its gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dasr_blender.training.teacher import losses
from dasr_blender.training.teacher.config import FieldConfig, LossWeights, at


def draw(*shape: int, low: float = -1.0, high: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


LIMITS = torch.tensor(np.tile([[-0.5, 0.7], [-0.3, 0.3], [0.0, 0.0]], (4, 1, 1)), dtype=torch.float64)

CASES: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "silhouette": (losses.silhouette, (draw(2, 9, low=0), (draw(2, 9) > 0).double(), draw(2, 9, low=0.1))),
    "colour": (
        lambda found: losses.colour(found, draw(2, 5, 3, seed=1), *(draw(2, 5, low=0, seed=n) for n in (1, 2, 3))),
        (draw(2, 5, 3),),
    ),
    "flow": (losses.flow, (draw(2, 5, 2), draw(2, 5, 2, seed=3), draw(2, 5, low=0))),
    "surface_render": (losses.surface_render, (draw(2, 5, 3), draw(2, 5, 3, seed=3), draw(2, 5, low=0))),
    "surface_project": (losses.surface_project, (draw(2, 5, 2), draw(2, 5, 2, seed=3), draw(2, 5, low=0))),
    "cycle": (lambda a, b: losses.cycle(a, b, draw(2, 5, low=0)), (draw(2, 5, 3), draw(2, 5, 3, seed=3))),
    "eikonal": (losses.eikonal, (draw(7, 3, low=0.3),)),
    "smooth": (losses.smooth, (draw(7, 3, low=0.3), draw(7, 3, low=0.3, seed=4))),
    "visibility": (lambda logit: losses.visibility(logit, (draw(9) > 0).double()), (draw(9, seed=2),)),
    "skin_residual": (losses.skin_residual, (draw(6, 4), draw(6, 4, seed=9))),
    "skin_entropy": (lambda score: losses.skin_entropy(torch.softmax(score, -1)), (draw(6, 4),)),
    "bone_inside": (lambda d: losses.bone_inside(d, 0.1), (draw(9),)),
    "second_difference": (lambda v: losses.second_difference(v, draw(4, low=0.1)), (draw(4, 3, 2),)),
    "start": (lambda r: losses.start(r, 0.3), (draw(5, 3),)),
    "rest": (lambda r: losses.rest(r, LIMITS), (draw(2, 4, 3),)),
    "limit": (lambda r: losses.limit(r, LIMITS), (draw(2, 4, 3),)),
    "morphology": (losses.morphology, (draw(2, 4), draw(3, 6))),
    "symmetry": (losses.symmetry, (draw(9), draw(9, seed=5))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str) -> None:
    loss, given = CASES[name]
    inputs = tuple(value.clone().requires_grad_() for value in given)
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-6)


def test_every_weight_has_a_loss() -> None:
    shared = {
        "camera_smooth": "second_difference",
        "pose_smooth": "second_difference",
        "residual_morphology": "start",
    }
    for name in LossWeights().now(0.5):
        assert callable(getattr(losses, shared.get(name, name)))


def test_silhouette_counts_inside_and_outside_alike() -> None:
    mask = torch.zeros(1, 10)
    mask[0, 0] = 1  # one ray of ten shows the subject
    nothing, everything = torch.zeros(1, 10), torch.ones(1, 10)
    weight = torch.ones(1, 10)
    assert losses.silhouette(nothing, mask, weight) == pytest.approx(0.5)
    assert losses.silhouette(everything, mask, weight) == pytest.approx(0.5)
    assert losses.silhouette(mask, mask, weight) == 0


def test_rays_without_weight_say_nothing() -> None:
    far, trust = torch.full((1, 2, 2), 9.0), torch.tensor([[0.0, 1.0]])
    near = far.clone()
    near[0, 0] += 5.0
    assert losses.flow(near, far, trust) == 0
    assert losses.flow(near, far, torch.zeros(1, 2)) == 0
    assert losses.flow(near, far, 1 - trust) > 1


def test_robust_is_square_then_linear() -> None:
    length = torch.tensor([1e-3, 10.0, 20.0])
    found = losses.robust(length, 0.1)
    assert found[0] == pytest.approx(0.5e-6, rel=1e-2)
    assert found[2] - found[1] == pytest.approx(1.0, rel=1e-2)


def test_limits_cost_nothing_inside() -> None:
    inside = torch.zeros(1, 4, 3, dtype=torch.float64)
    inside[..., 0] = 0.69
    assert losses.limit(inside, LIMITS) == 0
    inside[0, 2, 0] = 0.9
    assert losses.limit(inside, LIMITS) == pytest.approx(0.04)


def test_steady_motion_has_no_second_difference() -> None:
    line = torch.arange(3.0)[None, :, None] * torch.tensor([0.3, -0.1])
    assert losses.second_difference(line, torch.ones(1)) == pytest.approx(0, abs=1e-12)
    line[0, 1] += 1
    assert losses.second_difference(line, torch.ones(1)) == pytest.approx(8.0)
    assert losses.second_difference(line, torch.zeros(1)) == 0


def test_schedules() -> None:
    assert at((1.0, 3.0, 0.5), 0.0) == 1.0
    assert at((1.0, 3.0, 0.5), 0.25) == pytest.approx(2.0)
    assert at((1.0, 3.0, 0.5), 0.9) == 3.0
    assert at((2.0, 5.0, 0.0), 0.0) == 5.0
    assert FieldConfig().weights.now(1.0)["silhouette"] == 1.0
