# SPDX-License-Identifier: GPL-3.0-or-later
"""What training watches: errors of the student's answers, frame by frame, and their summary."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .body import TorchBody, crop_pixels, take
from .data import Batch
from .losses import BodySurface
from .rotation import geodesic, quat_to_matrix, sixd_to_matrix
from .surface import NOTHING


@torch.no_grad()
def scores(
    out: dict[str, Tensor], batch: Batch, body: TorchBody, surface: BodySurface
) -> dict[str, np.ndarray]:
    """Errors of every row: root rotation of the chosen and the best hypothesis, joints (degrees), the rest.

    Rows of quality 0 are not scored.
    """
    angle = torch.rad2deg(geodesic(sixd_to_matrix(out["root_rotation"]), batch["root_rotation"][:, None]))
    chosen = out["root_logprob"].argmax(1)
    error = geodesic(sixd_to_matrix(out["joint_rotations"]), quat_to_matrix(batch["joints"]))[:, 1:]
    weight = batch["joint_weight"][:, 1:]
    joints = torch.rad2deg((error * weight).sum(1) / weight.sum(1).clamp_min(1e-6))
    shift = (take(out["root_translation"], chosen) - batch["root_translation"]).abs().sum(1)
    shape = ((out["morphology"] * body.std - batch["morphology"]) / body.std.clamp_min(1e-4)).abs().mean(1)
    posed, _ = body(sixd_to_matrix(out["joint_rotations"]), out["morphology"] * body.std)
    true, places = body(quat_to_matrix(batch["joints"]), batch["morphology"])
    counts = batch["quality"] > 0
    found = {}
    if "surface_map" in out and "surface" in batch:
        shown = (batch["surface"] != NOTHING) & counts[:, None, None]
        off = (out["surface_map"][shown] - surface.rest[batch["surface"][shown]]).norm(dim=-1)
        found["surface"] = off.cpu().numpy()
    if "joint_point" in out:
        seen = crop_pixels(
            places, batch["root_rotation"], batch["root_translation"], batch["crop_info"]
        )
        inside = (seen.abs() < 0.5).all(-1) & (batch["joint_weight"] > 0) & counts[:, None]
        found["joint_point"] = (out["joint_point"] - seen).norm(dim=-1)[inside].cpu().numpy()
    each = {
        "vertices": (posed - true).norm(dim=-1).mean(1),
        "chosen": take(angle, chosen),
        "best": angle.min(1).values,
        "joints": joints,
        "translation": shift,
        "morphology": shape,
    }
    return {**found, **{name: values[counts].cpu().numpy() for name, values in each.items()}}


def summary(rows: list[dict[str, np.ndarray]], whose: str = "") -> dict[str, float]:
    """Columns of the log from the errors of all validation rows. whose: 'teacher_' for rows labelled by it."""
    joined = {k: np.concatenate([r[k] for r in rows]) for k in rows[0]} if rows else {}
    if not len(joined.get("chosen", ())):
        return {}
    row = {
        "val_root_chosen_deg": float(np.median(joined["chosen"])),
        "val_root_best_deg": float(np.median(joined["best"])),
        "val_root_over_30": float(np.mean(joined["chosen"] > 30)),
        "val_translation": float(np.median(joined["translation"])),
        "val_joints_deg": float(np.median(joined["joints"])),
        "val_morphology": float(np.mean(joined["morphology"])),
        "val_vertices": float(np.mean(joined["vertices"])),
    }
    if len(joined.get("surface", ())):
        row["val_surface"] = float(np.median(joined["surface"]))
    if len(joined.get("joint_point", ())):
        row["val_joint_point"] = float(np.median(joined["joint_point"]))
    return {f"val_{whose}{name.removeprefix('val_')}": value for name, value in row.items()}


def summaries(found: dict[str, list[dict[str, np.ndarray]]]) -> dict[str, float]:
    """Columns of the log from the errors of all validation rows, apart by whose rows they are (see `summary`)."""
    return {name: value for whose, rows in found.items() for name, value in summary(rows, whose).items()}


TEACHER = "teacher_"
_GOOD = {"root_chosen_deg": 10.0, "translation": 0.1, "joints_deg": 15.0, "vertices": 0.05}


def verdict(row: dict[str, float], teacher_share: float = 0.0) -> float | None:
    """One number to stop by, smaller is better: errors in units of what is good, averaged. None without scores.

    teacher_share: weight of the rows that a teacher labelled; all of it where there are no others, and the reverse.
    """
    found = {}
    for whose, weight in (("", 1.0 - teacher_share), (TEACHER, teacher_share)):
        names = {f"val_{whose}{name}": good for name, good in _GOOD.items()}
        if weight > 0 and all(name in row for name in names):
            found[whose] = weight, float(np.mean([row[name] / good for name, good in names.items()]))
    if not found:
        return None
    return sum(w * score for w, score in found.values()) / sum(w for w, _ in found.values())
