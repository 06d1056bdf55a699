# SPDX-License-Identifier: GPL-3.0-or-later
"""Clothes and hair for the human body: colours by garment, loose cloth by offsets, skirts and coats by extra cloth.

Only what is rendered is dressed; labels keep describing the body underneath. Which garment covers a vertex is told
by how far along an arm or a leg it lies, so one table serves every body shape.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from ...core.category import Category
from ...core.mesh import vertex_normals
from .cloth import Brim, Skirt
from .coat import Coat, pattern_waves, unit_rest


@dataclass(frozen=True)
class Figure:
    """Where each vertex (V,) of the category's mean body lies, for tailoring.

    arm: 0 at the shoulder, 1 at the elbow, 2 at the wrist; leg: 0 at the hip, 1 at the knee, 2 at the ankle; both
    −1 elsewhere. trunk: 0 at the hips, 1 at the neck's root, −1 on limbs and head. head (V, 3): direction from the
    middle of the head, zero elsewhere; neck, hand: bool.
    """

    arm: np.ndarray
    leg: np.ndarray
    trunk: np.ndarray
    head: np.ndarray
    neck: np.ndarray
    hand: np.ndarray


def figure_of(category: Category) -> Figure:
    """Measure the category's mean body."""
    body, names = category.body, category.skeleton.names
    points, joints, owner = body.vertices, body.joints, body.owner
    index = {n: i for i, n in enumerate(names)}
    arm, leg, trunk = (np.full(len(points), -1.0) for _ in range(3))
    for values, chain in ((arm, ("upper_arm", "forearm", "hand")), (leg, ("thigh", "shin", "foot"))):
        for side in "LR":
            rows = [index[f"{n}.{side}"] for n in chain]
            for k in range(2):
                a, b = joints[rows[k]], joints[rows[k + 1]]
                mine = owner == rows[k]
                along = (points[mine] - a) @ (b - a) / ((b - a) @ (b - a))
                values[mine] = k + np.clip(along, 0, 1)
            values[owner == rows[2]] = 2.05
            if "toe" in chain or f"toe.{side}" in index and chain[0] == "thigh":
                values[owner == index[f"toe.{side}"]] = 2.5
    middle = [index[n] for n in ("root", "spine_1", "spine_2", "chest", "shoulder.L", "shoulder.R")]
    mine = np.isin(owner, middle)
    low, high = joints[index["thigh.L"], 2], joints[index["neck"], 2]
    trunk[mine] = np.clip((points[mine, 2] - low) / (high - low), -0.4, 1.2)
    head = np.zeros((len(points), 3))
    mine = owner == index["head"]
    box = points[mine]
    centre = (box.min(0) + box.max(0)) / 2
    head[mine] = (box - centre) / (np.ptp(box, axis=0) / 2)
    hand = np.isin(owner, [index["hand.L"], index["hand.R"]])
    return Figure(arm, leg, trunk, head, owner == index["neck"], hand)


@dataclass(frozen=True)
class Outfit:
    """One draw: vertex colours light, dark (V, 3) RGB 0…1, offset (V,) along the normals in metres, extra cloth."""

    light: np.ndarray
    dark: np.ndarray
    offset: np.ndarray
    skirt: Skirt | None = None
    brim: Brim | None = None


_SKINS = np.array(
    [[60, 38, 28], [96, 62, 45], [140, 95, 68], [180, 130, 98], [212, 166, 132], [236, 196, 168], [248, 220, 200]]
) / 255.0  # fmt: skip


def skin_colour(rng: np.random.Generator) -> np.ndarray:
    at = rng.uniform(0, len(_SKINS) - 1.001)
    low = int(at)
    tone = _SKINS[low] + (at - low) * (_SKINS[low + 1] - _SKINS[low])
    return np.clip(tone * rng.uniform(0.85, 1.1) * (1 + rng.normal(0, 0.03, 3)), 0, 1)


def cloth_colour(rng: np.random.Generator) -> np.ndarray:
    """A garment's colour: black, grey, white, blue jeans, beige, or any."""
    draw = rng.random()
    if draw < 0.4:
        return np.clip(np.full(3, rng.beta(0.8, 0.9)) + rng.normal(0, 0.02, 3), 0.02, 0.98)
    if draw < 0.55:
        return np.array(
            colorsys.hsv_to_rgb(rng.normal(0.61, 0.03) % 1, rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.8))
        )
    if draw < 0.65:
        return np.array(
            colorsys.hsv_to_rgb(rng.normal(0.1, 0.02) % 1, rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.9))
        )
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(2, 1.5), rng.uniform(0.1, 0.95)))


