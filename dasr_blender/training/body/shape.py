# SPDX-License-Identifier: GPL-3.0-or-later
"""The quadruped's rest surface: a symmetric blend of several animals in one pose.

Each source model is bent onto the common rest landmarks, turned into a signed distance on a grid, and the
distances are averaged; the zero set is meshed on the left half with even triangles and mirrored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ...core import CategoryError
from .landmarks import CHAINS, NAMES, REST, SOURCES, TORSO, axis_end, joints, point, segments
from .weights import heat_weights, segment_distance

CELL = 0.005  # metres
LOW = np.array([-0.30, -0.95, -0.66])
HIGH = np.array([0.30, 0.75, 0.60])


def side_of_joints() -> np.ndarray:
    """+1 for joints of the left half, -1 for the right, 0 for the middle: (30,)."""
    return np.array([{"L": 1, "R": -1}.get(n.partition(".")[2], 0) for n in NAMES])


def load_source(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bind-pose vertices (V, 3), faces (F, 3) and linear RGB of the faces (F, 3) of one glTF model.

    Raises CategoryError when it is missing or damaged.
    """
    import trimesh

    if not path.is_file():
        raise CategoryError(f"{path}: there is no such model; give the folder that holds it as --source.")
    try:
        scene = trimesh.load(path, process=False)
    except Exception as error:  # trimesh, its readers and theirs have each their own
        raise CategoryError(f"{path}: not a readable model ({error}); complete the folder.") from error
    points, faces, colours = [], [], []
    for name, part in sorted(scene.geometry.items()):
        if "Horn" in name:
            continue
        faces.append(part.faces + sum(len(p) for p in points))
        points.append(np.asarray(part.vertices) * 100.0)  # the exporter's armature scale
        colours.append(np.repeat([part.visual.material.baseColorFactor[:3]], len(part.faces), 0) / 255.0)
    stacked = np.concatenate(points)
    unique, inverse = np.unique(np.round(stacked, 4), axis=0, return_inverse=True)
    welded = inverse.reshape(-1)[np.concatenate(faces)]
    good = (welded[:, 0] != welded[:, 1]) & (welded[:, 1] != welded[:, 2]) & (welded[:, 0] != welded[:, 2])
    return unique, welded[good], np.concatenate(colours)[good]


def onto_rest(vertices: np.ndarray, faces: np.ndarray, source: dict) -> np.ndarray:
    """Bend a source model (V, 3) onto the rest landmarks: one affine map a bone, blended by heat weights."""
    weights = heat_weights(vertices, faces, segments(source), len(NAMES), 0.6, side_of_joints())
    scale = 0.6 / (source["hind_upper"][1] - source["front_upper"][1])
    out = np.zeros_like(vertices)
    for i, name in enumerate(NAMES):
        origin, target = point(source, name), point(REST, name)
        end = axis_end(name)
        if end is None:
            linear = scale * np.eye(3)
        else:
            a, b = point(source, end) - origin, point(REST, end) - target
            stretch = np.linalg.norm(b) / np.linalg.norm(a)
            across = scale if name.split(".")[0] not in ("head", "jaw", "ear") else np.sqrt(scale * stretch)
            a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
            linear = _rotation_between(a, b) @ (across * np.eye(3) + (stretch - across) * np.outer(a, a))
        out += weights[:, i : i + 1] * (target + (vertices - origin) @ linear.T)
    return out


def _rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smallest rotation that takes unit vector a to b (Rodrigues)."""
    v, c = np.cross(a, b), float(a @ b)
    k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + k + k @ k / (1 + c)


def signed_distance(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed distance (metres, negative inside) of a closed surface on the grid LOW…HIGH."""
    import trimesh

    smooth_v, smooth_f = trimesh.remesh.subdivide_loop(vertices, faces, iterations=2)
    dense_v, _ = trimesh.remesh.subdivide_to_size(smooth_v, smooth_f, CELL * 0.6, max_iter=12)
    shape = np.round((HIGH - LOW) / CELL).astype(int) + 1
    shell = np.zeros(shape, bool)
    cell = np.round((dense_v - LOW) / CELL).astype(int)
    shell[tuple(np.clip(cell, 0, shape - 1).T)] = True
    solid = ndimage.binary_fill_holes(shell)
    inside = ndimage.distance_transform_edt(solid) - 0.5
    outside = ndimage.distance_transform_edt(~solid) - 0.5
    # the shell's voxels are cut in half by the surface
    return (np.where(solid, -inside, outside) + 0.5) * CELL


