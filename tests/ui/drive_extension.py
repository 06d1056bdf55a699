# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by test_extension.py in a process of its own: install a zip in the bpy module and use it.

    python drive_extension.py ZIP CLIP MASKS OUT

Prints one JSON object with what it saw as its last line.
"""

import json
import sys
from pathlib import Path

import bpy


def traces() -> dict[str, list[str]]:
    """Everything of ours that Blender knows about."""
    return {
        "types": sorted(n for n in dir(bpy.types) if n.lower().startswith("dasr")),
        "operators": sorted(n for n in dir(bpy.ops.dasr)),
        "properties": [
            f"{t.__name__}.dasr" for t in (bpy.types.Scene, bpy.types.WindowManager) if hasattr(t, "dasr")
        ],
        "handlers": sorted(
            f.__module__
            for name in dir(bpy.app.handlers)
            for f in (
                getattr(bpy.app.handlers, name) if isinstance(getattr(bpy.app.handlers, name), list) else ()
            )
            if "dasr" in getattr(f, "__module__", "")
        ),
    }


def main(zip_file: str, clip: str, masks: str, out: str) -> None:
    seen: dict[str, object] = {"before": traces()}
    bpy.ops.extensions.package_install_files(filepath=zip_file, repo="user_default", enable_on_install=True)
    module = "bl_ext.user_default.dasr_blender"
    seen["installed"] = traces()
    for turn in ("first", "second"):
        bpy.ops.preferences.addon_disable(module=module)
        seen[f"disabled_{turn}"] = traces()
        bpy.ops.preferences.addon_enable(module=module)
        seen[f"enabled_{turn}"] = traces()

    status = bpy.context.window_manager.dasr
    status.running, status.fraction = True, 0.4  # a job runs, and the extension is switched off
    bpy.ops.preferences.addon_disable(module=module)
    bpy.ops.preferences.addon_enable(module=module)
    seen["still_running"] = bpy.context.window_manager.dasr.running

    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.preferences.addon_enable(module=module)
    scene = bpy.context.scene
    rate = scene.render.fps, scene.frame_start, scene.frame_end
    seen["poll_without_clip"] = bpy.ops.dasr.reconstruct.poll()
    settings = scene.dasr
    seen["choices"] = [settings.category, settings.names]
    settings.category = "human"
    settings.names = "unreal"
    seen["choices"] += [settings.category, settings.names]
    settings.category = "quadruped"  # which has no such bone names
    seen["choices"] += [settings.category, settings.names]
    settings.filepath, settings.category, settings.masks, settings.directory = clip, "quadruped", masks, out
    settings.formats = {"bvh"}
    settings.use_range, settings.frame_first, settings.frame_last = True, 3, 2
    seen["poll_of_an_empty_range"] = bpy.ops.dasr.reconstruct.poll()
    settings.frame_last = 4
    scene.frame_set(scene.frame_start + 1)
    bpy.ops.dasr.correct_add()
    seen["corrected_frame"] = settings.corrections[0].frame
    settings.corrections.clear()
    scene.frame_set(scene.frame_start)
    settings.use_range = False
    seen["outcome"] = sorted(bpy.ops.dasr.reconstruct())
    seen["message"] = bpy.context.window_manager.dasr.message
    settings.directory = ""  # or the .blend was saved somewhere else
    seen["poll_of_a_solve"] = [bpy.ops.dasr.solve_camera.poll()]
    settings.filepath = str(Path(clip).with_name("missing.mp4"))
    seen["poll_of_a_solve"] += [bpy.ops.dasr.solve_camera.poll()]
    settings.filepath, settings.directory = clip, out
    seen["scene_untouched"] = rate == (scene.render.fps, scene.frame_start, scene.frame_end)
    seen["objects"] = sorted(o.type for o in scene.objects)
    rig = next((o for o in scene.objects if o.type == "ARMATURE"), None)
    seen["bones"] = len(rig.data.bones) if rig else 0
    seen["slots"] = len(rig.animation_data.action.slots) if rig else 0
    seen["files"] = sorted(p.name for p in Path(out).iterdir())
    seen["undescribed"] = [
        f"{owner.identifier}.{item.identifier}"
        for owner in (settings.bl_rna, settings.bl_rna.properties["corrections"].fixed_type)
        for item in owner.properties
        if item.identifier not in ("name", "rna_type") and not item.is_hidden and not item.description
    ]
    objects = len(bpy.data.objects)
    settings.filepath = str(Path(clip).with_name("missing.mp4"))
    try:
        seen["bad_outcome"] = sorted(bpy.ops.dasr.reconstruct())
    except RuntimeError as error:  # how bpy.ops hands on an operator's report({'ERROR'})
        seen["bad_outcome"] = str(error).strip()
    seen["bad_left_nothing"] = objects == len(bpy.data.objects)
    settings.filepath = clip
    views = Path(clip).with_name(f"{Path(clip).stem}.views.json")
    seen["poll_without_template"] = bpy.ops.dasr.save_view.poll()
    seen["views"] = [sorted(bpy.ops.dasr.add_template()), sorted(bpy.ops.dasr.save_view()), views.is_file()]
    seen["views"] += [sorted(bpy.ops.dasr.show_view(frame=0)), sorted(bpy.ops.dasr.remove_view(frame=0))]
    seen["views"] += [views.exists()]
    bpy.ops.preferences.addon_disable(module=module)
    seen["after"] = traces()
    print("\n" + json.dumps(seen))


main(*sys.argv[1:])
