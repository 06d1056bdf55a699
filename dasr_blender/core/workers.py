# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on a clip's frames, shared out among threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_MOST = 8  # frames come in a few dozen pieces; more threads would wait for each other

Item = TypeVar("Item")
Made = TypeVar("Made")


def worker_count() -> int:
    """One a processor core, 8 at most."""
    return min(os.cpu_count() or 1, _MOST)


def usable_threads(asked: int) -> int:
    """As many as were asked for, though no more than the machine has: more only wait for each other."""
    return min(asked, os.cpu_count() or 1)


def shared_out(count: int, about: int) -> list[slice]:
    """Frames shared out in runs of `about` so many, of one length and as many for each worker."""
    workers = worker_count()
    number = workers * max(1, round(count / (about * workers)))
    ends = [count * k // number for k in range(number + 1)]
    return [slice(a, b) for a, b in zip(ends, ends[1:], strict=False) if b > a]


def made_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Generator[Made, None, None]:
    """What `make` makes of each item, in their order, while others are being made: a few at most wait to be taken.

    Closing the iterator, or an error in it, lets go of those not yet begun.
    """
    count = worker_count()
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
