# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames made by threads come in their order, few ahead, and stop with whoever takes them."""

from __future__ import annotations

import threading
import time

import pytest

from dasr_blender.core import workers
from dasr_blender.core.workers import made_ahead, shared_out, worker_count


def test_in_order_though_the_first_takes_longest() -> None:
    begun: list[int] = []

    def slow(i: int) -> int:
        begun.append(i)
        time.sleep(0.05 if i == 0 else 0.001)
        return i * i

    made = made_ahead(slow, range(100))
    assert next(made) == 0 and max(begun) <= 2 * worker_count() + 1
    assert list(made) == [i * i for i in range(1, 100)]


def test_an_error_comes_out_and_what_is_not_begun_never_is() -> None:
    begun: list[int] = []

    def fails(i: int) -> int:
        begun.append(i)
        if i == 3:
            raise ValueError("the fourth")
        return i

    taken = []
    with pytest.raises(ValueError, match="the fourth"):
        for value in made_ahead(fails, range(1000)):
            taken.append(value)
    assert taken == [0, 1, 2] and max(begun) < 40


def test_closing_lets_go_of_the_rest() -> None:
    gate, begun = threading.Event(), []

    def waits(i: int) -> int:
        begun.append(i)
        if i:
            gate.wait(0.2)
        return i

    made = made_ahead(waits, range(1000))
    assert next(made) == 0
    made.close()
    assert max(begun) <= 2 * worker_count() + 1


@pytest.mark.parametrize(("count", "cores"), [(1, 2), (3, 8), (90, 2), (130, 2), (192, 4)])
def test_frames_are_shared_out_evenly(count: int, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "worker_count", lambda: cores)
    pieces = shared_out(count, 32)
    assert [t for piece in pieces for t in range(piece.start, piece.stop)] == list(range(count))
    sizes = [piece.stop - piece.start for piece in pieces]
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= 48
    assert len(sizes) % cores == 0 or count < cores
