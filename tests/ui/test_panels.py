# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators and settings of the panels, registered in this process."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

bpy = pytest.importorskip("bpy", reason="needs bpy: pip install '.[blender]'")

import blf
import cv2
import numpy as np
from characters import own_character
from toy import toy_motion

import dasr_blender
from dasr_blender.scene import build_scene, plan_scene
from dasr_blender.scene.request import category_problem
from dasr_blender.scene.views import find_rig, known_frames
from dasr_blender.ui import corrections, operators, panels, properties, retarget, telling
from dasr_blender.ui.retarget import follow
from dasr_blender.ui.waiting import waiting
from dasr_blender.ui.wrapping import wrapped


@pytest.fixture
def settings(toy_category_folder, monkeypatch):
    """The panel's settings of an empty scene, in a Blender that has the extension and the toy category."""
    monkeypatch.setenv("DASR_CATEGORIES", str(toy_category_folder.parent))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    dasr_blender.register()
    yield bpy.context.scene.dasr
    dasr_blender.unregister()


def reconstruct(category, **changes):
    motion = toy_motion(category, 5, image_size=(320, 200))
    return build_scene(plan_scene(category, motion, clip_path=None, name="toy", **changes))


def test_a_deleted_reconstruction_is_no_source(settings, toy_category):
    gone = reconstruct(toy_category).armature
    rig, chosen = own_character(gone), settings.retarget
    chosen.target = rig
    assert chosen.source == gone and bpy.ops.dasr.retarget.poll()
    gone.users_collection[0].objects.unlink(gone)
    assert chosen.source == gone and not bpy.ops.dasr.retarget.poll()
    new = reconstruct(toy_category)
    follow(bpy.context.scene, new.armature_name)
    status = bpy.context.window_manager.dasr
    status.failed = True
    assert chosen.source == new.armature and bpy.ops.dasr.retarget() == {"FINISHED"}
    assert "moves" in status.message.splitlines()[0] and not status.failed
    third = reconstruct(toy_category)
    follow(bpy.context.scene, third.armature_name)
    assert chosen.source == new.armature  # it is there still
    bpy.context.scene.collection.objects.unlink(rig)
    assert chosen.target == rig and not bpy.ops.dasr.retarget.poll()


def test_results_of_another_clip_are_not_written_over(settings, motion, tmp_path, monkeypatch):
    asked = []

    def worker(line, _environment):
        asked.append(line[line.index("--out") + 1])
        return SimpleNamespace(start=lambda: None, wait=lambda: (), cancelled=False, error="no worker", result=None)

    monkeypatch.setattr(operators, "Worker", worker)
    clip = tmp_path / "walk.mp4"
    clip.write_bytes(b"another")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    replace(motion, source_hash="0" * 64).save(tmp_path / "walk-dasr" / "motion.npz")
    settings = bpy.context.scene.dasr
    settings.filepath = str(clip)
    for folder in ("", str(tmp_path / "walk-dasr")):
        settings.directory = folder
        with pytest.raises(RuntimeError, match="no worker"):
            bpy.ops.dasr.reconstruct()
    assert asked == [str(tmp_path / "walk-dasr-2"), str(tmp_path / "walk-dasr")]
    status = bpy.context.window_manager.dasr
    assert status.failed and status.message == "no worker"


@pytest.mark.parametrize("playing", [False, True])
def test_esc_that_ends_playback_cancels_nothing(monkeypatch, playing):
    cancelled = []
    job = SimpleNamespace(worker=SimpleNamespace(cancel=lambda: cancelled.append(1)))
    monkeypatch.setattr(operators, "_running", [job])
    windows = [SimpleNamespace(screen=SimpleNamespace(is_animation_playing=playing))]
    context = SimpleNamespace(window_manager=SimpleNamespace(windows=windows))
    done = operators.DASR_OT_reconstruct.modal(SimpleNamespace(), context, SimpleNamespace(type="ESC", value="PRESS"))
    assert (done, cancelled) == (({"PASS_THROUGH"}, []) if playing else ({"RUNNING_MODAL"}, [1]))


