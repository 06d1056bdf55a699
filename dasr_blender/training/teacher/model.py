# SPDX-License-Identifier: GPL-3.0-or-later
"""A model ready to learn: started from the category's body and from where the clips' poses are."""

from __future__ import annotations

import numpy as np
import torch

from ...core.category import Category
from .clips import TeacherClip
from .config import FieldConfig
from .fields import Canonical, Morphology
from .frames import Frames
from .render import Model
from .rig import Poses, Shape
from .skinning import GaussianBones

Array = np.ndarray

PROXIES = 320


def make_model(
    category: Category,
    clips: list[TeacherClip],
    frames: Frames,
    morphology: Array,
    relief: Array | None,
    config: FieldConfig,
    subjects: int = 1,
) -> Model:
    """The model at its start: the body at morphology (K,) and relief (V,), posed as the clips say.

    subjects: how many have proportions of their own; those of one that no clip shows stay as they are.
    """
    torch.manual_seed(config.seed)
    canonical = Canonical(category, morphology, relief, config, len(clips))
    gaussians = GaussianBones(category, morphology)
    gaussians.fit_residual(category, morphology, seed=config.seed)
    vertices, _ = category.body.shaped(morphology, relief)
    chosen = np.linspace(0, len(vertices) - 1, min(PROXIES, len(vertices))).round().astype(int)
    told = torch.tensor(vertices, dtype=torch.float32)
    model = Model(
        config,
        canonical,
        Morphology(category, morphology, canonical.box, config, subjects),
        gaussians,
        Shape(category, morphology, subjects, len(clips)),
        Poses(clips, frames.rows),
        told[chosen].clone(),
        told,
    )
    with torch.no_grad():
        model.skin_start = gaussians.added(model.proxies).clone()
    model.refresh()
    return model
