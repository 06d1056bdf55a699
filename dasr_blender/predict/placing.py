# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the subject is: translations solved from the silhouette that the picture really shows."""

from __future__ import annotations

import numpy as np

from .config import TrackConfig
from .silhouettes import CropView

Array = np.ndarray


def fit_box(
    view: CropView, rotation: Array, place: Array, vertices: Array, frames: Array, config: TrackConfig
) -> Array:
    """Translations ``(n, 3)`` moved so that the body fills the mask's box.

    rotation ``(n, 3, 3)`` and place ``(n, 3)``: relative to the crop, of `frames` ``(n,)``.  vertices ``(T, V, 3)``.
    """
    pixels = view.pixels(view.poses(rotation, place, frames), vertices[frames], frames)[..., :2]
    drawn = np.stack([pixels.min(1), pixels.max(1)], 1)  # (n, 2 ends, 2 axes)
    wanted, seen = view.mask_box(frames)
    prior = np.where(seen.all((1, 2)), config.prior, 6 * config.prior)
    return _rescale(place, drawn / view.size - 0.5, wanted / view.size - 0.5, seen, prior)


def _rescale(place: Array, drawn: Array, wanted: Array, weight: Array, prior: Array | float) -> Array:
    """Move (u, v) and scale so that what is drawn lies where it is wanted.

    place (N, 3); drawn and wanted (N, P, 2), the same P features of both outlines along x and y, in crop sides
    from the crop's centre; weight (N, P, 2). Solves s·(drawn − root) + t = wanted − root for one scale and two
    shifts, least squares, with `prior` (one number or (N,)) holding s = 1 and t = 0: exact for a subject far
    away, repeated for one that is near.
    """
    root = place[:, None, :2]
    from_root, target = drawn - root, wanted - root
    weight = weight.astype(np.float64)
    normal, right = np.zeros((len(place), 3, 3)), np.zeros((len(place), 3))
    normal[:, 0, 0] = (weight * from_root**2).sum((1, 2))
    right[:, 0] = (weight * from_root * target).sum((1, 2))
    for axis in range(2):
        w = weight[..., axis]
        normal[:, 0, 1 + axis] = normal[:, 1 + axis, 0] = (w * from_root[..., axis]).sum(1)
        normal[:, 1 + axis, 1 + axis] = w.sum(1)
        right[:, 1 + axis] = (w * target[..., axis]).sum(1)
    # the scale's own prior is in units of the outline's half width, about 0.4 crop sides
    hold = np.broadcast_to(prior, len(place))[:, None] * np.array([0.16, 1.0, 1.0])
    normal += hold[:, :, None] * np.eye(3)
    right[:, 0] += hold[:, 0]
    scale, dx, dy = np.linalg.solve(normal, right[..., None])[..., 0].T
    scale = np.clip(scale, 0.5, 2.0)
    return np.stack([place[:, 0] + dx, place[:, 1] + dy, place[:, 2] - np.log(scale)], 1)


def fit_silhouette(
    view: CropView,
    rotation: Array,
    place: Array,
    predicted: Array,
    vertices: Array,
    faces: Array,
    config: TrackConfig,
) -> Array:
    """One pass of solving the translation from the silhouette; place (T, 3) → (T, 3).

    The features are where 4, 25, 50, 75 and 96 % of the outline's area lie along x and y: like its box, but a
    raised tail or a lost ear moves them little. Both outlines are cut by the picture's border in the same way.
    """
    frames = np.arange(len(place))
    drawn = view.drawn(view.poses(rotation, place, frames), vertices, faces, frames)
    usable = drawn.any((1, 2)) & view.masks.any((1, 2))
    levels = np.array([0.04, 0.25, 0.5, 0.75, 0.96])
    have, want = (_quantiles(m, levels) / view.size - 0.5 for m in (drawn, view.masks))
    weight = np.broadcast_to(usable[:, None, None], have.shape) * np.array([1.0, 0.3, 0.3, 0.3, 1.0])[:, None]
    # Along an axis where the border cuts the subject, moving it changes how much of it is seen: there only the
    # free end says something, and the prediction counts for more.
    _, free = view.mask_box(frames)
    whole = free.all(1)  # (T, 2 axes)
    weight = np.where(whole[:, None], weight, 0.0)
    weight[:, 0] += np.where(whole, 0.0, 0.5 * (free[:, 0] & usable[:, None]))
    weight[:, -1] += np.where(whole, 0.0, 0.5 * (free[:, 1] & usable[:, None]))
    prior = np.where(whole.all(1), config.prior, 6 * config.prior)
    moved = _rescale(place, have, want, weight, prior)
    # a last word for the prediction: depth drifts least where the outline says little
    return np.where(usable[:, None], moved + 0.5 * config.prior * (predicted - moved) * [0, 0, 1], place)


def _quantiles(masks: Array, levels: Array) -> Array:
    """Where given shares (P,) of the area of masks (N, S, S) lie along x and y: (N, P, 2), pixels."""
    found = []
    for across in (1, 2):
        total = np.cumsum(masks.sum(across), axis=1, dtype=np.float64)
        share = np.concatenate([np.zeros((len(masks), 1)), total], 1) / np.maximum(total[:, -1:], 1)
        upper = (share[:, None, :] < levels[:, None]).sum(-1).clip(1, masks.shape[-1])  # first edge beyond
        low, high = (np.take_along_axis(share, upper - k, 1) for k in (1, 0))
        found.append(upper - 1 + (levels - low) / np.maximum(high - low, 1e-9))
    return np.stack(found, -1)
