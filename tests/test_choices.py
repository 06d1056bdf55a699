# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel offers to choose from."""

from __future__ import annotations

import shutil
from pathlib import Path

from dasr_blender.choices import category_choices, profile_choices
from dasr_blender.core import Category, list_categories, save_category


def test_shipped_categories_come_first_and_keep_their_numbers(toy_category: Category, tmp_path: Path) -> None:
    alone = category_choices([])
    assert [c[0] for c in alone[:2]] == ["quadruped", "human"] and [c[4] for c in alone[:2]] == [0, 1]
    for name in ("ape", "zebra"):
        save_category(toy_category, tmp_path / name)
    both = {c[0]: c for c in category_choices([tmp_path])}
    assert both["quadruped"][4] == 0 and len({c[4] for c in both.values()}) == len(both)
    assert "no predictor" in both["ape"][2] and "no predictor" not in both["quadruped"][2]
    shutil.rmtree(tmp_path / "ape")
    assert {c[0]: c[4] for c in category_choices([tmp_path])}["zebra"] == both["zebra"][4]


def test_bone_names_are_those_of_the_category(tmp_path: Path) -> None:
    assert [c[0] for c in profile_choices("quadruped", [])] == ["neutral", "rigify"]
    human = profile_choices("human", [])
    assert [c[0] for c in human] == ["neutral", "rigify", "mixamo", "unreal", "unity"]
    assert [c[4] for c in human] == list(range(5))
    assert [c[0] for c in profile_choices("no such category", [])] == ["neutral"]
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "category.json").write_text("{", encoding="utf-8")
    assert "broken" in list_categories([tmp_path])
    assert [c[0] for c in profile_choices("broken", [tmp_path])] == ["neutral"]
