# SPDX-License-Identifier: GPL-3.0-or-later
"""The package as a whole: light to import, and its public names are real."""

from __future__ import annotations

import subprocess
import sys

from dasr_blender import core


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
