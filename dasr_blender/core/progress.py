# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of a part of some work, told as progress of the whole."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]  # share that is done, 0…1, and words for a person


def between(report: Progress | None, first: float, last: float) -> Progress:
    """Told 0…1 of a part, it reports `first` to `last` of the whole; nothing where nobody listens."""
    if report is None:
        return lambda share, text: None
    return lambda share, text: report(first + (last - first) * share, text)


def shot_by_shot(report: Progress | None, shots: list[slice]) -> list[Progress]:
    """`between` for each shot of a clip, as many frames as it has."""
    count = max(shots[-1].stop, 1)
    return [between(report, shot.start / count, shot.stop / count) for shot in shots]
