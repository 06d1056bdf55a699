# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line as a user meets it: its own process, exit status, what it prints and what it leaves."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_predictor import save_tiny_category, write_tiny_landmarks, write_tiny_refiner

import dasr_blender
from dasr_blender import cli
from dasr_blender.core import Motion, load_category, save_category
from dasr_blender.demo import DemoOptions, write_demo_clip

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 8
needs_mask_network = pytest.mark.skipif(importlib.util.find_spec("rembg") is None, reason="no u2netp weights")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and limits")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a category and a clip with masks."""
    home = tmp_path_factory.mktemp("home")
    folder = save_tiny_category(home / "categories")
    options = DemoOptions(frames=FRAMES, size=(192, 128), cycle=8)
    write_demo_clip(home / "clip", load_category(folder), options)
    return home


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "DASR_CATEGORIES": str(home / "categories"), "PYTHONPATH": str(ROOT)}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "dasr_blender", *map(str, arguments)]


def dasr(home: Path, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
        **options,
    )


def reconstruct(
    home: Path, clip: object, out: Path, *more: object, **options
) -> subprocess.CompletedProcess[str]:
    return dasr(
        home, "reconstruct", clip, "--category", "toy", "--formats", "none", "--out", out, *more, **options
    )


def left_behind(out: Path) -> list[str]:
    """Results and half-written files in an output folder; finished stages of the job do not count."""
    files = [p for p in out.rglob("*") if p.is_file()]
    return sorted(p.name for p in files if p.parent.name != ".dasr" or ".part" in p.name)


def assert_one_clear_line(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode == 1, done.stderr
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    said = [line for line in lines if line.startswith("dasr: ")]
    assert len(said) == 1 and lines[-1] == said[0], lines
    assert re.search(words, said[0], re.IGNORECASE), said[0]
    assert done.stdout == ""


def test_motion_overlay_and_report(home: Path, tmp_path: Path) -> None:
    done = reconstruct(home, home / "clip/walk.mp4", tmp_path, "--masks", home / "clip/masks")
    assert done.returncode == 0, done.stderr
    motion = Motion.load(tmp_path / "motion.npz")
    assert len(motion) == FRAMES and tuple(motion.image_size) == (192, 128)
    overlay = cv2.VideoCapture(str(tmp_path / "walk-overlay.mp4"))
    assert overlay.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"versions", "category", "seconds", "confidence", "mask_iou", "focal", "warnings", "files"} <= set(
        report
    )
    assert len(report["mask_iou"]) == FRAMES and report["focal"] == {"pixels": 230.4, "source": "assumed"}
    assert set(report["files"]) == {"motion", "texture", "overlay", "report"}
    assert report["provider"].startswith("CPU, ") and report["options"]["provider"] == "auto"
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["motion", "texture", "overlay", "report"]
    assert left_behind(tmp_path) == ["motion.npz", "report.json", "walk-overlay.mp4", "walk-texture.png"]
    texture = cv2.imread(str(tmp_path / "walk-texture.png"))
    assert texture.shape == (1024, 1024, 3) and texture.std() > 5


def test_without_a_texture_none_is_written(home: Path, tmp_path: Path) -> None:
    done = reconstruct(
        home, home / "clip/walk.mp4", tmp_path, "--masks", home / "clip/masks", "--quality", "draft", "--no-overlay",
        "--no-texture",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["files"]) == {"motion", "report"} and "texture" not in report["seconds"]
    assert left_behind(tmp_path) == ["motion.npz", "report.json"]


