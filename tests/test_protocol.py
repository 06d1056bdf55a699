# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command that does not look up is ended, and what it leaves."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dasr_blender.protocol import Channel

BUSY = """
import sys, time, types
sys.modules["bpy"] = types.SimpleNamespace(app=types.SimpleNamespace(tempdir=sys.argv[1]))
from dasr_blender.protocol import Canceller, Channel
with Channel(False) as channel, Canceller(channel, listen=True, tidy=lambda: None):
    time.sleep(60)
"""


def test_a_forced_end_removes_blenders_folder(tmp_path: Path) -> None:
    folder = tmp_path / "blender_a"
    folder.mkdir()
    (folder / "quit.blend").write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-c", BUSY, folder], input="cancel\n", capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (130, "dasr: Cancelled\n") and not folder.exists()


@pytest.mark.parametrize("words", ["dasr_blender reconstruct", "dasr_blender.training"])
def test_help_is_printed_where_the_code_page_lacks_signs(words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words.split(), "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "") and "usage" in done.stdout


@pytest.mark.parametrize("words", ["--help", "joint-map --help", "teach --help"])
def test_a_reader_who_has_seen_enough_is_no_mistake(words: str) -> None:
    if words.startswith("teach"):
        pytest.importorskip("torch")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dasr_blender.training", *words.split()]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert done.returncode in (0, 141) and done.stderr == ""  # argparse keeps it to itself


def said(as_json: bool, code: str, encoding: str) -> bytes:
    """What a channel writes to stdout."""
    script = f"from dasr_blender.protocol import Channel\nwith Channel({as_json}) as channel:\n    {code}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lines_for_a_person_are_in_the_streams_encoding() -> None:
    code = "channel.result({}, ['Jürgen → rig'])"
    assert said(False, code, "cp1252") == "Jürgen \\u2192 rig\n".encode("cp1252")
    assert said(False, code, "utf-8") == "Jürgen → rig\n".encode()


def test_json_is_utf_8_and_takes_names_that_are_no_text() -> None:
    line = said(True, r"channel.error('no file Jürgen\udcff.mp4')", "cp1252")
    assert "Jürgen".encode() in line
    assert json.loads(line) == {"type": "error", "text": "no file Jürgen\udcff.mp4"}


def test_the_bar_is_drawn_over_without_escapes_and_stays_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    channel = Channel(False)
    channel._err, channel._terminal = io.StringIO(), True
    channel.progress(0.1, "masks", "Finding the subject again, with the body's help")
    channel.progress(0.2, "fit", "Fitting")
    channel.log("a sentence")
    first, second, rest = channel._err.getvalue().split("\r")[1:4]
    assert len(first) == 49 and len(second) == 49 and second.rstrip().endswith("20 %  Fitting")
    assert "\x1b" not in first + second and rest.isspace() and channel._err.getvalue().endswith("\rdasr: a sentence\n")
