# SPDX-License-Identifier: GPL-3.0-or-later
"""What real footage and automatic masks do to a picture: backgrounds, occluders, exposure, mask errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_OFF, _ON = (0.0,), (255.0,)


@dataclass(frozen=True)
class CorruptConfig:
    """Shares of clips (0…1) that get each kind of damage."""

    occluder: float = 0.25
    exposure: float = 0.7
    low_light: float = 0.07
    defocus: float = 0.25
    small: float = 0.2  # filmed at a lower resolution and enlarged
    shaken: float = 0.08  # smeared along one direction by the camera's own motion
    noise: float = 0.4
    clean_mask: float = 0.5
    missing_part: float = 0.3
    missing_limb: float = 0.35  # of those with a missing part
    holes: float = 0.1
    blobs: float = 0.12
    least_visible: float = 0.45  # occluders that would leave less of the subject are dropped


def background(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """(T, H, W, 3) uint8: soft random patches that drift; the student never sees it but through mask errors."""
    width, height = size
    cells = int(rng.integers(2, 24))
    small = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    grey = small.mean(-1, keepdims=True)
    small = (grey + rng.uniform(0, 0.4) * (small - grey)) * rng.uniform(0.2, 0.8)
    small = np.clip(small + rng.integers(0, 120) + rng.normal(0, 15, 3), 0, 255).astype(np.uint8)
    big = cv2.resize(small, (width + 64, height + 64), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, rng.uniform(0, 14), big.shape[:2]).astype(np.float32)
    big = np.clip(big + grain[..., None], 0, 255).astype(np.uint8)
    shift = rng.uniform(-2.5, 2.5, 2)
    frames = np.empty((count, height, width, 3), np.uint8)
    for i in range(count):
        x, y = np.clip(32 + shift * i, 0, 64).astype(int)
        frames[i] = big[y : y + height, x : x + width]
    return frames


def _sweep(rng: np.random.Generator, box: np.ndarray, count: int) -> np.ndarray:
    """Offsets (T, 2) px of an occluder that stands still in the world while the camera moves a little."""
    speed = rng.normal(0, 0.02, 2) * (box[2:] - box[:2]) * (rng.random() < 0.6)
    return (np.arange(count) - count / 2)[:, None] * speed


def occluders(
    rng: np.random.Generator, images: np.ndarray, masks: np.ndarray, config: CorruptConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes, poles, fences, discs, grass or another animal in front of the subject; what they hide leaves the mask.

    images (T, H, W, 3) uint8, masks (T, H, W) uint8 0/255. Returns both, new arrays where anything was drawn.
    """
    count, height, width = masks.shape
    rows, columns = np.where(masks.max(0).any(1))[0], np.where(masks.max(0).any(0))[0]
    if not len(rows):
        return images, masks
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    span = box[2:] - box[:2]
    kind = str(
        rng.choice(["box", "poles", "grass", "disc", "rail", "animal"], p=[0.2, 0.2, 0.22, 0.09, 0.09, 0.2])
    )
    layer = np.zeros((height, width), np.uint8)
    if kind == "box":
        for _ in range(int(rng.integers(1, 3))):
            start = box[:2] + rng.uniform(-0.2, 0.9, 2) * span
            end = start + rng.uniform(0.12, 0.5, 2) * span
            corners = cv2.boxPoints(((*((start + end) / 2),), (*(end - start),), rng.normal(0, 12)))
            cv2.fillPoly(layer, [corners.astype(np.int32)], _ON)
    elif kind in ("poles", "rail"):
        for _ in range(int(rng.integers(1, 6))):
            thick = max(1, int(rng.uniform(0.02, 0.1) * span.max()))
            if kind == "poles":
                x = box[0] + rng.random() * span[0]
                line = ((int(x), 0), (int(x + rng.normal(0, 8)), height))
            else:
                y = box[1] + rng.random() * span[1]
                line = ((0, int(y)), (width, int(y + rng.normal(0, 8))))
            cv2.line(layer, *line, _ON, thick)
    elif kind == "grass":
        top = box[3] - rng.uniform(0.08, 0.4) * span[1]
        for x in rng.uniform(box[0] - 4, box[2] + 4, int(rng.integers(20, 160))):
            tip = (int(x + rng.normal(0, 5)), int(top + rng.uniform(0, 0.7) * (box[3] - top)))
            cv2.line(layer, (int(x), int(box[3] + 4)), tip, _ON, int(rng.integers(1, 4)))
    elif kind == "animal":  # its own outline of another moment, turned round, larger or smaller
        scale = rng.uniform(0.6, 1.4) * np.array([-1.0 if rng.random() < 0.5 else 1.0, rng.uniform(0.8, 1.2)])
        centre = (box[:2] + box[2:]) / 2
        place = centre + rng.uniform(-0.9, 0.9, 2) * [1.0, 0.4] * span
        matrix = np.array([[scale[0], 0, 0], [0, scale[1], 0]])
        matrix[:, 2] = place - scale * centre
        other = masks[int(rng.integers(count))]
        layer = cv2.warpAffine(other, matrix, (width, height), flags=cv2.INTER_NEAREST)
    else:
        middle, half = box[:2] + rng.random(2) * span, span * rng.uniform(0.08, 0.25, 2)
        place, axes = (int(middle[0]), int(middle[1])), (int(half[0]), int(half[1]))
        cv2.ellipse(layer, place, axes, rng.uniform(0, 180), 0, 360, _ON, -1)
    colour = rng.integers(0, 256, 3)
    uneven = rng.uniform(0, 40) * _ragged(rng, (height, width), max(3.0, 0.1 * float(span.max())))[..., None]
    paint = np.clip(colour + uneven + rng.normal(0, 12, (height, width, 1)), 0, 255).astype(np.uint8)
    images, masks = images.copy(), masks.copy()
    offset = _sweep(rng, box, count)
    for i in range(count):
        matrix = np.array([[1, 0, offset[i, 0]], [0, 1, offset[i, 1]]])
        here = cv2.warpAffine(layer, matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
        if (masks[i][~here] > 0).sum() < config.least_visible * max((masks[i] > 0).sum(), 1):
            continue
        images[i][here] = np.broadcast_to(paint, images[i].shape)[here]
        masks[i][here] = 0
    return images, masks


def optics(rng: np.random.Generator, images: np.ndarray, config: CorruptConfig) -> np.ndarray:
    """What lens, hand and resolution take from frames (T, H, W, 3) uint8: sharpness, not places."""
    if rng.random() < config.defocus:
        sigma = rng.uniform(0.4, 1.8)
        images = np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images])
    if rng.random() < config.small:
        height, width = images.shape[1:3]
        share = rng.uniform(0.3, 0.75)
        small = (max(8, int(width * share)), max(8, int(height * share)))
        way = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
        images = np.stack(
            [
                cv2.resize(
                    cv2.resize(i, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=way
                )
                for i in images
            ]
        )
    if rng.random() < config.shaken:
        reach, angle = rng.uniform(2, 9), rng.uniform(0, np.pi)
        kernel = np.zeros((19, 19), np.float32)
        step = reach * np.array([np.cos(angle), np.sin(angle)])
        ends = [tuple(int(v) for v in np.round(9 + way * step)) for way in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], (1.0,), 1)
        images = np.stack([cv2.filter2D(image, -1, kernel / kernel.sum()) for image in images])
    return images


