# SPDX-License-Identifier: GPL-3.0-or-later
"""`report.json`: what was run, how long it took, how sure the result is, and what was written."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .core import find_contacts
from .core.files import expanded

if TYPE_CHECKING:
    from .job import JobResult


def versions() -> dict[str, str | None]:
    """Versions of this project and of what its results depend on; None for what is not installed.

    Read from the packages' metadata: bpy is not imported for it.
    """
    found: dict[str, str | None] = {"dasr-blender": __version__, "python": platform.python_version()}
    for module, packages in {
        "numpy": ["numpy"],
        "opencv": ["opencv-python-headless", "opencv-python"],
        "onnxruntime": ["onnxruntime", "onnxruntime-gpu"],
        "bpy": ["bpy"],
    }.items():
        found[module] = next((v for v in map(_installed, packages) if v), None)
    if (bpy := sys.modules.get("bpy")) is not None:
        found["bpy"] = bpy.app.version_string
    return found


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def make_report(
    result: JobResult, files: Mapping[str, Path], seconds: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """The report as JSON-able values.

    files: kind → path of everything written; seconds: times of stages after the job (scene, exports).
    """
    motion, category = result.motion, result.category
    times = {**result.seconds, **(seconds or {})}
    frames = len(motion.frame_index)
    return {
        "versions": versions(),
        "clip": {
            "path": str(expanded(result.options.clip).absolute()),
            "sha256": motion.source_hash,
            "frames": frames,
            "shots": [[int(v) for v in motion.frame_index[shot][[0, -1]]] for shot in motion.shots],
            "fps": float(motion.fps),
            "size": [int(side) for side in motion.image_size],
        },
        "category": {"name": category.name, "version": str(category.version), "files": category.hashes},
        "options": asdict(result.options),
        "seconds": {**times, "total": round(sum(times.values()), 3)},
        "frames_per_second": round(frames / max(result.motion_seconds, 1e-9), 2),
        "reused_stages": result.reused,
        "provider": result.provider,
        "focal": {
            "pixels": round(float(np.mean(motion.focal_px)), 2),
            "source": None if result.filming is None else result.filming.source,
        },
        "fit": None if result.fitted is None else _fit(result),
        "camera": None if result.filming is None else result.filming.summary(),
        "contacts": _contacts(result),
        "masks": {
            "source": result.mask_source,
            "interpolated_frames": [int(f) for f in motion.frame_index[result.interpolated]],
        },
        "morphology": {
            p.name: round(float(value), 4)
            for p, value in zip(category.morphology, motion.morphology, strict=True)
        },
        "frame": [int(f) for f in motion.frame_index],
        "confidence": np.round(np.asarray(motion.confidence, float), 4).tolist(),
        "mask_iou": [_number(value) for value in motion.mask_iou],
        "mean_mask_iou": None if motion.mean_mask_iou is None else round(motion.mean_mask_iou, 4),
        "warnings": list(result.warnings),
        "files": {kind: str(path) for kind, path in files.items()},
    }


def _contacts(result: JobResult) -> dict[str, Any]:
    """Which feet there are, for how much of the clip each stands, and every touch-down in frames of the clip."""
    found = find_contacts(result.category, result.motion)
    return {
        "feet": list(found.feet),
        "standing": [round(float(share), 4) for share in found.standing.mean(axis=0)],
        "touch_downs": [[int(result.motion.frame_index[t]), foot] for t, foot in found.touch_downs(result.motion.cuts)],
    }


def _fit(result: JobResult) -> dict[str, Any]:
    """What the fit did: steps of each window, seconds by residual (summed over threads), twins that were tried, and
    limbs whose left and right were exchanged."""
    fitted, index = result.fitted, result.motion.frame_index
    assert fitted is not None
    return {
        "quality": result.options.quality,
        "steps": list(fitted.steps),
        "seconds": {name: round(spent, 3) for name, spent in fitted.seconds.items()},
        "twins": [
            {
                "frames": [int(index[t.first]), int(index[t.last])],
                "kind": t.kind,
                "cost_ratio": round(t.ratio, 3),
                "taken": t.taken,
            }
            for t in fitted.twins
        ],
        "exchanged": [
            {"frames": [int(index[p.first]), int(index[p.last])], "limbs": p.limb} for p in fitted.passings
        ],
    }


def _number(value: float) -> float | None:
    """For JSON, which has no NaN: a frame without a mask has no overlap to report."""
    return round(float(value), 4) if np.isfinite(value) else None


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report as indented JSON."""
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
