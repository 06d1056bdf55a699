# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `dasr`: its commands, options, and how their values are read."""

from __future__ import annotations

import argparse
import math

from . import __version__

FORMATS = ("blend", "glb", "fbx", "usd", "bvh")
CHARACTER_FORMATS = ("blend", "glb", "fbx", "usd")
DEFAULT_FORMATS = "blend,glb,fbx"
# as in predict.providers, which is slow to import
PROVIDERS = {
    "auto": "Automatic",
    "cuda": "CUDA",
    "directml": "DirectML",
    "coreml": "CoreML",
    "cpu": "CPU",
}
# as in predict.fit_config: how hard the result is bent onto the picture
QUALITIES = {
    "draft": ("Draft", "The network's answer as it is, tracked and smoothed"),
    "standard": ("Standard", "Bent onto the masks in a few steps"),
    "best": ("Best", "Bent until nothing changes"),
}
# Commands of the training part, which is asked with everything that follows their names.
TRAINING = {
    "evaluate": "score a category's predictor on rendered clips, real clips and rigged models",
    "train": "train new-category makes a category from a skeleton template and videos; train alone, a student from "
    "packed clips",
    "joint-map": "guess which bones of a rigged model are the category's joints",
}


def parser() -> argparse.ArgumentParser:
    """The one command line."""
    root = argparse.ArgumentParser(
        prog="dasr", description="A video clip of an animal or a person in, its mesh on an animated armature out."
    )
    root.add_argument("--version", action="version", version=f"dasr {__version__}")
    commands = root.add_subparsers(title="commands", required=True, dest="command", metavar="COMMAND")
    _add_reconstruct(commands)
    _add_retarget(commands)
    listing = commands.add_parser("categories", help="list the categories that are installed")
    doctor = commands.add_parser("doctor", help="check versions, models, execution providers and disk space")
    demo = commands.add_parser(
        "demo-clip", help="render a small clip of the category's body walking, with its true masks"
    )
    demo.add_argument("out", type=_given, metavar="OUT", help="folder to write into")
    demo.add_argument(
        "--category",
        type=_given,
        default="quadruped",
        metavar="NAME",
        help="name or folder: quadruped (default) or human",
    )
    demo.add_argument(
        "--count", type=_positive_int, default=48, metavar="N", help="number of frames (default: 48)"
    )
    for name, what in TRAINING.items():  # listed here, read there
        commands.add_parser(name, help=what, add_help=False)
    _add_listen(demo)
    for command in (listing, doctor, demo):
        _add_json(command)
    return root


def _add_reconstruct(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "reconstruct",
        help="from a clip to an animated rig",
        description="Reconstruct the subject of CLIP: a video file, a folder of frames, or a pattern (shot.####.png).",
    )
    command.add_argument("clip", type=_given, metavar="CLIP")
    command.add_argument(
        "--category",
        type=_given,
        default="quadruped",
        metavar="NAME",
        help="name or folder: quadruped (default) or human",
    )
    command.add_argument(
        "--masks",
        type=_given,
        metavar="DIR",
        help="folder with one mask image a frame (default: alpha of images, else automatic)",
    )
    command.add_argument(
        "--frames",
        type=_frames,
        default=(None, None, 1),
        metavar="A:B:S",
        help="frames A to B, B left out, every S-th; counted from 0; a single number is one frame",
    )
    command.add_argument(
        "--subject",
        type=_subject,
        metavar="X,Y|X,Y,W,H[@FRAME]",
        help="a point on the subject, or a box round it, in pixels of the clip",
    )
    command.add_argument(
        "--correct",
        action="append",
        type=_given,
        default=[],
        metavar="F:X,Y|F:!X,Y|F:X,Y,W,H|F:FILE|DIR",
        help="correct the automatic mask of frame F, and with it its neighbours: a point on the subject, one beside "
        "it, a box round it, a mask image, or a folder of masks named by their frame's number; may be given again",
    )
    command.add_argument(
        "--focal",
        type=_positive,
        metavar="PX",
        help="focal length in pixels (default: as the file or a wide pan tells, else 1.2 × longer side)",
    )
    command.add_argument(
        "--camera",
        choices=("auto", "still", "solve"),
        default="auto",
        help="find how it turns, zooms and travels, take it to stand still, or solve it with Blender's motion tracker",
    )
    command.add_argument("--fps", type=_positive, metavar="F", help="frames a second, if the file is wrong")
    _add_place(command, default="camera")
    command.add_argument(
        "--formats",
        type=_formats,
        default=_formats(DEFAULT_FORMATS),
        metavar="LIST",
        help=f"of {','.join(FORMATS)}; none for motion.npz alone (default: {DEFAULT_FORMATS})",
    )
    command.add_argument(
        "--names",
        default="neutral",
        metavar="PROFILE",
        help="names of the bones: neutral or rigify, for a human also mixamo, unreal or unity (default: neutral)",
    )
    command.add_argument(
        "--out",
        type=_given,
        metavar="DIR",
        help="folder for the results (default: <clip>-dasr, or <clip>-dasr-2 where that holds another clip's)",
    )
    command.add_argument(
        "--texture",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="give the mesh a texture of what the frames show, else the network's plain colours",
    )
    command.add_argument(
        "--overlay",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write a video of the body over the clip",
    )
    command.add_argument(
        "--quality",
        choices=tuple(QUALITIES),
        default="standard",
        help="how hard the body is bent onto the picture: not at all, in a few steps, or until nothing changes "
        "(default: standard)",
    )
    command.add_argument(
        "--provider",
        choices=tuple(PROVIDERS),
        default="auto",
        help="what the network runs on (default: auto, the best that starts)",
    )
    command.add_argument(
        "--threads",
        type=_positive_int,
        default=0,
        metavar="N",
        help="processor threads of the networks, as many as there are at most (default: one a core)",
    )
    _add_json(command)
    _add_listen(command)


