# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command that does not look up is ended, and what it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
