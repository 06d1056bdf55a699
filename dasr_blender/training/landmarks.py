# SPDX-License-Identifier: GPL-3.0-or-later
"""BlazePose GHUM as a category's landmark network.

    pip download --no-deps mediapipe==0.10.21 && unzip mediapipe-*.whl '*/pose_landmark_full.tflite'
    python -m tf2onnx.convert --tflite …/pose_landmark_full.tflite --output pose.onnx --opset 15 \\
        --inputs-as-nchw input_1
    python -m dasr_blender.training landmarks --network pose.onnx --category human

The network (Google, Apache-2.0; Grishchenko et al., "BlazePose GHUM Holistic", 2022) answers 39 landmarks in the
picture and in space, a mask, and whether there is a person. Kept are those landmarks in space that are joints of the
category, and the last.
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

PICTURE, PRESENCE, PLACES = "input_1", "Identity_1", "Identity_4"
"""names in the converted network of the picture, of whether it shows a person, and of 39 × 3 metres from the hips"""

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

    Raises TrainingError when it is another network.
    """
    try:
        model = onnx.load(str(network))
        model = Extractor(model).extract_model([PICTURE], [PLACES, PRESENCE])
    except (OSError, ValueError, KeyError, onnx.checker.ValidationError) as error:
        raise TrainingError(
            f"{network}: not BlazePose as tf2onnx converts it ({error}); see docs/training.md"
        ) from None
    graph = model.graph
    del graph.value_info[:]
    for node in graph.node:
        for names in (node.input, node.output):
            for n, name in enumerate(names):
                names[n] = {PICTURE: "crops", PRESENCE: "presence", PLACES: "all_flat"}.get(name, name)
    graph.node.extend(
        [
            helper.make_node("Reshape", ["all_flat", "by_landmark"], ["all_places"]),
            helper.make_node("Gather", ["all_places", "landmarks"], ["places"], axis=1),
        ]
    )
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([-1, 39, 3], np.int64), "by_landmark"),
            numpy_helper.from_array(np.array(list(JOINTS.values()), np.int64), "landmarks"),
        ]
    )
    size = graph.input[0].type.tensor_type.shape.dim[2].dim_value
    del graph.input[:], graph.output[:]
    number = onnx.TensorProto.FLOAT
    graph.input.append(helper.make_tensor_value_info("crops", number, ["T", 3, size, size]))
    graph.output.append(helper.make_tensor_value_info("places", number, ["T", len(JOINTS), 3]))
    graph.output.append(helper.make_tensor_value_info("presence", number, ["T", 1]))
    credit = "BlazePose GHUM, Google, Apache-2.0; converted from MediaPipe's pose_landmark_full.tflite"
    helper.set_model_props(model, {"joints": " ".join(JOINTS), "source": credit})
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        onnx.save(model, str(whole))
        half_weights(whole, out)


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
