# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose results a folder holds: those of the clip at hand, or of another of its name."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from .errors import DasrError
from .files import add_image, expanded, sha256_of
from .listing import IMAGE_SUFFIXES, folder_images, is_pattern, pattern_images
from .motion import Motion

REPORT = "report.json"


def is_of(motion: Motion, clip: str | os.PathLike[str]) -> bool:
    """Whether a motion was found in this video, of which others may have the name or the folder for what they give."""
    if not motion.source_hash or not os.path.isfile(clip) or Path(clip).suffix.lower() in IMAGE_SUFFIXES:
        return True  # images can be given in several ways, by some of them
    try:
        return motion.source_hash == sha256_of(clip)
    except OSError:  # whoever shows the clip says so
        return True


def free_folder(folder: Path, clip: str | os.PathLike[str]) -> Path:
    """The folder, or `walk-dasr-2` where `walk-dasr` holds what another clip of that name gave.

    Reads the clip, where the folder is in use.
    """
    clip, chosen, number = expanded(clip), folder, 1
    while not _is_free(chosen, clip):
        number += 1
        chosen = folder.with_name(f"{folder.name}-{number}")
    return chosen


def _is_free(folder: Path, clip: Path) -> bool:
    """Whether no other clip's motion is in a folder."""
    try:
        motion = Motion.load(folder / "motion.npz")
    except DasrError:  # there is none, or it is of no use to anybody
        return True
    if os.path.isfile(clip) and clip.suffix.lower() not in IMAGE_SUFFIXES:
        return is_of(motion, clip)
    named = named_clip(folder)
    return named is None or not named.is_absolute() or _place(named) == _place(clip)


def _place(clip: Path) -> Path:
    """The folder of a clip's images, in whatever way they are given; a video is its own."""
    images = is_pattern(clip) or clip.suffix.lower() in IMAGE_SUFFIXES
    return (clip.parent if images and not os.path.isdir(clip) else clip).resolve()


def named_clip(folder: Path) -> Path | None:
    """The clip that the report in a folder names; None without one."""
    try:
        return Path(json.loads((folder / REPORT).read_text(encoding="utf-8"))["clip"]["path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def reported_files(folder: Path) -> dict[str, str]:
    """What was written of a reconstruction, by kind, as the report in its folder says."""
    try:
        files = json.loads((folder / REPORT).read_text(encoding="utf-8"))["files"]
        return {str(kind): str(path) for kind, path in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def reported_clip(folder: Path, motion: Motion) -> tuple[Path | None, str]:
    """The clip that the report in a folder names, where it is there and is the one that the motion was found in;
    else None, and a sentence that says what is wrong with it."""
    clip = named_clip(folder)
    if clip is None:
        return None, f"No {REPORT} in {folder} names the clip, so the camera has no background: reconstruct it again"
    clip = expanded(clip).absolute()
    again = "so the camera has no background: put it back, or reconstruct it again"
    try:
        images = _images(clip)
        if not images and not clip.is_file():
            return None, f"The clip {clip} is no longer there, {again}"
        found = _hash_of_images(images, motion) if images else sha256_of(clip)
    except OSError as error:
        return None, f"The clip {clip} cannot be read ({error.strerror}), {again}"
    if motion.source_hash and motion.source_hash != found:
        return None, f"The clip {clip} is not the one that was reconstructed, {again}"
    return clip, ""


def _images(clip: Path) -> list[Path]:
    """The images of a clip; none for a video."""
    if is_pattern(clip):
        return pattern_images(clip)[0]
    if clip.is_dir():
        return folder_images(clip)
    return [clip] if clip.is_file() and clip.suffix.lower() in IMAGE_SUFFIXES else []


def _hash_of_images(images: list[Path], motion: Motion) -> str:
    """Of the images that a motion has frames of, as reading them told it."""
    digest = hashlib.sha256()
    for index in motion.frame_index:
        if index < len(images):
            add_image(digest, images[index], images[index].read_bytes())
    return digest.hexdigest()
