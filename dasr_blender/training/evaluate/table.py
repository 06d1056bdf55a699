# SPDX-License-Identifier: GPL-3.0-or-later
"""The scores as Markdown tables: a line a predictor and split, and a legend."""

from __future__ import annotations

from typing import Any

from .published import OVERLAP, ama_lines

# score: (head of its column, factor, digits after the point, what it is)
COLUMNS: dict[str, tuple[str, float, int, str]] = {
    "root_chosen_deg": (
        "root ° likeliest",
        1,
        1,
        "root rotation error of the network's likeliest hypothesis, median",
    ),
    "root_chosen_over_30": ("> 30° %", 100, 1, "share of frames in which it is more than 30° off"),
    "root_tracked_deg": ("root ° tracked", 1, 1, "root rotation error of the motion that comes out, median"),
    "root_tracked_over_30": ("> 30° %", 100, 1, "share of frames in which it is more than 30° off"),
    "root_best_deg": ("root ° best", 1, 1, "root rotation error of the network's best hypothesis, median"),
    "translation": ("transl. %", 100, 1, "distance between the roots as a share of the depth, median"),
    "joints_mean_deg": ("joints ° mean", 1, 1, "joint rotation error, mean over joints and frames"),
    "joints_deg": ("joints ° med.", 1, 1, "the same, median over frames"),
    "mpjpe_cm": (
        "MPJPE cm",
        1,
        1,
        "mean joint distance in camera space, nothing aligned, median over frames",
    ),
    "pa_mpjpe_cm": ("PA-MPJPE cm", 1, 1, "the same after the best similarity a frame (Procrustes), mean"),
    "accel_cm": (
        "accel. cm/f²",
        1,
        2,
        "jitter: mean difference of the joints' accelerations from the true ones",
    ),
    "accel_of_single": ("of single", 1, 2, "the same over that of the network on single frames"),
    "jitter_percent": (
        "jitter %",
        1,
        2,
        "mean acceleration of the projected vertices, % of √(mask area) a frame²",
    ),
    "jitter_true_percent": ("of truth", 1, 2, "the same of the true surface"),
    "iou": ("IoU", 1, 3, "silhouette against the mask that the network was given, mean"),
    "iou_truth": (
        "IoU of truth",
        1,
        3,
        "the true silhouette against that mask: what an error-free answer scores",
    ),
    "ama_cd_cm": (
        "CD cm",
        1,
        1,
        "Chamfer distance by DASR's protocol for AMA (scale and one rigid ICP), on vertices",
    ),
    "ama_f10": ("F@10", 100, 1, "F-score at 10 cm by that protocol, %"),
    "ama_f5": ("F@5", 100, 1, "at 5 cm, %"),
    "ama_f2": ("F@2", 100, 1, "at 2 cm, %"),
    "cd_cm": ("area CD cm", 1, 1, "Chamfer distance between surfaces by area, camera space, nothing aligned"),
    "cd_share": (
        "area CD %",
        100,
        1,
        "the same as a share of the subject's length at rest (nose to tail, stature)",
    ),
    "cd_scaled_share": (
        "one-scale CD %",
        100,
        1,
        "the same after one scale a clip about the camera, which one camera cannot know",
    ),
    "surface_map_cm": (
        "map cm",
        1,
        1,
        "mean error of the surface map's canonical points where it is sure of them",
    ),
    "surface_map_share": ("map %", 100, 1, "the same as a share of the mean body's length"),
    "morphology": ("morph. σ", 1, 2, "mean error of the proportions in standard deviations"),
}
REAL_COLUMNS: dict[str, tuple[str, float, int, str]] = {
    "frames": ("frames", 1, 0, "frames of the clip"),
    "iou": ("IoU", 1, 3, "silhouette against the mask, mean over frames"),
    "iou_worst": ("worst", 1, 3, "the lowest frame's"),
    "pck_t": (
        "PCK-T",
        1,
        3,
        "keypoints carried by the surface from frame to frame that land within 0.2 √(mask area), BADJA's protocol",
    ),
    "pck_t_zero": ("zero", 1, 3, "the same for a surface that never moves"),
    "jitter_percent": (
        "jitter %",
        1,
        2,
        "mean acceleration of the projected vertices, % of √(mask area) a frame²",
    ),
    "jitter_seen_percent": (
        "of picture",
        1,
        2,
        "the same of the subject itself where flow can follow it (below 1 it says little)",
    ),
}


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]

    def line(cells: list[str]) -> str:
        aligned = [cells[0].ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join(aligned) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2)] + ["-" * (w + 1) + ":" for w in widths[1:]]) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def _cell(value: Any, factor: float, digits: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        if value["n"] > 1:
            return f"{factor * value['mean']:.{digits}f} ± {factor * value['std']:.{digits}f}"
        value = value["mean"]
    return f"{factor * value:.{digits}f}"


def grid(
    lines: dict[str, dict[str, Any]], columns: dict[str, tuple[str, float, int, str]], head: str
) -> str:
    """Lines (label → scores) under the columns that at least one of them has."""
    used = [name for name in columns if any(name in scores for scores in lines.values())]
    rows = [
        [label, *(_cell(scores.get(name), columns[name][1], columns[name][2]) for name in used)]
        for label, scores in lines.items()
    ]
    return markdown([head, *(columns[name][0] for name in used)], rows)


def truth_lines(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Label → scores: each predictor over all clips, then over each split; seeds as mean ± spread, once."""
    lines: dict[str, dict[str, Any]] = {}
    for label, splits in part["rows"].items():
        name = label.split("@")[0]
        if name in part["seeds"]:
            splits = part["seeds"][name]
            count = max((v["n"] for scores in splits.values() for v in scores.values()), default=1)
            label = f"{name} ({count} seeds)"
        for split, scores in splits.items():
            lines.setdefault(label if split == "all" else f"{label} · {split}", scores)
    return lines


def legend(columns: dict[str, tuple[str, float, int, str]], lines: dict[str, dict[str, Any]]) -> str:
    """What the columns are, one a line."""
    used = [name for name in columns if any(name in scores for scores in lines.values())]
    return "\n".join(f"- {columns[name][0]}: {columns[name][3]}" for name in used)


def table(result: dict[str, Any], with_legend: bool = False) -> str:
    """The whole result as Markdown."""
    parts: list[str] = []
    for key, title in (
        ("rendered", "Rendered clips"),
        ("rigged", "Rigged models"),
        ("ama", "AMA sequences"),
    ):
        part = result.get(key)
        if part is None:
            continue
        lines = truth_lines(part)
        if key == "ama":
            lines |= ama_lines(set(part["dataset"].split(", ")))
        surfaces = ", ".join(f"{source} {count}" for source, count in part["surfaces"].items())
        parts.append(
            f"{title}: {part['clips']} clips, {part['frames']} frames of {part['dataset']} "
            f"(category {result['category']} {result['version']}; true surface: {surfaces})"
        )
        parts.append(grid(lines, COLUMNS, "predictor"))
        if key == "rigged":
            known = ", ".join(part["with_joint_map"]) or "none"
            parts.append(f"Distances after one scale a clip about the camera. With a joint map: {known}")
        for name, why in part.get("left_out", {}).items():
            parts.append(f"Left out: {name}: {why}")
        calibration = [
            f"{label} {scores['ece_deg']:.1f}°"
            for label, scores in part["reliability"].items()
            if scores["count"]
        ]
        if calibration:
            parts.append("Calibration error of the joints' confidence: " + ", ".join(calibration))
        if with_legend:
            parts.append(legend(COLUMNS, lines))
    if result.get("real"):
        lines = {
            f"{clip['name']} · {label} [{clip['masks']}]": scores
            for clip in result["real"]
            for label, scores in [
                *clip["rows"].items(),
                *(
                    (f"{method}, its authors' video", {"iou": overlap})
                    for method, overlap in OVERLAP.get(clip["name"], {}).items()
                ),
            ]
        }
        for label in dict.fromkeys(label for clip in result["real"] for label in clip["rows"]):
            scores = [clip["rows"][label] for clip in result["real"] if label in clip["rows"]]
            if len(scores) > 1:
                lines[f"mean · {label}"] = {
                    name: sum(s[name] for s in scores if name in s) / sum(name in s for s in scores)
                    for name in REAL_COLUMNS
                    if name != "frames" and any(name in s for s in scores)
                }
        parts.append(
            "Real clips (masks in brackets: 'true' from the clip's folder; 'chroma key' and 'automatic' are made from "
            "the pictures, and the overlap is with those)"
        )
        parts.append(grid(lines, REAL_COLUMNS, "clip · predictor [masks]"))
        if with_legend:
            parts.append(legend(REAL_COLUMNS, lines))
    return "\n\n".join(parts)
