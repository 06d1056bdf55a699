# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores of predictors on rendered clips, real clips, rigged models and AMA sequences: one command, one table.

Nothing here needs torch: what is scored is the exported network, as a user runs it.
"""

from __future__ import annotations

from .run import evaluate, main, publish, read
from .scores import compare, overlap

__all__ = ["compare", "evaluate", "main", "overlap", "publish", "read"]
