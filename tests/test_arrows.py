# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may import whom, read from the source: data goes one way, and bpy and torch stay where they belong."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dasr_blender"
FILES = sorted(p for p in PACKAGE.rglob("*.py"))

CORE = {"core"}
# part of the package → other parts it may import
ARROWS: dict[str, set[str]] = {
    "core": set(),
    "clip": CORE,
    "predict": CORE,
    "overlay": {"core", "clip", "predict"},
    "scene": CORE,
    "training": {"core", "clip", "predict", "overlay", "threads"},  # how many threads numpy has, before it is imported
}
# part → third-party packages it may import at all
THIRD_PARTY: dict[str, set[str]] = {
    "core": {"numpy"},
    "clip": {"numpy", "cv2", "onnxruntime"},
    "predict": {"numpy", "cv2", "onnxruntime"},
    "scene": {"numpy", "bpy", "mathutils", "bpy_extras", "addon_utils"},
}
BLENDER = {"bpy", "mathutils", "bpy_extras", "bmesh", "gpu", "bl_ui", "addon_utils"}
BAKER = Path("training", "synth", "bake.py")


def part_of(path: Path) -> str:
    """The folder or module of the package that a file belongs to; the package's own __init__ is ''."""
    relative = path.relative_to(PACKAGE)
    first = relative.parts[0]
    return first.removesuffix(".py") if first != "__init__.py" else ""


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Parts of this package and top-level outside modules that a file imports, wherever in it.

    ``if TYPE_CHECKING:`` counts too: an arrow is an arrow.
    """
    ours: set[str] = set()
    theirs: set[str] = set()
    package = list(path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1])  # the package the file is in
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            targets = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for target in targets:
            if target[0] == PACKAGE.name:
                if len(target) > 1 and (PACKAGE / target[1]).with_suffix(".py").exists():
                    ours.add(target[1])
                elif len(target) > 1 and (PACKAGE / target[1]).is_dir():
                    ours.add(target[1])
            elif target[0] not in sys.stdlib_module_names:
                theirs.add(target[0])
    return ours, theirs


def identify(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_arrows(path: Path) -> None:
    part = part_of(path)
    ours, theirs = imports(path)
    if part in ARROWS:
        assert ours - {part} <= ARROWS[part], f"{part} must not import {sorted(ours - {part} - ARROWS[part])}"
    if part in THIRD_PARTY:
        assert theirs <= THIRD_PARTY[part], f"{part} must not import {sorted(theirs - THIRD_PARTY[part])}"
    if part not in ("scene", "ui") and path.relative_to(PACKAGE) != BAKER:
        assert not theirs & BLENDER, "only scene/, ui/ and the asset baker import bpy"
    if part != "training":
        assert "torch" not in theirs, "only training/ imports torch"
        assert "training" not in ours or part == "cli", "the add-on runs without it"


def test_the_command_line_asks_for_training_only_when_it_is_wanted() -> None:
    """At the top of cli, such an import would make every command need the training packages."""
    for node in ast.parse((PACKAGE / "cli.py").read_text(encoding="utf-8")).body:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "training" for name in names)


def test_evaluation_needs_no_torch() -> None:
    """What is scored is the exported network; the modules that it loads stay clear of torch, however far one goes."""
    training = PACKAGE / "training"
    waiting = sorted((training / "evaluate").glob("*.py"))
    reached: set[Path] = set()
    while waiting:
        path = waiting.pop()
        reached.add(path)
        assert "torch" not in imports(path)[1], f"{identify(path)} imports torch"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for target in (base, *(base / alias.name for alias in node.names)):
                file = target.with_suffix(".py")
                if file.is_file() and training in file.parents and file not in reached:
                    waiting.append(file)
    assert len(reached) > 10


@pytest.mark.parametrize("start", ["job", "overlay"])
def test_the_job_never_reaches_blender_or_training(start: str) -> None:
    """Whatever modules the job is split into, none of them leads out of core, clip and predict."""
    reached: set[str] = set()
    waiting = {start}
    while waiting:
        part = waiting.pop()
        reached.add(part)
        for path in FILES:
            if part_of(path) == part:
                waiting |= imports(path)[0] - reached
    assert not reached & {"scene", "ui", "cli", "training"}, f"{start} reaches {sorted(reached)}"


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_inside_the_package_imports_are_relative(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        for name in names:
            assert name.split(".")[0] != PACKAGE.name, f"line {node.lineno}: write a relative import"


def test_files_are_read_and_written_alike_on_every_system() -> None:
    """Windows has a code page for text that names no encoding, and OpenCV finds no image whose path is beyond it."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            place = f"{identify(path)}, line {getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("imread", "imwrite"), f"{place}: code the bytes, and let Python find the file"
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("read_text", "write_text"):
                assert any(word.arg == "encoding" for word in node.keywords), f"{place}: name the encoding"


def test_the_reader_of_imports_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "dasr_blender"
    (package / "core").mkdir(parents=True)
    (package / "scene").mkdir()
    (package / "job.py").write_text("")
    source = package / "core" / "x.py"
    source.write_text(
        "import os\nimport bpy.types as t\nfrom ..scene import mesh\nfrom .. import job\nfrom . import y\n"
        "def f():\n    from torch import nn\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", package)
    assert imports(source) == ({"scene", "job", "core"}, {"bpy", "torch"})
