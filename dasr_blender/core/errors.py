# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors a user can act on: one sentence that says what was wrong, where, and what to do."""

from __future__ import annotations


class DasrError(Exception):
    """Base of every error that is the input's fault and not the program's."""


class CategoryError(DasrError):
    """A category bundle is missing, damaged or does not follow the format."""


class MotionError(DasrError):
    """A motion is damaged, inconsistent, or does not fit its category."""


class Cancelled(DasrError):
    """The caller's `cancel()` said to stop."""


def counted(number: int, thing: str) -> str:
    """`1 frame`, `2 frames`: for messages."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
