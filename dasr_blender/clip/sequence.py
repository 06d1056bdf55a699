# SPDX-License-Identifier: GPL-3.0-or-later
"""Still images on disk: finding the files of a sequence in order, and reading one of them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # off in the wheels; Blender users have EXR sequences

import cv2
import numpy as np

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".tga", ".exr", ".hdr"}
)
_PATTERN = re.compile(r"%0?(\d*)d|(#+)")


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from writing on stderr about a damaged file; the error we raise says it."""
    logging = cv2 if hasattr(cv2, "getLogLevel") else cv2.utils.logging  # type: ignore[attr-defined]  # moved after 4.12
    level = logging.getLogLevel()
    logging.setLogLevel(0)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def natural_key(name: str) -> tuple:
    """Sort key under which shot9 comes before shot10."""
    return tuple((0, int(p), p) if p.isdigit() else (1, 0, p.lower()) for p in re.split(r"(\d+)", name) if p)


def is_pattern(path: str | Path) -> bool:
    """Whether the file name holds `####` or `%04d` and is not itself an existing file."""
    return _PATTERN.search(Path(path).name) is not None and not Path(path).exists()


def folder_images(folder: str | Path) -> list[Path]:
    """The images of a folder in natural order, hidden files left out; OSError if it cannot be listed."""
    found = (p for p in Path(folder).iterdir() if not p.name.startswith("."))
    images = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    return sorted(images, key=lambda p: natural_key(p.name))


def pattern_images(pattern: str | Path) -> tuple[list[Path], list[int]]:
    """Files of `shot.####.png` or `shot.%04d.png` by number, and the numbers missing between them."""
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
    present = set(numbers)
    missing = [n for n in range(numbers[0], numbers[-1]) if n not in present] if numbers else []
    return [numbered[n] for n in numbers], missing


def decode_image(data: bytes, suffix: str) -> np.ndarray | None:
    """(H, W, 3) RGB or (H, W, 4) RGBA uint8 from a file's bytes, None if they are no readable image.

    Formats that carry alpha are decoded unchanged; the others through the path that turns EXIF
    orientation upright. 16-bit and floating-point images are brought to 8 bits.
    """
    if not data:
        return None
    alpha = suffix.lower() in {".png", ".webp", ".tif", ".tiff", ".exr", ".tga", ".jp2"}
    try:
        with quiet_opencv():
            image = cv2.imdecode(
                np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR
            )
    except cv2.error:
        return None
    if image is None or image.size == 0:
        return None
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    elif image.dtype != np.uint8:  # linear light: display transform of sRGB, roughly
        image = (np.clip(np.nan_to_num(image), 0.0, 1.0) ** (1.0 / 2.2) * 255.0 + 0.5).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
