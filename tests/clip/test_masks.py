# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks given as files or alpha, their storage, and frames without one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from rendered import counted, ellipse_mask, write_images

from dasr_blender.clip import Clip, MaskError, Masks, load_clip, masks_from_alpha, masks_from_folder
from dasr_blender.clip.mask_store import blend_masks, mask_box

WIDTH, HEIGHT = 99, 65


def shapes(count: int) -> list[np.ndarray]:
    return [ellipse_mask(WIDTH, HEIGHT, (30 + 4 * i, 30), (16, 10)) for i in range(count)]


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    return load_clip(write_images(tmp_path / "frames", [counted(i, WIDTH, HEIGHT) for i in range(6)]))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a > 0.5, b > 0.5
    return (a & b).sum() / (a | b).sum()


def coloured(mask: np.ndarray) -> np.ndarray:
    """As datasets of several objects colour them: black ground, each object a colour, some channel 0."""
    image = np.zeros((*mask.shape, 3), np.uint8)
    image[mask > 0] = (128, 0, 0)
    image[(mask > 0) & (np.arange(WIDTH) % 2 == 0)[None, :]] = (0, 0, 3)
    return image


ENCODINGS = {
    "0/255": lambda m: m,
    "0/1": lambda m: (m > 0).astype(np.uint8),
    "indices": lambda m: np.where(m > 0, 1 + np.arange(WIDTH, dtype=np.uint8) % 3, 0).astype(np.uint8),
    "colours": coloured,
    "16 bit": lambda m: (m > 0).astype(np.uint16) * 65535,
    "16 bit 0/1": lambda m: (m > 0).astype(np.uint16),
    "16 bit indices": lambda m: np.where(m > 0, 1 + 500 * (np.arange(WIDTH) % 3), 0).astype(np.uint16),
    "16 bit in alpha": lambda m: np.dstack([np.full((*m.shape, 3), 65535, np.uint16), m.astype(np.uint16) * 257]),
    "in alpha": lambda m: np.dstack([np.full((*m.shape, 3), 255, np.uint8), m]),
    "colour and opaque alpha": lambda m: np.dstack([np.dstack([m] * 3), np.full_like(m, 255)]),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_way_of_writing_a_mask(tmp_path: Path, clip: Clip, encoding: str) -> None:
    truth = shapes(6)
    masks = masks_from_folder(write_images(tmp_path / "m", [ENCODINGS[encoding](m) for m in truth]), clip)
    assert len(masks) == 6 and masks.size == (WIDTH, HEIGHT) and masks.source == "folder"
    for i, mask in enumerate(truth):
        assert np.array_equal(masks.mask(i), (mask > 0).astype(np.float32))
    assert masks.mask(0).dtype == np.float32
    assert masks.boxes[2].tolist() == [22, 20, 55, 41]  # edges: 33 × 21 pixels about the centre pixel (38, 30)
    assert not masks.interpolated.any() and masks.warnings == []


def test_soft_and_compressed_masks_count_from_half(tmp_path: Path, clip: Clip) -> None:
    truth = shapes(6)
    soft = [cv2.GaussianBlur(m, (0, 0), 2) for m in truth]
    for masks in (
        masks_from_folder(write_images(tmp_path / "soft", soft), clip),
        masks_from_folder(write_images(tmp_path / "16 bit", [m.astype(np.uint16) * 257 for m in soft]), clip),
        masks_from_folder(write_images(tmp_path / "faint", [m.astype(np.uint16) for m in soft]), clip),
        masks_from_folder(write_images(tmp_path / "jpeg", truth, "{:03d}.jpg"), clip),
    ):
        assert min(iou(masks.mask(i), truth[i]) for i in range(6)) > 0.93


def test_masks_of_another_size_are_resized(tmp_path: Path, clip: Clip) -> None:
    truth = shapes(6)
    for zoom in (2, 3):
        big = [cv2.resize(m, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST) for m in truth]
        masks = masks_from_folder(write_images(tmp_path / f"x{zoom}", big), clip)
        assert all(np.array_equal(masks.mask(i) > 0, truth[i] > 0) for i in range(6)) and masks.warnings == []
    square = [cv2.resize(m, (64, 64), interpolation=cv2.INTER_NEAREST) for m in truth]
    stretched = masks_from_folder(write_images(tmp_path / "square", square), clip)
    assert any("64×64" in w for w in stretched.warnings) and iou(stretched.mask(3), truth[3]) > 0.9


def test_masks_of_the_whole_source_are_picked_for_the_frames_read(tmp_path: Path) -> None:
    frames = write_images(tmp_path / "frames", [counted(i, WIDTH, HEIGHT) for i in range(6)])
    folder = write_images(tmp_path / "m", shapes(6), "m{}.png")
    part = load_clip(frames, start=1, end=6, step=2)
    for masks in (
        masks_from_folder(folder, part),
        masks_from_folder(write_images(tmp_path / "n", shapes(6)[1:6:2]), part),
    ):
        assert [masks.boxes[i, 0] for i in range(3)] == [18, 26, 34]


def test_wrong_number_of_masks_names_both(tmp_path: Path, clip: Clip) -> None:
    with pytest.raises(MaskError, match=r"has 4 images but the clip has 6 frames"):
        masks_from_folder(write_images(tmp_path / "m", shapes(4)), clip)
    with pytest.raises(MaskError, match=r"has 1 image but the clip has 6 frames"):
        masks_from_folder(write_images(tmp_path / "one", shapes(1)), clip)


def test_bad_mask_folders(tmp_path: Path, clip: Clip) -> None:
    with pytest.raises(MaskError, match="cannot be listed"):
        masks_from_folder(tmp_path / "no", clip)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MaskError, match="has 0 images"):
        masks_from_folder(tmp_path / "empty", clip)
    folder = write_images(tmp_path / "m", shapes(6))
    (folder / "00004.png").write_bytes(b"no image")
    with pytest.raises(MaskError, match=r"00004\.png \(frame 4\)"):
        masks_from_folder(folder, clip)
    with pytest.raises(MaskError, match=r"The masks in .*black are empty in every frame: .*--masks"):
        masks_from_folder(write_images(tmp_path / "black", [np.zeros((HEIGHT, WIDTH), np.uint8)] * 6), clip)


