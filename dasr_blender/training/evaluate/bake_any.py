# SPDX-License-Identifier: GPL-3.0-or-later
"""Any rigged glTF as plain arrays, baked by Blender in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from ...core.errors import DasrError
from ...core.files import sha256_of
from ..synth.rig import Rig, load_rig

TIMEOUT = 240.0  # seconds


def bake_any(path: Path, folder: Path) -> Rig:
    """The rig in a glTF file; kept in `folder` under its hash, so that it is baked once.

    Raises DasrError without bpy, and ValueError when the file holds no rigged mesh or Blender cannot read it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    target = folder / f"{path.stem}-{sha256_of(path)[:12]}.npz"
    if not target.exists():
        if importlib.util.find_spec("bpy") is None:
            raise DasrError(
                "Reading rigged models needs bpy, which is not installed: pip install 'dasr-blender[blender]'"
            )
        folder.mkdir(parents=True, exist_ok=True)
        package = __name__.rsplit(".", 2)[0]
        command = [sys.executable, "-m", f"{package}.synth.bake", str(path), str(target)]
        try:
            result = subprocess.run(command, timeout=TIMEOUT, capture_output=True, text=True)
            message = (result.stderr.strip().splitlines() or ["no message"])[-1]
        except subprocess.TimeoutExpired:
            message = f"no answer within {TIMEOUT:.0f} s"
        if not target.exists():
            raise ValueError(f"{path}: Blender could not bake it ({message})")
    return load_rig(target)
