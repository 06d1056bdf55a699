# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures that are either whole on the disk or an error, whatever their path. No torch.

`cv2.imwrite` only returns False, and on Windows it and `cv2.imread` find no path beyond the system's code page.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..core.files import written_atomically
from .errors import TrainingError


def read_picture(path: Path, flag: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """An RGB picture (H, W, 3) or, with `cv2.IMREAD_GRAYSCALE`, a mask (H, W), uint8. Raises TrainingError."""
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flag)
    except (OSError, cv2.error):  # OpenCV's for an empty file
        image = None
    if image is None:
        raise TrainingError(f"{path}: not a readable image; make the clip again")
    return image[..., ::-1] if image.ndim == 3 else image


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
