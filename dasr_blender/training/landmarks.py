# SPDX-License-Identifier: GPL-3.0-or-later
"""BlazePose GHUM as a category's landmark network.

    pip download --no-deps mediapipe==0.10.21 && unzip mediapipe-*.whl '*/pose_landmark_full.tflite'
    python -m tf2onnx.convert --tflite …/pose_landmark_full.tflite --output pose.onnx --opset 15 \\
        --inputs-as-nchw input_1
    python -m dasr_blender.training landmarks --network pose.onnx --category human

The network (Google, Apache-2.0; Grishchenko et al., "BlazePose GHUM Holistic", 2022) answers 39 landmarks in the
picture and in space, a mask, and whether there is a person. Kept are those landmarks in space that are joints of the
category, the box of all in the picture, the mask and the last.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.utils import Extractor

from ..core.category import LANDMARKS, load_category, save_category
from .errors import TrainingError
from .export_small import half_weights
from .student.shipped import load_network

PICTURE, SEEN, PRESENCE, MASK, PLACES = "input_1", "Identity", "Identity_1", "Identity_2", "Identity_4"
"""names in the converted network of the picture, of 39 × 5 numbers about landmarks, pixels first, of whether it shows a
person, of the logits of their mask, and of 39 × 3 metres from the hips"""

MARKS = 33
"""of the landmarks; those after them say where to look next"""

JOINTS = {
    "upper_arm.L": 11, "upper_arm.R": 12, "forearm.L": 13, "forearm.R": 14, "hand.L": 15, "hand.R": 16,
    "thigh.L": 23, "thigh.R": 24, "shin.L": 25, "shin.R": 26, "foot.L": 27, "foot.R": 28,
}  # fmt: skip
"""which landmark is which joint"""


@dataclass(frozen=True)
class LandmarkConfig:
    """Give a category the landmark network of BlazePose."""

    network: Path
    """The network as tf2onnx converts it."""
    category: str = "human"
    """Bundle to write into: a name or a folder."""


def write_landmarks(network: Path, out: Path) -> None:
    """The converted network with the answers that are used, for any number of frames, its weights in 16 bits.

    Raises OSError, and TrainingError when it is another network, or none.
    """
    model = load_network(network)
    try:
        model = Extractor(model).extract_model([PICTURE], [PLACES, PRESENCE, SEEN, MASK])
    except (ValueError, KeyError, onnx.checker.ValidationError) as error:
        raise TrainingError(
            f"{network}: not BlazePose as tf2onnx converts it ({error}); see docs/training.md"
        ) from None
    graph = model.graph
    del graph.value_info[:]
    for node in graph.node:
        for names in (node.input, node.output):
            for n, name in enumerate(names):
                names[n] = {PICTURE: "crops", PRESENCE: "presence"}.get(name, name)
    size = graph.input[0].type.tensor_type.shape.dim[2].dim_value
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for constant in graph.initializer:
        shape = numpy_helper.to_array(constant)
        if constant.name in shapes and shape[0] == 1 and -1 not in shape:  # converted for a single picture
            constant.CopyFrom(numpy_helper.from_array(np.append(-1, shape[1:]), constant.name))
    make = helper.make_node
    graph.node.extend(
        [
            make("Reshape", [PLACES, "by_landmark"], ["all_places"]),
            make("Gather", ["all_places", "landmarks"], ["places"], axis=1),
            make("Reshape", [SEEN, "by_mark"], ["all_marks"]),
            make("Slice", ["all_marks", "first", "last", "axes"], ["marks"]),
            make("ReduceMin", ["marks"], ["low"], axes=[1], keepdims=0),
            make("ReduceMax", ["marks"], ["high"], axes=[1], keepdims=0),
            make("Concat", ["low", "high"], ["pixels"], axis=1),
            make("Mul", ["pixels", "share"], ["box"]),
            make("Reshape", [MASK, "by_pixel"], ["logits"]),
            make("Sigmoid", ["logits"], ["mask"]),
        ]
    )
    constants = {
        "by_landmark": [-1, 39, 3], "landmarks": list(JOINTS.values()), "by_mark": [-1, 39, 5], "first": [0, 0],
        "last": [MARKS, 2], "axes": [1, 2], "by_pixel": [-1, size, size],
    }  # fmt: skip
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()
    )
    graph.initializer.append(numpy_helper.from_array(np.array(1 / size, np.float32), "share"))
    del graph.input[:], graph.output[:]
    number = onnx.TensorProto.FLOAT
    graph.input.append(helper.make_tensor_value_info("crops", number, ["T", 3, size, size]))
    graph.output.append(helper.make_tensor_value_info("places", number, ["T", len(JOINTS), 3]))
    graph.output.append(helper.make_tensor_value_info("presence", number, ["T", 1]))
    graph.output.append(helper.make_tensor_value_info("box", number, ["T", 4]))
    graph.output.append(helper.make_tensor_value_info("mask", number, [None, size, size]))
    _only_where(graph, "mask", "masked", np.zeros((0, size, size), np.float32))
    credit = "BlazePose GHUM, Google, Apache-2.0; converted from MediaPipe's pose_landmark_full.tflite"
    helper.set_model_props(model, {"joints": " ".join(JOINTS), "source": credit})
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        onnx.save(model, str(whole))
        half_weights(whole, out)


def _only_where(graph: onnx.GraphProto, output: str, flag: str, otherwise: np.ndarray) -> None:
    """What a graph works out for one of its outputs alone is done only where a further input, a bool, says so."""
    wanted = {o.name for o in graph.output} - {output}
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
    kept = [node for node in graph.node if wanted & set(node.output)]
    alone = [node for node in graph.node if not wanted & set(node.output)]
    made, none = f"{output}_made", f"{output}_none"
    for node in alone:
        node.output[:] = [made if name == output else name for name in node.output]
    value = onnx.ValueInfoProto()
    value.CopyFrom(next(o for o in graph.output if o.name == output))
    value.name = made
    nothing = helper.make_node("Constant", [], [none], value=numpy_helper.from_array(otherwise))
    empty = helper.make_tensor_value_info(none, onnx.TensorProto.FLOAT, otherwise.shape)
    branches = {
        "then_branch": helper.make_graph(alone, "made", [], [value]),
        "else_branch": helper.make_graph([nothing], "none", [], [empty]),
    }
    del graph.node[:]
    graph.node.extend([*kept, helper.make_node("If", [flag], [output], **branches)])
    graph.input.append(helper.make_tensor_value_info(flag, onnx.TensorProto.BOOL, []))


def export(config: LandmarkConfig) -> Path:
    """Write it into the bundle; returns the file."""
    category = load_category(config.category)
    unknown = [name for name in JOINTS if name not in category.skeleton.names]
    if unknown:
        raise TrainingError(
            f"BlazePose knows people, but category '{category.name}' has no joint {unknown[0]}"
        )
    assert category.path is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LANDMARKS
        write_landmarks(config.network, path)
        save_category(replace(category, landmarks_path=path), category.path)
    return category.path / LANDMARKS


def main(argv: list[str] | None = None) -> int:
    """`landmarks`: a converted BlazePose into a category bundle."""
    import tyro

    path = export(tyro.cli(LandmarkConfig, args=argv, prog="landmarks"))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
