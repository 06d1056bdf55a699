# SPDX-License-Identifier: GPL-3.0-or-later
"""A body from a skeleton template: whole, symmetric, moved by every joint; and what is said of a bad template."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gpytoolbox")
pytest.importorskip("xatlas")

from trees import little_tree

from dasr_blender.core import CategoryError, load_category, save_category
from dasr_blender.core.ground import foot_joints
from dasr_blender.core.rotation import rotvec_to_quat
from dasr_blender.training.body.template import template_category
from dasr_blender.training.body.tree import parse_tree
from dasr_blender.training.synth.makers import maker_for
from dasr_blender.training.synth.template import chain_waves, template_subject, within

ROOT = Path(__file__).resolve().parents[2]
FLIP = np.array([-1.0, 1, 1])


@pytest.fixture(scope="module", params=["little", "dolphin"])
def category(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    path = ROOT / "docs" / "tutorial" / "dolphin.json"
    if request.param == "little":
        path = tmp_path_factory.mktemp("tree") / "tree.json"
        path.write_text(json.dumps(little_tree()))
    return template_category(request.param, path, count=900)


def test_the_body_is_closed_and_symmetric(category) -> None:
    body = category.body
    assert body.problem() is None
    edges = np.sort(np.concatenate([body.faces[:, [0, 1]], body.faces[:, [1, 2]], body.faces[:, [2, 0]]]), 1)
    unique, times = np.unique(edges, axis=0, return_counts=True)
    assert (times == 2).all()
    assert len(body.vertices) - len(unique) + len(body.faces) == 2  # one piece without holes
    assert 600 < len(body.vertices) < 1300
    mirrored = body.vertices[body.mirror_vertex] * FLIP
    np.testing.assert_allclose(mirrored, body.vertices, atol=1e-6)
    corners = body.vertices[body.faces].astype(np.float64)
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert volume > 0  # faces look outwards
    np.testing.assert_allclose(body.skin_weight.sum(1), 1, atol=1e-5)


def test_every_joint_and_every_proportion_moves_something_symmetrically(category) -> None:
    body, skeleton = category.body, category.skeleton
    rest = category.posed_vertices(
        np.zeros(len(category.morphology)), np.tile([1.0, 0, 0, 0], (1, len(skeleton), 1))
    )
    for j in range(1, len(skeleton)):
        vectors = np.zeros((2, len(skeleton), 3))
        vectors[0, j, 0] = vectors[1, skeleton.mirror[j], 0] = 0.1
        posed = category.posed_vertices(np.zeros(len(category.morphology)), rotvec_to_quat(vectors))
        assert np.linalg.norm(posed[0] - rest[0], axis=-1).max() > 0.003
        np.testing.assert_allclose(posed[1][body.mirror_vertex] * FLIP, posed[0], atol=2e-4)
    assert 0 < len(category.morphology) <= 12
    assert len(set(category.morphology_names)) == len(category.morphology)
    for k, moved in enumerate(body.morphology_vertices):
        assert np.abs(moved).max() > 0.005, category.morphology_names[k]
        np.testing.assert_allclose(moved[body.mirror_vertex] * FLIP, moved, atol=1e-5)


def test_it_is_saved_and_read_as_any_other_category(category, tmp_path: Path) -> None:
    save_category(category, tmp_path / category.name)
    again = load_category(tmp_path / category.name)
    assert again.skeleton.names == category.skeleton.names
    assert set(again.profiles) == {"neutral", "rigify"}


def test_a_longer_trunk_takes_along_what_hangs_on_it(category) -> None:
    k = category.morphology_names.index("body_length")
    longer = category.body.shaped(0.3 * np.eye(len(category.morphology))[k])[0]
    assert np.ptp(longer[:, 1]) > 1.05 * np.ptp(category.body.vertices[:, 1])
    girth = category.body.shaped(
        0.3 * np.eye(len(category.morphology))[category.morphology_names.index("body_girth")]
    )[0]
    assert np.ptp(girth[:, 1]) < 1.03 * np.ptp(category.body.vertices[:, 1])


def test_nothing_stands_on_a_fin(category) -> None:
    assert foot_joints(category) == []


def test_parents_come_first_and_defaults_are_filled_in() -> None:
    tree = parse_tree(little_tree())
    assert tree.skeleton.names[0] == "root"
    assert tree.skeleton.roles == ("root", "limb", "limb", "tail")
    assert tree.skeleton.mirror.tolist() == [0, 2, 1, 3]
    np.testing.assert_allclose(tree.joints[0], 0)
    value = little_tree()
    value["joints"][0]["limits"] = [[-0.1, 0.4], [-0.2, 0.3], 0.5]
    limits = parse_tree(value).skeleton.limits
    np.testing.assert_allclose(limits[2], [[-0.1, 0.4], [-0.3, 0.2], [-0.5, 0.5]])


def _set(joint: int, **changes):
    def change(value):
        value["joints"][joint].update(changes)
        return value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: [], "'joints' must be a list"),
        (lambda v: {"joints": []}, "'joints' must be a list"),
        (_set(2, parent="tail"), "has no root"),
        (_set(3, parent=None), "more than one root"),
        (_set(3, parent="leg"), r"joints\[3\].parent' names the unknown joint 'leg'"),
        (lambda v: {"joints": [*v["joints"], *_circle()]}, r"joints\[4\].parent' closes a circle"),
        (_set(3, name="fin.L"), r"joints\[3\].name' is 'fin.L', like that of another"),
        (lambda v: {**v, "licens": "CC0"}, "there is no field 'licens'"),
        (_set(3, radius_tip=0.1), r"joints\[3\].radius_tip' is no field of a joint; there are name, parent"),
        (_set(3, limits=[[0.4, -0.1], 0.3, 0.5]), r"limits' holds \[0.4, -0.1\] for X: the lowest comes first"),
        (_set(3, limits=[0.3, [0.1, 0.4], 0.5]), r"limits' \[0.1, 0.4\] for Y leaves out 0"),
        (_set(3, limits=[0.3, 0.4, 45]), "limits' goes beyond a whole turn about Z: it is in radians"),
        (_set(3, limits=90), "limits' goes beyond a whole turn about X"),
        (_set(3, name=""), r"joints\[3\].name' must be a text"),
        (_set(3, mirror="fin.L"), "joints.*mirror' is 'fin.L', whose own mirror is another"),
        (_set(3, mirror="nobody"), "mirror' names the unknown joint"),
        (_set(1, position=[-0.1, 0.1, 0]), "position' is not the mirror image"),
        (_set(3, position=[0.1, 0.2, 0]), "position' must have x ="),
        (_set(3, position=[0, float("nan"), 0]), r"joints\[3\].position' must be 3 finite numbers"),
        (_set(3, position=[0, "a", 0]), "position' must be 3 finite numbers"),
        (_set(3, radius=-1), "radius' must be a positive"),
        (_set(3, radius=[1, 2, 3]), "radius' must be a positive"),
        (_set(3, limits=[1, 2]), "limits' must be a number of radians"),
        (_set(3, role="wing"), "role' must be one of"),
        (_set(3, position=[0, -0.2, 0]), "position' is that of its parent"),
    ],
)
def test_a_bad_template_is_refused_in_one_sentence(change, says: str) -> None:
    with pytest.raises(CategoryError, match=says) as error:
        parse_tree(change(little_tree()), "tree.json")
    assert str(error.value).startswith("tree.json: ") and "\n" not in str(error.value)


def _circle() -> list[dict]:
    return [
        {"name": "a", "parent": "b", "position": [0, 1, 0], "radius": 0.1},
        {"name": "b", "parent": "a", "position": [0, 2, 0], "radius": 0.1},
    ]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CategoryError, match="cannot be read"):
        template_category("x", tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(CategoryError, match="not valid JSON"):
        template_category("x", tmp_path / "bad.json")


def test_its_subjects_move_smoothly_within_their_limits(category) -> None:
    assert maker_for(category).subject.__module__.endswith("makers")
    skeleton, seconds = category.skeleton, np.arange(24) / 24
    for seed in range(6):
        rng = np.random.default_rng(seed)
        vectors = chain_waves(rng, skeleton, seconds)
        from dasr_blender.core.rotation import quat_to_rotvec

        turned = quat_to_rotvec(within(skeleton, 3 * vectors))
        assert (turned >= skeleton.limits[..., 0] - 1e-6).all() and (
            turned <= skeleton.limits[..., 1] + 1e-6
        ).all()
        subject = template_subject(rng, category, (), 24, 24.0)
        posed = category.posed_vertices(subject.morphology, subject.joint_rotations)
        world = np.einsum("tij,tvj->tvi", subject.world_from_root[:, :3, :3], posed)
        world += subject.world_from_root[:, None, :3, 3]
        np.testing.assert_allclose(world, subject.vertices, atol=1e-4)  # the labels say what is shown
        step = np.linalg.norm(np.diff(subject.joint_rotations, axis=0), axis=-1)
        assert step.max() < 0.35
