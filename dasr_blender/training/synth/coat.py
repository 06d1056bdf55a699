# SPDX-License-Identifier: GPL-3.0-or-later
"""Painted coats: colours and patterns in rest coordinates, so that no colour ever means a species.

A coat is two colours a vertex and a field of summed sines that chooses between them in the shader: low
frequencies give patches, one strong direction gives stripes, mixed high frequencies give spots.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

WAVES = 7


@dataclass(frozen=True)
class Coat:
    """What the shader needs to paint one clip's subject.

    rest (V, 3): vertices scaled to a unit body, centred; light, dark (V, 3): RGB 0…1; wave (WAVES, 4): direction
    times frequency, phase; amplitude (WAVES,); edge: threshold and softness of the pattern; fur: amount and
    frequency of the fine grain, stretched along the body where `streak` is over 1; hair (V,) or None: length
    of the hair that stands off the surface, metres; droop: how far it hangs instead of standing, as a share of
    its length; tufts: frequency of its clumps; strands: frequency of single hairs.
    """

    rest: np.ndarray
    light: np.ndarray
    dark: np.ndarray
    wave: np.ndarray
    amplitude: np.ndarray
    edge: tuple[float, float]
    fur: tuple[float, float]
    streak: float = 1.0
    hair: np.ndarray | None = None
    droop: float = 0.0
    tufts: float = 25.0
    strands: float = 150.0


def unit_rest(vertices: np.ndarray) -> np.ndarray:
    """Vertices (V, 3) centred and divided by their largest extent."""
    low, high = vertices.min(0), vertices.max(0)
    return ((vertices - (low + high) / 2) / max(float((high - low).max()), 1e-9)).astype(np.float32)


def _fur_colour(rng: np.random.Generator, wild: bool) -> np.ndarray:
    """What animals wear (black, brown, ginger, grey, cream, white), or any colour at all if `wild`."""
    draw = rng.random()
    if wild:
        return rng.random(3)
    if draw < 0.15:  # black, or nearly
        return np.clip(rng.uniform(0.02, 0.12) + rng.normal(0, 0.008, 3), 0, 1)
    if draw < 0.3:  # white, or nearly
        return np.clip(rng.uniform(0.75, 1.0) * np.array([1.0, 0.97, 0.92]) + rng.normal(0, 0.015, 3), 0, 1)
    hue, saturation, value = rng.normal(0.075, 0.02), min(abs(rng.normal(0.2, 0.22)), 0.8), rng.beta(1.4, 1.1)
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 0.9), 0.04 + 0.94 * value))


def pattern_waves(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    low, high = {"patch": (3, 12), "spots": (25, 60), "stripes": (4, 15), "cloud": (2, 40)}[kind]
    direction = rng.normal(size=(WAVES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    frequency = np.exp(rng.uniform(np.log(low), np.log(high), WAVES))
    amplitude = rng.uniform(0.3, 1.0, WAVES)
    if kind == "stripes":
        direction[0] = np.array([0.1, 1.0, 0.15]) + rng.normal(0, 0.15, 3)
        frequency[0], amplitude[1:] = rng.uniform(25, 90), amplitude[1:] * rng.uniform(0.1, 0.4)
        amplitude[0] = 1.5
    wave = np.concatenate([direction * frequency[:, None], rng.uniform(0, 2 * np.pi, (WAVES, 1))], axis=1)
    return wave.astype(np.float32), (amplitude / np.sqrt((amplitude**2).sum() / 2)).astype(np.float32)


def random_coat(
    rng: np.random.Generator,
    vertices: np.ndarray,
    own: np.ndarray | None = None,
    regions: Mapping[str, np.ndarray] | None = None,
    hair: np.ndarray | None = None,
) -> Coat:
    """A random coat for rest vertices (V, 3) in body axes (Z up, looking along −Y).

    own: the model's own colours (V, 3) RGB 0…1, used in part of the draws; regions: named weights (V,) in 0…1
    (head, feet, ears, tail …) that may be tinted: dark feet, a white tail tip, a mask on the muzzle;
    hair (V,): see `Coat`.
    """
    rest = unit_rest(vertices)
    kind = str(rng.choice(["patch", "spots", "stripes", "cloud"], p=[0.35, 0.15, 0.2, 0.3]))
    wave, amplitude = pattern_waves(rng, kind)
    wild = rng.random() < 0.15
    base = _fur_colour(rng, wild)
    light = np.tile(base, (len(rest), 1))
    draw = rng.random()
    if own is not None and draw < 0.35:  # the model's own look, with its hue and gain disturbed
        light = np.clip(own * rng.uniform(0.5, 1.5) * (1 + rng.normal(0, 0.08, 3)), 0, 1)
    elif own is not None and draw < 0.6:  # its light and dark, in other colours
        shade = own.mean(1, keepdims=True)
        light = np.clip(base * (0.4 + 1.2 * shade / max(float(shade.mean()), 0.05)), 0, 1)
    if rng.random() < 0.6:  # belly or back of another shade
        blend = np.clip((rest[:, 2:] - rng.uniform(-0.25, 0.2)) / rng.uniform(0.05, 0.4) + 0.5, 0, 1)
        light = light + blend * rng.uniform(0.4, 1.0) * (_fur_colour(rng, wild) - light)
    light = _tint_regions(rng, light, regions, wild)
    dark = _tint_regions(rng, np.tile(_fur_colour(rng, wild), (len(rest), 1)), regions, wild)
    contrast = 0.0 if rng.random() < 0.35 else rng.uniform(0.2, 1.0)
    dark = light + contrast * (dark - light)
    softness = rng.uniform(0.05, 0.3) if kind != "cloud" else rng.uniform(0.5, 1.5)
    return Coat(
        rest,
        light.astype(np.float32),
        dark.astype(np.float32),
        wave,
        amplitude,
        (rng.uniform(-0.8, 1.0), softness),
        (rng.uniform(0, 0.4), rng.uniform(60, 260)),
        float(np.exp(rng.uniform(0, 1.6))),
        hair,
        droop=abs(rng.normal(0, 0.6)) + (rng.uniform(0.5, 2.0) if rng.random() < 0.25 else 0.0),
        tufts=float(np.exp(rng.uniform(np.log(8), np.log(50)))),
        strands=float(np.exp(rng.uniform(np.log(70), np.log(260)))),
    )


def _tint_regions(
    rng: np.random.Generator, colour: np.ndarray, regions: Mapping[str, np.ndarray] | None, wild: bool
) -> np.ndarray:
    for name, weight in (regions or {}).items():
        if rng.random() < (0.85 if name in ("eyes", "nose") else 0.3):
            tint = np.full(3, rng.uniform(0, 0.12)) if name in ("eyes", "nose") else _fur_colour(rng, wild)
            colour = colour + np.asarray(weight)[:, None] * rng.uniform(0.6, 1.0) * (tint - colour)
    return colour
