# SPDX-License-Identifier: GPL-3.0-or-later
"""Articulated Mesh Animation sequences (Vlasic et al., SIGGRAPH 2008): a person, several cameras, a mesh a frame.

    meshes/mesh_0000.obj …            world space, one a frame
    calibration/Camera1.Pmat.cal …    3×4 matrices that project world points to pixels
    images/Image1_0000.png …          the same numbers
    silhouettes/Silhouette1_0000.png  masks, where they came with it

The data is not ours to give; this reads it for those who have it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...clip import Clip, Masks, load_clip, masks_from_folder
from ...core.category import Category
from ..errors import TrainingError
from .options import EvaluateConfig, apart
from .real import RealClip, find_masks, real_scene
from .rendered import score, sum_up
from .rows import Row
from .scene import Scene, TrueSurface

Array = np.ndarray


@dataclass(frozen=True)
class Calibration:
    """intrinsics (3, 3) with 1 in the corner; camera_from_world (4, 4), OpenCV's axes, in the units of the file."""

    intrinsics: Array
    camera_from_world: Array


def decompose(projection: Array) -> Calibration:
    """A 3×4 projection matrix, of any sign and scale, as K [R t] (Hartley & Zisserman, 2nd ed., section 6.2.4).

    Raises ValueError for a matrix that is no camera.
    """
    matrix = np.asarray(projection, np.float64)
    if matrix.shape != (3, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:, :3])) < 1e-15:
        raise ValueError("not a 3×4 projection matrix of a camera")
    turned = matrix[::-1, :3].T  # RQ by way of QR
    q, r = np.linalg.qr(turned)
    upper, rotation = r.T[::-1, ::-1], q.T[::-1]
    sign = np.diag(np.sign(np.diag(upper)))
    upper, rotation = upper @ sign, sign @ rotation
    shift = np.linalg.solve(upper, matrix[:, 3])
    if np.linalg.det(rotation) < 0:
        rotation, shift = -rotation, -shift
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, shift
    return Calibration(upper / upper[2, 2], pose)


