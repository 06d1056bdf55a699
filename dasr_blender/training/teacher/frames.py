# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures, masks, flow and surface maps of all frames, as tensors that rays are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from ...clip.flow import flow
from ...core.category import Category
from .clips import TeacherClip

Array = np.ndarray

RIM = 0.06
"""width of the band round a mask's edge that rays are drawn from more often, crop sides"""
FLOW_ERROR = 1.5
"""pixels that flow there and back may miss by"""


@dataclass(eq=False)
class Frames:
    """N frames. Squares of R × R pixels, or cells, of each frame's crop.

    clip, number, subject (N,): which frame it is; after (N,): row of the frame that follows it in its shot, −1 for
    none; before (N,) likewise; quality (N,).  colour (N, 3, R, R) uint8; mask (N, R, R) 0…1; known (N, R, R): whether
    the pixel lies in the picture.  flow (N, R, R, 2): where a pixel goes, crop sides; flow_trust (N, R, R).
    told (N, G, G): the number of the body's vertex that each cell shows; told_trust (N, G, G).
    draw (N, R·R): chance of each pixel to be drawn.
    """

    clip: Tensor
    number: Tensor
    subject: Tensor
    after: Tensor
    before: Tensor
    quality: Tensor
    colour: Tensor
    mask: Tensor
    known: Tensor
    flow: Tensor
    flow_trust: Tensor
    told: Tensor
    told_trust: Tensor
    draw: Tensor

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def rows(self) -> list[tuple[int, int]]:
        """(clip, frame) of each row."""
        return list(zip(self.clip.tolist(), self.number.tolist(), strict=True))


def crop_flow(clip: TeacherClip, side: int) -> tuple[Array, Array]:
    """Of every frame but the last: where each pixel of its crop goes (T, R, R, 2), crop sides, and trust (T, R, R)."""
    scene, count = clip.scene, len(clip)
    moves, trust = np.zeros((count, side, side, 2), np.float32), np.zeros((count, side, side), np.float32)
    cells = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    for i in range(count - 1):
        a, b = scene.frame(i), scene.frame(i + 1)
        there, back = flow(a, b), flow(b, a)
        x = (scene.center[i, 0] + scene.side[i] * cells)[None].repeat(side, 0).astype(np.float32) - 0.5
        y = (scene.center[i, 1] + scene.side[i] * cells)[:, None].repeat(side, 1).astype(np.float32) - 0.5
        move = cv2.remap(there, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        returned = cv2.remap(
            back, x + move[..., 0], y + move[..., 1], cv2.INTER_LINEAR, borderValue=(1e3, 1e3)
        )
        miss = np.linalg.norm(move + returned, axis=-1)
        trust[i] = np.exp(-0.5 * (miss / FLOW_ERROR) ** 2) * (miss < 3 * FLOW_ERROR)
        moves[i] = move / scene.side[i]
    return moves, trust


def chances(mask: Array, known: Array) -> Array:
    """Chance (R, R) of each pixel to be drawn: half near the mask's edge, a third inside, the rest outside."""
    shown = (mask > 0.5).astype(np.uint8)
    side = len(mask)
    inner = cv2.distanceTransform(shown, cv2.DIST_L2, 3)
    outer = cv2.distanceTransform(1 - shown, cv2.DIST_L2, 3) if shown.any() else np.full(mask.shape, 1e3)
    rim = (np.maximum(inner, outer) < RIM * side).astype(np.float64)
    inside = shown.astype(np.float64)
    outside = ((1 - shown) * np.exp(-outer / (0.15 * side))).astype(np.float64)
    out = np.zeros(mask.shape)
    for part, share in ((rim, 0.5), (inside, 0.3), (outside + 0.02, 0.2)):
        part = part * known
        if part.sum() > 0:
            out += share * part / part.sum()
    return out if out.sum() > 0 else np.full(mask.shape, 1.0 / mask.size)


def load_frames(category: Category, clips: list[TeacherClip], side: int, least: float = 0.15) -> Frames:
    """Every frame of `clips` that was not rejected. least: confidence below which a cell of the map says nothing."""
    columns: dict[str, list[Array]] = {name: [] for name in Frames.__dataclass_fields__}
    offset = 0
    for c, clip in enumerate(clips):
        used, scene = clip.used, clip.scene
        crops = scene.crops(side)[used]
        moves, trust = crop_flow(clip, side)
        moves, trust = moves[used], trust[used]
        follows = np.append((np.diff(used) == 1) & (np.diff(clip.motion.shot[used]) == 0), False)
        trust[~follows] = 0
        width, height = scene.size
        cells = (np.arange(side) + 0.5) / side - 0.5
        x = scene.center[used, :1] + scene.side[used, None] * cells
        y = scene.center[used, 1:] + scene.side[used, None] * cells
        known = ((y > 0) & (y < height))[:, :, None] & ((x > 0) & (x < width))[:, None]
        mask = crops[:, 3].astype(np.float32) / 255
        if scene.interpolated is not None:
            known &= ~scene.interpolated[used, None, None]
        rows = np.arange(len(used)) + offset
        told, sure = _told(category, clip, least)
        columns["clip"].append(np.full(len(used), c))
        columns["number"].append(used)
        columns["subject"].append(np.full(len(used), clip.subject))
        columns["after"].append(np.where(follows, rows + 1, -1))
        columns["before"].append(np.where(np.append(False, follows[:-1]), rows - 1, -1))
        columns["quality"].append(clip.quality[used].astype(np.float32))
        columns["colour"].append(crops[:, :3])
        columns["mask"].append(mask)
        columns["known"].append(known.astype(np.float32))
        columns["flow"].append(moves)
        columns["flow_trust"].append(trust * (mask > 0.5) * known)
        columns["told"].append(told[used])
        columns["told_trust"].append(sure[used])
        columns["draw"].append(
            np.stack([chances(m, k).ravel() for m, k in zip(mask, known, strict=True)]).astype(np.float32)
        )
        offset += len(used)
    return Frames(**{name: torch.as_tensor(np.concatenate(values)) for name, values in columns.items()})


def _told(category: Category, clip: TeacherClip, least: float) -> tuple[Array, Array]:
    """The vertices nearest to what a clip's surface map names (T, G, G), and its trust in them."""
    prediction = clip.prediction
    if prediction is None or prediction.surface_map is None or prediction.surface_confidence is None:
        return np.zeros((len(clip), 1, 1), np.int64), np.zeros((len(clip), 1, 1), np.float32)
    tree = KDTree(category.body.vertices)
    _, near = tree.query(prediction.surface_map.reshape(-1, 3))
    sure = prediction.surface_confidence.astype(np.float32)
    return near.reshape(sure.shape).astype(np.int64), np.where(sure > least, sure, 0).astype(np.float32)
