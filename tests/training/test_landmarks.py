# SPDX-License-Identifier: GPL-3.0-or-later
"""BlazePose as a category's landmark network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from dasr_blender.core import load_category
from dasr_blender.predict import Landmarks
from dasr_blender.training.__main__ import main
from dasr_blender.training.landmarks import JOINTS

HUMAN = Path(__file__).resolve().parents[2] / "models" / "human"


def write_converted(path: Path) -> None:
    """A network with BlazePose's names and sizes, for one picture: its answers follow the picture's mean colour."""
    rng, number = np.random.default_rng(1), onnx.TensorProto.FLOAT
    sizes = {"Identity": 195, "Identity_1": 1, "Identity_4": 117}
    nodes = [
        helper.make_node("GlobalAveragePool", ["input_1"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colour"]),
        helper.make_node("ReduceMean", ["input_1"], ["grey"], axes=[1]),
        helper.make_node("Reshape", ["grey", "one_picture"], ["Identity_2"]),
    ]
    weights = [numpy_helper.from_array(np.array([1, 256, 256, 1]), "one_picture")]
    for name, size in sizes.items():
        weights.append(numpy_helper.from_array(rng.normal(0, 1, (3, size)).astype(np.float32), f"{name}_w"))
        nodes.append(helper.make_node("MatMul", ["colour", f"{name}_w"], [name]))
    graph = helper.make_graph(
        nodes, "converted", [helper.make_tensor_value_info("input_1", number, [1, 3, 256, 256])],
        [
            *(helper.make_tensor_value_info(name, number, [1, size]) for name, size in sizes.items()),
            helper.make_tensor_value_info("Identity_2", number, [1, 256, 256, 1]),
        ],
        weights,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), str(path))


@pytest.fixture
def human(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HUMAN, tmp_path / "human"))


def test_a_bundle_gets_the_joints_that_it_has(tmp_path: Path, human: Path, capsys) -> None:
    write_converted(tmp_path / "pose.onnx")
    before = load_category(human)
    assert main(["landmarks", "--network", str(tmp_path / "pose.onnx"), "--category", str(human)]) == 0
    assert "landmarks.onnx" in capsys.readouterr().out
    category = load_category(human)
    changed = {name for name in category.hashes if category.hashes[name] != before.hashes.get(name)}
    assert changed == {"landmarks.onnx"}
    finder = Landmarks(category)
    assert [category.skeleton.names[j] for j in finder.joints] == list(JOINTS)
    assert [category.skeleton.names[j] for j in finder.trunk] == [
        "upper_arm.L",
        "upper_arm.R",
        "thigh.L",
        "thigh.R",
    ]
    assert len(finder.bones) == 8
    pictures = np.random.default_rng(2).uniform(0, 1, (5, 3, 256, 256)).astype(np.float32)
    wanted = ["places", "presence", "box", "mask"]
    answers = [finder.session.run(wanted, {"crops": pictures, "masked": np.array(m)}) for m in (True, False)]
    places, presence, boxes, masks = answers[0]
    assert all(np.array_equal(a, b) for a, b in zip(*(answer[:3] for answer in answers), strict=True))
    assert answers[1][3].shape == (0, 256, 256), "what only the mask needs is left out"
    whole = onnxruntime.InferenceSession(str(tmp_path / "pose.onnx"))
    for n in range(5):
        seen, there, logits, in_space = whole.run(
            ["Identity", "Identity_1", "Identity_2", "Identity_4"], {"input_1": pictures[n : n + 1]}
        )
        marks = seen.reshape(39, 5)[:33, :2] / 256
        np.testing.assert_allclose(boxes[n], np.concatenate([marks.min(0), marks.max(0)]), atol=5e-3)
        np.testing.assert_allclose(masks[n], 1 / (1 + np.exp(-logits[0, ..., 0])), atol=1e-5)
        wanted = in_space.reshape(39, 3)[list(JOINTS.values())]
        np.testing.assert_allclose(places[n], wanted, atol=5e-3)  # weights are kept in 16 bits
        np.testing.assert_allclose(presence[n], there[0], atol=5e-3)


def test_another_network_or_category_is_refused(tmp_path: Path, human: Path, toy_category, capsys) -> None:
    write_converted(tmp_path / "pose.onnx")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "pose.onnx").read_bytes()[:500])
    for network, category, message in (
        (tmp_path / "cut.onnx", human, "cut.onnx is not an ONNX file"),
        (tmp_path / "none.onnx", human, "no network at"),
        (human / "refiner.onnx", human, "not BlazePose as tf2onnx converts it"),
        (tmp_path / "pose.onnx", toy_category.path, "category 'toy' has no joint upper_arm.L"),
    ):
        assert main(["landmarks", "--network", str(network), "--category", str(category)]) == 1
        assert message in capsys.readouterr().err
