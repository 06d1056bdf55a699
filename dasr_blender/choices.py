# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel offers: the installed categories, and the bone names of each.

A .blend file remembers a choice by its number, so a name keeps its number whatever else is installed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from .core.category import DESCRIPTION, PREDICTOR, list_categories, profile_names

Choice = tuple[str, str, str, str, int]  # identifier, label, description, icon, number

CATEGORIES = ("quadruped", "human")  # shipped ones, first in the list
PROFILES = {
    "neutral": ("Neutral", "Plain anatomical names"),
    "rigify": ("Rigify", "Names of Rigify's metarig"),
    "mixamo": ("Mixamo", "Names of Mixamo's rigs, as retargeting tools expect them"),
    "unreal": ("Unreal", "Names of Unreal Engine's mannequin"),
    "unity": ("Unity", "Names of Unity's humanoid"),
}


def _number(name: str, known: Iterable[str]) -> int:
    order = list(known)
    return order.index(name) if name in order else len(order) + zlib.crc32(name.encode()) % 1_000_000_000


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def category_choices(folders: Iterable[str | os.PathLike[str]]) -> list[Choice]:
    """The installed categories, shipped ones first; one entry 'NONE' when there are none."""
    found = []
    for name, folder in list_categories(folders).items():
        text = f"Reconstruct with the category in {folder}"
        if not (folder / PREDICTOR).is_file():
            text = f"The category in {folder} has no predictor yet, so it cannot reconstruct"
        found.append((name, _label(name), text, "NONE", _number(name, CATEGORIES)))
    return sorted(found, key=lambda c: c[4]) or [
        ("NONE", "None found", "No category bundle was found", "NONE", 0)
    ]


def profile_choices(category: str, folders: Iterable[str | os.PathLike[str]]) -> list[Choice]:
    """The bone names that `category` has; the plain ones alone when its bundle cannot be read."""
    folder = list_categories(folders).get(category)
    names = _profiles(folder, _changed(folder)) if folder else ()
    return sorted(
        (
            (
                name,
                *PROFILES.get(name, (_label(name), f"Names of the profile {name}")),
                "NONE",
                _number(name, PROFILES),
            )
            for name in names or ("neutral",)
        ),
        key=lambda c: c[4],
    )


def _changed(folder: Path) -> int:
    try:
        return (folder / DESCRIPTION).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=32)  # panels ask at every redraw
def _profiles(folder: Path, changed: int) -> tuple[str, ...]:
    return profile_names(folder)
