# SPDX-License-Identifier: GPL-3.0-or-later
"""How jerkily a subject itself moves in the picture, told by flow: what jitter on a real clip is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...clip.flow import flow, warp

Array = np.ndarray

_SIDE = 480  # longest side flow is measured on, pixels
_RETURN = 0.02  # of √(mask area): a pixel that comes back farther off than this was hidden, or lost


def seen_jitter(
    frames: Sequence[Array], masks: Sequence[Array], cuts: Sequence[int] | Array = ()
) -> float:
    """Mean acceleration of what the masks show, in % of √(mask area) a frame²; NaN where nothing can be followed.

    frames: ``(h, w, 3)`` uint8; masks ``(h, w)`` bool, at least three of each. A pixel's acceleration is where flow
    takes it in the next frame plus where it takes it in the one before; those that do not return from either do not
    count. Flow has errors of a few tenths of a percent, and rounds off what is quick and small: below one percent it
    says little, above it rather too little. cuts: frames that begin another shot; nothing is followed into them.
    """
    scale = min(1.0, _SIDE / max(masks[0].shape))
    size = round(masks[0].shape[1] * scale), round(masks[0].shape[0] * scale)
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    found, before = [], None
    new = {int(cut) for cut in cuts}
    for t, (one, two, whole) in enumerate(zip(small, small[1:], masks, strict=False), 1):
        if t in new:
            before = None
            continue
        there, back = flow(one, two), flow(two, one)
        mask = cv2.resize(whole.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        side = float(np.sqrt(max(mask.sum(), 1)))
        if before is not None:
            came, went = before
            sure = mask.copy()
            for first, second in ((there, back), (came, went)):
                sure &= np.linalg.norm(first + warp(second, first), axis=-1) < _RETURN * side
            if sure.any():
                found.append(100 * float(np.linalg.norm((there + came)[sure], axis=-1).mean()) / side)
        before = back, there
    return float(np.mean(found)) if found else float("nan")
