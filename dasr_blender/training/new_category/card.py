# SPDX-License-Identifier: GPL-3.0-or-later
"""CARD.md of a category that was made from videos: what it is, and what was measured."""

from __future__ import annotations

from typing import Any

from ...core.category import Category
from .config import NewCategoryConfig


def card(config: NewCategoryConfig, category: Category, facts: dict[str, dict[str, Any]]) -> str:
    """Markdown; facts: those of every step, by its name."""
    body, network = category.body, category.training.get("student", {})
    first, second = facts["first"].get("student", {}), network
    before, after, lesson = facts["before"], facts["after"], facts["lesson"]
    rows = [
        f"| {name} | {lesson['clips'].get(name, '–')} | {before['clips'][name][0]:.3f} → {after['clips'][name][0]:.3f} "
        f"| {before['clips'][name][1]:.3f} → {after['clips'][name][1]:.3f} |"
        for name in before["clips"]
        if name in after["clips"]
    ]
    shape = ", ".join(
        f"{p.name} {value:+.2f}" for p, value in zip(category.morphology, lesson["morphology"], strict=True)
    )
    spent = sum(f.get("minutes", 0.0) for f in facts.values())
    parts = f"{len(category.skeleton)} joints, {len(category.morphology)} named proportions"
    sources = f"the videos ({config.teacher_share:.0%} of a batch)"
    drawn = [f"{facts[k]['clips']} rendered clips" for k in ("first clips", "second clips")]
    means = [f"{before[k]:.3f} → {after[k]:.3f}" for k in ("tracked", "fitted")]
    return f"""# {category.name} {category.version}

{parts}, {len(body.vertices)} vertices. Made from a skeleton template drawn by hand and
{len(before["clips"])} videos, without a rigged model and without labels.

{category.credits}

## How it was made

| | |
|---|---|
| body | the template's, in the shape that the videos agree on: {shape}; relief up to {lesson["relief_cm"]} cm |
| first student | {drawn[0]} of the template in random motion; {_trained(first)} |
| teacher | {lesson["how"]}; {lesson["frames"]} of {lesson["of"]} frames used |
| second student | {drawn[1]} of the learnt body, and {sources}; {_trained(second)} |
| time | {spent:.0f} minutes in all |

## Scores

Agreement of the silhouette with the given masks (IoU) on the videos themselves, which it was trained on. They say
nothing about what the masks do not show: look at the result from another side, or score it against a known surface.

| video | teacher | network: first → second student | with the fit: first → second |
|---|---|---|---|
{chr(10).join(rows)}
| **mean** | {lesson["iou"]:.3f} | {means[0]} | {means[1]} |

## Where it fails

Not examined yet. What the template lacks, the body lacks; how it moves was learnt from random motion and these videos.
"""


def _trained(student: dict[str, Any]) -> str:
    steps = student.get("steps", {})
    validation = student.get("validation", {})
    said = f"{steps.get('frames', 0)} + {steps.get('clips', 0)} steps of {student.get('batch', '?')}"
    said += f", {student.get('minutes', '?')} minutes"
    angle = validation.get("val_root_deg") or validation.get("val_root_tracked")
    return said + (f"; root off by {angle}° on rendered clips kept apart" if angle else "")