def test_a_category_whose_map_lies_over_itself_has_no_texture(home: Path, tmp_path: Path) -> None:
    category = load_category(home / "categories" / "toy")
    folded = replace(category, body=replace(category.body, uv=np.zeros_like(category.body.uv)))
    done = reconstruct(
        home, home / "clip/walk.mp4", tmp_path / "out", "--masks", home / "clip/masks", "--quality", "draft",
        "--no-overlay", "--category", save_category(folded, tmp_path / "folded"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "share places in its UV map" in done.stderr
    assert left_behind(tmp_path / "out") == ["motion.npz", "report.json"]


def test_a_category_with_a_refiner_looks_again(home: Path, tmp_path: Path) -> None:
    category = load_category(home / "categories" / "toy")
    write_tiny_refiner(tmp_path / "refiner.onnx", category)
    twice = save_category(replace(category, refiner_path=tmp_path / "refiner.onnx"), tmp_path / "twice")
    depths = []
    for name in ("toy", twice):
        out = tmp_path / Path(name).name
        done = reconstruct(
            home, home / "clip/walk.mp4", out, "--masks", home / "clip/masks", "--quality", "draft",
            "--no-overlay", "--category", name,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        report = json.loads((out / "report.json").read_text())
        assert ("refine" in report["seconds"]) == (name != "toy")
        assert ("refiner.onnx" in report["category"]["files"]) == (name != "toy")
        depths.append(Motion.load(out / "motion.npz").camera_from_root[:, 2, 3])
    assert np.allclose(np.log(depths[0] / depths[1]), 0.1, atol=0.01)


def test_a_category_with_landmarks_heeds_them(home: Path, tmp_path: Path) -> None:
    category = load_category(home / "categories" / "toy")
    write_tiny_landmarks(tmp_path / "landmarks.onnx")
    knowing = save_category(replace(category, landmarks_path=tmp_path / "landmarks.onnx"), tmp_path / "knowing")
    done = reconstruct(
        home, home / "clip/walk.mp4", tmp_path / "out", "--masks", home / "clip/masks", "--quality", "draft",
        "--no-overlay", "--category", knowing,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "landmarks.onnx" in report["category"]["files"]
    (stage,) = (tmp_path / "out" / ".dasr").glob("prediction*.npz")
    with np.load(stage) as stored:
        assert stored["told_rotation"].shape == (FRAMES, 3, 3) and stored["told_sure"].max() <= 1


def test_clips_of_one_name_do_not_overwrite_each_other(home: Path) -> None:
    name = "2024-05-01_client_project_scene_04_shot_12_take"
    for part, folder in (("a", f"{name}-dasr"), ("b", f"{name}-dasr-2"), ("a", f"{name}-dasr")):
        clip = home / part / f"{name}.mp4"
        clip.parent.mkdir(exist_ok=True)
        clip.write_bytes((home / "clip/walk.mp4").read_bytes() + part.encode())
        done = dasr(
            home, "reconstruct", clip.relative_to(home), "--category", "toy", "--formats", "none", "--no-overlay",
            "--masks", "clip/masks", "--quality", "draft",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert Path(json.loads((home / folder / "report.json").read_text())["clip"]["path"]) == clip
    assert len(list(home.glob("*-dasr*"))) == 2


def test_frames_focal_and_rate_are_taken(home: Path, tmp_path: Path) -> None:
    done = reconstruct(
        home,
        home / "clip/walk.mp4",
        tmp_path,
        "--masks",
        home / "clip/masks",
        "--frames",
        "1:7:2",
        "--focal",
        "300",
        "--fps",
        "12",
        "--no-overlay",
    )
    assert done.returncode == 0, done.stderr
    motion = Motion.load(tmp_path / "motion.npz")
    assert motion.frame_index.tolist() == [1, 3, 5] and motion.fps == 12
    np.testing.assert_allclose(motion.focal_px, 300)
    assert not (tmp_path / "walk-overlay.mp4").exists()


def test_one_frame_gives_a_static_rig(home: Path, tmp_path: Path) -> None:
    picture, mask = tmp_path / "one.png", tmp_path / "masks"
    reader = cv2.VideoCapture(str(home / "clip/walk.mp4"))
    cv2.imwrite(str(picture), reader.read()[1])
    mask.mkdir()
    shutil.copy(home / "clip/masks/00000.png", mask)
    done = reconstruct(home, picture, tmp_path / "out", "--masks", mask)
    assert done.returncode == 0, done.stderr
    assert len(Motion.load(tmp_path / "out/motion.npz")) == 1
    assert "the rig is static" in done.stderr


def test_frames_without_a_mask_are_interpolated_and_reported(home: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(home / "clip/masks", masks)
    cv2.imwrite(str(masks / "00003.png"), np.zeros((128, 192), np.uint8))
    done = reconstruct(home, home / "clip/walk.mp4", tmp_path / "out", "--masks", masks, "--no-overlay")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/report.json").read_text())["masks"]["interpolated_frames"] == [3]
    assert "No mask in 1 of 8 frames" in done.stderr


def test_very_large_frames_are_scaled(home: Path, tmp_path: Path) -> None:
    for kind in ("frames", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(2):
        mask = cv2.imread(str(home / f"clip/masks/{i:05d}.png"), cv2.IMREAD_GRAYSCALE)
        large = cv2.resize(mask, (8000, 500), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(tmp_path / f"masks/{i}.png"), large)
        cv2.imwrite(str(tmp_path / f"frames/{i}.jpg"), cv2.merge([large // 2 + 60] * 3))
    done = reconstruct(
        home, tmp_path / "frames", tmp_path / "out", "--masks", tmp_path / "masks", "--no-overlay"
    )
    assert done.returncode == 0, done.stderr
    motion = Motion.load(tmp_path / "out/motion.npz")
    assert tuple(motion.image_size) == (8000, 500)
    np.testing.assert_allclose(motion.focal_px, 9600)


def test_bad_input_ends_with_one_line_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    clip, masks, out = home / "clip/walk.mp4", home / "clip/masks", tmp_path / "out"
    text = tmp_path / "notes.mp4"
    text.write_text("this is no video\n" * 40)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    short = tmp_path / "short"
    short.mkdir()
    shutil.copy(masks / "00000.png", short)
    shutil.copy(masks / "00001.png", short)
    empty = tmp_path / "empty"
    shutil.copytree(masks, empty)
    for path in empty.iterdir():
        cv2.imwrite(str(path), np.zeros((128, 192), np.uint8))
    broken = tmp_path / "broken"
    shutil.copytree(home / "categories/toy", broken)
    body = bytearray((broken / "body.npz").read_bytes())
    body[len(body) // 2] ^= 0xFF
    (broken / "body.npz").write_bytes(body)
    cases = [
        ((tmp_path / "nothing.mp4",), "nothing.mp4"),
        ((text,), "notes.mp4"),
        ((cut,), "cut.mp4"),
        ((clip, "--masks", short), r"\b2\b.*\b8\b|\b8\b.*\b2\b"),
        ((clip, "--masks", tmp_path / "nowhere"), "nowhere"),
        ((clip, "--masks", empty), "mask|subject"),
        ((clip, "--frames", "90:95", "--masks", masks), "frame"),
        ((clip, "--category", "dragon"), "dragon.*toy"),
        ((clip, "--category", broken), "body.npz.*SHA-256"),
        ((clip, "--masks", masks, "--out", text / "below"), "cannot write.*--out"),
        ((clip, "--masks", masks, "--out", tmp_path / "new" / ("o" * 300)), "cannot write.*o: .*--out"),
        ((tmp_path / ("n" * 300 + ".mp4"),), "n.mp4 cannot be read.*check the path"),
        (("x\udcff.mp4",), "no text in utf-8: rename"),
        ((clip, "--masks", masks, "--out", tmp_path / "new\udcff"), "cannot write.*no text in utf-8"),
        (("~nobody-of-this-name/clip.mp4",), "no file or folder ~nobody-of-this-name"),
        ((clip, "--masks", "m" * 300), "mask folder m+ cannot be listed"),
        ((clip, "--masks", "~nobody-of-this-name/masks"), "cannot be listed"),
        ((clip, "--category", "c" * 300), "there is no category"),
        ((clip, "--correct", "3:" + "f" * 300), "is no correction"),
        ((clip, "--masks", masks, "--subject", "20,20"), "is for automatic masks"),
        ((clip, "--masks", masks, "--focal", "5"), "--focal 5 is too short.*millimetres"),
    ]
    for arguments, words in cases:
        done = reconstruct(home, arguments[0], out, *arguments[1:])
        assert_one_clear_line(done, words)
        assert not out.exists() and not (tmp_path / "new").exists(), arguments


@needs_mask_network
def test_a_clip_without_a_subject_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"frames/{i}.png"), np.full((96, 128, 3), 120, np.uint8))
    assert_one_clear_line(reconstruct(home, tmp_path / "frames", tmp_path / "out"), "subject|animal|mask")
    assert not (tmp_path / "out").exists()


@posix
def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(home: Path, tmp_path: Path) -> None:
    import resource

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    done = reconstruct(
        home, home / "clip/walk.mp4", tmp_path, "--masks", home / "clip/masks", preexec_fn=small
    )
    assert_one_clear_line(done, "space|written|write")
    assert left_behind(tmp_path) == []


def start(home: Path, out: Path, *more: object) -> subprocess.Popen[str]:
    arguments = (
        "reconstruct",
        home / "clip/walk.mp4",
        "--category",
        "toy",
        "--formats",
        "none",
        "--out",
        out,
        "--json",
    )
    return subprocess.Popen(
        command(*arguments, *more),
        env=environment(home),
        cwd=home,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_json_leaves_stdin_to_others(home: Path, tmp_path: Path) -> None:
    """In `… | while read clip; do dasr reconstruct $clip --json …; done` stdin is the list."""
    read, write = os.pipe()
    os.write(write, b"cancel\nother.mp4\n")
    os.close(write)
    done = subprocess.run(
        command(
            "reconstruct", home / "clip/walk.mp4", "--category", "toy", "--masks", home / "clip/masks", "--formats",
            "none", "--no-overlay", "--quality", "draft", "--out", tmp_path, "--json",
        ),
        env=environment(home), cwd=home, capture_output=True, text=True, timeout=240, stdin=read,
    )  # fmt: skip
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1])["type"] == "result"
    assert os.read(read, 100) == b"cancel\nother.mp4\n"
    os.close(read)


def wait_for(process: subprocess.Popen[str], stage: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("stage") == stage:
            return
    raise AssertionError(f"no stage {stage}: {process.stderr.read() if process.stderr else ''}")


def test_json_messages(home: Path, tmp_path: Path) -> None:
    process = start(home, tmp_path, "--masks", home / "clip/masks", "--listen")
    out, _ = process.communicate(timeout=240)  # closes stdin at once, which asks it to stop
    assert process.returncode == 130 and json.loads(out.splitlines()[-1]) == {
        "type": "error",
        "text": "Cancelled",
        "cancelled": True,
    }

    process = start(home, tmp_path, "--masks", home / "clip/masks")
    assert process.stdout is not None and process.stdin is not None
    messages = [json.loads(line) for line in process.stdout]
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert {m["type"] for m in messages} <= {"progress", "log", "result"} and messages[-1]["type"] == "result"
    fractions = [m["fraction"] for m in messages if m["type"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(fractions) > 5
    assert {"stage", "text"} <= set(messages[0])
    assert Path(messages[-1]["motion"]).is_file() and set(messages[-1]["files"]) == {
        "motion",
        "texture",
        "overlay",
        "report",
    }


@needs_mask_network
@pytest.mark.parametrize("how", ["line", "close", "terminate"])
def test_cancel_within_half_a_second(home: Path, tmp_path: Path, how: str) -> None:
    process = start(home, tmp_path, "--listen")
    assert process.stdin is not None and process.stdout is not None
    wait_for(process, "masks")
    begin = time.monotonic()
    if how == "line":
        process.stdin.write("cancel\n")
        process.stdin.flush()
    elif how == "close":
        process.stdin.close()
    else:
        process.terminate()
    messages = [json.loads(line) for line in process.stdout]
    took = time.monotonic() - begin
    process.wait(30)
    assert process.returncode == 130
    assert messages[-1] == {"type": "error", "text": "Cancelled", "cancelled": True}
    assert left_behind(tmp_path) == []
    assert took < 2.0  # half a second on a machine that is not shared
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


@posix
def test_a_killed_run_is_resumed(home: Path, tmp_path: Path) -> None:
    process = start(home, tmp_path, "--masks", home / "clip/masks")
    wait_for(process, "track")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    half = tmp_path / ".dasr" / ".masks-0.aaaa.part.npz"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    done = reconstruct(home, home / "clip/walk.mp4", tmp_path, "--masks", home / "clip/masks")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["reused_stages"] == [
        "masks",
        "camera",
        "student",
    ]
    assert left_behind(tmp_path) == ["motion.npz", "report.json", "walk-overlay.mp4", "walk-texture.png"]


@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs bpy")
def test_every_format_is_written(home: Path, tmp_path: Path) -> None:
    done = dasr(
        home,
        "reconstruct",
        home / "clip/walk.mp4",
        "--category",
        "toy",
        "--masks",
        home / "clip/masks",
        "--out",
        tmp_path,
        "--formats",
        "all",
        "--no-overlay",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"blend", "glb", "fbx", "usd", "bvh", "motion", "texture", "report"} == set(report["files"])
    for kind, path in report["files"].items():
        assert Path(path).stat().st_size > 100, kind
    assert len(done.stdout.splitlines()) == 8  # nothing that Blender prints
    assert any(".bvh holds the skeleton alone" in warning for warning in report["warnings"])


_HERO = """
import sys, bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
data = bpy.data.armatures.new("hero"); rig = bpy.data.objects.new("hero", data)
bpy.context.scene.collection.objects.link(rig); bpy.context.view_layer.objects.active = rig
bpy.ops.object.mode_set(mode="EDIT")
made = {}
for line in sys.stdin:
    name, parent, *place = line.split(",")
    made[name] = bone = data.edit_bones.new(name)
    bone.head = [float(x) for x in place]; bone.tail = bone.head + bone.head.__class__((0, 0, 0.05))
    bone.parent = made.get(parent)
bpy.ops.object.mode_set(mode="OBJECT")
mesh = bpy.data.objects.new("skin", bpy.data.meshes.new("skin"))
mesh.data.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
mesh.vertex_groups.new(name=next(iter(made))).add([0, 1, 2], 1.0, "REPLACE")
mesh.modifiers.new("Armature", "ARMATURE").object = rig
mesh.parent = rig
bpy.context.scene.collection.objects.link(mesh)
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
"""


def test_a_character_takes_on_the_motion(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    out, hero = tmp_path / "out", tmp_path / "my hero.blend"
    done = reconstruct(home, home / "clip/walk.mp4", out, "--masks", home / "clip/masks", "--no-overlay")
    assert done.returncode == 0, done.stderr
    category = load_category(home / "categories/toy")
    skeleton, joints = category.skeleton, category.body.joints
    parents = ["" if p < 0 else skeleton.names[p] for p in skeleton.parents]
    bones = [f"{n},{p},{x},{y},{z}" for n, p, (x, y, z) in zip(skeleton.names, parents, joints, strict=True)]
    script = [sys.executable, "-c", _HERO, str(hero)]
    subprocess.run(script, input="\n".join(bones), text=True, check=True, capture_output=True, timeout=120)

    done = dasr(home, "retarget", out, hero, "--formats", "all", "--in-clip", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result["files"]) == {"blend", "glb", "fbx", "usd", "bones"}
    for path in result["files"].values():
        assert Path(path).stat().st_size > 100 and Path(path).name.startswith("walk-on-my hero.")
    assert result["bones"] == {name: name for name in skeleton.names}

    mended = tmp_path / "mended.json"
    mended.write_text(json.dumps(result["bones"] | {"jaw": None}))
    other = tmp_path / "other"
    done = dasr(home, "retarget", out / "motion.npz", hero, "--formats", "glb", "--bones", mended, "--out", other)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert left_behind(other) == ["walk-on-my hero.bones.json", "walk-on-my hero.glb"]
    assert json.loads((other / "walk-on-my hero.bones.json").read_text())["jaw"] is None
    done = dasr(home, "retarget", out, hero, "--formats", "glb", "--out", other, "--json")  # what was mended is kept
    assert json.loads(done.stdout.splitlines()[-1])["bones"]["jaw"] == ""
    report = out / "report.json"
    report.write_text(report.read_text().replace("walk.mp4", "gone.mp4"))
    done = dasr(home, "retarget", out, hero, "--formats", "glb", "--out", other, "--in-clip")
    assert done.returncode == 0 and "gone.mp4 is no longer there, so the camera has no background" in done.stderr
    for arguments, words in (
        ([tmp_path / "nothing", hero], "nothing"),
        ([out, tmp_path / "no.glb"], "no file .*no.glb"),
        ([out, out / "motion.npz"], "a character is"),
        ([out, hero, "--bones", out / "report.json"], "joint → bone"),
        ([out, hero, "--category", "unknown"], "unknown"),
    ):
        nowhere = tmp_path / "nowhere"
        assert_one_clear_line(dasr(home, "retarget", *arguments, "--out", nowhere), words)
        assert not nowhere.exists()


def test_wrong_command_lines_have_status_2(capfd: pytest.CaptureFixture[str]) -> None:
    for line in (
        "",
        "dance",
        "reconstruct",
        "reconstruct x --frames a:b",
        "reconstruct x --frames 5:5",
        "reconstruct x --frames 1:9:0",
        "reconstruct x --subject 1,2,3",
        "reconstruct x --subject 1,2,-3,4",
        "reconstruct x --focal 0",
        "reconstruct x --fps nan",
        "reconstruct x --formats stl",
        "reconstruct x --place moon",
        "retarget x",
        "retarget x y --formats bvh",
        "retarget x y --formats none",
    ):
        assert cli.main(line.split()) == 2, line
    for line in (
        ["reconstruct", ""],
        ["reconstruct", "x", "--masks", " "],
        ["reconstruct", "x", "--out", ""],
        ["reconstruct", "x", "--category", ""],
        ["reconstruct", "x", "--correct", ""],
        ["demo-clip", ""],
    ):
        assert cli.main(line) == 2, line
        assert "it is empty: give" in capfd.readouterr().err
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--frames", ":-1", "counted from 0, no negative numbers"),
        ("--formats", "glb,none", "'glb,none' says more than none"),
        ("--formats", "all,glb", "'all,glb' says more than all"),
    ],
)
def test_what_is_wrong_with_an_option(option: str, value: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reconstruct", "x", f"{option}={value}"]) == 2
    assert words in capfd.readouterr().err


def test_ctrl_c_while_loading_is_a_cancel(home: Path) -> None:
    interrupted = (
        "import sys\n"
        "class Loading:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'numpy':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Loading())\n"
        "from dasr_blender.__main__ import console\n"
        "console()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", interrupted], env=environment(home), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "dasr: Cancelled\n")
    script = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["dasr"]
    assert script == "dasr_blender.__main__:console"


@pytest.mark.parametrize(
    ("system", "words"),
    [("win32", r"\(DLL load failed.*\): install Microsoft's Visual C\+\+"), ("linux", r"\(DLL load.*\): dasr doctor")],
)
def test_libraries_that_a_package_lacks_are_one_sentence(
    system: str, words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> int:
        raise ImportError("DLL load failed while importing onnxruntime_pybind11_state: not found")

    monkeypatch.setitem(cli.COMMANDS, "categories", broken)
    monkeypatch.setattr(sys, "platform", system)
    assert cli.main(["categories"]) == 1
    assert re.search(words, capfd.readouterr().err)


def test_categories_and_doctor(home: Path) -> None:
    listed = dasr(home, "categories", "--json")
    rows = json.loads(listed.stdout)["categories"]
    toy = next(row for row in rows if row["name"] == "toy")
    assert toy["joints"] == 30 and toy["network"] and "leg_length" in toy["morphology"]
    doctor = dasr(home, "doctor")
    assert "networks run on CPU, " in doctor.stdout and "hashes verified" in doctor.stdout
    assert "GB free" in doctor.stdout and "numpy" in doctor.stdout


def test_versions_agree() -> None:
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    assert manifest["version"] == dasr_blender.__version__
