# SPDX-License-Identifier: GPL-3.0-or-later
"""The job's mask stage: corrections, kept looks, and frames that the fitted body contradicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_predictor import write_tiny_landmarks
from toy import toy_category_in_memory

from dasr_blender import masking
from dasr_blender.arguments import parser
from dasr_blender.clip import Correction, Looks, MaskError, Masks, Subject, automatic_masks, load_clip
from dasr_blender.job import JobOptions
from dasr_blender.pointing import box_between, pixel_at, shown_frame, spoken, strokes
from dasr_blender.workspace import Workspace, fingerprint

WIDTH, HEIGHT, COUNT = 200, 120, 14
TOY = toy_category_in_memory()


def redness(image: np.ndarray) -> np.ndarray:
    """Stand-in for the network: what is red."""
    red = image[..., 0].astype(int) - image[..., 1:].max(axis=2) > 60
    return cv2.resize(red.astype(np.float32), (320, 320), interpolation=cv2.INTER_AREA)


def disc(x: float, y: float, radius: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(mask, (round(x), round(y)), radius, (1,), -1)
    return mask > 0


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    """A red disc that walks past another, larger one that comes and goes; and the first one's masks."""
    noise = np.random.default_rng(0).integers(60, 110, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.5)
    truth = []
    (tmp_path / "frames").mkdir()
    for i in range(COUNT):
        frame, mine = noise.copy(), disc(30 + 5 * i, 30, 16)
        frame[mine] = (230, 40, 40)
        frame[disc(150, 88, 24)] = (230, 40, 40)
        truth.append(mine)
        assert cv2.imwrite(str(tmp_path / f"frames/{i:03d}.png"), frame[..., ::-1])
    return tmp_path / "frames", truth


def overlap(masks: Masks, truth: list[np.ndarray]) -> np.ndarray:
    found = [masks.mask(i) > 0 for i in range(len(masks))]
    return np.array([(a & b).sum() / (a | b).sum() for a, b in zip(found, truth, strict=True)])


def found(
    options: JobOptions, monkeypatch: pytest.MonkeyPatch, network=redness, category=TOY, silhouettes=None
) -> tuple[Masks, bool]:
    monkeypatch.setattr(masking, "Saliency", lambda threads=0: network)
    clip = load_clip(options.clip)
    workspace = Workspace(Path(options.out))
    stage = workspace.stage("masks", fingerprint(masking.mask_inputs(options, category)))
    looks = workspace.stage("looks", "a")
    return masking.find_masks(
        options, category, clip, stage, looks, workspace, lambda *_: None, lambda: False, silhouettes
    )


def test_a_correction_takes_over_the_looks(folder, tmp_path, monkeypatch) -> None:
    frames, truth = folder
    plain = JobOptions(str(frames), str(tmp_path / "out"))
    first, reused = found(plain, monkeypatch)
    assert not reused and overlap(first, truth).max() < 0.1  # the larger one stands out
    assert found(plain, monkeypatch)[1]
    asked = []

    def counted(image: np.ndarray) -> np.ndarray:
        asked.append(image.shape)
        return redness(image)

    click = JobOptions(plain.clip, plain.out, corrections=("4:50,30",))
    assert masking.mask_inputs(click, TOY) != masking.mask_inputs(plain, TOY)
    corrected, reused = found(click, monkeypatch, counted)
    assert not reused and overlap(corrected, truth).min() > 0.85
    assert (HEIGHT, WIDTH, 3) not in asked  # every whole frame had been looked at


def test_a_changed_correction_is_another_input(folder, tmp_path) -> None:
    frames, truth = folder
    said = tmp_path / "said"
    said.mkdir()
    options = JobOptions(str(frames), str(tmp_path / "out"), corrections=(str(said), f"3:{said / '000002.png'}"))
    seen = []
    for mask in (truth[2], truth[2] & truth[3]):
        assert cv2.imwrite(str(said / "000002.png"), mask.astype(np.uint8) * 255)
        seen.append(masking.mask_inputs(options, TOY))
    assert seen[0] != seen[1]


def test_corrections_are_for_automatic_masks(folder, tmp_path, monkeypatch) -> None:
    frames, _ = folder
    options = JobOptions(str(frames), str(tmp_path / "out"), masks=str(frames), corrections=("1:2,3",))
    with pytest.raises(MaskError, match="Corrections are for automatic masks"):
        found(options, monkeypatch)


def test_a_subject_is_for_automatic_masks(folder, tmp_path, monkeypatch) -> None:
    frames, _ = folder
    options = JobOptions(str(frames), str(tmp_path / "out"), masks=str(frames))
    found(options, monkeypatch)
    with pytest.raises(MaskError, match=r"\(--subject\) is for automatic masks, but these come from .*frames"):
        found(replace(options, subject=Subject(0, point=(30, 30))), monkeypatch)


def test_a_folder_that_cannot_be_listed_is_one_sentence(folder, tmp_path, monkeypatch) -> None:
    frames, _ = folder
    shut = tmp_path / "shut"
    shut.mkdir()
    listing = Path.iterdir

    def refused(self: Path):
        if self == shut:
            raise PermissionError(13, "Permission denied", str(self))
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", refused)
    plain = JobOptions(str(frames), str(tmp_path / "out"))
    for options in (replace(plain, masks=str(shut)), replace(plain, corrections=(str(shut),))):
        with pytest.raises(MaskError, match=r"cannot be listed \(Permission denied\): give a folder of images"):
            found(options, monkeypatch)


