# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are either whole or absent, where they are, and what a clip is called."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_RUN = uuid.uuid4().hex[:8]  # in the temporary names of this process
_STALE = 86400.0  # seconds after which a temporary file belongs to no process that still runs
_FULL = [getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)]
_WINDOWS = os.name == "nt"
_PATIENCE = 1.0  # seconds
_LONGEST = 150  # bytes of a clip's name in those of files, which may have 255 with all that is added
_LONG = 200  # signs of a path to which a temporary name adds too many for Windows, which takes 260
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)  # raised by a cut-off or wrong .npz
ELSEWHERE = "choose another folder (Output > Folder in Blender, --out on the command line)"
GENERIC_NAMES = frozenset(("frames", "images", "jpegimages", "rgb", "color", "img", "input"))


def clip_name(clip: str | os.PathLike[str]) -> str:
    """A short name for a clip, at most 40 characters, as Blender's names have to be short."""
    return whole_name(clip)[:40]


def whole_name(clip: str | os.PathLike[str]) -> str:
    """A name for a clip's files: its file or folder without suffix and counter.

    `shots/dog.mp4`, `shots/dog.####.png`, `shots/dog_%04d.png` and `shots/dog/frames/` are all `dog`.
    """
    path = Path(os.fspath(clip).rstrip("/\\"))
    stem = path.name if os.path.isdir(path) else re.sub(r"[\s._-]*(#+|%0?\d*d|\*)$", "", path.stem)
    if stem.lower() in GENERIC_NAMES or not stem.strip(" ._-#"):
        stem = path.absolute().parent.name
    return stem.strip().encode(errors="ignore")[:_LONGEST].decode(errors="ignore") or "clip"


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with `~` as the user's home; unchanged where there is no such user."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether a path is UTF-8, or else OpenCV crashes on it and Blender refuses it."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:  # bytes that Python carries along as they are
        return False
    return True


@contextlib.contextmanager
def written_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends well, else remove it.

    The temporary name keeps the suffix, because writers such as ``np.savez`` choose by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{_RUN}-{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        _move(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # on Windows, while a writer that failed still has it open
            temporary.unlink(missing_ok=True)


def _move(temporary: Path, path: Path) -> None:
    """Move a file into place. Windows refuses while one of the two is open, as new files are to a virus scanner for a
    moment: then again for a second."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            if not _WINDOWS or os.path.isdir(path) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Remove what `written_atomically` left half-written in a folder: of this process, or older than a day.

    What another process is writing there stays.
    """
    for path in Path(folder).glob(".*.part*") if os.path.isdir(folder) else ():
        with contextlib.suppress(OSError):  # another process was quicker
            if f".{_RUN}-" in path.name or time.time() - path.stat().st_mtime > _STALE:
                path.unlink()


def write_refusal(target: str | os.PathLike[str], reason: OSError | str) -> str:
    """The sentence for a file or folder that could not be written, whoever was asked to write it.

    reason: the system's error, or another program's words for it.
    """
    if isinstance(reason, OSError):
        full, words = reason.errno in _FULL, reason.strerror or str(reason)
    else:
        full, words = any(os.strerror(code) in reason for code in _FULL), reason
    if full:
        return (
            f"No space left while writing {target}: free some space or {ELSEWHERE} "
            "(finished stages are kept, a second run goes on from them)"
        )
    close = ""
    if _WINDOWS and isinstance(reason, PermissionError) and os.path.isfile(target):
        close = "close it in the program that has it open, or "
    if _WINDOWS and isinstance(reason, FileNotFoundError) and len(os.path.abspath(target)) > _LONG:
        words = "its path is too long for Windows"
    return f"Cannot write {target}: {words}; {close}{ELSEWHERE}"


def files_in(path: str | os.PathLike[str]) -> list[tuple[str, int, int]]:
    """Name, size and time of a file, or of every file in a folder, to tell whether one changed; [] where there is none.

    Raises OSError for what cannot be read.
    """
    path = Path(path)
    found = sorted(p for p in path.iterdir() if p.is_file()) if os.path.isdir(path) else [path]
    stats = [(file.name, file.stat()) for file in found if os.path.isfile(file)]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def add_image(digest: Any, file: Path, data: bytes) -> None:
    """Add an image of a sequence, by its name and bytes, to a hashlib digest: how a clip of images is told again."""
    digest.update(file.name.encode() + b"\0" + data)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
