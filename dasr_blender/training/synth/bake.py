# SPDX-License-Identifier: GPL-3.0-or-later
"""Bake a rigged, animated glTF into plain arrays, so that nothing after this step needs Blender.

The archive (`.npz`) holds the mesh at rest, its weights, its colours and every clip as world matrices of the
bones, all in the body's convention: Z up, the animal looks along -Y, its left is +X, feet on z = 0, and a
torso (shoulder to hip) of `TORSO_LENGTH` metres.

| key | shape | meaning |
|---|---|---|
| vertices, faces | (V,3) float32, (F,3) int32 | rest surface; vertices are split where the colour changes |
| colours | (V,3) float32 | sRGB 0..1 |
| point_index | (V,) int32 | vertices with the same number are one point in space (for smooth normals) |
| skin_index, skin_weight | (V,4) | bones and weights, weights sum to 1 |
| bone_names, bone_parents | (B,) | parents as indices, -1 for none |
| bone_rest | (B,4,4) | world_from_bone at rest, no scale |
| bone_heads, bone_tails | (B,3) | rest, world |
| clip_names, clip_start | (C,), (C+1,) | clip c is poses clip_start[c]:clip_start[c+1] |
| pose | (T,B,4,4) float32 | world_from_bone; `pose @ inv(bone_rest)` is the skin transform |
| fps, scale | () | frames a second; baked metres per unit of the file |
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DasrError
from ...core.mesh import volume
from ..errors import TrainingError
from .rigs import RIGS, RigSpec, find_bone, rig_file
from .rigs_game import GAME_PEOPLE, GAME_RIGS
from .rigs_human import FILE_PEOPLE
from .rigs_mujoco import MUJOCO_RIGS

KNOWN = RIGS | FILE_PEOPLE

TORSO_LENGTH = 0.6
TIMEOUT = 240.0  # seconds for one rig


def bake(path: str | Path, out_npz: str | Path, fps: int = 24, spec: RigSpec | None = None) -> None:
    """Load the glTF `path` with bpy and write `out_npz` (keys above). Resets the Blender session.

    `spec` says where the animal's left, front and torso are; without one it is looked up by the file's name,
    and failing that the file is taken to be oriented already and is scaled by its length.

    Raises TrainingError when the file has no armature or no skinned mesh.
    """
    path = Path(path)
    spec = spec or KNOWN.get(rig_name(path))
    armature = _load(path, fps, bind_pose=spec.bind_pose if spec else True)
    mesh = _surface(armature, spec)
    bones = _bones(armature)
    clips = _clips(armature)
    _write(_to_body_space(mesh | bones | clips, spec), fps, Path(out_npz))


def bake_game(path: str | Path, out_dir: str | Path, fps: int = 24, people: bool = False) -> list[Path]:
    """Bake the animals, or the people, of 0 A.D.'s `public.zip` into `out_dir/0ad_<name>.npz`; needs no Blender.

    Finished archives are left alone. FileNotFoundError or TrainingError when `path` is not the game's data.
    """
    from .pyrogenesis import GameFiles, read_game_rig

    files = GameFiles(path)
    rigs = GAME_PEOPLE if people else GAME_RIGS
    return _bake_each(rigs, lambda rig: read_game_rig(files, rig, fps), Path(out_dir), fps)


def bake_mujoco(path: str | Path, out_dir: str | Path, fps: int = 24) -> list[Path]:
    """Bake the animals of dm_control out of its wheel into `out_dir/dm_<name>.npz`; needs no Blender.

    Finished archives are left alone. FileNotFoundError or TrainingError when `path` is not that wheel.
    """
    from .mujoco_rigs import read_mujoco_rig

    return _bake_each(MUJOCO_RIGS, lambda rig: read_mujoco_rig(path, rig, fps), Path(out_dir), fps)


def _bake_each(
    rigs: Mapping[str, Any], read: Callable[[Any], dict[str, np.ndarray]], out_dir: Path, fps: int
) -> list[Path]:
    done = []
    for name, rig in rigs.items():
        target = out_dir / f"{name}.npz"
        if not target.exists():
            a = read(rig)
            mesh = _weld(a.pop("position"), a.pop("weight"), a.pop("colour"))
            _write(_to_body_space(mesh | a, rig.spec), fps, target)
        print(f"baked {name}", flush=True)
        done.append(target)
    return done


def _write(arrays: dict[str, np.ndarray], fps: int, out: Path) -> None:
    arrays["fps"] = np.array(float(fps))
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".part")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(temporary, out)


def rig_name(path: Path) -> str:
    """Name of the rig in a file: the folder's for Sketchfab's `scene.gltf`, else the file's stem."""
    return path.parent.name if path.stem == "scene" else path.stem


