# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line's .blend, as its user opens it."""

from __future__ import annotations

import bpy
import numpy as np
from toy import toy_motion

from dasr_blender.scene.standalone import write_files


def test_what_is_rendered_has_light(toy_category, tmp_path):
    motion = toy_motion(toy_category, 2, image_size=(64, 48))
    files, _ = write_files(
        toy_category, motion, clip_path="none.mp4", out_dir=tmp_path, formats=["blend"], stem="toy"
    )
    bpy.ops.wm.open_mainfile(filepath=str(files["blend"]))
    render = bpy.context.scene.render
    render.engine, render.film_transparent, render.filepath = "CYCLES", True, str(tmp_path / "shown.png")
    bpy.context.scene.cycles.samples = 1
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(render.filepath)
    pixels = np.array(image.pixels[:]).reshape(-1, 4)
    subject = pixels[pixels[:, 3] > 0.99, :3]
    assert len(subject) > 20 and subject.mean() > 0.2
