# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a still image; which ones a sequence has is told by `core.listing`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # off in the wheels; Blender users have EXR sequences

import cv2
import numpy as np

# formats with alpha or more than 8 bits, which OpenCV else takes away
AS_STORED = {".png", ".webp", ".tif", ".tiff", ".exr", ".hdr", ".tga", ".jp2", ".pgm", ".ppm"}


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


def stored_image(data: bytes, suffix: str) -> np.ndarray | None:
    """(H, W, 1), BGR (H, W, 3) or BGRA (H, W, 4) of the file's own depth from its bytes, None if they are no readable
    image.

    AS_STORED are decoded unchanged; the others through the path that turns EXIF orientation upright.
    """
    if not data:
        return None
    unchanged = suffix.lower() in AS_STORED
    try:
        with quiet_opencv():
            image = cv2.imdecode(
                np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if unchanged else cv2.IMREAD_COLOR
            )
    except cv2.error:
        return None
    if image is None or image.size == 0:
        return None
    return image if image.ndim == 3 else image[..., None]


def is_animated(data: bytes) -> bool:
    """Whether a PNG or WebP holds several frames, of which OpenCV would only give the first."""
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        return data.count(b"ANMF") > 1
    head = data.partition(b"IDAT")[0]
    if data[:4] != b"\x89PNG" or b"acTL" not in head:
        return False
    return int.from_bytes(head.partition(b"acTL")[2][:4], "big") > 1


def decode_image(data: bytes, suffix: str) -> np.ndarray | None:
    """(H, W, 3) RGB or (H, W, 4) RGBA uint8 from a file's bytes, None if they are no readable image.

    16-bit and floating-point images are brought to 8 bits.
    """
    image = stored_image(data, suffix)
    if image is None:
        return None
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    elif image.dtype != np.uint8:  # linear light: display transform of sRGB, roughly; alpha is as it is
        image = np.clip(np.nan_to_num(image), 0.0, 1.0)
        image[..., :3] **= 1.0 / 2.2
        image = (image * 255.0 + 0.5).astype(np.uint8)
    if image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
