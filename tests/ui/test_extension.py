# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension as a user gets it: built, installed in Blender, used, switched off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("bpy", reason="needs bpy: pip install '.[blender]'")

import build_addon
from dasr_blender.core import load_category
from dasr_blender.demo import DemoOptions, write_demo_clip


@pytest.fixture(scope="module")
def extension_zip(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    return build_addon.build(build_addon.host_platform(), out, out / "wheels", pythons=())


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clip")
    path = write_demo_clip(folder, load_category("quadruped"), DemoOptions(frames=6))
    return Path(path), folder / "masks"


def test_zip_holds_what_the_extension_needs_and_no_more(extension_zip):
    names = zipfile.ZipFile(extension_zip).namelist()
    assert {
        "blender_manifest.toml",
        "__init__.py",
        "LICENSE",
        "models/quadruped/category.json",
        "models/quadruped/predictor.onnx",
        "models/human/body.npz",
        "ui/panels.py",
    } <= set(names)
    assert not [n for n in names if n.startswith(("training/", "tests/")) or "__pycache__" in n]


def test_manifest_lists_wheels_and_platform():
    import tomllib

    manifest = tomllib.loads(build_addon.manifest_text("linux-x64", ["a.whl", "b.whl"]))
    assert manifest["platforms"] == ["linux-x64"]
    assert manifest["wheels"] == ["./wheels/a.whl", "./wheels/b.whl"]
    assert manifest["permissions"] and len(manifest["tagline"]) <= 64
    assert all(len(reason) <= 64 for reason in manifest["permissions"].values())


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("Linux", "x86_64", "linux-x64"),
        ("Windows", "AMD64", "windows-x64"),
        ("Darwin", "arm64", "macos-arm64"),
        ("Darwin", "x86_64", ""),
        ("Windows", "ARM64", ""),
        ("Linux", "aarch64", ""),
    ],
)
def test_the_zip_is_for_the_machine_it_is_built_on(system, machine, name, monkeypatch, capsys):
    monkeypatch.setattr(build_addon.platform, "system", lambda: system)
    monkeypatch.setattr(build_addon.platform, "machine", lambda: machine)
    assert build_addon.host_platform() == name
    if not name:
        with pytest.raises(SystemExit):
            build_addon.main([])
        assert "give --platform" in capsys.readouterr().err


def test_a_wheel_that_does_not_exist_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(build_addon, "ONNXRUNTIME", "onnxruntime==0.0.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(build_addon.BuildError, match="no wheel of onnxruntime==0.0.0 for CPython 311"):
        build_addon.download_wheels("linux-x64", ("311",), tmp_path)


def test_installs_reconstructs_and_leaves_nothing_behind(extension_zip, clip, tmp_path):
    resources, out = tmp_path / "user", tmp_path / "out"
    resources.mkdir()
    out.mkdir()
    environment = dict(os.environ, BLENDER_USER_RESOURCES=str(resources))
    driver = Path(__file__).with_name("drive_extension.py")
    done = subprocess.run(
        [sys.executable, str(driver), str(extension_zip), *map(str, clip), str(out)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    seen = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])

    nothing = {"types": [], "operators": [], "properties": [], "handlers": []}
    assert seen["before"] == nothing
    wanted = {"DASR_PT_view3d", "DASR_PT_clip_views", "DASR_OT_reconstruct", "DASR_OT_save_view"}
    assert wanted <= set(seen["installed"]["types"])
    for turn in ("first", "second"):
        assert seen[f"disabled_{turn}"] == nothing
        assert seen[f"enabled_{turn}"] == seen["installed"]
    assert seen["after"] == nothing

    assert seen["still_running"] is False
    assert seen["poll_without_clip"] is False and seen["poll_of_an_empty_range"] is False
    assert seen["corrected_frame"] == 4  # the second frame of a range that begins at 3
    assert seen["poll_of_corrections"] == [False, True]
    assert seen["paths"] == ["//clip.mp4", "//../clip.mp4", "//../clip.mp4", "//../../clip.mp4", "//out"]
    assert seen["window_closed"] == [0, True, True, 1, False]
    assert seen["undescribed"] == []
    assert "matches no enum" not in done.stdout + done.stderr
    assert seen["choices"] == ["quadruped", "neutral", "human", "unreal", "quadruped", "neutral"]
    assert seen["outcome"] == ["FINISHED"], seen["message"]
    assert seen["objects"] == ["ARMATURE", "CAMERA", "MESH"]
    assert seen["bones"] == len(load_category("quadruped").skeleton)
    assert seen["slots"] == 3
    assert seen["poll_of_a_solve"] == [True, False]
    assert seen["scene_untouched"]
    assert {"motion.npz", "report.json"} <= set(seen["files"])
    assert any(name.endswith(".bvh") for name in seen["files"])
    finished, joints = ["FINISHED"], seen["bones"]
    *told, refusal, at_last = seen["retarget"]
    assert told == [False, True, joints, True, finished, joints - 1, 1.0, finished, "Jaw"]
    assert "Bone 'Head' is chosen for head and for jaw" in refusal and at_last is False
    assert "missing.mp4" in seen["bad_outcome"]
    assert seen["bad_left_nothing"]
    done = ["FINISHED"]
    assert seen["poll_without_template"] is False
    assert seen["views"] == [done, done, True, done, done, False]
