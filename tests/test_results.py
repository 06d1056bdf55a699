# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clip a folder's results are of, and where those of another go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dasr_blender.clip import load_clip
from dasr_blender.core import Motion, sha256_of
from dasr_blender.core.results import free_folder, reported_clip


def keep(folder: Path, motion: Motion, clip: Path, sha256: str) -> Motion:
    """Leave in a folder what a job does that found a motion in a clip."""
    motion = replace(motion, source_hash=sha256)
    motion.save(folder / "motion.npz")
    (folder / "report.json").write_text(json.dumps({"clip": {"path": str(clip)}}))
    return motion


def images(folder: Path, shade: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(8):
        cv2.imwrite(str(folder / f"shot.{i:04d}.png"), np.full((8, 8, 3), shade + i, np.uint8))
    return folder


def test_images_of_another_folder_go_into_another_folder(motion: Motion, tmp_path: Path) -> None:
    clip, usual = images(tmp_path / "a" / "dog", 10), tmp_path / "dog-dasr"
    other, video = images(tmp_path / "b" / "dog", 90), tmp_path / "dog.mov"
    video.write_bytes(b"video")
    assert free_folder(usual, clip) == usual
    keep(usual, motion, clip, load_clip(clip).sha256)
    for same in (clip, clip / "shot.####.png", clip / "shot.0000.png"):
        assert free_folder(usual, same) == usual
    for another in (other, other / "shot.####.png", video):
        assert free_folder(usual, another) == tmp_path / "dog-dasr-2"


@pytest.mark.parametrize("given", ["", "shot.%04d.png", "shot.####.png"])
def test_the_reported_clip_is_found_however_it_was_given(motion: Motion, tmp_path: Path, given: str) -> None:
    clip = images(tmp_path / "dog", 10) / given
    motion = replace(motion, frame_index=np.arange(8))
    motion = keep(tmp_path / "out", motion, clip, load_clip(clip).sha256)
    assert reported_clip(tmp_path / "out", motion) == (clip, "")
    (tmp_path / "dog" / "shot.0000.png").write_bytes(b"another")
    found, words = reported_clip(tmp_path / "out", motion)
    assert found is None and "is not the one that was reconstructed" in words


def test_a_clip_that_is_gone_or_another_is_told(motion: Motion, tmp_path: Path) -> None:
    clip = tmp_path / "dog.mp4"
    clip.write_bytes(b"video")
    assert "names the clip" in reported_clip(tmp_path, motion)[1]
    motion = keep(tmp_path, motion, clip, sha256_of(clip))
    assert reported_clip(tmp_path, motion) == (clip, "")
    clip.write_bytes(b"another")
    assert "is not the one that was reconstructed" in reported_clip(tmp_path, motion)[1]
    clip.unlink()
    assert reported_clip(tmp_path, motion)[0] is None and "no longer there" in reported_clip(tmp_path, motion)[1]
