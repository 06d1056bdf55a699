# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of an operator: in the panel, and in the status bar, which shows what is reported last."""

from __future__ import annotations

import time

import bpy

from ..scene.request import Summary


def tell(operator: bpy.types.Operator, context: bpy.types.Context, summary: Summary) -> None:
    """What was done, and warnings. The panel shows it for as long as the scene is one in which it was done."""
    status = context.window_manager.dasr
    status.message, status.failed = summary.whole, False
    status.told = context.scene.dasr.told = str(time.time_ns())
    operator.report({"INFO"}, summary.text)
    for warning in summary.warnings:
        operator.report({"WARNING"}, warning)


def failed(operator: bpy.types.Operator, context: bpy.types.Context, why: Exception | str) -> set[str]:
    """Why nothing was done."""
    status = context.window_manager.dasr
    status.message, status.failed, status.told = str(why), True, ""
    operator.report({"ERROR"}, status.message)
    return {"CANCELLED"}


def shown(context: bpy.types.Context) -> str:
    """The message to show: none of what was undone since. What is redone has it again."""
    status = context.window_manager.dasr
    if status.told and all(scene.dasr.told != status.told for scene in bpy.data.scenes):
        return ""
    return status.message
