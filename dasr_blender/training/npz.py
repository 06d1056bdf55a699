# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrays from an `.npz` that a step before this one wrote, with a sentence for one that is damaged. No torch."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .errors import TrainingError


def read_npz(path: str | Path, needed: Iterable[str], remedy: str) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`, by name.

    needed: names that must be among them.  remedy: what to do about a damaged file, as the end of a sentence.
    Raises OSError where there is no such file, and TrainingError naming one that is damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise TrainingError(f"{path}: not a readable file of arrays ({error}); {remedy}") from error
    lacking = [name for name in needed if name not in arrays]
    if lacking:
        raise TrainingError(f"{path}: lacks the array '{lacking[0]}'; {remedy}")
    return arrays
