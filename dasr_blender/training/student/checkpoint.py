# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks from the files that training leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...core.category import Category
from .config import StudentConfig
from .dasr import DasrStudent
from .model import Student

AnyStudent = Student | DasrStudent

_OF_THE_CATEGORY = (
    "look.body.",
    "look.points",
    "heads.lower",
    "heads.upper",
    "frame_heads.lower",
    "frame_heads.upper",
)
"""arrays of a network that say what its category is, not what it learnt"""


def make_student(sizes: StudentConfig, category: Category) -> AnyStudent:
    """A new network."""
    return DasrStudent(sizes, category) if sizes.design == "dasr" else Student(sizes, category)


def read(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. Raises FileNotFoundError."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


def load_student(checkpoint: Path, category: Category) -> AnyStudent:
    """The network of a checkpoint, ready to answer. Raises FileNotFoundError and RuntimeError (wrong sizes)."""
    state = read(checkpoint)
    student = make_student(StudentConfig(**state["sizes"]), category)
    student.load_state_dict(state["student"])
    if state["stage"] == "frames":  # the second stage has not begun: answer frame by frame
        student.start_temporal()
    return student.eval()


def start_from(student: AnyStudent, checkpoint: Path, without: tuple[str, ...] = ()) -> tuple[int, int]:
    """Take what fits of another network's weights; returns how many arrays were taken and how many were not.

    without: beginnings of names that are left as they are.
    """
    state, own = read(checkpoint)["student"], student.state_dict()
    skip = (*_OF_THE_CATEGORY, *without)
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape and not k.startswith(skip)}
    student.load_state_dict({**own, **fits})
    return len(fits), len(own) - len(fits)