def read_calibration(path: Path) -> Calibration:
    """A `CameraN.Pmat.cal` file; TrainingError names the file."""
    try:
        return decompose(np.loadtxt(path))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: {error}; get the calibration again") from error


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Files of a folder whose names match, by the last number in them."""
    found = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        match = re.fullmatch(pattern, path.name)
        if match:
            found[int(match.group(1))] = path
    return found


def cameras(sequence: Path) -> dict[int, Path]:
    """Number → calibration file of a sequence; TrainingError when there is none."""
    found = _numbered(sequence / "calibration", r"Camera(\d+)\.Pmat\.cal")
    if not found:
        raise TrainingError(f"{sequence}: holds no calibration/CameraN.Pmat.cal; is it an AMA sequence?")
    return found


def unit(vertices: Array) -> float:
    """Metres in a unit of the file, told by the size of what must be a person or an animal."""
    size = float(np.ptp(vertices, axis=0).max())
    return next(factor for limit, factor in ((10.0, 1.0), (1000.0, 0.01), (np.inf, 0.001)) if size < limit)


def _files(sequence: Path, camera: int) -> tuple[dict[int, Path], dict[int, Path]]:
    """Number → mesh, and number → picture of a camera; TrainingError when no number has both."""
    meshes = _numbered(sequence / "meshes", r"mesh_(\d+)\.obj")
    images = _numbered(sequence / "images", rf"Image{camera}_(\d+)\.(?:png|jpg)")
    if not meshes.keys() & images.keys():
        raise TrainingError(f"{sequence}: no frame has both meshes/mesh_N.obj and images/Image{camera}_N.png")
    return meshes, images


def read_mesh(path: Path) -> tuple[Array, Array]:
    """Vertices (V, 3) and faces (F, 3) of an .obj file; TrainingError names the file."""
    import trimesh

    try:
        mesh = trimesh.load(path, process=False, force="mesh")
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
    except Exception as error:  # trimesh raises what its parsers raise
        raise TrainingError(f"{path}: not a readable mesh ({error}); get it again") from error
    if not len(faces) or not np.isfinite(vertices).all():
        raise TrainingError(f"{path}: not a readable mesh (it has no faces, or no numbers); get it again")
    return vertices, faces


def find_views(sequences: Sequence[Path], chosen: Sequence[int] = ()) -> list[tuple[Path, int]]:
    """Each sequence with each of its cameras, or those of `chosen`.

    Raises TrainingError when there is none, naming a sequence that lacks files or shares another's name.
    """
    views = [
        (Path(sequence), camera)
        for sequence in sequences
        for camera in sorted(cameras(Path(sequence)))
        if not chosen or camera in chosen
    ]
    if not views:
        raise TrainingError(f"None of the sequences has a camera {', '.join(map(str, chosen))}")
    apart("sequences", [(Path(sequence).name, Path(sequence)) for sequence in sequences])
    for sequence, camera in views:
        _files(sequence, camera)
    return views


def read_sequence(
    sequence: Path, camera: int, cache: Path, frames: int = 0, category: Category | None = None
) -> Scene:
    """One camera's view of a sequence with its true surface; the first `frames` of it, or all (0).

    Pictures larger than the pipeline's working size are shrunk, and the camera with them. A single focal length
    stands for both axes, as everywhere here. Raises TrainingError naming what is missing.
    """
    calibration = read_calibration(cameras(sequence)[camera])
    meshes, images = _files(sequence, camera)
    both = sorted(meshes.keys() & images.keys())[: frames or None]
    suffix = images[both[0]].suffix
    order = sorted(images)
    first, last = order.index(both[0]), order.index(both[-1])
    clip = load_clip(sequence / "images" / f"Image{camera}_%04d{suffix}", start=first, end=last + 1)
    name = f"{sequence.name}-{camera}"
    masks, source = _masks(sequence, camera, name, clip, order, cache, category)
    scene = real_scene(RealClip(name, sequence), clip, masks)
    surfaces, faces = [], None
    for number in both:
        vertices, own = read_mesh(meshes[number])
        surfaces.append(vertices)
        faces = own if faces is None else faces
        if len(vertices) != len(surfaces[0]):
            raise TrainingError(
                f"{meshes[number]}: has {len(vertices)} vertices, but {meshes[both[0]].name} has {len(surfaces[0])}; "
                "the meshes of a sequence share their faces"
            )
    factor = unit(surfaces[0])
    pose, intrinsics = calibration.camera_from_world, calibration.intrinsics
    placed = [factor * (points @ pose[:3, :3].T + pose[:3, 3]) for points in surfaces]
    scene.focal = np.full(len(scene), clip.scale * (intrinsics[0, 0] + intrinsics[1, 1]) / 2)
    scene.principal_point = clip.scale * intrinsics[:2, 2]
    scene.surface = TrueSurface(placed, np.asarray(faces), "scan")
    scene.length = factor * float(np.ptp(surfaces[0], axis=0).max())
    scene.meta = {"split": sequence.name, "masks": source}
    if len(placed) != len(scene):
        raise TrainingError(
            f"{sequence}: {len(scene)} pictures of camera {camera} but {len(placed)} meshes between them"
        )
    return scene


def _masks(
    sequence: Path, camera: int, name: str, clip: Clip, images: Sequence[int], cache: Path,
    category: Category | None,
) -> tuple[Masks, str]:
    """Its own silhouettes where every picture (of the numbers `images`) has one, else what the pictures allow."""
    own = _numbered(sequence / "silhouettes", rf"Silhouette{camera}_(\d+)\.(?:png|jpg)")
    if own.keys() >= set(images):
        folder = cache / f"{name}-silhouettes"
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier run, and maybe of others
        folder.mkdir(parents=True)
        for number in images:  # one camera's files in a folder of their own
            shutil.copyfile(own[number], folder / f"{number:06d}{own[number].suffix}")
        return masks_from_folder(folder, clip), "true"
    return find_masks(RealClip(name, sequence), clip, cache, category)


def evaluate_ama(
    config: EvaluateConfig,
    rows: Sequence[Row],
    report: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Scores of every camera of every sequence, or of those in `config.cameras`."""
    views = find_views(config.ama, config.cameras)
    done = iter(range(1, len(views) + 1))

    def scenes() -> Iterator[Scene]:
        for sequence, camera in views:
            yield read_sequence(sequence, camera, config.out / "masks", config.frames, rows[0].category)

    results = score(scenes(), rows, lambda: report("AMA sequences", next(done), len(views)))
    names = ", ".join(dict.fromkeys(sequence.name for sequence, _ in views))
    return {"dataset": names, **sum_up(results, rows)}
