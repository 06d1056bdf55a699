# SPDX-License-Identifier: GPL-3.0-or-later
"""The texture against the colours that the frames were drawn with."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from toy_clips import random_motion, render

from dasr_blender.core import Category, Motion, load_category
from dasr_blender.predict import PredictError, Texture, bake_texture, clip_views
from dasr_blender.predict import texture as module

FRAMES, SIZE = 12, (480, 360)


def painted(category: Category) -> np.ndarray:
    """Colours (V, 3) 0…1 that differ from place to place and from side to side."""
    points = category.body.vertices
    x, y, z = ((points[:, c] - points[:, c].min()) / np.ptp(points[:, c]) for c in range(3))
    return np.stack([0.15 + 0.7 * y, 0.2 + 0.6 * x, 0.8 - 0.6 * z], 1)


def turned(category: Category, turn: float) -> Motion:
    """The toy turning by so much, in radians, before a camera that stands still."""
    motion = random_motion(category, FRAMES, 3, SIZE)
    angle = np.linspace(0, turn, FRAMES)
    yaw = np.tile(np.eye(4), (FRAMES, 1, 1))
    yaw[:, 0, 0] = yaw[:, 1, 1] = np.cos(angle)
    yaw[:, 1, 0], yaw[:, 0, 1] = np.sin(angle), -np.sin(angle)
    pose = motion.camera_from_root[:1] @ yaw
    pose[:, :3, 3] = [0, 0, 1.6]
    return replace(motion, camera_from_root=pose)


def filmed(category: Category, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    colours = painted(category).astype(np.float32)
    frames, masks = render(replace(category, body=replace(category.body, appearance_mean=colours)), motion)
    return frames, masks > 0


def baked(category: Category, motion: Motion, frames: np.ndarray, masks: np.ndarray, **options) -> Texture:
    return bake_texture(
        category, clip_views(motion, lambda i: frames[i], lambda i: masks[i]), size=256, **options
    )


def at_texels(category: Category, found: Texture, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture (N, 3) 0…1 where the body is, and vertex values (V, C) there (N, C)."""
    texels = module._texels(category.body.uv, len(found.picture))
    return found.picture[texels.row, texels.column] / 255, texels.interpolate(category.body.faces, values)


def off(category: Category, found: Texture) -> np.ndarray:
    """How far each texel's colour is from the painted one, (N,) of 0…1."""
    picture, true = at_texels(category, found, painted(category))
    return np.abs(picture - true).max(1)


def test_what_is_seen_from_all_sides_has_its_colours(toy_category):
    motion = turned(toy_category, 2 * np.pi)
    told: list[float] = []
    found = baked(toy_category, motion, *filmed(toy_category, motion), progress=told.append)
    assert found.picture.shape == (256, 256, 3) and found.picture.dtype == np.uint8
    assert found.seen > 0.6 and np.median(off(toy_category, found)) < 0.02
    assert np.percentile(off(toy_category, found), 90) < 0.12
    assert np.median(np.abs(found.colours - painted(toy_category)).max(1)) < 0.06
    assert told == sorted(told) and told[-1] == 1


def test_a_side_that_is_not_seen_takes_after_the_other(toy_category):
    motion = turned(toy_category, 0.3)
    found = baked(toy_category, motion, *filmed(toy_category, motion))
    assert 0.1 < found.seen < 0.6
    own = off(toy_category, found)
    picture, twins = at_texels(toy_category, found, painted(toy_category)[toy_category.body.mirror_vertex])
    nearer = np.minimum(own, np.abs(picture - twins).max(1))
    assert np.median(nearer) < 0.05
    assert np.mean(nearer < 0.08) > np.mean(own < 0.08) + 0.05  # so its own colours were not seen there


def test_frames_that_the_motion_doubts_hardly_count(toy_category):
    motion = turned(toy_category, 2 * np.pi)
    frames, masks = filmed(toy_category, motion)
    frames[::4] = np.where(masks[::4, ..., None], 255 - frames[::4], frames[::4])
    doubted = replace(motion, confidence=np.where(np.arange(FRAMES) % 4 == 0, 0.0, 1.0))
    assert np.median(off(toy_category, baked(toy_category, doubted, frames, masks))) < 0.02
    assert np.percentile(off(toy_category, baked(toy_category, motion, frames, masks)), 75) > 0.1


def test_a_view_that_disagrees_with_the_rest_is_left_behind(toy_category, monkeypatch):
    motion = turned(toy_category, 0.1)
    frames, masks = filmed(toy_category, motion)
    right = baked(toy_category, motion, frames, masks).picture.astype(float)
    frames[5] = np.where(masks[5][..., None], 255 - frames[5], frames[5])

    def change() -> float:
        return float(np.abs(baked(toy_category, motion, frames, masks).picture - right).mean())

    with_agreement = change()
    monkeypatch.setattr(module, "_agreed", module._sums)
    assert 2 * with_agreement < change()


def test_the_background_does_not_come_off_on_the_body(toy_category, monkeypatch):
    motion = turned(toy_category, 2 * np.pi)
    frames, masks = filmed(toy_category, motion)
    frames[~masks] = 255
    wide = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((25, 25), np.uint8)) for mask in masks]) > 0
    aside = replace(
        motion, principal_point=motion.principal_point + 7
    )  # the body lies beside where it is seen

    def white() -> float:
        found = baked(toy_category, aside, frames, wide)
        return float((at_texels(toy_category, found, painted(toy_category))[0].min(1) > 0.8).mean())

    share = white()
    monkeypatch.setattr(module, "_likeness", lambda *_: np.ones((module._LEVELS,) * 3))
    assert share < 0.03 < white()


def test_no_view_leaves_the_networks_colours(toy_category):
    found = bake_texture(toy_category, [], size=64)
    assert found.seen == 0 and found.colours == pytest.approx(toy_category.body.colours())


def test_frames_in_which_the_body_is_not_on_the_subject_show_nothing(toy_category):
    motion = turned(toy_category, 2 * np.pi)
    frames, masks = filmed(toy_category, motion)
    masks[::2] = False
    assert baked(toy_category, motion, frames, masks).seen > 0.4
    assert baked(toy_category, motion, frames, np.zeros_like(masks)).seen == 0


def test_a_map_that_lies_over_itself_is_refused(toy_category):
    body = replace(toy_category.body, uv=np.zeros_like(toy_category.body.uv) + [[0, 0], [1, 0], [0, 1]])
    with pytest.raises(PredictError, match="toy share places in its UV map"):
        bake_texture(replace(toy_category, body=body, name="toy"), [], size=64)


def test_every_texel_finds_its_place_on_the_other_side():
    category = load_category("quadruped")
    body = category.body
    texels = module._texels(body.uv, 256)
    other = module._other_side(body, texels, 256)
    here = texels.interpolate(body.faces, body.vertices.astype(np.float64))
    assert np.mean(other >= 0) > 0.99
    found = other >= 0
    apart = np.linalg.norm(here[found] - here[other[found]] * [-1, 1, 1], axis=1)
    assert np.percentile(apart, 99) < 0.02 * category.nominal_size


def test_it_is_a_file(toy_category):
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[0, 1] = (250, 10, 20)
    data = np.frombuffer(Texture(picture, np.zeros((1, 3)), 1.0).png(), np.uint8)
    assert np.array_equal(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], picture)
