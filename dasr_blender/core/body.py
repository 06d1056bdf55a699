# SPDX-License-Identifier: GPL-3.0-or-later
"""A category's body: one mesh, its skin, and the linear bases of its shape and colour."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from .mesh import vertex_normals
from .skinning import strongest_joint

Array = np.ndarray

INFLUENCES = 4

# field: (dtype, shape in terms of V, F, J, K, A)
LAYOUT: dict[str, tuple[type, tuple[str | int, ...]]] = {
    "vertices": (np.float32, ("V", 3)),
    "faces": (np.int32, ("F", 3)),
    "skin_index": (np.int32, ("V", INFLUENCES)),
    "skin_weight": (np.float32, ("V", INFLUENCES)),
    "joints": (np.float32, ("J", 3)),
    "morphology_vertices": (np.float32, ("K", "V", 3)),
    "morphology_joints": (np.float32, ("K", "J", 3)),
    "morphology_std": (np.float32, ("K",)),
    "appearance_mean": (np.float32, ("V", 3)),
    "appearance_basis": (np.float32, ("A", "V", 3)),
    "uv": (np.float32, ("F", 3, 2)),
    "mirror_vertex": (np.int32, ("V",)),
}


@dataclass(eq=False)
class Body:
    """The arrays of ``body.npz``; metres, in body space with the root joint at the origin.

    vertices ``(V, 3)``; faces ``(F, 3)``; skin_index and skin_weight ``(V, 4)``, weights sum to 1;
    joints ``(J, 3)``; morphology_vertices ``(K, V, 3)``, morphology_joints ``(K, J, 3)`` and
    morphology_std ``(K,)``; appearance_mean ``(V, 3)`` RGB 0…1 and appearance_basis ``(A, V, 3)``;
    uv ``(F, 3, 2)`` per face corner; mirror_vertex ``(V,)``, the vertex on the other side.
    """

    vertices: Array
    faces: Array
    skin_index: Array
    skin_weight: Array
    joints: Array
    morphology_vertices: Array
    morphology_joints: Array
    morphology_std: Array
    appearance_mean: Array
    appearance_basis: Array
    uv: Array
    mirror_vertex: Array

    def __post_init__(self) -> None:
        for name, (dtype, _) in LAYOUT.items():
            setattr(self, name, np.asarray(getattr(self, name), dtype=dtype))

    def shaped(self, beta: Array | None = None, relief: Array | None = None) -> tuple[Array, Array]:
        """Rest vertices ``(V, 3)`` and joints ``(J, 3)``, float64, at the morphology `beta` ``(K,)``.

        relief: how far every vertex is raised along the mean body's normals beside that, ``(V,)`` metres; None or
        nothing ``(0,)`` for not at all.  Raises ValueError for a morphology of another length.
        """
        vertices, joints = self.vertices.astype(np.float64), self.joints.astype(np.float64)
        if beta is not None:
            beta = np.asarray(beta, dtype=np.float64)
            if beta.shape != self.morphology_std.shape:
                raise ValueError(f"a morphology of this body is {self.morphology_std.shape}, not {beta.shape}")
            vertices = vertices + np.tensordot(beta, self.morphology_vertices, axes=1)
            joints = joints + np.tensordot(beta, self.morphology_joints, axes=1)
        if relief is not None and len(relief):
            vertices = vertices + self.raised(relief)
        return vertices, joints

    def raised(self, relief: Array) -> Array:
        """The offsets ``(V, 3)`` of a relief ``(V,)``, metres."""
        return np.asarray(relief, np.float64)[:, None] * self.normals

    @cached_property
    def normals(self) -> Array:
        """Unit normals of the mean body at rest, ``(V, 3)`` float64."""
        return vertex_normals(self.vertices.astype(np.float64), self.faces)

    @property
    def morphology_scale(self) -> Array:
        """The proportions' standard deviations ``(K,)`` float64, none so small that dividing by it makes no sense."""
        return np.maximum(self.morphology_std.astype(np.float64), 1e-4)

    @property
    def owner(self) -> Array:
        """The joint with the most weight at each vertex, ``(V,)``."""
        return strongest_joint(self.skin_index, self.skin_weight)

    def colours(self, appearance: Array | None = None) -> Array:
        """Vertex colours ``(V, 3)`` in 0…1 at the appearance code ``(A,)``."""
        colours = self.appearance_mean.astype(np.float64)
        if appearance is not None and len(appearance):
            colours = colours + np.tensordot(
                np.asarray(appearance, np.float64), self.appearance_basis, axes=1
            )
        return np.clip(colours, 0, 1)

    def problem(self) -> tuple[str, str] | None:
        """The first thing wrong as (field, what), or None."""
        sizes: dict[str, int] = {}
        for name in (f.name for f in fields(self)):
            array, (_, layout) = getattr(self, name), LAYOUT[name]
            if array.ndim != len(layout):
                return name, f"has {array.ndim} dimensions instead of {len(layout)}"
            for length, expected in zip(array.shape, layout, strict=True):
                wanted = expected if isinstance(expected, int) else sizes.setdefault(expected, length)
                if length != wanted:
                    return name, f"has the shape {array.shape} where {expected} should be {wanted}"
            if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
                return name, "holds a value that is not finite"
        if not (sizes["V"] and sizes["F"] and sizes["J"]):
            return "vertices", "is a body without vertices, faces or joints"
        for name, limit in (("faces", "V"), ("skin_index", "J"), ("mirror_vertex", "V")):
            array = getattr(self, name)
            if array.min() < 0 or array.max() >= sizes[limit]:
                return name, f"holds a number outside 0…{sizes[limit] - 1}"
        if self.skin_weight.min() < 0:
            return "skin_weight", "holds a negative weight"
        if np.abs(self.skin_weight.sum(axis=1) - 1).max() > 1e-3:
            return "skin_weight", "does not sum to 1 at every vertex"
        if np.any(self.morphology_std < 0):
            return "morphology_std", "holds a negative value"
        if np.abs(self.joints[0]).max() > 1e-5:
            return "joints", "does not have the root joint at the origin"
        if self.morphology_joints.size and np.abs(self.morphology_joints[:, 0]).max() > 1e-5:
            return "morphology_joints", "moves the root joint, which must stay at the origin"
        return None
