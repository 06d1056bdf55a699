# SPDX-License-Identifier: GPL-3.0-or-later
"""Which provider is taken, and what happens when one does not start."""

from __future__ import annotations

import os
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_predictor import save_tiny_category

from dasr_blender.arguments import PROVIDERS as NAMES
from dasr_blender.core import Category, load_category
from dasr_blender.predict import PredictError, Student
from dasr_blender.predict.providers import (
    CHOICES,
    LABELS,
    PROVIDERS,
    candidates,
    describe,
    open_session,
    physical_cores,
    trial_inputs,
)


class FakeRuntime:
    """onnxruntime as far as we use it, with providers that start, stay away, raise, or fail when they run."""

    class SessionOptions:
        log_severity_level = intra_op_num_threads = 0
        enable_mem_pattern, execution_mode = True, None

    ExecutionMode = types.SimpleNamespace(ORT_SEQUENTIAL="sequential")

    def __init__(self, **behaviour: str) -> None:
        self.behaviour, self.opened = {**behaviour, "cpu": "starts"}, []

    def get_available_providers(self) -> list[str]:
        return [PROVIDERS[name] for name in reversed(self.behaviour)]  # any order

    def InferenceSession(self, path, options, providers, enable_fallback):
        assert enable_fallback == 0 and providers[-1] == PROVIDERS["cpu"]
        name = next(n for n in PROVIDERS if PROVIDERS[n] == providers[0])
        how = self.behaviour[name]
        self.opened.append((name, options))
        if how == "raises":
            raise RuntimeError("libcudnn.so.9: cannot open shared object file\nmore lines")

        def run(_outputs, _inputs):
            if how == "breaks":
                raise RuntimeError("no kernel image is available")

        kept = providers[1:] if how == "absent" else providers
        return types.SimpleNamespace(get_providers=lambda: kept, run=run)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch):
    def install(**behaviour: str) -> FakeRuntime:
        fake = FakeRuntime(**behaviour)
        monkeypatch.setitem(__import__("sys").modules, "onnxruntime", fake)
        return fake

    return install


def test_the_best_provider_that_is_there_is_tried_first() -> None:
    assert candidates("auto", ["cuda", "directml", "coreml", "cpu"]) == ["cuda", "directml", "coreml", "cpu"]
    assert candidates("auto", ["cpu"]) == ["cpu"]
    assert candidates("cpu", ["cuda", "cpu"]) == ["cpu"]
    assert candidates("coreml", ["cuda", "coreml", "cpu"]) == ["coreml", "cpu"]
    with pytest.raises(PredictError, match="no provider 'npu'; choose one of auto, cuda"):
        candidates("npu", ["cpu"])


@pytest.mark.parametrize("name", ["cuda", "directml", "coreml"])
def test_a_provider_that_starts_is_used(runtime, name: str) -> None:
    fake = runtime(**{name: "starts"})
    opened = open_session(Path("net.onnx"), trial=trial_inputs(8))
    assert (opened.provider, opened.label, opened.notes) == (name, LABELS[name], ())
    assert [n for n, _ in fake.opened] == [name]
    options = fake.opened[0][1]
    assert (options.execution_mode == "sequential") == (name == "directml")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises", "libcudnn.so.9: cannot open"),
        ("absent", "driver or libraries"),
        ("breaks", "no kernel image"),
    ],
)
def test_the_processor_takes_over_and_says_so(
    runtime, how: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for wanted in ("auto", "cuda"):
        fake = runtime(cuda=how)
        opened = open_session(Path("net.onnx"), wanted, threads=3, trial=trial_inputs(8))
        assert (opened.provider, opened.label) == ("cpu", "CPU, 3 threads")
        assert len(opened.notes) == 1 and opened.notes[0].startswith("CUDA did not start (")
        assert reason in opened.notes[0] and "more lines" not in opened.notes[0]
        assert fake.opened[-1][1].intra_op_num_threads == 3


def test_no_more_threads_than_the_machine_has(runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    fake = runtime()
    assert open_session(Path("net.onnx"), "cpu", threads=200).threads == 2
    assert fake.opened[-1][1].intra_op_num_threads == 2


def test_a_provider_asked_for_that_is_not_built_in_is_named(runtime) -> None:
    runtime(coreml="starts")
    opened = open_session(Path("net.onnx"), "cuda")
    assert opened.provider == "cpu"
    assert opened.notes == ("CUDA is not in this onnxruntime (it has CoreML, CPU); the processor is used.",)


def test_threads_are_physical_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert physical_cores(tmp_path) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2}, raising=False)
    assert physical_cores(tmp_path) == 1
    assert physical_cores(tmp_path / "nowhere") == 2  # no topology: every thread counts
    assert describe("cpu", 1) == "CPU, 1 thread" and describe("cuda", 4) == "CUDA"


def test_the_command_line_and_the_panel_offer_the_same_names() -> None:
    assert tuple(NAMES) == CHOICES
    assert {name: NAMES[name] for name in LABELS} == LABELS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Category:
    return load_category(save_tiny_category(tmp_path_factory.mktemp("tiny")))


def test_a_real_network_runs_on_the_processor(tiny: Category) -> None:
    student = Student(tiny, "cpu", threads=1)
    assert student.opened.label == "CPU, 1 thread" and not student.opened.notes
    size = tiny.network.input_size
    answer = student.run(np.zeros((3, 4, size, size), np.uint8), np.tile([0.0, 0.0, 0.4], (3, 1)))
    assert len(answer) == 3 and answer.root_rotation.shape[1] == 12


def test_a_broken_network_is_refused(tiny: Category, tmp_path: Path) -> None:
    broken = tmp_path / "predictor.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(PredictError, match="cannot load the network"):
        Student(replace(tiny, predictor_path=broken))
