# SPDX-License-Identifier: GPL-3.0-or-later
"""Small clips rendered for the tests: ellipses on a textured ground, and writers for odd files."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

SHARED = Path(__file__).resolve().parents[3] / "shared"


def ground(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 green-grey texture with detail for optical flow."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.random((max(height // 8, 2), max(width // 8, 2))), (width, height))
    fine = rng.random((height, width))
    value = 70 + 40 * coarse + 25 * fine
    return np.stack([value * 0.8, value, value * 0.7], axis=2).astype(np.uint8)


def ellipse_mask(width: int, height: int, center, axes, angle: float = 0.0) -> np.ndarray:
    """(H, W) uint8 0/255."""
    mask = np.zeros((height, width), np.uint8)
    middle, half = tuple(int(round(c)) for c in center), tuple(int(a) for a in axes)
    cv2.ellipse(mask, middle, half, angle, 0, 360, 255, -1)
    return mask


def painted(background: np.ndarray, mask: np.ndarray, colour, seed: int = 1) -> np.ndarray:
    """The background with a speckled blob of one colour where mask is set."""
    rng = np.random.default_rng(seed)
    speckle = np.asarray(colour) * (0.8 + 0.2 * rng.random((*mask.shape, 1)))
    return np.where(mask[..., None] > 0, speckle, background).astype(np.uint8)


def counted(i: int, width: int, height: int) -> np.ndarray:
    """RGB frame whose red level tells its number, with a white block at the upper left."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0] = 20 * i + 10
    image[: height // 3, : width // 3] = 255
    return image


def number_of(frame: np.ndarray) -> int:
    """Which `counted` frame this is, read at the lower right, where there is no block."""
    return int(round((float(np.median(frame[-8:, -8:, 0])) - 10) / 20))


def write_images(folder: Path, images, name: str = "{:05d}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        order = image if image.ndim == 2 else image[..., [2, 1, 0, *range(3, image.shape[2])]]
        assert cv2.imwrite(str(folder / name.format(i)), order)
    return folder


def write_video(path: Path, images, fps: float = 25.0, codec: str = "mp4v") -> Path:
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    return path


def turn_mp4(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a rotation (a, b, c, d) into an mp4's track header, as a telephone held upright does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    assert data[at] == 0  # version 0: the matrix follows 40 bytes of times, ids, layer and volume
    a, b, c, d = (v * 0x10000 for v in matrix)
    struct.pack_into(">9i", data, at + 40, a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    return path


def write_gif(path: Path, grey: list[np.ndarray], delays: list[int]) -> Path:
    """Uncompressed GIF of (H, W) images in 0…127, with each frame's delay in hundredths of a second.

    With 7-bit pixels all LZW codes have 8 bits until the table grows past 255, which a clear code every
    100 pixels prevents: so a code is a byte.
    """
    height, width = grey[0].shape
    out = bytearray(b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF6, 0, 0))
    for level in range(128):
        out += bytes([2 * level] * 3)
    for image, delay in zip(grey, delays, strict=True):
        out += b"\x21\xf9\x04" + struct.pack("<BHBB", 0, delay, 0, 0)
        out += b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x07"
        codes = bytearray()
        for k, pixel in enumerate(image.ravel()):
            if k % 100 == 0:
                codes.append(128)
            codes.append(int(pixel))
        codes.append(129)
        for k in range(0, len(codes), 255):
            part = codes[k : k + 255]
            out += bytes([len(part)]) + part
        out += b"\x00"
    path.write_bytes(out + b"\x3b")
    return path
