# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bone plays which joint where names say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from test_bone_map import ELBOWS, PERSON, UNREAL, person, rig

from dasr_blender.core import Category, load_category
from dasr_blender.core.bone_map import match_bones
from dasr_blender.core.bone_tree import described


def nameless(names) -> list[str]:
    return [f"Bone.{k:03d}" for k in range(len(names))]


def looking(quarters: int, heads):
    """Turned about the vertical by so many quarters."""
    return heads @ np.linalg.matrix_power(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]), quarters)


def shuffled(parents, heads, seed=1):
    """The same tree in another order; returns where each bone went, and the parents and heads there."""
    order = np.random.default_rng(seed).permutation(len(parents))  # new place -> old
    place = np.argsort(order)
    moved = parents[order]
    return place, np.where(moved < 0, -1, place[moved]), heads[order]


@pytest.mark.parametrize("quarters", range(4))
def test_an_animal_without_names(toy_category: Category, quarters: int) -> None:
    joints, parents, heads = rig(toy_category)
    place, parents, heads = shuffled(parents, looking(quarters, heads))
    names = nameless(joints)
    found = match_bones(toy_category, names, parents, heads)
    own = {joint: names[place[k]] for k, joint in enumerate(toy_category.skeleton.names)}
    sure = [joint for joint in own if joint not in ("root", "spine", "jaw", "ear.L", "ear.R")]  # or eyes
    assert {joint: found[joint] for joint in sure} == {joint: own[joint] for joint in sure}
    assert found["root"] is None and found["jaw"] is None


def test_feet_that_hang_elsewhere_are_found_without_names_too(toy_category: Category) -> None:
    joints, parents, heads = rig(toy_category)
    feet = [joints.index(f"{leg}_toe.{side}") for leg in ("front", "hind") for side in "LR"]
    parents[feet] = -1
    found = match_bones(toy_category, nameless(joints), parents, heads)
    for k in feet:
        assert found[joints[k]] == f"Bone.{k:03d}", joints[k]


@pytest.mark.parametrize("limbs", [ELBOWS, UNREAL])
@pytest.mark.parametrize("beside", [None, "pelvis"])
@pytest.mark.parametrize("quarters", range(4))
def test_a_person_without_names(limbs, beside, quarters: int) -> None:
    human = load_category("human")
    trunk = ["hips", "spine1", "spine2", "chest", "neck", "head"]
    joints, names, parents, heads = person(trunk, limbs, beside=beside)
    apart = [k for k, name in enumerate(names) if limbs[0] in name]
    heads[apart, 0] *= 0.2  # collar bones begin near the middle
    count = len(names)
    for hand in [k for k, name in enumerate(names) if limbs[3] in name]:
        for finger in range(5):
            names += [f"finger {finger} of {hand}"] * 2
            parents = np.append(parents, [hand, len(parents)])
            heads = np.vstack([heads, heads[hand] + [0, 0.01 * finger, -0.05], heads[hand] + [0, 0.01 * finger, -0.1]])
    for toe in [k for k, name in enumerate(names) if limbs[7] in name]:
        heads[toe, 1] = -0.15  # they tell where a person looks
    found = match_bones(human, nameless(names), parents, looking(quarters, heads))
    told = {joint: names[int(bone[5:])] for joint, bone in found.items() if bone is not None}
    wanted = dict(zip(joints[:6], trunk, strict=True))
    wanted |= {f"{part}.{s}": f"{s.lower()}_{limb}" for part, limb in zip(PERSON, limbs, strict=True) for s in "LR"}
    assert count < len(names) and told == wanted


def test_words_in_a_language_that_is_not_known_do_not_hinder(toy_category: Category) -> None:
    joints, parents, heads = rig(toy_category, lambda joint: f"os_{joint[::-1]}")
    found = match_bones(toy_category, joints, parents, heads)
    assert found["hind_foot.L"] == f"os_{'hind_foot.L'[::-1]}" and found["chest"] == "os_tsehc"


def test_where_nothing_can_be_told_nothing_is() -> None:
    rope = np.arange(6) - 1, np.stack([np.zeros(6), -np.arange(6.0), np.zeros(6)], 1)
    wings = np.array([-1, 0, 0]), np.array([[0, 0, 1.0], [1, 0, 1], [-1, 0, 1]])
    human = load_category("human")
    assert not any(match_bones(human, [], np.zeros(0, int), np.zeros((0, 3))).values())
    for parents, heads in (rope, wings, (np.array([-1]), np.zeros((1, 3)))):
        for person_like in (True, False):
            assert described(parents, heads, person_like) == [str(k) for k in range(len(parents))]
        assert not any(match_bones(human, nameless(parents), parents, heads).values())
