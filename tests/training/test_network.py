# SPDX-License-Identifier: GPL-3.0-or-later
"""The network's parts that have a promise to keep: looking back, looking around in time, sharing the blame."""

from __future__ import annotations

from typing import Literal

import pytest

torch = pytest.importorskip("torch")

from dasr_blender.core import Category
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.student import rotation as R
from dasr_blender.training.student.body import TorchBody, crop_pixels
from dasr_blender.training.student.depthwise import depthwise
from dasr_blender.training.student.losses import BodySurface, LossConfig, first_look_loss, student_loss
from dasr_blender.training.student.model import Student, StudentConfig

torch.set_num_threads(1)


def network(category: Category, **changes: object) -> Student:
    torch.manual_seed(0)
    config = StudentConfig(crop=64, width=64, appearance=3, **changes)  # pyright: ignore[reportArgumentType]
    return Student(config, category).eval()


def inputs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    info = torch.tensor([0.05, -0.02, 0.4]) + 0.05 * torch.rand(count, 3, generator=generator)
    return torch.rand(count, 4, 64, 64, generator=generator), info


def test_looking_back_begins_as_no_correction(toy_category: Category) -> None:
    student = network(toy_category)
    with torch.no_grad():
        seen = student.see(*inputs(3))
    assert seen.first is not None
    for name, value in seen.first.items():
        assert torch.equal(value, seen.answer[name]), name


def test_looking_back_sees_the_picture_under_the_body_and_nothing_else(toy_category: Category) -> None:
    student = network(toy_category)
    look = student.look
    assert look is not None
    torch.nn.init.normal_(look.correct.weight, std=0.1)
    crops, info = inputs(2)
    with torch.no_grad():
        seen = student.see(crops, info)
        assert seen.first is not None and student.surface is not None
        fine, raw = student.surface(student.backbone(crops)[0])
        before = look(seen.first, info, fine, raw)
        # where it looks: the joints and surface points of the likeliest answer
        body = TorchBody(toy_category, student.config.look_points)
        best = seen.first["root_logprob"].argmax(1)
        rows = torch.arange(2)
        vertices, joints = body(
            R.sixd_to_matrix(seen.first["joint_rotations"]), seen.first["morphology"] * body.std
        )
        at = crop_pixels(
            torch.cat([joints, vertices], 1),
            R.sixd_to_matrix(seen.first["root_rotation"][rows, best]),
            seen.first["root_translation"][rows, best],
            info,
        )
        cells = (at + 0.5) * fine.shape[-1] - 0.5  # cell centres at whole numbers
        grid = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(16), indexing="xy"), -1).float()
        near = ((grid[None, :, :, None] - cells[:, None, None]).abs() < 1.01).all(-1).any(-1)  # (2, 16, 16)
        assert bool(near.any()) and bool((~near).any())
        elsewhere = torch.where(near[:, None], fine, fine + 1.0)
        there = torch.where(near[:, None], fine + 1.0, fine)
        assert torch.allclose(look(seen.first, info, elsewhere, raw), before, atol=1e-6)
        assert bool(((look(seen.first, info, there, raw) - before).abs().amax(1) > 1e-3).all())


def test_where_to_look_is_not_differentiated_but_what_is_seen_is(toy_category: Category) -> None:
    student = network(toy_category)
    assert student.look is not None
    torch.nn.init.normal_(student.look.correct.weight, std=0.1)
    seen = student.see(*inputs(2))
    assert seen.first is not None
    for value in seen.first.values():
        value.retain_grad()
    student.look(
        seen.first, inputs(2)[1], torch.rand(2, 48, 16, 16), torch.rand(2, 5, 16, 16)
    ).sum().backward()
    assert all(value.grad is None for value in seen.first.values())
    assert student.look.reduce.weight.grad is not None
    assert float(student.look.reduce.weight.grad.abs().max()) > 0


def test_joint_maps_begin_as_no_correction(toy_category: Category) -> None:
    plain, student = network(toy_category), network(toy_category, joint_maps=True)
    missing, left = student.load_state_dict(plain.state_dict(), strict=False)
    assert not left and all(name.startswith("joint_maps.") for name in missing)
    with torch.no_grad():
        before, after = plain(*inputs(3)), student(*inputs(3))
    for name, value in before.items():
        assert torch.equal(value, after[name]), name


