# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer vertices by half-edge collapse: what is left is a subset, so targets and weights stay exact.

Garland & Heckbert, "Surface Simplification Using Quadric Error Metrics", SIGGRAPH 1997, with every collapse
onto one of the edge's own ends. The open rim (the body's middle line) stays closed under mirroring.
"""

from __future__ import annotations

import heapq

import numpy as np

LENGTH = 0.003
"""Weight of an edge's squared length beside its quadric error: keeps triangles even where the skin is flat."""


def decimate(
    vertices: np.ndarray, faces: np.ndarray, count: int, importance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Collapse the half body to about `count` vertices.

    vertices (V, 3); faces (F, 3), a manifold whose open rim is the middle line; importance (V,) scales the
    cost of removing a vertex. Returns the kept vertices' numbers (C,) and faces (G, 3) among the kept.
    """
    return _Collapse(vertices, faces, importance).run(count)


class _Collapse:
    def __init__(self, vertices: np.ndarray, faces: np.ndarray, importance: np.ndarray) -> None:
        self.vertices, self.importance = vertices, importance
        self.faces = {i: tuple(int(v) for v in f) for i, f in enumerate(faces)}
        self.around: list[set[int]] = [set() for _ in vertices]
        for i, face in self.faces.items():
            for v in face:
                self.around[v].add(i)
        self.quadrics = self._quadrics(faces)
        self.rim = np.zeros(len(vertices), bool)
        for a, b in self._rim_edges(faces):
            self.rim[[a, b]] = True
            # A plane through the rim's edge, upright on the mirror plane, holds the outline of the middle.
            edge = vertices[b] - vertices[a]
            plane = np.cross(edge, [1.0, 0, 0])
            plane = plane / max(np.linalg.norm(plane), 1e-12)
            p = np.append(plane, -plane @ vertices[a])
            self.quadrics[[a, b]] += 2 * (edge @ edge) * np.outer(p, p)

    @staticmethod
    def _rim_edges(faces: np.ndarray) -> np.ndarray:
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        unique, times = np.unique(edges, axis=0, return_counts=True)
        return unique[times == 1]

    def _quadrics(self, faces: np.ndarray) -> np.ndarray:
        a, b, c = (self.vertices[faces[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        double = np.linalg.norm(normal, axis=1, keepdims=True)
        normal = normal / np.maximum(double, 1e-12)
        plane = np.concatenate([normal, -(normal * a).sum(1, keepdims=True)], 1)
        each = double[:, :, None] / 6 * plane[:, :, None] * plane[:, None]
        out = np.zeros((len(self.vertices), 4, 4))
        for i in range(3):
            np.add.at(out, faces[:, i], each)
        return out

    def _neighbours(self, v: int) -> set[int]:
        return {w for f in self.around[v] for w in self.faces[f]} - {v}

    def _cost(self, gone: int, kept: int) -> float:
        point = np.append(self.vertices[kept], 1.0)
        edge = self.vertices[kept] - self.vertices[gone]
        area = self.quadrics[gone][:3, :3].trace()
        error = point @ self.quadrics[gone] @ point + LENGTH * area * (edge @ edge)
        return float(error * self.importance[gone])

    def _allowed(self, gone: int, kept: int) -> bool:
        mine, other = self._neighbours(gone), self._neighbours(kept)
        shared = mine & other
        together = self.around[gone] & self.around[kept]
        if self.rim[gone] and (not self.rim[kept] or len(together) != 1):
            return False
        if len(shared) != len(together) or len(together) not in (1, 2):
            return False
        if self.rim[kept] and any(self.rim[n] for n in mine - other - {kept}) and not self.rim[gone]:
            return False  # it would tie two vertices of the middle line across the surface
        if any(len(self.around[n]) <= (2 if self.rim[n] else 3) for n in shared):
            return False  # its last faces would lie on each other
        for f in self.around[gone] - together:
            corners = [kept if v == gone else v for v in self.faces[f]]
            if self.rim[corners].all():
                return False  # its mirror image would be itself
            before, after = self.vertices[list(self.faces[f])], self.vertices[corners]
            n0, n1 = (np.cross(p[1] - p[0], p[2] - p[0]) for p in (before, after))
            longest = max(((after - np.roll(after, 1, 0)) ** 2).sum(1))
            if n0 @ n1 < 0.3 * np.linalg.norm(n0) * np.linalg.norm(n1) or np.linalg.norm(n1) < 0.08 * longest:
                return False
        return True

    def run(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        alive = np.ones(len(self.vertices), bool)
        stamp = np.zeros(len(self.vertices), int)
        heap: list[tuple[float, int, int, int, int]] = []

        def push(v: int) -> None:
            for n in self._neighbours(v):
                for gone, kept in ((v, n), (n, v)):
                    item = (self._cost(gone, kept), gone, kept, int(stamp[gone]), int(stamp[kept]))
                    heapq.heappush(heap, item)

        for v in range(len(self.vertices)):
            push(v)
        left = len(self.vertices)
        while heap and left > count:
            _, gone, kept, a, b = heapq.heappop(heap)
            if not (alive[gone] and alive[kept]) or stamp[gone] != a or stamp[kept] != b:
                continue
            if not self._allowed(gone, kept):
                continue
            touched = self._neighbours(gone)
            for f in list(self.around[gone]):
                face = self.faces[f]
                if kept in face:
                    for v in face:
                        self.around[v].discard(f)
                    del self.faces[f]
                else:
                    self.faces[f] = tuple(kept if v == gone else v for v in face)  # type: ignore[assignment]
                    self.around[kept].add(f)
            self.around[gone].clear()
            self.quadrics[kept] += self.quadrics[gone]
            alive[gone] = False
            left -= 1
            for v in touched:
                stamp[v] += 1
            for v in touched:
                push(v)
        keep = np.flatnonzero(alive)
        number = np.full(len(alive), -1)
        number[keep] = np.arange(len(keep))
        return keep, number[np.array(list(self.faces.values()))]
