# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels, operators and settings. They check, call one function and report: no logic lives here."""

from __future__ import annotations

import bpy

from . import corrections, operators, over_clip, panels, paths, preferences, properties, retarget, views

_CLASSES = (
    *properties.CLASSES,
    *preferences.CLASSES,
    *operators.CLASSES,
    *corrections.CLASSES,
    *views.CLASSES,
    *over_clip.CLASSES,
    *retarget.CLASSES,
    *panels.CLASSES,
)
_cli_command = None


def register() -> None:
    global _cli_command
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    properties.attach()
    corrections.attach()
    paths.attach()
    panels.attach()
    _cli_command = bpy.utils.register_cli_command("dasr", _run_cli)


def unregister() -> None:
    global _cli_command
    if not hasattr(bpy.types.Scene, "dasr"):  # it is done already
        return
    operators.stop_running()
    if _cli_command is not None:
        bpy.utils.unregister_cli_command(_cli_command)
        _cli_command = None
    panels.detach()
    paths.detach()
    corrections.detach()
    properties.detach()
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)


def _run_cli(argv: list[str]) -> int:
    from ..cli import main

    return main(argv)
