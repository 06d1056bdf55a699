# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks from the files that training leaves behind."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.category import Category
from .backbone import POOLED
from .config import StudentConfig
from .dasr import DasrStudent
from .model import Student, cells_across
from .shipped import is_shipped, read_shipped

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


def read_any(source: Path) -> dict[str, Any]:
    """A checkpoint's content; of a bundle's folder or an exported network its `student` and `sizes` alone.

    Raises FileNotFoundError and ValueError (an exported network that does not keep its weights).
    """
    if not is_shipped(source):
        return read(source)
    arrays, sizes = read_shipped(source)
    return {"student": {k: torch.from_numpy(v) for k, v in arrays.items()}, "sizes": asdict(sizes)}


def load_student(checkpoint: Path, category: Category) -> AnyStudent:
    """The network of a checkpoint, ready to answer. Raises FileNotFoundError and RuntimeError (wrong sizes)."""
    state = read(checkpoint)
    student = make_student(StudentConfig(**state["sizes"]), category)
    student.load_state_dict(state["student"])
    if state["stage"] == "frames":  # the second stage has not begun: answer frame by frame
        student.start_temporal()
    return student.eval()


def at_crop(state: dict[str, Tensor], old: StudentConfig, new: StudentConfig) -> dict[str, Tensor]:
    """A student's arrays for a crop of another size.

    Convolutions fit any; what weighs the coarse layout cell by cell is shared out over the cells of the new grid, each
    by how much of the old ones it covers.
    """
    before, after = cells_across(old.crop), cells_across(new.crop)
    if before == after or old.layout != new.layout:
        return state
    new_cell, old_cell = np.arange(after)[:, None] / after, np.arange(before) / before  # where each begins
    share = np.minimum(new_cell + 1 / after, old_cell + 1 / before) - np.maximum(new_cell, old_cell)
    covered = torch.from_numpy(share.clip(0).astype(np.float32) * after)  # rows sum to 1
    first, count = POOLED, old.layout * before**2

    def moved(array: Tensor, scale: float = 1.0) -> Tensor:
        grid = array[..., first : first + count].unflatten(-1, (old.layout, before, before))
        grid = torch.einsum("yi,xj,...ij->...yx", covered, covered, grid).flatten(-3) * scale
        return torch.cat([array[..., :first], grid, array[..., first + count :]], -1)

    of_level = {f"level.{part}": 1.0 for part in ("weight", "bias", "running_mean", "running_var")}
    changed = {**of_level, "merge.weight": (before / after) ** 2}
    return {**state, **{name: moved(state[name], scale) for name, scale in changed.items()}}


def start_from(student: AnyStudent, source: Path, without: tuple[str, ...] = ()) -> tuple[int, int]:
    """Take what fits of another network's weights; returns how many arrays were taken and how many were not.

    source: a checkpoint, a bundle's folder or its `predictor.onnx`.  without: beginnings of names that are left as
    they are.  Raises FileNotFoundError and ValueError (an exported network that does not keep its weights).
    """
    found = read_any(source)
    state, sizes = found["student"], StudentConfig(**found["sizes"])
    own = student.state_dict()
    if isinstance(student, Student) and sizes.design == "student":
        state = at_crop(state, sizes, student.config)
    skip = (*_OF_THE_CATEGORY, *without)
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape and not k.startswith(skip)}
    student.load_state_dict({**own, **fits})
    return len(fits), len(own) - len(fits)
