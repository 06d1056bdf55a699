# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the quadruped category's body from rigged source models: `python -m dasr_blender.training body`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ...core import load_category, save_category


def main(argv: Sequence[str] | None = None) -> int:
    """Build the bundle from `--assets`, or draw the sheets of a bundle that exists; returns the exit status."""
    parser = argparse.ArgumentParser(prog="dasr_blender.training body", description=__doc__)
    parser.add_argument(
        "--assets", type=Path, help="folder with Husky.glb, Fox.glb and Horse.glb; builds the body"
    )
    parser.add_argument("--output", type=Path, default=Path("models/quadruped"), help="the bundle's folder")
    parser.add_argument("--sheet", type=Path, help="write a picture of every proportion and of nine animals")
    parser.add_argument("--poses", type=Path, help="write a picture of the skin in strong poses")
    args = parser.parse_args(argv)
    if not (args.assets or args.sheet or args.poses):
        parser.error("nothing to do: give --assets to build the body, or --sheet / --poses to draw it")
    if args.assets:
        from .bundle import build_body, quadruped

        category = quadruped(build_body(args.assets))
        save_category(category, args.output)
        body = category.body
        print(
            f"{args.output}: {len(body.vertices)} vertices, {len(body.faces)} faces, {len(body.joints)} joints"
        )
    if args.sheet or args.poses:
        from .sheet import morphology_sheet, pose_sheet, write_png

        category = load_category(args.output)
        if args.sheet:
            write_png(args.sheet, morphology_sheet(category))
        if args.poses:
            write_png(args.poses, pose_sheet(category))
    return 0
