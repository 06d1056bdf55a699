# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures that are either whole on the disk or an error: `cv2.imwrite` only returns False. No torch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..core.files import written_atomically
from .errors import TrainingError


def write_picture(path: Path, image: np.ndarray, *options: int) -> None:
    """Write an RGB picture (H, W, 3) or a mask (H, W), uint8, in the format that the suffix says.

    options: pairs of OpenCV's flags and values, such as the quality of a JPEG.
    Raises OSError, and TrainingError for a suffix that is no picture's.
    """
    if not cv2.haveImageWriter(path.name):
        raise TrainingError(f"{path}: pictures are not written as '{path.suffix}'; name it .png or .jpg")
    coded, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image, options)
    if not coded:
        raise TrainingError(f"{path}: the picture cannot be encoded")
    with written_atomically(path) as temporary:
        temporary.write_bytes(data.tobytes())
