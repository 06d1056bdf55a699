# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface map: its truth shows what is visible, stays in step with the picture, and is what the loss asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_clips import random_motion, write_clips

from dasr_blender.core import Category, project, rasterize, transform
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.pack import pack
from dasr_blender.training.student import rotation as R
from dasr_blender.training.student.body import TorchBody, crop_pixels
from dasr_blender.training.student.data import (
    NO_AUGMENT,
    AugmentConfig,
    Shard,
    augment,
    sample_crops,
    sample_surface,
)
from dasr_blender.training.student.losses import BodySurface, LossConfig, student_loss
from dasr_blender.training.student.surface import CELL, NOTHING, surface_grid

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shard(toy_category: Category, tmp_path_factory: pytest.TempPathFactory) -> Shard:
    folder = tmp_path_factory.mktemp("surface")
    write_clips(toy_category, folder / "clips", 4)
    pack(folder / "clips", folder / "shard", toy_category, crop=64)
    return Shard(folder / "shard", validation_every=0)


def test_a_cell_shows_a_vertex_that_lies_there_and_is_visible(toy_category: Category) -> None:
    motion = random_motion(toy_category, 8, 5)
    seen = transform(motion.camera_from_root, toy_category.posed_vertices(motion))
    pixels = project(seen, motion.focal_px, motion.principal_point)
    center, side = (pixels.min(1) + pixels.max(1)) / 2, np.ptp(pixels, axis=1).max(-1) * 1.2
    grid = surface_grid(toy_category, motion, center, side, 32)
    assert grid.dtype == np.uint16 and grid.shape == (8, 32, 32)
    frame, row, column = np.nonzero(grid != NOTHING)
    assert len(frame) > 8 * 60
    numbers = grid[frame, row, column]
    at = (pixels[frame, numbers] - center[frame]) / side[frame, None] * 32 + 16
    edges = seen[:, toy_category.body.faces[:, [0, 1, 2]]] - seen[:, toy_category.body.faces[:, [1, 2, 0]]]
    longest = np.linalg.norm(edges, axis=-1).max() * float(motion.focal_px[0]) / seen[..., 2].min()
    away = np.abs(at - np.stack([column, row], 1) - 0.5).max(1)
    assert away.max() <= 0.5 + longest / side.min() * 32
    assert np.median(away) < 1.0  # cells
    # what lies under a cell's centre is no further off than an edge from the vertex that stands for it
    fine = (pixels - center[:, None]) / side[:, None, None] * 32 + 16
    depth = rasterize(np.concatenate([fine, seen[..., 2:]], -1), toy_category.body.faces, (32, 32)).depth
    behind = seen[frame, numbers, 2] - depth[frame, row, column]
    assert np.abs(behind).max() <= np.linalg.norm(edges, axis=-1).max()


def test_a_body_too_large_to_number_is_refused(toy_category: Category) -> None:
    from dataclasses import replace

    body = replace(toy_category.body, vertices=np.zeros((NOTHING, 3)))
    with pytest.raises(TrainingError, match="65535 vertices"):
        surface_grid(
            replace(toy_category, body=body), random_motion(toy_category, 1, 0), *np.zeros((2, 1)), 8
        )


