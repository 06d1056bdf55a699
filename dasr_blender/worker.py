# SPDX-License-Identifier: GPL-3.0-or-later
"""The other end of `python -m dasr_blender … --json --listen`: start it, read its messages, stop it.

One JSON object a line comes from the worker's stdout (`progress`, `log`, `result`, `error`); the line
`cancel` on its stdin asks it to stop, and so does the end of its stdin, when this process is gone. Nothing here
knows Blender, so it is tested without it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from .protocol import GRACE

PACKAGE_DIR = Path(__file__).resolve().parent

# A worker that does not stop by itself within this time (seconds) is ended; it tidies up after `GRACE`.
CANCEL_GRACE = GRACE + 0.1


def worker_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Environment in which a plain Python finds this package and what it imports.

    Blender adds its wheels and its own numpy to `sys.path` when it starts, a child process would not:
    the folders they were found in travel in `PYTHONPATH`. What Blender's Python leaves out of account the child's
    does too: another program's `PYTHONHOME`, and scripts in the folder that Blender was started in. `extra` is added
    to it all.
    """
    folders = [str(PACKAGE_DIR.parent)]
    for name in ("onnxruntime", "cv2", "numpy", "rembg"):
        spec = find_spec(name)
        if spec and spec.submodule_search_locations:
            folders.append(str(Path(next(iter(spec.submodule_search_locations))).parent))
    environment = dict(os.environ)
    if sys.flags.ignore_environment:
        environment = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(folders))
    environment["PYTHONIOENCODING"] = "utf-8"
    environment["PYTHONNOUSERSITE"] = environment["PYTHONSAFEPATH"] = "1"
    return environment | dict(extra)


@dataclass
class Worker:
    """A running `dasr` command.

    Attributes:
        arguments: what follows `dasr`, without `--json` and `--listen`.
        environment: variables to set beside those of this process.
        fraction: share of the work done, 0…1.
        text: what it is doing now, for a person.
        result: the `result` message, once there is one.
        error: the sentence of the `error` message, once there is one.
        cancelled: the user stopped it.
        log: lines of the `log` messages, newest last.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    fraction: float = 0.0
    text: str = "Starting"
    result: dict[str, Any] | None = None
    error: str | None = None
    cancelled: bool = False
    log: list[str] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None
    _lines: queue.Queue[str | None] = field(default_factory=queue.Queue)
    _errors: TextIO | None = None
    _cancelled_at: float | None = None

    def start(self) -> None:
        """Start the process. Raises OSError when Python itself cannot be started."""
        if not sys.executable:  # what Blender says where it found none
            raise OSError(
                "This Blender comes with no Python program for the work to run in: install the one from blender.org"
            )
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, "-m", PACKAGE_DIR.name, *self.arguments, "--json", "--listen"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=worker_environment(self.environment),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def poll(self) -> bool:
        """Take in what the worker said since the last call; True while it still runs."""
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                break
            if line is None:
                self._finish()
                return False
            self._take(line)
        if self._cancelled_at and time.monotonic() - self._cancelled_at > CANCEL_GRACE and self._process:
            self._process.kill()
        return True

    def _take(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            self.log.append(line.rstrip())
            return
        kind = message.get("type")
        if kind == "progress":
            self.fraction, self.text = (
                float(message.get("fraction", self.fraction)),
                str(message.get("text", self.text)),
            )
        elif kind == "result":
            self.result = message
        elif kind == "error":
            self.error = str(message.get("text") or message.get("message") or "the worker gave no reason")
            self.cancelled = self.cancelled or bool(message.get("cancelled"))
        elif kind == "log":
            self.log.append(str(message.get("text", "")))

    def _finish(self) -> None:
        assert self._process is not None and self._errors is not None
        code = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().strip().splitlines()
        self._errors.close()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        if self._cancelled_at:
            self.cancelled = True
        elif self.result is None and self.error is None:
            self.error = f"the worker ended with status {code}" + (f": {words[-1]}" if words else "")

    def cancel(self) -> None:
        """Ask the worker to stop; `poll` ends it if it does not within `CANCEL_GRACE` seconds."""
        if self._cancelled_at or not self._process:
            return
        self._cancelled_at = time.monotonic()
        try:
            assert self._process.stdin is not None
            self._process.stdin.write("cancel\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended already: poll will see it

    def wait(self) -> Iterator[tuple[float, str]]:
        """Block until the worker ends, yielding (fraction, text) whenever they change."""
        last = None
        while self.poll():
            if (self.fraction, self.text) != last:
                last = (self.fraction, self.text)
                yield last
            time.sleep(0.05)
