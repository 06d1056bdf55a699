# SPDX-License-Identifier: GPL-3.0-or-later
"""What numbers a command can be given, and a sentence for those that it cannot. No torch.

Names are those of a configuration's fields, with a dot before one of a configuration inside it: `field.width`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from .errors import TrainingError


def at_least(least: float, settings: object, *names: str) -> None:
    """Raise TrainingError for a setting below `least`, or one that is not finite."""
    _all(settings, names, lambda value: least <= value < float("inf"), f"at least {least:g}")


def above_zero(settings: object, *names: str) -> None:
    """Raise TrainingError for a setting that is not above 0, or not finite."""
    _all(settings, names, lambda value: 0 < value < float("inf"), "above 0")


def shares(settings: object, *names: str) -> None:
    """Raise TrainingError for a setting that is no share of a whole."""
    _all(settings, names, lambda value: 0 <= value <= 1, "between 0 and 1")


def _all(settings: object, names: tuple[str, ...], good: Callable[[float], bool], what: str) -> None:
    for name in names:
        value = attrgetter(name)(settings)
        if not good(value):
            raise TrainingError(f"--{name.replace('_', '-')} must be {what}, not {value:g}")
