# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture is on the disk as it was given, or an error."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dasr_blender.training.errors import TrainingError
from dasr_blender.training.picture import read_picture, write_picture

NOISE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)


def test_colours_and_masks_come_back(tmp_path: Path) -> None:
    write_picture(tmp_path / "new" / "frame.png", NOISE)
    assert np.array_equal(cv2.imread(str(tmp_path / "new" / "frame.png"))[..., ::-1], NOISE)
    mask = np.where(NOISE[..., 0] > 127, 255, 0).astype(np.uint8)
    write_picture(tmp_path / "mask.png", mask, cv2.IMWRITE_PNG_BILEVEL, 1)
    assert np.array_equal(cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_GRAYSCALE), mask)
    assert np.array_equal(read_picture(tmp_path / "new" / "frame.png"), NOISE)
    assert np.array_equal(read_picture(tmp_path / "mask.png", cv2.IMREAD_GRAYSCALE), mask)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "words.png").write_text("no picture")
    for name in ("missing", "empty", "words"):
        with pytest.raises(TrainingError, match=f"{name}.png: not a readable image"):
            read_picture(tmp_path / f"{name}.png")


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limit of a file's size on this system")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError):
            write_picture(tmp_path / "frame.png", NOISE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_suffix_that_is_no_pictures_is_refused(tmp_path: Path) -> None:
    for name in ("sheet", "sheet.docx"):
        with pytest.raises(TrainingError, match=f"{name}: pictures are not written as"):
            write_picture(tmp_path / name, NOISE)
    assert not list(tmp_path.iterdir())