def test_vertex_numbers_move_with_the_picture() -> None:
    """A stored picture that shows its own coordinates tells which stored cell each cell of the crop came from."""
    size, wide = 64, 72
    cells = wide // CELL
    ramp = torch.arange(wide, dtype=torch.uint8) * 3
    stored = torch.zeros(40, 4, wide, wide, dtype=torch.uint8)
    stored[:, 0], stored[:, 1], stored[:, 2] = ramp, ramp[:, None], 255
    numbers = torch.arange(cells * cells).view(cells, cells).expand(40, -1, -1).clone()
    numbers[:, 4, 7] = NOTHING
    generator = torch.Generator().manual_seed(0)
    dx, dy = (torch.rand(2, 40, generator=generator) - 0.5) * 0.1
    scale = torch.exp((torch.rand(40, generator=generator) - 0.5) * 0.2)
    which = torch.rand(40, generator=generator) < 0.5
    twin = torch.arange(cells * cells).flip(0)
    crops = sample_crops(stored, size, dx, dy, scale, which)
    found = sample_surface(numbers, size, dx, dy, scale, which, twin)
    assert found.shape == (40, size // CELL, size // CELL)
    # the ramp is linear, so a cell's mean is its centre; pixel p of the ramp holds 3 p at p + 0.5
    at = torch.nn.functional.avg_pool2d(crops[:, :2] * 255 / 3 + 0.5, CELL) / CELL  # stored cells
    inside = (
        torch.nn.functional.avg_pool2d(crops[:, 2], CELL) > 0.999
    )  # beyond, the picture fades into nothing
    near_an_edge = ((at - at.round()).abs() < 0.02).any(1)
    column, row = at[:, 0].floor().long(), at[:, 1].floor().long()
    expected = row * cells + column
    expected = torch.where(which[:, None, None], cells * cells - 1 - expected, expected)
    expected = torch.where((row == 4) & (column == 7), NOTHING, expected)
    compared = inside & ~near_an_edge
    assert compared.float().mean() > 0.8 and bool(which.any()) and bool((~which).any())
    assert torch.equal(found[compared], expected[compared])


def test_augmented_cells_show_vertices_of_the_augmented_targets(toy_category: Category, shard: Shard) -> None:
    surface = BodySurface(toy_category)
    setting = AugmentConfig(shift=0.06, scale=0.1, mirror=0.5, erase=0.0)
    rows = np.arange(0, shard.rows, 2)
    batch = augment(shard.batch(rows), 64, setting, torch.Generator().manual_seed(1), surface.twin)
    body = TorchBody(toy_category, 100_000)
    assert list(body.chosen) == list(range(len(toy_category.body.vertices)))
    with torch.no_grad():
        vertices, _ = body(R.quat_to_matrix(batch["joints"]), batch["morphology"])
        seen = crop_pixels(vertices, batch["root_rotation"], batch["root_translation"], batch["crop_info"])
    frame, row, column = (batch["surface"] != NOTHING).nonzero().unbind(1)
    at = (seen[frame, batch["surface"][frame, row, column]] + 0.5) * (64 / CELL)
    away = (at - torch.stack([column, row], 1) - 0.5).abs().amax(1)
    assert len(frame) > 500 and float(away.quantile(0.5)) < 1.0 and float(away.quantile(0.98)) < 2.5


def test_the_body_knows_its_other_side(toy_category: Category) -> None:
    surface = BodySurface(toy_category)
    mirrored = surface.rest * torch.tensor([-1.0, 1.0, 1.0])
    assert float((surface.rest[surface.twin] - mirrored).norm(dim=-1).max()) < 2e-2
    assert torch.equal(surface.rest[surface.twin[surface.twin]], surface.rest)
    assert surface.colour.shape == surface.rest.shape and surface.colour_basis.shape[1:] == surface.rest.shape
    assert not surface.state_dict()  # the body is the category's, not the checkpoint's


def test_the_right_surface_and_colours_cost_nothing(toy_category: Category, shard: Shard) -> None:
    surface, body = BodySurface(toy_category), TorchBody(toy_category)
    batch = augment(shard.batch(np.arange(12)), 64, NO_AUGMENT, torch.Generator(), surface.twin)
    shown = batch["surface"] != NOTHING
    turn = R.quat_to_matrix(batch["joints"])
    root = torch.cat([batch["root_rotation"][..., 0], batch["root_rotation"][..., 1]], -1)
    out = {
        "root_rotation": root[:, None],
        "root_translation": batch["root_translation"][:, None],
        "root_logprob": torch.zeros(12, 1),
        "joint_rotations": torch.cat([turn[..., 0], turn[..., 1]], -1),
        "joint_spread": torch.zeros(12, 30),
        "morphology": batch["morphology"] / body.std,
        "appearance": torch.zeros(12, 3),  # the clips are drawn in the body's mean colours
        "surface_map": surface.rest[batch["surface"].clamp(max=len(surface.rest) - 1)],
        "surface_spread": torch.zeros(shown.shape),
        "surface_visible": torch.where(shown, 9.0, -9.0),
    }
    parts = student_loss(out, batch, body, LossConfig(), surface)[1]
    assert parts["surface"] < 1e-6 and parts["surface_visible"] < 1e-3 and parts["silhouette"] < 0.01
    assert parts["appearance"] < 0.05
    wrong = {**out, "surface_map": out["surface_map"] + 0.1, "appearance": torch.full((12, 3), 3.0)}
    wrong["root_translation"] = out["root_translation"] + torch.tensor([0.3, 0.0, 0.0])
    worse = student_loss(wrong, batch, body, LossConfig(), surface)[1]
    assert worse["surface"] == pytest.approx(0.1 * 3**0.5, rel=1e-3)
    assert worse["silhouette"] > 0.1 and worse["appearance"] > 2 * parts["appearance"]


def test_packing_writes_what_a_cell_shows(toy_category: Category, shard: Shard) -> None:
    batch = shard.batch(np.arange(shard.rows))
    cover = batch["crops"][:, 3].float().unfold(1, CELL, CELL).unfold(2, CELL, CELL).mean((-1, -2)) / 255
    shown = batch["surface"] != NOTHING
    assert bool((cover[shown] > 0.49).all())  # nothing is shown outside the mask
    assert float(shown[cover > 0.9].float().mean()) > 0.98  # and hardly a cell inside it is empty
    assert int(batch["surface"][shown].max()) < len(toy_category.body.vertices)
    assert Path(shard.folder / "surface.u16").stat().st_size == shown.numel() * 2
