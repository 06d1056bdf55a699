# SPDX-License-Identifier: GPL-3.0-or-later
"""Animals described for the simulator MuJoCo: a skinned mesh, joints with limits, and no recorded motion.

https://mujoco.readthedocs.io/en/stable/XMLreference.html#deformable-skin. They are made to move within their joints'
limits, standing on what is lowest of them.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...core.rotation import quat_to_matrix
from ..errors import TrainingError
from .rigs_mujoco import MujocoRig

_CLIPS, _SECONDS = 6, 5.0
_CYCLES = (0.15, 0.9)
"""a second; the slowest and the fastest swing of a joint"""


def read_mujoco_rig(wheel: str | Path, rig: MujocoRig, fps: int) -> dict[str, np.ndarray]:
    """Triangle corners (`position`, `weight`, `colour`), bones and clips of one animal out of a wheel; Z up, metres.

    FileNotFoundError when the wheel does not hold it, TrainingError when it is no wheel or not one MuJoCo can read.
    """
    import mujoco

    wheel = Path(wheel)
    if not wheel.exists():
        raise FileNotFoundError(f"{wheel} does not exist; `pip download --no-deps dm_control` fetches it.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                names = [n for n in archive.namelist() if n.startswith(rig.folder)]
                if rig.model not in names:
                    raise FileNotFoundError(f"{wheel} holds no {rig.model}.")
                archive.extractall(folder, names)
        except zipfile.BadZipFile as error:
            raise TrainingError(f"{wheel} is no wheel; fetch it again.") from error
        try:
            model = mujoco.MjModel.from_xml_path(str(Path(folder) / rig.model))
        except ValueError as error:
            raise TrainingError(f"{wheel}: MuJoCo cannot read {rig.model} ({error}).") from error
    if model.nskin != 1:
        raise TrainingError(f"{rig.model} has {model.nskin} skins, not one.")
    return _surface(model) | _bones(model) | _motion(mujoco, model, fps)


def _surface(model: Any) -> dict[str, np.ndarray]:
    weight = np.zeros((model.nskinvert, model.nskinbone))
    for b, (first, count) in enumerate(
        zip(model.skin_bonevertadr, model.skin_bonevertnum, strict=True)
    ):
        held = slice(first, first + count)
        weight[model.skin_bonevertid[held], b] = model.skin_bonevertweight[held]
    corner = model.skin_face.reshape(-1)
    return {
        "position": model.skin_vert.astype(float)[corner],
        "weight": weight[corner],
        "colour": _colours(model)[corner],
    }


def _colours(model: Any) -> np.ndarray:
    """(V, 3) sRGB 0…1: the texture's at each vertex, or the skin's one colour."""
    material = int(model.skin_matid[0])
    texture = model.mat_texid[material] if material >= 0 else np.array([-1])
    texture = texture[texture >= 0]
    if not len(texture) or not model.nskintexvert:
        return np.tile(model.skin_rgba[0, :3].astype(float), (model.nskinvert, 1))
    t = int(texture[0])
    height, width, channels = (int(x[t]) for x in (model.tex_height, model.tex_width, model.tex_nchannel))
    first = int(model.tex_adr[t])
    pixels = model.tex_data[first : first + height * width * channels].reshape(height, width, channels)
    column, row = (np.floor(model.skin_texcoord % 1 * [width, height])).astype(int).T
    return pixels[row % height, column % width, :3] / 255.0


def _bones(model: Any) -> dict[str, np.ndarray]:
    body = [int(b) for b in model.skin_bonebodyid]
    parents = []
    for b in body:
        above = int(model.body_parentid[b])
        while above and above not in body:
            above = int(model.body_parentid[above])
        parents.append(body.index(above) if above in body else -1)
    rest = _matrices(model.skin_bonebindpos, model.skin_bonebindquat)
    return {
        "bone_names": np.array([model.body(b).name for b in body]),
        "bone_parents": np.array(parents, np.int32),
        "bone_rest": rest,
        "bone_tails": rest[:, :3, 3],
    }


def _motion(mujoco: Any, model: Any, fps: int) -> dict[str, np.ndarray]:
    """Clips in which every joint swings within its limits, those of a chain together, more or less far by the clip."""
    rng = np.random.default_rng(0)
    data, body = mujoco.MjData(model), model.skin_bonebodyid
    hinges = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE)
    hinges = hinges[model.jnt_limited[hinges] > 0]
    chains = [re.sub(r"\d+", "", model.joint(int(j)).name) for j in hinges]
    groups = np.unique(chains, return_inverse=True)[1]
    low, high = model.jnt_range[hinges].T
    frames = round(_SECONDS * fps)
    seconds = np.arange(frames) / fps
    poses = []
    for reach in np.linspace(0.35, 0.9, _CLIPS):
        own, shared = (_swing(rng, seconds, n) for n in (len(hinges), groups.max() + 1))
        swing = reach * np.where(np.bincount(groups)[groups] > 1, 0.75 * shared[:, groups] + 0.25 * own, own)
        for angles in np.clip(np.where(swing > 0, swing * high, -swing * low), low, high):
            data.qpos[:] = model.qpos0
            data.qpos[model.jnt_qposadr[hinges]] = angles
            mujoco.mj_kinematics(model, data)
            pose = _matrices(data.xpos[body], data.xquat[body])
            pose[:, 2, 3] -= pose[:, 2, 3].min()
            poses.append(pose)
    return {
        "clip_names": np.array([f"swing_{i}" for i in range(_CLIPS)]),
        "clip_start": (np.arange(_CLIPS + 1) * frames).astype(np.int32),
        "pose": np.array(poses),
    }


def _swing(rng: np.random.Generator, seconds: np.ndarray, count: int) -> np.ndarray:
    """Smooth values (T, count) between -1 and 1, about a mean of their own."""
    cycles, phase = rng.uniform(*_CYCLES, (3, count)), rng.uniform(0, 2 * np.pi, (3, count))
    waves = np.sin(2 * np.pi * cycles * seconds[:, None, None] + phase)
    return 0.6 * waves.mean(1) + 0.4 * rng.uniform(-1, 1, count)


def _matrices(place: np.ndarray, quat: np.ndarray) -> np.ndarray:
    out = np.tile(np.eye(4), (len(place), 1, 1))
    out[:, :3, :3], out[:, :3, 3] = quat_to_matrix(np.asarray(quat, float)), place
    return out
