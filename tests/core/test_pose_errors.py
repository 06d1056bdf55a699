# SPDX-License-Identifier: GPL-3.0-or-later
"""How a network errs, as the bundle keeps it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy import toy_category_in_memory

from dasr_blender.core import CategoryError, load_category, save_category
from dasr_blender.core.pose_errors import CONFIDENCE_ANGLE, PoseErrors, credible_error, expected_error


def some_errors(joints: int) -> PoseErrors:
    rng = np.random.default_rng(1)
    mixed = rng.normal(size=(3 * (joints - 1), 4))
    square = mixed @ mixed.T + 2 * np.eye(len(mixed))
    size = np.sqrt(np.diag(square))
    return PoseErrors(rng.uniform(0.3, 1.2, (joints - 1, 3)), square / size[:, None] / size)


def test_the_bundle_keeps_them_and_forgets_an_earlier_networks(tmp_path: Path) -> None:
    category = toy_category_in_memory()
    errors = some_errors(len(category.skeleton))
    folder = save_category(replace(category, pose_errors=errors), tmp_path / "toy")
    loaded = load_category(folder)
    assert loaded.pose_errors is not None and "errors.npz" in loaded.hashes
    assert np.allclose(loaded.pose_errors.scale, errors.scale, atol=1e-6)
    assert np.allclose(loaded.pose_errors.correlation, errors.correlation, atol=1e-6)
    save_category(replace(loaded, pose_errors=None), folder)
    assert load_category(folder).pose_errors is None and not (folder / "errors.npz").exists()


def test_what_does_not_fit_the_skeleton_is_refused(tmp_path: Path) -> None:
    category = toy_category_in_memory()
    good = some_errors(len(category.skeleton))
    lopsided = good.correlation.copy()
    lopsided[0, 1] += 0.1
    for field, bad in (
        ("scale", replace(good, scale=good.scale[1:])),
        ("scale", replace(good, scale=good.scale * 0)),
        ("correlation", replace(good, correlation=good.correlation[1:])),
        ("correlation", replace(good, correlation=lopsided)),
        ("correlation", replace(good, correlation=np.ones_like(good.correlation))),
    ):
        with pytest.raises(CategoryError, match=rf"errors\.npz.*'{field}'"):
            save_category(replace(category, pose_errors=bad), tmp_path / "toy")
    folder = save_category(replace(category, pose_errors=good), tmp_path / "toy")
    (folder / "errors.npz").write_bytes(b"nothing")
    with pytest.raises(CategoryError, match=r"errors\.npz.*SHA-256"):
        load_category(folder)


def test_confidence_is_an_error_and_no_joint_is_surer_than_five_degrees() -> None:
    confidence = np.exp(-np.radians([0, 1, 20, 60]) / CONFIDENCE_ANGLE)
    assert np.degrees(expected_error(confidence)) == pytest.approx([0, 1, 20, 60])
    assert np.degrees(credible_error(confidence)) == pytest.approx([4.58, 4.58, 20, 28.65], abs=0.01)
