# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion as files, in a Blender that has nothing else to do: the command line's way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import bpy

from ..core import Category, Motion
from . import compat
from .build import build_scene
from .export import export_scene, losses
from .plan import plan_scene


def write_files(
    category: Category,
    motion: Motion,
    *,
    clip_path: str | Path,
    out_dir: Path,
    formats: Sequence[str],
    stem: str,
    placement: str = "camera",
    names: str = "neutral",
    progress: Callable[[float, str], None] | None = None,
) -> tuple[dict[str, Path], list[str]]:
    """Build the motion's scene in an empty file and export it; returns format → file, and warnings for the user.

    The file that is open in this process is dropped. progress(fraction, text) is called between the formats and
    may raise to stop. Raises ScenePlanError.
    """
    step = progress or (lambda fraction, text: None)
    step(0.0, "Building the scene")
    plan = plan_scene(
        category,
        motion,
        clip_path=clip_path,
        placement=placement,
        names=names,
        set_scene=True,
    )
    # Not read_factory_settings: inside Blender that would unregister the add-on this runs in.
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    compat.light_all_round(bpy.context.scene)
    built = build_scene(plan)
    files: dict[str, Path] = {}
    for number, kind in enumerate(formats):
        step((number + 1) / (len(formats) + 1), f"Writing {stem}.{kind}")
        files |= export_scene(built, out_dir, [kind], stem)
    return files, [*built.warnings, *losses(plan, formats)]