def test_masks_that_the_body_chose_are_not_the_next_runs(folder, tmp_path, monkeypatch) -> None:
    """The stage keeps the masks found without a body: a run of another quality or category begins with those."""
    frames, _ = folder
    options = JobOptions(str(frames), str(tmp_path / "out"))
    first, _ = found(options, monkeypatch)
    drawn = np.stack([disc(150, 30, 24).astype(np.float32)] * COUNT)
    monkeypatch.setattr(masking, "automatic_masks", lambda *_, **__: Masks.pack(list(drawn > 0), "automatic"))
    again, reused = found(options, monkeypatch, silhouettes=drawn)
    assert not reused and not np.array_equal(again.packed, first.packed)
    kept, reused = found(options, monkeypatch)
    assert reused and np.array_equal(kept.packed, first.packed)


def test_a_network_that_knows_the_bodies_is_asked(folder, tmp_path, monkeypatch) -> None:
    """It is another input of the stage, and its answers are kept with the rest."""
    frames, _ = folder
    options = JobOptions(str(frames), str(tmp_path / "out"))
    write_tiny_landmarks(tmp_path / "landmarks.onnx")
    hashes = {"landmarks.onnx": "a"}
    knowing = replace(TOY, landmarks_path=tmp_path / "landmarks.onnx", hashes=hashes)
    assert masking.mask_inputs(options, knowing) != masking.mask_inputs(options, TOY)
    assert not found(options, monkeypatch, category=knowing)[1]
    with np.load(Workspace(tmp_path / "out").stage("looks", "a")) as kept:
        assert kept["bodies"].any() and not kept["bodies"].all()


def test_the_body_chooses_where_the_mask_is_another(folder) -> None:
    """Of two alike bodies the choice went wrong for a while; silhouettes, loose as a fit's, bring it back."""
    frames, truth = folder
    clip = load_clip(frames)
    looks = Looks(clip, lambda: redness)
    right = automatic_masks(clip, looks=looks, corrections=[Correction(0, mask=truth[0])])
    assert overlap(right, truth).min() > 0.85
    wrong = [truth[i] if not 5 <= i <= 9 else disc(150, 88, 24) for i in range(COUNT)]
    silhouettes = np.stack([cv2.resize(disc(32 + 5 * i, 32, 15).astype(np.float32), (160, 96)) for i in range(COUNT)])
    doubtful = masking.doubtful_frames(Masks.pack(list(wrong), "automatic"), silhouettes)
    assert np.flatnonzero(doubtful).tolist() == [5, 6, 7, 8, 9]
    assert not masking.doubtful_frames(right, silhouettes).any()
    lone = [truth[i] if i != 6 else disc(150, 88, 24) for i in range(COUNT)]
    assert not masking.doubtful_frames(Masks.pack(list(lone), "automatic"), silhouettes).any()
    said = [Correction(k, mask=disc(150, 88, 24)) for k in (6, 8)]  # holds the choice on the wrong one
    said += [Correction(k, mask=truth[k]) for k in (0, 2, 12)]
    led = overlap(automatic_masks(clip, looks=looks, corrections=said), truth)
    assert led[7] < 0.1
    masks = automatic_masks(clip, looks=looks, corrections=said, silhouettes=silhouettes)
    chosen = overlap(masks, truth)
    assert (chosen >= led - 0.02).all() and chosen[4:].mean() > led[4:].mean()


def test_the_option() -> None:
    line = ["reconstruct", "clip.mp4", "--correct", "3:1,2", "--correct", "folder"]
    assert parser().parse_args(line).correct == ["3:1,2", "folder"]


def test_places_in_the_clip_editor() -> None:
    assert pixel_at((0.25, 0.75), (480, 270)) == (120.0, 67.5)
    assert pixel_at((1.0, 0.5), (480, 270)) is None and pixel_at((0.5, -0.01), (480, 270)) is None
    assert box_between((30.0, 50.0), (10.0, 20.0)) == (10.0, 20.0, 20.0, 30.0)
    assert box_between((30.0, 50.0), (31.0, 90.0)) is None
    box = strokes("BOX", (1.0, 2.0), (5.0, 9.0), 3.0)
    assert len(box) == 8 and set(box) == {(1.0, 2.0), (5.0, 2.0), (5.0, 9.0), (1.0, 9.0)}
    assert strokes("OFF", (4.0, 4.0), (0.0, 0.0), 3.0) == [(1.0, 4.0), (7.0, 4.0)]
    assert strokes("ON", (4.0, 4.0), (0.0, 0.0), 3.0)[2:] == [(4.0, 1.0), (4.0, 7.0)]
    assert shown_frame(6, 1) == 5 and shown_frame(6, 4, 10) == 12 and shown_frame(1, 9) == 0
    numbers = (240.5, 20.0, 30.0, 40.0)
    assert spoken("ON", 3, numbers) == "3:240.5,20" and spoken("OFF", 3, numbers) == "3:!240.5,20"
    assert spoken("BOX", 3, numbers) == "3:240.5,20,30,40" and spoken("MASK", 3, numbers, "/a b.png") == "3:/a b.png"
