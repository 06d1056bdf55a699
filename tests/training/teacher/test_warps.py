# SPDX-License-Identifier: GPL-3.0-or-later
"""The teacher's bones and warps against the project's own skinning, and there and back again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import toy_motion

from dasr_blender.core import Category
from dasr_blender.core.rotation import quat_to_rotvec, rotvec_to_matrix
from dasr_blender.core.skeleton import skin_transforms
from dasr_blender.core.skinning import dual_quaternion, linear_blend
from dasr_blender.training.teacher import skinning
from dasr_blender.training.teacher.config import FieldConfig
from dasr_blender.training.teacher.fields import Morphology, box_of
from dasr_blender.training.teacher.rig import Bones, Shape
from dasr_blender.training.teacher.skinning import GaussianBones, to_pose, to_rest

FRAMES = 3


@pytest.fixture(scope="module")
def gaussians(toy_category: Category) -> GaussianBones:
    torch.manual_seed(0)
    found = GaussianBones(toy_category, np.zeros(len(toy_category.morphology)))
    found.fit_residual(toy_category, np.zeros(len(toy_category.morphology)), steps=150)
    return found.double()


def shape_of(category: Category, clips: int = 1) -> Shape:
    return Shape(category, np.zeros(len(category.morphology)), 1, clips).double()


def rotvecs(category: Category, scale: float = 1.0) -> torch.Tensor:
    motion = toy_motion(category, FRAMES)
    return torch.tensor(scale * quat_to_rotvec(motion.joint_rotations.astype(np.float64)))


def bones_of(category: Category, shape: Shape, scale: float = 1.0) -> Bones:
    zero = torch.zeros(FRAMES, dtype=torch.long)
    return shape.bones(rotvecs(category, scale), zero, zero)


def naive_posed(category: Category, dual: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and what the project's own skinning makes of them (T, V, 3)."""
    vertices, joints = category.body.shaped()
    motion = toy_motion(category, FRAMES)
    transforms = skin_transforms(category.skeleton, joints, motion.joint_rotations.astype(np.float64))
    skin = dual_quaternion if dual else linear_blend
    return vertices, skin(vertices, category.body.skin_index, category.body.skin_weight, transforms)


def body_weights(category: Category) -> torch.Tensor:
    from dasr_blender.core.skinning import dense_weights

    body = category.body
    return torch.tensor(dense_weights(body.skin_index, body.skin_weight, len(body.joints)))


@pytest.mark.parametrize("dual", [False, True])
def test_blending_is_the_projects(toy_category: Category, dual: bool) -> None:
    vertices, posed = naive_posed(toy_category, dual)
    bones = bones_of(toy_category, shape_of(toy_category))
    points = torch.tensor(vertices).expand(FRAMES, -1, 3)
    weights = body_weights(toy_category).expand(FRAMES, -1, -1)
    shift = bones.place - (bones.turn @ bones.joint[..., None])[..., 0]
    blend = skinning.dual_blend if dual else skinning.linear_blend
    assert np.allclose(blend(weights, bones.turn, shift, points).detach(), posed, atol=1e-5)


