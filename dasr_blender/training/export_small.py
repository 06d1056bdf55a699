# SPDX-License-Identifier: GPL-3.0-or-later
"""Smaller files of an exported network: half-precision weights, or 8-bit convolutions.

    python -m dasr_blender.training export-small --predictor models/quadruped --out models/quadruped
    python -m dasr_blender.training export-small --predictor PREDICTOR.onnx --out OUT.onnx --kind int8 --shard SHARD

``fp16`` stores the weights in 16 bits and computes in 32, as before: half the file, the same time, since
onnxruntime widens them once when it loads the file. ``int8`` computes the convolutions in 8 bits, with ranges
measured on crops of a training shard. Whether the scores hold is for `evaluate` to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..core.category import DESCRIPTION, PREDICTOR, load_category, save_category
from ..core.files import written_atomically
from .errors import TrainingError
from .student.shipped import HALF, load_network

SMALLEST = 256  # numbers; smaller tensors, and vectors, hold shapes, scales and constants, not weights


@dataclass(frozen=True)
class SmallConfig:
    """Make a smaller file of an exported network."""

    predictor: Path
    """predictor.onnx to read, or the bundle that holds it."""
    out: Path
    """File to write, or a folder for predictor.onnx; a bundle, the same one too, takes it as its own."""
    kind: Literal["fp16", "int8"] = "fp16"
    shard: Path | None = None
    """Packed crops to measure ranges on; only for int8."""
    frames: int = 192
    """How many of them."""


def half_weights(path: Path, out: Path) -> None:
    """`path` with its weights in 16 bits, widened by a Cast before use. Vectors and values beyond 65504 stay in 32."""
    model = load_network(path)
    graph = model.graph
    casts, kept = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        large = values.ndim > 1 and values.size >= SMALLEST
        if tensor.data_type != TensorProto.FLOAT or not large or np.abs(values).max() > 65504:
            kept.append(tensor)
            continue
        name = tensor.name + HALF
        kept.append(numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    with written_atomically(out) as temporary:
        onnx.save(model, str(temporary))


def eight_bit(path: Path, out: Path, crops: np.ndarray, crop_info: np.ndarray) -> None:
    """`path` with its convolutions in 8 bits (static, a scale for every output channel), other weights as they were.

    crops ``(N, 4, S, S)`` float32 in 0…1 and crop_info ``(N, 3)``: what the ranges are measured on, in clips of 12.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(range(0, len(crops), 12))

        def get_next(self) -> dict[str, np.ndarray] | None:
            at = next(self.left, None)
            if at is None:
                return None
            part = slice(at, at + 12)
            return {"crops": crops[part], "crop_info": crop_info[part].astype(np.float32)}

    half = any(tensor.name.endswith(HALF) for tensor in load_network(path).graph.initializer)
    with written_atomically(out) as temporary:
        ready = temporary.with_suffix(".pre.onnx")
        try:
            quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready),
                str(temporary),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
            if half:  # preparing it has widened them all
                half_weights(temporary, temporary)
        finally:
            ready.unlink(missing_ok=True)


def calibration(shard: Path, frames: int, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops ``(n, 4, S, S)`` and crop_info ``(n, 3)`` of runs of 12 rows spread over a shard.

    crop: side S that the network takes. Raises TrainingError for a shard of others, or of fewer rows.
    """
    from .student.data import Shard

    data = Shard(shard)
    if data.crop != crop:
        raise TrainingError(f"{shard}: holds crops of {data.crop} pixels, but the network takes {crop}")
    if data.rows < 12:
        raise TrainingError(f"{shard}: holds {data.rows} frames, and 12 are needed; pack more clips into it")
    starts = np.linspace(0, data.rows - 12, max(1, frames // 12)).astype(int)
    rows = (starts[:, None] + np.arange(12)).ravel()
    edge = (data.stored - data.crop) // 2
    inner = slice(edge, edge + data.crop)
    crops = np.asarray(data.crops[rows][:, :, inner, inner], np.float32) / 255
    return crops, np.asarray(data.records["crop_info"][rows], np.float32)


def main(argv: list[str] | None = None) -> int:
    """`export-small`: a smaller file of an exported network."""
    import tyro

    config = tyro.cli(SmallConfig, args=argv, prog="export-small")
    source, out = (p / PREDICTOR if p.is_dir() else p for p in (config.predictor, config.out))
    model = load_network(source)
    before = source.stat().st_size
    own = out.name == PREDICTOR and (out.parent / DESCRIPTION).is_file()
    bundle = load_category(out.parent) if own else None  # read while its hashes hold
    if config.kind == "fp16":
        half_weights(source, out)
    elif config.shard is None:
        raise TrainingError("int8 needs --shard: ranges are measured on crops")
    else:
        crop = model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
        eight_bit(source, out, *calibration(config.shard, config.frames, crop))
    if bundle is not None:
        save_category(replace(bundle, predictor_path=out), out.parent)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB instead of {before / 1e6:.1f}")
    return 0
