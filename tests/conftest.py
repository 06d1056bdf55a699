# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures shared by all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dasr_blender import threads  # noqa: F401  before anything imports numpy, as on the command line

sys.path.insert(0, str(Path(__file__).resolve().parent))

from toy import save_toy_category, toy_motion

from dasr_blender.core import Category, Motion, load_category


@pytest.fixture(scope="session")
def toy_category_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy category's bundle on disk; read only."""
    return save_toy_category(tmp_path_factory.mktemp("categories"))


@pytest.fixture(scope="session")
def toy_category(toy_category_folder: Path) -> Category:
    """The toy category, read back from its bundle."""
    return load_category(toy_category_folder)


@pytest.fixture
def motion(toy_category: Category) -> Motion:
    """Eight frames of the toy category."""
    return toy_motion(toy_category)
