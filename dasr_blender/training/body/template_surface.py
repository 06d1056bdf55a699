# SPDX-License-Identifier: GPL-3.0-or-later
"""The skin of a skeleton template: tapered, rounded bones with elliptic cross-sections, smoothly joined and meshed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shape import mirrored, onto_surface, rim_edges, split_rim
from .tree import Tree

FILLET = (0.05, 0.3)
"""Width of the blend with the flesh before it, as a share of the thinner one's radius: of what goes on, where a wide
one would bulge, and of what stands off."""


@dataclass(frozen=True, eq=False)
class Bone:
    """A piece of flesh that hangs on a joint, from a to b ``(3,)``, with half-axes ``(2,)`` at either end, metres."""

    joint: int
    a: np.ndarray
    b: np.ndarray
    start: np.ndarray
    end: np.ndarray
    fillet: float = FILLET[0]

    @property
    def axes(self) -> np.ndarray:
        """Rows (3, 3): the first half-axis (along X, or Y for a bone along X), the second, and the bone."""
        along = self.b - self.a
        along = along / max(float(np.linalg.norm(along)), 1e-12)
        first = np.array([0.0, 1, 0]) if abs(along[0]) > 0.8 else np.array([1.0, 0, 0])
        first = first - (first @ along) * along
        first /= np.linalg.norm(first)
        return np.stack([first, np.cross(along, first), along])


def bones(tree: Tree) -> list[Bone]:
    """Flesh of every joint: to each child and to its tip. A limb does not make its root's flesh thinner or thicker:
    between them there is only a bridge as thick as the limb."""
    skeleton, found = tree.skeleton, []
    for j in range(len(skeleton)):
        here, radius, sided = tree.joints[j], tree.radius[j], skeleton.mirror[j] != j
        fillet = FILLET[int(sided or skeleton.roles[j] == "limb")]
        children = skeleton.children(j)
        for c in children:
            continues = (sided or skeleton.mirror[c] == c) and (
                skeleton.roles[c] != "limb" or skeleton.roles[j] == "limb"
            )
            start = radius if continues else tree.radius[c]
            found.append(Bone(j, here, tree.joints[c], start, tree.radius[c], fillet))
        end = free_end(tree, j)
        if not np.isnan(tree.tip[j]).any() or not children:
            found.append(Bone(j, here, end, radius, tree.tip_radius[j], fillet))
    return sorted(found, key=lambda part: part.fillet)


def free_end(tree: Tree, j: int) -> np.ndarray:
    """Where a joint's flesh ends (3,): its tip, or as far beyond the joint as the flesh is thick."""
    if not np.isnan(tree.tip[j]).any():
        return tree.tip[j]
    parent = int(tree.skeleton.parents[j])
    along = tree.joints[j] - tree.joints[parent] if parent >= 0 else np.array([0.0, -1, 0])
    return tree.joints[j] + along / max(float(np.linalg.norm(along)), 1e-9) * tree.radius[j].mean()


