# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights of a network that was exported, so that training can go on from a bundle.

A `predictor.onnx` keeps a student's arrays under their own names and, as metadata, its sizes. What its answers do not
need is not in it (the frame stage's expected errors, colours, each joint token's own answer): the first two are taken
from the clip stage's heads, the last begins anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...core.category import PREDICTOR
from ..errors import TrainingError
from .config import StudentConfig

if TYPE_CHECKING:
    import onnx

SIZES = "student"
"""key of the metadata that says how the network is made"""
WITHIN = "student."
"""what the names of its arrays begin with"""
HALF = "__half"
"""what the names of arrays kept in 16 bits end with"""


def is_shipped(source: Path) -> bool:
    """Whether `source` is a bundle's folder or an exported network, not a checkpoint."""
    return source.is_dir() or source.suffix == ".onnx"


def apart(model: onnx.ModelProto, within: str, arrays: dict[str, np.ndarray]) -> None:
    """Put back each of `arrays` that the exporter merged with an equal one, named `within` and its own name.

    Of equal arrays torch's exporter keeps one and copies it for the others, now and then after they are asked for.
    """
    from onnx import numpy_helper

    for node in [n for n in model.graph.node if n.op_type == "Identity"]:
        name = node.output[0].removeprefix(within)
        if node.output[0].startswith(within) and name in arrays:
            model.graph.node.remove(node)
            model.graph.initializer.append(numpy_helper.from_array(arrays[name], node.output[0]))


def label(path: Path, sizes: StudentConfig, arrays: dict[str, np.ndarray]) -> None:
    """Write a network's sizes into its exported file, and its arrays apart (see `apart`)."""
    import onnx

    model = onnx.load(str(path))
    apart(model, WITHIN, arrays)
    onnx.helper.set_model_props(model, {SIZES: json.dumps(asdict(sizes))})
    onnx.save(model, str(path))


def load_network(source: Path, file: str = PREDICTOR) -> onnx.ModelProto:
    """An exported network as ONNX has it. source: a bundle's folder, in which it is `file`, or the file itself.

    Raises FileNotFoundError, and TrainingError for a file that is no network.
    """
    import onnx

    path = source / file if source.is_dir() else source
    if not path.exists():
        raise FileNotFoundError(f"no network at {path}")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf has its own
        raise TrainingError(f"{path} is not an ONNX file") from error
    if not model.graph.node:  # what protobuf makes of other files that it can read
        raise TrainingError(f"{path} is not an ONNX file")
    return model


def arrays_of(model: onnx.ModelProto, within: str = WITHIN) -> dict[str, np.ndarray]:
    """Arrays of an exported network whose names begin with `within`, float32, by the rest of their names."""
    from onnx import numpy_helper

    return {
        tensor.name.removeprefix(within).removesuffix(HALF): numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in model.graph.initializer
        if tensor.name.startswith(within)
    }


def read_shipped(source: Path) -> tuple[dict[str, np.ndarray], StudentConfig]:
    """Arrays of an exported network by their names in `Student`, float32, and its sizes.

    source: a bundle's folder or its `predictor.onnx`.
    Raises FileNotFoundError, and TrainingError for a file that does not keep its weights so: an older one, one in 8
    bits, or one not made by this package.
    """
    model = load_network(source)
    said = {prop.key: prop.value for prop in model.metadata_props}
    arrays = arrays_of(model)
    if SIZES not in said or "backbone.stem.gain" not in arrays:
        raise TrainingError(
            f"{source} does not keep its weights as training has them, so training cannot begin from it; give "
            "the checkpoint (student.pt) it was exported from, or export that again"
        )
    for name, array in list(arrays.items()):
        if name.startswith("heads.") and ("frame_" + name) not in arrays:
            arrays["frame_" + name] = array
    return arrays, StudentConfig(**json.loads(said[SIZES]))
