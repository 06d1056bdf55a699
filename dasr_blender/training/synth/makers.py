# SPDX-License-Identifier: GPL-3.0-or-later
"""Who makes the subjects of a category's clips: chosen by its skeleton, so that the clip maker knows no animals.

A maker is two functions: `rigs(config, category)` loads, once a worker, whatever moving characters the split may
show; `subject(rng, config, category, rigs)` draws one posed and labelled subject of `config.frames` frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.category import Category
from ..errors import TrainingError
from .camera import CameraConfig
from .subjects import Subject, rig_subject

if TYPE_CHECKING:
    from .clips import SynthConfig


@dataclass(frozen=True)
class Film:
    """How a category is filmed: picture sizes (width, height) px with their shares, and the camera's habits."""

    sizes: tuple[tuple[int, int], ...] = ((320, 240), (320, 180), (288, 192), (256, 256), (192, 256))
    size_shares: tuple[float, ...] = (0.3, 0.35, 0.15, 0.1, 0.1)
    camera: CameraConfig = CameraConfig()


PEOPLE = Film(
    sizes=((180, 320), (192, 256), (240, 240), (320, 240), (320, 180)),
    size_shares=(0.3, 0.2, 0.15, 0.15, 0.2),
    camera=CameraConfig(
        pitch_common=(-8.0, 18.0), pitch_all=(-25.0, 55.0), common_share=0.75, end_on_share=0.2, roll_std=4.0,
        cut_share=0.25,
    ),
)  # fmt: skip
"""People are mostly filmed upright from the height of an eye, often cut by the frame."""

ANY = Film(
    camera=CameraConfig(
        pitch_common=(-20.0, 35.0), pitch_all=(-30.0, 75.0), common_share=0.6, end_on_share=0.15
    )
)
"""What swims or flies is filmed from below as well."""


@dataclass(frozen=True)
class Maker:
    """Where a category's subjects come from; the rigs of one maker are only ever handed back to itself."""

    rigs: Callable[[SynthConfig, Category], Sequence[Any]]
    subject: Callable[[np.random.Generator, SynthConfig, Category, Sequence[Any]], Subject]
    film: Film = Film()


def _mapped_rigs(config: SynthConfig, category: Category) -> Sequence[Any]:
    from .mapped import load_mapped_rigs  # reads mappings, which are made with torch

    rigs = load_mapped_rigs(config.rigs, category, config.split, config.hold_out)
    if not rigs:  # or else every clip would show the category's own body
        raise TrainingError(
            f"{config.rigs}: holds no rig of the split '{config.split}'; give another --split or --hold-out"
        )
    return rigs


def _animal(
    rng: np.random.Generator, config: SynthConfig, category: Category, rigs: Sequence[Any]
) -> Subject:
    from .bodies import body_subject
    from .skins import skin_of

    if rigs and rng.random() < config.rig_share:
        return rig_subject(rng, category, rigs[int(rng.integers(len(rigs)))], config.frames, config.fps)
    skin = None
    if rigs and rng.random() < config.skin_share:
        skin = skin_of(rigs[int(rng.integers(len(rigs)))], category)
    return body_subject(rng, category, rigs, config.frames, config.fps, skin)


def _human_rigs(config: SynthConfig, category: Category) -> Sequence[Any]:
    from . import human

    return human.human_rigs(config, category)


def _human(rng: np.random.Generator, config: SynthConfig, category: Category, rigs: Sequence[Any]) -> Subject:
    from . import human

    return human.human_subject(rng, config, category, rigs)


def _template(
    rng: np.random.Generator, config: SynthConfig, category: Category, rigs: Sequence[Any]
) -> Subject:
    from .template import template_subject

    return template_subject(rng, category, rigs, config.frames, config.fps)


def maker_for(category: Category) -> Maker:
    """The maker of a category: people have hands, quadrupeds toes before and behind; nothing is known of the rest."""
    if "hand.L" in category.skeleton.names:
        return Maker(_human_rigs, _human, PEOPLE)
    if {"front_toe.L", "hind_toe.L"} <= set(category.skeleton.names):
        return Maker(_mapped_rigs, _animal)
    return Maker(lambda config, category: (), _template, ANY)