def exposure(rng: np.random.Generator, images: np.ndarray, config: CorruptConfig) -> np.ndarray:
    """Gain, gamma and colour cast as one table a channel for the whole clip, sensor noise per frame."""
    if rng.random() < config.exposure:
        ramp = np.arange(256) / 255.0
        table = np.stack(
            [
                np.clip(ramp ** np.exp(rng.normal(0, 0.25)) * gain + lift, 0, 1)
                for gain, lift in zip(
                    np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.06, 3)),
                    np.full(3, max(0.0, rng.normal(0, 0.05))),
                    strict=True,
                )
            ],
            axis=-1,
        )
        table = (table * 255).astype(np.uint8)[None]  # (1, 256, 3)
        images = np.stack([cv2.LUT(image, table) for image in images])
    dark = rng.random() < config.low_light
    if dark:  # and a sensor that was turned up for it
        table = np.clip(np.arange(256) * np.exp(rng.uniform(np.log(0.22), np.log(0.6))), 0, 255)
        images = np.stack([cv2.LUT(image, table.astype(np.uint8)) for image in images])
    if dark or rng.random() < config.noise:
        pool = rng.normal(0, rng.uniform(2, 12), (images.shape[1], images.shape[2], 1)).astype(np.float32)
        images = np.stack(
            [
                np.clip(image + np.roll(pool, tuple(rng.integers(0, 64, 2)), (0, 1)), 0, 255).astype(np.uint8)
                for image in images
            ]
        )
    return images