def bake_apart(source: Path, target: Path, fps: int = 24) -> str:
    """`bake` in a process of its own, which Blender may hang or take down; what went wrong in one line, '' for nothing.

    Raises DasrError without bpy.
    """
    if importlib.util.find_spec("bpy") is None:
        raise DasrError(
            "Reading rigged models needs bpy, which is not installed: pip install 'dasr-blender[blender]'"
        )
    command = [sys.executable, "-m", __name__, str(source), str(target), "--fps", str(fps)]
    try:
        result = subprocess.run(command, timeout=TIMEOUT, capture_output=True, text=True)
        message = (result.stderr.strip().splitlines() or ["no message"])[-1]
    except subprocess.TimeoutExpired:
        message = f"no answer within {TIMEOUT:.0f} s"
    return "" if target.exists() else message


def bake_all(rigged_dir: str | Path, out_dir: str | Path, fps: int = 24) -> list[Path]:
    """Bake every known rig of `rigged_dir` into `out_dir/<name>.npz`, each in a process of its own.

    Finished archives are left alone, so an interrupted run goes on where it stopped.
    Returns the archives; raises FileNotFoundError without such a folder, DasrError without bpy, TrainingError naming
    the files that failed.
    """
    if not Path(rigged_dir).is_dir():
        raise FileNotFoundError(f"{rigged_dir}: there is no such folder of rigged models")
    done, failed = [], []
    for name in KNOWN:
        source, target = rig_file(Path(rigged_dir), name), Path(out_dir) / f"{name}.npz"
        if source is None:
            continue
        if not target.exists() and (message := bake_apart(source, target, fps)):
            failed.append(f"{source.name}: {message}")
            continue
        print(f"baked {name}", flush=True)
        done.append(target)
    if failed:
        raise TrainingError("Could not bake " + "; ".join(failed))
    return done


# -- reading with bpy ----------------------------------------------------------------------------------------


def _load(path: Path, fps: int, bind_pose: bool) -> Any:
    """Import into an empty scene at `fps`; the armature object, its NLA muted. Importer chatter is swallowed."""
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene: Any = bpy.context.scene
    scene.render.fps = fps
    with contextlib.redirect_stdout(None):
        bpy.ops.import_scene.gltf(
            filepath=str(path), disable_bone_shape=True, guess_original_bind_pose=bind_pose
        )
    armatures = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    if not armatures:
        raise TrainingError("it holds no armature")
    armature: Any = max(armatures, key=lambda o: len(o.data.bones))
    if armature.animation_data:
        for track in armature.animation_data.nla_tracks:
            track.mute = True
        armature.animation_data.action = None
    for bone in armature.pose.bones:
        bone.matrix_basis.identity()
    bpy.context.view_layer.update()
    return armature


def _surface(armature: Any, spec: RigSpec | None) -> dict[str, np.ndarray]:
    """All skinned or bone-parented meshes as one triangle mesh at rest, in world space."""
    import bpy

    names = [b.name for b in armature.data.bones]
    parts = []
    for thing in bpy.data.objects:
        factor = spec.mesh_factor(thing.name) if spec else 1.0
        if thing.type != "MESH" or not len(thing.data.polygons) or not factor:
            continue
        weights = _weights(thing, armature, names)
        if weights is None:
            continue
        mesh = thing.data
        mesh.calc_loop_triangles()
        corner = np.empty(len(mesh.loop_triangles) * 3, int)
        mesh.loop_triangles.foreach_get("loops", corner)
        material = np.empty(len(mesh.loop_triangles), int)
        mesh.loop_triangles.foreach_get("material_index", material)
        loop_vertex = np.empty(len(mesh.loops), int)
        mesh.loops.foreach_get("vertex_index", loop_vertex)
        position = np.empty(len(mesh.vertices) * 3)
        mesh.vertices.foreach_get("co", position)
        world = np.array(thing.matrix_world)
        position = position.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]
        origin = np.array(armature.matrix_world)[:3, 3]
        position = origin + factor * (position - origin)
        vertex = loop_vertex[corner]
        parts.append((position[vertex], weights[vertex], _colours(mesh, corner, np.repeat(material, 3))))
    if not parts:
        raise TrainingError("no mesh in it is bound to the armature")
    position, weight, colour = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _weld(position, weight, colour)


