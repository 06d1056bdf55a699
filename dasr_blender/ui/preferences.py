# SPDX-License-Identifier: GPL-3.0-or-later
"""Add-on preferences: where a user's own categories live."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import StringProperty

ADDON = __package__.rpartition(".")[0]


def user_folder(name: str) -> Path | None:
    """A folder of ours in Blender's user directory, made if needed; None outside an installed extension."""
    try:
        return Path(bpy.utils.extension_path_user(ADDON, path=name, create=True))
    except ValueError:
        return None


def category_folders() -> list[Path]:
    """Folders to search for category bundles beside the shipped ones."""
    folders = [folder] if (folder := user_folder("categories")) else []
    addon = bpy.context.preferences.addons.get(ADDON)
    if addon and addon.preferences and addon.preferences.categories:
        folders.append(Path(bpy.path.abspath(addon.preferences.categories)))
    return folders


class DasrPreferences(bpy.types.AddonPreferences):
    bl_idname = ADDON

    categories: StringProperty(
        name="Categories",
        subtype="DIR_PATH",
        description="A folder of category bundles of your own, beside the shipped ones",
    )

    def draw(self, _context) -> None:
        self.layout.prop(self, "categories")
        if folder := user_folder("categories"):
            self.layout.label(text=f"Bundles put into {folder} are found too", icon="INFO")


CLASSES = (DasrPreferences,)
