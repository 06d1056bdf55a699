# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are either whole or absent, and what a clip is called."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

GENERIC_NAMES = frozenset(("frames", "images", "jpegimages", "rgb", "color", "img", "input"))


def clip_name(clip: str | os.PathLike[str]) -> str:
    """A short name for a clip, at most 40 characters: its file or folder without suffix and counter.

    `shots/dog.mp4`, `shots/dog.####.png`, `shots/dog_%04d.png` and `shots/dog/frames/` are all `dog`.
    """
    path = Path(os.fspath(clip).rstrip("/\\"))
    stem = path.name if path.is_dir() else re.sub(r"[\W_]*(#+|%0?\d*d|\*)$", "", path.stem)
    if stem.lower() in GENERIC_NAMES or not stem.strip(" ._-#"):
        stem = path.absolute().parent.name
    return stem.strip()[:40] or "clip"


@contextlib.contextmanager
def written_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends well, else remove it.

    The temporary name keeps the suffix, because writers such as ``np.savez`` choose by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