def test_squares_are_mahalanobis_distances(toy_category: Category, gaussians: GaussianBones) -> None:
    bones = bones_of(toy_category, shape_of(toy_category))
    points = torch.randn(FRAMES, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.3
    linear, offset = (values.detach() for values in bones.backward_affine())
    found = gaussians.squares(linear, offset, points).detach()
    white, centre = (values.detach() for values in gaussians.gaussians())
    for t, n, j in ((0, 0, 0), (1, 7, 5), (2, 19, 12)):
        local = linear[t, j] @ points[t, n] + offset[t, j]
        assert found[t, n, j] == pytest.approx(
            float((white[j] @ (local - centre[j])).square().sum()), rel=1e-9
        )


def test_residual_learns_the_bodys_skin(toy_category: Category) -> None:
    rest = np.zeros(len(toy_category.morphology))
    plain = GaussianBones(toy_category, rest)
    before = plain.fit_residual(toy_category, rest, steps=0)
    assert plain.fit_residual(toy_category, rest, steps=150) < 0.6 * before


def test_left_and_right_are_mirror_images(toy_category: Category, gaussians: GaussianBones) -> None:
    with torch.no_grad():
        gaussians.move.add_(
            0.01 * torch.randn(gaussians.move.shape, generator=torch.Generator().manual_seed(2))
        )
    shape = shape_of(toy_category)
    points = torch.randn(1, 40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 0.3
    eye = torch.eye(3, dtype=torch.float64).expand(1, len(shape.joints), 3, 3)

    def weights(at: torch.Tensor) -> torch.Tensor:
        return gaussians.weights(gaussians.squares(eye, -shape.joints[None], at), at)

    other = weights(points * torch.tensor([-1.0, 1, 1], dtype=torch.float64))
    mirror = torch.tensor(toy_category.skeleton.mirror.astype(np.int64))
    assert torch.allclose(weights(points), other[..., mirror], atol=1e-6)


@pytest.mark.parametrize("blend", ["linear", "dual"])
def test_there_and_back(toy_category: Category, gaussians: GaussianBones, blend: str) -> None:
    shape = shape_of(toy_category)
    with torch.no_grad():
        shape.length.add_(0.05)  # longer bones
    bones = bones_of(toy_category, shape, 0.5)
    vertices = torch.tensor(toy_category.body.shaped()[0]).expand(FRAMES, -1, 3)
    posed, _ = to_pose(gaussians, bones, vertices, blend)
    back, _, _ = to_rest(gaussians, bones, posed, blend)
    gap = (back - vertices).norm(dim=-1)
    moved = (posed - vertices).norm(dim=-1)
    assert gap.median() < 0.1 * moved.median()
    assert gap.median() < 0.01


@pytest.mark.parametrize("blend", ["linear", "dual"])
def test_warps_have_their_gradients(toy_category: Category, gaussians: GaussianBones, blend: str) -> None:
    shape = shape_of(toy_category)
    start = torch.tensor(toy_category.body.shaped()[0][::40][:6]).expand(FRAMES, -1, 3)
    pose = rotvecs(toy_category, 0.4)
    zero = torch.zeros(FRAMES, dtype=torch.long)

    def forward(points: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        return to_pose(gaussians, shape.bones(turns, zero, zero), points, blend)[0].sum(1)

    def backward(points: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        return to_rest(gaussians, shape.bones(turns, zero, zero), points, blend, residual=False)[0].sum(1)

    for warp in (forward, backward):
        inputs = (start.clone().requires_grad_(), pose.clone().requires_grad_())
        assert torch.autograd.gradcheck(warp, inputs, eps=1e-6, atol=1e-4, rtol=1e-3, fast_mode=True)


def test_quaternions_of_rotations() -> None:
    turns = np.random.default_rng(0).normal(0, 2, (50, 3))
    matrix = torch.tensor(rotvec_to_matrix(turns))
    q = skinning.quaternions(matrix)
    w, v = q[:, :1], q[:, 1:]
    points = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = points + 2 * torch.linalg.cross(v, torch.linalg.cross(v, points) + w * points)
    assert torch.allclose(turned, (matrix @ points[..., None])[..., 0], atol=1e-9)


def test_longer_bones_carry_what_hangs_on_them(toy_category: Category) -> None:
    shape = shape_of(toy_category)
    names = list(toy_category.skeleton.names)
    lower = names.index("front_lower.L")
    with torch.no_grad():
        shape.length[0, [lower, names.index("front_lower.R")]] = np.log(1.5)
    bones = bones_of(toy_category, shape, 0.0)
    joints = toy_category.body.shaped()[1]
    upper, foot = names.index("front_upper.L"), names.index("front_foot.L")
    offset = joints[lower] - joints[upper]
    assert np.allclose(bones.place[0, lower].detach(), joints[upper] + 1.5 * offset, atol=1e-6)
    assert np.allclose(bones.place[0, foot].detach(), joints[foot] + 0.5 * offset, atol=1e-6)
    # a point half way down the bone goes half as far
    linear, place = bones.forward_affine()
    middle = torch.tensor(0.5 * offset)
    assert np.allclose(
        (linear[0, upper] @ middle + place[0, upper]).detach(), joints[upper] + 0.75 * offset, atol=1e-6
    )


def test_proportions_reach_through_space_and_back(toy_category: Category) -> None:
    morphology = np.zeros(len(toy_category.morphology))
    vertices, _ = toy_category.body.shaped(morphology)
    torch.manual_seed(1)
    found = Morphology(toy_category, morphology, box_of(vertices), FieldConfig(), 2).double()
    beta = torch.zeros(1, len(morphology), dtype=torch.float64)
    beta[0, 0] = 0.5
    who = torch.tensor([1])
    points = torch.tensor(vertices)[None]
    rest = found.to_subject(points, beta, who)
    named = found.named(points, beta)[0].detach().numpy()
    true = 0.5 * toy_category.body.morphology_std[0] * toy_category.body.morphology_vertices[0]
    assert np.linalg.norm(named - true, axis=1).mean() < 0.25 * np.linalg.norm(true, axis=1).mean()
    assert (found.to_canonical(rest, beta, who) - points).norm(dim=-1).max() < 2e-3
