# SPDX-License-Identifier: GPL-3.0-or-later
"""Add-on preferences: where a user's own categories live, and what networks run on."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty

from ..arguments import PROVIDERS
from ..scene.compat import path_options

ADDON = __package__.rpartition(".")[0]


def user_folder(name: str) -> Path | None:
    """A folder of ours in Blender's user directory, made if needed; None outside an installed extension."""
    try:
        return Path(bpy.utils.extension_path_user(ADDON, path=name, create=True))
    except ValueError:
        return None


def _preferences() -> bpy.types.AddonPreferences | None:
    addon = bpy.context.preferences.addons.get(ADDON)
    return addon.preferences if addon else None


def network_settings() -> tuple[str, int]:
    """Provider and threads of the networks, as the user wants them."""
    chosen = _preferences()
    return (chosen.provider, chosen.threads) if chosen else ("auto", 0)


def category_folders() -> list[Path]:
    """Folders to search for category bundles beside the shipped ones."""
    folders = [folder] if (folder := user_folder("categories")) else []
    chosen = _preferences()
    if chosen and chosen.categories:
        folders.append(Path(bpy.path.abspath(chosen.categories)))
    return folders


class DasrPreferences(bpy.types.AddonPreferences):
    bl_idname = ADDON

    categories: StringProperty(
        name="Categories",
        subtype="DIR_PATH",
        options=path_options(),
        description="A folder of category bundles of your own, beside the shipped ones",
    )

    provider: EnumProperty(
        name="Runs On",
        description="What the networks run on. The processor takes over where another does not start",
        default="auto",
        items=[
            (name, label, "The best that starts" if name == "auto" else f"Ask for {label}")
            for name, label in PROVIDERS.items()
        ],
    )
    threads: IntProperty(
        name="Threads",
        description="Processor threads of the networks; 0 takes one a core",
        min=0,
        max=256,
        default=0,
    )

    def draw(self, _context) -> None:
        row = self.layout.row()
        row.prop(self, "provider")
        row.prop(self, "threads")
        self.layout.prop(self, "categories")
        if folder := user_folder("categories"):
            self.layout.label(text=f"Bundles put into {folder} are found too", icon="INFO")


CLASSES = (DasrPreferences,)
