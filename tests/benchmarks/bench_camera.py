# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera, world and feet against the truth of rendered clips, and real clips seen from above.

    python tests/benchmarks/bench_camera.py [--frames 72] [--out DIR] [--clips DIR] [--solve]

A quadruped walks over a textured floor before a painted panorama; the camera pans, is held by hand, zooms, or
travels. For each: the camera's rotation, zoom and focal length from the picture; the subject's path in the world
and how far standing feet slide in it, once with the true motion before the found camera (only the camera can be
wrong) and once with the reconstructed one. With --clips, folders of frames and masks (as DAVIS has them) are
reconstructed and drawn from above: a picture to look at. --solve adds Blender's tracker.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from filmed import Film, film

from dasr_blender.clip import background, find_egomotion, load_clip, masks_from_folder
from dasr_blender.core import (
    Category,
    Motion,
    filmed_by,
    filmed_following,
    find_contacts,
    find_feet,
    find_floor,
    leg_length,
    load_category,
)
from dasr_blender.core.rotation import geodesic
from dasr_blender.job import JobOptions, run_job
from dasr_blender.overlay import write_video

SIZE = (640, 360)


def path_error(found: np.ndarray, truth: np.ndarray, scaled: bool = False) -> tuple[float, float]:
    """Largest and mean distance between two paths (T, 3), in percent of the true one's length. scaled: one
    factor for the whole path is free, because one camera does not see how large anything is."""
    factor = float((found * truth).sum() / (found * found).sum()) if scaled else 1.0
    gap = np.linalg.norm(factor * found - truth, axis=1)
    length = np.linalg.norm(np.diff(truth, axis=0), axis=1).sum()
    return float(100 * gap.max() / length), float(100 * gap.mean() / length)


def slide(category: Category, motion: Motion, standing: np.ndarray) -> float:
    """Mean way of a standing foot along the floor, percent of the leg's length a frame."""
    feet = find_feet(category, motion)
    normal, _ = find_floor(motion, feet, category.nominal_size)
    step = np.diff(feet.sole, axis=0)
    step = step - (step @ normal)[..., None] * normal
    both = standing[1:] & standing[:-1]
    if not both.any():
        return float("nan")
    return float(100 * np.linalg.norm(step, axis=-1)[both].mean() / leg_length(category, motion.morphology))


def write_clip(made: Film, folder: Path) -> tuple[Path, Path]:
    """The film as a compressed movie and a folder of masks."""
    masks = folder / "masks"
    masks.mkdir(parents=True, exist_ok=True)
    for t, mask in enumerate(made.masks):
        cv2.imwrite(str(masks / f"{t:05d}.png"), mask)
    path = folder / "clip.mp4"
    write_video(path, iter(made.frames), SIZE, made.motion.fps, len(made.frames))
    made.motion.save(folder / "truth.npz")
    return path, masks


