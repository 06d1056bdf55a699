# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject's masks found without help, or with a person's words about single frames.

A salient-object network looks at key frames, whole and again, closer, at a crop around the subject; where another knows
such bodies and is sure of the one about the subject, it is believed instead. Which of the
blobs it reports is the subject is decided from key frame to key frame, going both ways from what is known: the one
that agrees best with the last mask carried over by optical flow. Because each mask is chosen among what the network
sees now, and not grown from the last one, errors do not add up as in plain propagation. What looks the same when
the subject stands elsewhere is then known to be background, and the choice is made again with that. At last the
evidence of all frames is gathered along the flow, which fills the frames between the key frames, steadies the
masks, and carries corrections to their neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from ..core.progress import between
from .anchors import anchors_from, click_seed
from .choosing import AutomaticConfig, grown, overlap
from .corrections import Correction, Said, by_frame
from .evidence import LIMIT, STEPS, SURE, log_odds, smooth
from .finder import Finder, NothingSeen, working_size
from .following import Chosen, binary, follow
from .kept import Kept, KeptInSteps
from .looks import BodyNetwork, Looks, Network
from .mask_store import Masks, without_specks
from .others import another_subject
from .saliency import Saliency
from .subject import Subject, seed_frame, seed_from
from .teaching import taught
from .video import Clip, Progress

__all__ = ["AutomaticConfig", "BodyNetwork", "Network", "automatic_masks"]

HEARSAY = 0.5  # what frames teach whose masks were only made from clicks and boxes, beside all else that speaks
Anchors = dict[int, np.ndarray]  # frame -> mask (h, w) bool that a person vouches for


def automatic_masks(
    clip: Clip,
    subject: Subject | None = None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
    network: Network | None = None,
    config: AutomaticConfig = AutomaticConfig(),  # noqa: B008
    corrections: Sequence[Correction] = (),
    looks: Looks | None = None,
    bodies: Callable[[], BodyNetwork] | None = None,
    silhouettes: np.ndarray | None = None,
) -> Masks:
    """Masks of the subject, by u2netp unless `network` is given.

    corrections: what a person says of single frames. looks: answers of the networks from an earlier call; new ones
    are added. bodies: makes a network that knows the subject's kind, which is asked first. silhouettes: (T, h', w')
    in 0…1 of any size, the body as a fit sees it: in frames where the mask and the silhouette disagree, the candidate
    that agrees with it is taken.
    Frames where the subject is not found are interpolated and flagged. Every shot is looked through by itself: first
    those that a person spoke of, else the longest; in the others it is what stands out and has the same colours.
    Raises MaskError when nothing stands out anywhere, when a place is outside the picture, when corrections contradict
    each other, or when the network is not installed.
    """
    known = looks or Looks(clip, lambda: network or Saliency(), bodies)
    said = by_frame(corrections, clip, working_size(clip, config))
    shown = None if subject is None else seed_frame(clip, subject)
    spoken = {*said, shown}
    shots = sorted((range(s.start, s.stop) for s in clip.shots), key=lambda s: (spoken.isdisjoint(s), -len(s)))
    found: dict[int, Sequence[np.ndarray | None]] = {}  # the first frame of a shot -> what is found in its frames
    notes: dict[int, list[str]] = {}
    tint: np.ndarray | None = None
    done = 0
    for shot in shots:
        frames = slice(shot.start, shot.stop)
        step = between(progress, done / len(clip), (done + len(shot)) / len(clip))
        done += len(shot)
        finder = Finder(clip.part(frames), known, config, step, cancel, shot.start)
        of_shot = {i - shot.start: words for i, words in said.items() if i in shot}
        pointed = subject if shown in shot else None
        drawn = None if silhouettes is None else silhouettes[frames]
        try:
            odds = _in_shot(finder, pointed, of_shot, drawn, tint)
        except NothingSeen:
            continue
        found[shot.start] = odds
        if tint is None and done < len(clip):  # for the shots that follow
            seen = [finder.colours(i, m > 0.0) for i, m in enumerate(odds) if m is not None]
            tint = np.mean(seen, axis=0) if seen else None
        notes[shot.start] = [] if pointed is not None or of_shot else another_subject(finder, odds)
    if not notes:
        raise NothingSeen(clip)
    told = [note for _, own in sorted(notes.items()) for note in own]
    every = (m for s in sorted(shots, key=lambda s: s.start) for m in found.get(s.start, [None] * len(s)))
    masks = (None if m is None else _to_clip(m, clip) for m in every)
    return Masks.pack(masks, "automatic", told, clip.cuts, clip.frame_index)


def _in_shot(
    finder: Finder,
    subject: Subject | None,
    said: dict[int, Said],
    silhouettes: np.ndarray | None,
    tint: np.ndarray | None,
) -> Kept:
    """Log-odds (h, w) of a shot's frames, None where the subject is not seen.

    tint: histogram of the colours that it has in another shot. Raises NothingSeen, and MaskError for what was said.
    """
    wanted = set(said) | ({seed_frame(finder.clip, subject)} if subject is not None else set())
    finder.read(wanted)
    anchors: Anchors = {i: words.mask for i, words in said.items() if words.mask is not None}
    painted = bool(anchors)
    named = subject is not None or bool(said)
    seeds: Anchors = dict(anchors)
    if subject is not None or not anchors:
        seed, reference = seed_from(finder, subject) if subject is not None else click_seed(finder, said, tint)
        seeds.setdefault(seed, reference)
    chosen = _choose(finder, seeds, anchors, named)
    if len(anchors) < len(said):  # boxes and clicks are about the masks found so far
        anchors = anchors_from(finder, said, _final(finder, chosen, anchors, 0.0))
        chosen = _choose(finder, {**seeds, **anchors}, anchors, named)
    finder.learn_background(None if m is None else m > 0.0 for m in _final(finder, chosen, anchors, 0.0))
    chosen = _choose(finder, {**seeds, **anchors}, anchors, named)
    if silhouettes is not None:
        _rechoose(finder, chosen, anchors, silhouettes)
    return _final(finder, chosen, anchors, 1.0 if painted else HEARSAY)