def _ragged(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise (H, W) float32, standard normal, with blobs of about `cell` pixels."""
    small = rng.normal(size=(max(2, int(shape[0] / cell)), max(2, int(shape[1] / cell)))).astype(np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def mask_errors(
    rng: np.random.Generator,
    masks: np.ndarray,
    parts: np.ndarray | None,
    config: CorruptConfig,
    limbs: Sequence[Sequence[int]] = (),
) -> np.ndarray:
    """Masks (T, H, W) uint8 0/255 as an automatic segmenter might return them; many clips stay clean.

    parts (T, P, 3) or None: pixel centre and radius of feet, ears and tail, which segmenters tend to lose;
    limbs: parts that are lost together, with what lies between them.
    """
    if rng.random() < config.clean_mask:
        return masks
    count, height, width = masks.shape
    side = np.sqrt(max((masks > 0).sum() / count, 1.0))
    severity = rng.beta(1.2, 3.0)
    edge = rng.normal(0, 0.07 * severity) * side  # px: + grows, − shrinks
    wobble = 0.06 * severity * side
    lose = parts is not None and rng.random() < config.missing_part
    lost = rng.random(parts.shape[1]) < 0.2 if parts is not None and lose else None
    gone = [limb for limb in limbs if lose and rng.random() < config.missing_limb]
    holes, blobs = rng.random() < config.holes, rng.random() < config.blobs
    pattern = _ragged(rng, (height, width), max(4.0, side * rng.uniform(0.06, 0.3)))
    spot = rng.random(4)
    out = np.empty_like(masks)
    for i, mask in enumerate(masks):
        inside = (mask > 127).astype(np.uint8)
        ys, xs = np.nonzero(inside)
        if not len(xs):
            out[i] = 0
            continue
        distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3) - cv2.distanceTransform(
            1 - inside, cv2.DIST_L2, 3
        )
        if rng.random() < 0.3:  # the error itself flickers
            pattern = 0.7 * pattern + 0.7 * _ragged(rng, (height, width), max(4.0, side * 0.15))
        new = (distance + edge + wobble * np.roll(pattern, (int(xs.mean()), int(ys.mean())), (1, 0))) > 0
        new = new.astype(np.uint8) * 255
        if lost is not None and parts is not None and rng.random() < 0.85:
            for x, y, radius in parts[i][lost]:
                cv2.circle(new, (int(x), int(y)), int(max(radius, 1)), _OFF, -1)
            for limb in gone:
                line = parts[i][list(limb)]
                thick = int(np.clip(1.2 * line[0, 2], 2, 80))
                cv2.polylines(new, [line[:, :2].astype(np.int32)], False, _OFF, thick)
        if holes:
            pick = int(spot[0] * (len(xs) - 1))
            axes = (int(1 + spot[1] * 0.14 * side), int(1 + spot[2] * 0.14 * side))
            cv2.ellipse(new, (int(xs[pick]), int(ys[pick])), axes, spot[3] * 180, 0, 360, _OFF, -1)
        if blobs:
            pick = int(spot[3] * (len(xs) - 1))
            jump = (spot[:2] - 0.5) * side * 0.9
            axes = (int(1 + spot[1] * 0.2 * side), int(1 + spot[2] * 0.2 * side))
            cv2.ellipse(
                new, (int(xs[pick] + jump[0]), int(ys[pick] + jump[1])), axes, spot[0] * 180, 0, 360, _ON, -1
            )
        out[i] = new if (new > 0).sum() > 0.25 * len(xs) else mask
    return out