def test_messages_fill_the_panel_and_no_line_is_cut_off():
    blf.size(0, 11.0)
    text = "16 frames reconstructed; bvh, fbx written to /a/folder/whose/name/is/longer/than/any/panel/is/wide."
    for width in (120, 230, 2000):
        lines = wrapped(text, width)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(blf.dimensions(0, line)[0] <= width for line in lines)
    assert len(lines) == 1
    assert len(wrapped(text, 230)) <= blf.dimensions(0, text)[0] / 230 * 1.25 + 1
    assert wrapped(text, -5)  # a sidebar that is hardly there


def test_a_search_of_menus_finds_what_the_tab_does(settings):
    found = []
    menu = SimpleNamespace(layout=SimpleNamespace(operator=found.append))
    panels.DASR_MT_operators.draw(menu, bpy.context)
    of_one_place = {name for name in dir(bpy.ops.dasr) if name.startswith("correct_")} | {"show_view", "remove_view"}
    assert {name.partition(".")[2] for name in found} == set(dir(bpy.ops.dasr)) - of_one_place
    shown = bpy.types.VIEW3D_MT_object.draw._draw_funcs
    assert panels._menu in shown
    dasr_blender.unregister()
    assert panels._menu not in shown
    dasr_blender.register()


def test_blender_translates_no_word_of_the_panel_into_another_meaning(settings):
    layout = MagicMock()
    panels._draw(SimpleNamespace(layout=layout), bpy.context)
    (row,) = [call for call in layout.column().prop.call_args_list if call.args[1] == "source"]
    assert row.kwargs["text"] == "Clip" and row.kwargs["text_ctxt"] == "MovieClip"
    assert "Still" not in [item.name for item in settings.bl_rna.properties["camera"].enum_items]


def test_blender_translates_neither_names_of_joints_nor_what_is_being_done(settings):
    layout, joint = MagicMock(), SimpleNamespace(name="Tail")
    settings.retarget.target = bpy.data.objects.new("hero", bpy.data.armatures.new("hero"))
    retarget.DASR_UL_bones.draw_item(None, bpy.context, layout, None, joint, 0, None, "")
    status = bpy.context.window_manager.dasr
    status.running, status.text = True, "Starting"
    panels._draw(SimpleNamespace(layout=layout), bpy.context)
    labels = [*layout.split().label.call_args_list, *layout.label.call_args_list]
    said = {call.kwargs["text"]: call.kwargs.get("translate", True) for call in labels}
    assert said == {"Tail": False, "Starting": False, "Esc cancels": True}


def test_buttons_of_the_clip_editor_are_seen_in_the_3d_view_with_what_to_do(settings):
    context = bpy.context.copy() | {"space_data": SimpleNamespace(type="VIEW_3D")}
    layout = MagicMock()
    corrections.draw(SimpleNamespace(layout=layout), SimpleNamespace(**context))
    assert [call.args[0] for call in layout.row().operator.call_args_list] == ["dasr.correct_point"] * 3


def test_the_browser_for_masks_shows_images_and_the_folders_they_are_in(settings):
    properties = bpy.ops.dasr.correct_mask.get_rna_type().properties
    assert properties["filter_image"].default and properties["filter_folder"].default


def test_a_folder_is_no_mask_image(settings, tmp_path):
    with pytest.raises(RuntimeError, match=f"no image {tmp_path}: choose"):
        bpy.ops.dasr.correct_mask(filepath=str(tmp_path))
    assert not settings.corrections


def test_buttons_that_point_at_the_picture_say_each_what_it_does():
    button = corrections.DASR_OT_correct_point
    said = [button.description(None, SimpleNamespace(kind=kind)) for kind in ("ON", "OFF", "BOX")]
    assert said[0] == "Click in the picture: this place is on the subject" and said[2].startswith("Drag")
    assert len(set(said)) == 3


def test_a_category_that_is_not_installed_is_named(settings, monkeypatch):
    settings.filepath = settings.category = "toy"
    assert category_problem(settings) == "" and bpy.ops.dasr.reconstruct.poll()
    monkeypatch.delenv("DASR_CATEGORIES")
    assert "'toy' is not installed" in category_problem(settings)
    assert not bpy.ops.dasr.reconstruct.poll() and not bpy.ops.dasr.add_template.poll()


def test_without_a_window_nobody_waits_and_unregistering_twice_is_once(settings):
    with waiting(SimpleNamespace(window=None)):
        pass
    dasr_blender.unregister()
    dasr_blender.unregister()
    dasr_blender.register()


