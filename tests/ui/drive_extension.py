# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by test_extension.py in a process of its own: install a zip in the bpy module and use it.

    python drive_extension.py ZIP CLIP MASKS OUT

Prints one JSON object with what it saw as its last line.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import bpy
from characters import own_character


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


def saved_elsewhere(settings, folder: Path) -> list[str]:
    """The clip's path when chosen, after Save As into another folder, after a copy into a third, and in that copy."""
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "here.blend"))
    settings.filepath, settings.directory = "//clip.mp4", "//out"
    paths = [settings.filepath]
    for name, copy in (("a/there.blend", False), ("b/c/copy.blend", True)):
        (folder / name).parent.mkdir(parents=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(folder / name), copy=copy)
        paths.append(settings.filepath)
    bpy.ops.wm.open_mainfile(filepath=str(folder / "b/c/copy.blend"))
    settings = bpy.context.scene.dasr
    return [*paths, settings.filepath, settings.directory]


def window_closed(operators) -> list[object]:
    """Whether a job is stopped when its window is closed, and may be followed in another; and when a file is loaded."""
    stopped = []
    worker = SimpleNamespace(cancel=lambda: stopped.append(True), wait=lambda: ())
    operators._running.append(SimpleNamespace(worker=worker))
    manager, follow = bpy.context.window_manager, operators._follow_elsewhere
    manager.dasr.running = True
    operators.DASR_OT_reconstruct.cancel(None, SimpleNamespace(window=None, window_manager=manager))
    seen = [len(stopped), bpy.app.timers.is_registered(follow), bpy.ops.dasr.reconstruct.poll()]
    bpy.app.timers.unregister(follow)
    operators.DASR_OT_reconstruct.cancel(None, SimpleNamespace(window=manager.windows[0], window_manager=manager))
    return [*seen, len(stopped), manager.dasr.running]


def retargeted(settings, rig) -> list[object]:
    """A copy of the rig, with bones of other names in other places, takes on the motion; then it is gone."""
    seen: list[object] = [bpy.ops.dasr.retarget.poll()]
    hero = own_character(rig)
    hero.scale = (3, 3, 3)
    bpy.context.view_layer.update()
    settings.target = hero
    seen += [settings.source == rig, sum(bool(pair.bone) for pair in settings.pairs), bpy.ops.dasr.retarget.poll()]
    settings.pairs["jaw"].bone = ""
    settings.in_clip = True
    seen += [sorted(bpy.ops.dasr.retarget()), len(hero.animation_data.action.layers[0].strips[0].channelbags[0].groups)]
    seen += [round(hero.scale.x, 3), sorted(bpy.ops.dasr.match_bones()), settings.pairs["jaw"].bone]
    settings.pairs["jaw"].bone = "Head"
    try:
        bpy.ops.dasr.retarget()
    except RuntimeError as error:
        seen.append(str(error).strip().splitlines()[0])
    action = hero.animation_data.action
    bpy.data.objects.remove(hero)
    bpy.data.actions.remove(action)
    seen.append(bpy.ops.dasr.retarget.poll())
    return seen


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
    settings.use_range, settings.masks = False, ""
    seen["poll_of_corrections"] = [bpy.ops.dasr.reconstruct.poll()]  # it has no place yet
    settings.corrections[0].x = 0.0
    seen["poll_of_corrections"] += [bpy.ops.dasr.reconstruct.poll()]
    settings.corrections.clear()
    settings.masks = masks
    scene.frame_set(scene.frame_start)
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
        for owner in (
            settings.bl_rna,
            settings.bl_rna.properties["corrections"].fixed_type,
            settings.bl_rna.properties["retarget"].fixed_type,
        )
        for item in owner.properties
        if item.identifier not in ("name", "rna_type") and not item.is_hidden and not item.description
    ]
    seen["retarget"] = retargeted(settings.retarget, rig)
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
    seen["window_closed"] = window_closed(sys.modules[f"{module}.ui.operators"])
    seen["paths"] = saved_elsewhere(settings, Path(clip).parent)
    bpy.ops.preferences.addon_disable(module=module)
    seen["after"] = traces()
    print("\n" + json.dumps(seen))


main(*sys.argv[1:])
