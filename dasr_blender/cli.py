# SPDX-License-Identifier: GPL-3.0-or-later
"""`dasr …`, the same as `python -m dasr_blender …` and `blender -b -c dasr …`.

Exit status: 0 when every file asked for is there, 1 after one line that says what went wrong, 2 for a wrong
command line, 130 when cancelled.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .core import DasrError
from .protocol import CANCELLED, Canceller, Channel

if TYPE_CHECKING:
    from .clip import Subject
    from .job import JobOptions

FORMATS = ("blend", "glb", "fbx", "usd", "bvh")
DEFAULT_FORMATS = "blend,glb,fbx"
JOB_SHARE = 0.85  # of the progress, when a scene is built after the job


def console() -> None:
    """Entry point of the console script."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Blender's `-c dasr` calls it with what follows the name."""
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    with Channel(getattr(arguments, "json", False)) as channel:
        try:
            return arguments.command(arguments, channel)
        except DasrError as error:
            channel.error(str(error))
        except KeyboardInterrupt:
            channel.error("Cancelled", cancelled=True)
            return CANCELLED
        except Exception as error:  # a bug: one line for the user, the rest for us
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            channel.error(f"{reason} (details in {_write_trace(arguments)})")
    return 1


def parser() -> argparse.ArgumentParser:
    """The one command line."""
    root = argparse.ArgumentParser(
        prog="dasr", description="A video clip of an animal in, its mesh on an animated armature out."
    )
    root.add_argument("--version", action="version", version=f"dasr {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_reconstruct(commands)
    listing = commands.add_parser("categories", help="list the categories that are installed")
    listing.set_defaults(command=categories)
    doctor = commands.add_parser("doctor", help="check versions, models, execution providers and disk space")
    doctor.set_defaults(command=run_doctor)
    demo = commands.add_parser(
        "demo-clip", help="render a small clip of a walking animal, with its true masks"
    )
    demo.add_argument("out", metavar="OUT", help="folder to write into")
    demo.add_argument(
        "--category", default="quadruped", metavar="NAME", help="name or folder (default: quadruped)"
    )
    demo.add_argument(
        "--count", type=_positive_int, default=48, metavar="N", help="number of frames (default: 48)"
    )
    demo.set_defaults(command=demo_clip)
    for command in (listing, doctor, demo):
        command.add_argument("--json", action="store_true", help="print messages as JSON, one object a line")
    return root


def _add_reconstruct(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "reconstruct",
        help="from a clip to an animated rig",
        description="Reconstruct the animal in CLIP: a video file, a folder of frames, or a pattern (shot.####.png).",
    )
    command.set_defaults(command=reconstruct)
    command.add_argument("clip", metavar="CLIP")
    command.add_argument(
        "--category", default="quadruped", metavar="NAME", help="name or folder (default: quadruped)"
    )
    command.add_argument(
        "--masks", metavar="DIR", help="folder with one mask image a frame (default: alpha, else automatic)"
    )
    command.add_argument(
        "--frames",
        type=_frames,
        default=(None, None, 1),
        metavar="A:B:S",
        help="frames A to B, B left out, every S-th; counted from 0",
    )
    command.add_argument(
        "--subject",
        type=_subject,
        metavar="X,Y|X,Y,W,H[@FRAME]",
        help="a point on the animal, or a box round it, in pixels of the clip",
    )
    command.add_argument(
        "--focal", type=_positive, metavar="PX", help="focal length in pixels (default: 1.2 × longer side)"
    )
    command.add_argument("--fps", type=_positive, metavar="F", help="frames a second, if the file is wrong")
    command.add_argument(
        "--place",
        choices=("camera", "root", "ground"),
        default="camera",
        help="keep the camera still, or the animal's root, or put it on the ground (default: camera)",
    )
    command.add_argument(
        "--formats",
        type=_formats,
        default=_formats(DEFAULT_FORMATS),
        metavar="LIST",
        help=f"of {','.join(FORMATS)}; none for motion.npz alone (default: {DEFAULT_FORMATS})",
    )
    command.add_argument(
        "--names", choices=("neutral", "rigify"), default="neutral", help="names of the bones"
    )
    command.add_argument("--out", metavar="DIR", help="folder for the results (default: <clip>-dasr)")
    command.add_argument(
        "--overlay",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write a video of the body over the clip",
    )
    command.add_argument("--json", action="store_true", help="print messages as JSON, one object a line")


def reconstruct(arguments: argparse.Namespace, channel: Channel) -> int:
    """The main job: motion, overlay and report from `job`, then scene and exports from `scene/`."""
    if arguments.formats and importlib.util.find_spec("bpy") is None:
        raise DasrError(
            f"Writing {', '.join(arguments.formats)} needs bpy, which is not installed: "
            "pip install 'dasr-blender[blender]', or ask for --formats none"
        )
    # Heavy imports stay out of --help and of wrong command lines.
    from .job import Cancelled, run_job
    from .report import make_report, write_report
    from .workspace import remove_temporary

    options = _job_options(arguments)
    share = JOB_SHARE if options.formats else 1.0
    with Canceller(
        channel, listen=channel.as_json, tidy=lambda: remove_temporary(Path(options.out))
    ) as canceller:
        try:
            result = run_job(
                options, lambda f, stage, text: channel.progress(share * f, stage, text), canceller.asked
            )
            files = {"motion": result.motion_path}
            if result.overlay_path is not None:
                files["overlay"] = result.overlay_path
            seconds: dict[str, float] = {}
            if options.formats:
                channel.progress(share, "scene", "Building the scene")
                begin = time.perf_counter()
                files |= _export(result, canceller)
                seconds["scene"] = round(time.perf_counter() - begin, 3)
        except Cancelled:
            channel.error("Cancelled", cancelled=True)
            return CANCELLED
        report_path = Path(options.out) / "report.json"
        report = make_report(result, files | {"report": report_path}, seconds)
        with result.workspace.writing(report_path) as temporary:
            write_report(temporary, report)
        files["report"] = report_path
    missing = [str(path) for path in files.values() if not path.is_file() or path.stat().st_size == 0]
    missing += [f"{options.stem}.{kind}" for kind in options.formats if kind not in files]
    if missing:
        raise DasrError(f"Not written: {', '.join(missing)}; see {report_path}")
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
            "warnings": list(result.warnings),
        },
        [f"{kind:8s} {path}" for kind, path in files.items()],
    )
    return 0


