# SPDX-License-Identifier: GPL-3.0-or-later
"""From a signed distance to the category's body, and the colours on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from toy_clips import random_motion, render

from dasr_blender.core import Category
from dasr_blender.training.clip_folder import mask_boxes
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.evaluate.protocol import Surface, surface_scores
from dasr_blender.training.evaluate.scene import Scene
from dasr_blender.training.teacher.clips import TeacherClip
from dasr_blender.training.teacher.mesh import (
    TopologyConfig,
    appearance_code,
    extract_mesh,
    fit_topology,
    vertex_colours,
)


def two_balls(points: np.ndarray) -> np.ndarray:
    large = np.linalg.norm(points - [0.1, 0, 0], axis=1) - 0.3
    return np.minimum(large, np.linalg.norm(points + [0.45, 0, 0], axis=1) - 0.08)


def test_the_larger_piece_of_a_surface_looking_outwards() -> None:
    asked = []

    def counted(points: np.ndarray) -> np.ndarray:
        assert points.dtype == np.float32
        asked.append(len(points))
        return two_balls(points)

    vertices, faces = extract_mesh(counted, np.array([-0.7, -0.5, -0.5]), np.array([0.7, 0.5, 0.5]), 96)
    away = np.linalg.norm(vertices - [0.1, 0, 0], axis=1)
    assert np.abs(away - 0.3).max() < 1e-3  # the small ball is gone, the large one is where it was
    mesh = trimesh.Trimesh(vertices, faces)
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.01)
    assert sum(asked) < 0.5 * 96 * 69 * 69  # most of the box was never looked at


@pytest.mark.parametrize(("value", "word"), [(1.0, "outside"), (-1.0, "inside")])
def test_no_surface_is_said(value: float, word: str) -> None:
    with pytest.raises(TrainingError, match=f"no surface .*{word}"):
        extract_mesh(lambda p: np.full(len(p), value, np.float32), -np.ones(3), np.ones(3), 32)


def test_a_body_of_a_known_shape_is_recovered(toy_category: Category) -> None:
    body = toy_category.body
    shape = np.resize([1.0, -0.8, 0.9], len(toy_category.morphology)) * body.morphology_std
    away = np.linalg.norm(body.vertices - [0.0, 0.1, 0.08], axis=1)
    bump = 0.09 * np.exp(-0.5 * (away / 0.2) ** 2)
    target = body.shaped(shape, bump)[0]
    mesh = trimesh.Trimesh(target, body.faces, process=False)
    finer = mesh.subdivide()  # another topology
    points, faces = finer.vertices, finer.faces

    def chamfer(beta: np.ndarray, relief: np.ndarray) -> float:
        mine = Surface(body.shaped(beta, relief)[0], body.faces, seed=1)
        return float(surface_scores([mine], [Surface(target, body.faces)])[0, 0])

    zero, flat = np.zeros(len(shape)), np.zeros(len(bump))
    beta, relief = fit_topology(toy_category, zero, points, faces)
    before, named, after = chamfer(zero, flat), chamfer(beta, flat), chamfer(beta, relief)
    assert after < 0.4 * before and after < named
    assert np.linalg.norm(beta - shape) < 0.5 * np.linalg.norm(shape)
    assert np.corrcoef(relief, bump)[0, 1] > 0.6
    low, high = toy_category.morphology_range.T
    assert ((beta >= low) & (beta <= high)).all()


def test_what_the_surface_does_not_show_stays(toy_category: Category) -> None:
    body = toy_category.body
    swollen = body.shaped(None, np.full(len(body.vertices), 0.02))[0]
    front = (swollen[body.faces][..., 1] < -0.05).all(1)
    begun = np.full(len(body.vertices), 0.003)
    shape, relief = fit_topology(
        toy_category, np.zeros(len(toy_category.morphology)), swollen, body.faces[front], relief0=begun,
        config=TopologyConfig(steps=0),
    )  # fmt: skip
    y = body.vertices[:, 1]
    ahead = relief[y < -0.15]
    assert np.median(ahead) > 0.007
    assert np.abs(relief[y > 0.2] - 0.003).max() < 0.006


def coloured_clip(category: Category, colours: np.ndarray, yaw: int) -> TeacherClip:
    coloured = replace(category, body=replace(category.body, appearance_mean=colours))
    motion = random_motion(category, 6, yaw)
    images, masks = render(coloured, motion)
    boxes = mask_boxes(list(masks))
    assert boxes is not None
    scene = Scene(
        f"c{yaw}", list(images), list(masks), boxes, motion.focal_px, motion.principal_point, motion.fps
    )
    images[0] = 255  # a frame that was rejected does not count
    return TeacherClip(scene, motion, None, np.array([0.0, 1, 1, 1, 1, 1]))


def test_colours_are_read_off_the_frames(toy_category: Category) -> None:
    body = toy_category.body
    true = np.stack(
        [0.5 + 0.6 * body.vertices[:, 1], np.full(len(body.vertices), 0.3), body.vertices[:, 2] + 0.4], 1
    )
    true = np.clip(true, 0.05, 0.95)
    clips = [coloured_clip(toy_category, true, seed) for seed in (0, 1, 2, 3)]
    shape = [clip.motion.morphology for clip in clips]
    for clip in clips[1:]:
        clip.motion = replace(clip.motion, morphology=shape[0])
    found = vertex_colours(toy_category, clips[:1], shape[0], np.zeros(0))
    assert found.shape == true.shape and found.min() >= 0 and found.max() <= 1
    assert np.median(np.abs(found - true)) < 0.05
    nothing = replace(clips[0], quality=np.zeros(6))
    assert vertex_colours(toy_category, [nothing], shape[0], np.zeros(0)) == pytest.approx(body.colours())


def test_the_code_nearest_to_some_colours(toy_category: Category) -> None:
    body = toy_category.body
    rng = np.random.default_rng(0)
    basis = rng.normal(0, 0.05, (3, *body.vertices.shape)).astype(np.float32)
    rich = replace(toy_category, body=replace(body, appearance_basis=basis))
    code = np.array([0.5, -0.3, 0.8])
    colours = body.appearance_mean + np.tensordot(code, basis, axes=1)
    assert appearance_code(rich, colours) == pytest.approx(code, abs=0.01)
