# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person says about single frames' masks: the mask itself, a box round the subject, or clicks.

A folder of corrections holds masks named by their frame's number (000012.png) and, if wanted, corrections.json:
a list of {"frame": 12, "point": [x, y], "inside": true} or {"frame": 12, "box": [x, y, width, height]}.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..core.files import expanded
from ..core.listing import IMAGE_SUFFIXES, folder_images
from .mask_store import MaskError
from .video import Clip

LIST = "corrections.json"


@dataclass(frozen=True)
class Correction:
    """One statement about one frame. frame counts as in the source, places are pixels of the original picture."""

    frame: int
    mask: np.ndarray | None = field(default=None, repr=False, compare=False)  # (h, w) bool, any size
    box: tuple[float, float, float, float] | None = None  # x, y, width, height
    point: tuple[float, float] | None = None  # x, y
    inside: bool = True  # whether the point is on the subject
    origin: str = ""  # where it was said, for messages

    def __post_init__(self) -> None:
        kinds = [self.mask is not None, self.box is not None, self.point is not None]
        if sum(kinds) != 1:
            raise MaskError(f"The correction of frame {self.frame} must be one mask, one box or one point")
        numbers = [*(self.box or ()), *(self.point or ())]
        if not all(map(math.isfinite, numbers)) or self.frame < 0:
            raise MaskError(f"The correction {self.text} has a number that is none: give frame ≥ 0 and pixels")
        if self.box is not None and min(self.box[2:]) <= 0:
            raise MaskError(f"The box of the correction {self.text} is empty: give both sides above 0")
        if self.mask is not None and not self.mask.any():
            raise MaskError(f"The mask {self.origin} for frame {self.frame} is empty: paint the subject white")

    @property
    def text(self) -> str:
        """As the command line takes it; a mask by its origin."""
        if self.mask is not None:
            return f"{self.frame}:{self.origin or 'mask'}"
        numbers = ",".join(f"{n:g}" for n in self.box or self.point or ())
        return f"{self.frame}:{'' if self.inside else '!'}{numbers}"


def parse_correction(text: str) -> Correction:
    """`12:x,y` is on the subject, `12:!x,y` is not, `12:x,y,w,h` is a box round it, `12:FILE` a mask image.

    Raises MaskError.
    """
    from .masks import read_mask

    number, _, rest = text.strip().partition(":")
    if number.isdecimal() and os.path.isfile(expanded(rest)):
        return Correction(int(number), mask=read_mask(expanded(rest), int(number)), origin=rest)
    if number.isdecimal() and rest and (Path(rest).suffix.lower() in IMAGE_SUFFIXES or os.path.isdir(expanded(rest))):
        raise MaskError(f"There is no mask image {rest} to correct frame {number} with: check the path")
    match = re.fullmatch(r"(\d+):(!?)([^:]+)", text.strip())
    numbers: list[float] = []
    if match:
        try:
            numbers = [float(part) for part in match.group(3).split(",")]
        except ValueError:
            numbers = []
    if match is None or len(numbers) not in (2, 4) or (match.group(2) and len(numbers) == 4):
        raise MaskError(
            f"'{text}' is no correction: give FRAME:X,Y for a point on the subject, FRAME:!X,Y for one beside it, "
            "FRAME:X,Y,W,H for a box round it, FRAME:FILE for a mask image, or a folder"
        )
    frame = int(match.group(1))
    if len(numbers) == 2:
        return Correction(frame, point=(numbers[0], numbers[1]), inside=not match.group(2), origin=text)
    return Correction(frame, box=(numbers[0], numbers[1], numbers[2], numbers[3]), origin=text)


def read_corrections(places: Sequence[str | Path]) -> list[Correction]:
    """Corrections from folders and from texts that `parse_correction` reads. Raises MaskError."""
    found: list[Correction] = []
    for place in places:
        path = expanded(place)
        if os.path.isdir(path):
            found += _read_folder(path)
        elif re.match(r"\d+:", str(place)):
            found.append(parse_correction(str(place)))
        else:
            raise MaskError(
                f"'{place}' is neither a folder of corrections nor a correction such as 12:340,200: check the path"
            )
    return found


