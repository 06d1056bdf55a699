# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from rendered import counted, ground, number_of, turn_mp4, write_gif, write_images, write_video

from dasr_blender.clip import Cancelled, ClipError, load_clip, video
from dasr_blender.core.listing import natural_key


def numbers(clip) -> list[int]:
    return [number_of(f) for f in clip]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mp4v"), ("a.mov", "mp4v"), ("a.webm", "VP80"), ("a.avi", "MJPG"), ("a.mkv", "FFV1")]
)
def test_video_files_keep_frames_rate_and_size(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, [counted(i, 100, 74) for i in range(8)], 12.0, codec)
    clip = load_clip(path)
    assert numbers(clip) == list(range(8))
    assert clip.fps == pytest.approx(12.0, rel=0.01)
    assert clip.frame(0).dtype == np.uint8 and clip.frame(0).shape[2] == 3
    assert clip.size == clip.original_size == (100, 74)
    assert clip.scale == 1.0 and clip.alpha(0) is None and clip.warnings == []
    assert clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_colours_are_rgb(tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), (200, 30, 60), np.uint8)] * 2
    decoded = load_clip(write_video(tmp_path / "a.avi", frames, codec="FFV1")).frame(1)
    assert np.abs(decoded[24, 32] - [200.0, 30, 60]).max() < 6
    assert load_clip(write_images(tmp_path / "s", frames)).frame(0)[0, 0].tolist() == [200, 30, 60]


def test_gif_with_varying_delays_gets_the_average_rate(tmp_path: Path) -> None:
    frames = [np.full((48, 60), 10 * i, np.uint8) for i in range(6)]
    clip = load_clip(write_gif(tmp_path / "a.gif", frames, [10, 10, 30, 10, 30, 10]))
    assert [int(round(f.mean() / 20)) for f in clip] == list(range(6))
    assert clip.fps == pytest.approx(5 / 0.9, rel=0.01)  # the five intervals before the last frame take 0.9 s
    assert any("varying" in w and "convert it" in w for w in clip.warnings)


def test_even_gif_of_odd_size_has_no_warning(tmp_path: Path) -> None:
    clip = load_clip(write_gif(tmp_path / "a.gif", [np.full((75, 101), 10 * i, np.uint8) for i in range(6)], [10] * 6))
    assert clip.size == clip.original_size == (101, 75)  # odd sizes stay odd
    assert clip.fps == pytest.approx(10.0, rel=0.01) and clip.warnings == []


def test_pixels_that_are_not_square_are_said(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "a.gif", [np.full((48, 64), 10 * i, np.uint8) for i in range(3)], [10] * 3)
    data = bytearray(path.read_bytes())
    for stated, said in ((49, False), (113, True)):  # (that + 15) / 64: square, and twice as wide as high
        data[12] = stated
        path.write_bytes(data)
        clip = load_clip(path)
        assert clip.original_size == (64, 48) and any("not square (2:1)" in w for w in clip.warnings) == said


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_rotation_metadata_is_honoured(tmp_path: Path, matrix: tuple[int, int, int, int], turns: int) -> None:
    path = write_video(tmp_path / "a.mp4", [counted(0, 96, 64)] * 3)
    plain = load_clip(path).frame(0)
    clip = load_clip(turn_mp4(path, matrix))
    expected = np.rot90(plain, turns)
    assert clip.original_size == (expected.shape[1], expected.shape[0])
    assert np.abs(clip.frame(0).astype(float) - expected).mean() < 2.0


def test_start_end_step_are_a_python_slice(tmp_path: Path) -> None:
    images = [counted(i, 64, 48) for i in range(10)]
    for source in (write_video(tmp_path / "a.avi", images, codec="MJPG"), write_images(tmp_path / "s", images)):
        clip = load_clip(source, start=2, end=9, step=3)
        assert clip.frame_index.tolist() == [2, 5, 8] == numbers(clip)
        assert clip.source_count == 10
    assert load_clip(tmp_path / "s", end=50).warnings  # says that the clip ends before


