# SPDX-License-Identifier: GPL-3.0-or-later
"""From a place in the clip editor's window to a correction of the masks."""

from __future__ import annotations

from collections.abc import Sequence

Place = tuple[float, float]


def shown_frame(scene_frame: int, clip_start: int, clip_offset: int = 0) -> int:
    """Frame of the source, from 0, that a clip beginning at scene frame `clip_start` shows; 0 before it."""
    return max(scene_frame - clip_start + clip_offset, 0)


def pixel_at(view: Sequence[float], size: Sequence[int]) -> Place | None:
    """Pixels from the upper left, of a place in the clip editor's view, which runs 0…1 from the picture's lower
    left; size is (width, height). None outside the picture."""
    x, y = float(view[0]), 1.0 - float(view[1])
    return (x * size[0], y * size[1]) if 0.0 <= x < 1.0 and 0.0 <= y < 1.0 else None


def box_between(a: Place, b: Place) -> tuple[float, float, float, float] | None:
    """x, y, width, height of the box with these corners; None where it has less than two pixels a side."""
    width, height = abs(a[0] - b[0]), abs(a[1] - b[1])
    return (min(a[0], b[0]), min(a[1], b[1]), width, height) if min(width, height) >= 2.0 else None


def strokes(kind: str, a: Place, b: Place, arm: float) -> list[Place]:
    """Ends of the lines, two a line, that show a correction: a box with the corners a and b, a plus or a minus at a.

    arm: half the length of the plus and the minus, in the unit of the places.
    """
    if kind == "BOX":
        corners = [a, (b[0], a[1]), b, (a[0], b[1])]
        return [end for i in range(4) for end in (corners[i], corners[(i + 1) % 4])]
    level = [(a[0] - arm, a[1]), (a[0] + arm, a[1])]
    return level if kind == "OFF" else [*level, (a[0], a[1] - arm), (a[0], a[1] + arm)]


def spoken(kind: str, frame: int, numbers: Sequence[float], path: str = "") -> str:
    """A correction as `--correct` takes it. kind: ON, OFF, BOX (numbers x, y, width, height) or MASK (path)."""
    if kind == "MASK":
        return f"{frame}:{path}"
    count = 4 if kind == "BOX" else 2
    return f"{frame}:{'!' if kind == 'OFF' else ''}" + ",".join(f"{n:g}" for n in numbers[:count])
