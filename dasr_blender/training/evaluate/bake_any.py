# SPDX-License-Identifier: GPL-3.0-or-later
"""Any rigged glTF as plain arrays, baked by Blender in a process of its own."""

from __future__ import annotations

from pathlib import Path

from ...core.files import sha256_of
from ..errors import TrainingError
from ..synth.bake import bake_apart
from ..synth.rig import Rig, load_rig


def bake_any(path: Path, folder: Path) -> Rig:
    """The rig in a glTF file; kept in `folder` under its hash, so that it is baked once.

    Raises DasrError without bpy, and TrainingError when the file holds no rigged mesh or Blender cannot read it.
    """
    if not path.is_file():
        raise TrainingError(f"{path}: there is no such file")
    target = folder / f"{path.stem}-{sha256_of(path)[:12]}.npz"
    if not target.exists() and (message := bake_apart(path, target)):
        raise TrainingError(f"{path}: Blender could not bake it ({message})")
    return load_rig(target)
