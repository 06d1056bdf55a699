# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's motion tracker where somebody pressed Esc before: run by `test_solve`, in a process of its own."""

from __future__ import annotations

from contextlib import suppress

import bpy
import numpy as np
from test_solve import FRAMES, clear, movie, pan, window  # noqa: F401  (fixtures)

from dasr_blender.core.rotation import geodesic
from dasr_blender.scene.solve import find_solved, solve_camera


def interrupt() -> None:
    """Leave Blender as a press of Esc does: what was stopped once stays so until something is rendered."""
    scene = bpy.data.scenes.new("interrupted")
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(scene.camera)
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    scene.render.resolution_x = scene.render.resolution_y = 8
    scene.frame_start = scene.frame_end = 1
    scene.render.filepath = "/dev/null/nowhere/"
    with suppress(RuntimeError):  # it cannot be written
        bpy.ops.render.render(animation=True, scene=scene.name)
    bpy.data.scenes.remove(scene)


def test_a_solve_after_esc(pan, movie):  # noqa: F811
    interrupt()
    found = solve_camera(pan.motion, movie, clear(pan))
    truth = pan.motion.world_from_camera
    assert np.degrees(geodesic(found.world_from_camera[:, :3, :3], truth[:, :3, :3]).max()) < 0.4
    long = [track for track in find_solved(movie).tracking.tracks if len(track.markers) >= FRAMES]
    assert len(long) > 5  # followed from the first frame to the last
