# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a reconstruction survives each format: written, imported again, and compared vertex by vertex.

    python tests/benchmarks/bench_export.py MOTION.npz [--category quadruped]

Every tenth frame; the largest distance of any vertex to the same vertex of the original scene, in percent of the
body's length. MOTION.npz is what `dasr reconstruct` writes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np
from scipy.spatial import cKDTree

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dasr_blender.core import Motion, load_category
from dasr_blender.scene import build_scene, export_scene, plan_scene

# Importers place the first key on these frames.
IMPORTERS = {
    "glb": (0, lambda path: bpy.ops.import_scene.gltf(filepath=path, disable_bone_shape=True)),
    "fbx": (1, lambda path: bpy.ops.import_scene.fbx(filepath=path)),
    "usd": (1, lambda path: bpy.ops.wm.usd_import(filepath=path, set_frame_range=False)),
}


def sampled(mesh: bpy.types.Object, frames: list[int]) -> np.ndarray:
    """World positions (n, V, 3) of the deformed mesh on scene frames."""
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        evaluated = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
        flat = np.empty(3 * len(evaluated.data.vertices))
        evaluated.data.vertices.foreach_get("co", flat)
        world = np.array(evaluated.matrix_world)
        found.append(flat.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3])
    return np.array(found)


def main(motion_file: Path, category_name: str) -> None:
    category, motion = load_category(category_name), Motion.load(motion_file)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    plan = plan_scene(category, motion, clip_path=None, start_frame=1, set_scene=True)
    built = build_scene(plan)
    offsets = [int(f) for f in plan.frames - plan.frames[0]][::10]
    original = sampled(built.mesh, [1 + i for i in offsets])
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'format':<8}{'seconds':>9}{'MB':>7}{'worst vertex, % of body length':>33}")
        files, seconds = {}, {}
        for kind in IMPORTERS:
            begin = time.perf_counter()
            files |= export_scene(built, Path(folder), [kind], "clip")
            seconds[kind] = time.perf_counter() - begin
        for kind, (first, load) in IMPORTERS.items():
            bpy.ops.wm.read_factory_settings(use_empty=True)
            scene = bpy.context.scene
            scene.render.fps, scene.render.fps_base = round(motion.fps), round(motion.fps) / motion.fps
            load(str(files[kind]))
            mesh = next(o for o in bpy.data.objects if o.type == "MESH")
            found = sampled(mesh, [first + i for i in offsets])
            # Writers split vertices at UV seams: the counterpart is the one whose whole path is nearest.
            paths = [a.transpose(1, 0, 2).reshape(a.shape[1], -1) for a in (found, original)]
            nearest = cKDTree(paths[0]).query(paths[1])[1]
            worst = np.linalg.norm(found[:, nearest] - original, axis=-1).max()
            size = files[kind].stat().st_size / 1e6
            print(f"{kind:<8}{seconds[kind]:>9.2f}{size:>7.1f}{100 * worst / plan.body_length:>33.5f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", type=Path)
    parser.add_argument("--category", default="quadruped")
    arguments = parser.parse_args()
    main(arguments.motion, arguments.category)
