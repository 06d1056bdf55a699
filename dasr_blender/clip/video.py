# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a clip: a video file, a folder of images, or an image sequence by pattern."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# ffmpeg reports damaged files on stderr by itself; what matters of it becomes our own one-line error.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from ..core.errors import DasrError
from .sequence import IMAGE_SUFFIXES, decode_image, folder_images, is_pattern, pattern_images, quiet_opencv

SEQUENCE_FPS = 24.0
RAM_LIMIT = 768 * 1024**2  # bytes of pixels kept in memory; beyond, a temporary file holds them all

Progress = Callable[[float, str], None]


class ClipError(DasrError):
    """A clip that cannot be read as asked; the message says what, where, and what to do."""


class Cancelled(DasrError):
    """The caller's `cancel()` said to stop."""


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
    if fps is not None and not (0.0 < fps < 10000.0):
        raise ClipError(f"{fps} frames a second is no frame rate: give a number above 0")
    reader = _open(Path(path).expanduser())
    wanted = _Wanted(first, end, step, reader.count)
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


def _open(path: Path) -> _Images | _Video:
    if is_pattern(path):
        files, missing = pattern_images(path)
        if not files:
            raise ClipError(f"No image matches {path}: check the folder, the name and the number of digits")
        reader = _Images(files, str(path))
        if missing:
            shown = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
            reader.warnings.append(
                f"The sequence {path.name} lacks number {shown}; the frames around a gap follow each other"
            )
        return reader
    if not path.exists():
        raise ClipError(f"There is no file or folder {path}: check the path")
    try:
        if path.is_dir():
            files = folder_images(path)
            if not files:
                raise ClipError(f"The folder {path} holds no images (png, jpg, tif, webp …): choose another")
            return _Images(files, str(path))
        with path.open("rb") as file:
            if not file.read(1):
                raise ClipError(f"The file {path} is empty: copy or download it again")
    except OSError as error:
        raise ClipError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _Images([path], str(path))
    return _Video(path)


def _working_size(original: tuple[int, int], max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(original))
    return max(1, round(original[0] * scale)), max(1, round(original[1] * scale))


@dataclass(frozen=True)
class _Wanted:
    first: int
    end: int | None
    step: int
    count: int  # of the source, 0 when it does not say

    def __contains__(self, index: int) -> bool:
        return index >= self.first and (index - self.first) % self.step == 0

    def fraction(self, index: int) -> float:
        last = min(x for x in (self.end, self.count or None, 10**9) if x is not None)
        return min(1.0, (index + 1 - self.first) / max(last - self.first, 1))


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


class _Images:
    """Numbered still images, read in order."""

    def __init__(self, files: list[Path], name: str) -> None:
        self._files, self._name = files, name
        self._hash = hashlib.sha256()
        self.count = len(files)
        self.exhausted = True
        self.warnings: list[str] = []

    def frames(self, wanted: _Wanted) -> Iterator[tuple[int, np.ndarray]]:
        for index in range(wanted.first, min(wanted.end or self.count, self.count), wanted.step):
            file = self._files[index]
            try:
                data = file.read_bytes()
            except OSError as error:
                raise ClipError(
                    f"The image {file} (frame {index}) cannot be read ({error.strerror}): check its permissions"
                ) from None
            image = decode_image(data, file.suffix)
            if image is None:
                raise ClipError(
                    f"The image {file} (frame {index}) is damaged or no image: replace it or leave it out"
                )
            self._hash.update(file.name.encode() + b"\0" + data)
            yield index, image

    def nothing(self, first: int) -> ClipError:
        return ClipError(f"{self._name} has {self.count} frames, so none from frame {first} on: start earlier")

    def fps(self) -> float:
        return SEQUENCE_FPS

    def sha256(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        pass


class _Video:
    """A video file through OpenCV's ffmpeg, turned upright as its rotation metadata says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamps: list[float] = []  # presentation time of each decoded frame, ms
        self.exhausted = False
        self.warnings: list[str] = []
        with quiet_opencv():
            self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise ClipError(
                f"{path} is not a video that can be decoded (damaged, cut off, or another kind of file): "
                "convert it to H.264 mp4 or give a folder of images"
            )
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        self._stated_fps = self._capture.get(cv2.CAP_PROP_FPS)
        stated = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(stated) if 0 < stated < 1e8 else 0

    def frames(self, wanted: _Wanted) -> Iterator[tuple[int, np.ndarray]]:
        index = 0
        while wanted.end is None or index < wanted.end:
            if not self._capture.grab():
                self._ended(index)
                return
            self._stamps.append(self._capture.get(cv2.CAP_PROP_POS_MSEC))
            if index in wanted:
                ok, image = self._capture.retrieve()
                if not ok or image is None:
                    self._ended(index)
                    return
                yield index, cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
            index += 1

    def _ended(self, decoded: int) -> None:
        # containers round the count they state; only a real shortfall means damage
        if 0 < decoded < self.count - max(1, self.count // 50):
            self.warnings.append(
                f"{self._path.name} states {self.count} frames but only {decoded} can be decoded: "
                "it is cut off or damaged, and the rest is left out"
            )
        self.exhausted = True
        self.count = decoded

    def nothing(self, first: int) -> ClipError:
        if self.exhausted and self.count:
            return ClipError(
                f"{self._path} has {self.count} frames, so none from frame {first} on: start earlier"
            )
        return ClipError(
            f"Not one frame of {self._path} can be decoded (damaged or cut off): export or download it again"
        )

    def fps(self) -> float:
        """Average frame rate by the frames' own times; what the file states where the two agree."""
        stated = self._stated_fps if 0.1 < self._stated_fps < 1000.0 else 0.0
        steps = np.diff(self._stamps)
        if len(steps) == 0 or steps.min() < 0 or steps.mean() <= 0:
            return stated or SEQUENCE_FPS
        average = 1000.0 / float(steps.mean())
        # containers store times in whole ms or ticks: two of them is no variation
        if np.abs(steps - np.median(steps)).max() > max(2.0, 0.25 * float(np.median(steps))):
            self.warnings.append(
                f"{self._path.name} has a varying frame rate: "
                f"its frames are placed on the average of {average:.3g} a second"
            )
            return average
        return stated if stated and abs(average - stated) < 0.02 * stated else average

    def sha256(self) -> str:
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def close(self) -> None:
        self._capture.release()
