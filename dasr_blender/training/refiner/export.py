# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained refiner to the `refiner.onnx` of a category bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.category import REFINER, Category, load_category, save_category
from ...core.files import written_atomically
from ...predict.refine_inputs import DISTANCE, OUTLINE
from ..errors import TrainingError
from ..export import OPSET, TOLERANCE, without_folding
from ..student.shipped import apart
from .network import WITHIN, Refiner, State
from .train import load_refiner

INPUTS = (
    "rotation",
    "translation",
    "joints",
    "morphology",
    "memory",
    "crop_info",
    "distance",
    "outline",
    "map_mass",
    "map_at",
    "joint_confidence",
    "trust",
)
OUTPUTS = ("rotation", "translation", "joints", "memory")


@dataclass(frozen=True)
class RefinerExport:
    """Write the refiner of a checkpoint into a category bundle."""

    checkpoint: Path
    """refiner.pt of a training run."""
    category: str = "quadruped"
    """Bundle to write into: a name or a folder."""
    notes: str = ""
    """A line for the bundle's training facts."""


class _Graph(nn.Module):
    """One round on arrays in a fixed order."""

    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        out = self.refiner(dict(zip(INPUTS, arrays, strict=True)))
        return tuple(out[name] for name in OUTPUTS)


def example(refiner: Refiner, count: int, seed: int = 0) -> State:
    """A state of `count` frames that a body might be in, of random numbers."""
    rng, surface = np.random.default_rng(seed), refiner.surface
    j, k, v = refiner.config.joints, refiner.config.morphology, len(surface.vertices)

    def turn(*lead: int, size: float) -> np.ndarray:
        from scipy.spatial.transform import Rotation

        return (
            Rotation.from_rotvec(rng.normal(0, size, (*lead, 3)).reshape(-1, 3))
            .as_matrix()
            .reshape(*lead, 3, 3)
        )

    at = (np.arange(DISTANCE) + 0.5) / DISTANCE - 0.5
    radius = rng.uniform(0.2, 0.35, (count, 1, 1))
    angle = np.linspace(0, 2 * np.pi, OUTLINE, endpoint=False)
    normal = np.repeat(np.stack([np.cos(angle), np.sin(angle)], -1)[None], count, 0)
    mass = rng.random((count, v)) * (rng.random((count, v)) < 0.4)
    arrays = {
        "rotation": turn(count, size=0.6),
        "translation": rng.normal(0, 0.05, (count, 3)) + [0, 0, 0.6],
        "joints": turn(count, j, size=0.2),
        "morphology": rng.normal(0, 0.5, (count, k)) * surface.std.numpy(),
        "memory": rng.normal(0, 0.3, (count, j, refiner.config.width)),
        "crop_info": rng.uniform((-0.3, -0.3, 0.15), (0.3, 0.3, 0.6), (count, 3)),
        "distance": np.hypot(at, at[:, None]) - radius,
        "outline": np.concatenate([normal * radius, normal, np.ones((count, OUTLINE, 1))], -1),
        "map_mass": mass,
        "map_at": rng.uniform(-0.3, 0.3, (count, v, 2)) * mass[..., None],
        "joint_confidence": rng.random((count, j)),
        "trust": rng.choice([0.03, 1.0], count),
    }
    return {name: torch.from_numpy(np.asarray(a, np.float32)) for name, a in arrays.items()}


def write_onnx(refiner: Refiner, rounds: int, path: Path) -> None:
    """Write one round, dynamic in the number of frames; how many there are is in the file's metadata."""
    import onnx

    state = example(refiner, 9)
    axes = {name: {0: "T"} for name in (*INPUTS, *(f"new_{n}" for n in OUTPUTS))}
    with written_atomically(path) as temporary, torch.no_grad(), without_folding():
        torch.onnx.export(
            _Graph(refiner.eval()),
            tuple(state[name] for name in INPUTS),
            str(temporary),
            input_names=list(INPUTS),
            output_names=[f"new_{name}" for name in OUTPUTS],
            dynamic_axes=axes,
            opset_version=OPSET,
            do_constant_folding=False,
            dynamo=False,
        )
        model = onnx.load(str(temporary))
        apart(model, WITHIN, {k: p.numpy() for k, p in refiner.named_parameters()})
        facts = {
            "rounds": str(rounds),
            "radius": str(refiner.config.radius),
            "vertices": " ".join(str(int(v)) for v in refiner.surface.vertex),
        }
        onnx.helper.set_model_props(model, facts)
        onnx.save(model, str(temporary))


def parity(refiner: Refiner, path: Path, frames: tuple[int, ...] = (1, 7, 40)) -> float:
    """Largest difference between torch and onnxruntime in a round, over clips of several lengths."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in frames:
        state = example(refiner, count, seed=count)
        answers = session.run([f"new_{n}" for n in OUTPUTS], {n: state[n].numpy() for n in INPUTS})
        with torch.no_grad():
            expected = refiner.eval()(state)
        for name, answer in zip(OUTPUTS, answers, strict=True):
            true = expected[name].numpy()
            difference = np.abs(np.asarray(answer) - true) / np.maximum(1.0, np.abs(true))
            worst = max(worst, float(difference.max(initial=0.0)))
    return worst


def export(checkpoint: Path, category: Category, folder: Path, notes: str = "") -> Category:
    """Write `refiner.onnx` into the bundle `folder` and its facts into the description.

    Raises OSError, and TrainingError for a checkpoint that is damaged or of another body, and when onnxruntime does not
    compute what torch does; the bundle is then as it was.
    """
    refiner, state = load_refiner(checkpoint, category)
    new = folder / f".new-{REFINER}"
    try:
        write_onnx(refiner, state["rounds"], new)
        difference = parity(refiner, new)
        if difference > TOLERANCE:
            raise TrainingError(f"onnxruntime and torch differ by {difference:.2g}; nothing was exported")
        new.replace(folder / REFINER)
    finally:
        new.unlink(missing_ok=True)
    facts: dict[str, Any] = {
        "parameters": int(sum(p.numel() for p in refiner.parameters())),
        "rounds": state["rounds"],
        "steps": state["step"],
        "minutes": round(float(state["minutes"]), 1),
        "batch": state["config"]["batch"],
        "clips": state["clips"],
        "answers_of": " ".join(state["category"]),
        "seed": state["config"]["seed"],
        "onnx_difference": float(f"{difference:.2g}"),
    }
    if notes:
        facts["notes"] = notes
    updated = replace(
        category, training={**category.training, "refiner": facts}, refiner_path=folder / REFINER
    )
    save_category(updated, folder)
    return load_category(folder)


def main(argv: list[str] | None = None) -> int:
    """`export-refiner`: a checkpoint's refiner into its category bundle."""
    import tyro

    config = tyro.cli(RefinerExport, args=argv, prog="export-refiner")
    category = load_category(config.category)
    assert category.path is not None
    category = export(config.checkpoint, category, category.path, config.notes)
    print(f"{category.refiner_path}: {category.training['refiner']}")
    return 0