def _weights(thing: Any, armature: Any, names: list[str]) -> np.ndarray | None:
    """(V,B) weights of one mesh object, None if nothing ties it to the armature."""
    index = {name: i for i, name in enumerate(names)}
    weights = np.zeros((len(thing.data.vertices), len(names)))
    if thing.parent == armature and thing.parent_type == "BONE":
        weights[:, index[thing.parent_bone]] = 1.0
        return weights
    if not any(m.type == "ARMATURE" and m.object == armature for m in thing.modifiers):
        return None
    group = {g.index: index[g.name] for g in thing.vertex_groups if g.name in index}
    for vertex in thing.data.vertices:
        for element in vertex.groups:
            if element.group in group:
                weights[vertex.index, group[element.group]] += element.weight
    return weights


def _colours(mesh: Any, corner: np.ndarray, material: np.ndarray) -> np.ndarray:
    """(N,3) sRGB base colour at each triangle corner: the texture at its UV, else the material's colour."""
    colour = np.full((len(corner), 3), 0.5)
    for slot, mat in enumerate(mesh.materials):
        here = material == slot
        node = mat.node_tree.nodes.get("Principled BSDF") if mat and mat.node_tree else None
        if node is None or not here.any():
            continue
        socket = node.inputs["Base Color"]
        image = next((n.image for n in mat.node_tree.nodes if n.type == "TEX_IMAGE" and n.image), None)
        if image is not None and socket.is_linked and mesh.uv_layers:
            uv = np.empty(len(mesh.loops) * 2)
            mesh.uv_layers[0].data.foreach_get("uv", uv)
            width, height = image.size
            pixels = np.array(image.pixels[:], np.float32).reshape(height, width, -1)[..., :3]
            u, v = uv.reshape(-1, 2)[corner[here]].T
            colour[here] = pixels[
                np.floor(v % 1 * height).astype(int) % height, np.floor(u % 1 * width).astype(int) % width
            ]
        else:
            linear = np.clip(np.array(socket.default_value[:3]), 0, 1)
            colour[here] = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return colour


def _weld(position: np.ndarray, weight: np.ndarray, colour: np.ndarray) -> dict[str, np.ndarray]:
    """Triangle corners to an indexed mesh: one vertex per (place, weights, colour), at most four weights.

    Triangles that no bone holds are left out; a surface inside out (mirrored by its file's matrices) is turned.
    """
    keep = np.repeat((weight.sum(1) >= 1e-6).reshape(-1, 3).all(1), 3)
    position, weight, colour = position[keep], weight[keep], colour[keep]
    order = np.argsort(-weight, axis=1, kind="stable")[:, :4]
    four = np.take_along_axis(weight, order, 1)
    four = four / four.sum(1, keepdims=True)
    if order.shape[1] < 4:
        missing = 4 - order.shape[1]
        order, four = np.pad(order, ((0, 0), (0, missing))), np.pad(four, ((0, 0), (0, missing)))
    size = np.ptp(position, axis=0).max()
    place = np.round(position / (size * 1e-5)).astype(np.int64)
    skin = np.round(four * 1e4).astype(np.int64)
    tint = np.round(colour * 255).astype(np.int64)
    _, point = np.unique(place, axis=0, return_inverse=True)
    key = np.concatenate([point.reshape(-1, 1), np.where(skin > 0, order, 0), skin, tint], 1)
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    faces = inverse.reshape(-1, 3)
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    if volume(position[first] - position.mean(0), faces) < 0:
        faces = faces[:, ::-1]
    return {
        "vertices": position[first],
        "faces": faces.astype(np.int32),
        "colours": colour[first].astype(np.float32),
        "skin_index": order[first].astype(np.int32),
        "skin_weight": four[first].astype(np.float32),
        "point_index": point.reshape(-1)[first].astype(np.int32),
    }


def _bones(armature: Any) -> dict[str, np.ndarray]:
    world = np.array(armature.matrix_world)
    bones = list(armature.data.bones)
    index = {b.name: i for i, b in enumerate(bones)}
    rest = np.stack([world @ np.array(b.matrix_local) for b in bones])
    tails = np.stack([(world @ np.append(b.tail_local, 1.0))[:3] for b in bones])
    return {
        "bone_names": np.array([b.name for b in bones]),
        "bone_parents": np.array([index[b.parent.name] if b.parent else -1 for b in bones], np.int32),
        "bone_rest": rest,
        "bone_tails": tails,
    }