def test_sequences_by_folder_pattern_and_single_file(tmp_path: Path) -> None:
    images = [counted(i, 64, 48) for i in range(12)]
    folder = write_images(tmp_path / "natural", images, "shot{}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image either")
    clip = load_clip(folder)
    assert numbers(clip) == list(range(12)) and clip.fps == 24.0  # shot10 after shot9
    assert load_clip(folder, fps=30).fps == 30.0
    padded = write_images(tmp_path / "padded", images, "shot.{:04d}.png")
    write_images(padded, images[:1], "other.{:04d}.png")
    for pattern in ("shot.####.png", "shot.%04d.png", "shot.#.png", "shot.%d.png"):
        assert numbers(load_clip(padded / pattern)) == list(range(12))
    assert numbers(load_clip(padded / "shot.0007.png")) == [7]
    (padded / "shot.0005.png").unlink()
    gap = load_clip(padded / "shot.####.png")
    assert len(gap) == 11 and any("5" in w for w in gap.warnings)
    (folder / "shot5.png").unlink()
    (folder / "shot7.png").unlink()
    assert load_clip(folder).warnings == [
        "The sequence natural lacks number 5, 7; the frames around a gap follow each other"
    ]
    assert load_clip(write_images(tmp_path / "takes", images[:2], "take{}0a.png")).warnings[0].count(",") == 7
    write_images(folder, images[:1], "poster{}.png")
    assert not load_clip(folder).warnings  # not one sequence


def test_paths_that_cannot_be_are_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / ("x" * 300 + ".mp4"), "~nobody-of-this-name/clip.mp4", "a" * 300 + "/shot.####.png"):
        with pytest.raises(ClipError, match="check the (path|folder)"):
            load_clip(path)


def test_natural_order() -> None:
    assert sorted(["f10.png", "f9.png", "F1.png", "12.png", "a2b10", "a2b9"], key=natural_key) == [
        "12.png", "a2b9", "a2b10", "F1.png", "f9.png", "f10.png"
    ]  # fmt: skip


def test_alpha_of_an_image_sequence(tmp_path: Path) -> None:
    images = []
    for i in range(3):
        rgba = np.dstack([counted(i, 64, 48), np.zeros((48, 64), np.uint8)])
        rgba[10:30, 10 + i : 30, 3] = 255
        images.append(rgba)
    clip = load_clip(write_images(tmp_path / "s", images))
    assert clip.alpha(2).dtype == np.float32 and clip.alpha(2).max() == 1.0
    assert int(clip.alpha(2).sum()) == 20 * 18
    assert clip.frame(1).shape == (48, 64, 3)
    opaque = [np.dstack([counted(i, 64, 48), np.full((48, 64), 255, np.uint8)]) for i in range(2)]
    assert load_clip(write_images(tmp_path / "o", opaque)).alpha(0) is None  # says nothing, so there is none


def test_sixteen_bit_grey_and_linear_images(tmp_path: Path) -> None:
    linear = np.full((20, 30, 3), 0.5, np.float32)
    assert all(cv2.imwrite(str(tmp_path / name), linear) for name in ("2.exr", "3.hdr"))
    deep = np.full((20, 30, 3), 40000, np.uint16)
    cv2.imwrite(str(tmp_path / "0.png"), deep)
    cv2.imwrite(str(tmp_path / "1.png"), np.full((20, 30), 99, np.uint8))
    clip = load_clip(tmp_path)
    assert clip.frame(0)[5, 5].tolist() == [155] * 3 and clip.frame(1)[5, 5].tolist() == [99] * 3
    assert clip.frame(2)[5, 5].tolist() == [186] * 3  # 255 · 0.5^(1/2.2)
    assert clip.frame(3)[5, 5].tolist() == [186] * 3


def test_alpha_of_linear_images_is_no_light(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "0.exr"), np.full((20, 30, 4), 0.4, np.float32))
    clip = load_clip(tmp_path)
    assert clip.frame(0)[5, 5].tolist() == [168] * 3 and clip.alpha(0)[5, 5] == pytest.approx(0.4)


def test_one_frame_clips(tmp_path: Path) -> None:
    clip = load_clip(write_video(tmp_path / "a.mp4", [counted(0, 64, 48)], 30.0))
    assert len(clip) == 1 and clip.fps == pytest.approx(30.0)
    assert len(load_clip(write_images(tmp_path / "s", [counted(0, 64, 48)]))) == 1


def test_huge_frames_are_scaled_down(tmp_path: Path) -> None:
    big = np.zeros((4500, 8000, 3), np.uint8)
    big[:, 4000:] = 255
    cv2.imwrite(str(tmp_path / "0.jpg"), big)
    clip = load_clip(tmp_path)
    assert clip.size == (960, 540) and clip.original_size == (8000, 4500) and clip.scale == pytest.approx(0.12)
    assert clip.frame(0)[270, 470].max() < 30 and clip.frame(0)[270, 490].min() > 225


