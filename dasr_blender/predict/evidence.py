# SPDX-License-Identifier: GPL-3.0-or-later
"""What the picture and the network say about a window of frames, laid out for the fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields

import cv2
import numpy as np

from ..core.pose_errors import credible_error
from ..core.workers import worker_count
from .contour import Outlines, read_outlines
from .fit_body import BodyModel, Start
from .fit_config import FitConfig
from .student import Prediction
from .surface import surest_cells

Array = np.ndarray
# pictures (S, S, 3) uint8 of a frame and the next → displacement in pixels (S, S, 2)
FlowMaker = Callable[[Array, Array], Array]


@dataclass(frozen=True, eq=False)
class Evidence:
    """A window of T frames.

    start: what the unknowns are counted from.  outlines: of the masks.  trust ``(T,)``: in the frame's mask, 0…1.
    prior ``(T, n)``: usual error of each unknown.  surface_vertex, surface_target, surface_weight ``(T, N[, 2])``:
    coarse vertices and where the surface map shows them.  flow ``(T, F, F, 2)`` float32, in pixels of its own, None
    without; the last frame's is unused.  foot ``(T, F)``: the vertex that each foot stands on, planted ``(T, F, 3)``:
    where, in camera space, standing ``(T, F)``: how surely, and leash ``(T, F)``: metres at which it is no longer
    believed to; nothing to begin with.
    """

    start: Start
    outlines: Outlines
    trust: Array
    prior: Array
    surface_vertex: Array
    surface_target: Array
    surface_weight: Array
    flow: Array | None
    foot: Array
    planted: Array
    standing: Array
    leash: Array

    def __len__(self) -> int:
        return len(self.trust)

    def part(self, frames: slice) -> Evidence:
        """Some of the frames."""
        values = []
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None:
                value = value.part(frames) if hasattr(value, "part") else value[frames]
            values.append(value)
        return Evidence(*values)


@dataclass(frozen=True, eq=False)
class ClipData:
    """The whole clip as the fit is given it; see `fit.fit` for shapes.

    cuts ``(C,)``: frames that begin another shot.
    """

    start: Start
    crops: Array
    image_size: Array
    prediction: Prediction
    trust: Array
    flow: FlowMaker | None
    cuts: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def linked(self, frames: Array) -> Array:
        """Which of some frames ``(n,)`` are followed by the next one of them, in the clip and in one shot."""
        shot = np.searchsorted(self.cuts, frames, side="right")
        return np.append((np.diff(frames) == 1) & (np.diff(shot) == 0), False)

    def window(self, model: BodyModel, frames: Array, start: Start, config: FitConfig) -> Evidence:
        """Evidence of some frames ``(n,)``; frames that do not follow each other have no flow."""
        crops = self.crops[frames]
        outlines = read_outlines(crops[:, 3], start.center, start.side, self.image_size, config.edges)
        vertex, target, weight = surface_points(model, self.prediction, frames, config)
        flow = None
        if self.flow is not None and config.flow_evidence > 0:
            size = min(crops.shape[2], config.flow_size)
            flow = np.zeros((len(frames), size, size, 2), np.float32)
            first = np.flatnonzero(self.linked(frames))
            with ThreadPoolExecutor(worker_count()) as pool:
                pictures = list(pool.map(lambda crop: picture(crop, size), crops))
                here, there = ([pictures[t] for t in frame] for frame in (first, first + 1))
                for t, moved in zip(first, pool.map(self.flow, here, there), strict=True):
                    flow[t] = moved
        nowhere = np.zeros((len(frames), 0))
        return Evidence(
            start, outlines, self.trust[frames], prior_errors(model, self.prediction, frames, config),
            vertex, target, weight, flow, nowhere.astype(np.int64), nowhere[..., None].repeat(3, 2), nowhere, nowhere,
        )  # fmt: skip


def picture(crop: Array, size: int) -> Array:
    """The colours of a crop ``(4, S, S)`` uint8 as a picture ``(size, size, 3)``; smaller ones stay as they are."""
    colours = cv2.merge([*crop[:3]])
    if size < len(colours):
        colours = cv2.resize(colours, (size, size), interpolation=cv2.INTER_AREA)
    return colours


def surface_points(
    model: BodyModel, prediction: Prediction, frames: Array, config: FitConfig
) -> tuple[Array, Array, Array]:
    """The surest cells of the surface map: nearest coarse vertex ``(n, N)``, place ``(n, N, 2)``, weight ``(n, N)``."""
    if prediction.surface_map is None or prediction.surface_confidence is None:
        count = len(frames)
        return (
            np.zeros((count, 1), np.int64),
            np.zeros((count, 1, 2), np.float32),
            np.zeros((count, 1), np.float32),
        )
    body = model.category.body.vertices[model.coarse.vertex]
    shown, sure = prediction.surface_map[frames], prediction.surface_confidence[frames]
    _, vertex, at, weight = surest_cells(shown, sure, body, config.surface_points, config.surface_least)
    return vertex, at.astype(np.float32), weight.astype(np.float32)


def prior_errors(model: BodyModel, prediction: Prediction, frames: Array, config: FitConfig) -> Array:
    """Usual error ``(n, 6 + 3 (J − 1))`` of the tracked pose: the joints' as the network itself expects it, and along
    each of their axes as it usually errs."""
    out = np.empty((len(frames), model.size))
    out[:, :3], out[:, 3:5], out[:, 5] = config.root_turn, config.root_shift, config.root_depth
    expected = credible_error(prediction.joint_confidence[frames, 1:])
    turns = config.joint_turn * expected[..., None] * model.pose_errors.scale
    out[:, 6:] = np.maximum(turns, 0.02).reshape(len(frames), -1)
    return out


def frame_trust(
    masks: Array, boxes_side: Array, interpolated: Array | None, shots: Sequence[slice] = ()
) -> Array:
    """Trust in every frame's mask, ``(T,)`` in 0…1, from the crops' masks ``(T, S, S)``, uint8 0…255 or 0…1; shots: of
    the clip, where it is cut.

    Little where a mask was only filled in; less where its area jumps against the frames around it, which a
    subject's does not: something is in front of it, or the mask has run into the background.
    """
    shown = masks > (127 if masks.dtype == np.uint8 else 0.5)
    area = shown.mean((1, 2)) * np.asarray(boxes_side, np.float64) ** 2
    trust, reach = np.ones(len(masks)), 4
    for shot in shots or [slice(0, len(masks))]:
        if shot.stop - shot.start >= 5:
            padded = np.pad(np.log(np.maximum(area[shot], 1e-9)), reach, mode="edge")
            around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
            jump = np.abs(padded[reach:-reach] - around)
            trust[shot] *= 1 / (1 + (jump / 0.15) ** 2)
    if interpolated is not None:
        trust = np.where(interpolated, 0.03, trust)
    empty = ~shown.any((1, 2))
    return np.where(empty, 0.0, trust)


def follow(outlines: Outlines, flow: Array, seen: Array) -> tuple[Array, Array]:
    """Where flow ``(T, F, F, 2)``, in pixels of its own, takes points seen at ``(T, N, 2)``: places in the next frame's
    crop, and trust ``(T, N)``.

    Trusted where the point is on the subject and lands on it.
    """
    count, cells = outlines.size, flow.shape[1]
    frame = np.arange(len(seen))[:, None]

    def cell(place: Array, size: int) -> tuple[Array, Array]:
        column, row = np.moveaxis(np.clip(np.floor((place + 0.5) * size), 0, size - 1).astype(np.int64), -1, 0)
        return row, column

    moved = flow[(frame, *cell(seen, cells))] / cells
    landed = seen + moved
    after = np.minimum(frame + 1, len(seen) - 1)
    distance = outlines.distance
    deep = -0.5 / count
    trust = (distance[(frame, *cell(seen, count))] < deep) & (distance[(after, *cell(landed, count))] < deep)
    trust &= (np.abs(moved) < 0.25).all(-1)
    return landed.astype(np.float32), trust.astype(np.float32)


__all__ = [
    "ClipData",
    "Evidence",
    "FlowMaker",
    "follow",
    "frame_trust",
    "picture",
    "prior_errors",
    "surface_points",
]
