# SPDX-License-Identifier: GPL-3.0-or-later
"""One clip at working size: small frames, flow both ways, the network's looks, and the choices made on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import cv2
import numpy as np

from ..core.errors import counted
from ..core.workers import made_ahead
from .choosing import AutomaticConfig, grown, likeness, overlap, prominence
from .evidence import STEPS, Background, Sides, log_odds, trusts
from .flow import flow, warp
from .kept import KeptFlows, KeptInSteps
from .looks import Look, Looks
from .mask_store import MaskError, mask_box
from .video import Cancelled, Clip, Progress


class NothingSeen(MaskError):
    """No frame of a clip shows anything that stands out."""

    def __init__(self, clip: Clip) -> None:
        super().__init__(
            f"Nothing stands out in any of the {counted(len(clip), 'frame')} of {clip.source}: "
            "say where the subject is (Pick Subject in Blender, --subject on the command line), or give a folder "
            "of masks"
        )


def working_size(clip: Clip, config: AutomaticConfig) -> tuple[int, int]:
    """Width and height of the pictures on which masks are compared."""
    scale = min(1.0, config.work_side / max(clip.size))
    return max(1, round(clip.size[0] * scale)), max(1, round(clip.size[1] * scale))


class Finder:
    """Looks at key frames and says which of the blobs seen there is the subject.

    Key frames lie as far apart as the picture's own movement allows; in between, flow carries the masks.
    """

    def __init__(
        self, clip: Clip, looks: Looks, config: AutomaticConfig,
        progress: Progress | None, cancel: Callable[[], bool] | None, first: int = 0,
    ) -> None:
        """clip: one shot, which begins with frame `first` of the clip that looks are of."""
        self.clip, self.looks, self.config, self._first = clip, looks, config, first
        self._progress, self._cancel = progress, cancel
        self._done, self._steps = 0, 3 * len(clip)
        self.size = working_size(clip, config)
        self.frames: list[np.ndarray] = []  # (h, w, 3) uint8
        self.before = KeptFlows(self.size)  # flow to the frame before
        self.after = KeptFlows(self.size)  # flow to the frame after
        self.keys: list[int] = []
        self.wide: set[int] = set()  # key frames of which the whole is looked at, not only what is about the subject
        self.behind = KeptInSteps(np.int8, STEPS)  # log-odds from the background, once masks are known

    def check(self) -> None:
        if self._cancel is not None and self._cancel():
            raise Cancelled("Stopped while looking for the subject")

    def advance(self, text: str) -> None:
        self.check()
        self._done += 1
        if self._progress is not None:
            self._progress(min(1.0, self._done / self._steps), text)

    def read(self, wanted: set[int]) -> None:
        """Small frames, flow and key frames; the frames in `wanted` are key frames whatever moves."""
        count, moved, last = len(self.clip), 0.0, None
        for i in range(count):
            small = cv2.resize(self.clip.frame(i), self.size, interpolation=cv2.INTER_AREA)
            grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
            self.frames.append(small)
            back = None
            if last is not None:
                back = flow(grey, last, quick=True)
                self.after.append(flow(last, grey, quick=True))
                still = np.median(back[::4, ::4].reshape(-1, 2), axis=0)
                apart = np.linalg.norm(back[::4, ::4] - still, axis=2)
                moved += float(np.quantile(apart, 0.98)) / max(self.size)
            self.before.append(back)
            last = grey
            due = not self.keys or i == count - 1 or i in wanted or i - self.keys[-1] >= self.config.key_gap
            if due or moved >= self.config.key_move:
                self.keys.append(i)
                moved = 0.0
            self.advance(f"following the movement, frame {i + 1} of {count}")
        self.after.append(None)
        self.wide = {*self.keys[:: self.config.wide_gap], self.keys[-1], *wanted}

    @cached_property
    def trust(self) -> Sides:
        """How far each frame's flow to its neighbours can be believed."""
        return trusts(self.frames, self.before, self.after)

    def carry(self, mask: np.ndarray, start: int, end: int) -> np.ndarray:
        """mask (h, w) bool of frame `start` carried by flow to frame `end`."""
        step = 1 if end > start else -1
        carried = mask.astype(np.uint8) * 255
        for i in range(start + step, end + step, step):
            there = self.before[i] if step > 0 else self.after[i]
            carried = warp(carried, there)
        return carried > 127

    def saliency(self, i: int) -> np.ndarray:
        """First look at frame i, (h, w) float32 at working size."""
        self.wide.add(i)
        look = self.looks.at(self._first + i, (0, 0, *self.clip.size))
        soft = cv2.resize(look.soft, self.size, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255.0
        return self._against_background(i, soft)

    def learn_background(self, masks: Iterable[np.ndarray | None]) -> None:
        """From masks (h, w) bool, None where not known; every later look is judged with it."""
        background = Background(self.frames, masks, self.before)
        self.behind = KeptInSteps(np.int8, STEPS)
        for i, odds in enumerate(made_ahead(background.odds, range(len(self.clip)))):
            self.behind.append(self.config.background * odds)
            self.advance(f"telling the subject from what is behind it, frame {i + 1} of {len(self.clip)}")

    def _against_background(self, i: int, soft: np.ndarray) -> np.ndarray:
        """Saliency (h, w), less where the place looks the same without the subject. Never more: that something
        moves does not make it the subject."""
        if not self.behind:
            return soft
        return 1.0 / (1.0 + np.exp(-log_odds(soft, 5.0) - np.minimum(self.behind[i], 0.0)))

    def closer(self, i: int, box: np.ndarray, pad: float) -> np.ndarray:
        """Second look at frame i: saliency (h, w) float32 from the crop `pad` wider than box (4,) on each side."""
        window = self._window(box * np.tile(self._to_clip, 2), pad)
        if window is None:
            return np.zeros((self.size[1], self.size[0]), np.float32)
        return self._against_background(i, self._placed(self.looks.at(self._first + i, window)))

    def body(self, i: int, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """What the network that knows the category's bodies sees about `reference` (h, w) bool in frame i, (h, w)
        float32, and which of it is the subject, (h, w) bool; None without such a network, and where it is not sure.

        Where it expects joints beyond the crop, as those of legs that the reference lacks, it looks again with them in.
        """
        pad = self.config.pad
        window = self._window(mask_box(reference) * np.tile(self._to_clip, 2), pad)
        look = None if window is None else self.looks.body(self._first + i, window)
        if window is None or look is None:
            return None
        joints = self._window(np.array(look.box), pad) or window
        x0, y0 = (min(pair) for pair in zip(window[:2], joints[:2], strict=True))
        x1, y1 = (max(pair) for pair in zip(window[2:], joints[2:], strict=True))
        look = self.looks.body(self._first + i, (x0, y0, x1, y1)) or look
        if look.sure < self.config.sure:
            return None
        candidates = self._candidates(self._against_background(i, self._placed(look)), reference)
        soft, blob = self._closest(candidates, [0.0] * len(candidates), reference)
        both = int((blob & reference).sum())
        if both <= self.config.covered * reference.sum() or both <= self.config.own * blob.sum():
            return None
        return soft, blob

    @property
    def _to_clip(self) -> np.ndarray:
        """Pixels of the clip to one of the working picture, (2,)."""
        return np.array(self.clip.size) / np.array(self.size)

    def _window(self, box: np.ndarray, pad: float) -> tuple[int, int, int, int] | None:
        """The crop `pad` wider on each side than box (4,), in pixels of the clip; None where hardly anything is."""
        margin = pad * (box[2:] - box[:2])
        x0, y0 = np.clip(np.floor(box[:2] - margin), 0, self.clip.size).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(box[2:] + margin), 0, self.clip.size).astype(int).tolist()
        return (x0, y0, x1, y1) if x1 - x0 >= 4 and y1 - y0 >= 4 else None

    def _placed(self, look: Look) -> np.ndarray:
        """A look's answer at working size, (h, w) float32."""
        to_clip = self._to_clip
        (x0, y0, x1, y1), inside = look.window, look.soft.astype(np.float32) / 255.0
        # working index -> clip x = (index + .5) to_clip -> network index
        zoom = np.array([inside.shape[1] / (x1 - x0), inside.shape[0] / (y1 - y0)])
        slope = to_clip * zoom
        shift = (0.5 * to_clip - (x0, y0)) * zoom - 0.5
        matrix = np.column_stack([np.diag(slope), shift])
        shrinks = slope.max() > 1.0
        if shrinks:
            inside = cv2.blur(inside, tuple(int(max(1, round(s))) for s in slope))
        return cv2.warpAffine(
            inside, matrix, self.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(0.0,)
        )

    def blobs(self, soft: np.ndarray) -> list[np.ndarray]:
        """Connected regions of (h, w) saliency above the threshold, largest first, each (h, w) bool."""
        count, label, stats, _ = cv2.connectedComponentsWithStats((soft > self.config.threshold).astype(np.uint8))
        area = stats[:, cv2.CC_STAT_AREA]
        kept = [k for k in range(1, count) if area[k] >= self.config.smallest * label.size]
        return [label == k for k in sorted(kept, key=lambda k: -area[k])]

    def best_seed(self, tint: np.ndarray | None = None) -> tuple[int, np.ndarray]:
        """The frame whose blob stands out most, and that blob, (h, w) bool; tint: colours that it should have.

        Raises NothingSeen.
        """
        best: tuple[float, int, np.ndarray | None] = (0.0, 0, None)
        wide = sorted(self.wide)
        for frames in (wide, [i for i in self.keys if i not in wide]):
            for i in frames if best[2] is None else ():
                soft = self.saliency(i)
                for blob in self.blobs(soft)[:3]:
                    value = prominence(soft, blob)
                    if tint is not None:
                        value *= 0.1 + likeness(self.colours(i, blob), tint)
                    if value > best[0]:
                        best = (value, i, blob)
                self.advance(f"looking for the subject, frame {i + 1} of {len(self.clip)}")
        if best[2] is None:
            raise NothingSeen(self.clip)
        return best[1], best[2]

    def choose(
        self, i: int, reference: np.ndarray, anchored: bool = False, alone: bool = False
    ) -> np.ndarray | None:
        """The candidate of frame i closest to `reference` (h, w) bool, as a soft mask (h, w) uint8.

        Over 127 only on the candidate; but what the network faintly saw where the reference lies stays, for the other
        frames' evidence to decide about. None when none overlaps it enough, unless `anchored` says that the reference
        is known to be right. alone: where one look about the reference shows it clearly, the rest is not looked at.
        A body that a network which knows them sees there comes before both.
        """
        known = self.body(i, reference)
        if known is not None:
            return _softened(*known, reference)
        if alone and i not in self.wide:
            window = mask_box(reference)
            candidates = self._candidates(self.closer(i, window, self.config.pad), reference)
            soft, blob = self._closest(candidates, [0.0] * len(candidates), reference)
            if overlap(blob, reference) >= self.config.clear and not self._is_cut(blob, window):
                return _softened(soft, blob, reference)
        first = self.saliency(i)
        candidates = self._candidates(first, reference)
        near = max(candidates, key=lambda c: overlap(c[1], reference), default=None)
        window = mask_box(reference)
        # the first look's blob shows limbs that the reference lacks, unless it has run into the background
        if (
            near is not None
            and overlap(near[1], reference) > self.config.lost
            and near[1].sum() < self.config.swollen * reference.sum()
        ):
            window = mask_box(near[1])
        second = self.closer(i, window, self.config.pad)
        # what the second look's crop cut through is likely larger than it shows
        closer = self._candidates(second, reference)
        cut = [0.0] * len(candidates) + [self.config.cut * self._is_cut(blob, window) for _, blob in closer]
        margin = self.config.pad * (window[2:] - window[:2])
        x0, y0 = np.maximum(np.floor(window[:2] - margin), 0).astype(int)
        x1, y1 = np.ceil(window[2:] + margin).astype(int)
        both = first.copy()
        both[y0:y1, x0:x1] = 0.5 * (first + second)[y0:y1, x0:x1]
        fused = self._candidates(both, reference)
        candidates, cut = candidates + closer + fused, cut + [0.0] * len(fused)
        self.check()
        if not candidates:
            return None
        soft, blob = self._closest(candidates, cut, reference)
        if not anchored and blob.sum() > self.config.swollen * reference.sum():
            # it runs into the background in every look: what of it lies about where flow carried the subject;
            # the margin lets a mask that was too small grow again, frame by frame
            blob = blob & grown(reference, 0.06)
        if overlap(blob, reference) < (0.05 if anchored else self.config.lost):
            return None
        return _softened(soft, blob, reference)

    def _closest(
        self, candidates: list[tuple[np.ndarray, np.ndarray]], cut: list[float], reference: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The candidate closest to the reference, less what each loses for being cut; nothing where there is none."""
        scores = [
            overlap(blob, reference) + self.config.confidence * float(soft[blob].mean()) - penalty
            for (soft, blob), penalty in zip(candidates, cut, strict=True)
        ]
        nothing = np.zeros(reference.shape, np.float32), np.zeros(reference.shape, bool)
        return candidates[int(np.argmax(scores))] if candidates else nothing

    def _is_cut(self, blob: np.ndarray, box: np.ndarray) -> bool:
        """Whether blob (h, w) bool ends at the crop around box (4,) and not at the picture's rim."""
        margin = self.config.pad * (box[2:] - box[:2])
        limit = np.concatenate([box[:2] - margin, box[2:] + margin])
        found = mask_box(blob)
        low = (limit[:2] > 2) & (found[:2] < limit[:2] + 2)
        high = (limit[2:] < np.array(self.size) - 2) & (found[2:] > limit[2:] - 2)
        return bool(low.any() or high.any())

    def _candidates(self, soft: np.ndarray, reference: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Blobs that touch the reference, and the union of those lying mostly on it (a subject cut by a pole)."""
        touching = [b for b in self.blobs(soft) if (b & reference).any()][:4]
        wide = cv2.dilate(reference.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        lying = [b for b in touching if (b & wide).sum() > 0.6 * b.sum()]
        union = [np.logical_or.reduce(lying)] if len(lying) > 1 else []
        return [(soft, blob) for blob in touching + union]

    def colours(self, i: int, mask: np.ndarray) -> np.ndarray:
        """Histogram (8·8·8,) of the colours under mask (h, w) bool, its sum 1."""
        bins = (self.frames[i][mask] // 32).astype(np.int64) @ np.array([64, 8, 1])
        return np.bincount(bins, minlength=512) / max(len(bins), 1)


def _softened(soft: np.ndarray, blob: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Soft mask (h, w) uint8 of a chosen blob: its rim is kept whole; of other blobs, what may be a limb that is seen
    less clearly, under a half."""
    rim = cv2.dilate(blob.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    result = (soft * 255.0 + 0.5).astype(np.uint8)
    return np.where(rim, result, np.where(reference, np.minimum(result, 127), 0)).astype(np.uint8)
