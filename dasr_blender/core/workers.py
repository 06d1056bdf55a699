# SPDX-License-Identifier: GPL-3.0-or-later
"""How many threads a clip's frames are shared out among."""

from __future__ import annotations

import os

_MOST = 8  # frames come in a few dozen pieces; more threads would wait for each other


def worker_count() -> int:
    """One a processor core, 8 at most."""
    return min(os.cpu_count() or 1, _MOST)
