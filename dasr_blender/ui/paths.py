# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel's inputs that are relative to the .blend stay right where that is saved into another folder.

Blender sees to its own paths then, but not to those of extensions. The output folder goes with the .blend, as that of
renders does.
"""

from __future__ import annotations

import os

import bpy
from bpy.app.handlers import persistent

_before: list[tuple[bpy.types.bpy_struct, str, str]] = []  # owner, property and value, to be put back after a copy


@persistent
def _rebase(target: str) -> None:
    """Before the .blend is saved as `target`."""
    _before.clear()
    here, there = os.path.dirname(bpy.data.filepath), os.path.dirname(target)
    if not here or not there or here == there:
        return
    for scene in bpy.data.scenes:
        settings = scene.dasr
        inputs = [(settings, "filepath"), (settings, "masks"), *((said, "filepath") for said in settings.corrections)]
        for owner, name in inputs:
            path = getattr(owner, name)
            if scene.library is None and path.startswith("//"):
                _before.append((owner, name, path))
                setattr(owner, name, _from(there, bpy.path.abspath(path)))


def _from(folder: str, path: str) -> str:
    try:
        rebased = bpy.path.relpath(path, start=folder)
    except ValueError:  # it is on another drive
        return path
    return rebased + "/" if path.endswith(("/", os.sep)) else rebased


@persistent
def _put_back(target: str) -> None:
    """After it was saved, or could not be: a copy, or nothing, has been written where another .blend stays open."""
    if bpy.data.filepath != target:
        for owner, name, path in _before:
            setattr(owner, name, path)
    _before.clear()


_HANDLERS = {"save_pre": _rebase, "save_post": _put_back, "save_post_fail": _put_back}


def attach() -> None:
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def detach() -> None:
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).remove(handler)
