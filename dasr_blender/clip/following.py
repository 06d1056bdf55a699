# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject from key frame to key frame: carried by flow, met by others, lost and found again."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .choosing import likeness, middle, overlap, prominence, shape_overlap, shifted
from .finder import Finder

Chosen = dict[int, np.ndarray | None]  # key frame -> soft mask (h, w) uint8, None where the subject is not seen

_COMPARABLE = 0.3  # size over the subject's from which another blob can be mistaken for it
_LONGEST_MEETING = 40  # frames of an ordinary clip after which two that met are given up as one


@dataclass(frozen=True)
class Body:
    """A blob just before it met another: where and how it then moved is where it will come out again."""

    mask: np.ndarray  # (h, w) bool
    pace: np.ndarray  # (2,) pixels a frame
    tint: np.ndarray  # colour histogram

    def after(self, frames: int) -> np.ndarray:
        """Its mask (h, w) bool `frames` later, moving on as it did."""
        return shifted(self.mask, frames * self.pace)


@dataclass(frozen=True)
class Meeting:
    """The subject and another blob that the network sees as one, since frame `at`."""

    at: int
    subject: Body
    other: Body


def follow(finder: Finder, order: list[int], chosen: Chosen, named: bool) -> None:
    """Fill `chosen` for the key frames order[1:], each from the one before it; order[0] is known."""
    at = seen = order[0]
    last = binary(chosen[at])
    past: list[tuple[int, np.ndarray, np.ndarray]] = [(at, last, _others(finder, at, last))]
    meeting: Meeting | None = None
    missed = 0
    for i in order[1:]:
        carried = finder.carry(last, at, i)
        reference = carried if carried.sum() > 8 else last
        finder.advance(f"following the subject, frame {i + 1} of {len(finder.clip)}")
        if meeting is None:
            meeting = _met(finder, i, at, reference, past)
        if meeting is not None:
            soft, parted = _during(finder, i, meeting)
            if parted:
                meeting, past = None, []
        else:
            alone = bool(past) and not any(labels.any() for *_, labels in past)
            soft = finder.choose(i, reference, alone=alone)
        if soft is None:
            soft = _recover(finder, i, seen, chosen, missed, named)
        chosen[i] = soft
        if soft is None:
            last, missed = reference, missed + abs(i - at)
        else:
            last, missed, seen = binary(soft), 0, i
            if meeting is None:
                past = [*past[-3:], (i, last, _others(finder, i, last))]
        at = i


def _others(finder: Finder, i: int, subject: np.ndarray) -> np.ndarray:
    """Labels (h, w) int32 of blobs beside the subject that are about as large as it, 0 elsewhere; none in a frame that
    was not looked at as a whole."""
    labels = np.zeros(subject.shape, np.int32)
    if i not in finder.wide:
        return labels
    for k, blob in enumerate(finder.blobs(finder.saliency(i))[:6]):
        if blob.sum() > _COMPARABLE * subject.sum() and not (blob & subject).any():
            labels[blob] = k + 1
    return labels


def _met(
    finder: Finder, i: int, at: int, reference: np.ndarray, past: list[tuple[int, np.ndarray, np.ndarray]]
) -> Meeting | None:
    """Whether a blob that was apart from the subject in the last key frame is one with it now."""
    if len(past) < 2 or past[-1][0] != at:
        return None
    _, subject, labels = past[-1]
    if not labels.any():
        return None
    touching = [b for b in finder.blobs(finder.saliency(i)) if (b & reference).any()]
    joint = max(touching, key=lambda b: int((b & reference).sum()), default=None)
    for label in np.unique(labels[labels > 0]):
        other = labels == label
        carried = finder.carry(other, at, i)
        if joint is None or carried.sum() < 8 or (joint & carried).sum() < 0.5 * carried.sum():
            continue
        bodies = [_body(finder, past, subject), _body(finder, past, other)]
        apart = finder.clip.pace * np.hypot(*(bodies[0].pace - bodies[1].pace))
        if apart > 0.002 * max(finder.size):  # they do move past each other
            return Meeting(at, *bodies)
    return None


