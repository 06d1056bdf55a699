# SPDX-License-Identifier: GPL-3.0-or-later
"""The focal length that a file itself tells: EXIF in images, Apple's key in QuickTime movies.

EXIF 2.32 (CIPA DC-008): `FocalLengthIn35mmFilm` is the focal length of the camera that sees as much on a 36 × 24 mm
frame, compared by the diagonal; without it, the real focal length and the sensor's pixels a unit of length say how
many pixels it is. QuickTime: item `com.apple.quicktime.camera.focal_length.35mm_equivalent` of a track's or movie's
metadata.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

from ..core.files import expanded
from ..core.listing import folder_images, is_pattern, pattern_images

FILM_DIAGONAL = math.hypot(36.0, 24.0)  # mm
PLAUSIBLE = (4.0, 2500.0)  # mm of 35 mm film
_EXIF_POINTER, _FOCAL, _FOCAL_35 = 0x8769, 0x920A, 0xA405
_PLANE_X, _PLANE_UNIT, _WIDTH, _HEIGHT = 0xA20E, 0xA210, 0xA002, 0xA003
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8}
_APPLE = b"com.apple.quicktime.camera.focal_length.35mm_equivalent"
_HEAD = 1 << 18  # bytes of an image in which its EXIF is looked for
_MOVIE = 1 << 24  # largest movie header that is read


def stated_focal(source: str | Path, size: tuple[int, int]) -> float | None:
    """Focal length in pixels of a clip's first frame as its file states it; None where it does not, or nonsense.

    source: a video file, folder or pattern as `load_clip` takes it.  size: (width, height) of the pictures.
    """
    path = expanded(source)
    try:
        if is_pattern(path):
            path = pattern_images(path)[0][0]
        elif path.is_dir():
            path = folder_images(path)[0]
        if path.suffix.lower() in {".mp4", ".mov", ".m4v", ".qt"}:
            film = _apple(path)
        else:
            with path.open("rb") as file:
                film = _exif_film(file.read(_HEAD), size)
    except (OSError, IndexError, struct.error, ValueError, ZeroDivisionError):
        return None  # a damaged header says nothing; reading the pictures tells of real damage
    if film is None or not PLAUSIBLE[0] <= film <= PLAUSIBLE[1]:
        return None
    return film / FILM_DIAGONAL * math.hypot(*size)


def _exif_film(head: bytes, size: tuple[int, int]) -> float | None:
    """Focal length on 35 mm film from the EXIF in the head of a JPEG, TIFF, PNG or WebP file of a picture `size`."""
    tiff = _tiff(head)
    if tiff is None:
        return None
    order = {b"II": "<", b"MM": ">"}[tiff[:2]]
    start = struct.unpack_from(order + "I", tiff, 4)[0]
    pointer = _directory(tiff, order, start).get(_EXIF_POINTER)
    tags = _directory(tiff, order, int(pointer)) if pointer else {}
    if tags.get(_FOCAL_35):
        return float(tags[_FOCAL_35])
    if not all(tags.get(tag) for tag in (_FOCAL, _PLANE_X, _WIDTH)):
        return None
    per_mm = tags[_PLANE_X] / _UNIT_MM.get(int(tags.get(_PLANE_UNIT, 2)), 25.4)
    longer = max(tags[_WIDTH], tags.get(_HEIGHT, 0))  # the picture may be turned upright, and shrunk
    focal = tags[_FOCAL] * per_mm * max(size) / longer
    return focal * FILM_DIAGONAL / math.hypot(*size)


def _tiff(head: bytes) -> bytes | None:
    """The TIFF structure that holds the EXIF tags."""
    if head[:4] in (b"II*\0", b"MM\0*"):
        return head
    if head[:2] == b"\xff\xd8":  # JPEG: segments until the picture's own data
        at = 2
        while at + 4 <= len(head) and head[at] == 0xFF and head[at + 1] not in (0xDA, 0xD9):
            length = struct.unpack_from(">H", head, at + 2)[0]
            if head[at + 1] == 0xE1 and head[at + 4 : at + 10] == b"Exif\0\0":
                return head[at + 10 : at + 2 + length]
            at += 2 + length
    elif head[:8] == b"\x89PNG\r\n\x1a\n":
        at = 8
        while at + 8 <= len(head):
            length = struct.unpack_from(">I", head, at)[0]
            if head[at + 4 : at + 8] == b"eXIf":
                return head[at + 8 : at + 8 + length]
            at += 12 + length
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        at = 12
        while at + 8 <= len(head):
            length = struct.unpack_from("<I", head, at + 4)[0]
            if head[at : at + 4] == b"EXIF":
                return head[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
            at += 8 + length + length % 2
    return None


def _directory(tiff: bytes, order: str, at: int) -> dict[int, float]:
    """First number of each whole or rational tag in the directory at `at`."""
    found: dict[int, float] = {}
    for entry in range(struct.unpack_from(order + "H", tiff, at)[0]):
        tag, kind, count = struct.unpack_from(order + "HHI", tiff, at + 2 + 12 * entry)
        place = at + 2 + 12 * entry + 8
        if _SIZES.get(kind, 0) * count > 4:
            place = struct.unpack_from(order + "I", tiff, place)[0]
        if kind in (3, 4):
            found[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, place)[0]
        elif kind == 5:
            above, below = struct.unpack_from(order + "II", tiff, place)
            found[tag] = above / below if below else 0.0
    return found


def _apple(path: Path) -> float | None:
    """Focal length on 35 mm film from a QuickTime movie's metadata: a `keys` box names the items of `ilst`."""
    with path.open("rb") as file:
        movie = b""
        while len(header := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", header)
            used = 8
            if size == 1:
                size, used = struct.unpack(">Q", file.read(8))[0], 16
            if kind == b"moov" and size <= _MOVIE:
                movie = file.read(size - used)
                break
            if size < used:
                break
            file.seek(size - used, 1)
    at = movie.find(_APPLE)
    keys = movie.rfind(b"keys", 0, at)
    if at < 0 or keys < 0:
        return None
    number, place = 0, keys + 12  # after version, flags and count: each key is its size, namespace and name
    while place < at:
        number += 1
        place += struct.unpack_from(">I", movie, place)[0]
    items = movie.find(b"ilst", at)
    end = items - 4 + struct.unpack_from(">I", movie, items - 4)[0]
    place = items + 4
    while 0 < place < end:
        size, index = struct.unpack_from(">II", movie, place)
        if index == number:
            kind = struct.unpack_from(">I", movie, place + 16)[0]
            value = movie[place + 24 : place + size]
            if kind == 1:  # text
                return float(value)
            if kind in (23, 24):  # floating point
                return struct.unpack(">f" if len(value) == 4 else ">d", value)[0]
            return float(int.from_bytes(value, "big", signed=kind == 21))
        place += max(size, 8)
    return None
