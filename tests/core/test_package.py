# SPDX-License-Identifier: GPL-3.0-or-later
"""The package as a whole: light to import, and its public names are real."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dasr_blender import core

ROOT = Path(__file__).resolve().parents[2]


def test_public_names_are_there_and_sorted() -> None:
    assert core.__all__ == sorted(core.__all__)
    assert all(hasattr(core, name) for name in core.__all__)


def test_errors_have_one_base() -> None:
    assert issubclass(core.CategoryError, core.DasrError) and issubclass(core.MotionError, core.DasrError)


def test_importing_needs_neither_blender_nor_anything_heavy() -> None:
    code = (
        "import sys, dasr_blender, dasr_blender.core\n"
        "heavy = {'bpy', 'torch', 'cv2', 'onnxruntime', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".gitattributes").is_file(), reason="needs git and a clone of it"
)
def test_git_on_windows_leaves_hashed_files_as_they_are(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    (tmp_path / "CARD.md").write_bytes(b"a\nb\n")
    git = ["git", "-C", str(tmp_path), "-c", "core.autocrlf=true", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"], ["rm", "-q", "CARD.md"]):
        subprocess.run([*git, *command], check=True, timeout=60)
    subprocess.run([*git, "checkout", "-q", "HEAD", "CARD.md"], check=True, timeout=60)
    assert (tmp_path / "CARD.md").read_bytes() == b"a\nb\n"