def _body(finder: Finder, past: list[tuple[int, np.ndarray, np.ndarray]], mask: np.ndarray) -> Body:
    """What `mask` (h, w) bool, seen in the last of `past`, has been doing since the first: the blobs of its shape."""
    end, now, size = past[-1][0], middle(mask), float(np.sqrt(mask.sum()))
    start, place, shape = end, now, mask
    for i, subject, labels in reversed(past[:-1]):
        blobs = [subject, *(labels == k for k in np.unique(labels[labels > 0]))]
        shapes = [shape_overlap(shape, blob) for blob in blobs]
        scores = [same * float(np.exp(-apart / (2.0 * size))) for same, apart in shapes]
        best = int(np.argmax(scores))
        if shapes[best][0] < 0.4 or shapes[best][1] > 2.0 * size:
            break
        start, shape = i, blobs[best]
        place = middle(shape)
    pace = (now - place) / (end - start) if start != end else np.zeros(2)
    return Body(mask, pace, finder.colours(end, mask))


def _during(finder: Finder, i: int, meeting: Meeting) -> tuple[np.ndarray | None, bool]:
    """Soft mask of the subject in frame i of a meeting, and whether the two have parted.

    Parted means two blobs about where, and about as large as, the two were expected; which is which is said by
    colours and by how they moved before. Until then the subject is what of the joint blob lies where it moves on to.
    """
    lasted = i - meeting.at
    soft = finder.saliency(i)
    mine, theirs = meeting.subject.after(lasted), meeting.other.after(lasted)
    smaller = min(meeting.subject.mask.sum(), meeting.other.mask.sum())
    blobs = [b for b in finder.blobs(soft)[:6] if b.sum() > _COMPARABLE * smaller]

    def score(blob: np.ndarray, body: Body, expected: np.ndarray) -> float:
        reach = 0.5 * float(np.sqrt(body.mask.sum())) + 0.1 * float(np.hypot(*(lasted * body.pace)))
        away = float(np.hypot(*(middle(blob) - middle(expected)))) / reach if expected.any() else 2.0
        tint = likeness(finder.colours(i, blob), body.tint)
        # colours tell only as far as the two bodies' differ
        differ = 1.0 - likeness(meeting.subject.tint, meeting.other.tint)
        return float(np.exp(-0.5 * away**2)) + 3.0 * differ * tint

    pairs = [(a, b) for a in blobs for b in blobs if a is not b]
    largest = 1.3 * max(meeting.subject.mask.sum(), meeting.other.mask.sum())
    pairs = [(a, b) for a, b in pairs if max(a.sum(), b.sum()) < largest]
    best = max(
        pairs,
        key=lambda p: score(p[0], meeting.subject, mine) + score(p[1], meeting.other, theirs),
        default=None,
    )
    apart = best is not None and (
        score(best[0], meeting.subject, mine) + score(best[1], meeting.other, theirs) > 1.0
    )
    if best is not None and apart:
        return finder.choose(i, best[0], anchored=True), True
    if abs(lasted) > _LONGEST_MEETING * finder.clip.pace or not mine.any():
        return None, True
    reach = 2 * max(2, round(0.08 * float(np.sqrt(mine.sum())))) + 1
    around = cv2.dilate(mine.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    near = np.where(around, soft, 0.0)
    found = near > finder.config.threshold
    if overlap(found, mine) < finder.config.lost:
        return None, False
    return (near * 255.0 + 0.5).astype(np.uint8), False


def _recover(
    finder: Finder, i: int, seen: int, chosen: Chosen, missed: int, named: bool
) -> np.ndarray | None:
    """A subject that moved too far for flow, or was hidden: the blob most like it when last seen, not too far.

    After `patience` frames, unless it was named, the blob that stands out most.
    """
    soft = finder.saliency(i)
    blobs = finder.blobs(soft)[:6]
    last = binary(chosen[seen])
    colours, size = finder.colours(seen, last), float(np.sqrt(last.sum()))
    gone = missed / finder.clip.pace
    reach = size * (1.0 + 0.5 * gone)
    best: tuple[float, np.ndarray | None] = (finder.config.alike, None)
    for blob in blobs:
        known = finder.body(i, blob)
        blob = blob if known is None else known[1]
        shape, distance = shape_overlap(blob, last)
        tint = likeness(finder.colours(i, blob), colours)
        value = shape * tint * float(np.exp(-0.5 * (distance / reach) ** 2))
        if value > best[0]:
            best = (value, blob)
    found = best[1]
    if found is None and gone >= finder.config.patience and not named and blobs:
        found = max(blobs, key=lambda b: prominence(soft, b))
    return None if found is None else finder.choose(i, found, anchored=True)


def binary(soft: np.ndarray | None) -> np.ndarray:
    """(h, w) bool of a soft mask (h, w) uint8."""
    assert soft is not None
    return soft > 127