def _clips(armature: Any) -> dict[str, np.ndarray]:
    """Every action of the file, sampled at each whole scene frame."""
    import bpy

    scene: Any = bpy.context.scene
    if armature.animation_data is None:
        armature.animation_data_create()
    names, start, poses = [], [0], []
    for action in bpy.data.actions:
        slot = next((s for s in action.slots if s.target_id_type in ("OBJECT", "UNSPECIFIED")), None)
        if slot is None:
            continue
        for bone in armature.pose.bones:
            bone.matrix_basis.identity()
        armature.animation_data.action = action
        armature.animation_data.action_slot = slot
        first, last = (int(round(f)) for f in action.frame_range)
        for frame in range(first, last + 1):
            scene.frame_set(frame)
            world = np.array(armature.matrix_world)
            poses.append(np.stack([world @ np.array(b.matrix) for b in armature.pose.bones]))
        names.append(action.name.split("|")[-1])
        start.append(len(poses))
    stacked = np.stack(poses) if poses else np.zeros((0, len(armature.pose.bones), 4, 4))
    return {
        "clip_names": np.array(names, dtype=np.str_),
        "clip_start": np.array(start, np.int32),
        "pose": stacked,
    }


# -- the body's convention -----------------------------------------------------------------------------------


def _to_body_space(a: dict[str, np.ndarray], spec: RigSpec | None) -> dict[str, np.ndarray]:
    """Rotate about Z (left to +X), scale the torso to TORSO_LENGTH, put the feet on z = 0.

    A constant factor N on the bone's side cancels in pose @ inv(rest), so each bone's rest scale is divided out
    of both; the archive's rest matrices are rigid then.
    """
    names = [str(n) for n in a["bone_names"]]
    heads = a["bone_rest"][:, :3, 3]
    turn, length = np.eye(3), np.ptp(a["vertices"][:, 1]) * 0.5
    if spec:
        left = np.mean(
            [
                heads[find_bone(names, a_left)] - heads[find_bone(names, a_right)]
                for a_left, a_right in spec.sides
            ],
            axis=0,
        )
        left = left / np.hypot(left[0], left[1])
        turn = np.array([[left[0], left[1], 0], [-left[1], left[0], 0], [0, 0, 1.0]])
        front, hind = (np.mean([heads[find_bone(names, n)] for n in pair], axis=0) for pair in spec.torso)
        length = float(np.linalg.norm(front - hind))
        if spec.forward and (turn @ (front - hind))[1] > 0:
            raise TrainingError(
                "the shoulders lie behind the hips once left is +X: the sides of the rig are swapped"
            )
    scale = TORSO_LENGTH / length
    placed = a["vertices"] @ turn.T * scale
    shift = -np.array([*(placed.min(0) + placed.max(0))[:2] / 2, placed[:, 2].min()])
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = turn * scale, shift
    normal = np.zeros_like(a["bone_rest"])
    normal[:, range(3), range(3)] = 1 / (np.linalg.norm(a["bone_rest"][:, :3, :3], axis=1) * scale)
    normal[:, 3, 3] = 1
    out = dict(a)
    out["vertices"] = (placed + shift).astype(np.float32)
    out["bone_rest"] = (world @ a["bone_rest"] @ normal).astype(np.float32)
    out["pose"] = (world @ a["pose"] @ normal).astype(np.float32)
    out["bone_heads"] = out["bone_rest"][:, :3, 3]
    out["bone_tails"] = (a["bone_tails"] @ (turn * scale).T + shift).astype(np.float32)
    out["scale"] = np.array(scale)
    return out


def main_bake(argv: list[str] | None = None) -> int:
    """`bake RIGGED --out DIR`: bake all known rigs of a folder, of the game 0 A.D., or of dm_control."""
    parser = argparse.ArgumentParser(prog="bake", description="Bake rigged glTF animals into arrays.")
    parser.add_argument(
        "rigged",
        type=Path,
        help="folder with the .glb files and Sketchfab folders, 0 A.D.'s public.zip, or dm_control's .whl",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for <name>.npz")
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("--people", action="store_true", help="of 0 A.D., the people instead of the animals")
    options = parser.parse_args(argv)
    game = partial(bake_game, people=options.people)
    source = {".zip": game, ".whl": bake_mujoco}.get(options.rigged.suffix, bake_all)
    if not source(options.rigged, options.out, options.fps):
        raise TrainingError(f"{options.rigged} holds no rig that is known (training/synth/rigs.py).")
    return 0


def _main_one() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--fps", type=int, default=24)
    options = parser.parse_args()
    try:
        bake(options.source, options.target, options.fps)
    except TrainingError as error:
        sys.exit(str(error))
    # Blender's own shutdown can hang or crash after the work is done and on disk.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _main_one()