def test_large_clips_go_to_a_file_and_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_images(tmp_path / "s", [counted(i, 64, 48) for i in range(9)])
    expected = load_clip(folder)
    monkeypatch.setattr(video, "RAM_LIMIT", 4 * 64 * 48 * 3)
    clip = load_clip(folder)
    assert isinstance(clip.pixels, np.memmap) and not isinstance(expected.pixels, np.memmap)
    assert np.array_equal(clip.pixels, expected.pixels) and clip.sha256 == expected.sha256


def test_a_full_disk_is_a_clip_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data) -> None:
            raise OSError(28, "No space left on device")

    folder = write_images(tmp_path / "s", [counted(i, 64, 48) for i in range(4)])
    monkeypatch.setattr(video, "RAM_LIMIT", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(ClipError, match="No space left"):
        load_clip(folder)


def test_truncated_video_gives_what_there_is_with_a_warning(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(20)]
    path = write_video(tmp_path / "a.avi", frames, codec="MJPG")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    clip = load_clip(path)
    assert 5 < len(clip) < 15 and clip.source_count == len(clip)
    assert any("only" in w and "a.avi" in w for w in clip.warnings)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One of a PNG."""
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def test_an_animated_picture_is_not_taken_for_a_still(tmp_path: Path) -> None:
    png = cv2.imencode(".png", counted(0, 64, 48))[1].tobytes()
    for count, name in ((1, "still.png"), (2, "animated.png")):
        control = chunk(b"acTL", count.to_bytes(4, "big") + bytes(4))
        (tmp_path / name).write_bytes(png[:33] + control + png[33:])
    webp = b"RIFF" + (50).to_bytes(4, "little") + b"WEBPVP8X" + (10).to_bytes(4, "little") + b"\x02" + bytes(9)
    (tmp_path / "animated.webp").write_bytes(webp + 2 * (b"ANMF" + bytes(4)))
    assert len(load_clip(tmp_path / "still.png")) == 1
    for name in ("animated.png", "animated.webp"):
        with pytest.raises(ClipError, match=f"{name} is an animated picture.*convert it"):
            load_clip(tmp_path / name)


def bad_clips(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name -> (path, what the message must say)."""
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    whole = write_video(folder / "cut.mp4", [ground(64, 48, i) for i in range(10)])
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])  # its index was at the end
    (folder / "nothing").mkdir()
    write_images(folder / "around/frames", [counted(0, 64, 48)])
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rnot really")
    write_images(folder / "broken", [counted(i, 64, 48) for i in range(5)])
    (folder / "broken/00003.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_images(folder / "sizes", [counted(0, 64, 48), counted(1, 64, 50)])
    return {
        "missing": (folder / "no.mp4", "no file or folder"),
        "text": (folder / "text.mp4", "not a video"),
        "empty": (folder / "empty.mp4", "empty"),
        "cut": (folder / "cut.mp4", "cut"),
        "no images": (folder / "nothing", "no images"),
        "one deeper": (folder / "around", "called frames"),
        "no match": (folder / "broken/shot.####.png", "No image matches"),
        "image": (folder / "damaged.png", "damaged.png"),
        "middle": (folder / "broken", "00003.png"),
        "sizes": (folder / "sizes", "64×50"),
    }


def test_bad_clips_have_one_clear_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, (path, words) in bad_clips(tmp_path).items():
        with pytest.raises(ClipError) as caught:
            load_clip(path)
        message = str(caught.value)
        assert words in message and ":" in message and "\n" not in message, name
    assert capfd.readouterr() == ("", "")  # neither OpenCV nor ffmpeg chatters beside it


def test_bad_ranges(tmp_path: Path) -> None:
    images = [counted(i, 64, 48) for i in range(4)]
    for source in (write_images(tmp_path / "s", images), write_video(tmp_path / "a.avi", images, codec="MJPG")):
        with pytest.raises(ClipError, match="4 frames"):
            load_clip(source, start=4)
        for start, end, step in ((3, 3, 1), (-1, None, 1), (0, None, 0)):
            with pytest.raises(ClipError, match="hold nothing"):
                load_clip(source, start, end, step)
        with pytest.raises(ClipError, match="longest side above 0"):
            load_clip(source, max_side=0)
        with pytest.raises(ClipError, match="frame rate"):
            load_clip(source, fps=0.0)
        with pytest.raises(ClipError, match="20000 frames a second .* below 10000"):
            load_clip(source, fps=20000)


def test_progress_rises_to_one_and_cancel_stops(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "s", [counted(i, 64, 48) for i in range(6)])
    seen: list[float] = []
    load_clip(folder, 1, 5, progress=lambda fraction, _: seen.append(fraction))
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) == 4
    with pytest.raises(Cancelled):
        load_clip(folder, cancel=lambda: True)
