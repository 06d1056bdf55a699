# SPDX-License-Identifier: GPL-3.0-or-later
"""The mouse pointer while an operator is at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy


@contextmanager
def waiting(context: bpy.types.Context) -> Iterator[None]:
    """It says to wait, where there is a window: a timer's script has none."""
    window = context.window
    if window is not None:
        window.cursor_set("WAIT")
    try:
        yield
    finally:
        if window is not None:
            window.cursor_set("DEFAULT")