def distance(bone: Bone, points: np.ndarray, least: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """About how far points (N, 3) are outside of a bone's flesh, and how thick the flesh is there, (N,) both.

    To first order, |p/r| (|p/r| − 1) / |p/r²| of an ellipsoid; least: half-axes are at least this long.
    """
    d = bone.b - bone.a
    share = np.clip((points - bone.a) @ d / max(float(d @ d), 1e-12), 0, 1)
    local = (points - bone.a - share[:, None] * d) @ bone.axes.T
    across = np.maximum(bone.start + share[:, None] * (bone.end - bone.start), least)
    thin = across.min(1)
    half = np.concatenate([across, thin[:, None]], 1)
    scaled = np.linalg.norm(local / half, axis=1)
    slope = np.linalg.norm(local / half**2, axis=1)
    return np.where(slope > 1e-9, scaled * (scaled - 1) / np.maximum(slope, 1e-9), -thin), thin


def smooth_union(
    a: np.ndarray, b: np.ndarray, thick_a: np.ndarray, thick_b: np.ndarray, fillet: float
) -> tuple[np.ndarray, np.ndarray]:
    """Polynomial smooth minimum of two distances, and how thick what is nearer is."""
    width = fillet * np.minimum(thick_a, thick_b)
    h = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b + h * (a - b) - width * h * (1 - h), np.where(a < b, thick_a, thick_b)


def half_field(parts: list[Bone]) -> tuple[np.ndarray, np.ndarray, float]:
    """Distance on a grid of the left half (x ≥ 0), its lower corner (3,), and the size of its cells, metres."""
    reach = max(float(np.maximum(p.start, p.end).max()) for p in parts)
    ends = np.concatenate([np.stack([p.a, p.b]) for p in parts])
    low, high = ends.min(0) - reach, ends.max(0) + reach
    low[0] = 0.0
    thinnest = min(float(np.minimum(p.start, p.end).min()) for p in parts)
    longest = float((high - low).max())
    cell = float(np.clip(thinnest / 1.5, longest / 240, longest / 110))
    low[1:] -= 2 * cell
    shape = np.ceil((high - low) / cell).astype(int) + 3
    field = np.full(shape, reach)
    thick = np.full(shape, reach)
    for part in parts:
        grow = float(np.maximum(part.start, part.end).max()) * 1.3 + 3 * cell
        box = [np.minimum(part.a, part.b) - grow, np.maximum(part.a, part.b) + grow]
        first = np.clip(np.floor((box[0] - low) / cell).astype(int), 0, shape)
        last = np.clip(np.ceil((box[1] - low) / cell).astype(int) + 1, 0, shape)
        if np.any(first >= last):
            continue  # it lies in the other half
        where = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        axes = [low[i] + cell * np.arange(first[i], last[i]) for i in range(3)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        there, how = (v.reshape(points.shape[:3]) for v in distance(part, points.reshape(-1, 3), 1.1 * cell))
        field[where], thick[where] = smooth_union(field[where], there, thick[where], how, part.fillet)
    return field, low, cell


def half_mesh(field: np.ndarray, low: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Fine mesh of the left half, open at x = 0; only its largest piece."""
    from scipy import ndimage
    from skimage.measure import label, marching_cubes

    pieces = np.asarray(label(field < 0))
    largest = int(np.bincount(pieces.ravel())[1:].argmax()) + 1
    own = ndimage.binary_dilation(pieces == largest, iterations=2)
    vertices, faces, _, _ = marching_cubes(np.where(own, field, cell), 0.0, spacing=(cell,) * 3)
    vertices = vertices + low
    _, first, weld = np.unique(np.round(vertices / cell, 3), axis=0, return_index=True, return_inverse=True)
    faces = weld.reshape(-1)[faces]
    return vertices[first], faces[(faces != np.roll(faces, 1, axis=1)).all(1)]


def template_surface(tree: Tree, count: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """About `count` rest vertices (V, 3), faces (F, 3) and the mirror image of each vertex (V,): closed, symmetric.

    Raises ValueError when the flesh does not cross the middle.
    """
    import fast_simplification
    import gpytoolbox

    fine, faces = half_mesh(*half_field(bones(tree)))
    rim = np.unique(rim_edges(faces))
    if not len(rim) or np.abs(fine[rim, 0]).max() > 1e-6:
        raise ValueError("the body must cross the plane x = 0 and lie within it as one piece")
    coarse, triangles, *_ = fast_simplification.simplify(
        fine.astype(np.float64), faces.astype(np.int32), target_count=min(len(faces), 5 * count)
    )
    coarse = np.array(coarse, np.float64)
    coarse[np.unique(rim_edges(triangles)), 0] = 0
    corners = coarse[triangles]
    area = (
        0.5
        * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    )
    edge = float(np.sqrt(area / (0.433 * count)))  # equilateral triangles, twice as many as vertices
    coarse, triangles = split_rim(coarse, triangles, 1.4 * edge)
    mesh, triangles = gpytoolbox.remesh_botsch(coarse, triangles.astype(np.int32), 12, edge, project=True)
    return mirrored(onto_surface(mesh, fine, faces, fine), triangles.astype(int))
