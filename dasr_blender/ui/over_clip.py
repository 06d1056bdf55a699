# SPDX-License-Identifier: GPL-3.0-or-later
"""The button that has renders show the rig over its clip."""

from __future__ import annotations

import bpy

from ..core.errors import DasrError
from ..scene.over_clip import problem, render_over_clip
from ..scene.request import Summary
from .telling import failed, tell


class DASR_OT_render_over_clip(bpy.types.Operator):
    """Have renders show the scene over the clip behind its camera: a transparent film and the compositor's nodes"""

    bl_idname = "dasr.render_over_clip"
    bl_label = "Render over Clip"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context) -> bool:
        if lacking := problem(context.scene):
            cls.poll_message_set(lacking)
        return not lacking

    def execute(self, context):
        try:
            told = render_over_clip(context.scene)
        except DasrError as error:
            return failed(self, context, error)
        tell(self, context, Summary(told))
        return {"FINISHED"}


CLASSES = (DASR_OT_render_over_clip,)
