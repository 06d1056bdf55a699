# SPDX-License-Identifier: GPL-3.0-or-later
"""Which device the network runs on, and how many processor threads it gets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.workers import usable_threads
from .errors import PredictError

AUTO = "auto"
PROVIDERS = {  # name for people and the command line → onnxruntime's; the best first
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
LABELS = {"cuda": "CUDA", "directml": "DirectML", "coreml": "CoreML", "cpu": "CPU"}
CHOICES = (AUTO, *PROVIDERS)


@dataclass(frozen=True)
class Opened:
    """A network ready to run.

    session: onnxruntime's.  provider: a key of `PROVIDERS`.  threads: of the processor.
    notes: sentences for the log about providers that did not start.
    """

    session: Any
    provider: str
    threads: int
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For people: `CUDA`, or `CPU, 2 threads`."""
        return describe(self.provider, self.threads)


def describe(provider: str, threads: int) -> str:
    """`CUDA`, or `CPU, 2 threads`."""
    many = "" if provider != "cpu" else f", {threads} thread{'s' if threads != 1 else ''}"
    return LABELS[provider] + many


def available() -> list[str]:
    """Names of the providers that this onnxruntime was built with, the best first."""
    import onnxruntime

    built = onnxruntime.get_available_providers()
    return [name for name, provider in PROVIDERS.items() if provider in built]


def candidates(wanted: str = AUTO, built: Sequence[str] | None = None) -> list[str]:
    """Providers to try in turn; the processor comes last, and is always there.

    wanted: one of `CHOICES`.  built: names as `available` gives them. Raises PredictError for a name that
    does not exist.
    """
    if wanted not in CHOICES:
        raise PredictError(f"There is no provider '{wanted}'; choose one of {', '.join(CHOICES)}.")
    built = available() if built is None else built
    tried = [name for name in built if name != "cpu"] if wanted == AUTO else [wanted]
    return list(dict.fromkeys([*tried, "cpu"]))


def physical_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Cores that this process may use, two threads of one core counted once (Linux; elsewhere all threads).

    Networks are bound by arithmetic: a second thread on a core only waits for the first.
    """
    try:
        usable = os.sched_getaffinity(0)
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
    cores = set()
    for cpu in usable:
        try:
            cores.add((topology / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(cpu))
    return max(1, len(cores))


def open_session(
    path: Path, wanted: str = AUTO, threads: int = 0, trial: Mapping[str, Any] | None = None
) -> Opened:
    """Open a network on the best provider that starts.

    wanted: one of `CHOICES`.  threads: of the processor, 0 for one a core.  trial: inputs to run once on
    anything but the processor, since drivers often fail only then.
    Raises PredictError when it cannot be opened even on the processor.
    """
    import onnxruntime

    threads = usable_threads(threads) if threads > 0 else physical_cores()
    notes: list[str] = []
    built = available()
    for name in candidates(wanted, built):
        if name != "cpu" and name not in built:
            notes.append(
                f"{LABELS[name]} is not in this onnxruntime (it has {', '.join(LABELS[n] for n in built)}); "
                "the processor is used."
            )
            continue
        try:
            session = _session(onnxruntime, path, name, threads)
            if name != "cpu":
                if PROVIDERS[name] not in session.get_providers():
                    raise RuntimeError("its driver or libraries are missing")
                if trial is not None:
                    session.run(None, dict(trial))
        except Exception as error:  # onnxruntime raises its own unrelated types
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if name == "cpu":
                raise PredictError(
                    f"{path}: onnxruntime cannot load the network ({reason}); install the category again."
                ) from error
            notes.append(f"{LABELS[name]} did not start ({reason[:160]}); the next provider is used.")
            continue
        return Opened(session, name, threads, tuple(notes))
    raise AssertionError("the processor is always tried")


def _session(onnxruntime: Any, path: Path, name: str, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if name == "directml":  # what DirectML's documentation asks for
        options.enable_mem_pattern = False
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    providers = [PROVIDERS[n] for n in dict.fromkeys([name, "cpu"])]
    # Without its own fallback, which prints to stdout: who falls back to what is told here.
    return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)


def trial_inputs(size: int, frames: int = 1) -> dict[str, np.ndarray]:
    """Inputs (frames, …) of a student whose crops have the side `size`, empty pictures."""
    return {
        "crops": np.zeros((frames, 4, size, size), np.float32),
        "crop_info": np.tile(np.array([[0.0, 0.0, 0.3]], np.float32), (frames, 1)),
    }
