# SPDX-License-Identifier: GPL-3.0-or-later
"""Every row on clips whose truth is known: errors frame by frame, then lines of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .reliability import joint_pairs, reliability
from .rows import SINGLE, Answer, Row
from .scene import Scene
from .scores import (
    clip_scale,
    compare,
    compare_places,
    hypothesis_errors,
    overlap,
    picture_jitter,
    surface_errors,
    surface_map_errors,
)
from .torso import named_places, torso_angle

Array = np.ndarray

# name in the line: (errors it is made of, how)
SUMMARY: dict[str, tuple[str, str]] = {
    "root_chosen_deg": ("likeliest_deg", "median"),
    "root_chosen_over_30": ("likeliest_deg", "over 30"),
    "root_tracked_deg": ("root_deg", "median"),
    "root_tracked_over_30": ("root_deg", "over 30"),
    "root_best_deg": ("best_deg", "median"),
    "root_best_over_30": ("best_deg", "over 30"),
    "translation": ("translation", "median"),
    "joints_deg": ("joints_deg", "median"),
    "joints_mean_deg": ("joints_deg", "mean"),
    "mpjpe_cm": ("mpjpe_cm", "median"),
    "mpjpe_mean_cm": ("mpjpe_cm", "mean"),
    "mpjpe_scaled_cm": ("mpjpe_scaled_cm", "median"),
    "mpjpe_root_cm": ("mpjpe_root_cm", "median"),
    "pa_mpjpe_cm": ("pa_mpjpe_cm", "mean"),
    "accel_cm": ("accel_cm", "mean"),
    "accel_true_cm": ("accel_true_cm", "mean"),
    "jitter_percent": ("jitter_percent", "mean"),
    "jitter_true_percent": ("jitter_true_percent", "mean"),
    "morphology": ("morphology", "mean"),
    "iou": ("iou", "mean"),
    "iou_truth": ("iou_truth", "mean"),
    "cd_cm": ("cd_cm", "mean"),
    "cd_share": ("cd_share", "mean"),
    "cd_scaled_share": ("cd_scaled_share", "mean"),
    "f10": ("f10", "mean"),
    "f5": ("f5", "mean"),
    "f2": ("f2", "mean"),
    "ama_cd_cm": ("ama_cd_cm", "mean"),
    "ama_f10": ("ama_f10", "mean"),
    "ama_f5": ("ama_f5", "mean"),
    "ama_f2": ("ama_f2", "mean"),
    "surface_map_cm": ("surface_map_cm", "mean"),
    "surface_map_share": ("surface_map_share", "mean"),
    "surface_map_seen": ("surface_map_seen", "mean"),
}


@dataclass
class Results:
    """Errors of every row: row label → clip name → error → (T,), and what else is needed to sum them up."""

    errors: dict[str, dict[str, dict[str, Array]]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    surfaces: dict[str, str] = field(default_factory=dict)
    pairs: dict[str, list[Array]] = field(default_factory=dict)


def scene_errors(row: Row, scene: Scene, answer: Answer) -> dict[str, Array]:
    """All errors (T,) that the scene's truth allows."""
    found, category = answer.motion, row.category
    errors: dict[str, Array] = {}
    if scene.true is not None:
        errors |= compare(category, found, scene.true, scene.category)
        if answer.prediction is not None:
            errors |= hypothesis_errors(answer.prediction, scene, answer.own)
            errors |= surface_map_errors(category, answer.prediction, scene)
        truth, owner = scene.true, scene.category or category
        errors["iou_truth"] = scene.once("iou_truth", lambda: overlap(owner, truth, scene.masks))
    elif scene.joints:
        scale = 1.0 if scene.sized else clip_scale(category, found, scene)
        ours, theirs = named_places(category, found, scene.joints)
        errors |= compare_places(scale * ours, theirs)
        errors |= torso_angle(category, found, scene.joints, scale)
    errors["iou"] = overlap(category, found, scene.masks)
    if scene.surface is not None:
        errors |= surface_errors(category, found, scene)
    errors |= picture_jitter(category, found, scene)
    return errors


