# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a clip: a video file, a folder of images, or an image sequence by pattern."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from ..core.errors import Cancelled
from ..core.files import expanded
from ..core.motion import frame_rate, pace_of, shots_of
from ..core.progress import Progress
from .readers import ClipError, Wanted, open_reader

RAM_LIMIT = 768 * 1024**2  # bytes of pixels kept in memory; beyond, a temporary file holds them all

NO_CUTS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Clip:
    """Frames of a clip at working size, with random access.

    fps is that of the source, whatever the step: frame i is shown at frame_index[i] / fps seconds.
    Where the source's frame rate varies, its frames are placed evenly on the average one.
    """

    fps: float
    size: tuple[int, int]  # working (width, height)
    original_size: tuple[int, int]  # (width, height) of the source, upright
    frame_index: np.ndarray  # (T,) int64, frame of the source, from 0
    source: str  # as asked: file, folder or pattern
    source_count: int  # frames in the source, as far as it tells
    sha256: str  # of the video file, or of all read images' names and bytes
    pixels: np.ndarray = field(repr=False)  # (T, H, W, 3 or 4) uint8, RGB or RGBA
    warnings: list[str] = field(default_factory=list)
    # (C,) int64, which of the T frames begin another shot, as far as somebody looked (`cuts.in_shots`)
    cuts: np.ndarray = field(default_factory=lambda: NO_CUTS)

    @property
    def shots(self) -> list[slice]:
        """The frames of each shot, a single one where the clip is not cut."""
        return shots_of(len(self), self.cuts)

    def part(self, shot: slice) -> Clip:
        """One of its shots, or frames of one."""
        return replace(self, frame_index=self.frame_index[shot], pixels=self.pixels[shot], warnings=[], cuts=NO_CUTS)

    @property
    def rate(self) -> float:
        """Read frames a second: fps, less what a step left out."""
        return frame_rate(self.fps, self.frame_index)

    @property
    def pace(self) -> int:
        """Read frames that pass while an ordinary clip shows one (`core.motion.pace_of`)."""
        return pace_of(self.rate)

    @property
    def scale(self) -> float:
        """Working pixels per original pixel, at most 1."""
        return max(self.size) / max(self.original_size)

    @property
    def has_alpha(self) -> bool:
        return self.pixels.shape[3] == 4

    def __len__(self) -> int:
        return len(self.frame_index)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.frame(i) for i in range(len(self)))

    def frame(self, i: int) -> np.ndarray:
        """Frame i, (H, W, 3) uint8 RGB."""
        return np.ascontiguousarray(self.pixels[i, :, :, :3])

    def alpha(self, i: int) -> np.ndarray | None:
        """Alpha of frame i, (H, W) float32 in 0…1, or None where the source has none."""
        return self.pixels[i, :, :, 3].astype(np.float32) / 255.0 if self.has_alpha else None


def load_clip(
    path: str | Path,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
    max_side: int = 960,
    fps: float | None = None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Clip:
    """Read frames start, start + step … before `end` (all counted from 0, `end` left out, as in Python).

    path: a video file (mp4, mov, webm, avi, gif …), a folder of images, a pattern (shot.####.png or
    shot.%04d.png), or one image. max_side: frames whose longer side exceeds it are shrunk to it (area
    averages). fps: replaces what the file says; image sequences say nothing and get 24.
    Raises ClipError for what cannot be read, and Cancelled.
    """
    first = start or 0
    if first < 0 or step < 1 or (end is not None and end <= first):
        raise ClipError(
            f"Frames {start}:{end}:{step} hold nothing: give start < end, counted from 0, and a step ≥ 1"
        )
    if max_side < 1:
        raise ClipError(f"Frames of {max_side} pixels hold nothing: give a longest side above 0")
    if fps is not None and not (0.0 < fps < 10000.0):
        raise ClipError(f"{fps} frames a second is no frame rate: give a number above 0 and below 10000")
    reader = open_reader(expanded(path))
    wanted = Wanted(first, end, step, reader.count)
    store: _Store | None = None
    original_size = (0, 0)
    indices: list[int] = []
    try:
        for index, image in reader.frames(wanted):
            if cancel is not None and cancel():
                raise Cancelled("Stopped while reading the clip")
            if store is None:
                original_size = (image.shape[1], image.shape[0])
                store = _Store(_working_size(original_size, max_side), image.shape[2])
            elif (image.shape[1], image.shape[0]) != original_size:
                raise ClipError(
                    f"Frame {index} of {path} is {image.shape[1]}×{image.shape[0]} pixels but those before it are "
                    f"{original_size[0]}×{original_size[1]}: make all frames one size"
                )
            store.append(image)
            indices.append(index)
            if progress is not None:
                progress(wanted.fraction(index), f"reading frame {index}")
        if store is None:
            raise reader.nothing(first)
        pixels = store.finish()
    finally:
        reader.close()
    if end is not None and reader.exhausted and reader.count < end:
        reader.warnings.append(f"The clip ends at frame {reader.count}, before the asked {end}")
    return Clip(
        fps=float(fps or reader.fps()),
        size=store.size,
        original_size=original_size,
        frame_index=np.array(indices, np.int64),
        source=str(path),
        source_count=max(reader.count, indices[-1] + 1),
        sha256=reader.sha256(),
        pixels=pixels,
        warnings=reader.warnings,
    )


def _working_size(original: tuple[int, int], max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(original))
    return max(1, round(original[0] * scale)), max(1, round(original[1] * scale))


class _Store:
    """Frames at working size, in memory until RAM_LIMIT and in an unnamed temporary file after that."""

    def __init__(self, size: tuple[int, int], channels: int) -> None:
        self.size, self.channels = size, channels
        self._frames: list[np.ndarray] = []
        self._file = None
        self._count = 0
        self._opaque = True

    def append(self, image: np.ndarray) -> None:
        if (image.shape[1], image.shape[0]) != self.size:
            image = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)
        image = np.ascontiguousarray(_channels(image, self.channels))
        self._opaque = self._opaque and (self.channels == 3 or int(image[..., 3].min()) == 255)
        self._count += 1
        if self._file is None:
            self._frames.append(image)
            if self._count * image.nbytes <= RAM_LIMIT:
                return
            image, self._frames = np.stack(self._frames), []
        try:
            self._file = self._file or tempfile.TemporaryFile(prefix="dasr-clip-")
            self._file.write(image.data)
        except OSError as error:
            raise self._no_room(error) from None

    def finish(self) -> np.ndarray:
        """All frames, (T, H, W, C) uint8, read-only.

        C is 3 where no pixel of any frame is transparent: such an alpha channel says nothing.
        """
        kept = slice(0, 3 if self._opaque else self.channels)
        if self._file is None:
            pixels = np.stack(self._frames)[..., kept]
            pixels.flags.writeable = False
            return pixels
        try:
            self._file.flush()
        except OSError as error:
            raise self._no_room(error) from None
        shape = (self._count, self.size[1], self.size[0], self.channels)
        return np.memmap(self._file, np.uint8, "r", shape=shape)[..., kept]

    @staticmethod
    def _no_room(error: OSError) -> ClipError:
        return ClipError(
            f"The clip's frames do not fit into the temporary folder {tempfile.gettempdir()} ({error.strerror}): "
            "free some space, or read fewer or smaller frames"
        )


def _channels(image: np.ndarray, channels: int) -> np.ndarray:
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return image[..., :3]
    return np.concatenate([image, np.full_like(image[..., :1], 255)], axis=2)