def measure(category: Category, kind: str, frames: int, out: Path, solve: bool) -> list[dict]:
    """Rows of one kind of camera."""
    made = film(category, kind, frames=frames, size=SIZE)
    truth = made.motion
    movie, folder = write_clip(made, out / kind)
    clip = load_clip(movie)
    masks = masks_from_folder(folder, clip)
    rows = []
    true_path = truth.world_from_root[:, :3, 3]
    for given in (True, False):
        focal = float(truth.focal_px[0]) if given else 1.2 * max(SIZE)
        begin, wall = time.thread_time(), time.perf_counter()
        found = find_egomotion(clip, masks, focal, calibrate=not given)
        spent = (
            1000 * (time.thread_time() - begin) / len(clip),
            1000 * (time.perf_counter() - wall) / len(clip),
        )
        error = np.degrees(geodesic(found.rotation, truth.world_from_camera[:, :3, :3]))
        zoom = np.abs(found.focal_scale / (truth.focal_px / truth.focal_px[0]) - 1)
        seen = found.filmed(category, truth)
        contacts = find_contacts(category, seen)
        worst, mean = path_error(seen.world_from_root[:, :3, 3], true_path)
        rows.append(
            {
                "camera": kind,
                "motion": "true",
                "focal": "given" if given else "pan" if found.focal else "assumed",
                "focal_error_%": round(100 * abs((found.focal or focal) / truth.focal_px[0] - 1), 2),
                "rotation_max_deg": round(float(error.max()), 3),
                "rotation_mean_deg": round(float(error.mean()), 3),
                "zoom_max_%": round(float(100 * zoom.max()), 2),
                "path_max_%": round(worst, 2),
                "path_mean_%": round(mean, 2),
                "slide_%": round(slide(category, seen, made.standing), 2),
                "contacts_right_%": round(float(100 * (contacts.standing == made.standing).mean()), 1),
                "thread_ms_a_frame": round(spent[0], 1),
                "wall_ms_a_frame": round(spent[1], 1),
                "warned": bool(found.warnings),
            }
        )
    rows.append({"camera": kind, "motion": "true", "focal": "-", **_feet(category, truth, made, true_path)})
    result = run_job(
        JobOptions(
            clip=str(movie),
            out=str(out / kind / "job"),
            masks=str(folder),
            focal=float(truth.focal_px[0]),
            overlay=False,
        )
    )
    rows.append(
        {
            "camera": kind,
            "motion": "reconstructed",
            "focal": "given",
            **_feet(category, result.motion, made, true_path, True),
            "mask_iou": round(result.motion.mean_mask_iou or 0, 3),
        }
    )
    if kind == "travel":  # feet alone, without the mistakes of the turns
        turns = truth.world_from_camera.copy()
        turns[:, :3, 3] = 0
        for name, motion in (("true", truth), ("reconstructed", result.motion)):
            told = filmed_following(category, replace(motion, world_from_camera=turns))
            row = {"camera": "travel, true turns", "motion": name, "focal": "given"}
            rows.append(row | _feet(category, told, made, true_path, True))
    if solve:
        rows.append(_solved(category, kind, made, movie, masks, true_path))
    return rows


def _feet(
    category: Category, motion: Motion, made: Film, true_path: np.ndarray, scaled: bool = False
) -> dict:
    worst, mean = path_error(motion.world_from_root[:, :3, 3], true_path, scaled)
    contacts = find_contacts(category, motion)
    return {
        "path_max_%": round(worst, 2),
        "path_mean_%": round(mean, 2),
        "slide_%": round(slide(category, motion, made.standing), 2),
        "slide_found_%": round(slide(category, motion, contacts.standing), 2),
        "contacts_right_%": round(float(100 * (contacts.standing == made.standing).mean()), 1),
    }


