# SPDX-License-Identifier: GPL-3.0-or-later
"""The human's colours: a mean dressed person, and eight directions in which people and clothes differ."""

from __future__ import annotations

import numpy as np

from .human_shape import Fields, share, smoothstep

SKIN, HAIR = np.array([0.72, 0.52, 0.42]), np.array([0.20, 0.14, 0.10])
UPPER, LOWER, SHOES = np.array([0.52, 0.50, 0.50]), np.array([0.27, 0.29, 0.36]), np.array([0.20, 0.18, 0.17])
AMPLITUDE = 0.30
"""RGB change at a coefficient of 1 where a direction acts in full."""


def bare(weights: np.ndarray) -> np.ndarray:
    """Where short sleeves and shorts leave skin (V,): the forearms and the shins."""
    return smoothstep(share(weights, "forearm") + share(weights, "shin"))


def mean_colour(fields: Fields, weights: np.ndarray) -> np.ndarray:
    """Colours (V, 3), RGB 0…1, with sleeves and trouser legs halfway between cloth and skin."""
    where = np.stack([fields.torso, fields.legs, fields.shoes, fields.hair], 1)
    where = where / np.maximum(where.sum(1, keepdims=True), 1)
    colour = where @ np.stack([UPPER, LOWER, SHOES, HAIR]) + (1 - where.sum(1, keepdims=True)) * SKIN
    part = (0.25 * bare(weights) * (1 - fields.shoes))[:, None]
    return colour * (1 - part) + part * SKIN


def colour_directions(fields: Fields, weights: np.ndarray) -> np.ndarray:
    """Directions (8, V, 3): top light and warm, trousers light and warm, skin, hair, shoes, bare limbs."""
    grey, warm, tan = np.ones(3), np.array([1.0, 0.1, -0.9]), np.array([0.9, 1.0, 0.95])
    covered = np.clip(fields.torso + fields.legs + fields.shoes + fields.hair, 0, 1)
    limbs = bare(weights) * (1 - fields.shoes)
    skin = np.maximum(1 - covered, 0.25 * limbs)
    to_skin = limbs[:, None] * (SKIN - mean_colour(fields, weights)) / AMPLITUDE
    each = [
        fields.torso[:, None] * grey, fields.torso[:, None] * warm,
        fields.legs[:, None] * grey, fields.legs[:, None] * warm,
        skin[:, None] * tan, fields.hair[:, None] * grey, fields.shoes[:, None] * grey, to_skin,
    ]  # fmt: skip
    return AMPLITUDE * np.stack(each)