def _add_retarget(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "retarget",
        help="a reconstruction's motion on your own character",
        description="Key a reconstruction's motion onto CHARACTER: a .glb, .gltf, .fbx or .blend with one armature.",
    )
    command.add_argument("motion", type=_given, metavar="MOTION", help="folder of a reconstruction, or its motion.npz")
    command.add_argument("character", type=_given, metavar="CHARACTER")
    command.add_argument(
        "--bones",
        type=_given,
        metavar="FILE",
        help="JSON, joint to bone or null (default: what an earlier run wrote there, else told from names and places)",
    )
    command.add_argument(
        "--in-clip",
        action="store_true",
        help="move and scale the character to where the subject is, and add the clip's camera",
    )
    command.add_argument(
        "--keep-constraints",
        action="store_true",
        help="leave constraints on that move the character's bones whatever their keys say, such as the IK of legs",
    )
    _add_place(command, default="ground")
    command.add_argument(
        "--formats",
        type=_character_formats,
        default=_formats(DEFAULT_FORMATS),
        metavar="LIST",
        help=f"of {','.join(CHARACTER_FORMATS)} (default: {DEFAULT_FORMATS})",
    )
    command.add_argument("--category", type=_given, metavar="NAME", help="name or folder (default: the motion's own)")
    command.add_argument("--out", type=_given, metavar="DIR", help="folder for the files (default: MOTION's)")
    _add_json(command)
    _add_listen(command)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print messages as JSON, one object a line")


def _add_place(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--place",
        choices=("camera", "root", "ground"),
        default=default,
        help="put it before the first frame's camera, keep the subject's root still, or put it on the ground "
        f"(default: {default})",
    )


def _add_listen(command: argparse.ArgumentParser) -> None:
    """For a worker, whose parent process asks it to stop on its stdin."""
    command.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)


def _given(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: give a file, a folder or a name")
    return text


def _frames(text: str) -> tuple[int | None, int | None, int]:
    parts = text.split(":")
    try:
        numbers = [int(part) if part else None for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or any(n is not None and n < 0 for n in numbers):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not A:B:S, such as 10:90 or ::2, counted from 0, no negative numbers"
        )
    if len(numbers) == 1:  # one frame
        first = numbers[0]
        if first is None:
            raise argparse.ArgumentTypeError("give a frame, or A:B:S")
        return first, first + 1, 1
    start, end, step = [*numbers, None][:3]
    if step == 0 or (end is not None and end <= (start or 0)):
        raise argparse.ArgumentTypeError(f"'{text}' holds no frame: A must be below B and S at least 1")
    return start, end, step or 1


def _subject(text: str) -> tuple[tuple[float, ...], int | None]:
    place, _, frame = text.partition("@")
    try:
        numbers = tuple(float(part) for part in place.split(","))
        number = int(frame) if frame else None
    except ValueError:
        numbers, number = (), None
    whole = len(numbers) in (2, 4) and all(map(math.isfinite, numbers)) and (number is None or number >= 0)
    if not whole or (len(numbers) == 4 and min(numbers[2:]) <= 0):
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither X,Y nor X,Y,W,H (then @FRAME for another frame than the first)"
        )
    return numbers, number


def _formats(text: str) -> tuple[str, ...]:
    names = [part.strip().lower().lstrip(".") for part in text.split(",") if part.strip()]
    if names in (["none"], []):
        return ()
    if names == ["all"]:
        return FORMATS
    if alone := [name for name in names if name in ("none", "all")]:
        raise argparse.ArgumentTypeError(f"'{text}' says more than {alone[0]}: give that alone, or leave it out")
    if unknown := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(f"no format '{unknown[0]}'; there are {', '.join(FORMATS)} and none")
    return tuple(dict.fromkeys(names))


def _character_formats(text: str) -> tuple[str, ...]:
    names = CHARACTER_FORMATS if text.strip().lower() == "all" else _formats(text)
    if not names or "bvh" in names:
        raise argparse.ArgumentTypeError(f"'{text}': give some of {', '.join(CHARACTER_FORMATS)}")
    return names


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
