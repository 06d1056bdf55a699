# SPDX-License-Identifier: GPL-3.0-or-later
"""The surface of the rig that a rendered clip shows, found again from the clip's labels."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...core.category import Category
from ...core.motion import Motion
from ...core.rotation import geodesic, quat_to_matrix
from ...core.skinning import linear_blend
from ..npz import read_npz
from .scene import TrueSurface

Array = np.ndarray
MAPPED = ("category", "scale", "morphology", "joint_rotations", "rig_from_root")
"""what a clip's labels are compared with"""
TOLERANCE = np.radians(1.5)  # mean joint angle up to which a pose counts as the labels'


@lru_cache(maxsize=32)
def _load(folder: Path, name: str) -> tuple[Any, dict[str, Array]] | None:
    """The baked rig in the category's units, and its mapping's arrays; None where either is missing."""
    from ..synth.rig import load_rig

    rig, mapping = folder / f"{name}.npz", folder / f"{name}.mapping.npz"
    if not (rig.exists() and mapping.exists()):
        return None
    arrays = read_npz(mapping, MAPPED, "run the command map again")
    return load_rig(rig).scaled(1 / float(arrays["scale"])), arrays


def rendered_rig(folder: Path, category: Category, true: Motion, meta: dict[str, Any]) -> TrueSurface | None:
    """The rig's own surface in each frame, camera space; None when no pose of the rig is that of the labels.

    A clip plays one of the rig's actions at some speed: every frame lies between two neighbouring poses. Rotations
    are compared to find between which, and where between them.
    """
    loaded = _load(folder, str(meta.get("rig")))
    if loaded is None:
        return None
    rig, mapping = loaded
    if str(mapping["category"]) != category.name or len(mapping["morphology"]) != len(true.morphology):
        return None
    if np.abs(mapping["morphology"] - true.morphology).max() > 1e-3:
        return None  # stretched, or mapped again since
    action = str(meta.get("action"))
    if action not in rig.clip_names:
        return None
    poses = rig.clip_slice(action)
    times = _times(mapping["joint_rotations"][poses], true.joint_rotations)
    if times is None:
        return None
    low = np.floor(times).astype(int)
    high = np.minimum(low + 1, poses.stop - poses.start - 1)
    share = (times - low)[:, None, None]
    index = np.concatenate([low, high]) + poses.start
    posed = linear_blend(rig.vertices, rig.skin_index, rig.skin_weight, rig.skin_transforms(index))
    posed = posed[: len(low)] * (1 - share) + posed[len(low) :] * share
    roots = mapping["rig_from_root"][index].astype(np.float64)
    root = roots[: len(low)] * (1 - share) + roots[len(low) :] * share
    u, _, vt = np.linalg.svd(root[:, :3, :3])
    root[:, :3, :3] = u @ vt
    world = true.camera_from_root @ np.linalg.inv(root)  # camera_from_rig
    placed = np.einsum("tij,tvj->tvi", world[:, :3, :3], posed) + world[:, None, :3, 3]
    return TrueSurface(list(placed), rig.faces, "rig")


def _times(known: Array, seen: Array) -> Array | None:
    """Fractional pose number (T,) of rotations (T, J, 4) among known ones (P, J, 4); None when they do not fit."""
    known, seen = known.astype(np.float64), seen.astype(np.float64)
    alike = np.abs(np.einsum("pjc,tjc->tpj", known, seen)).sum(-1)  # (T, P), J where all are the same
    nearest = alike.argmax(1)
    found = np.empty(len(seen))
    for t, n in enumerate(nearest):
        best = (np.inf, float(n))
        for a in {max(n - 1, 0), min(n, len(known) - 1)}:
            b = min(a + 1, len(known) - 1)
            for share in np.linspace(0, 1, 21) if b > a else (0.0,):
                mixed = known[a] * (1 - share) + known[b] * np.where(
                    (known[a] * known[b]).sum(-1, keepdims=True) < 0, -share, share
                )
                error = float(geodesic(quat_to_matrix(mixed), quat_to_matrix(seen[t])).mean())
                best = min(best, (error, a + float(share)))
        if best[0] > TOLERANCE:
            return None
        found[t] = best[1]
    return found
