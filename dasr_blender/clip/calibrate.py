# SPDX-License-Identifier: GPL-3.0-or-later
"""The focal length from a pan: the one with which turning explains where the background went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .tracks import Link
from .turning import CAUCHY, Turn, fit_turn

Array = np.ndarray

SURE = 0.06  # relative standard deviation up to which a focal length is believed
LINKS = 16  # that are looked at


def calibrated(
    links: Sequence[Link | None], scale: Array, assumed: float, focal: float, zoom: bool, worst: float
) -> float | None:
    """The first frame's focal length, compared pixels, where the links tell it; None where they do not.

    A turn by an angle moves the picture's middle by focal · tan(angle) and its rim by more, so only the right
    focal length leaves no residual. Searched on the links that moved most, down to where the cost's minimum is;
    its curvature, with one corner in eight counted (neighbours share their errors), says how sure it is.

    scale (T,): each frame's zoom.  assumed: the focal length that the links' own turns were found with.
    focal: to search around.  worst: typical residual, compared pixels, beyond which nothing is claimed.
    """
    shown = [link for link in links if link is not None]
    order = np.argsort([-np.median(link.shift) for link in shown])
    chosen = [shown[i] for i in order[:LINKS]]
    every = [slice(None, None, 1 + len(link.a) // 160) for link in chosen]

    def fits(value: float) -> list[Turn]:
        return [
            fit_turn(
                link.a[some],
                link.b[some],
                value * scale[link.key],
                zoom,
                link.start(assumed / (value * scale[link.key]), zoom),
                False,
            )
            for link, some in zip(chosen, every, strict=True)
        ]

    def cost(turns: list[Turn], spread: float) -> float:
        return (
            sum(float(np.log1p((t.residual / (CAUCHY * spread)) ** 2).sum()) for t in turns) * CAUCHY**2 / 2
        )

    steps = np.linspace(np.log(0.45), np.log(3.2), 12)
    found = [fits(focal * np.exp(step)) for step in steps]
    spread = min(float(np.median([t.spread for t in turns])) for turns in found)
    values = np.array([cost(turns, spread) for turns in found])
    best = int(values.argmin())
    if not 0 < best < len(steps) - 1:
        return None
    steps = np.linspace(steps[best - 1], steps[best + 1], 9)  # a finer grid round the minimum
    values = np.array([cost(fits(focal * np.exp(step)), spread) for step in steps])
    best = int(np.clip(values.argmin(), 2, len(steps) - 3))
    near = slice(best - 2, best + 3)
    bend, slope, _ = np.polyfit(steps[near] - steps[best], values[near], 2)
    if bend <= 0:
        return None
    deviation = 1 / np.sqrt(2 * bend / 8)
    found_focal = focal * float(np.exp(steps[best] - slope / (2 * bend)))
    return found_focal if deviation < SURE and spread < worst else None
