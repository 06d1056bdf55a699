# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or absent, on a system that refuses to touch open ones, as Windows does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dasr_blender.core import files
from dasr_blender.core.files import write_refusal, written_atomically

REFUSED = PermissionError(errno.EACCES, "Access is denied")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_WINDOWS", True)


def refusing(times: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let moving a file into place be refused so often; the list holds one number a try."""
    replace, tries = os.replace, []

    def move(source: Path, target: Path) -> None:
        tries.append(len(tries))
        if len(tries) <= times:
            raise REFUSED
        replace(source, target)

    monkeypatch.setattr(os, "replace", move)
    return tries


def write(path: Path) -> None:
    with written_atomically(path) as temporary:
        temporary.write_text("new", encoding="utf-8")


def test_a_scanner_that_looks_at_the_new_file_is_waited_for(
    tmp_path: Path, windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = refusing(3, monkeypatch)
    write(tmp_path / "a.glb")
    assert len(tries) == 4 and [path.name for path in tmp_path.iterdir()] == ["a.glb"]


def test_a_file_that_stays_open_is_refused_in_the_end(
    tmp_path: Path, windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PATIENCE", 0.1)
    target = tmp_path / "a.glb"
    target.write_text("old", encoding="utf-8")
    tries = refusing(1000, monkeypatch)
    with pytest.raises(PermissionError) as caught:
        write(target)
    assert len(tries) > 1 and target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.glb"]
    assert "close it in the program that has it open, or choose another" in write_refusal(
        target, caught.value
    )


def test_elsewhere_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_WINDOWS", False)
    tries = refusing(1, monkeypatch)
    with pytest.raises(PermissionError):
        write(tmp_path / "a.glb")
    assert len(tries) == 1


def test_a_writers_own_error_is_told_where_its_file_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise REFUSED

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(ValueError, match="the writer's"), written_atomically(tmp_path / "a.fbx"):
        raise ValueError("the writer's")


def test_a_path_that_is_too_long_for_windows_is_called_so(tmp_path: Path, windows: None) -> None:
    missing = FileNotFoundError(errno.ENOENT, "The system cannot find the path specified")
    assert "its path is too long for Windows" in write_refusal(tmp_path / ("x" * 200), missing)
    assert "cannot find the path" in write_refusal("x", missing)
