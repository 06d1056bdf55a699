# SPDX-License-Identifier: GPL-3.0-or-later
"""Smaller files of a network answer the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_predictor import save_tiny_category

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from dasr_blender.core import load_category, save_category
from dasr_blender.training import export_small
from dasr_blender.training.errors import TrainingError
from dasr_blender.training.export_small import eight_bit, half_weights, main


def convolutions(path: Path, seed: int = 0) -> Path:
    """A network of two convolutions and a head, with the real one's inputs."""
    rng = np.random.default_rng(seed)
    weights = {
        "first": rng.normal(0, 0.3, (8, 4, 3, 3)),
        "second": rng.normal(0, 0.2, (16, 8, 3, 3)),
        "head": rng.normal(0, 0.3, (16, 5)),
        "bias": rng.normal(0, 0.3, (5,)),
    }
    nodes = [
        helper.make_node("Conv", ["crops", "first"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("ReduceMean", ["d"], ["e"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["e", "head", "bias"], ["f"]),
        helper.make_node("ReduceSum", ["crop_info"], ["g"], keepdims=1),
        helper.make_node("Add", ["f", "g"], ["answer"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["T", 4, 32, 32]),
            helper.make_tensor_value_info("crop_info", TensorProto.FLOAT, ["T", 3]),
        ],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["T", 5])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def answers(path: Path, crops: np.ndarray, info: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"crops": crops, "crop_info": info})[0])


def some_input(frames: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.random((frames, 4, 32, 32), np.float32), rng.uniform(-0.5, 0.5, (frames, 3)).astype(np.float32)


def test_half_precision_weights_halve_the_file_and_keep_the_answer(tmp_path: Path) -> None:
    path = convolutions(tmp_path / "whole.onnx")
    half_weights(path, tmp_path / "half.onnx")
    crops, info = some_input(3)
    before, after = (answers(p, crops, info) for p in (path, tmp_path / "half.onnx"))
    assert 0 < np.abs(before - after).max() < 2e-3 * np.abs(before).max()
    assert (tmp_path / "half.onnx").stat().st_size < 0.75 * path.stat().st_size
    stored = onnx.load(str(tmp_path / "half.onnx"))
    kinds = {t.name: t.data_type for t in stored.graph.initializer}
    assert kinds["first__half"] == TensorProto.FLOAT16 and kinds["bias"] == TensorProto.FLOAT


def test_eight_bit_convolutions_are_close(tmp_path: Path) -> None:
    path = convolutions(tmp_path / "whole.onnx")
    crops, info = some_input(36)
    eight_bit(path, tmp_path / "small.onnx", crops, info)
    before, after = (answers(p, crops, info) for p in (path, tmp_path / "small.onnx"))
    assert 0 < np.abs(before - after).max() < 0.1 * np.abs(before).max()
    assert "DequantizeLinear" in {n.op_type for n in onnx.load(str(tmp_path / "small.onnx")).graph.node}


def test_eight_bits_of_half_precision_weights_leave_none_in_32(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(export_small, "SMALLEST", 80)  # as many as the head has
    half_weights(convolutions(tmp_path / "whole.onnx"), tmp_path / "half.onnx")
    crops, info = some_input(36)
    eight_bit(tmp_path / "half.onnx", tmp_path / "small.onnx", crops, info)
    before, after = (answers(p, crops, info) for p in (tmp_path / "half.onnx", tmp_path / "small.onnx"))
    assert 0 < np.abs(before - after).max() < 0.1 * np.abs(before).max()
    kinds = {t.data_type for t in onnx.load(str(tmp_path / "small.onnx")).graph.initializer if len(t.dims) > 1}
    assert kinds == {TensorProto.INT8, TensorProto.FLOAT16}


def test_the_command_on_a_predictor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = save_tiny_category(tmp_path / "categories") / "predictor.onnx"
    out = tmp_path / "small.onnx"
    assert main(["--predictor", str(predictor), "--out", str(out), "--kind", "fp16"]) == 0
    assert "MB instead of" in capsys.readouterr().out and out.is_file()
    with pytest.raises(TrainingError, match="needs --shard"):
        main(["--predictor", str(predictor), "--out", str(out), "--kind", "int8"])


def test_a_bundle_takes_the_smaller_file_as_its_own(tmp_path: Path) -> None:
    bundle = save_tiny_category(tmp_path / "categories")
    convolutions(tmp_path / "other.onnx").replace(bundle / "predictor.onnx")
    save_category(load_category(save_tiny_category(tmp_path / "again")), bundle)  # with that file's hash
    before = load_category(bundle).hashes
    assert main(["--predictor", str(bundle), "--out", str(bundle)]) == 0
    after = load_category(bundle).hashes  # read at all: it is what category.json says
    assert after["predictor.onnx"] != before["predictor.onnx"] and after["body.npz"] == before["body.npz"]


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    for content in (b"x\n", b"", b"\xff" * 40):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(TrainingError, match=r"bad\.onnx is not an ONNX file"):
            main(["--predictor", str(tmp_path / "bad.onnx"), "--out", str(tmp_path / "out.onnx")])
    with pytest.raises(FileNotFoundError, match="no network at"):
        main(["--predictor", str(tmp_path / "none.onnx"), "--out", str(tmp_path / "out.onnx")])
    assert not (tmp_path / "out.onnx").exists()
