# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion as files, in a Blender that has nothing else to do: the command line's way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import bpy

from ..core import Category, Motion
from . import compat
from .build import build_scene
from .camera import images_behind
from .character import read_character
from .export import Cast, export_cast, export_scene, losses
from .over_clip import render_over_clip
from .plan import plan_scene
from .retarget import matched, retarget


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
    texture: Path | None = None,
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
        texture=texture,
    )
    # Not read_factory_settings: inside Blender that would unregister the add-on this runs in.
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    compat.light_all_round(bpy.context.scene)
    built = build_scene(plan)
    if images_behind(built.camera):
        render_over_clip(built.scene)
    files: dict[str, Path] = {}
    for number, kind in enumerate(formats):
        step((number + 1) / (len(formats) + 1), f"Writing {stem}.{kind}")
        files |= export_scene(built, out_dir, [kind], stem)
    return files, [*built.warnings, *losses(plan, formats)]


def write_retargeted(
    category: Category,
    motion: Motion,
    character: Path,
    *,
    bones: Mapping[str, str] | None,
    clip_path: str | Path | None,
    out_dir: Path,
    formats: Sequence[str],
    stem: str,
    placement: str = "camera",
    in_clip: bool = False,
    free: bool = True,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[dict[str, Path], dict[str, str], list[str]]:
    """Bring a motion onto a character's file, and write that; returns format → file, joint → bone, and warnings.

    character: .glb, .gltf, .fbx or .blend with one armature. bones: joint → bone, "" for none; None tells them from
    the bones' names and places. in_clip: the character stands in the clip, and the clip's camera goes into the files
    with it; the .blend has the reconstruction, too, hidden. free: constraints that would move the character's bones all
    the same are switched off.

    The file that is open in this process is dropped. progress is as in `write_files`. Raises DasrError.
    """
    step = progress or (lambda fraction, text: None)
    step(0.0, f"Reading {character.name}")
    plan = plan_scene(category, motion, clip_path=clip_path, placement=placement, set_scene=True)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    scene = bpy.context.scene
    compat.light_all_round(scene)
    built = build_scene(plan)
    found = read_character(character, scene)
    used = dict(bones) if bones is not None else matched(category, found.armature)
    done = retarget(category, built.armature, found.armature, used, scene, in_clip=in_clip, free=free)
    for item in (built.armature, built.mesh):
        item.hide_render = True
        item.hide_set(True)
    settings, objects, actions = plan.settings, found.objects, (bpy.data.actions[done.action],)
    if in_clip:
        objects, actions = (*objects, built.camera), (*actions, built.action)
        if images_behind(built.camera):
            render_over_clip(scene)
    cast = Cast(scene, objects, actions, settings.fps, settings.frame_range, settings.resolution)
    files: dict[str, Path] = {}
    for number, kind in enumerate(formats):
        step((number + 1) / (len(formats) + 1), f"Writing {stem}.{kind}")
        files |= export_cast(cast, out_dir, [kind], stem)
    return files, used, [*built.warnings, *done.warnings]