def test_all_white_masks_are_doubted(tmp_path: Path, clip: Clip) -> None:
    masks = masks_from_folder(write_images(tmp_path / "w", [np.full((HEIGHT, WIDTH), 255, np.uint8)] * 6), clip)
    assert any("whole picture" in w for w in masks.warnings)


def test_alpha_gives_masks(tmp_path: Path, clip: Clip) -> None:
    truth = shapes(4)
    images = [np.dstack([counted(i, WIDTH, HEIGHT), m]) for i, m in enumerate(truth)]
    masks = masks_from_alpha(load_clip(write_images(tmp_path / "rgba", images)))
    assert masks.source == "alpha" and all(np.array_equal(masks.mask(i) * 255, truth[i]) for i in range(4))
    with pytest.raises(MaskError, match="no alpha"):
        masks_from_alpha(clip)
    for image in images:
        image[..., 3] = 0
    with pytest.raises(MaskError, match="transparent in every frame: give a folder of masks"):
        masks_from_alpha(load_clip(write_images(tmp_path / "clear", images)))


def test_empty_frames_are_filled_from_their_neighbours_and_flagged() -> None:
    truth = [m > 0 for m in shapes(9)]
    given: list[np.ndarray | None] = list(truth)
    given[0] = np.zeros_like(truth[0])
    given[3] = given[4] = given[5] = None
    given[8] = None
    masks = Masks.pack(given, "folder")
    assert masks.interpolated.tolist() == [True, False, False, True, True, True, False, False, True]
    assert min(iou(masks.mask(i), truth[i]) for i in (3, 4, 5)) > 0.9  # an even movement is met exactly
    assert np.array_equal(masks.mask(0) > 0, truth[1]) and np.array_equal(masks.mask(8) > 0, truth[7])
    assert len(masks.warnings) == 1 and "5 of 9 frames (0, 3, 4, 5, 8)" in masks.warnings[0]
    for i in range(9):
        assert masks.boxes[i].tolist() == mask_box(masks.mask(i) > 0).tolist()