def _hair(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.08:
        return rng.random(3)
    hue, value = rng.normal(0.07, 0.02), rng.beta(0.9, 1.6)
    return np.array(
        colorsys.hsv_to_rgb(
            hue % 1, np.clip(rng.normal(0.5, 0.2) * (1 - 0.4 * value), 0, 1), 0.03 + 0.8 * value
        )
    )


def pattern_colour(rng: np.random.Generator, colour: np.ndarray, plain: float) -> np.ndarray:
    """The pattern's other colour; often none."""
    return colour if rng.random() < plain else colour + rng.uniform(0.3, 1.0) * (cloth_colour(rng) - colour)


def random_outfit(rng: np.random.Generator, figure: Figure, points: np.ndarray) -> Outfit:
    """Draw what someone wears; points (V, 3): the body's rest vertices, for the folds of the cloth."""
    count = len(points)
    skin = skin_colour(rng)
    light = np.tile(skin, (count, 1))
    dark = light * rng.uniform(0.85, 1.0)
    offset = np.zeros(count)
    folds = _field(rng, points)

    def wear(
        where: np.ndarray, colour: np.ndarray, plain: float, thick: float, hem: np.ndarray | float = 0.0
    ):
        light[where], dark[where] = colour, pattern_colour(rng, colour, plain)
        offset[where] = np.maximum(
            offset[where], (thick * folds + hem)[where] if np.ndim(hem) else thick * folds[where]
        )

    top, bottom = cloth_colour(rng), cloth_colour(rng)
    if rng.random() < 0.15:
        bottom = top  # a suit, overalls, a leotard
    bulk = 3.0 if rng.random() < 0.12 else 1.0  # beyond what the proportions say of clothes
    limbs_free = (figure.arm < 0) & (figure.leg < 0)
    # legs
    style = str(
        rng.choice(["trousers", "shorts", "skirt", "tight", "briefs"], p=[0.56, 0.18, 0.08, 0.14, 0.04])
    )
    end = {"trousers": rng.uniform(1.85, 2.06), "shorts": rng.uniform(0.3, 1.2), "skirt": 0.25,
           "tight": rng.uniform(0.8, 2.06), "briefs": 0.08}[style]  # fmt: skip
    loose = {"trousers": bulk * rng.gamma(2.0, 0.003), "shorts": bulk * rng.gamma(2.0, 0.004)}.get(
        style, 0.003
    )
    waist = rng.uniform(0.12, 0.3)
    on_legs = (figure.leg >= 0) & (figure.leg < end) | limbs_free & (figure.trunk > -1) & (
        figure.trunk < waist
    )
    flare = np.clip(figure.leg / max(end, 0.3), 0, 1) * rng.choice([0.0, 0.4, 1.0]) * loose
    wear(on_legs, bottom, 0.75, min(loose, 0.05), flare)
    skirt = None
    if style == "skirt":
        length = rng.uniform(0.35, 1.0) if rng.random() < 0.7 else rng.uniform(1.0, 1.7)
        skirt = Skirt(waist, length, rng.uniform(0.0, 0.1), bottom, pattern_colour(rng, bottom, 0.6))
    # trunk and arms
    sleeve = float(
        rng.choice([0.0, rng.uniform(0.3, 0.7), rng.uniform(0.8, 1.6), 2.0], p=[0.12, 0.4, 0.08, 0.4])
    )
    if rng.random() < 0.07:
        sleeve = -1.0  # bare
    hem = rng.uniform(-0.25, 0.3)
    if sleeve >= 0:
        slack = min(bulk * rng.gamma(2.0, 0.003), 0.05)
        on_trunk = (figure.trunk > hem) & (figure.trunk < rng.uniform(0.9, 1.2))
        on_arms = (figure.arm >= 0) & (figure.arm < sleeve)
        on_hips = (figure.leg >= 0) & (figure.leg < -hem * 1.2)
        collar = figure.neck & (rng.random() < 0.2)
        wear(on_trunk | on_arms | on_hips | collar, top, 0.55, slack)
        if rng.random() < 0.1 and skirt is None:  # the tails of a long coat
            skirt = Skirt(rng.uniform(0.3, 0.5), rng.uniform(0.15, 0.9), rng.uniform(0.0, 0.08), top, top)
    # feet, hands, head
    if rng.random() < 0.85:
        ankle = rng.uniform(1.9, 2.04) if rng.random() < 0.85 else rng.uniform(1.2, 1.8)
        wear(figure.leg >= ankle, cloth_colour(rng), 0.8, rng.uniform(0.004, 0.02))
    if rng.random() < 0.05:
        wear(figure.hand, cloth_colour(rng), 0.9, rng.uniform(0.002, 0.01))
    brim = _dress_head(rng, figure, light, dark, offset)
    return Outfit(np.clip(light, 0, 1), np.clip(dark, 0, 1), offset, skirt, brim)


def _dress_head(
    rng: np.random.Generator, figure: Figure, light: np.ndarray, dark: np.ndarray, offset: np.ndarray
) -> Brim | None:
    """Hair or a hat on top and behind; eyes, brows, mouth or a beard as dark marks, so that a face looks out."""
    at = figure.head
    is_head = np.abs(at).sum(1) > 0
    crown = 0.75 * at[:, 2] + 0.75 * at[:, 1]
    line = rng.uniform(0.05, 0.5)
    amount = np.clip((crown - line) / 0.25 + 0.5, 0, 1) * is_head
    draw = rng.random()
    hat = draw > 0.78
    colour = cloth_colour(rng) if hat else _hair(rng)
    brim = None
    if hat and rng.random() < 0.7:  # a cap, or a hat all round
        tint = colour if rng.random() < 0.8 else cloth_colour(rng)
        brim = Brim(rng.uniform(0.15, 0.5), rng.uniform(0.05, 0.11), bool(rng.random() < 0.25), tint)
    if draw > 0.08:  # else bald
        volume = min(rng.gamma(1.5, 0.007), 0.08)
        light[:] = light + amount[:, None] * (colour - light)
        dark[:] = dark + amount[:, None] * (colour * rng.uniform(0.7, 1.1) - dark)
        offset[:] = np.maximum(offset, amount * volume)
        if rng.random() < 0.25:  # long: over the neck and the upper back
            back = figure.neck | is_head & (at[:, 1] > -0.1)
            light[back], dark[back] = colour, colour * 0.9
            offset[back] = np.maximum(offset[back], volume * rng.uniform(0.3, 1.0))
    face = is_head & (at[:, 1] < -0.45)
    for height, width, size, chance, tint in (
        (0.05, 0.38, 0.16, 0.85, 0.12),
        (-0.5, 0.0, 0.2, 0.6, 0.5),
        (0.22, 0.38, 0.12, 0.5, 0.35),
    ):
        if rng.random() < chance:
            gap = np.hypot((np.abs(at[:, 0]) - width) / 1.3, at[:, 2] - height)
            mark = np.clip(1.5 - gap / size, 0, 1) * face
            light[:] = light + 0.8 * mark[:, None] * (light * tint - light)
            dark[:] = dark + 0.8 * mark[:, None] * (dark * tint - dark)
    if rng.random() < 0.2:  # beard
        beard = face & (at[:, 2] < -0.3)
        light[beard], dark[beard] = colour * 0.9, colour * 0.8
    return brim


def _field(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Smooth positive folds (V,) about one."""
    total = np.zeros(len(points))
    for _ in range(5):
        direction = rng.normal(size=3)
        direction *= np.exp(rng.uniform(np.log(5), np.log(45))) / np.linalg.norm(direction)
        total += np.sin(points @ direction + rng.uniform(0, 2 * np.pi))
    return np.clip(1 + 0.3 * total, 0.1, 2.2)


def coat_of(
    rng: np.random.Generator, outfit_light: np.ndarray, outfit_dark: np.ndarray, rest: np.ndarray
) -> Coat:
    """The shader's coat for vertex colours (V, 3); rest (V, 3) carries the pattern."""
    kind = str(rng.choice(["patch", "spots", "stripes", "cloud"], p=[0.3, 0.2, 0.35, 0.15]))
    wave, amplitude = pattern_waves(rng, kind)
    if kind == "stripes" and rng.random() < 0.6:  # along the body's axis, or across it
        axis = np.array([0.05, 0.05, 1.0]) if rng.random() < 0.7 else np.array([1.0, 0.05, 0.05])
        wave[0, :3] = axis * rng.uniform(60, 200)
    return Coat(
        unit_rest(rest),
        outfit_light.astype(np.float32),
        outfit_dark.astype(np.float32),
        wave,
        amplitude,
        (rng.uniform(-0.6, 0.8), rng.uniform(0.03, 0.4)),
        (rng.uniform(0, 0.35), rng.uniform(60, 300)),
    )


def inflated(rest: np.ndarray, faces: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Rest vertices (V, 3) moved out along their normals by offset (V,)."""
    return rest + vertex_normals(rest, faces) * offset[:, None]
