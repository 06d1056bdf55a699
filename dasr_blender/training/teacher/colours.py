# SPDX-License-Identifier: GPL-3.0-or-later
"""The colours of a subject's surface, read off the frames that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.category import Category
from ...predict import View, bake_texture, clip_views
from .clips import TeacherClip

Array = np.ndarray


def vertex_colours(
    category: Category, clips: Sequence[TeacherClip], morphology: Array, relief: Array
) -> Array:
    """Colours ``(V, 3)`` in 0…1 of what the clips' used frames show: those of the subject's texture.

    morphology ``(K,)``, relief ``(V,)`` metres: the shape in place of the clips' own.
    """
    views = [view for clip in clips for view in _views(clip, morphology, relief)]
    return bake_texture(category, views).colours if views else category.body.colours()


def _views(clip: TeacherClip, morphology: Array, relief: Array) -> list[View]:
    scene = clip.scene
    return clip_views(
        replace(clip.motion, morphology=morphology, relief=relief),
        lambda i: scene.frames[i],
        lambda i: scene.masks[i] > 127,
        sure=clip.quality,
    )


def appearance_code(category: Category, colours: Array, ridge: float = 1e-3) -> Array:
    """The code ``(A,)`` whose colours are nearest to the ones given ``(V, 3)``, by least squares.

    ridge: how much it is held near 0, as a share of the basis's own size.
    """
    body = category.body
    basis = body.appearance_basis.reshape(len(body.appearance_basis), -1).astype(np.float64)
    if not len(basis):
        return np.zeros(0)
    gram = basis @ basis.T
    hold = ridge * max(float(np.trace(gram)) / len(gram), 1e-12) * np.eye(len(gram))
    return np.linalg.solve(gram + hold, basis @ (colours - body.appearance_mean).ravel())
