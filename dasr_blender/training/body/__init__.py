# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a category's body from source models: `python -m dasr_blender.training body`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ...core import Category, load_category, save_category

CATEGORIES = ("quadruped", "human")


def build(name: str, source: Path) -> Category:
    """The category `name` from its material: rigged models of animals, or MakeHuman's data folder.

    Raises CategoryError when the folder lacks something.
    """
    if name == "human":
        from .human import build_body, human

        return human(build_body(source))
    from .bundle import build_body as build_quadruped
    from .bundle import quadruped

    return quadruped(build_quadruped(source))


def main(argv: Sequence[str] | None = None) -> int:
    """Build the bundle from `--source`, or draw the sheets of a bundle that exists; returns the exit status."""
    parser = argparse.ArgumentParser(prog="dasr_blender.training body", description=__doc__)
    parser.add_argument("--category", choices=CATEGORIES, default=CATEGORIES[0], help="which body")
    parser.add_argument(
        "--source",
        "--assets",
        type=Path,
        help="folder with the material, builds the body: Husky.glb, Fox.glb and Horse.glb for the quadruped, "
        "MakeHuman's base.obj, targets/ and rigs/ for the human",
    )
    parser.add_argument(
        "--out", "--output", type=Path, help="the bundle's folder (default: the category's under models/)"
    )
    parser.add_argument(
        "--sheet", type=Path, help="write a picture of every proportion and of typical bodies"
    )
    parser.add_argument("--poses", type=Path, help="write a picture of the skin in strong poses")
    args = parser.parse_args(argv)
    out: Path = args.out or Path("models") / args.category
    if not (args.source or args.sheet or args.poses):
        parser.error("nothing to do: give --source to build the body, or --sheet / --poses to draw it")
    if args.source:
        category = build(args.category, args.source)
        if (out / "category.json").exists():
            category.training = load_category(out).training
        save_category(category, out)
        body = category.body
        print(f"{out}: {len(body.vertices)} vertices, {len(body.faces)} faces, {len(body.joints)} joints")
    if args.sheet or args.poses:
        from ..picture import write_picture
        from .sheet import morphology_sheet, pose_sheet

        category = load_category(out)
        if args.sheet:
            write_picture(args.sheet, morphology_sheet(category))
        if args.poses:
            write_picture(args.poses, pose_sheet(category))
    return 0
