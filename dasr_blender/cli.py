# SPDX-License-Identifier: GPL-3.0-or-later
"""`dasr …`, the same as `python -m dasr_blender …` and `blender -b -c dasr …`.

Exit status: 0 when every file asked for is there, 1 after one line that says what went wrong, 2 for a wrong
command line, 130 when cancelled.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import threads  # noqa: F401  before anything that imports numpy
from .arguments import TRAINING, parser
from .core import Cancelled, DasrError
from .core.streams import print_what_can_be_shown
from .protocol import CANCELLED, Canceller, Channel, leave, quiet_full_disk

if TYPE_CHECKING:
    from .clip import Subject
    from .job import JobOptions, JobResult

JOB_SHARE = 0.85  # of the progress, when a scene is built after the job


def console() -> None:
    """One command in a process of its own."""
    quiet_full_disk()
    print_what_can_be_shown()
    leave(main(sys.argv[1:]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Blender's `-c dasr` calls it with what follows the name."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in TRAINING:
        return _training(argv)
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    with Channel(getattr(arguments, "json", False)) as channel:
        try:
            return COMMANDS[arguments.command](arguments, channel)
        except (Cancelled, KeyboardInterrupt):
            channel.error("Cancelled", cancelled=True)
            return CANCELLED
        except DasrError as error:
            channel.error(str(error))
        except ImportError as error:
            channel.error(_cannot_load(error))
        except Exception as error:  # a bug: one line for the user, the rest for us
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            channel.error(f"{reason} (details in {_write_trace(arguments)})")
    return 1


def _cannot_load(error: ImportError) -> str:
    """A sentence for a package that is missing, or whose own libraries are."""
    words = f"A part of the program cannot be loaded ({str(error).splitlines()[0]})"
    if isinstance(error, ModuleNotFoundError):
        return f"{words}: install it again"
    if sys.platform == "win32":
        return (
            f"{words}: install Microsoft's Visual C++ Redistributable, and on Windows N its Media Feature Pack, "
            "and start again"
        )
    return f"{words}: dasr doctor says what is missing"


def reconstruct(arguments: argparse.Namespace, channel: Channel) -> int:
    """The main job: motion, texture, overlay and report from `job`, then scene and exports from `scene/`."""
    if arguments.formats and importlib.util.find_spec("bpy") is None:
        raise DasrError(
            f"Writing {', '.join(arguments.formats)} needs bpy, which is not installed: "
            "pip install 'dasr-blender[blender]', or ask for --formats none"
        )
    if arguments.camera == "solve" and importlib.util.find_spec("bpy") is None:
        raise DasrError(
            "--camera solve needs bpy, which is not installed: pip install 'dasr-blender[blender]', "
            "or use --camera auto"
        )
    # Heavy imports stay out of --help and of wrong command lines.
    from .job import run_job
    from .report import make_report, write_report

    options = _job_options(arguments, channel)
    share = JOB_SHARE if options.formats else 1.0
    with _canceller(channel, arguments.listen, Path(options.out)) as canceller:
        result = run_job(
            options, lambda f, stage, text: channel.progress(share * f, stage, text), canceller.asked
        )
        if options.camera == "solve":
            _solve_camera(result, channel, canceller, share)
        files = {"motion": result.motion_path}
        if result.texture_path is not None:
            files["texture"] = result.texture_path
        if result.overlay_path is not None:
            files["overlay"] = result.overlay_path
        seconds: dict[str, float] = {}
        if options.formats:
            begin = time.perf_counter()
            exported, warnings = _export(result, channel, canceller)
            files |= exported
            result.warnings += warnings
            seconds["scene"] = round(time.perf_counter() - begin, 3)
        report_path = Path(options.out) / "report.json"
        report = make_report(result, files | {"report": report_path}, seconds)
        with result.workspace.writing(report_path) as temporary:
            write_report(temporary, report)
        files["report"] = report_path
    missing = [str(path) for path in files.values() if not path.is_file() or path.stat().st_size == 0]
    missing += [f"{options.stem}.{kind}" for kind in options.formats if kind not in files]
    if missing:
        raise DasrError(f"Not written: {', '.join(missing)}; see {report_path}")
    if result.provider is not None:
        channel.log(f"the network ran on {result.provider}")
    if result.filming is not None:
        channel.log(result.filming.words())
    for warning in result.warnings:
        channel.log(f"note: {warning}")
    channel.progress(1.0, "done", "Done")
    frames = len(result.motion.frame_index)
    channel.result(
        {
            "motion": str(result.motion_path),
            "report": str(report_path),
            "files": {k: str(p) for k, p in files.items()},
            "frames": frames,
            "mean_mask_iou": report["mean_mask_iou"],
            "provider": result.provider,
            "masks": None if result.masks_path is None else str(result.masks_path),
            "camera": None if result.filming is None else result.filming.words(),
            "camera_warnings": [] if result.filming is None else result.filming.egomotion.warnings,
            "warnings": list(result.warnings),
        },
        [f"{kind:8s} {path}" for kind, path in files.items()],
    )
    return 0


def _canceller(channel: Channel, listen: bool, out: Path) -> Canceller:
    """What stops a long command."""
    from .workspace import remove_temporary

    return Canceller(channel, listen, tidy=lambda: remove_temporary(out))


def _job_options(arguments: argparse.Namespace, channel: Channel) -> JobOptions:
    from .job import JobOptions

    start, end, step = arguments.frames
    return JobOptions(
        clip=arguments.clip,
        out=str(Path(arguments.out or _own_folder(arguments.clip, channel)).absolute()),
        category=arguments.category,
        masks=arguments.masks,
        corrections=tuple(arguments.correct),
        start=start,
        end=end,
        step=step,
        subject=_to_subject(arguments.subject, start or 0),
        focal=arguments.focal,
        camera=arguments.camera,
        fps=arguments.fps,
        place=arguments.place,
        formats=arguments.formats,
        names=arguments.names,
        texture=arguments.texture,
        overlay=arguments.overlay,
        provider=arguments.provider,
        threads=arguments.threads,
        quality=arguments.quality,
    )


def _own_folder(clip: str, channel: Channel) -> Path:
    """Where the results go when nothing is said: beside those of another clip of that name."""
    from .core.files import whole_name
    from .core.results import free_folder

    usual = Path(f"{whole_name(clip)}-dasr")
    folder = free_folder(usual, clip)
    if folder != usual:
        channel.log(f"note: {usual} holds what another clip gave, so these results go into {folder}")
    return folder


def _export(result: JobResult, channel: Channel, canceller: Canceller) -> tuple[dict[str, Path], list[str]]:
    """Build the scene in this process and write the formats asked for; returns format → file, and warnings."""
    from .core.files import expanded
    from .scene.standalone import write_files

    options = result.options

    def step(fraction: float, text: str) -> None:
        canceller.check()
        channel.progress(JOB_SHARE + (1 - JOB_SHARE) * fraction, "scene", text)

    return write_files(
        result.category,
        result.motion,
        clip_path=expanded(options.clip).resolve(),
        out_dir=Path(options.out),
        formats=options.formats,
        stem=options.stem,
        placement=options.place,
        names=options.names,
        texture=result.texture_path,
        progress=step,
    )


def _solve_camera(result: JobResult, channel: Channel, canceller: Canceller, share: float) -> None:
    """Replace the camera's movement by what Blender's tracker finds; where it fails, say so and keep it."""
    from dataclasses import replace

    from .clip import Masks, background
    from .scene.solve import CameraSolveError, solve_camera, with_solved

    def step(_: float, text: str) -> None:
        canceller.check()
        channel.progress(share, "camera", text)

    masks = Masks.load(result.masks_path) if result.masks_path is not None else None
    if masks is None or result.filming is None:
        raise DasrError(f"The masks of {result.options.clip} are gone: reconstruct it again")
    begin = time.perf_counter()
    try:
        solved = solve_camera(result.motion, result.options.clip, lambda i: background(masks, i) > 0, step)
    except CameraSolveError as error:
        result.warnings.append(str(error))
        return
    finally:
        result.seconds["solve"] = round(time.perf_counter() - begin, 3)
    result.warnings = [w for w in result.warnings if w not in result.filming.egomotion.warnings]
    result.motion, words = with_solved(result.category, result.motion, solved)
    result.filming = replace(result.filming, solved=words)
    result.motion.save(result.motion_path)


def retarget(arguments: argparse.Namespace, channel: Channel) -> int:
    """A reconstruction's motion on a character of the user's."""
    if importlib.util.find_spec("bpy") is None:
        raise DasrError("retarget needs bpy, which is not installed: pip install 'dasr-blender[blender]'")
    from .core import Motion, load_category
    from .core.bone_map import read_bones, write_bones
    from .core.files import whole_name
    from .core.results import named_clip, reported_clip
    from .scene.standalone import write_retargeted

    motion_path, character = Path(arguments.motion), Path(arguments.character).absolute()
    if motion_path.is_dir():
        motion_path /= "motion.npz"
    motion = Motion.load(motion_path)
    category = load_category(arguments.category or motion.category)
    out = Path(arguments.out or motion_path.parent).absolute()
    clip, unseen = reported_clip(motion_path.parent, motion)
    stem = f"{whole_name(named_clip(motion_path.parent) or motion.source or 'motion')}-on-{character.stem}"
    bones_path = out / f"{stem}.bones.json"
    said = Path(arguments.bones) if arguments.bones else bones_path if bones_path.is_file() else None
    bones = None if said is None else read_bones(said, category.skeleton.names)
    with _canceller(channel, arguments.listen, out) as canceller:

        def step(fraction: float, text: str) -> None:
            canceller.check()
            channel.progress(fraction, "retarget", text)

        files, used, warnings = write_retargeted(
            category, motion, character, bones=bones, clip_path=clip, out_dir=out, formats=arguments.formats,
            stem=stem, placement=arguments.place, in_clip=arguments.in_clip, free=not arguments.keep_constraints,
            progress=step,
        )  # fmt: skip
        files["bones"] = write_bones(bones_path, used)
    if arguments.in_clip and unseen:
        warnings = [unseen, *warnings]
    for warning in warnings:
        channel.log(f"note: {warning}")
    channel.progress(1.0, "done", "Done")
    result = {"files": {k: str(p) for k, p in files.items()}, "bones": used, "warnings": warnings}
    channel.result(result, [f"{kind:8s} {path}" for kind, path in files.items()])
    return 0


def categories(arguments: argparse.Namespace, channel: Channel) -> int:
    """List the installed categories; status 1 when one of them is damaged or there is none."""
    from .core import list_categories, load_category

    rows, lines, whole = [], [], True
    for name, folder in list_categories().items():
        try:
            category = load_category(folder)
        except DasrError as error:
            whole = False
            rows.append({"name": name, "path": str(folder), "error": str(error)})
            lines.append(f"{name}: {error}")
            continue
        rows.append(
            {
                "name": category.name,
                "version": category.version,
                "licence": category.licence,
                "path": str(folder),
                "joints": len(category.skeleton),
                "vertices": len(category.body.vertices),
                "morphology": list(category.morphology_names),
                "network": category.predictor_path is not None,
            }
        )
        lines.append(
            f"{category.name} {category.version}  {len(category.skeleton)} joints, "
            f"{len(category.body.vertices)} vertices, {category.licence}  {folder}"
        )
        if category.predictor_path is None:
            lines.append("  has no predictor.onnx yet")
    if not rows:
        raise DasrError("No category is installed; dasr doctor says where they are looked for")
    channel.result({"categories": rows}, lines)
    return 0 if whole else 1


def run_doctor(arguments: argparse.Namespace, channel: Channel) -> int:
    """Say what is there and what is missing; status 1 when something has to be mended."""
    from .doctor import examine

    findings = list(examine())
    channel.result(
        {"findings": [{"level": f.level, "topic": f.topic, "text": f.text} for f in findings]},
        [f"{f.level:5s}{f.topic:13s}{f.text}" for f in findings],
    )
    return 1 if any(finding.level == "bad" for finding in findings) else 0


def demo_clip(arguments: argparse.Namespace, channel: Channel) -> int:
    """Render the demo clip."""
    from .core import load_category
    from .demo import DemoOptions, write_demo_clip

    folder = Path(arguments.out)
    category = load_category(arguments.category)
    channel.progress(0.0, "demo", "Rendering the clip")
    with _canceller(channel, arguments.listen, folder) as canceller:

        def step(fraction: float, text: str) -> None:
            canceller.check()
            channel.progress(fraction, "demo", text)

        try:
            path = write_demo_clip(folder, category, DemoOptions(frames=arguments.count), step)
        except OSError as error:
            raise DasrError(f"Cannot write into {folder}: {error.strerror or error}") from error
    channel.result({"clip": str(path), "masks": str(folder / "masks")}, [f"clip     {path}"])
    return 0


def _training(argv: list[str]) -> int:
    """A command of the training part, which reads its own options and says itself which package it misses."""
    try:
        from .training.__main__ import main as run
    except ModuleNotFoundError:
        print(
            f"dasr {argv[0]} belongs to the training part, which is not in this copy: install the project with "
            "pip install 'dasr-blender[train]'",
            file=sys.stderr,
        )
        return 1
    try:
        return run(argv)
    except SystemExit as stop:  # --help, or a wrong option, of which its parser has told
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _to_subject(given: tuple[tuple[float, ...], int | None] | None, first: int) -> Subject | None:
    """The subject as given, in the first frame where no other is named."""
    if given is None:
        return None
    from .clip import Subject

    numbers = given[0]
    frame = first if given[1] is None else given[1]
    if len(numbers) == 2:
        return Subject(frame=frame, point=(numbers[0], numbers[1]), box=None)
    return Subject(frame=frame, point=None, box=(numbers[0], numbers[1], numbers[2], numbers[3]))


def _write_trace(arguments: argparse.Namespace) -> str:
    """Put the traceback of a bug into the results' folder, or else the temporary one; returns the file."""
    text = traceback.format_exc()
    for folder in (getattr(arguments, "out", None), tempfile.gettempdir()):
        if folder and os.path.isdir(folder):
            path = Path(folder) / "dasr-error.log"
            try:
                path.write_text(text, encoding="utf-8")
                return str(path)
            except OSError:
                continue
    print(text, file=sys.stderr)
    return "the lines above"


COMMANDS = {
    "reconstruct": reconstruct,
    "retarget": retarget,
    "categories": categories,
    "doctor": run_doctor,
    "demo-clip": demo_clip,
}
