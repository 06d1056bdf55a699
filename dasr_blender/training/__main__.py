# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m dasr_blender.training COMMAND …`: every step from rigged models to a published predictor.

Exit status: 0 when all is done, 1 after one line that says what is wrong, 2 for a wrong command line, 130 when
interrupted, 141 when nobody reads any more what is printed. What nobody foresaw keeps its traceback.
"""

from __future__ import annotations

import importlib
import os
import sys

from .. import threads  # noqa: F401  before a command imports numpy
from ..core.errors import DasrError
from ..core.streams import print_what_can_be_shown

INTERRUPTED, UNREAD = 130, 141

# command: (module, function, what it does); in the order in which a category is made
COMMANDS: dict[str, tuple[str, str, str]] = {
    "bake": ("synth.bake", "main_bake", "rigged models to plain arrays (glTF needs bpy)"),
    "body": ("body", "main", "the category's body from the rigs"),
    "map": ("synth.mapping", "main_map", "each rig's poses as the category's parameters"),
    "synth": ("synth.clips", "main", "rendered clips with labels (needs OpenGL through EGL)"),
    "pack": ("pack", "main", "clip folders to one file of crops and targets"),
    "train": ("distill", "main", "the student, from packed clips"),
    "new-category": ("new_category", "main", "a category from a skeleton template and videos alone"),
    "teach": ("teacher.run", "main", "pseudo ground truth from ordinary videos, by a neural field"),
    "average": ("average", "main", "the mean of several networks' weights"),
    "export": ("export", "main", "the student to the category's predictor.onnx"),
    "export-small": ("export_small", "main", "a smaller file of an exported network"),
    "refine": ("refiner.train", "main", "the refiner, from clips and the student's answers to them"),
    "export-refiner": ("refiner.export", "main", "the refiner to the category's refiner.onnx"),
    "landmarks": ("landmarks", "main", "BlazePose to a category's landmarks.onnx"),
    "distill-report": (
        "distill_report",
        "main",
        "a student before and after learning from a teacher",
    ),
    "ablate": ("ablate", "main", "what each part of the student is worth, and DASR's own configuration"),
    "evaluate": ("evaluate", "main", "the scores we publish"),
    "joint-map": (
        "evaluate.joint_map",
        "main",
        "guess which bones of a rig are the category's joints (needs bpy)",
    ),
}


def usage() -> str:
    """One line a command."""
    lines = "\n".join(f"  {name:14} {what}" for name, (_, _, what) in COMMANDS.items())
    return f"usage: python -m dasr_blender.training COMMAND …\n\ncommands (each has --help):\n{lines}"


def sentence(error: DasrError | OSError) -> str:
    """What an error says; of the system's, the file and what is the matter with it."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename2 or error.filename}: {error.strerror}"  # a file that is moved bears a passing name
    return str(error)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status. Imports only that command's module."""
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            print(end="", flush=True)  # not when the interpreter ends, which makes a traceback of it
    except BrokenPipeError:  # as of `teach --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[:2] == ["train", "new-category"]:
        arguments = arguments[1:]
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(f"There is no command '{name}'.\n{usage()}", file=sys.stderr)
        return 2
    module, function, _ = COMMANDS[name]
    try:
        loaded = importlib.import_module(f".{module}", package=__package__)
        return int(getattr(loaded, function)(rest) or 0)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "dasr_blender":
            raise
        print(
            f"'{name}' needs the package '{error.name}': pip install 'dasr-blender[train]'.", file=sys.stderr
        )
    except KeyboardInterrupt:
        print(f"{name}: interrupted; what was finished until then is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except (DasrError, OSError) as error:
        print(f"{name}: {sentence(error)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    print_what_can_be_shown()
    raise SystemExit(main())
