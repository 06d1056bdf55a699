# SPDX-License-Identifier: GPL-3.0-or-later
"""The human surface: MakeHuman's characters in one rest pose, dressed, and thinned out to the body's mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ...core.mesh import vertex_normals
from ...core.rotation import rotvec_to_quat
from ...core.skeleton import skin_transforms
from .decimate import decimate
from .human_landmarks import MIRROR, MIXAMO, NAMES, skeleton, split
from .makehuman import Macro, MakeHuman
from .shape import mirrored

STATURE = 1.70
"""Metres; every character is brought to it, because one camera cannot tell a tall person from a near one."""
STRAIGHT = 0.85
"""Share of MakeHuman's bend of the elbow that the rest pose takes out."""
FLIP = np.array([-1.0, 1, 1])


def share(weights: np.ndarray, *bases: str) -> np.ndarray:
    """Summed weight (V,) of the joints, on either side, whose names without a side are `bases`."""
    return weights[:, [i for i, n in enumerate(NAMES) if split(n)[0] in bases]].sum(1)


def smoothstep(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(value, 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Fields:
    """Where the clothes and the hair are on the surface, each (V,) in 0…1."""

    torso: np.ndarray
    legs: np.ndarray
    shoes: np.ndarray
    hair: np.ndarray
    long_hair: np.ndarray


class Surface:
    """MakeHuman's body with all its vertices (N of the body group), in the rest pose, root at the origin."""

    def __init__(self, source: MakeHuman) -> None:
        self.source = source
        self.rows = np.unique(source.quads)
        number = np.full(len(source.base), -1)
        number[self.rows] = np.arange(len(self.rows))
        quads = number[source.quads]
        base = source.base[self.rows]
        tree = np.lexsort(np.round(base * [1, 1, 1], 6).T)
        order = np.lexsort(np.round(base * FLIP, 6).T)
        self.mirror = np.empty(len(base), int)
        self.mirror[order] = tree  # base.obj is exactly symmetric
        ends = [np.linalg.norm(base[quads[:, i]] - base[quads[:, i + 2]], axis=1) for i in (0, 1)]
        short = (ends[0] < ends[1] - 1e-9)[:, None]
        self.faces = np.concatenate(
            [np.where(short, quads[:, [0, 1, 2]], quads[:, [0, 1, 3]]),
             np.where(short, quads[:, [0, 2, 3]], quads[:, [1, 2, 3]])]
        )  # fmt: skip
        edges = np.concatenate([quads[:, [i, (i + 1) % 4]] for i in range(4)])
        ones = sp.coo_matrix((np.ones(len(edges)), edges.T), (len(base),) * 2).tocsr()
        ones = ((ones + ones.T) > 0).astype(float)
        self.average = sp.diags(1 / np.asarray(ones.sum(1)).ravel()) @ ones
        weights = source.weights({bone: NAMES.index(joint) for joint, bone in MIXAMO.items()}, len(NAMES))
        weights = weights[self.rows]
        self.weights = (weights + weights[self.mirror][:, MIRROR]) / 2
        self.turn = self._rest_turn()

    def _raw(self, macro: Macro) -> tuple[np.ndarray, np.ndarray]:
        everything = self.source.shape(macro)
        vertices = everything[self.rows]
        joints = np.stack([self.source.head(MIXAMO[n], everything) for n in NAMES])
        return (vertices + vertices[self.mirror] * FLIP) / 2, (joints + joints[MIRROR] * FLIP) / 2

    def _rest_turn(self) -> np.ndarray:
        """Joint rotations (1, J, 4) from MakeHuman's pose to ours: the forearms go on along the upper arms."""
        _, joints = self._raw(Macro())
        vectors = np.zeros((len(NAMES), 3))
        for side in "LR":
            upper, fore, hand = (joints[NAMES.index(f"{n}.{side}")] for n in ("upper_arm", "forearm", "hand"))
            a, b = (d / np.linalg.norm(d) for d in (hand - fore, fore - upper))
            axis = np.cross(a, b)
            angle = np.arctan2(np.linalg.norm(axis), a @ b)
            vectors[NAMES.index(f"forearm.{side}")] = axis / np.linalg.norm(axis) * angle * STRAIGHT
        return rotvec_to_quat(vectors)[None]

    def shape(self, macro: Macro) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (N, 3) and joints (J, 3) of a character in the rest pose, `STATURE` tall."""
        vertices, joints = self._raw(macro)
        transforms = skin_transforms(skeleton(), joints, self.turn)[0]
        blended = np.einsum("vj,jab->vab", self.weights, transforms)
        vertices = np.einsum("vab,vb->va", blended[:, :3, :3], vertices) + blended[:, :3, 3]
        joints = np.einsum("jab,jb->ja", transforms[:, :3, :3], joints) + transforms[:, :3, 3]
        scale = STATURE / np.ptp(vertices[:, 2])
        return (vertices - joints[0]) * scale, (joints - joints[0]) * scale

    def smooth(self, values: np.ndarray, times: int) -> np.ndarray:
        """Values (N, …) averaged over neighbours `times` times."""
        for _ in range(times):
            values = 0.5 * values + 0.5 * (self.average @ values)
        return values

    def fields(self, vertices: np.ndarray, joints: np.ndarray) -> Fields:
        """Where people wear what."""
        w, z = self.weights, vertices[:, 2]
        waist = smoothstep((z - 0.0) / 0.06)
        hips = share(w, "root")
        torso = share(w, "spine_1", "spine_2", "chest", "shoulder", "upper_arm", "forearm") + hips * waist
        legs = share(w, "thigh", "shin") + hips * (1 - waist)
        collar = smoothstep((z - joints[NAMES.index("neck"), 2] + 0.01) / 0.04)
        torso = torso * (1 - collar * (np.abs(vertices[:, 0]) < 0.12))
        ankle = joints[NAMES.index("foot.L"), 2]
        shoes = smoothstep((ankle + 0.05 - z) / 0.04)
        head = joints[NAMES.index("head")]
        top = vertices[:, 2].max()
        up = (z - head[2]) / (top - head[2])
        of_head = share(w, "head")
        front = vertices[of_head > 0.9, 1].min()
        back = vertices[of_head > 0.9, 1].max()
        ahead = np.clip((vertices[:, 1] - (front + back) / 2) / ((front - back) / 2), -1, 1)
        hair = of_head * smoothstep((up - 0.60 - 0.30 * ahead) / 0.10)
        behind = smoothstep((0.25 - ahead) / 0.5)
        long_hair = np.maximum(hair, behind * (of_head + share(w, "neck")).clip(0, 1))
        return Fields(
            *(np.clip(self.smooth(f, 3), 0, 1) for f in (torso, legs * (1 - shoes), shoes, hair, long_hair))
        )

    def outward(self, vertices: np.ndarray) -> np.ndarray:
        """Unit directions (N, 3) away from the body, without the wrinkles of its surface."""
        normals = self.smooth(vertex_normals(vertices, self.faces), 12)
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)

    def dressed(self, vertices: np.ndarray, fields: Fields) -> np.ndarray:
        """The mean body with thin clothes, shoes over the toes and short hair."""
        shod = self.smooth(vertices, 25)
        vertices = vertices + fields.shoes[:, None] * (shod - vertices)
        combed = self.smooth(vertices, 8)
        vertices = vertices + fields.hair[:, None] * (combed - vertices)
        depth = 0.010 * fields.torso + 0.008 * fields.legs + 0.012 * fields.shoes + 0.016 * fields.hair
        return vertices + self.outward(vertices) * depth[:, None]

    def hidden(self, vertices: np.ndarray) -> np.ndarray:
        """Vertices (N,) in the mouth, the eye sockets and the nostrils: seen from no side."""
        from ...core.raster import rasterize

        seen = np.zeros(len(self.faces), bool)
        for k in range(40):  # Fibonacci sphere
            height = 1 - (2 * k + 1) / 40
            a = k * np.pi * (3 - np.sqrt(5))
            r = np.sqrt(1 - height * height)
            toward = np.array([r * np.cos(a), r * np.sin(a), height])
            right = np.cross([0, 0, 1.0], toward)
            right /= np.linalg.norm(right)
            view = np.stack([right, -np.cross(toward, right), -toward])
            camera = vertices @ view.T
            pixels = np.concatenate([camera[:, :2] * 520 + 512, camera[:, 2:] + 10], 1)
            face = np.asarray(rasterize(pixels[None], self.faces, (1024, 1024)).face)
            seen[np.unique(face[face >= 0])] = True
        out = np.ones(len(vertices), bool)
        out[self.faces[seen].ravel()] = False
        return out

    def thin(self, vertices: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The body's mesh: vertices' numbers here (V,), faces (F, 3) among them, mirror vertex (V,)."""
        x = self.source.base[self.rows, 0][
            self.faces
        ]  # skin that meets skin may have crossed the middle since
        faces = self.faces[
            (x > -1e-7).all(1) & (x > 1e-7).any(1)
        ]  # a face in the middle is its own mirror image
        left, faces = np.unique(faces, return_inverse=True)
        faces = faces.reshape(-1, 3)
        importance = np.ones(len(vertices))
        importance *= 1 - 0.6 * share(self.weights, "hand") - 0.7 * share(self.weights, "foot", "toe")
        importance *= 1 - 0.3 * share(self.weights, "head")
        importance[self.hidden(vertices)] *= 0.02
        half = (count + 90) // 2
        keep, faces = decimate(vertices[left], faces, half, importance[left])
        keep = left[keep]
        whole, faces, back = mirrored(vertices[keep], faces)
        return np.concatenate([keep, self.mirror[keep[back[len(keep) :]]]]), faces, back


__all__ = ["FLIP", "STATURE", "Fields", "Surface", "share", "smoothstep"]
