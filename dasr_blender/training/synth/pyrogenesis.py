# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigged animals and people out of the data of the game 0 A.D., in the arrays that `bake` writes.

The game (Wildfire Games, CC BY-SA 3.0; Debian's package `0ad-data` holds `public.zip`) keeps meshes as `.pmd`,
animations as `.psa` and bone names as XML, a format of its engine, Pyrogenesis. Both hold bones as places and
quaternions in the model's space, left-handed with Y up; here they are made right-handed with Z up.
"""

from __future__ import annotations

import fnmatch
import io
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ...core.rotation import quat_to_matrix, slerp
from ..errors import TrainingError
from .rigs_game import GameRig

NO_BONE = 255


@dataclass(frozen=True)
class Mesh:
    """A `.pmd`: vertices (V, 3), uv (V, 2), faces (F, 3), bones and weights (V, 4), rest (B, 7) place and xyzw.

    sockets: where things may be attached, by name: place and xyzw (7,) and the bone that it is told from.
    """

    vertices: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    bones: np.ndarray
    weights: np.ndarray
    rest: np.ndarray
    sockets: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)


def read_pmd(data: bytes) -> Mesh:
    """Read a mesh. TrainingError when the bytes are none of versions 3 and 4, or are cut short."""
    if data[:4] != b"PSMD":
        raise TrainingError("This is no .pmd mesh.")
    try:
        (version, _, count), at = struct.unpack_from("<3I", data, 4), 16
        if version not in (3, 4):
            raise TrainingError(f"This .pmd is of version {version}; 3 and 4 are known.")
        maps = 1
        if version == 4:
            (maps,), at = struct.unpack_from("<I", data, at), at + 4
        kind = np.dtype(
            [("place", "<f4", 3), ("normal", "<f4", 3), ("uv", "<f4", (maps, 2))]
            + [("bone", "u1", 4), ("weight", "<f4", 4)]
        )
        points, at = np.frombuffer(data, kind, count, at), at + count * kind.itemsize
        (count,), at = struct.unpack_from("<I", data, at), at + 4
        faces, at = np.frombuffer(data, "<u2", count * 3, at).reshape(-1, 3), at + count * 6
        (count,), at = struct.unpack_from("<I", data, at), at + 4
        rest, at = np.frombuffer(data, "<f4", count * 7, at).reshape(-1, 7), at + count * 28
        (count,), at = struct.unpack_from("<I", data, at), at + 4
        sockets = {}
        for _ in range(count):
            (length,), at = struct.unpack_from("<I", data, at), at + 4
            name, at = data[at : at + length].decode("latin-1"), at + length
            *place, bone = struct.unpack_from("<7fB", data, at)
            sockets[name], at = (np.array(place), bone), at + 29
    except (struct.error, ValueError) as error:
        raise TrainingError("This .pmd mesh is cut short.") from error
    return Mesh(
        points["place"].astype(np.float64),
        points["uv"][:, 0].astype(np.float64),
        faces.astype(np.int64),
        points["bone"].astype(np.int64),
        points["weight"].astype(np.float64),
        rest.astype(np.float64),
        sockets,
    )


def read_psa(data: bytes) -> tuple[float, np.ndarray]:
    """Frames a second and bones (T, B, 7), place and xyzw, of an animation. TrainingError when the bytes are none."""
    if data[:4] != b"PSSA":
        raise TrainingError("This is no .psa animation.")
    try:
        (length,) = struct.unpack_from("<I", data, 12)
        milliseconds, bones, frames = struct.unpack_from("<fII", data, 16 + length)
        poses = np.frombuffer(data, "<f4", bones * frames * 7, 28 + length)
    except (struct.error, ValueError) as error:
        raise TrainingError("This .psa animation is cut short.") from error
    return 1000 / milliseconds, poses.reshape(frames, bones, 7).astype(np.float64)


def read_bones(xml: bytes) -> tuple[list[str], np.ndarray]:
    """Names and parents (B,) of a skeleton's bones, in the order that meshes and animations number them."""
    names: list[str] = []
    parents: list[int] = []

    def walk(element: ElementTree.Element, parent: int) -> None:
        for child in element.findall("bone"):
            names.append(child.get("name", ""))
            parents.append(parent)
            walk(child, len(names) - 1)

    skeleton = ElementTree.fromstring(xml).find("standard_skeleton")
    if skeleton is None:
        raise TrainingError("The skeleton's file lists no bones.")
    walk(skeleton, -1)
    return names, np.array(parents, np.int32)


def to_matrices(bones: np.ndarray) -> np.ndarray:
    """Places and quaternions (..., 7), left-handed with Y up, as transforms (..., 4, 4), right-handed with Z up."""
    swap = np.eye(3)[[0, 2, 1]]
    out = np.zeros((*bones.shape[:-1], 4, 4))
    out[..., :3, :3] = swap @ quat_to_matrix(bones[..., [6, 3, 4, 5]]) @ swap
    out[..., :3, 3] = bones[..., [0, 2, 1]]
    out[..., 3, 3] = 1
    return out


def at_rate(bones: np.ndarray, own: float, wanted: float) -> np.ndarray:
    """An animation (T, B, 7) of `own` frames a second at `wanted`, (U, B, 7)."""
    times = np.arange(0, len(bones) - 1 + 1e-6, own / wanted)
    before = np.minimum(times.astype(int), len(bones) - 1)
    after, part = np.minimum(before + 1, len(bones) - 1), (times - before)[:, None]
    place = bones[before, :, :3] * (1 - part[..., None]) + bones[after, :, :3] * part[..., None]
    turned = slerp(
        bones[before][..., [6, 3, 4, 5]], bones[after][..., [6, 3, 4, 5]], np.repeat(part, bones.shape[1], 1)
    )
    return np.concatenate([place, turned[..., [1, 2, 3, 0]]], -1)


class GameFiles:
    """The game's data: `public.zip`, or a folder with what is in it.

    FileNotFoundError names what is missing; TrainingError when the file is no archive.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(
                f"{self.path} does not exist; Debian's package 0ad-data holds public.zip."
            )
        try:
            self._zip = zipfile.ZipFile(self.path) if self.path.is_file() else None
        except zipfile.BadZipFile as error:
            raise TrainingError(f"{self.path} is no zip archive; unpack or fetch it again.") from error
        self._names = self._zip.namelist() if self._zip else None

    def find(self, pattern: str) -> list[str]:
        """Names that match `art/…`, sorted."""
        if self._names is not None:
            return sorted(fnmatch.filter(self._names, pattern))
        return sorted(str(p.relative_to(self.path).as_posix()) for p in self.path.glob(pattern))

    def read(self, pattern: str) -> bytes:
        """The first file that matches."""
        names = self.find(pattern)
        if not names:
            raise FileNotFoundError(f"{self.path} holds no {pattern}.")
        return self._zip.read(names[0]) if self._zip else (self.path / names[0]).read_bytes()


def read_game_rig(files: GameFiles, rig: GameRig, fps: int) -> dict[str, np.ndarray]:
    """Triangle corners (`position`, `weight`, `colour`), bones and clips of one rig; Z up, the game's units.

    Animations of another number of bones are left out. TrainingError when the skeleton is not the mesh's, or the mesh
    has no place for the head.
    """
    mesh = read_pmd(files.read(f"art/meshes/skeletal/{rig.mesh}.*pmd"))
    names, parents = read_bones(files.read(f"art/skeletons/{rig.skeleton}.xml"))
    if len(names) != len(mesh.rest):
        raise TrainingError(f"{rig.mesh} has {len(mesh.rest)} bones and {rig.skeleton} {len(names)}.")
    clips, poses = [], []
    for begin in rig.clips:
        for name in files.find(f"art/animation/{rig.folder}/{begin}*.psa"):
            rate, bones = read_psa(files.read(name))
            if bones.shape[1] == len(names) and len(bones) > 1:
                clips.append(Path(name).name.split(".")[0])
                poses.append(to_matrices(at_rate(bones, rate, fps)))
    weight = np.zeros((len(mesh.vertices), len(names)))
    for bone, share in zip(mesh.bones.T, mesh.weights.T, strict=True):
        held = (bone != NO_BONE) & (bone < len(names))
        np.add.at(weight, (np.flatnonzero(held), bone[held]), share[held])
    corner = mesh.faces.reshape(-1)  # clockwise in the file; the change of hands turns that round
    rest = to_matrices(mesh.rest)
    position = mesh.vertices[:, [0, 2, 1]][corner]
    weight, colour = weight[corner], _colours(files, f"skeletal/{rig.texture}", mesh.uv)[corner]
    if rig.head:
        place, bone = _socket(mesh, "head", rest)
        head = read_pmd(files.read(f"art/meshes/props/{rig.head[0]}.*pmd"))
        corner, held = head.faces.reshape(-1), np.zeros((len(head.faces) * 3, len(names)))
        held[:, bone] = 1
        at = head.vertices[:, [0, 2, 1]][corner] @ place[:3, :3].T + place[:3, 3]
        position, weight = np.concatenate([position, at]), np.concatenate([weight, held])
        face = _colours(files, f"props/head/{rig.head[1]}", head.uv)[corner]
        colour = np.concatenate([colour, face])
    return {
        "position": position,
        "weight": weight,
        "colour": colour,
        "bone_names": np.array(names),
        "bone_parents": parents,
        "bone_rest": rest,
        "bone_tails": rest[:, :3, 3],
        "clip_names": np.array(clips, dtype=np.str_),
        "clip_start": np.cumsum([0] + [len(p) for p in poses]).astype(np.int32),
        "pose": np.concatenate(poses) if poses else np.zeros((0, len(names), 4, 4)),
    }


def _socket(mesh: Mesh, name: str, rest: np.ndarray) -> tuple[np.ndarray, int]:
    """Transform (4, 4) at rest, Z up, of where a thing is attached, and the bone that carries it."""
    if name not in mesh.sockets or mesh.sockets[name][1] >= len(rest):
        raise TrainingError(f"The mesh has no bone that carries the {name}.")
    place, bone = mesh.sockets[name]
    return rest[bone] @ to_matrices(place), bone


def _colours(files: GameFiles, texture: str, uv: np.ndarray) -> np.ndarray:
    """(V, 3) sRGB 0…1 of a texture at each vertex."""
    from PIL import Image

    with Image.open(io.BytesIO(files.read(f"art/textures/skins/{texture}.*dds"))) as image:
        pixels = np.asarray(image.convert("RGB"), np.float64) / 255
    height, width = pixels.shape[:2]
    column, row = np.floor(uv[:, 0] % 1 * width), np.floor((1 - uv[:, 1]) % 1 * height)  # v runs upwards
    return pixels[row.astype(int) % height, column.astype(int) % width]
