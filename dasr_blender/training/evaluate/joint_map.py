# SPDX-License-Identifier: GPL-3.0-or-later
"""Joint maps: a small JSON file that says which bone of a rig plays which joint of the category.

    {"front_upper.L": "FrontUpperLeg.L", "front_lower.L": null, …}

A joint lies at its bone's head; null where the rig has no such place. `joint-map` guesses one from the bones' names,
their tree and where they lie, for a person to mend.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...core.bone_map import match_bones, read_bones, write_bones
from ...core.category import load_category
from ...core.errors import DasrError
from ..errors import TrainingError
from ..synth.rig import Rig
from .bake_any import bake_any

SUFFIX = ".joints.json"


def read_joint_map(path: Path, rig: Rig, joint_names: Sequence[str]) -> dict[str, int]:
    """Joint → number of its bone, for the joints that the file maps.

    Raises TrainingError that names the file and the joint or bone that does not exist.
    """
    try:
        bones = read_bones(path, joint_names)
    except DasrError as error:
        raise TrainingError(str(error)) from error
    for joint, bone in bones.items():
        if bone and bone not in rig.bone_names:
            raise TrainingError(f"{path}: the rig has no bone '{bone}' (for '{joint}'); mend its name or put null")
    return {joint: rig.bone_names.index(bone) for joint, bone in bones.items() if bone}


def main(argv: list[str] | None = None) -> int:
    """`joint-map RIG.glb --category quadruped`: guess a joint map and write it beside the rig.

    Raises TrainingError for a file that is there already, which may have been mended by hand.
    """
    parser = argparse.ArgumentParser(
        prog="joint-map", description=__doc__.split("\n")[0] if __doc__ else None
    )
    parser.add_argument("rig", type=Path, help="rigged model, .glb or .gltf")
    parser.add_argument("--category", default="quadruped", help="name or folder (default: quadruped)")
    parser.add_argument("--out", type=Path, help=f"file to write (default: <rig>{SUFFIX} beside the rig)")
    options = parser.parse_args(argv)
    out = options.out or options.rig.with_name(options.rig.stem + SUFFIX)
    if out.exists():
        raise TrainingError(f"{out} is there already, and may be mended: move it, or write another file with --out")
    category = load_category(options.category)
    with tempfile.TemporaryDirectory() as folder:
        rig = bake_any(options.rig, Path(folder))
    found = match_bones(category, rig.bone_names, rig.bone_parents, rig.bone_heads)
    write_bones(out, found)
    known = sum(bone is not None for bone in found.values())
    print(f"{known} of {len(found)} joints guessed; look through {out} and mend what is wrong")
    return 0