def test_a_joint_is_where_its_map_says(toy_category: Category) -> None:
    student = network(toy_category, joint_maps=True)
    maps = student.joint_maps
    assert maps is not None
    maps.maps.weight.data.zero_()
    features, fine, raw = torch.zeros(1, 64), torch.zeros(1, 48, 16, 16), torch.zeros(1, 5, 16, 16)
    with torch.no_grad():
        _, even = maps(features, fine, raw)
        assert torch.allclose(even["joint_point"], torch.zeros(1, 30, 2), atol=1e-6)
        # a map that is sure of one cell: the second channel of widened features, lit up there
        maps.widen = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        maps.maps.weight[4, 1] = 50.0
        wide = torch.zeros(1, 64, 16, 16)
        wide[0, 1, 3, 12] = 1.0
        _, sure = maps(features, wide, raw)
    at = torch.tensor([12.5 / 16 - 0.5, 3.5 / 16 - 0.5])
    assert torch.allclose(sure["joint_point"][0, 4], at, atol=1e-4)
    assert torch.allclose(sure["joint_point"][0, 5], torch.zeros(2), atol=1e-6)


def test_maps_of_joints_are_asked_for_what_is_in_the_crop_alone(toy_category: Category) -> None:
    body, surface = TorchBody(toy_category, 60), BodySurface(toy_category)
    student = network(toy_category, joint_maps=True)
    crops, info = inputs(2)
    joints = len(toy_category.skeleton)
    rotations = torch.zeros(2, joints, 4)
    rotations[..., 0] = 1
    batch = {
        "crops": crops, "crop_info": info, "quality": torch.ones(2), "joints": rotations,
        "joint_weight": torch.ones(2, joints), "morphology": torch.zeros(2, len(toy_category.morphology)),
        "root_rotation": torch.eye(3).expand(2, 3, 3), "root_translation": torch.tensor([[0.0, 0.0, 1.0]] * 2),
        "surface": torch.full((2, 16, 16), 65535),
    }  # fmt: skip
    seen = student.see(crops, info)

    def asked(given: dict[str, torch.Tensor]) -> dict[str, float]:
        out = {**seen.answer, **seen.surface}
        return student_loss(out, given, body, LossConfig(), surface)[1]

    parts = asked(batch)
    assert parts["joint_map"] > 2.8 and 0 < parts["joint_turn"] < 3.2
    away = {**batch, "root_translation": torch.tensor([[3.0, 0.0, 1.0]] * 2)}
    assert asked(away)["joint_map"] == 0.0
    assert asked({**batch, "quality": torch.zeros(2)})["joint_map"] == 0.0


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_depthwise_gradients_are_the_librarys(size: int, stride: int) -> None:
    torch.manual_seed(size + stride)
    shapes = (3, 6, 8, 8), (6, 1, size, size), (6,)
    given = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    grad = torch.randn(3, 6, 8 // stride, 8 // stride, dtype=torch.float64)
    x, weight, bias = given
    plain = torch.nn.functional.conv2d(x, weight, bias, stride, size // 2, 1, 6)
    ours = depthwise(x, weight, bias, stride)
    assert torch.equal(plain, ours)
    exact = torch.autograd.grad(plain, given, grad)
    for a, b in zip(exact, torch.autograd.grad(ours, given, grad), strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    half = [t.detach().bfloat16().requires_grad_() for t in given]
    found = torch.autograd.grad(depthwise(half[0], half[1], half[2], stride), half, grad.bfloat16())
    for a, b in zip(exact, found, strict=True):
        assert float((a - b).abs().max()) < 0.03 * float(a.abs().max())


@pytest.mark.parametrize("kind", ["none", "conv", "attention"])
def test_an_answer_depends_on_frames_within_the_radius_only(
    toy_category: Category, kind: Literal["none", "conv", "attention"]
) -> None:
    student = network(toy_category, temporal=kind)
    features = torch.randn(1, 40, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(student.temporal(features), features)  # it starts as the identity
        for parameter in student.temporal.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
        changed = features.clone()
        changed[0, 20] += torch.randn(64, generator=torch.Generator().manual_seed(3))
        moved = (student.temporal(changed) - student.temporal(features)).abs().amax(-1)[0]
        radius = student.config.radius
        assert radius == (0 if kind == "none" else 6)
        assert bool((moved[20 - radius : 21 + radius] > 0).all())
        assert not bool(moved[: 20 - radius].any()) and not bool(moved[21 + radius :].any())
        # a piece with that much around it is what the whole clip gives
        piece = student.temporal(features[:, 10:30])[0, radius : 20 - radius]
        whole = student.temporal(features)[0, 10 + radius : 30 - radius]
        assert torch.allclose(piece, whole, atol=1e-5)


def test_without_the_crops_place_the_answer_does_not_know_it(toy_category: Category) -> None:
    crops, info = inputs(2)
    other = info + torch.tensor([0.3, -0.2, 0.1])
    for place in (True, False):
        student = network(toy_category, place=place, look_back=False)
        with torch.no_grad():
            a, b = student(crops, info), student(crops, other)
        same = all(torch.equal(a[k], b[k]) for k in a)
        assert same is not place


def test_a_smaller_network_answers_without_its_missing_parts(toy_category: Category) -> None:
    with torch.no_grad():
        plain = network(toy_category, surface=False)(*inputs(3))
        one = network(toy_category, hypotheses=1, look_back=False)(*inputs(3))
    assert "surface_map" not in plain and plain["joint_rotations"].shape == (3, 30, 6)
    assert one["root_rotation"].shape == (3, 1, 6) and torch.equal(one["root_logprob"], torch.zeros(3, 1))
    assert one["surface_map"].shape == (3, 16, 16, 3)
    assert 0 <= float(one["surface_confidence"].min()) and float(one["surface_confidence"].max()) <= 1


@pytest.mark.parametrize("multiplex", ["relaxed", "winner", "softmax"])
def test_hypotheses_share_the_blame_as_asked(
    toy_category: Category, multiplex: Literal["relaxed", "winner", "softmax"]
) -> None:
    """Of four headings the third is nearest to the truth; the first is the likeliest."""
    yaws = R.yaw_sixd(torch.arange(4) * (torch.pi / 2)).expand(2, 4, 6).clone()
    logits = torch.tensor([2.0, 0.0, 0.0, -1.0]).expand(2, 4).clone()
    rotation, shift = yaws.requires_grad_(), torch.zeros(2, 4, 3).requires_grad_()
    logits.requires_grad_()
    out = {
        "root_rotation": rotation,
        "root_translation": shift,
        "root_logprob": logits.log_softmax(1),
        "joint_rotations": R.rotvec_to_sixd(torch.zeros(2, 30, 3)),
        "joint_spread": torch.zeros(2, 30),
        "morphology": torch.zeros(2, 11),
    }
    batch = {
        "root_rotation": R.sixd_to_matrix(R.yaw_sixd(torch.full((2,), torch.pi + 0.3))),
        "root_translation": torch.full((2, 3), 0.1),
        "joints": torch.tensor([1.0, 0, 0, 0]).expand(2, 30, 4),
        "joint_weight": torch.ones(2, 30),
        "morphology": torch.zeros(2, 11),
        "quality": torch.ones(2),
    }
    loss, parts = first_look_loss(out, batch, TorchBody(toy_category, 50), LossConfig(multiplex=multiplex))
    loss.backward()
    assert rotation.grad is not None and shift.grad is not None and logits.grad is not None
    turned, moved = rotation.grad.abs().sum((0, 2)), shift.grad.abs().sum((0, 2))
    if multiplex == "winner":
        assert turned.nonzero().flatten().tolist() == [2] and moved.nonzero().flatten().tolist() == [2]
        assert parts["root"] == pytest.approx(0.3, abs=1e-3)
    elif multiplex == "relaxed":
        assert bool((turned > 0).all()) and int(turned.argmax()) == 2
        assert moved.nonzero().flatten().tolist() == [2]
    else:
        assert int(turned.argmax()) == 0 and int(moved.argmax()) == 0
        assert "choice" not in parts and parts["root"] > 1.5
    # in every mode the best hypothesis is to become likelier
    assert float(logits.grad[:, 2].max()) < 0


def test_an_unknown_multiplex_is_refused() -> None:
    with pytest.raises(TrainingError, match="'mean'"):
        LossConfig(multiplex="mean")  # pyright: ignore[reportArgumentType]


def test_frozen_blocks_learn_nothing_and_the_rest_does(toy_category: Category) -> None:
    student = network(toy_category)
    before = student.see(*inputs(2)).features.detach()
    student.backbone.frozen = 5
    features = student.see(*inputs(2)).features
    assert torch.equal(features, before)
    features.square().sum().backward()
    for i, block in enumerate(student.backbone.blocks):
        learns = any(p.grad is not None and bool(p.grad.any()) for p in block.parameters())
        assert learns == (i >= 5), i
    assert all(p.grad is None for p in student.backbone.stem.parameters())
