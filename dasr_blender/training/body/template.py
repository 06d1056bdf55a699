# SPDX-License-Identifier: GPL-3.0-or-later
"""A category from nothing but a skeleton template: body, skin, proportions and colours, all from the tree.

Proportions are the length and the girth of the trunk and of every chain that hangs on it (a tail, a pair of fins).
As in `morphology`, a coefficient stretches bones by ΔS about their joints, children follow their parents, and the skin
follows the bones with blurred weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core import Body, Category, CategoryError, Proportion
from ...core.mesh import vertex_normals
from .appearance import orthogonal
from .bundle import network, unwrap
from .template_surface import bones, free_end, template_surface
from .tree import Tree, read_tree
from .weights import diffuse, heat_weights, keep_four

MOST = 12
"""proportions of a category"""
RANGE, SPREAD = (-0.45, 0.7), 0.2
"""A proportion's lowest and highest value and its standard deviation, as fractions of change: a template is a guess."""


@dataclass(frozen=True)
class Group:
    """A chain of joints of one role, with its twin of the other side. joints: their numbers."""

    name: str
    joints: tuple[int, ...]
    trunk: bool = False


def groups(tree: Tree) -> list[Group]:
    """The trunk (root and spine) as 'body', then every other chain, named after its first joint."""
    skeleton = tree.skeleton
    trunk = [j for j, role in enumerate(skeleton.roles) if role in ("root", "spine")]
    chains: dict[int, list[int]] = {}
    for j, role in enumerate(skeleton.roles):
        if j in trunk:
            continue
        top = j
        while skeleton.roles[int(skeleton.parents[top])] == role:
            top = int(skeleton.parents[top])
        chains.setdefault(min(top, int(skeleton.mirror[top])), []).append(j)
    found, taken = [Group("body", tuple(trunk), trunk=True)], {"body"}
    for top, chain in sorted(chains.items()):
        stem = re.sub(r"[._-]?\d+$", "", re.sub(r"[._-][LR]$", "", skeleton.names[top])).lower() or "part"
        name = stem if stem not in taken else f"{stem}_{top}"
        taken.add(name)
        found.append(Group(name, tuple(chain)))
    return found


def _axis(tree: Tree, j: int) -> np.ndarray:
    """Unit direction (3,) of a joint's bone: to the children that go on from it, or to its free end."""
    same = [c for c in tree.skeleton.children(j) if tree.skeleton.roles[c] == tree.skeleton.roles[j]]
    end = tree.joints[same].mean(0) if same else free_end(tree, j)
    along = end - tree.joints[j]
    return along / max(float(np.linalg.norm(along)), 1e-9)


def _trunk_axis(tree: Tree, trunk: tuple[int, ...]) -> np.ndarray:
    """Unit direction (3,) in which the trunk, with what continues it, is longest."""
    skeleton = tree.skeleton
    near = {*trunk, *(c for j in trunk for c in skeleton.children(j) if skeleton.mirror[c] == c)}
    points = tree.joints[sorted(near)]
    if len(points) < 2:
        return np.array([0.0, 1, 0])
    return np.linalg.svd(points - points.mean(0))[2][0]


