# SPDX-License-Identifier: GPL-3.0-or-later
"""A network over a long clip, in pieces that overlap by what it looks at to either side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def run_in_pieces(
    session: Any,
    outputs: Sequence[str],
    feed: Callable[[int, int], Mapping[str, Array]],
    count: int,
    batch: int,
    halo: int,
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, Array]:
    """Answers ``(count, …)`` by name, the same wherever the clip is cut.

    session: onnxruntime's.  feed: inputs of the frames from the first up to the second number.  count: frames of the
    clip.  batch: frames a piece.  halo: frames on each side that can change one frame's answer.
    """
    pieces: dict[str, list[Array]] = {name: [] for name in outputs}
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        first, last = max(0, start - halo), min(count, stop + halo)
        for name, answer in zip(outputs, session.run(list(outputs), feed(first, last)), strict=True):
            pieces[name].append(np.asarray(answer)[start - first : stop - first])
        if progress is not None:
            progress(stop / count, f"frame {stop} of {count}")
    return {name: np.concatenate(parts) for name, parts in pieces.items()}
