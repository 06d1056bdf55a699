# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker process as the add-on sees it: its messages, its errors, and how fast it stops."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dasr_blender.worker import Worker, worker_environment

ROOT = Path(__file__).resolve().parents[1]
IN_BLENDER = """
import sys
sys.path.insert(0, sys.argv[1])
from dasr_blender.worker import Worker
worker = Worker(["reconstruct", "none.mp4", "--formats", "none"])
worker.start()
for _ in worker.wait():
    pass
print(worker.error)
"""


def run(worker: Worker) -> list[tuple[float, str]]:
    worker.start()
    return list(worker.wait())


def test_a_users_mistake_arrives_as_one_sentence(tmp_path):
    worker = Worker(
        ["reconstruct", str(tmp_path / "none.mp4"), "--out", str(tmp_path / "out"), "--formats", "none"]
    )
    run(worker)
    assert worker.result is None and not worker.cancelled
    assert worker.error and "none.mp4" in worker.error and "\n" not in worker.error
    assert not list(tmp_path.glob("out/*.npz"))


def test_progress_and_result(tmp_path):
    worker = Worker(["demo-clip", str(tmp_path), "--count", "4"])
    steps = run(worker)
    assert worker.error is None
    assert worker.result and worker.result["clip"].startswith(str(tmp_path))
    fractions = [fraction for fraction, _ in steps]
    assert fractions == sorted(fractions) and worker.fraction > 0


def test_cancel_stops_within_half_a_second(tmp_path):
    worker = Worker(["demo-clip", str(tmp_path), "--count", "100000"])
    worker.start()
    begin = time.monotonic()
    while worker.fraction == 0 and time.monotonic() - begin < 60:
        worker.poll()
        time.sleep(0.02)
    worker.cancel()
    asked = time.monotonic()
    while worker.poll():
        time.sleep(0.02)
    assert time.monotonic() - asked < 0.6
    assert worker.cancelled and worker.result is None


def test_a_worker_that_dies_says_so(tmp_path):
    worker = Worker(["no-such-command"])
    run(worker)
    assert worker.error and "status 2" in worker.error


def test_what_blenders_python_ignores_the_workers_ignores_too(tmp_path):
    """Another program's PYTHONHOME, as a studio sets it, and scripts in the folder that a .blend was opened from."""
    (tmp_path / "queue.py").write_text("raise SystemExit('not the queue that was meant')")
    done = subprocess.run(
        [sys.executable, "-I", "-c", IN_BLENDER, str(ROOT)],
        env={**os.environ, "PYTHONHOME": str(tmp_path / "other")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "no file or folder none.mp4" in done.stdout, done.stdout + done.stderr


def test_a_blender_without_a_python_program_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", None)
    with pytest.raises(OSError, match="no Python program"):
        Worker(["demo-clip", "x"]).start()


@pytest.mark.parametrize("name", ["numpy", "cv2", "onnxruntime"])
def test_the_environment_lets_a_bare_python_find_what_the_worker_imports(name):
    folders = worker_environment({"DASR_CATEGORIES": "x"})["PYTHONPATH"].split(
        ":" if sys.platform != "win32" else ";"
    )
    from importlib.machinery import PathFinder

    assert PathFinder.find_spec(name, folders) is not None
