# SPDX-License-Identifier: GPL-3.0-or-later
"""A little skeleton template for tests: a trunk, a tail and a pair of fins."""

from __future__ import annotations

from typing import Any


def little_tree() -> dict[str, Any]:
    """The JSON value of a template of four joints."""
    return {
        "licence": "CC0-1.0",
        "credits": "made up",
        "joints": [
            {"name": "fin.L", "parent": "root", "position": [0.1, 0, 0], "radius": [0.05, 0.03],
             "tip": [0.3, 0.1, 0]},
            {"name": "fin.R", "parent": "root", "position": [-0.1, 0, 0], "radius": [0.05, 0.03],
             "tip": [-0.3, 0.1, 0]},
            {"name": "root", "parent": None, "position": [0, -0.2, 0], "radius": 0.12, "tip": [0, -0.5, 0]},
            {"name": "tail", "parent": "root", "position": [0, 0.2, 0], "radius": 0.08, "tip": [0, 0.5, 0.05]},
        ],
    }  # fmt: skip