def test_render_over_clip_says_what_it_lacks_and_what_it_did(settings, toy_category, tmp_path):
    assert not bpy.ops.dasr.render_over_clip.poll()
    frames = tmp_path / "walk"
    frames.mkdir()
    for i in range(5):
        cv2.imwrite(str(frames / f"{i:04d}.png"), np.full((20, 32, 3), 90, np.uint8))
    motion = toy_motion(toy_category, 5, image_size=(32, 20))
    built = build_scene(plan_scene(toy_category, motion, clip_path=frames, set_scene=True))
    assert bpy.ops.dasr.render_over_clip() == {"FINISHED"}
    status = bpy.context.window_manager.dasr
    assert "over walk" in status.message and not status.failed and built.scene.render.film_transparent
    built.camera.data.background_images.clear()
    assert not bpy.ops.dasr.render_over_clip.poll()


def test_a_message_goes_and_comes_back_with_what_it_tells_of(settings, toy_category):
    built = reconstruct(toy_category)
    settings.retarget.target = own_character(built.armature)
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.dasr.retarget()
    bpy.ops.ed.undo_push(message="retarget")
    bpy.ops.object.empty_add()
    bpy.ops.ed.undo_push(message="add")
    seen = [telling.shown(bpy.context)]
    for step in (bpy.ops.ed.undo, bpy.ops.ed.undo, bpy.ops.ed.redo):
        step()
        seen.append(telling.shown(bpy.context))
    assert "moves" in seen[0] and seen == [seen[0], seen[0], "", seen[0]]
    bpy.ops.ed.undo()
    bpy.context.scene.dasr.retarget.pairs[0].bone = "none"
    with pytest.raises(RuntimeError, match="no bone 'none'"):
        bpy.ops.dasr.retarget()
    assert "no bone 'none'" in telling.shown(bpy.context)  # which left nothing to be undone


def test_output_comes_last_and_none_of_its_rows_repeats_its_name(settings):
    for place in ("DASR_PT_view3d", "DASR_PT_clip"):
        below = [part.bl_label for part in panels.CLASSES if getattr(part, "bl_parent_id", "") == place]
        assert below[-1] == "Output" and len(below) == len(set(below))
    layout = MagicMock()
    panels._draw_output(SimpleNamespace(layout=layout), bpy.context)
    rows = [settings.bl_rna.properties[call.args[1]].name for call in layout.prop.call_args_list]
    assert len(rows) == 2 and "Output" not in rows


def test_a_format_that_cannot_be_written_says_why(settings, monkeypatch):
    words = {kind: what for kind, _, what in properties.export_choices()}
    monkeypatch.setattr(properties, "can_write", lambda kind: kind != "usd")
    lacking = {kind: what for kind, _, what in properties.export_choices()}
    assert lacking.pop("usd") == f"{words.pop('usd')}; this Blender was built without it" and lacking == words


def test_undo_takes_a_views_keys_back_and_its_button_says_that_the_file_stays(settings, tmp_path):
    frames = tmp_path / "walk"
    frames.mkdir()
    cv2.imwrite(str(frames / "0001.png"), np.full((20, 32, 3), 90, np.uint8))
    settings.category, settings.filepath = "toy", str(frames)
    bpy.ops.dasr.add_template()
    bpy.ops.ed.undo_push(message="template")
    bpy.ops.dasr.save_view()
    bpy.ops.ed.undo_push(message="view")
    bpy.ops.ed.undo()
    rig = find_rig(bpy.context)
    assert rig.animation_data is None and known_frames(rig) == [0]
    assert "a file beside the clip, which Undo leaves alone" in bpy.ops.dasr.save_view.get_rna_type().description


def test_where_masks_come_from_is_read_whole_in_a_sidebar_as_it_opens(settings):
    settings.masks = "/masks"
    layout = MagicMock()
    shown = SimpleNamespace(system=SimpleNamespace(ui_scale=1.0), ui_styles=bpy.context.preferences.ui_styles)
    context = bpy.context.copy() | {"region": SimpleNamespace(width=250), "preferences": shown}
    corrections.draw(SimpleNamespace(layout=layout), SimpleNamespace(**context))
    lines = [call.kwargs["text"] for call in layout.column().label.call_args_list]
    assert " ".join(lines) == "Masks come from a folder: change them there"
    assert len(lines) > 1 and all(blf.dimensions(0, line)[0] < 250 - 66 for line in lines)
