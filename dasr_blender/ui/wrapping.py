# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences in a panel, whose labels Blender would cut off."""

from __future__ import annotations

import textwrap

import blf
import bpy


def draw_sentence(column: bpy.types.UILayout, context, sentence: str, icon: str = "") -> None:
    """A sentence in as many labels as the panel's width asks for, with an icon before the first or none."""
    preferences = context.preferences
    scale = preferences.system.ui_scale
    blf.size(0, preferences.ui_styles[0].widget.points * scale)
    beside = 90 if icon else 66  # tabs, scroll bar and margins, and the icon
    for i, line in enumerate(wrapped(sentence, context.region.width - beside * scale)):
        column.label(text=line, translate=False, **({"icon": "BLANK1" if i else icon} if icon else {}))


def wrapped(text: str, width: float) -> list[str]:
    """The text in lines of at most `width` pixels in the font's present size, but of ten letters at least."""
    letters = max(int(1.3 * width * len(text) / max(blf.dimensions(0, text)[0], 1.0)), 10)
    lines = textwrap.wrap(text, letters)
    while letters > 10 and any(blf.dimensions(0, line)[0] > width for line in lines):
        letters -= 1
        lines = textwrap.wrap(text, letters)
    return lines
