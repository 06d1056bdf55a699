# SPDX-License-Identifier: GPL-3.0-or-later
"""Proportions across and between species, and where which of them wears long hair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.category import Category

# Shares of a proportion's range, −1 at its minimum … 1 at its maximum; 0 (not named) is the mean body.
SPECIES: dict[str, dict[str, float]] = {
    "camel": {"leg_length": 0.75, "neck_length": 0.75, "hump": 0.9, "tail_length": -0.5, "neck_girth": -0.3,
              "ear_size": -0.6, "head_size": 0.1, "girth": 0.25, "leg_girth": -0.1},
    "dromedary": {"leg_length": 0.95, "neck_length": 0.95, "hump": 0.6, "tail_length": -0.4, "body_length": -0.3,
                  "neck_girth": -0.5, "ear_size": -0.7, "leg_girth": -0.3},
    "goat": {"leg_length": 0.1, "neck_length": 0.15, "tail_length": -0.9, "girth": 0.3, "body_length": -0.2,
             "head_size": -0.1, "ear_size": 0.15, "leg_girth": -0.2},
    "sheep": {"leg_length": -0.2, "tail_length": -0.8, "girth": 0.7, "neck_girth": 0.6, "neck_length": -0.1,
              "leg_girth": -0.4, "head_size": -0.2},
    "cow": {"girth": 0.7, "leg_girth": 0.3, "muzzle": 0.3, "leg_length": -0.1, "body_length": 0.4,
            "neck_girth": 0.5, "head_size": 0.2, "tail_length": 0.3},
    "horse": {"leg_length": 0.5, "neck_length": 0.5, "neck_girth": 0.4, "muzzle": 0.4, "ear_size": -0.4,
              "tail_length": 0.3, "girth": 0.2},
    "stag": {"leg_length": 0.7, "neck_length": 0.45, "leg_girth": -0.6, "tail_length": -0.85},
    "giraffe": {"leg_length": 0.9, "neck_length": 1.0, "body_length": -0.6, "neck_girth": -0.4},
    "cat": {"leg_length": -0.35, "muzzle": -0.8, "tail_length": 0.45, "neck_length": -0.5, "head_size": 0.1,
            "ear_size": 0.1, "leg_girth": -0.1},
    "lean cat": {"leg_length": -0.1, "muzzle": -0.7, "tail_length": 0.6, "body_length": 0.4, "girth": -0.4,
                 "head_size": -0.2, "neck_length": -0.3},
    "retriever": {"leg_length": -0.1, "girth": 0.2, "neck_girth": 0.35, "head_size": 0.15, "tail_length": 0.15,
                  "ear_size": -0.1, "leg_girth": 0.2, "neck_length": -0.1},
    "collie": {"leg_length": 0.1, "girth": 0.0, "neck_girth": 0.2, "muzzle": 0.1, "tail_length": 0.3,
               "neck_length": 0.05},
    "dachshund": {"leg_length": -0.95, "body_length": 0.7, "ear_size": 0.3, "muzzle": 0.2},
    "greyhound": {"leg_length": 0.4, "girth": -0.5, "muzzle": 0.4, "leg_girth": -0.5, "neck_length": 0.2,
                  "tail_length": 0.3, "ear_size": -0.4},
    "bulldog": {"leg_length": -0.5, "girth": 0.6, "muzzle": -0.9, "head_size": 0.7, "neck_length": -0.8,
                "neck_girth": 0.8, "leg_girth": 0.6, "tail_length": -0.9, "body_length": -0.3},
    "terrier": {"leg_length": -0.4, "head_size": 0.5, "ear_size": 0.2, "tail_length": -0.4},
    "pig": {"leg_length": -0.7, "girth": 0.9, "neck_length": -0.8, "neck_girth": 0.9, "muzzle": 0.3,
            "tail_length": -0.9, "body_length": 0.2},
    "bear": {"leg_length": -0.4, "girth": 0.9, "leg_girth": 0.9, "tail_length": -1.0, "neck_girth": 0.8,
             "hump": 0.15, "ear_size": -0.6},
    "fox": {"leg_length": -0.15, "ear_size": 0.5, "tail_length": 0.6, "muzzle": 0.3, "girth": -0.2},
}  # fmt: skip


def species_proportions(category: Category, name: str) -> np.ndarray:
    """β (K,) of one of `SPECIES`; proportions a category does not have are left out."""
    kind = SPECIES[name]
    value = np.zeros(len(category.morphology))
    for k, proportion in enumerate(category.morphology):
        share = kind.get(proportion.name, 0.0)
        value[k] = share * proportion.maximum if share > 0 else -share * proportion.minimum
    return value


def random_morphology(
    rng: np.random.Generator, category: Category, known: Sequence[np.ndarray]
) -> np.ndarray:
    """β (K,) of a species, between two or between the rigs, each with its own noise, or noise alone; within range.

    known: β (K,) of characters that were measured.
    """
    low, high = category.morphology_range.T
    std = category.body.morphology_std
    draw = rng.random()
    if draw < 0.45:
        one, other = (species_proportions(category, str(s)) for s in rng.choice(sorted(SPECIES), 2))
        share = rng.uniform(0, 0.5) if rng.random() < 0.4 else 0.0
        value = rng.uniform(0.7, 1.1) * ((1 - share) * one + share * other)
        value = value + rng.normal(0, 0.4, len(std)) * std
    elif known and draw < 0.8:
        pick = rng.choice(len(known), size=min(3, len(known)), replace=False)
        share = rng.dirichlet(np.full(len(pick), 0.7))
        value = share @ np.stack([known[i] for i in pick]) + rng.normal(0, 0.5, len(std)) * std
    else:
        value = rng.normal(0, 1.2, len(std)) * std
    return np.clip(value, low, high)


# How long the hair of a part is against the longest on the body, drawn between the two.
_HAIR: dict[str, tuple[float, float]] = {
    "legs": (0.12, 0.6),
    "feet": (0.03, 0.25),
    "head": (0.1, 0.45),
    "ears": (0.1, 0.8),
    "muzzle": (0.0, 0.15),
    "tail": (0.3, 2.6),
    "neck": (0.6, 1.5),
    "nose": (0.0, 0.0),
    "eyes": (0.0, 0.05),
}


def hair_lengths(rng: np.random.Generator, rest: np.ndarray, regions: dict[str, np.ndarray]) -> np.ndarray:
    """Length of the hair at each vertex (V,), metres: short on most, up to 6 % of the body's length on some.

    rest (V, 3) in body axes; regions: named vertex weights (V,), as a coat's. What is not named has hair of one
    length, longer or shorter below the trunk.
    """
    body = float(np.ptp(rest[:, 1]))
    longest = body * np.exp(rng.uniform(np.log(0.004), np.log(0.045)))
    share = np.ones(len(rest))
    low, high = rest[:, 2].min(), rest[:, 2].max()
    below = np.clip((0.6 - (rest[:, 2] - low) / max(high - low, 1e-6)) * 4, 0, 1)
    share += below * rng.uniform(-0.5, 0.8)
    for name, (least, most) in _HAIR.items():
        if name in regions:
            share += np.clip(regions[name], 0, 1) * (rng.uniform(least, most) - share)
    if not regions:
        share *= rng.uniform(0.2, 0.6)
    return (longest * np.clip(share, 0, None)).astype(np.float32)
