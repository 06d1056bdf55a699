# SPDX-License-Identifier: GPL-3.0-or-later
"""A predictor of a few kilobytes with the real one's inputs and outputs, for tests of what lies around it.

Its answer is an animal seen from its right side that stands in the middle of the crop; the crop's mean colours
move it a little, so that it is a function of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from toy import toy_category_in_memory

from dasr_blender.core import Category, save_category
from dasr_blender.core.rotation import matrix_to_sixd

HYPOTHESES = 6
# camera_from_body of an animal that looks to the picture's right: its -Y is the camera's +x, its Z is up
RIGHT = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
LEFT = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])


def write_tiny_predictor(path: Path, category: Category) -> None:
    """Write the ONNX file that fits `category`."""
    import onnx
    from onnx import helper, numpy_helper

    joints, proportions = len(category.skeleton), len(category.morphology)
    appearance = len(category.body.appearance_basis)
    size = category.network.input_size
    roots = matrix_to_sixd(np.stack([RIGHT, LEFT, *([RIGHT] * (HYPOTHESES - 2))])).reshape(HYPOTHESES, 6)
    shapes = {
        "root_rotation": ((HYPOTHESES, 6), roots),
        # depth = focal / side * exp(w): a body 1.25 m long in a crop 1.2 times its box
        "root_translation": ((HYPOTHESES, 3), np.tile([0.0, 0.0, np.log(1.5)], (HYPOTHESES, 1))),
        "root_logprob": ((HYPOTHESES,), np.log([0.7, 0.1, 0.05, 0.05, 0.05, 0.05])),
        "joint_rotations": ((joints, 6), np.tile([1.0, 0, 0, 0, 1, 0], (joints, 1))),
        "morphology": ((proportions,), np.zeros(proportions)),
        "appearance": ((appearance,), np.zeros(appearance)),
        "joint_confidence": ((joints,), np.full(joints, 0.8)),
    }
    rng = np.random.default_rng(3)
    nodes = [helper.make_node("ReduceMean", ["crops"], ["colour"], axes=[2, 3], keepdims=0)]
    constants, outputs = [], []
    for name, (shape, bias) in shapes.items():
        count = int(np.prod(shape))
        scale = 0.0 if name in ("root_logprob", "joint_confidence") else 0.02
        constants += [
            numpy_helper.from_array(rng.normal(0, scale, (4, count)).astype(np.float32), f"{name}_w"),
            numpy_helper.from_array(np.asarray(bias, np.float32).reshape(count), f"{name}_b"),
            numpy_helper.from_array(np.array([-1, *shape], np.int64), f"{name}_shape"),
        ]
        nodes += [
            helper.make_node("Gemm", ["colour", f"{name}_w", f"{name}_b"], [f"{name}_flat"]),
            helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [name]),
        ]
        outputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["T", *shape]))
    inputs = [
        helper.make_tensor_value_info("crops", onnx.TensorProto.FLOAT, ["T", 4, size, size]),
        helper.make_tensor_value_info("crop_info", onnx.TensorProto.FLOAT, ["T", 3]),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


def write_tiny_refiner(path: Path, category: Category, nearer: float = 0.1) -> None:
    """A refiner of two rounds that moves the subject nearer by half of `nearer` (log depth) in each, and no more."""
    import onnx
    from onnx import helper, numpy_helper

    joints, proportions = len(category.skeleton), len(category.morphology)
    shapes = {
        "rotation": (3, 3),
        "translation": (3,),
        "joints": (joints, 3, 3),
        "memory": (joints, 4),
        "morphology": (proportions,),
    }
    moved = ("rotation", "translation", "joints", "memory")
    step = numpy_helper.from_array(np.array([0, 0, -nearer / 2], np.float32), "step")
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["translation", "step"], ["new_translation"]),
            *(helper.make_node("Identity", [n], [f"new_{n}"]) for n in moved if n != "translation"),
        ],
        "tiny",
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["T", *s]) for n, s in shapes.items()],
        [helper.make_tensor_value_info(f"new_{n}", onnx.TensorProto.FLOAT, ["T", *shapes[n]]) for n in moved],
        [step],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, {"rounds": "2", "radius": "4", "vertices": "0 1 2"})
    onnx.save(model, str(path))


FOUND = tuple(
    f"{end}_{part}.{side}" for part in ("upper", "lower", "foot") for end in ("front", "hind") for side in "LR"
)


def write_tiny_landmarks(path: Path, joints: Sequence[str] = FOUND, size: int = 32) -> None:
    """A landmark network that is sure where the picture's upper quarter is bright, and places all joints upwards.

    What is bright is the body, and its joints lie in the whole picture, and below it by half its height.
    """
    import onnx
    from onnx import helper, numpy_helper

    number = onnx.TensorProto.FLOAT
    place = np.tile(np.array([0, -1, 0.5], np.float32), (1, len(joints), 1))
    constants = {
        "start": np.array([0]), "end": np.array([size // 4]), "axis": np.array([2]), "gain": np.float32(1.25),
        "place": place, "nothing": np.float32(0), "reach": np.array([[0, 0, 1, 1.5]], np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["crops", "start", "end", "axis"], ["top"]),
            helper.make_node("ReduceMean", ["top"], ["bright"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Squeeze", ["bright", "axis"], ["one"]),
            helper.make_node("Squeeze", ["one", "axis"], ["light"]),
            helper.make_node("Mul", ["light", "gain"], ["presence"]),
            helper.make_node("Mul", ["one", "nothing"], ["none"]),
            helper.make_node("Add", ["none", "place"], ["places"]),
            helper.make_node("Squeeze", ["none", "axis"], ["flat"]),
            helper.make_node("Add", ["flat", "reach"], ["box"]),
            helper.make_node("ReduceMean", ["crops"], ["mask"], axes=[1], keepdims=0),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("crops", number, ["T", 3, size, size]),
            helper.make_tensor_value_info("masked", onnx.TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("box", number, ["T", 4]),
            helper.make_tensor_value_info("mask", number, ["T", size, size]),
            helper.make_tensor_value_info("places", number, ["T", len(joints), 3]),
            helper.make_tensor_value_info("presence", number, ["T", 1]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, {"joints": " ".join(joints)})
    onnx.save(model, str(path))


def save_tiny_category(folder: Path) -> Path:
    """The toy category with a tiny predictor in `folder`/toy; returns that folder."""
    category = toy_category_in_memory()
    network = replace(
        category.network,
        outputs={
            "root_rotation": ("T", HYPOTHESES, 6),
            "root_translation": ("T", HYPOTHESES, 3),
            "root_logprob": ("T", HYPOTHESES),
            "joint_rotations": ("T", 30, 6),
            "morphology": ("T", 11),
            "appearance": ("T", 3),
            "joint_confidence": ("T", 30),
        },
        temporal_radius=0,
    )
    category = replace(category, network=network)
    folder = Path(folder) / "toy"
    folder.mkdir(parents=True, exist_ok=True)
    write_tiny_predictor(folder / "predictor.onnx", category)
    return save_category(category, folder)
