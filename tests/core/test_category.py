# SPDX-License-Identifier: GPL-3.0-or-later
"""Category bundles: what is written comes back, and whatever is off is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy import toy_category_in_memory

from dasr_blender.core import (
    Category,
    CategoryError,
    Proportion,
    category_search_path,
    list_categories,
    load_category,
    save_category,
    sha256_of,
)
from dasr_blender.core.body import LAYOUT


@pytest.fixture
def bundle(toy_category_folder: Path, tmp_path: Path) -> Path:
    """A copy of the toy bundle that a test may damage."""
    return Path(shutil.copytree(toy_category_folder, tmp_path / "toy"))


def edit(bundle: Path, change: Callable[[dict], None]) -> None:
    """Change the description as a person with an editor would."""
    path = bundle / "category.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def rehash(bundle: Path) -> None:
    edit(bundle, lambda d: d["files"].update({n: sha256_of(bundle / n) for n in d["files"]}))


def edit_body(bundle: Path, change: Callable[[dict], None]) -> None:
    """Change the arrays and make the hash right again."""
    with np.load(bundle / "body.npz") as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez(bundle / "body.npz", **arrays)
    rehash(bundle)


def test_round_trip_keeps_everything(toy_category: Category) -> None:
    made = toy_category_in_memory()
    for name in LAYOUT:
        np.testing.assert_array_equal(
            getattr(toy_category.body, name), getattr(made.body, name), err_msg=name
        )
    for name in ("name", "version", "licence", "credits", "profiles", "morphology", "nominal_size", "network",
                 "training"):  # fmt: skip
        assert getattr(toy_category, name) == getattr(made, name), name
    skeleton = toy_category.skeleton
    assert skeleton.names == made.skeleton.names and skeleton.roles == made.skeleton.roles
    for name in ("parents", "mirror", "limits"):
        np.testing.assert_array_equal(getattr(skeleton, name), getattr(made.skeleton, name))
    assert toy_category.predictor_path is None
    assert toy_category.morphology_names[0] == "leg_length"
    assert toy_category.morphology_range.shape == (11, 2)


def test_saving_what_was_read_gives_the_same_bytes(toy_category: Category, tmp_path: Path) -> None:
    assert toy_category.path is not None
    folder = save_category(toy_category, tmp_path / "again")
    for name in ("body.npz", "category.json"):
        assert (folder / name).read_bytes() == (toy_category.path / name).read_bytes()


def test_networks_and_card_are_hashed_and_networks_are_copied(tmp_path: Path) -> None:
    network = tmp_path / "exported.onnx"
    network.write_bytes(b"weights")
    second = tmp_path / "second.onnx"
    second.write_bytes(b"second look")
    third = tmp_path / "third.onnx"
    third.write_bytes(b"landmarks")
    category = replace(
        toy_category_in_memory(), predictor_path=network, refiner_path=second, landmarks_path=third
    )
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "CARD.md").write_text("A toy.")
    loaded = load_category(save_category(category, folder))
    assert loaded.predictor_path is not None and loaded.predictor_path.read_bytes() == b"weights"
    assert loaded.refiner_path is not None and loaded.refiner_path.read_bytes() == b"second look"
    assert loaded.landmarks_path is not None and loaded.landmarks_path.read_bytes() == b"landmarks"
    assert set(loaded.hashes) == {"body.npz", "predictor.onnx", "refiner.onnx", "landmarks.onnx", "CARD.md"}
    save_category(loaded, folder)
    assert load_category(folder).predictor_path == loaded.predictor_path
    assert load_category(folder).refiner_path == loaded.refiner_path
    (folder / "predictor.onnx").write_bytes(b"weightz")
    with pytest.raises(CategoryError, match=r"predictor\.onnx.*SHA-256"):
        load_category(folder)


def test_found_by_name_in_the_order_of_the_search(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = tmp_path / "user"
    shutil.copytree(bundle, user / "toy")
    monkeypatch.setenv("DASR_CATEGORIES", os.fspath(user))
    assert user in category_search_path()
    assert list_categories()["toy"] == user / "toy"
    assert list_categories([bundle.parent])["toy"] == bundle
    assert load_category("toy").path == (user / "toy").resolve()
    assert load_category("toy", search=[bundle.parent]).path == bundle.resolve()


@pytest.mark.parametrize("name", ["unicorn", "../toy", "", "/nowhere/toy"])
def test_unknown_names_say_what_there_is(name: str, bundle: Path) -> None:
    with pytest.raises(CategoryError, match="toy") as caught:
        load_category(name if name else "unicorn", search=[bundle.parent])
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_description(tmp_path: Path) -> None:
    with pytest.raises(CategoryError, match=r"no category\.json"):
        load_category(tmp_path)


def set_in(*keys: str | int, to: object) -> Callable[[dict], None]:
    def change(data: dict) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("version"), "'version' is missing"),
        (set_in("licence", to=3), "'licence' must be a text"),
        (set_in("format", to=99), "'format' is newer"),
        (set_in("nominal_size", to=0), "'nominal_size' must be positive"),
        (set_in("nominal_size", to=True), "'nominal_size' must be a number"),
        (set_in("joints", to={}), "'joints' must be a list"),
        (set_in("joints", 3, "parent", to="wing"), r"'joints\[3\]\.parent'.*'wing'"),
        (set_in("joints", 3, "mirror", to="wing"), r"'joints\[3\]\.mirror'.*'wing'"),
        (set_in("joints", 3, "role", to="wheel"), r"'joints\[3\]\.role' must be one of"),
        (set_in("joints", 3, "limits", to=[[0, 1]]), r"'joints\[3\]\.limits'"),
        (set_in("joints", 3, "limits", to="none"), r"'joints\[3\]\.limits'"),
        (set_in("joints", 0, "parent", to="spine"), "'joints' is not a joint tree"),
        (lambda d: d["joints"].pop(), "30 joints.*29"),
        (lambda d: d["morphology"].pop(), "11 proportions"),
        (set_in("morphology", 0, "minimum", to=5), r"'morphology\[0\]\.minimum'"),
        (lambda d: d["profiles"].pop("rigify"), "'profiles' lacks 'rigify'"),
        (lambda d: d["profiles"]["neutral"].pop("head"), r"'profiles\.neutral' lacks the joint 'head'"),
        (set_in("profiles", "neutral", "head", to="jaw"), r"'profiles\.neutral' gives two joints"),
        (set_in("network", "input_size", to=-1), r"'network\.input_size' must be at least 1"),
        (set_in("network", "std", to=[1.0]), r"'network\.std'"),
        (set_in("network", "inputs", "crops", to=[1.5]), r"'network\.inputs\.crops'"),
        (lambda d: d["files"].pop("body.npz"), r"'files' lacks body\.npz"),
        (set_in("files", "../x", to="0" * 64), "not a plain file name"),
        (set_in("files", "body.npz", to="0"), "not a SHA-256"),
        (set_in("files", "CARD.md", to="0" * 64), r"CARD\.md: the file is missing"),
        (set_in("files", "body.npz", to="0" * 64), r"body\.npz: its SHA-256"),
        (set_in("name", to="../x"), "'name' must be"),
        (set_in("training", to=[]), "'training' must be an object"),
    ],
)
def test_a_wrong_description_is_named(bundle: Path, change: Callable, message: str) -> None:
    edit(bundle, change)
    with pytest.raises(CategoryError, match=message) as caught:
        load_category(bundle)
    assert str(bundle) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff\xfe"])
def test_a_description_that_is_no_json(bundle: Path, text: str) -> None:
    (bundle / "category.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CategoryError, match=r"category\.json"):
        load_category(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("uv"), "'uv' is missing"),
        (lambda a: a.update(vertices=a["vertices"][:, :2]), "'vertices' has the shape"),
        (lambda a: a.update(vertices=a["vertices"][:-1]), "V should be"),
        (lambda a: a.update(vertices=a["vertices"][0]), "'vertices' has 1 dimensions"),
        (lambda a: a.update(vertices=a["vertices"] * np.nan), "'vertices' holds a value that is not finite"),
        (lambda a: a.update(faces=a["faces"] + 10_000), "'faces' holds a number outside"),
        (lambda a: a.update(faces=a["faces"].astype(float)), "'faces' has the wrong type"),
        (lambda a: a.update(skin_index=a["skin_index"] - 1), "'skin_index' holds a number outside"),
        (lambda a: a.update(skin_weight=a["skin_weight"] * 0.9), "'skin_weight' does not sum to 1"),
        (lambda a: a.update(skin_weight=1 - 2 * a["skin_weight"]), "'skin_weight' holds a negative"),
        (lambda a: a.update(joints=a["joints"] + 1), "'joints' does not have the root joint at the origin"),
        (
            lambda a: a.update(morphology_joints=a["morphology_joints"] + 1),
            "'morphology_joints' moves the root",
        ),
        (lambda a: a.update(mirror_vertex=np.array([None])), "not a readable body file"),
    ],
)
def test_a_wrong_body_is_named(bundle: Path, change: Callable, message: str) -> None:
    edit_body(bundle, change)
    with pytest.raises(CategoryError, match=message) as caught:
        load_category(bundle)
    assert "body.npz" in str(caught.value)


def test_damaged_bytes_are_caught_by_the_hash_and_without_it(bundle: Path) -> None:
    body = bundle / "body.npz"
    whole = body.read_bytes()
    body.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CategoryError, match=r"body\.npz: its SHA-256"):
        load_category(bundle)
    rehash(bundle)
    with pytest.raises(CategoryError, match=r"body\.npz: not a readable"):
        load_category(bundle)
    body.unlink()
    with pytest.raises(CategoryError, match=r"body\.npz: the file is missing"):
        load_category(bundle)


def test_saving_refuses_what_reading_would(tmp_path: Path) -> None:
    category = toy_category_in_memory()
    category.morphology = (*category.morphology, Proportion("wings", "Wings", 0, 1))
    with pytest.raises(CategoryError, match="12"):
        save_category(category, tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_a_failed_write_leaves_the_old_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}
    category = load_category(bundle)
    category.version = "2.0.0"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(CategoryError, match="No space left"):
        save_category(category, bundle)
    assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before


def test_morphology_and_colour_are_linear(toy_category: Category) -> None:
    body = toy_category.body
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 0.3, (2, 11))
    for part in (0, 1):
        rest = body.shaped()[part]
        shift = body.shaped(a)[part] + body.shaped(b)[part] - 2 * rest
        np.testing.assert_allclose(body.shaped(a + b)[part] - rest, shift, atol=1e-12)
    legs = np.zeros(11)
    legs[0] = 0.5
    foot = toy_category.skeleton.index("front_toe.L")
    upper = toy_category.skeleton.index("front_upper.L")
    drop = np.diff([body.shaped(legs)[1][[foot, upper], 2], body.shaped()[1][[foot, upper], 2]])[:, 0]
    assert drop[0] / drop[1] == pytest.approx(1.5, rel=1e-5)
    code = np.array([0.5, 0, 0])
    colours = body.colours(code)
    assert colours.min() >= 0 and colours.max() <= 1
    inside = np.abs(colours - 0.5) < 0.49
    expected = body.appearance_mean + 0.5 * body.appearance_basis[0]
    np.testing.assert_allclose(colours[inside], expected[inside], atol=1e-6)
    np.testing.assert_allclose(body.colours(), np.clip(body.appearance_mean, 0, 1))