def test_specks_are_no_place_where_the_subject_is() -> None:
    """Pixels in a corner are kept, but hardly count for where the subject is; pieces beside it, and larger ones, do."""
    mask = shapes(1)[0] > 0
    speck, piece, part = mask.copy(), mask.copy(), mask.copy()
    speck[2, 95:97], piece[42, 30:33], part[45:60, 80:90] = 1, 1, 1
    found = Masks.pack([mask, speck, piece, part], "folder")
    np.testing.assert_array_equal(found.boxes[[0, 2, 3]], [mask_box(m) for m in (mask, piece, part)])
    own = mask_box(mask)
    np.testing.assert_allclose(found.boxes[1], own + [0, -0.1 * (own[2] - own[0]), 0.1 * (own[2] - own[0]), 0])
    np.testing.assert_array_equal(found.mask(1), speck)


def test_messages_count_frames_as_the_source_does(tmp_path: Path) -> None:
    given = shapes(12)
    given[6][:] = given[10][:] = 0
    frames = [np.dstack([counted(i, WIDTH, HEIGHT), m]) for i, m in enumerate(given)]
    part = load_clip(write_images(tmp_path / "frames", frames), start=4, step=2)
    folder = write_images(tmp_path / "m", given)
    for masks in (masks_from_folder(folder, part), masks_from_alpha(part)):
        assert len(masks.warnings) == 1 and "2 of 4 frames (6, 10)" in masks.warnings[0]
    (folder / "00008.png").write_bytes(b"no image")
    with pytest.raises(MaskError, match=r"00008\.png \(frame 8\)"):
        masks_from_folder(folder, part)


def test_blend_of_a_growing_shape_and_of_lines() -> None:
    small = ellipse_mask(120, 90, (40, 45), (10, 6)) > 0
    large = ellipse_mask(120, 90, (70, 45), (30, 18)) > 0
    between = ellipse_mask(120, 90, (55, 45), (20, 12)) > 0
    assert iou(blend_masks(small, large, 0.5), between) > 0.9
    assert np.array_equal(blend_masks(small, large, 0.0), small)
    horizontal, vertical = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    horizontal[3, 2:30], vertical[10:38, 35] = True, True
    assert blend_masks(horizontal, vertical, 0.5).any()


def test_save_and_load(tmp_path: Path) -> None:
    given: list[np.ndarray | None] = [m > 0 for m in shapes(5)]
    given[2] = None
    masks = Masks.pack(given, "folder", ["a warning — with signs"])
    path = tmp_path / "masks.npz"
    masks.save(path)
    again = Masks.load(path)
    assert again.size == masks.size and again.source == "folder" and again.warnings == masks.warnings
    for name in ("packed", "boxes", "interpolated"):
        assert np.array_equal(getattr(again, name), getattr(masks, name))
    assert [p.name for p in tmp_path.iterdir()] == ["masks.npz"]
    assert path.stat().st_size < 5 * WIDTH * HEIGHT / 8 + 4000


def test_damaged_mask_files(tmp_path: Path) -> None:
    path = tmp_path / "masks.npz"
    with pytest.raises(MaskError, match="no mask file"):
        Masks.load(path)
    masks = Masks.pack([m > 0 for m in shapes(3)], "folder")
    masks.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MaskError, match="damaged"):
        Masks.load(path)
    for field, value in (("boxes", np.zeros((2, 4))), ("packed", np.zeros((3, 7), np.uint8)), ("size", np.array(3))):
        fields = {name: np.asarray(getattr(masks, name)) for name in ("size", "packed", "boxes", "interpolated")}
        fields |= {"source": np.array("folder"), "warnings": np.array([], dtype=np.str_)}
        fields[field] = value
        np.savez(path, **fields)
        with pytest.raises(MaskError, match=field):
            Masks.load(path)
