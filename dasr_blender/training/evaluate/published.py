# SPDX-License-Identifier: GPL-3.0-or-later
"""Other methods' figures on the same clips, to stand beside ours in the table."""

from __future__ import annotations

# Overlap of the rendered result with an independent mask of the input, measured on 8 frames of the result videos
# that the authors of DASR (CVPR 2023), BANMo (CVPR 2022) and BARC (CVPR 2022) show: clip → method → IoU.
OVERLAP: dict[str, dict[str, float]] = {
    "dog-w011": {"DASR": 0.595, "BANMo, optimised": 0.737, "BARC": 0.324},
    "cat-coco004": {"DASR": 0.634, "BANMo, optimised": 0.778},
    "ama-D_bouncing1": {"DASR": 0.535, "BANMo, optimised": 0.612},
}

# DASR's table 2: sequence → method → CD in cm, F@10, F@5, F@2 cm in 0…1.
AMA: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "T_samba": {
        "DASR": (11.17, 0.837, 0.615, 0.288),
        "BANMo, optimised": (11.56, 0.827, 0.570, 0.253),
    },
    "D_bouncing": {
        "DASR": (15.27, 0.737, 0.472, 0.196),
        "BANMo, optimised": (10.90, 0.862, 0.649, 0.298),
    },
    "D_handstand": {
        "DASR": (24.56, 0.570, 0.331, 0.131),
        "BANMo, optimised": (15.22, 0.755, 0.507, 0.218),
    },
}


def ama_lines(sequences: set[str]) -> dict[str, dict[str, float]]:
    """Label → scores for the table of AMA sequences."""
    names = ("ama_cd_cm", "ama_f10", "ama_f5", "ama_f2")
    return {
        f"{method}, as published · {sequence}": dict(zip(names, scores, strict=True))
        for sequence, methods in AMA.items()
        if sequence in sequences
        for method, scores in methods.items()
    }
