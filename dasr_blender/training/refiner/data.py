# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips as the refiner learns from them: what the student and tracking made of each, and the truth.

One `.npz` a clip: the arrays of `predict.refine_inputs`, in half precision where a thousandth of the crop is enough,
the true pose under the same names with `true_` before them, `quality` (T,), how far a frame's labels are believed, and
`made_from`, a hash of the clip's labels and of the networks that answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.category import BODY, LANDMARKS, PREDICTOR, Category, load_category
from ...core.files import sha256_of, written_atomically
from ...predict import Landmarks, Student
from ...predict.refine_inputs import read_evidence, read_pose
from ..clip_folder import clip_folders
from ..errors import TrainingError
from ..evaluate.rows import OURS, Tracked
from ..evaluate.scene import Scene, read_scene
from ..interrupt import deaf_children
from ..npz import read_npz
from ..proportions import nearest_morphology
from ..sources import given

Array = np.ndarray

HALF = ("distance", "outline", "map_mass", "map_at")
POSE = ("rotation", "translation", "joints", "morphology")


def answers_to(scene: Scene, row: Tracked, points: Array) -> dict[str, Array]:
    """The evidence in a clip and the pose that the student and tracking found, (T, …), and the truth where it is known.

    row: the student, without a refiner of its own.  points (V, 3): of the body at rest.
    """
    answer = row.answer(scene)
    assert answer is not None and answer.prediction is not None
    masks = scene.crops(row.category.network.input_size)[:, 3]
    arrays = {
        **read_evidence(
            points, answer.prediction, masks, scene.center, scene.side,
            scene.focal, scene.principal_point, np.asarray(scene.size),
        ),
        **read_pose(answer.motion, scene.center, scene.side),
    }  # fmt: skip
    if scene.true is not None:
        told = replace(scene.true, morphology=nearest_morphology(row.category, scene.true))
        true = read_pose(told, scene.center, scene.side)
        arrays |= {f"true_{name}": value for name, value in true.items()}
        arrays["quality"] = scene.true.confidence.astype(np.float32)
    return {name: v.astype(np.float16) if name in HALF else v for name, v in arrays.items()}


_work: tuple[Tracked, Array] | None = None


def _begin(category: Path, points: Array) -> None:
    global _work
    found = load_category(category)
    found.refiner_path = None
    landmarks = None if found.landmarks_path is None else Landmarks(found, threads=1)
    _work = Tracked(OURS, found, student=Student(found, threads=1), landmarks=landmarks), points


def _one(folder: Path, out: Path) -> None:
    assert _work is not None
    scene = read_scene(folder, _work[0].category)
    if scene is not None:
        with written_atomically(out) as temporary, open(temporary, "wb") as file:
            arrays = answers_to(scene, *_work)
            np.savez(file, **arrays, made_from=_made_from(_work[0].category, folder))  # pyright: ignore[reportArgumentType]


def _made_from(category: Category, folder: Path) -> str:
    """Hash of what a clip's answers depend on; of its pictures and masks the sizes of their files."""
    whole = hashlib.sha256()
    for name in (BODY, PREDICTOR, LANDMARKS):
        whole.update(f"{name} {category.hashes.get(name)} ".encode())
    for path in (folder / "motion.npz", folder / "meta.json"):
        whole.update(f"{path.name} {sha256_of(path) if path.exists() else None} ".encode())
    pictures = (path for kind in ("frames", "masks") for path in sorted((folder / kind).glob("*")))
    whole.update(repr([(path.name, path.stat().st_size) for path in pictures]).encode())
    return whole.hexdigest()


def _is_made_from(file: Path, wanted: str) -> bool:
    """Whether a file of answers is there and is of this clip and these networks."""
    if not file.exists():
        return False
    stored = read_npz(file, POSE, "take it away, so that it is collected again")
    return str(stored.get("made_from")) == wanted