def proportions(
    tree: Tree, vertices: np.ndarray, weights: np.ndarray, area: np.ndarray
) -> tuple[list[Proportion], np.ndarray, np.ndarray]:
    """Named proportions, and their bases of vertices (K, V, 3) and joints (K, J, 3).

    weights (V, J) are the blurred skin weights; area (V,) says which chains matter when there are more than fit.
    """
    skeleton, eye = tree.skeleton, np.eye(3)
    chains = groups(tree)
    size = [float(area @ weights[:, list(g.joints)].sum(1)) for g in chains]
    kept = sorted(range(len(chains)), key=lambda i: (not chains[i].trunk, -size[i]))[: MOST // 2]
    trunk_axis = _trunk_axis(tree, chains[0].joints)
    names, of_vertices, of_joints = [], [], []
    for group in (chains[i] for i in sorted(kept)):
        for kind in ("length", "girth"):
            change = np.zeros((len(skeleton), 3, 3))
            for j in group.joints:
                axis = trunk_axis if group.trunk else _axis(tree, j)
                along = np.outer(axis, axis)
                change[j] = along if kind == "length" else eye - along
            moved = np.zeros_like(tree.joints)
            for j in range(1, len(skeleton)):
                above = int(skeleton.parents[j])
                moved[j] = moved[above] + change[above] @ (tree.joints[j] - tree.joints[above])
            local = moved[None] + np.einsum("jab,vjb->vja", change, vertices[:, None] - tree.joints[None])
            name = f"{group.name}_{kind}"
            names.append(Proportion(name, name.replace("_", " ").capitalize(), *RANGE))
            of_vertices.append(np.einsum("vj,vja->va", weights, local))
            of_joints.append(moved)
    return names, np.stack(of_vertices), np.stack(of_joints)


def coat(
    tree: Tree, vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours (V, 3), grey with a light belly, and eight directions (8, V, 3) in which coats differ."""
    up = vertex_normals(vertices, faces)[:, 2]
    mean = np.clip(0.5 - 0.22 * up, 0, 1)[:, None] * np.array([1.0, 0.97, 0.93])
    grey, warm = np.ones(3), np.array([1.0, 0.1, -0.9])
    length = max(float(np.ptp(vertices, axis=0).max()), 1e-9)
    x, y, z = np.abs(vertices[:, 0]) / length, vertices[:, 1] / length, vertices[:, 2] / length
    ends = np.array([role in ("limb", "head", "tail") for role in tree.skeleton.roles])
    heads = np.array([role == "head" for role in tree.skeleton.roles])
    fields = (
        (np.ones_like(y), grey),
        (np.ones_like(y), warm),
        (up, grey),
        (up, warm),
        (weights @ ends + 1e-3 * y, grey),
        (weights @ heads + 1e-3 * z, grey),
        (np.sin(12 * y + 1.0) * np.cos(10 * z + 18 * x), grey),
        (np.sin(7 * y), grey),
    )
    return mean, orthogonal(fields, len(vertices))


def template_body(tree: Tree, count: int = 2000) -> tuple[Body, list[Proportion]]:
    """The body of a template with about `count` vertices, and its proportions.

    Raises CategoryError when the flesh is not one piece, or a joint has no skin to move.
    """
    skeleton = tree.skeleton
    try:
        vertices, faces, mirror = template_surface(tree, count)
    except ValueError as error:
        raise CategoryError(f"The template's body cannot be made: {error}.") from None
    length = float(np.ptp(vertices, axis=0).max())
    side = np.sign(np.where(skeleton.mirror == np.arange(len(skeleton)), 0, tree.joints[:, 0]))
    parts = [(part.joint, part.a, part.b) for part in bones(tree)]
    weights = heat_weights(vertices, faces, parts, len(skeleton), 1.0, side)
    weights = (weights + weights[mirror][:, skeleton.mirror]) / 2
    skin = diffuse(weights, vertices, faces, 6e-5 * length**2)
    idle = [n for j, n in enumerate(skeleton.names) if j and skin[:, j].max() < 0.3]
    if idle:
        raise CategoryError(
            f"The joint '{idle[0]}' has no skin of its own: move it away from its neighbours, or give it a tip."
        )
    index, top = keep_four((skin + skin[mirror][:, skeleton.mirror]) / 2)
    soft = diffuse(weights, vertices, faces, 4e-4 * length**2)
    soft = (soft + soft[mirror][:, skeleton.mirror]) / 2
    corners = vertices[faces]
    double = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    area = np.bincount(faces.ravel(), np.repeat(double / 6, 3), len(vertices))
    names, of_vertices, of_joints = proportions(tree, vertices, soft, area)
    flip = np.array([-1.0, 1, 1])
    of_vertices = (of_vertices + of_vertices[:, mirror] * flip) / 2
    of_joints = (of_joints + of_joints[:, skeleton.mirror] * flip) / 2
    colours, directions = coat(tree, vertices, faces, weights)
    body = Body(
        vertices=vertices,
        faces=faces,
        skin_index=index,
        skin_weight=top,
        joints=tree.joints,
        morphology_vertices=of_vertices,
        morphology_joints=of_joints,
        morphology_std=np.full(len(names), SPREAD),
        appearance_mean=(colours + colours[mirror]) / 2,
        appearance_basis=(directions + directions[:, mirror]) / 2,
        uv=unwrap(vertices, faces, np.tile(np.arange(len(faces) // 2), 2)),
        mirror_vertex=mirror,
    )
    return body, names


def template_category(name: str, skeleton: Path, count: int = 2000) -> Category:
    """The category `name` of the template in a JSON file, without a network. Raises CategoryError."""
    tree = read_tree(skeleton)
    try:
        body, names = template_body(tree, count)
    except CategoryError as error:
        raise CategoryError(f"{skeleton}: {error}") from None
    trunk = tree.joints[list(groups(tree)[0].joints)]
    length = float(np.ptp(body.vertices, axis=0).max())
    bone_names = {n: n[0].upper() + n[1:] for n in tree.skeleton.names}
    return Category(
        name=name,
        version="0.1.0",
        licence=tree.licence,
        credits=tree.credits,
        skeleton=tree.skeleton,
        profiles={"neutral": bone_names, "rigify": {n: n for n in tree.skeleton.names}},
        morphology=tuple(names),
        nominal_size=max(float(np.ptp(trunk, axis=0).max()), 0.4 * length),
        network=network(len(tree.skeleton), len(names)),
        training={},
        body=body,
    )