def _read_folder(folder: Path) -> list[Correction]:
    from .masks import read_mask

    found = []
    try:
        files = folder_images(folder)
    except OSError as error:
        raise MaskError(
            f"The folder of corrections {folder} cannot be listed ({error.strerror}): give a folder of images"
        ) from None
    for file in files:
        number = re.search(r"(\d+)$", file.stem)
        if number is None:
            raise MaskError(f"The correction {file} has no frame number in its name: call it such as 000012.png")
        frame = int(number.group(1))
        found.append(Correction(frame, mask=read_mask(file, frame), origin=str(file)))
    listed = folder / LIST
    if listed.is_file():
        try:
            rows = json.loads(listed.read_text(encoding="utf-8"))
            for row in rows:
                box, point = row.get("box"), row.get("point")
                found.append(
                    Correction(
                        int(row["frame"]),
                        box=None if box is None else tuple(float(v) for v in box),  # type: ignore[arg-type]
                        point=None if point is None else tuple(float(v) for v in point),  # type: ignore[arg-type]
                        inside=bool(row.get("inside", True)),
                        origin=f"{listed}",
                    )
                )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MaskError(
                f"{listed} is no list of corrections ({type(error).__name__}: {error}): each needs a frame and "
                "either a box [x, y, width, height] or a point [x, y]"
            ) from None
    if not found:
        raise MaskError(f"The folder of corrections {folder} holds no mask image and no {LIST}: put one there")
    return found


@dataclass
class Said:
    """Everything said about one frame of the clip, at the working size."""

    mask: np.ndarray | None = None  # (h, w) bool
    boxes: list[np.ndarray] = field(default_factory=list)  # each (4,) x0, y0, x1, y1
    inside: list[tuple[float, float]] = field(default_factory=list)
    outside: list[tuple[float, float]] = field(default_factory=list)


def by_frame(corrections: Sequence[Correction], clip: Clip, size: tuple[int, int]) -> dict[int, Said]:
    """Corrections by index into the clip, at `size` (w, h). One of a frame that was left out by a step is applied
    to the nearest frame that was read. Raises MaskError for frames or places outside the clip, and contradictions.
    """
    result: dict[int, Said] = {}
    first, last = int(clip.frame_index[0]), int(clip.frame_index[-1])
    width, height = clip.original_size
    scale = np.array(size) / np.array(clip.original_size)
    masked: dict[int, str] = {}
    for said in corrections:
        if not first <= said.frame <= last:
            raise MaskError(
                f"The correction {said.text} is of a frame outside the clip's {first} to {last}: change its number"
            )
        i = int(np.argmin(np.abs(clip.frame_index - said.frame)))
        entry = result.setdefault(i, Said())
        if said.mask is not None:
            shape = said.mask.shape
            if abs(shape[1] * height / (shape[0] * width) - 1.0) > 0.02:
                raise MaskError(
                    f"The mask {said.origin} is {shape[1]}×{shape[0]} pixels, another shape than the clip's "
                    f"{width}×{height}: paint it on a frame of the clip"
                )
            if i in masked:
                frame = int(clip.frame_index[i])
                raise MaskError(f"Frame {frame} is given two masks, {masked[i]} and {said.origin}: keep one")
            masked[i] = said.origin
            entry.mask = cv2.resize(said.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
            if not entry.mask.any():
                raise MaskError(f"The mask {said.origin} is too small to see: paint the subject white")
        elif said.box is not None:
            x, y, w, h = said.box
            low, high = np.maximum([x, y], 0.0), np.minimum([x + w, y + h], [width, height])
            if ((high - low) * scale < 2).any():
                raise _outside(said, clip)
            entry.boxes.append(np.concatenate([low * scale, high * scale]))
        else:
            x, y = said.point or (0.0, 0.0)
            if not (0 <= x < width and 0 <= y < height):
                raise _outside(said, clip)
            (entry.inside if said.inside else entry.outside).append((x * scale[0], y * scale[1]))
    for i, entry in result.items():
        _check(entry, int(clip.frame_index[i]))
    return result


def _check(said: Said, frame: int) -> None:
    """Raise MaskError where what was said of one frame cannot all be true."""
    for a in said.inside:
        if any(np.hypot(a[0] - b[0], a[1] - b[1]) < 2.0 for b in said.outside):
            raise MaskError(f"In frame {frame} the same place is said to be on the subject and beside it: remove one")
        if any(not (b[0] <= a[0] <= b[2] and b[1] <= a[1] <= b[3]) for b in said.boxes):
            raise MaskError(f"In frame {frame} a click on the subject lies outside the box round it: remove one")
    if said.mask is not None:
        wrong = [p for p in said.inside if not _near(said.mask, p)] + [
            p for p in said.outside if not _near(~said.mask, p)
        ]
        if wrong:
            raise MaskError(f"In frame {frame} a click contradicts the mask given for it: remove one")


def _near(mask: np.ndarray, point: tuple[float, float], reach: int = 3) -> bool:
    column, row = int(point[0]), int(point[1])
    return bool(mask[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1].any())


def _outside(said: Correction, clip: Clip) -> MaskError:
    return MaskError(
        f"The correction {said.text} lies outside the picture of {clip.original_size[0]}×{clip.original_size[1]} "
        "pixels: give pixels of the original picture"
    )
