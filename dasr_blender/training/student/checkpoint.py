# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks from the files that training leaves behind."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.category import Category
from ..errors import TrainingError
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


def read(checkpoint: Path, of: str = "student") -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    of: whose weights it is to hold: 'student', 'refiner', or 'model' for a teacher's field.
    Raises OSError, and TrainingError naming a file that is damaged or holds something else.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch, pickle and zip have each their own
        raise TrainingError(
            f"{checkpoint} is no checkpoint of training, or it is damaged; give another one, or train again"
        ) from error
    if not isinstance(content, dict) or of not in content:
        name = {"student": "student.pt of train", "refiner": "refiner.pt of refine", "model": "teacher.pt of teach"}[of]
        raise TrainingError(f"{checkpoint} holds no weights of a {of}; give a {name}")
    return content


def sizes_of_checkpoint(source: Path, content: dict[str, Any]) -> StudentConfig:
    """How the network in a checkpoint's content is made. Raises TrainingError for one of another version."""
    try:
        return StudentConfig(**content["sizes"])
    except (KeyError, TypeError) as error:
        raise TrainingError(f"{source} does not say how its network is made; it is of another version") from error


def check_category(source: Path, content: dict[str, Any], category: Category) -> None:
    """Raise TrainingError unless the network in a checkpoint's content was trained for a category."""
    known, sizes = content.get("category", category.name), content.get("sizes", {})
    name = known if isinstance(known, str) else known[0]
    if name != category.name:
        raise TrainingError(f"{source} is a network of '{name}'; give that as --category, not '{category.name}'")
    wanted = {
        "joints": len(category.skeleton),
        "morphology": len(category.morphology),
        "appearance": len(category.body.appearance_basis),
    }
    unlike = [f"{sizes[k]} for {k}, not {v}" for k, v in wanted.items() if sizes.get(k, v) != v]
    if unlike:
        raise TrainingError(
            f"{source} is a network of another body of '{name}': it has {', '.join(unlike)}; choose that category"
        )


def check_sizes(source: Path, content: dict[str, Any], wanted: Any) -> None:
    """Raise TrainingError unless the network in a checkpoint's content is made as the settings `wanted` say."""
    known = content.get("sizes", {})
    unlike = [f"{k} {known.get(k)} instead of {v}" for k, v in asdict(wanted).items() if known.get(k, v) != v]
    if unlike:
        raise TrainingError(
            f"{source} is a network with {', '.join(unlike)}; go on with the settings and clips that it was begun "
            "with, or choose another --out"
        )


def refuse_to_overwrite(checkpoint: Path, resume: bool) -> None:
    """Raise TrainingError where a training that is not to go on would take the place of an earlier one."""
    if checkpoint.exists() and not resume:
        raise TrainingError(
            f"{checkpoint.parent} holds a training already; go on with it by --resume, or choose another --out"
        )


def plain(value: object) -> object:
    """A setting as a checkpoint holds it: paths as text, also those in a tuple."""
    if isinstance(value, tuple):
        return tuple(plain(each) for each in value)
    return str(value) if isinstance(value, Path) else value


def load_weights(module: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Give a network the weights of a checkpoint. Raises TrainingError naming one whose weights are not its own."""
    own = module.state_dict()
    if own.keys() != weights.keys() or any(own[k].shape != weights[k].shape for k in own):
        raise TrainingError(f"{source} holds other weights than this version's network has; train again")
    module.load_state_dict(weights)


def read_any(source: Path) -> dict[str, Any]:
    """A checkpoint's content; of a bundle's folder or an exported network its `student` and `sizes` alone.

    Raises OSError and TrainingError (a damaged file, or an exported network that does not keep its weights).
    """
    if not is_shipped(source):
        return read(source)
    arrays, sizes = read_shipped(source)
    return {"student": {k: torch.from_numpy(v) for k, v in arrays.items()}, "sizes": asdict(sizes)}


def load_student(checkpoint: Path, category: Category) -> AnyStudent:
    """The network of a checkpoint, ready to answer. Raises OSError and TrainingError (damaged, another category's)."""
    state = read(checkpoint)
    check_category(checkpoint, state, category)
    student = make_student(sizes_of_checkpoint(checkpoint, state), category)
    load_weights(student, state["student"], checkpoint)
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
    they are.  Raises OSError and TrainingError (a damaged file, or an exported network that does not keep its weights).
    """
    found = read_any(source)
    state, sizes = found["student"], sizes_of_checkpoint(source, found)
    own = student.state_dict()
    if isinstance(student, Student) and sizes.design == "student":
        state = at_crop(state, sizes, student.config)
    skip = (*_OF_THE_CATEGORY, *without)
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape and not k.startswith(skip)}
    student.load_state_dict({**own, **fits})
    return len(fits), len(own) - len(fits)
