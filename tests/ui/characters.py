# SPDX-License-Identifier: GPL-3.0-or-later
"""A character to retarget to; without the extension's code, for a Blender that has it installed."""

import bpy


def own_character(rig):
    """A copy of a reconstruction's rig, as an animator's own."""
    hero = rig.copy()
    hero.data, hero.name = rig.data.copy(), "hero"
    hero.animation_data_clear()
    for key in [key for key in hero.keys() if key.startswith("dasr_")]:
        del hero[key]
    bpy.context.scene.collection.objects.link(hero)
    return hero