def score(
    scenes: Iterable[Scene | None], rows: Sequence[Row], progress: Callable[[], None] | None = None
) -> Results:
    """Every row on every scene; scenes that are None are passed over."""
    results = Results({row.label: {} for row in rows}, pairs={row.label: [] for row in rows})
    for scene in scenes:
        if scene is not None:
            results.splits[scene.name] = scene.split
            results.surfaces[scene.name] = scene.surface.source if scene.surface else "none"
            for row in rows:
                answer = row.answer(scene)
                if answer is None:
                    continue
                results.errors[row.label][scene.name] = scene_errors(row, scene, answer)
                if answer.prediction is not None and scene.true is not None:
                    results.pairs[row.label].append(joint_pairs(answer.prediction, scene.true))
        if progress is not None:
            progress()
    return results


def joined(rows: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """The errors of several clips as those of one, NaN in the frames of a clip that lacks one."""
    return {
        name: np.concatenate([row.get(name, np.full(len(row["iou"]), np.nan)) for row in rows])
        for name in dict.fromkeys(name for row in rows for name in row)
    }


def line(errors: dict[str, Array]) -> dict[str, float]:
    """One line of the table; NaN frames do not count, and what was not measured is not in it."""
    out: dict[str, float] = {}
    for name, (key, how) in SUMMARY.items():
        if key not in errors:
            continue
        values = errors[key][np.isfinite(errors[key])]
        if not len(values):
            continue
        value = {
            "median": np.median,
            "mean": np.mean,
            "over 30": lambda v: (v > 30).mean(),
        }[how](values)
        out[name] = round(float(value), 4)
    return out


def sum_up(results: Results, rows: Sequence[Row]) -> dict[str, Any]:
    """Lines of every row for all clips and for each split, of every clip, reliability, and the spread over seeds."""
    splits = sorted(set(results.splits.values()))
    lines: dict[str, dict[str, dict[str, float]]] = {}
    for label, clips in results.errors.items():
        if not clips:
            continue
        lines[label] = {"all": line(joined(list(clips.values())))}
        if len(splits) > 1:
            for split in splits:
                some = [errors for name, errors in clips.items() if results.splits[name] == split]
                if some:
                    lines[label][split] = line(joined(some))
    for label, parts in lines.items():
        for split, values in parts.items():
            single = lines.get(SINGLE, {}).get(split, {}).get("accel_cm")
            if single and "accel_cm" in values and label != SINGLE:
                values["accel_of_single"] = round(values["accel_cm"] / single, 4)
    return {
        "clips": len(results.splits),
        "frames": max(
            (sum(len(e["iou"]) for e in clips.values()) for clips in results.errors.values()), default=0
        ),
        "rows": lines,
        "seeds": spread(lines, rows),
        "surfaces": {
            source: list(results.surfaces.values()).count(source)
            for source in sorted(set(results.surfaces.values()))
        },
        "reliability": {
            label: reliability(np.concatenate(pairs)) for label, pairs in results.pairs.items() if pairs
        },
        "each": {
            label: {name: line(errors) for name, errors in clips.items()}
            for label, clips in results.errors.items()
        },
    }


def spread(lines: dict[str, dict[str, dict[str, float]]], rows: Sequence[Row]) -> dict[str, Any]:
    """Rows that came with several seeds: name → split → score → {mean, std, n}; std with n − 1."""
    out: dict[str, Any] = {}
    for name in dict.fromkeys(row.name for row in rows if row.seed):
        members = [lines[row.label] for row in rows if row.name == name and row.label in lines]
        out[name] = {
            split: {
                score: {
                    "mean": round(float(np.mean(values)), 4),
                    "std": round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else 0.0,
                    "n": len(values),
                }
                for score in members[0][split]
                if (values := [m[split][score] for m in members if score in m.get(split, {})])
            }
            for split in (members[0] if members else {})
        }
    return out
