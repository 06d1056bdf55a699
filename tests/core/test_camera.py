# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinhole and crop algebra: what a round trip must keep, and what geometry says."""

from __future__ import annotations

import numpy as np
import pytest

from dasr_blender.core import (
    CropBox,
    Pinhole,
    crop_info,
    decode_root,
    default_focal,
    encode_root,
    project,
    ray_rotation,
    transform,
)
from dasr_blender.core.rotation import geodesic, matrix_to_rotvec, rotvec_to_matrix

RNG = np.random.default_rng(5)
T = 6
FOCAL = RNG.uniform(500, 900, T)
PP = np.array([320.0, 240.0])
CENTER = RNG.uniform(50, 450, (T, 2))
SIDE = RNG.uniform(60, 300, T)
CROP = (CENTER, SIDE, FOCAL, PP)


def poses(*middle: int) -> np.ndarray:
    pose = np.tile(np.eye(4), (T, *middle, 1, 1))
    pose[..., :3, :3] = rotvec_to_matrix(RNG.normal(0, 1.5, (T, *middle, 3)))
    pose[..., :3, 3] = RNG.normal(0, 0.5, (T, *middle, 3)) + [0, 0, 4]
    return pose


@pytest.mark.parametrize("middle", [(), (6,), (2, 3)])
def test_root_round_trip(middle: tuple[int, ...]) -> None:
    pose = poses(*middle)
    rot, trans = encode_root(pose, *CROP)
    assert rot.shape == (T, *middle, 3, 3) and trans.shape == (T, *middle, 3)
    np.testing.assert_allclose(decode_root(rot, trans, *CROP), pose, atol=1e-12)
    again = encode_root(decode_root(rot, trans, *CROP), *CROP)
    np.testing.assert_allclose(again[0], rot, atol=1e-12)
    np.testing.assert_allclose(again[1], trans, atol=1e-12)


def test_decoded_root_is_seen_where_it_says() -> None:
    trans = RNG.normal(0, 0.3, (T, 3))
    pose = decode_root(np.tile(np.eye(3), (T, 1, 1)), trans, *CROP)
    seen = project(pose[:, :3, 3], FOCAL, PP)
    np.testing.assert_allclose(seen, CENTER + SIDE[:, None] * trans[:, :2], atol=1e-9)
    np.testing.assert_allclose(pose[:, 2, 3], FOCAL / SIDE * np.exp(trans[:, 2]), rtol=1e-12)


def test_a_root_behind_the_camera_has_no_code() -> None:
    pose = poses()
    pose[2, 2, 3] = -1
    with pytest.raises(ValueError, match="in front"):
        encode_root(pose, *CROP)


def test_ray_rotation_is_the_smallest_that_reaches_the_ray() -> None:
    rotation = ray_rotation(CENTER, FOCAL, PP)
    ray = np.concatenate([(CENTER - PP) / FOCAL[:, None], np.ones((T, 1))], axis=1)
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    np.testing.assert_allclose(rotation[:, :, 2], ray, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-12)
    np.testing.assert_allclose(
        np.swapaxes(rotation, 1, 2) @ rotation, np.tile(np.eye(3), (T, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(geodesic(rotation, np.eye(3)), np.arccos(ray[:, 2]), atol=1e-7)
    np.testing.assert_allclose(matrix_to_rotvec(rotation)[:, 2], 0, atol=1e-12)
    np.testing.assert_allclose(ray_rotation(PP[None], 700.0, PP)[0], np.eye(3), atol=1e-15)


def test_turning_the_camera_changes_only_where_the_crop_is() -> None:
    """A subject carried along the ray's rotation looks the same, and so has the same relative rotation."""
    look = rotvec_to_matrix(np.array([0.4, 1.0, -0.2]))
    straight = np.eye(4)
    straight[:3, :3] = look
    straight[:3, 3] = [0, 0, 3]
    turn = ray_rotation(CENTER, FOCAL, PP)
    moved = np.tile(straight, (T, 1, 1))
    moved[:, :3, :3] = turn @ look
    moved[:, :3, 3] = turn @ straight[:3, 3]
    rot, trans = encode_root(moved, *CROP)
    np.testing.assert_allclose(rot, np.tile(look, (T, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(trans[:, :2], 0, atol=1e-12)


def test_crop_info_scales_away() -> None:
    """It describes rays, so a picture resampled to another size has the same."""
    info = crop_info(*CROP)
    np.testing.assert_allclose(crop_info(CENTER * 2, SIDE * 2, FOCAL * 2, PP * 2), info, rtol=1e-12)
    np.testing.assert_allclose(info[:, 0] * FOCAL + PP[0], CENTER[:, 0])
    np.testing.assert_allclose(info[:, 2] * FOCAL, SIDE)
    np.testing.assert_allclose(crop_info(CENTER, SIDE, 700.0, PP)[:, 2], SIDE / 700)


def test_projection_by_hand_and_in_every_shape() -> None:
    np.testing.assert_allclose(project(np.array([0.5, -0.25, 2.0]), 100.0, np.array([10.0, 20.0])), [35, 7.5])
    points = RNG.normal(size=(T, 2, 9, 3)) + [0, 0, 5]
    got = project(points, FOCAL, PP)
    for t in range(T):
        np.testing.assert_allclose(got[t], project(points[t], FOCAL[t], PP))
    np.testing.assert_allclose(Pinhole(FOCAL, PP, np.array([640, 480])).project(points), got)
    half = Pinhole(FOCAL, PP, np.array([640, 480])).scaled(0.5)
    np.testing.assert_allclose(half.project(points), got / 2)
    assert np.all(np.isfinite(project(np.zeros((3, 3)), 100.0, PP)))


def test_transform_by_hand_and_in_every_shape() -> None:
    pose = poses(3)
    points = RNG.normal(size=(8, 3))
    got = transform(pose, points)
    assert got.shape == (T, 3, 8, 3)
    np.testing.assert_allclose(got[2, 1, 5], (pose[2, 1] @ np.r_[points[5], 1])[:3], atol=1e-12)
    own = RNG.normal(size=(T, 3, 8, 3))
    np.testing.assert_allclose(transform(pose, own)[4, 0], transform(pose[4, 0], own[4, 0]), atol=1e-12)


def test_crop_box_places_pixels() -> None:
    crop = CropBox(CENTER, SIDE)
    assert len(crop) == T
    corners = crop.corners()
    np.testing.assert_allclose(crop.crop_pixels(corners[:, None, :2], 128)[:, 0], 0, atol=1e-9)
    np.testing.assert_allclose(crop.crop_pixels(corners[:, 2:], 128), 128, atol=1e-9)
    np.testing.assert_allclose(crop.crop_pixels(CENTER, 128), 64, atol=1e-9)


def test_default_focal_follows_the_longer_side() -> None:
    assert default_focal((640, 480)) == default_focal((480, 640)) == pytest.approx(768)
