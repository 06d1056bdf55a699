# SPDX-License-Identifier: GPL-3.0-or-later
"""Category bundles: a folder of data (never code) that says what a kind of subject is.

``category.json`` names everything, ``body.npz`` holds the arrays, ``predictor.onnx`` the network, ``errors.npz`` how
that errs, ``refiner.onnx`` the network that looks again at what was tracked, ``landmarks.onnx`` one that finds joints
in the picture, and ``CARD.md`` the prose; a bundle may lack the last five. The JSON lists the SHA-256 of the other
files, and reading checks them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .body import LAYOUT, Body
from .errors import CategoryError
from .files import DAMAGED, expanded, sha256_of, written_atomically
from .motion import Motion
from .pose_errors import PoseErrors
from .schema import NetworkSpec, Proportion, description, parse
from .skeleton import Skeleton, skin_transforms
from .skinning import dual_quaternion, linear_blend

Array = np.ndarray

DESCRIPTION, BODY, PREDICTOR, CARD = "category.json", "body.npz", "predictor.onnx", "CARD.md"
ERRORS, REFINER, LANDMARKS = "errors.npz", "refiner.onnx", "landmarks.onnx"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(eq=False)
class Category:
    """One kind of animal, or people, as read from its bundle.

    profiles: profile name → joint name → bone name, always with "neutral" and "rigify".
    morphology: the named proportions, in the order of the body's bases.  nominal_size: metres, the body's
    length from shoulder to hip at rest.  training: facts and scores, free form.  pose_errors: how the network errs,
    None where nobody measured it.  path, predictor_path, refiner_path and landmarks_path:
    where it was read from, None for a category that was built in memory or has no such network.
    """

    name: str
    version: str
    licence: str
    credits: str
    skeleton: Skeleton
    profiles: dict[str, dict[str, str]]
    morphology: tuple[Proportion, ...]
    nominal_size: float
    network: NetworkSpec
    training: dict[str, Any]
    body: Body
    pose_errors: PoseErrors | None = None
    path: Path | None = None
    predictor_path: Path | None = None
    refiner_path: Path | None = None
    landmarks_path: Path | None = None
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def morphology_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.morphology)

    @property
    def morphology_range(self) -> Array:
        """Smallest and largest coefficient of each proportion, ``(K, 2)``."""
        return np.array([(p.minimum, p.maximum) for p in self.morphology], np.float64).reshape(-1, 2)

    def posed_vertices(
        self, pose: Motion | Array | None, rotations: Array | None = None, *, dual: bool = False
    ) -> Array:
        """Vertices ``(T, V, 3)`` in body space.

        pose: a motion, or the morphology ``(K,)`` (None for the mean) and `rotations` ``(T, J, 4)``.
        dual: dual-quaternion instead of linear-blend skinning.
        Raises ValueError for arrays of another shape.
        """
        relief = None
        if isinstance(pose, Motion):
            pose, rotations, relief = pose.morphology, pose.joint_rotations, pose.relief
        if rotations is None:
            raise TypeError("a morphology needs the joint rotations beside it")
        if np.ndim(rotations) != 3 or np.shape(rotations)[1:] != (len(self.skeleton), 4):
            raise ValueError(f"joint rotations are (T, {len(self.skeleton)}, 4), not {np.shape(rotations)}")
        vertices, joints = self.body.shaped(pose, relief)
        transforms = skin_transforms(self.skeleton, joints, rotations)
        skin = dual_quaternion if dual else linear_blend
        return skin(vertices, self.body.skin_index, self.body.skin_weight, transforms)


def category_search_path() -> list[Path]:
    """Folders that hold bundles: the user's (``DASR_CATEGORIES``), in the package, and in the source tree."""
    package = Path(__file__).resolve().parents[1]
    user = [Path(p) for p in os.environ.get("DASR_CATEGORIES", "").split(os.pathsep) if p]
    return [*user, package / "models", package.parent / "models"]


