# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds neighbouring vertices of a mesh together."""

from __future__ import annotations

import numpy as np
from scipy import sparse

Array = np.ndarray


def stiffness(vertices: Array, faces: Array) -> sparse.csr_matrix:
    """The graph Laplacian ``(V, V)`` of the mesh, edges weighted by the mean length over their own."""
    ends = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    length = np.linalg.norm(np.diff(vertices[ends], axis=1)[:, 0].astype(np.float64), axis=1)
    weight = length.mean() / np.maximum(length, 0.2 * length.mean())
    count = len(vertices)
    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    joined = sparse.csr_matrix((np.tile(weight, 2), (rows, columns)), (count, count))
    return sparse.csr_matrix(sparse.diags(np.asarray(joined.sum(1)).ravel()) - joined)
