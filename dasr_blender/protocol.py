# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command talks: JSON lines for a program, a progress bar for a person, and how it is told to stop.

With `--json` stdout carries one JSON object a line and nothing else (`progress`, `log`, `result`, `error`).
Blender and ffmpeg print to stdout from C, so file descriptor 1 is pointed at stderr for the while. SIGTERM and
Ctrl-C stop the command within half a second, and so do, with `--listen`, which the extension's worker passes, the
line `cancel` on stdin and the end of stdin. Without it stdin is not read: it may belong to a shell's loop.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn, TextIO

from .core.errors import Cancelled

CANCELLED = 130  # exit status, as after Ctrl-C
GRACE = 0.35  # seconds the work has to notice by itself before the process is ended


def leave(status: int) -> NoReturn:
    """End a process of our own at once.

    With bpy loaded the interpreter's way out can hang for ever and prints about unfreed memory to stdout.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if "bpy" in sys.modules:
        _remove_blenders_folder()
        os._exit(status)
    sys.exit(status)


def _remove_blenders_folder() -> None:
    """Remove the temporary folder that Blender removes itself only when it ends in its own way."""
    if (app := getattr(sys.modules.get("bpy"), "app", None)) is not None:
        shutil.rmtree(app.tempdir, ignore_errors=True)


def quiet_full_disk() -> None:
    """A file that could not be written fails again when it is thrown away; once is enough to say so."""
    usual = sys.unraisablehook
    sys.unraisablehook = lambda bad: None if isinstance(bad.exc_value, OSError) else usual(bad)


class Channel:
    """Where a command's messages go. Use as a context manager: on exit stdout is what it was."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._out: BinaryIO
        self._err: TextIO = sys.stderr
        self._terminal = not as_json and sys.stderr.isatty()
        self._shown = ("", -1)
        self._drawn = 0  # signs of the progress bar on the terminal
        self._lock = threading.Lock()

    def __enter__(self) -> Channel:
        sys.stdout.flush()
        # a file object, not a descriptor: a Windows console takes bytes for those of its code page
        self._out = open(os.dup(1), "wb", buffering=0)
        # our own, because the exporters' is silenced while they write
        self._err = open(os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace")
        os.dup2(2, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._end_bar()
        sys.stdout.flush()
        os.dup2(self._out.fileno(), 1)
        self._out.close()
        self._err.close()

    def progress(self, fraction: float, stage: str, text: str) -> None:
        """fraction 0…1 of the whole command; at most one message a percent and stage."""
        percent = int(100 * fraction)
        if (stage, percent) == self._shown:
            return
        new_stage = stage != self._shown[0]
        self._shown = (stage, percent)
        if self.as_json:
            self._message({"type": "progress", "fraction": round(fraction, 4), "stage": stage, "text": text})
        elif self._terminal:
            filled = int(30 * fraction)
            self._draw(f"{'█' * filled}{'░' * (30 - filled)} {percent:3d} %  {text}")
        elif new_stage:
            self._tell(f"{percent:3d} %  {text}\n")

    def log(self, text: str) -> None:
        """A sentence that is neither progress nor the end, such as a warning."""
        if self.as_json:
            self._message({"type": "log", "text": text})
        else:
            self._end_bar()
            self._tell(f"dasr: {text}\n")

    def result(self, values: dict[str, Any], lines: list[str]) -> None:
        """The end of a command that worked: values for a program, lines for a person."""
        if self.as_json:
            self._message({"type": "result", **values})
        else:
            self._end_bar()
            self._write("".join(f"{line}\n" for line in lines))

    def error(self, text: str, cancelled: bool = False) -> None:
        """The end of a command that did not."""
        if self.as_json:
            self._message({"type": "error", "text": text, **({"cancelled": True} if cancelled else {})})
        self._end_bar()
        self._tell(f"dasr: {text}\n")

    def _message(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message, ensure_ascii=False) + "\n")

    def _write(self, text: str) -> None:
        encoding = "utf-8" if self.as_json else sys.stdout.encoding or "utf-8"
        data = text.encode(encoding, "backslashreplace")  # a file's name may hold what is no text, in JSON too
        with self._lock:
            try:
                while data:
                    data = data[self._out.write(data) :]
            except BrokenPipeError:
                pass  # nobody reads any more; a worker's stdin is closed then too, which stops it

    def _tell(self, text: str) -> None:
        """Write for a person, on stderr."""
        self._err.write(text)
        self._err.flush()

    def _draw(self, bar: str) -> None:
        """Draw over the bar that is there, with spaces: not every Windows console knows the sign that clears a line."""
        bar = bar[: shutil.get_terminal_size().columns - 1]  # no way back from the next line
        self._tell("\r" + bar.ljust(self._drawn))
        self._drawn = len(bar)

    def _end_bar(self) -> None:
        if self._drawn:
            self._draw("")
            self._tell("\r")
            self._shown = ("", -1)


class Canceller:
    """Listens for the wish to stop, and ends the process when the work does not notice in time.

    Args:
        channel: gets the last message if the process has to be ended.
        listen: also stop at the line `cancel` on stdin and at its end, not at signals alone.
        tidy: removes temporary files before the process is ended.
    """

    def __init__(self, channel: Channel, listen: bool, tidy: Callable[[], None]) -> None:
        self._event = threading.Event()
        self._finished = threading.Event()
        self._wake = threading.Event()  # of the two above
        self._channel, self._tidy, self._listen = channel, tidy, listen
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Canceller:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, lambda *_: self._stop())
        if self._listen:
            threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._wake.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def asked(self) -> bool:
        """Has somebody asked to stop?"""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Cancelled once somebody has asked to stop."""
        if self.asked():
            raise Cancelled("Stopped as asked")

    def _stop(self) -> None:
        self._event.set()
        self._wake.set()

    def _read(self) -> None:
        waiting = b""
        while not self._finished.is_set():
            try:
                data = os.read(0, 4096)
            except OSError:
                data = b""
            waiting += data
            if not data or b"cancel" in waiting.split(b"\n")[:-1]:
                self._stop()
                return
            waiting = waiting.rpartition(b"\n")[2]

    def _watch(self) -> None:
        """Networks and exporters run for seconds without looking up; whole files alone are ever in place."""
        self._wake.wait()
        if self._finished.is_set():
            return
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            if self._finished.wait(0.02):
                return
        self._channel.error("Cancelled", cancelled=True)
        self._tidy()
        _remove_blenders_folder()
        os._exit(CANCELLED)