def collect(clips: Path, category: Category, points: Array, out: Path, workers: int = 1) -> int:
    """Answers to every labelled clip folder of `clips`, one file each in `out`.

    Those that are there are kept, if they are of these clips and of this category's networks; others are made anew, and
    those of clips that are gone are taken away.
    points (V, 3): see `answers_to`. Returns how many there are; clips whose masks show nothing are left out.
    Raises TrainingError when there are no labelled clips, and what reading them raises.
    """
    folders = clip_folders(clips)
    out.mkdir(parents=True, exist_ok=True)
    for file in set(out.glob("*.npz")) - {out / f"{f.name}.npz" for f in folders}:
        file.unlink()
    left = [f for f in folders if not _is_made_from(out / f"{f.name}.npz", _made_from(category, f))]
    assert category.path is not None
    for folder in left:
        (out / f"{folder.name}.npz").unlink(missing_ok=True)  # of a clip that shows nothing now, none is made
    if left:
        begin = (category.path, points)
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin, begin) as pool:
            with deaf_children():
                work = [pool.submit(_one, f, out / f"{f.name}.npz") for f in left]
            try:
                for done in as_completed(work):
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what is begun is finished, and no more
                raise
    return sum((out / f"{f.name}.npz").exists() for f in folders)


class Answers:
    """All clips of one or several folders that are long enough, in memory.

    Labels of the first folder are the truth. Those of the others are a teacher's, which explains pictures: where a body
    is in them counts, how large and how far it is does not. training and validation: of each folder, the numbers of its
    clips.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        length: int,
        validation_every: Sequence[int],
        shares: Sequence[float] = (1.0,),
    ) -> None:
        """length: frames of a stretch.  validation_every: of each folder, each n-th clip is for validation, 0 for none.
        shares: of the stretches that are drawn.

        Raises TrainingError when a folder has no clip that is long enough, or none that is left to train on.
        """
        self.length, self.shares = length, shares
        self.clips: list[dict[str, Array]] = []
        self.training: list[Array] = []
        self.validation: list[Array] = []
        for number, (folder, every) in enumerate(zip(folders, validation_every, strict=True)):
            first, measured = len(self.clips), np.float32(number == 0)
            for file in sorted(folder.glob("*.npz")):
                stored = read_npz(file, POSE, "take it away, so that it is collected again")
                stored.pop("made_from", None)
                if len(stored["translation"]) >= length:
                    stored.setdefault("quality", np.ones(len(stored["translation"]), np.float32))
                    stored["measured"] = np.full(len(stored["translation"]), measured)
                    self.clips.append(stored)
            numbers = np.arange(len(self.clips) - first)
            held = numbers % every == every - 1 if every else np.zeros(len(numbers), bool)
            self.training.append(numbers[~held] + first)
            self.validation.append(numbers[held] + first)
            if not len(numbers):
                raise TrainingError(f"{folder}: no clip has {length} frames; give longer clips, or a smaller --length")
            if held.all():
                raise TrainingError(f"{folder}: each clip is kept for validation; give more clips, or keep fewer")

    def batch(self, chosen: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Stretches (clip, first frame), one after the other: float32 (len(chosen) · length, …), with trust of 1."""
        parts = [
            {k: v[start : start + self.length].astype(np.float32) for k, v in self.clips[clip].items()}
            for clip, start in chosen
        ]
        found = {k: torch.from_numpy(np.concatenate([part[k] for part in parts])) for k in parts[0]}
        return found | {"trust": torch.ones(len(found["distance"]))}

    def drawn(self, step: int, count: int, seed: int) -> list[tuple[int, int]]:
        """Training stretches (clip, first frame) of a step, from every folder its share: every clip once before any of
        the same folder a second time."""
        chosen = []
        before, after = given(self.shares, step * count), given(self.shares, (step + 1) * count)
        for source, clips in enumerate(self.training):
            for number in range(before[source], after[source]):
                turn, place = divmod(number, len(clips))
                order = np.random.default_rng([seed, 1, turn, source]).permutation(len(clips))
                clip = int(clips[order[place]])
                spare = len(self.clips[clip]["translation"]) - self.length + 1
                chosen.append((clip, int(np.random.default_rng([seed, 2, number, source]).integers(spare))))
        return chosen
