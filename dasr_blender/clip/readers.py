# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a clip's frames come from: numbered images or a video file, told apart and read in order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# ffmpeg reports damaged files on stderr by itself; what matters of it becomes our own one-line error.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from ..core.errors import DasrError, counted
from ..core.files import add_image, is_text, sha256_of
from ..core.listing import IMAGE_SUFFIXES, folder_images, is_pattern, missing_numbers, pattern_images
from .sequence import decode_image, is_animated, quiet_opencv

SEQUENCE_FPS = 24.0


class ClipError(DasrError):
    """A clip that cannot be read as asked; the message says what, where, and what to do."""


@dataclass(frozen=True)
class Wanted:
    """Which frames of the source to read: a Python slice."""

    first: int
    end: int | None
    step: int
    count: int  # of the source, 0 when it does not say

    def __contains__(self, index: int) -> bool:
        return index >= self.first and (index - self.first) % self.step == 0

    def fraction(self, index: int) -> float:
        last = min(x for x in (self.end, self.count or None, 10**9) if x is not None)
        return min(1.0, (index + 1 - self.first) / max(last - self.first, 1))


class ImageReader:
    """Numbered still images, read in order."""

    def __init__(self, files: list[Path], name: str) -> None:
        self._files, self._name = files, name
        self._hash = hashlib.sha256()
        self.count = len(files)
        self.exhausted = True
        self.warnings: list[str] = []

    def frames(self, wanted: Wanted) -> Iterator[tuple[int, np.ndarray]]:
        for index in range(wanted.first, min(wanted.end or self.count, self.count), wanted.step):
            file = self._files[index]
            try:
                data = file.read_bytes()
            except OSError as error:
                raise ClipError(
                    f"The image {file} (frame {index}) cannot be read ({error.strerror}): check its permissions"
                ) from None
            if self.count == 1 and is_animated(data):
                raise ClipError(
                    f"{file} is an animated picture, of which only the first frame can be read: convert it to H.264 "
                    "mp4 or to a folder of images"
                )
            image = decode_image(data, file.suffix)
            if image is None:
                raise ClipError(
                    f"The image {file} (frame {index}) is damaged or no image: replace it or leave it out"
                )
            add_image(self._hash, file, data)
            yield index, image

    def nothing(self, first: int) -> ClipError:
        return ClipError(
            f"{self._name} has {counted(self.count, 'frame')}, so none from frame {first} on: start earlier"
        )

    def fps(self) -> float:
        return SEQUENCE_FPS

    def sha256(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        pass


class VideoReader:
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
        wide, high = (int(self._capture.get(side)) for side in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
        if min(wide, high) > 0 and abs(wide / high - 1) > 0.01:  # nothing but 0 where it does not say
            self.warnings.append(
                f"{path.name} has pixels that are not square ({wide}:{high}), but is taken as it is stored, as Blender "
                "does, and so is the subject's shape: convert it to square pixels"
            )

    def frames(self, wanted: Wanted) -> Iterator[tuple[int, np.ndarray]]:
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
                f"{self._path.name} states {counted(self.count, 'frame')} but only {decoded} can be decoded: "
                "it is cut off or damaged, and the rest is left out"
            )
        self.exhausted = True
        self.count = decoded

    def nothing(self, first: int) -> ClipError:
        if self.exhausted and self.count:
            return ClipError(
                f"{self._path} has {counted(self.count, 'frame')}, so none from frame {first} on: start earlier"
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
                f"its frames are placed on the average of {average:.3g} a second, and Blender may show others behind "
                "the rig; convert it to a constant frame rate"
            )
            return average
        return stated if stated and abs(average - stated) < 0.02 * stated else average

    def sha256(self) -> str:
        return sha256_of(self._path)

    def close(self) -> None:
        self._capture.release()


def open_reader(path: Path) -> ImageReader | VideoReader:
    """The reader for a video file, folder, pattern or image; ClipError says what is wrong with the path."""
    _require_text(path)
    try:
        if is_pattern(path):
            files, missing = pattern_images(path)
            if not files:
                raise ClipError(f"No image matches {path}: check the folder, the name and the number of digits")
            return _numbered(files, path, missing)
        if not path.exists():
            raise ClipError(f"There is no file or folder {path}: check the path")
        if path.is_dir():
            files = folder_images(path)
            if not files:
                inside = [f.name for f in sorted(path.iterdir()) if f.is_dir() and folder_images(f)]
                choose = f"those in it called {', '.join(inside[:4])} do, choose one" if inside else "choose another"
                raise ClipError(f"The folder {path} holds no images (png, jpg, tif, webp …): {choose}")
            return _numbered(files, path, missing_numbers(files))
        with path.open("rb") as file:
            if not file.read(1):
                raise ClipError(f"The file {path} is empty: copy or download it again")
    except OSError as error:
        raise ClipError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from None
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageReader([path], str(path))
    return VideoReader(path)


def _numbered(files: list[Path], path: Path, missing: list[int]) -> ImageReader:
    """A reader of images in order that tells which numbers they lack."""
    for file in files:
        _require_text(file)
    reader = ImageReader(files, str(path))
    if missing:
        shown = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        reader.warnings.append(
            f"The sequence {path.name} lacks number {shown}; the frames around a gap follow each other"
        )
    return reader


def _require_text(path: Path) -> None:
    if not is_text(path):
        raise ClipError(f"The name of {path} is no text in UTF-8: rename it")
