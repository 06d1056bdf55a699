# SPDX-License-Identifier: GPL-3.0-or-later
"""Focal lengths that files state."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from dasr_blender.clip import stated_focal
from dasr_blender.clip.focal import _exif_film

SIZE = (90, 60)  # 3:2, where the diagonal and the width give the same
PER_MM = 90 / 36


def tiff(order: str, tags: list[tuple[int, int, float]]) -> bytes:
    """A TIFF structure with an EXIF directory of (tag, kind, value)."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    head += struct.pack(order + "HHHIII", 1, 0x8769, 4, 1, 26, 0)
    body, extra = b"", b""
    after = 26 + 2 + 12 * len(tags) + 4
    for tag, kind, value in tags:
        body += struct.pack(order + "HHI", tag, kind, 1)
        if kind == 3:
            body += struct.pack(order + "HH", int(value), 0)
        elif kind == 4:
            body += struct.pack(order + "I", int(value))
        else:
            body += struct.pack(order + "I", after + len(extra))
            extra += struct.pack(order + "II", round(value * 1000), 1000)
    return head + struct.pack(order + "H", len(tags)) + body + b"\0" * 4 + extra


FILM = [(0xA405, 3, 50)]
SENSOR = [(0x920A, 5, 10.0), (0xA002, 4, 4000), (0xA20E, 5, 5000.0), (0xA210, 3, 3)]  # 8 mm wide, so × 4.5


def jpeg(exif: bytes) -> bytes:
    data = cv2.imencode(".jpg", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))[1].tobytes()
    segment = b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def png(exif: bytes) -> bytes:
    data = cv2.imencode(".png", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))[1].tobytes()
    return data[:33] + struct.pack(">I", len(exif)) + b"eXIf" + exif + b"\0" * 4 + data[33:]


def webp(exif: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 100) + b"WEBPEXIF" + struct.pack("<I", len(exif)) + exif


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", [jpeg, png, webp, bytes])
def test_exif(order: str, container) -> None:
    assert _exif_film(container(tiff(order, FILM)), SIZE) == 50
    assert _exif_film(container(tiff(order, SENSOR)), SIZE) == pytest.approx(45)


def test_a_sequence_states_it_in_its_first_image(tmp_path: Path) -> None:
    (tmp_path / "shot9.jpg").write_bytes(jpeg(tiff("<", FILM)))
    (tmp_path / "shot10.jpg").write_bytes(jpeg(tiff("<", [(0xA405, 3, 200)])))
    for source in (tmp_path, tmp_path / "shot#.jpg", tmp_path / "shot9.jpg"):
        assert stated_focal(source, SIZE) == pytest.approx(50 * PER_MM)
    # a taller picture of the same diagonal is compared by the diagonal, as the standard says
    assert stated_focal(tmp_path, (60, 90)) == pytest.approx(50 * PER_MM)
    wide = math.hypot(160, 90) / math.hypot(36, 24)
    assert stated_focal(tmp_path, (160, 90)) == pytest.approx(50 * wide)


@pytest.mark.parametrize("shape", [(4000, 2667), (4000, 3000), (4000, 2250), (3000, 4000)])
def test_a_sensors_pixels_are_the_pictures_whatever_its_shape(tmp_path: Path, shape: tuple[int, int]) -> None:
    """10 mm on 500 pixels a mm; a picture that is upright by its orientation, or stored so, or shrunk."""
    width, height = shape
    for stored in {(width, height), (max(shape), min(shape))}:
        tags = [*SENSOR[:1], (0xA002, 4, stored[0]), (0xA003, 4, stored[1]), *SENSOR[2:]]
        (tmp_path / "a.tif").write_bytes(tiff("<", tags))
        assert stated_focal(tmp_path / "a.tif", shape) == pytest.approx(5000)
        assert stated_focal(tmp_path / "a.tif", (width // 4, height // 4)) == pytest.approx(1250, rel=1e-3)


def movie(value: bytes, kind: int) -> bytes:
    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + name + content

    names = [b"com.apple.quicktime.make", b"com.apple.quicktime.camera.focal_length.35mm_equivalent"]
    keys = box(b"keys", struct.pack(">II", 0, 2) + b"".join(box(b"mdta", name) for name in names))
    items = [(1, 1, b"Apple"), (2, kind, value)]
    listed = box(
        b"ilst",
        b"".join(box(struct.pack(">I", n), box(b"data", struct.pack(">II", k, 0) + v)) for n, k, v in items),
    )
    return box(b"ftyp", b"qt  ") + box(b"mdat", b"x" * 999) + box(b"moov", box(b"meta", keys + listed))


@pytest.mark.parametrize(("value", "kind"), [(b"28", 1), (struct.pack(">f", 28), 23), (b"\0\x1c", 22)])
def test_movie(tmp_path: Path, value: bytes, kind: int) -> None:
    path = tmp_path / "clip.MOV"
    path.write_bytes(movie(value, kind))
    assert stated_focal(path, SIZE) == pytest.approx(28 * PER_MM)


def test_nonsense_says_nothing(tmp_path: Path) -> None:
    whole = jpeg(tiff("<", FILM))
    contents = [b"", b"\xff\xd8\xff", jpeg(b"II*\0"), jpeg(tiff("<", [(0xA405, 3, 0)]))]
    contents += [jpeg(tiff("<", [(0xA405, 3, 60000)])), jpeg(tiff("<", SENSOR[:2]))]
    contents += [whole[:cut] for cut in range(20, 50, 5)]
    for content in contents:
        path = tmp_path / "a.jpg"
        path.write_bytes(content)
        assert stated_focal(path, SIZE) is None
    clip = tmp_path / "a.mp4"
    for content in (b"", b"\0" * 64, movie(b"28", 1)[:1100], movie(b"x", 1), b"\0\0\0\x01moov"):
        clip.write_bytes(content)
        assert stated_focal(clip, SIZE) is None
    assert stated_focal(tmp_path / "gone.mp4", SIZE) is None
    assert stated_focal(tmp_path / "gone.####.png", SIZE) is None
