# SPDX-License-Identifier: GPL-3.0-or-later
"""The tutorial's videos and its score: `dolphin.py film Dolphin.glb DIR`, then `dolphin.py score BUNDLE DIR`.

film renders seven clips of a rigged model: frames/ and masks/ of six into DIR/videos, the seventh into DIR/held, and
the true surfaces into DIR/truth, which only score reads. Nothing else of the model is used.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from dasr_blender.core import load_category
from dasr_blender.predict import Student
from dasr_blender.training.clip_folder import load_surface, save_surface
from dasr_blender.training.evaluate.bake_any import bake_any
from dasr_blender.training.evaluate.real import find_clips
from dasr_blender.training.evaluate.rigged import film
from dasr_blender.training.evaluate.rows import FittedToClip, Tracked
from dasr_blender.training.evaluate.scene import TrueSurface
from dasr_blender.training.evaluate.scores import overlap, surface_errors
from dasr_blender.training.synth.camera import CameraConfig
from dasr_blender.training.synth.render import Renderer
from dasr_blender.training.teacher.register import read_scene

CLIPS, FRAMES, ROUNDS = 7, 40, 3
HABITS = CameraConfig(
    cut_share=0.0, zoom_share=0.0, shake_share=0.0, field_of_view=(45.0, 45.0), pitch_common=(-15.0, 35.0),
    pitch_all=(-25.0, 60.0),
)  # fmt: skip


def film_clips(model: Path, out: Path) -> None:
    """Clips of the model's only action, gone round three times, before seven cameras, lights and backgrounds."""
    rig = bake_any(model, out / "rigs")
    pose = np.concatenate([rig.pose[:-1]] * ROUNDS + [rig.pose[-1:]])
    rig = replace(rig, pose=pose, clip_start=np.array([0, len(pose)]))
    renderer = Renderer()
    for i in range(CLIPS):
        rng = np.random.default_rng([77, i])
        scene = film(rig, f"dolphin-{i}", rng, renderer, {}, FRAMES, HABITS)
        name = f"clip_{i + 1}"
        folder = out / ("videos" if i < CLIPS - 1 else "held") / name
        truth = out / "truth" / name
        for made in (folder / "frames", folder / "masks", truth):
            made.mkdir(parents=True, exist_ok=True)
        for t, (frame, mask) in enumerate(zip(scene.frames, scene.masks, strict=True)):
            quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
            cv2.imwrite(str(folder / "frames" / f"{t:05d}.jpg"), frame[..., ::-1], quality)
            cv2.imwrite(str(folder / "masks" / f"{t:05d}.png"), mask)
        assert scene.surface is not None
        save_surface(truth, np.stack(scene.surface.vertices), scene.surface.faces)
        np.savez(truth / "length.npz", length=scene.length)
        print(folder)


def score_clips(bundle: Path, out: Path) -> None:
    """One-scale area CD, there plus back, in % of the dolphin's length, and IoU, of the network and with the fit."""
    category = load_category(bundle)
    tracked = Tracked("network", category, student=Student(category))
    for real in find_clips((out / "held", out / "videos")):
        scene = read_scene(real, out / "masks")
        vertices, faces = load_surface(out / "truth" / real.name) or sys.exit(f"{out}: film the clips first")
        scene.surface = TrueSurface(list(vertices), faces, "rig")
        scene.length = float(np.load(out / "truth" / real.name / "length.npz")["length"])
        scene.sized = False
        for row in (tracked, FittedToClip("with the fit", category, tracked=tracked)):
            answer = row.answer(scene)
            assert answer is not None
            distance = np.nanmean(surface_errors(category, answer.motion, scene)["cd_scaled_share"])
            iou = np.nanmean(overlap(category, answer.motion, scene.masks))
            print(f"{real.name} {row.name:13} CD {100 * distance:5.2f} %  IoU {iou:.3f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("film", "score"):
        sys.exit(__doc__)
    {"film": film_clips, "score": score_clips}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