def _choose(finder: Finder, seeds: Anchors, anchors: Anchors, named: bool) -> Chosen:
    """The subject in every key frame, followed from each seed half-way to the next."""
    chosen: Chosen = {}
    order = sorted(seeds)
    for i in order:
        if i in anchors:
            chosen[i] = np.where(anchors[i], 255, 0).astype(np.uint8)
        else:
            soft = finder.choose(i, seeds[i], anchored=True)
            chosen[i] = soft if soft is not None else (seeds[i] * 255).astype(np.uint8)
    for n, i in enumerate(order):
        first = (order[n - 1] + i) / 2 if n else -1
        last = (i + order[n + 1]) / 2 if n + 1 < len(order) else len(finder.clip)
        ahead = [i, *(k for k in finder.keys if i < k < last)]
        back = [i, *(k for k in reversed(finder.keys) if first <= k < i)]
        for way in (ahead, back):
            follow(finder, way, chosen, named)
    return chosen


def _final(finder: Finder, chosen: Chosen, anchors: Anchors, share: float) -> Kept:
    """Log-odds (h, w) float32 of every frame, None where the subject is not seen.

    In every frame the scene behind speaks, in key frames also the network; where a person vouches for some frames'
    masks, what these teach takes so large a share of its place, 0…1.
    """
    evidence = KeptInSteps(np.int8, STEPS)
    for i in range(len(finder.clip)):
        finder.check()
        own = finder.choose(i, anchors[i], anchored=True) if i in anchors else chosen.get(i)
        near = _reach(finder, i, chosen)
        total = np.zeros(near.shape, np.float32) if own is None else log_odds(own.astype(np.float32) / 255.0)
        if finder.behind:
            total += finder.behind[i]
        # far from where the subject can be, nothing speaks for it
        evidence.append(np.where(near, np.clip(total, -LIMIT, LIMIT), -LIMIT))
    if anchors and share:
        _teach(finder, evidence, anchors, share)
    fixed = {i: np.where(mask, SURE, -SURE).astype(np.float32) for i, mask in anchors.items()}
    result = smooth(evidence, finder.before, finder.after, finder.trust, finder.config.keep, fixed)
    keys = np.array(finder.keys)
    for i in range(len(result)):
        around = {int(keys[keys <= i].max()), int(keys[keys >= i].min())}
        gone = chosen.get(i) is None if i in chosen else all(chosen.get(k) is None for k in around)
        if gone:
            result[i] = None
    return result


def _teach(finder: Finder, evidence: Kept, anchors: Anchors, share: float) -> None:
    """Put what anchors teach of every frame in a share, 0…1, of its evidence's place."""
    found = smooth(evidence, finder.before, finder.after, finder.trust, finder.config.keep, {})
    for i, learnt in enumerate(taught(finder.frames, found, finder.behind or None, anchors, finder.check)):
        evidence[i] = share * learnt + (1.0 - share) * evidence[i]


def _reach(finder: Finder, i: int, chosen: Chosen) -> np.ndarray:
    """(h, w) bool: where the subject can be in frame i, about what the nearest key frames show, faintly or well."""
    keys = finder.keys
    around = [i] if i in chosen else [max(k for k in keys if k < i), min(k for k in keys if k > i)]
    result = np.zeros((finder.size[1], finder.size[0]), bool)
    for k in around:
        soft = chosen.get(k)
        if soft is not None:
            result |= finder.carry(soft > 255 * finder.config.faint, k, i)
    return grown(result, 0.08)


def _rechoose(finder: Finder, chosen: Chosen, anchors: Anchors, silhouettes: np.ndarray) -> None:
    """Take the candidate that agrees with the body's silhouette where the chosen mask does not.

    A fit is smooth in time and knows what bodies look like, but is loose: so it decides only in frames where it and
    the mask overlap much less than they do in most, and only for a candidate that overlaps it clearly better.
    """
    seen = {i: cv2.resize(silhouettes[i].astype(np.float32), finder.size) > 0.5 for i in finder.keys}
    usual = {i: overlap(binary(s), seen[i]) for i, s in chosen.items() if s is not None}
    if not usual:
        return
    doubtful = 0.75 * float(np.median(list(usual.values())))
    for i in finder.keys:
        if i in anchors or not seen[i].any() or usual.get(i, 0.0) >= doubtful:
            continue
        other = finder.choose(i, seen[i])
        if other is not None and overlap(binary(other), seen[i]) > usual.get(i, 0.0) + 0.1:
            chosen[i] = other


def _to_clip(odds: np.ndarray, clip: Clip) -> np.ndarray:
    """Mask (H, W) bool at clip size without specks."""
    return without_specks(cv2.resize(odds, clip.size, interpolation=cv2.INTER_LINEAR) > 0.0)
