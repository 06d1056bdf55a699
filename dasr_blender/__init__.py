# SPDX-License-Identifier: GPL-3.0-or-later
"""DASR for Blender: a video of an animal or a person in, its mesh on an animated rig behind a matched camera out."""

from __future__ import annotations

__version__ = "0.1.0"


def register() -> None:
    """Add the extension's panels and operators to Blender."""
    from . import ui

    ui.register()


def unregister() -> None:
    """Remove everything :func:`register` added."""
    from . import ui

    ui.unregister()
