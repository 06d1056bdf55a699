# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained student to the `predictor.onnx` of its category bundle, with the bundle's facts brought up to date."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.category import (
    CARD,
    DESCRIPTION,
    ERRORS,
    PREDICTOR,
    REFINER,
    Category,
    load_category,
    save_category,
)
from ..core.files import sha256_of, written_atomically
from ..core.pose_errors import PoseErrors
from ..core.schema import NetworkSpec
from .distill import load_student
from .errors import TrainingError
from .pose_errors import measure_pose_errors
from .student import log
from .student.checkpoint import AnyStudent, read
from .student.config import StudentConfig
from .student.data import Shard
from .student.shipped import label

OPSET = 17
INPUTS = ("crops", "crop_info")
OUTPUTS = (
    "root_rotation",
    "root_translation",
    "root_logprob",
    "joint_rotations",
    "morphology",
    "appearance",
    "joint_confidence",
)
SURFACE_OUTPUTS = ("surface_map", "surface_confidence")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportConfig:
    """Write the network of a checkpoint into its category bundle."""

    checkpoint: Path
    """student.pt of a training run."""
    category: str = "quadruped"
    """Bundle to write into: a name or a folder."""
    shard: Path | None = None
    """Packed clips whose validation share tells how the network errs; the fit does better with it. None keeps nothing:
    what an earlier network's errors were is not true of this one."""
    notes: str = ""
    """A line for the bundle's training facts."""


OF_THE_NETWORK = ("scores", "ms_a_frame_two_cores", "notes")
"""training facts of a bundle that are true of one network alone"""


class _Levelled(nn.BatchNorm1d):
    """A BatchNorm1d that takes the mean away first.

    As one operation onnxruntime multiplies before it subtracts, and loses what a channel whose mean is a thousand times
    its spread has to say.
    """

    def __init__(self, layer: nn.BatchNorm1d) -> None:
        super().__init__(layer.num_features, layer.eps)
        self.load_state_dict(layer.state_dict())
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        return (x - self.running_mean) * (self.weight * torch.rsqrt(self.running_var + self.eps)) + self.bias


class _Graph(nn.Module):
    """The student with its answers in a fixed order."""

    def __init__(self, student: AnyStudent) -> None:
        super().__init__()
        self.student = copy.deepcopy(student).eval()
        self.student.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        with torch.no_grad():
            for parent in list(self.student.modules()):
                for name, child in list(parent.named_children()):
                    if isinstance(child, nn.BatchNorm1d):
                        setattr(parent, name, _Levelled(child))

    def forward(self, crops: Tensor, crop_info: Tensor) -> tuple[Tensor, ...]:
        out = self.student(crops, crop_info)
        return tuple(out[name] for name in outputs_of(self.student))


def outputs_of(student: AnyStudent) -> tuple[str, ...]:
    """Names of what a network answers, in the order of its ONNX file."""
    return OUTPUTS + (SURFACE_OUTPUTS if student.config.surface else ())


@contextmanager
def without_folding() -> Iterator[None]:
    """Keeps the exporter from telling which constants it does not fold: it is not asked to fold any."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        yield


def write_onnx(student: AnyStudent, path: Path) -> None:
    """Write the network, dynamic in the number of frames, its arrays under their own names (see `student.shipped`)."""
    size, outputs = student.config.crop, outputs_of(student)
    example = torch.rand(9, 4, size, size), torch.rand(9, 3)
    axes = {name: {0: "T"} for name in (*INPUTS, *outputs)}
    with written_atomically(path) as temporary, torch.no_grad(), without_folding():
        torch.onnx.export(
            _Graph(student),
            example,
            str(temporary),
            input_names=list(INPUTS),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            do_constant_folding=False,
            dynamo=False,
        )
        label(temporary, student.config, {k: v.cpu().numpy() for k, v in student.state_dict().items()})


def _blobs(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Crops (T, 4, S, S) with something like a subject in them: soft colours inside an ellipse."""
    at = (np.arange(size) + 0.5) / size - 0.5
    wide, high = rng.uniform(0.15, 0.42, (2, count, 1, 1))
    mask = ((at / wide) ** 2 + (at[:, None] / high) ** 2 < 1).astype(np.float32)
    coarse = rng.random((count, 3, 8, 8), np.float32)
    rgb = F.interpolate(torch.from_numpy(coarse), (size, size), mode="bilinear").numpy()
    return np.concatenate([rgb * mask[:, None], mask[:, None]], 1)


def parity(student: AnyStudent, path: Path, frames: tuple[int, ...] = (1, 7, 40)) -> float:
    """Largest difference between torch and onnxruntime over clips of several lengths; of values above 1, relative."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    worst, size, outputs = 0.0, student.config.crop, outputs_of(student)
    for count in frames:
        crops = _blobs(rng, count, size)
        info = rng.uniform((-0.5, -0.5, 0.1), (0.5, 0.5, 0.9), (count, 3)).astype(np.float32)
        answers = session.run(list(outputs), {"crops": crops, "crop_info": info})
        with torch.no_grad():
            expected = student.eval()(torch.from_numpy(crops), torch.from_numpy(info))
        for name, answer in zip(outputs, answers, strict=True):
            true = expected[name].numpy()
            difference = np.abs(np.asarray(answer) - true) / np.maximum(1.0, np.abs(true))
            worst = max(worst, float(difference.max(initial=0.0)))
    return worst


def milliseconds_a_frame(path: Path, size: int, frames: int = 32, threads: int = 2) -> float:
    """Time of one frame in a batch of `frames`, onnxruntime on `threads` cores, best of three."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {
        "crops": np.random.default_rng(0).random((frames, 4, size, size), np.float32),
        "crop_info": np.full((frames, 3), 0.3, np.float32),
    }
    session.run(None, feed)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return min(times) / frames * 1000


