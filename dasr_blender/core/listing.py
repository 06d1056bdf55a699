# SPDX-License-Identifier: GPL-3.0-or-later
"""Still images on disk: finding the files of a sequence in order, and the numbers that it lacks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".tga", ".exr", ".hdr"}
)
_PATTERN = re.compile(r"%0?(\d*)d|(#+)")
_COUNTER = re.compile(r"(.*?)(\d+)(\D*)")  # what a name says before its last number, that, and what follows
_MOST = 9  # missing numbers that are told


def natural_key(name: str) -> tuple:
    """Sort key under which shot9 comes before shot10."""
    return tuple((0, int(p), p) if p.isdigit() else (1, 0, p.lower()) for p in re.split(r"(\d+)", name) if p)


def is_pattern(path: str | Path) -> bool:
    """Whether the file name holds `####` or `%04d` and is not itself an existing file."""
    return _PATTERN.search(Path(path).name) is not None and not os.path.exists(path)


def folder_images(folder: str | Path) -> list[Path]:
    """The images of a folder in natural order, hidden files left out; OSError if it cannot be listed."""
    found = (p for p in Path(folder).iterdir() if not p.name.startswith("."))
    images = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    return sorted(images, key=lambda p: natural_key(p.name))


def pattern_images(pattern: str | Path) -> tuple[list[Path], list[int]]:
    """Files of `shot.####.png` or `shot.%04d.png` by number, and the first numbers missing between them."""
    pattern = Path(pattern)
    match = _PATTERN.search(pattern.name)
    if match is None:
        raise ValueError(f"{pattern.name} holds neither #### nor %04d")
    digits = len(match.group(2)) if match.group(2) else int(match.group(1) or 1)
    before, after = re.escape(pattern.name[: match.start()]), re.escape(pattern.name[match.end() :])
    name = re.compile(f"{before}(\\d{{{digits},}}){after}")
    numbered: dict[int, Path] = {}
    for path in pattern.parent.iterdir() if pattern.parent.is_dir() else ():
        found = name.fullmatch(path.name)
        if found and path.is_file():
            numbered.setdefault(int(found.group(1)), path)
    numbers = sorted(numbered)
    return [numbered[n] for n in numbers], list(islice(_between(numbers), _MOST))


def missing_numbers(files: Sequence[Path]) -> list[int]:
    """The first numbers missing between files in order; none where their names differ by more than one number."""
    counters = [_COUNTER.fullmatch(file.stem) for file in files]
    if len({(c.group(1), c.group(3), f.suffix) if c else None for c, f in zip(counters, files, strict=True)}) != 1:
        return []
    return list(islice(_between([int(c.group(2)) for c in counters if c]), _MOST))


def _between(numbers: Sequence[int]) -> Iterator[int]:
    for low, high in pairwise(numbers):
        yield from range(low + 1, high)