def blend(fields: list[np.ndarray], ears: np.ndarray, rounding: float = 0.9) -> np.ndarray:
    """Mean of truncated distances, made symmetric; ears are too thin to survive a mean and are added whole."""
    mean = sum(np.clip(f, -0.06, 0.06) for f in fields) / len(fields)
    mean = ndimage.gaussian_filter(mean, rounding)
    ear = ndimage.gaussian_filter(np.clip(ears, -0.06, 0.06), 0.8)
    grid = np.stack(
        np.meshgrid(*(LOW[i] + CELL * np.arange(mean.shape[i]) for i in range(3)), indexing="ij"), -1
    )
    base, tip = point(REST, "ear"), point(REST, "ear_tip")
    folded = np.abs(grid[..., 0]), grid[..., 1], grid[..., 2]
    reach, _ = segment_distance(np.stack(folded, -1).reshape(-1, 3), base, tip + 0.1 * (tip - base))
    ear = np.maximum(ear, reach.reshape(mean.shape) - 0.042)
    both = -np.logaddexp(-mean / 0.006, -ear / 0.006) * 0.006  # smooth minimum
    return (both + both[::-1]) / 2


def half_surface(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fine mesh of the left half (x >= 0), open at x = 0."""
    from skimage.measure import label, marching_cubes

    middle = field.shape[0] // 2
    parts = label(field < 0)
    body = parts == parts[middle, parts.shape[1] // 2, parts.shape[2] // 2]
    body = ndimage.binary_dilation(body, iterations=2)
    vertices, faces, _, _ = marching_cubes(np.where(body, field, 0.06)[middle:], 0.0, spacing=(CELL,) * 3)
    vertices = vertices + [0, LOW[1], LOW[2]]
    _, first, weld = np.unique(np.round(vertices, 5), axis=0, return_index=True, return_inverse=True)
    faces = weld.reshape(-1)[faces]
    good = (faces != np.roll(faces, 1, axis=1)).all(1)
    return vertices[first], faces[good]


def magnify(points: np.ndarray) -> np.ndarray:
    """Blow up head and feet, so that even triangles there become finer ones on the body."""
    out = points.astype(float).copy()
    spots = [((0, -0.62, 0.27), 0.14, 0.42, 1.55)]
    spots += [((0.098, y, -0.51), 0.05, 0.22, 1.35) for y in (-0.29, 0.37)]
    for centre, inner, outer, factor in spots:
        d = points - np.array(centre)
        t = np.clip((np.linalg.norm(d, axis=1) - inner) / (outer - inner), 0, 1)
        out += (factor - 1) * (1 - t * t * (3 - 2 * t))[:, None] * d
    out[points[:, 0] < 1e-9, 0] = 0
    return out


def rim_edges(faces: np.ndarray) -> np.ndarray:
    """Edges (E, 2) that belong to one face only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return unique[count == 1]


def split_rim(vertices: np.ndarray, faces: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """Halve rim edges until none is longer than `longest`; the remesher below keeps the rim as it finds it."""
    points, triangles = list(vertices), [tuple(f) for f in faces]
    owner = {
        tuple(sorted(e)): i for i, f in enumerate(triangles) for e in zip(f, (*f[1:], f[0]), strict=True)
    }
    queue = [tuple(sorted(map(int, e))) for e in rim_edges(faces)]
    while queue:
        edge = queue.pop()
        if np.linalg.norm(points[edge[0]] - points[edge[1]]) <= longest:
            continue
        face = triangles[owner[edge]]
        turn = next(i for i in range(3) if face[i] not in edge)
        apex, a, b = face[turn], face[(turn + 1) % 3], face[(turn + 2) % 3]
        middle = len(points)
        points.append((points[a] + points[b]) / 2)
        triangles[owner[edge]] = (apex, a, middle)
        triangles.append((apex, middle, b))
        first, second = owner[edge], len(triangles) - 1
        for pair, where in (
            ((a, middle), first),
            ((middle, b), second),
            ((apex, b), second),
            ((apex, a), first),
        ):
            # an inner edge's owner does not matter, a rim edge has only this one
            owner[tuple(sorted(pair))] = where
        queue += [tuple(sorted((a, middle))), tuple(sorted((middle, b)))]
    return np.array(points), np.array(triangles)


def even_mesh(vertices: np.ndarray, faces: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Isotropic remesh (Botsch & Kobbelt 2004) of the open half; its rim stays on x = 0."""
    import fast_simplification
    import gpytoolbox

    big = magnify(vertices)
    coarse, triangles = fast_simplification.simplify(
        big.astype(np.float32), faces.astype(np.int32), target_count=9000
    )
    coarse = coarse.astype(float)
    coarse[np.unique(rim_edges(triangles)), 0] = 0
    coarse, triangles = split_rim(coarse, triangles, 1.4 * edge)
    mesh, triangles = gpytoolbox.remesh_botsch(coarse, triangles.astype(np.int32), 15, edge, project=True)
    return onto_surface(mesh, big, faces, vertices), triangles.astype(int)


def onto_surface(
    points: np.ndarray, surface: np.ndarray, faces: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Carry per-vertex `values` (V, C) of a fine surface to points (N, 3) by their closest triangle."""
    centres = surface[faces].mean(1)
    _, near = cKDTree(centres).query(points, k=12)
    a, b, c = (surface[faces[near]][:, :, i] for i in range(3))  # (N, 12, 3)
    u, v, w = b - a, c - a, points[:, None] - a
    uu, uv, vv, wu, wv = ((x * y).sum(-1) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    det = np.maximum(uu * vv - uv * uv, 1e-18)
    s, t = (vv * wu - uv * wv) / det, (uu * wv - uv * wu) / det
    bary = np.clip(np.stack([1 - s - t, s, t], -1), 0, None)
    bary /= bary.sum(-1, keepdims=True)
    foot = np.einsum("nkb,nkbc->nkc", bary, surface[faces[near]])
    pick = np.linalg.norm(foot - points[:, None], axis=-1).argmin(1)
    rows = np.arange(len(points))
    return np.einsum("nb,nbc->nc", bary[rows, pick], values[faces[near[rows, pick]]])


def mirrored(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole mesh from its left half: vertices (V, 3), faces (F, 3) and the mirror image of each vertex (V,)."""
    rim = np.zeros(len(vertices), bool)
    rim[rim_edges(faces).ravel()] = True
    vertices = vertices.copy()
    vertices[rim, 0] = 0
    vertices[~rim, 0] = np.maximum(vertices[~rim, 0], 0.0006)
    other = np.arange(len(vertices))
    other[~rim] = len(vertices) + np.arange((~rim).sum())
    whole = np.concatenate([vertices, vertices[~rim] * [-1, 1, 1]])
    back = np.concatenate([other, np.nonzero(~rim)[0]])
    return whole, np.concatenate([faces, other[faces][:, ::-1]]), back


def build_surface(assets: Path, edge: float = 0.0235) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rest vertices (V, 3), faces (F, 3) and mirror map (V,) from the source models in `assets`."""
    fields = {}
    for name, source in SOURCES.items():
        vertices, faces, _ = load_source(assets / f"{name}.glb")
        fields[name] = signed_distance(onto_rest(vertices, faces, source), faces)
    field = blend(list(fields.values()), fields["Husky"])
    return mirrored(*even_mesh(*half_surface(field), edge))


__all__ = ["CHAINS", "TORSO", "build_surface", "joints", "load_source", "onto_rest", "side_of_joints"]