def export(
    checkpoint: Path, category: Category, folder: Path, notes: str = "", shard: Path | None = None
) -> Category:
    """Write `predictor.onnx` into the bundle `folder` and the network's facts into its description.

    shard: packed clips from whose validation share `errors.npz` is measured; without one there is none.
    What the description said of another network (`OF_THE_NETWORK`) is left out.
    Raises OSError where there is no such file, and TrainingError for a checkpoint or a shard that is damaged or of
    another category, and when onnxruntime does not compute what torch does; the bundle is then as it was.
    """
    student = load_student(checkpoint, category)
    size = student.config.crop
    errors = None if shard is None else _pose_errors(student, category, Shard(shard))
    shapes: dict[str, tuple[int | str, ...]] = {}
    with torch.no_grad():
        out = student(torch.rand(2, 4, size, size), torch.rand(2, 3))
    for name in outputs_of(student):
        shapes[name] = ("T", *out[name].shape[1:])
    new = folder / f".new-{PREDICTOR}"
    try:
        write_onnx(student, new)
        difference = parity(student, new)
        if difference > TOLERANCE:
            raise TrainingError(f"onnxruntime and torch differ by {difference:.2g}; nothing was exported")
        speed = milliseconds_a_frame(new, size)
        same = sha256_of(new) == category.hashes.get(PREDICTOR)
        new.replace(folder / PREDICTOR)
    finally:
        new.unlink(missing_ok=True)
    spec = NetworkSpec(
        input_size=size,
        mean=(0.0,) * 4,
        std=(1.0,) * 4,
        opset=OPSET,
        inputs={"crops": ("T", 4, size, size), "crop_info": ("T", 3)},
        outputs=shapes,
        temporal_radius=student.config.radius,
    )
    facts = {k: v for k, v in category.training.items() if same or k not in OF_THE_NETWORK}
    facts["student"] = _facts(checkpoint, difference, speed, notes)
    updated = replace(
        category, network=spec, training=facts, pose_errors=errors, predictor_path=folder / PREDICTOR
    )
    save_category(updated, folder)
    return load_category(folder)


def _pose_errors(student: AnyStudent, category: Category, shard: Shard) -> PoseErrors | None:
    shard.check(category)
    if shard.crop != student.config.crop:
        raise TrainingError(
            f"{shard.folder}: holds crops of {shard.crop} pixels, but the network takes {student.config.crop}; give "
            "the shard that it was trained on"
        )
    return measure_pose_errors(student, category, shard)


def changes(before: Category, after: Category, shard: Path | None) -> list[str]:
    """What an export took out of a bundle, and what it left there of the network before: a line each."""
    lines = []
    if after.pose_errors is None:
        gone = f"{ERRORS} of the network before is taken away" if before.pose_errors else f"there is no {ERRORS}"
        why = "no --shard was given" if shard is None else f"the validation clips of {shard} have too few frames"
        lines.append(f"{gone}: {why} to measure this network's errors")
    if before.predictor_path is None or before.hashes.get(PREDICTOR) == after.hashes[PREDICTOR]:
        return lines
    if dropped := [name for name in OF_THE_NETWORK if name in before.training and name not in after.training]:
        lines.append(f"no longer in {DESCRIPTION}, since of the network before: {', '.join(dropped)}")
    left = [f"version {after.version}", *(name for name in (REFINER, CARD) if name in after.hashes)]
    lines.append(f"still of the network before: {', '.join(left)}")
    return lines


def _architecture(sizes: StudentConfig) -> str:
    """What a network is made of, in words."""
    if sizes.design == "dasr":
        return f"DASR's, two {sizes.backbone}, camera multiplex, window of 13 frames"
    parts = {
        "surface map": sizes.surface,
        "joint maps": sizes.joint_maps,
        "camera multiplex": sizes.hypotheses > 1,
        "look back": sizes.look_back and sizes.surface,
    }
    words = [name for name, there in parts.items() if there]
    return ", ".join(["EfficientNet-Lite0", *words, f"temporal {sizes.temporal}"])


def _facts(checkpoint: Path, difference: float, speed: float, notes: str) -> dict[str, Any]:
    state = read(checkpoint)
    steps = {name: int(step) for name, (step, _) in state["clocks"].items()}
    minutes = sum(minutes for _, minutes in state["clocks"].values())
    facts: dict[str, Any] = {
        "architecture": _architecture(StudentConfig(**state["sizes"])),
        "parameters": int(sum(v.numel() for v in state["student"].values())),
        "steps": steps,
        "minutes": round(float(minutes), 1),
        "batch": state["config"]["batch"],
        "seed": state["config"]["seed"],
        "onnx_difference": float(f"{difference:.2g}"),
        "ms_a_frame_two_cores": round(speed, 2),
    }
    path = checkpoint.with_name("log.csv")
    if path.exists():
        last = log.read(path)[-1]
        facts["validation"] = {k: round(float(v), 3) for k, v in last.items() if k.startswith("val_") and v}
    if notes:
        facts["notes"] = notes
    return facts


def main(argv: list[str] | None = None) -> int:
    """`export`: a checkpoint's network into its category bundle."""
    import tyro

    config = tyro.cli(ExportConfig, args=argv, prog="export")
    category = load_category(config.category)
    assert category.path is not None
    before = category
    category = export(config.checkpoint, before, category.path, config.notes, config.shard)
    for line in changes(before, category, config.shard):
        print(line)
    print(f"{category.predictor_path}: {category.training['student']}")
    return 0
