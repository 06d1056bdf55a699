# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject's mask in every frame of a clip: packed storage, boxes, and filling frames without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..core.errors import DasrError, counted
from ..core.files import DAMAGED, written_atomically
from ..core.motion import shots_of

SPECK = 1 / 30  # of the area of a mask's largest part, under which another one is none of the subject
NEAR = 0.1  # of the subject's longer side: specks no farther from it may be pieces of it


class MaskError(DasrError):
    """Masks that cannot be had or used; the message says what, where, and what to do."""


@dataclass(frozen=True)
class Masks:
    """Binary masks of a clip, one bit a pixel. Build with Masks.pack, which fills empty frames."""

    size: tuple[int, int]  # (width, height)
    packed: np.ndarray = field(repr=False)  # (T, ceil(H W / 8)) uint8
    boxes: np.ndarray  # (T, 4) float64 x0, y0, x1, y1: pixel edges, so x1 - x0 is the width; see `subject_box`
    interpolated: np.ndarray  # (T,) bool: nothing was seen here, the mask is made from its neighbours
    source: str  # "folder", "alpha", "chroma key" or "automatic"
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def given(self) -> bool:
        """Whether they came with the clip or from a person, and so have true outlines, rather than being found."""
        return self.source != "automatic"

    def mask(self, i: int) -> np.ndarray:
        """Mask of frame i, (H, W) float32, 0 or 1."""
        width, height = self.size
        return np.unpackbits(self.packed[i], count=width * height).reshape(height, width).astype(np.float32)

    def part(self, frames: slice) -> Masks:
        """Those of some of the frames."""
        known = self.packed[frames], self.boxes[frames], self.interpolated[frames]
        return Masks(self.size, *known, self.source)

    @staticmethod
    def pack(
        masks: Iterable[np.ndarray | None],
        source: str,
        warnings: Sequence[str] = (),
        cuts: Sequence[int] | np.ndarray = (),
        frame_index: np.ndarray | None = None,
    ) -> Masks:
        """From one (H, W) bool mask a frame; None or an empty one is filled from the frames around it.

        cuts: frames that begin another shot; what is missing in one is filled from its own frames, as long as there are
        any. frame_index (T,): what messages call the frames, as `Clip.frame_index`; from 0 without it. Raises MaskError
        when every mask is empty.
        """
        packed: list[np.ndarray | None] = []
        height = width = 0
        for mask in masks:
            packed.append(None if mask is None or not mask.any() else np.packbits(np.asarray(mask, bool)))
            height, width = (height, width) if mask is None else mask.shape
        count, empty = len(packed), np.array([bits is None for bits in packed], bool)
        seen = np.flatnonzero(~empty)
        if len(seen) == 0:
            raise MaskError(
                f"No subject in any of the {counted(count, 'frame')} ({source} masks): "
                "say where it is (Pick Subject in Blender, --subject on the command line), or give a folder of masks"
            )

        def unpacked(i: int) -> np.ndarray:
            bits = packed[i]
            assert bits is not None
            return np.unpackbits(bits, count=width * height).reshape(height, width) > 0

        for shot in shots_of(count, cuts):
            own = seen[(seen >= shot.start) & (seen < shot.stop)]
            for i in np.flatnonzero(empty[shot]) + shot.start:
                before, after = own[own < i][-1:], own[own > i][:1]
                if len(before) and len(after):
                    t = (i - before[0]) / (after[0] - before[0])
                    packed[i] = np.packbits(blend_masks(unpacked(before[0]), unpacked(after[0]), t))
                else:
                    near = own if len(own) else seen
                    packed[i] = packed[near[np.abs(near - i).argmin()]]
        notes = list(warnings)
        if empty.any():
            missing = np.flatnonzero(empty) if frame_index is None else frame_index[empty]
            notes.append(
                f"No mask in {int(empty.sum())} of {counted(count, 'frame')} "
                f"({frame_list(missing)}): interpolated between the frames around them"
            )
        return Masks(
            size=(width, height),
            packed=np.stack(packed),  # type: ignore[arg-type]
            boxes=np.stack([subject_box(unpacked(i)) for i in range(count)]),
            interpolated=empty,
            source=source,
            warnings=notes,
        )

    def save(self, path: str | Path) -> None:
        """Write an .npz, moved into place when whole."""
        with written_atomically(path) as temporary:
            np.savez_compressed(
                temporary,
                size=np.array(self.size),
                packed=self.packed,
                boxes=self.boxes,
                interpolated=self.interpolated,
                source=np.array(self.source),
                warnings=np.array(self.warnings, dtype=np.str_),
            )

    @staticmethod
    def load(path: str | Path) -> Masks:
        """Read what `save` wrote; MaskError names the file and the field that is wrong."""
        try:
            with np.load(path, allow_pickle=False) as data:
                fields = {name: data[name] for name in data.files}
        except FileNotFoundError:
            raise MaskError(f"There is no mask file {path}: make the masks again") from None
        except DAMAGED as error:
            raise MaskError(f"The mask file {path} is damaged ({error}): delete it to make it again") from None
        wanted = {"size": 1, "packed": 2, "boxes": 2, "interpolated": 1, "source": 0, "warnings": 1}
        for name, dimensions in wanted.items():
            if name not in fields or fields[name].ndim != dimensions:
                raise MaskError(f"The mask file {path} has no valid field {name}: delete it to make it again")
        width, height = (int(x) for x in fields["size"])
        frames = len(fields["packed"])
        shapes = {"packed": (frames, (width * height + 7) // 8), "boxes": (frames, 4), "interpolated": (frames,)}
        for name, shape in shapes.items():
            if fields[name].shape != shape:
                raise MaskError(
                    f"In the mask file {path} the field {name} is {fields[name].shape}, not {shape}: "
                    "delete it to make it again"
                )
        return Masks(
            size=(width, height),
            packed=fields["packed"].astype(np.uint8),
            boxes=fields["boxes"].astype(np.float64),
            interpolated=fields["interpolated"].astype(bool),
            source=str(fields["source"]),
            warnings=[str(w) for w in fields["warnings"]],
        )


def mask_box(mask: np.ndarray) -> np.ndarray:
    """(4,) x0, y0, x1, y1 around the true pixels of (H, W); the caller sees to it that there are any."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def without_specks(mask: np.ndarray) -> np.ndarray:
    """Mask (H, W) bool without parts of less than SPECK of the largest one's area."""
    count, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count <= 2:
        return mask
    area = stats[:, cv2.CC_STAT_AREA].copy()
    area[0] = 0
    return (area > SPECK * area.max())[label]


def subject_box(mask: np.ndarray) -> np.ndarray:
    """(4,) as `mask_box`, but no farther round specks than NEAR from the rest of (H, W) bool."""
    box, own = mask_box(mask), mask_box(without_specks(mask))
    reach = NEAR * (own[2:] - own[:2]).max()
    return np.concatenate([np.maximum(box[:2], own[:2] - reach), np.minimum(box[2:], own[2:] + reach)])


def blend_masks(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """The shape between two masks (H, W) bool at time t of 0…1.

    Both are moved and stretched onto the box in between, and their signed distances averaged there.
    """
    box_a, box_b = mask_box(a), mask_box(b)
    box = (1.0 - t) * box_a + t * box_b
    distance = (1.0 - t) * _distance_in(a, box_a, box) + t * _distance_in(b, box_b, box)
    blended = distance > 0.0
    if not blended.any():  # two thin shapes that never meet: the nearer one, moved
        near, near_box = (a, box_a) if t < 0.5 else (b, box_b)
        blended = _distance_in(near, near_box, box) > 0.0
    return blended if blended.any() else (a if t < 0.5 else b)


def _distance_in(mask: np.ndarray, own: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Signed distance (H, W), positive inside, of `mask` with its box `own` stretched onto `box`."""
    scale = (box[2:] - box[:2]) / (own[2:] - own[:2])
    shift = box[:2] - scale * own[:2]  # in edge coordinates; pixel indices differ by half a pixel
    matrix = np.column_stack([np.diag(scale), shift + 0.5 * scale - 0.5])
    size = (mask.shape[1], mask.shape[0])
    moved = cv2.warpAffine(mask.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR) > 0.5
    inside = cv2.distanceTransform(moved.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform((~moved).astype(np.uint8), cv2.DIST_L2, 3)
    return inside - outside


def frame_list(frames: np.ndarray, most: int = 8) -> str:
    """'3, 4, 9 …' for a message."""
    return ", ".join(str(int(f)) for f in frames[:most]) + (" …" if len(frames) > most else "")
