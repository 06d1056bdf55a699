# SPDX-License-Identifier: GPL-3.0-or-later
"""What frames with a known mask teach about all others.

The network draws the same things wrongly all along a clip: a shadow taken for the animal, legs left out. So from the
frames that a person corrected a forest of trees (Breiman, "Random Forests", 2001; OpenCV's) learns which pixels are the
subject's by what was found there and around, colours, the scene behind, and the place on the subject, and is asked
about every frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import numpy as np

from ..core.workers import made_ahead
from .evidence import LIMIT, log_odds

TREES, DEPTH, LEAF = 40, 10, 20
SAMPLES = 8000  # pixels of each frame to learn from
REACH = 0.2  # of √(the mask's area): pixels no farther from what was found are always asked about
FARTHEST = 1.0  # and none farther than this, even where little was found
BELIEVED = 3.0  # log-odds that the forest's word may reach


def taught(
    frames: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    behind: Sequence[np.ndarray] | None,
    known: Mapping[int, np.ndarray],
    check: Callable[[], object] = lambda: None,
) -> Iterator[np.ndarray]:
    """Log-odds (h, w) float32 of every frame by what the known ones teach, one after another.

    frames: (h, w, 3) uint8 RGB.  found: log-odds (h, w) of each, by all that speaks without a person.  behind: those
    of the scene behind alone, None where it is not known.  known: masks (h, w) bool of some frames, at least one.
    check: called now and then; may raise to stop.
    """

    def described(i: int) -> tuple[list[np.ndarray], np.ndarray]:
        return _described(frames[i], found[i], None if behind is None else behind[i])

    rng, samples, labels, reach = np.random.default_rng(0), [], [], REACH
    for i, mask in known.items():
        values, away = described(i)
        beyond = away[mask]
        # as far from what was found as the subject was in any frame that is known
        reach = max(reach, min(1.1 * float(np.percentile(beyond, 99.5)), FARTHEST)) if len(beyond) else reach
        chosen = rng.permutation(np.flatnonzero((away < reach) | mask))[:SAMPLES]
        samples.append(_rows(values, chosen))
        labels.append(mask.ravel()[chosen].astype(np.float32))
    cv2.setRNGSeed(0)
    forest = cv2.ml.RTrees.create()
    forest.setMaxDepth(DEPTH)
    forest.setMinSampleCount(LEAF)
    forest.setRegressionAccuracy(0.0)
    forest.setTermCriteria((cv2.TERM_CRITERIA_MAX_ITER, TREES, 0))
    forest.train(np.concatenate(samples), cv2.ml.ROW_SAMPLE, np.concatenate(labels))

    def asked(i: int) -> np.ndarray:
        check()
        values, away = described(i)
        said = np.full(away.size, -LIMIT, np.float32)
        near = np.flatnonzero(away < reach)
        if len(near):
            said[near] = log_odds(forest.predict(_rows(values, near))[1][:, 0], BELIEVED)
        return said.reshape(away.shape)

    return made_ahead(asked, range(len(found)))


def _rows(maps: list[np.ndarray], chosen: np.ndarray) -> np.ndarray:
    """What maps (h, w) say of some of their pixels, numbered row by row: (N, maps) float32."""
    return np.stack([np.ravel(values)[chosen] for values in maps], -1).astype(np.float32)


def _described(
    frame: np.ndarray, odds: np.ndarray, behind: np.ndarray | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """What is seen at each pixel, maps (h, w), and how far it is from what was found, (h, w): in √area, negative
    within."""
    mask = (odds > 0).astype(np.uint8)
    size = float(np.sqrt(max(int(mask.sum()), 1)))
    away = (
        cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3) - cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    ) / size
    within = np.clip(odds, -2 * LIMIT, 2 * LIMIT).astype(np.float32)
    columns = [within, *(cv2.GaussianBlur(within, (0, 0), sigma) for sigma in (2, 6, 15)), away]
    rows, cols = np.nonzero(mask)
    for places, axis in ((cols, 1), (rows, 0)):
        low, high = np.percentile(places, [2, 98]) if len(places) else (0.0, 1.0)
        line = (np.arange(mask.shape[axis]) - low) / max(high - low, 1.0)
        columns.append(np.broadcast_to(line if axis else line[:, None], mask.shape))
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB).astype(np.float32)
    for sigma in (1, 3, 8):
        columns += list(np.moveaxis(cv2.GaussianBlur(lab, (0, 0), sigma), -1, 0))
    light = lab[..., 0]
    variance = cv2.GaussianBlur(light**2, (0, 0), 3) - cv2.GaussianBlur(light, (0, 0), 3) ** 2
    columns.append(np.sqrt(np.maximum(variance, 0)))
    if behind is not None:
        columns += [behind, cv2.GaussianBlur(behind, (0, 0), 4)]
    return columns, away
