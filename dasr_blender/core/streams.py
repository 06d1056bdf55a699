# SPDX-License-Identifier: GPL-3.0-or-later
"""What is printed, where the terminal or the pipe cannot show all of it."""

from __future__ import annotations

import io
import sys


def print_what_can_be_shown() -> None:
    """Write what stdout's code page lacks, such as × on a Russian Windows, as a number instead of raising."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does by itself