def _job_options(arguments: argparse.Namespace) -> JobOptions:
    from .job import JobOptions, clip_stem

    start, end, step = arguments.frames
    return JobOptions(
        clip=arguments.clip,
        out=arguments.out or f"{clip_stem(arguments.clip)}-dasr",
        category=arguments.category,
        masks=arguments.masks,
        start=start,
        end=end,
        step=step,
        subject=_to_subject(arguments.subject),
        focal=arguments.focal,
        fps=arguments.fps,
        place=arguments.place,
        formats=arguments.formats,
        names=arguments.names,
        overlay=arguments.overlay,
    )


def _export(result, canceller: Canceller) -> dict[str, Path]:
    """Build the scene in this process and write the formats asked for; returns format → file."""
    from .job import Cancelled
    from .scene import build_scene, export_scene, plan_scene

    if canceller.asked():
        raise Cancelled("Stopped as asked")
    options = result.options
    plan = plan_scene(
        result.category,
        result.motion,
        clip_path=str(Path(options.clip).resolve()),
        placement=options.place,
        names=options.names,
        own_scene=True,
    )
    built = build_scene(plan)
    with result.workspace.guarding(Path(options.out)):
        return export_scene(built, Path(options.out), options.formats, options.stem)


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
    try:
        path = write_demo_clip(
            folder,
            category,
            DemoOptions(frames=arguments.count),
            lambda fraction, text: channel.progress(fraction, "demo", text),
        )
    except OSError as error:
        raise DasrError(f"Cannot write into {folder}: {error.strerror or error}") from error
    channel.result({"clip": str(path), "masks": str(folder / "masks")}, [f"clip     {path}"])
    return 0


def _frames(text: str) -> tuple[int | None, int | None, int]:
    parts = text.split(":")
    try:
        numbers = [int(part) if part else None for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or any(n is not None and n < 0 for n in numbers):
        raise argparse.ArgumentTypeError(f"'{text}' is not A:B:S, such as 10:90 or ::2")
    if len(numbers) == 1:  # one frame
        first = numbers[0]
        if first is None:
            raise argparse.ArgumentTypeError("give a frame, or A:B:S")
        return first, first + 1, 1
    start, end, step = [*numbers, None][:3]
    if step == 0 or (end is not None and end <= (start or 0)):
        raise argparse.ArgumentTypeError(f"'{text}' holds no frame: A must be below B and S at least 1")
    return start, end, step or 1


def _subject(text: str) -> tuple[tuple[float, ...], int]:
    place, _, frame = text.partition("@")
    try:
        numbers = tuple(float(part) for part in place.split(","))
        number = int(frame) if frame else 0
    except ValueError:
        numbers, number = (), 0
    whole = len(numbers) in (2, 4) and all(map(math.isfinite, numbers)) and number >= 0
    if not whole or (len(numbers) == 4 and min(numbers[2:]) <= 0):
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither X,Y nor X,Y,W,H (then @FRAME for another frame than 0)"
        )
    return numbers, number


def _to_subject(given: tuple[tuple[float, ...], int] | None) -> Subject | None:
    if given is None:
        return None
    from .clip import Subject

    numbers, frame = given
    if len(numbers) == 2:
        return Subject(frame=frame, point=(numbers[0], numbers[1]), box=None)
    return Subject(frame=frame, point=None, box=(numbers[0], numbers[1], numbers[2], numbers[3]))


def _formats(text: str) -> tuple[str, ...]:
    names = [part.strip().lower().lstrip(".") for part in text.split(",") if part.strip()]
    if names in (["none"], []):
        return ()
    if names == ["all"]:
        return FORMATS
    if unknown := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(f"no format '{unknown[0]}'; there are {', '.join(FORMATS)} and none")
    return tuple(dict.fromkeys(names))


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


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
