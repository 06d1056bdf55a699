# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of an operator: in the panel, and in the status bar, which shows what is reported last."""

from __future__ import annotations

import bpy

from ..scene.request import Summary


def tell(operator: bpy.types.Operator, context: bpy.types.Context, summary: Summary) -> None:
    """What was done, and warnings."""
    status = context.window_manager.dasr
    status.message, status.failed = summary.whole, False
    operator.report({"INFO"}, summary.text)
    for warning in summary.warnings:
        operator.report({"WARNING"}, warning)


def failed(operator: bpy.types.Operator, context: bpy.types.Context, why: Exception | str) -> set[str]:
    """Why nothing was done."""
    status = context.window_manager.dasr
    status.message, status.failed = str(why), True
    operator.report({"ERROR"}, status.message)
    return {"CANCELLED"}