def list_categories(search: Iterable[str | os.PathLike[str]] = ()) -> dict[str, Path]:
    """Bundles that can be found, name → folder, sorted; `search` comes before the usual folders.

    Nothing is read: a damaged bundle is listed too, and :func:`load_category` says what is wrong with it.
    """
    found: dict[str, Path] = {}
    for folder in [*map(Path, search), *category_search_path()]:
        if folder.is_dir():
            for bundle in folder.iterdir():
                if (bundle / DESCRIPTION).is_file():
                    found.setdefault(bundle.name, bundle)
    return dict(sorted(found.items()))


def profile_names(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Bone-name profiles of the bundle in `folder`, for a list to choose from; none for one that is damaged.

    Only the description is read, and nothing checked: :func:`load_category` says what is wrong with a bundle.
    """
    try:
        data = json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))
        return tuple(str(name) for name in data["profiles"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def load_category(
    path_or_name: str | os.PathLike[str], search: Iterable[str | os.PathLike[str]] = ()
) -> Category:
    """Read and check a bundle, given its folder or its name.

    Raises CategoryError that names the file and the field when it is not found, damaged, or malformed.
    """
    folder = _locate(path_or_name, search)
    text = _read(folder / DESCRIPTION, lambda p: p.read_text(encoding="utf-8"))
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise CategoryError(
            f"{folder / DESCRIPTION}: line {error.lineno} is not valid JSON ({error.msg}); "
            "install the category again."
        ) from None
    parsed = parse(data, folder / DESCRIPTION)
    hashes: dict[str, str] = parsed.pop("files")
    if BODY not in hashes:
        raise CategoryError(
            f"{folder / DESCRIPTION}: field 'files' lacks {BODY}; install the category again."
        )
    for name, expected in hashes.items():
        if _read(folder / name, sha256_of) != expected:
            raise CategoryError(
                f"{folder / name}: its SHA-256 is not the one in field 'files' of {DESCRIPTION}, so it is "
                "damaged or was changed; install the category again."
            )
    body = _load_body(folder / BODY)
    category = Category(
        **parsed,
        body=body,
        pose_errors=_load_errors(folder / ERRORS) if ERRORS in hashes else None,
        path=folder,
        predictor_path=folder / PREDICTOR if PREDICTOR in hashes else None,
        refiner_path=folder / REFINER if REFINER in hashes else None,
        landmarks_path=folder / LANDMARKS if LANDMARKS in hashes else None,
        hashes=hashes,
    )
    _check(category, folder)
    return category


def save_category(category: Category, folder: str | os.PathLike[str]) -> Path:
    """Write ``body.npz``, ``errors.npz`` and ``category.json`` (with the others' SHA-256) to `folder`.

    The networks at ``category.predictor_path``, ``refiner_path`` and ``landmarks_path`` are copied in when they lie
    elsewhere; ``predictor.onnx``, ``refiner.onnx``, ``landmarks.onnx`` and ``CARD.md`` that are already there are kept.
    Returns the folder; raises CategoryError.
    """
    folder = Path(folder)
    _check(category, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # All files are written in full before the first is moved into place, the description last.
        with ExitStack() as stack:
            last = stack.enter_context(written_atomically(folder / DESCRIPTION))
            body = stack.enter_context(written_atomically(folder / BODY))
            np.savez_compressed(body, **{name: getattr(category.body, name) for name in LAYOUT})
            written = {BODY: body}
            if category.pose_errors is not None:
                written[ERRORS] = stack.enter_context(written_atomically(folder / ERRORS))
                np.savez_compressed(
                    written[ERRORS],
                    scale=category.pose_errors.scale.astype(np.float32),
                    correlation=category.pose_errors.correlation.astype(np.float32),
                )
            networks = {
                PREDICTOR: category.predictor_path,
                REFINER: category.refiner_path,
                LANDMARKS: category.landmarks_path,
            }
            for name, source in networks.items():
                if source is not None and source.resolve() != (folder / name).resolve():
                    written[name] = stack.enter_context(written_atomically(folder / name))
                    shutil.copyfile(source, written[name])
            for name in (*networks, CARD):
                if name not in written and (folder / name).is_file():
                    written[name] = folder / name
            hashes = {name: sha256_of(path) for name, path in written.items()}
            text = json.dumps(description(category, hashes), indent=1, ensure_ascii=False)
            last.write_text(text + "\n", encoding="utf-8")
        if category.pose_errors is None:
            (folder / ERRORS).unlink(missing_ok=True)  # those of an earlier network
    except OSError as error:
        raise CategoryError(
            f"{folder}: the category could not be written ({error}); choose another folder."
        ) from error
    return folder


def _locate(path_or_name: str | os.PathLike[str], search: Iterable[str | os.PathLike[str]]) -> Path:
    path = expanded(path_or_name)
    if os.path.isfile(path / DESCRIPTION):
        return path.resolve()
    name = os.fspath(path_or_name)
    if os.path.isdir(path):
        raise CategoryError(f"{path}: the folder holds no {DESCRIPTION}; choose a category's own folder.")
    found = list_categories(search)
    if _NAME.fullmatch(name) and name in found:
        return found[name].resolve()
    known = ", ".join(found) or "none"
    raise CategoryError(f"There is no category '{name}'; the installed ones are: {known}.")


def _read(path: Path, reader: Any) -> Any:
    try:
        return reader(path)
    except FileNotFoundError:
        raise CategoryError(f"{path}: the file is missing; install the category again.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CategoryError(
            f"{path}: the file cannot be read ({error}); install the category again."
        ) from error


def _load_body(path: Path) -> Body:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, Array] = {}
            for name, (dtype, _) in LAYOUT.items():
                if name not in stored:
                    raise CategoryError(f"{path}: field '{name}' is missing; install the category again.")
                array = stored[name]
                if array.dtype.kind not in ("iu" if np.dtype(dtype).kind == "i" else "fiu"):
                    raise CategoryError(f"{path}: field '{name}' has the wrong type, {array.dtype}.")
                arrays[name] = array
    except DAMAGED as error:
        raise CategoryError(
            f"{path}: not a readable body file ({error}); install the category again."
        ) from error
    return Body(**arrays)


def _load_errors(path: Path) -> PoseErrors:
    try:
        with np.load(path, allow_pickle=False) as stored:
            scale, correlation = (np.asarray(stored[name], np.float64) for name in ("scale", "correlation"))
            return PoseErrors(scale, correlation)
    except DAMAGED as error:
        raise CategoryError(
            f"{path}: not a readable file of pose errors ({error}); install the category again."
        ) from error


def _check(category: Category, folder: Path) -> None:
    """Raise CategoryError when body and description do not fit each other."""
    if not _NAME.fullmatch(category.name):
        raise CategoryError(f"{folder / DESCRIPTION}: field 'name' must be letters, digits, '_', '-' or '.'.")
    problem = category.body.problem()
    if problem:
        raise CategoryError(f"{folder / BODY}: field '{problem[0]}' {problem[1]}.")
    if category.pose_errors is not None:
        problem = category.pose_errors.problem(len(category.skeleton))
        if problem:
            raise CategoryError(f"{folder / ERRORS}: field '{problem[0]}' {problem[1]}.")
    joints, proportions = len(category.body.joints), len(category.body.morphology_std)
    if joints != len(category.skeleton):
        raise CategoryError(
            f"{folder / BODY}: field 'joints' has {joints} joints, but {DESCRIPTION} has "
            f"{len(category.skeleton)}."
        )
    if proportions != len(category.morphology):
        raise CategoryError(
            f"{folder / BODY}: field 'morphology_std' has {proportions} proportions, but {DESCRIPTION} has "
            f"{len(category.morphology)}."
        )
    for profile in ("neutral", "rigify"):
        if profile not in category.profiles:
            raise CategoryError(f"{folder / DESCRIPTION}: field 'profiles' lacks '{profile}'.")
    for profile, bones in category.profiles.items():
        missing = [name for name in category.skeleton.names if name not in bones]
        if missing or len(set(bones.values())) != len(bones):
            reason = f"lacks the joint '{missing[0]}'" if missing else "gives two joints the same bone"
            raise CategoryError(f"{folder / DESCRIPTION}: field 'profiles.{profile}' {reason}.")