def _solved(category: Category, kind: str, made: Film, movie: Path, masks, true_path: np.ndarray) -> dict:
    from dasr_blender.scene.solve import CameraSolveError, solve_camera

    begin = time.perf_counter()
    row: dict = {"camera": kind, "motion": "true", "focal": "given", "solver": "Blender"}
    try:
        found = solve_camera(made.motion, movie, lambda i: background(masks, i) > 0)
    except CameraSolveError as error:
        return row | {"failed": str(error)}
    motion, _ = filmed_by(category, made.motion, found.world_from_camera, found.points)
    error = np.degrees(
        geodesic(motion.world_from_camera[:, :3, :3], made.motion.world_from_camera[:, :3, :3])
    )
    worst, mean = path_error(motion.world_from_root[:, :3, 3], true_path)
    return row | {
        "travels": found.travels,
        "rotation_max_deg": round(float(error.max()), 3),
        "path_max_%": round(worst, 2),
        "path_mean_%": round(mean, 2),
        "slide_%": round(slide(category, motion, made.standing), 2),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def draw_world(category: Category, motion: Motion, title: str, path: Path) -> None:
    """The motion from above and from the side: root, feet where they stand, cameras and what they look along."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from dasr_blender.scene.placement import on_the_ground

    feet = find_feet(category, motion)
    contacts = find_contacts(category, motion, feet)
    world = on_the_ground(motion, feet, category.nominal_size)

    def placed(points: np.ndarray) -> np.ndarray:
        return points @ world[:3, :3].T + world[:3, 3]

    root, soles = placed(motion.world_from_root[:, :3, 3]), placed(feet.lowest)
    eye = placed(np.asarray(motion.world_from_camera[:, :3, 3]))
    ahead = motion.world_from_camera[:, :3, 2] @ world[:3, :3].T
    figure, axes = plt.subplots(1, 3, figsize=(17, 6), width_ratios=[1.2, 1, 1])
    colours = ["tab:red", "tab:orange", "tab:blue", "tab:cyan", "tab:green", "tab:purple"]
    for axis, (x, y), whole in ((axes[0], (0, 1), False), (axes[1], (0, 1), True), (axes[2], (0, 2), False)):
        axis.plot(root[:, x], root[:, y], "k-", lw=1.5, label="root")
        axis.plot(*root[0, [x, y]], "ko", ms=7)
        for f, foot in enumerate(contacts.feet):
            stand = contacts.standing[:, f]
            axis.plot(soles[:, f, x], soles[:, f, y], "-", color=colours[f % 6], lw=0.4, alpha=0.5)
            axis.plot(soles[stand, f, x], soles[stand, f, y], "o", color=colours[f % 6], ms=3, label=foot)
        if whole:
            for t in range(0, len(eye), max(1, len(eye) // 8)):
                far = eye[t] + 1.1 * ahead[t] * np.linalg.norm(root[t] - eye[t])
                axis.plot([eye[t, x], far[x]], [eye[t, y], far[y]], "-", color="0.7", lw=0.8)
            axis.plot(eye[:, x], eye[:, y], "s", color="0.4", ms=4, label="camera")
        if y == 2:
            axis.axhline(0, color="0.5", lw=0.8)
        axis.set_aspect("equal", adjustable="datalim")
        axis.grid(alpha=0.3)
        axis.set_xlabel("m")
        axis.set_title(("from above", "with the camera", "from the side")[[0, 1, 2][list(axes).index(axis)]])
    axes[0].legend(fontsize=7)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def real(folder: Path, out: Path, solve: bool) -> dict:
    """Reconstruct a folder with frames/ and masks/ and draw it."""
    options = JobOptions(
        clip=str(folder / "frames"), masks=str(folder / "masks"), out=str(out / folder.name), overlay=False
    )
    result = run_job(options)
    category, motion = result.category, result.motion
    words = result.filming.words() if result.filming else ""
    if solve:
        from dasr_blender.clip import Masks
        from dasr_blender.scene.solve import CameraSolveError, solve_camera, with_solved

        masks = Masks.load(result.masks_path)  # type: ignore[arg-type]
        try:
            solved = solve_camera(motion, options.clip, lambda i: background(masks, i) > 0)
            motion, words = with_solved(category, motion, solved)
        except CameraSolveError as error:
            words = str(error)
    contacts = find_contacts(category, motion)
    suffix = "-solved" if solve else ""
    draw_world(category, motion, f"{folder.name}: {words}", out / f"world-{folder.name}{suffix}.png")
    path = motion.world_from_root[:, :3, 3]
    return {
        "clip": folder.name,
        "camera": words,
        "walked_m": round(float(np.linalg.norm(path[-1] - path[0])), 2),
        "slide_found_%": round(slide(category, motion, contacts.standing), 2),
        "standing_%": np.round(100 * contacts.standing.mean(0)).astype(int).tolist(),
        "warnings": list(result.warnings),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=72)
    parser.add_argument("--kinds", default="pan,handheld,zoom")
    parser.add_argument("--out", type=Path, default=Path("build/bench_camera"))
    parser.add_argument("--clips", type=Path, nargs="*", default=[])
    parser.add_argument("--solve", action="store_true")
    arguments = parser.parse_args()
    category = load_category("quadruped")
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in filter(None, arguments.kinds.split(",")):
        for row in measure(category, kind, arguments.frames, arguments.out, arguments.solve):
            rows.append(row)
            print(json.dumps(row), flush=True)
    for folder in arguments.clips:
        rows.append(real(folder, arguments.out, arguments.solve))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    (arguments.out / "camera.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
