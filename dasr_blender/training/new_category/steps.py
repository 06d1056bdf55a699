# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that are done once: each leaves a note of what it was done with, and is left out while that stays the same."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.files import written_atomically


class Steps:
    """The steps of one run, in a folder. A step whose settings changed is done again, and so is all that follows."""

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        self.folder, self.report = folder, report
        self.key, self.count = "", 0
        folder.mkdir(parents=True, exist_ok=True)

    def do(
        self, name: str, text: str, settings: Any, work: Callable[[Path], dict[str, Any] | None]
    ) -> dict[str, Any]:
        """Do `work` in a folder of its own unless that was done with these settings; returns its facts.

        work gets the folder, may find what an interrupted run left there, and returns facts that JSON can hold.
        """
        self.count += 1
        text = f"{self.count}. {text}"
        folder, note = self.folder / name, self.folder / f"{name}.json"
        blob = json.dumps([self.key, name, settings], sort_keys=True, default=str)
        self.key = hashlib.sha256(blob.encode()).hexdigest()
        known = _read(note)
        if known.get("done") and known.get("key") == self.key:
            self.report(f"{text}: done before")
            return known["facts"]
        if known.get("key") != self.key:  # begun with other settings, or never
            _clear(folder)
            _write(note, {"key": self.key, "done": False})
        folder.mkdir(parents=True, exist_ok=True)
        self.report(text)
        begun = time.monotonic()
        facts = dict(work(folder) or {})
        facts["minutes"] = round((time.monotonic() - begun) / 60, 2)
        _write(note, {"key": self.key, "done": True, "settings": settings, "facts": facts})
        return facts


def _clear(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _read(note: Path) -> dict[str, Any]:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(note: Path, value: dict[str, Any]) -> None:
    with written_atomically(note) as path:
        path.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
