# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera's movement by Blender's own motion tracker (libmv), or as the user solved it with it.

The tracker follows the background alone: markers on the subject are dropped. A solve has no scale of its own;
`core.travel` finds it from the subject's feet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core import Category, DasrError, Motion, filmed_by, transform
from ..core.rotation import matrix_to_quat, quat_to_matrix, slerp
from . import compat
from .camera import CV_FROM_BLENDER, SENSOR_MM, clips_of, find_background, new_clip

FEWEST = 8  # tracks in two frames that libmv needs
WORST = 3.0  # pixels of a picture 1000 wide: a solve with a larger mean error is none
PARALLAX = 0.75  # a camera travels where letting it do so lowers the error to this share
TRACKS = "dasr_tracks"  # a movie clip's property: the names of the tracks that were made here
AUTOMATIC = "leave Camera at Automatic (--camera auto on the command line)"

Background = Callable[[int], np.ndarray]  # index of a frame → where the subject is not, (h, w) bool


class CameraSolveError(DasrError):
    """Blender's tracker found no camera; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class SolvedCamera:
    """world_from_camera ``(T, 4, 4)``: OpenCV's axes, the world is the first frame's camera, lengths in the
    solver's own unit.  points ``(N, 3)``: of the background, in that world.  error: mean reprojection error,
    pixels of the clip.  focal_px: of the solve, pixels of the clip.  travels: whether it was allowed to move,
    and not only to turn."""

    world_from_camera: np.ndarray
    points: np.ndarray
    error: float
    focal_px: float
    travels: bool


def clip_frames(clip: bpy.types.MovieClip, frame_index: np.ndarray) -> np.ndarray:
    """Blender's clip frame of each frame of the file (T,), which count from 0: a clip's first one is 1."""
    return np.asarray(frame_index) + 1 - clip.frame_offset


def with_solved(category: Category, motion: Motion, solved: SolvedCamera) -> tuple[Motion, str]:
    """The motion as filmed by a solved camera, and what was solved, in words."""
    motion, unit = filmed_by(category, motion, solved.world_from_camera, solved.points)
    path = np.linalg.norm(np.diff(motion.world_from_camera[:, :3, 3], axis=0), axis=1).sum()
    travels = f", travels {path:.2f} m" if unit else ""
    return motion, f"solved by Blender's tracker (mean error {solved.error:.1f} pixels{travels})"


def find_solved(path: str | Path, motion: Motion | None = None) -> bpy.types.MovieClip | None:
    """A movie clip of this file, in the open .blend, that has a valid reconstruction; None without one.

    The user's own comes before one that `solve_camera` left.
    """
    background, _ = find_background("", path, 1, np.zeros(1, int) if motion is None else motion.frame_index)
    clips = clips_of(background.path) if background is not None else []
    return next((c for c in sorted(clips, key=_made_here) if _camera_object(c).reconstruction.is_valid), None)


def _track_names(clip: bpy.types.MovieClip) -> str:
    return "\n".join(track.name for track in clip.tracking.tracks)


def _made_here(clip: bpy.types.MovieClip) -> bool:
    """Whether `solve_camera` made the clip, and nobody added or took away a track since."""
    return clip.get(TRACKS) == _track_names(clip)


def _camera_object(clip: bpy.types.MovieClip) -> Any:
    return next(o for o in clip.tracking.objects if o.is_camera)


def solved_focal(clip: bpy.types.MovieClip) -> float:
    """Focal length of the clip's tracking camera in pixels of the clip."""
    camera = clip.tracking.camera
    lens = camera.focal_length if camera.units == "MILLIMETERS" else camera.focal_length_pixels
    return float(lens) * (clip.size[0] / camera.sensor_width if camera.units == "MILLIMETERS" else 1.0)


def read_solved(clip: bpy.types.MovieClip, motion: Motion) -> SolvedCamera:
    """The clip's reconstruction, for the frames of `motion`; frames in between are filled in.

    Raises CameraSolveError when there is none, it does not reach over these frames, or the clip is cut.
    """
    _refuse_cuts(motion)
    camera = _camera_object(clip)
    reconstruction = camera.reconstruction
    found = {int(c.frame): np.array(c.matrix, np.float64) for c in reconstruction.cameras}
    wanted = clip_frames(clip, motion.frame_index)
    known = sorted(found)
    if not reconstruction.is_valid or not known:
        raise CameraSolveError(
            f"The movie clip {clip.name} has no solved camera: solve it, or choose another."
        )
    inside = (wanted >= known[0]) & (wanted <= known[-1])
    if inside.mean() < 0.9:
        raise CameraSolveError(
            f"The solve of {clip.name} reaches over {int(inside.sum())} of {len(wanted)} frames: track markers "
            "over the whole clip and solve again."
        )
    poses = _between(np.array(known), np.stack([found[f] for f in known]), wanted)
    first = CV_FROM_BLENDER @ np.linalg.inv(poses[0])
    poses = first @ poses @ CV_FROM_BLENDER
    travels = float(np.linalg.norm(poses[:, :3, 3], axis=1).max()) > 1e-6
    solid = [track for track in camera.tracks if track.has_bundle and track.weight > 0] if travels else []
    points = np.array([track.bundle for track in solid], np.float64).reshape(-1, 3)
    points = transform(first, points)
    return SolvedCamera(poses, points, float(reconstruction.average_error), solved_focal(clip), travels)


def _refuse_cuts(motion: Motion) -> None:
    if len(motion.shots) > 1:
        raise CameraSolveError(f"Blender's tracker cannot solve a camera across cuts: {AUTOMATIC}.")


def _between(frames: np.ndarray, poses: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Poses (T, 4, 4) at `wanted`, between those at `frames`; beyond them as at the end."""
    after = np.clip(np.searchsorted(frames, wanted), 1, max(len(frames) - 1, 1))
    after = np.minimum(after, len(frames) - 1)
    before = np.maximum(after - 1, 0)
    share = np.clip((wanted - frames[before]) / np.maximum(frames[after] - frames[before], 1), 0, 1)
    quats = matrix_to_quat(poses[:, :3, :3])
    result = np.tile(np.eye(4), (len(wanted), 1, 1))
    result[:, :3, :3] = quat_to_matrix(slerp(quats[before], quats[after], share))
    result[:, :3, 3] = poses[before, :3, 3] * (1 - share[:, None]) + poses[after, :3, 3] * share[:, None]
    return result


def solve_camera(
    motion: Motion,
    path: str | Path,
    background: Background,
    progress: Callable[[float, str], None] | None = None,
) -> SolvedCamera:
    """Track the background of a clip and solve for the camera, which must not zoom.

    A movie clip of its own holds the tracks and stays in the file, in place of an earlier solve's; where there is
    no solve, the file is as before. The focal length is the motion's: a solve with another would not fit what was
    reconstructed with it.

    Args:
        path: the clip's file, folder or pattern.
        background: which pixels may be tracked.

    Raises:
        CameraSolveError: the clip zooms, is cut or cannot be shown, or too little could be tracked.
    """
    step = progress or (lambda fraction, text: None)
    _refuse_cuts(motion)
    if np.ptp(motion.focal_px) > 0.02 * motion.focal_px.mean():
        raise CameraSolveError(f"Blender's tracker cannot solve a camera that zooms: {AUTOMATIC}.")
    first = int(motion.frame_index[0])
    shown, warning = find_background(f"{Path(path).name} solved", path, 1 + first, motion.frame_index[:1])
    clip = new_clip(shown) if shown is not None else None
    if shown is None or clip is None:
        raise CameraSolveError(warning or f"Blender cannot read {path}, so its camera cannot be solved.")
    try:
        solved = _solved(clip, motion, background, step)
    except BaseException:
        bpy.data.movieclips.remove(clip)
        raise
    for old in clips_of(shown.path):
        if _made_here(old):
            _replace(old, clip)
    clip.name, clip[TRACKS], clip.use_fake_user = shown.name, _track_names(clip), True
    return solved


def _replace(old: bpy.types.MovieClip, new: bpy.types.MovieClip) -> None:
    """Put a movie clip everywhere where another is, and remove that one."""
    for camera in bpy.data.cameras:  # user_remap and remove overlook these, and would leave a dead pointer
        for image in camera.background_images:
            if image.clip == old:
                image.clip = new
    old.user_remap(new)
    bpy.data.movieclips.remove(old)


def _solved(clip: bpy.types.MovieClip, motion: Motion, background: Background, step: Any) -> SolvedCamera:
    """Track and solve in a clip without tracks."""
    camera = clip.tracking.camera
    camera.sensor_width, camera.units = SENSOR_MM, "MILLIMETERS"
    camera.focal_length = float(motion.focal_px.mean() * SENSOR_MM / motion.image_size[0])
    camera.k1 = camera.k2 = camera.k3 = 0.0
    with _tracking(clip, motion) as ask:
        _track(clip, motion, background, ask, step)
        kept = sum(len(track.markers) >= FEWEST for track in clip.tracking.tracks)
        if kept < FEWEST:
            raise CameraSolveError(
                f"Only {kept} points of the background could be tracked, so Blender cannot solve the camera: "
                f"{AUTOMATIC}, or track it by hand."
            )
        turned = _solve(clip, motion, True, ask, step, 0.7)
        free = _solve(clip, motion, False, ask, step, 0.85)
        limit = WORST * max(clip.size) / 1000
        if turned is not None and (free is None or free.error > PARALLAX * turned.error):
            _solve(clip, motion, True, ask, step, 0.95)  # it is what stays in the file
            free = turned
    if free is None or free.error > limit:
        how = "" if free is None else f" (mean error {free.error:.1f} pixels)"
        raise CameraSolveError(f"Blender's tracker found no camera for this clip{how}: {AUTOMATIC}.")
    return free


@contextmanager
def _tracking(clip: bpy.types.MovieClip, motion: Motion) -> Iterator[Callable[..., bool]]:
    """What runs an operator of the clip editor on `clip`; the window and the scene's frames are as before after."""
    windows = bpy.context.window_manager.windows
    if not len(windows):
        raise CameraSolveError(
            "Blender has no window to run its tracker in: solve the camera in the clip editor."
        )
    window = windows[0]
    scene = window.scene
    areas = window.screen.areas
    area = next((a for a in areas if a.type == "CLIP_EDITOR"), areas[0])
    frames = clip_frames(clip, motion.frame_index) + clip.frame_start - 1
    with ExitStack() as undo:
        was = scene.frame_start, scene.frame_end, scene.frame_current, area.type

        def restore() -> None:
            scene.frame_start, scene.frame_end = was[:2]
            scene.frame_set(was[2])
            area.type = was[3]

        undo.callback(restore)
        area.type = "CLIP_EDITOR"
        space = area.spaces.active
        undo.callback(setattr, space, "clip", space.clip)
        undo.callback(setattr, space, "mode", space.mode)
        space.clip, space.mode = clip, "TRACKING"
        scene.frame_start, scene.frame_end = int(frames[0]), int(frames[-1])
        region = next(r for r in area.regions if r.type == "WINDOW")
        undo.enter_context(
            bpy.context.temp_override(window=window, area=area, region=region, space_data=space)
        )

        def ask(operator: str, frame: int | None = None, **options: Any) -> bool:
            """Run bpy.ops.clip.<operator> at a clip frame; False where Blender refuses."""
            if frame is not None:  # the scene need not go there, with all that moves in it
                space.clip_user.frame_current = frame + clip.frame_start - 1
            try:
                with compat.quiet():  # libmv tells of every doubtful point
                    return getattr(bpy.ops.clip, operator)(**options) == {"FINISHED"}
            except RuntimeError:
                return False

        yield ask


def _track(
    clip: bpy.types.MovieClip, motion: Motion, background: Background, ask: Callable[..., bool], step: Any
) -> None:
    """Markers on the background, sown in a few frames and followed both ways to where they are lost."""
    tracking, settings = clip.tracking, clip.tracking.settings
    wide = max(clip.size)
    settings.default_pattern_size, settings.default_search_size = max(15, wide // 40), max(51, wide // 9)
    settings.default_motion_model, settings.default_pattern_match = "Loc", "PREV_FRAME"
    settings.default_correlation_min, settings.default_margin = 0.85, wide // 80
    settings.default_frames_limit, settings.use_default_normalization = 0, True
    frames = clip_frames(clip, motion.frame_index)
    sown = np.unique(
        np.linspace(0, len(frames) - 1, max(3, min(10, len(frames) // 16 + 2))).round().astype(int)
    )
    wrong: set[str] = set()  # tracks that began on the subject
    for number, t in enumerate(sown):
        step(0.6 * number / len(sown), f"Tracking the background from frame {int(motion.frame_index[t])}")
        before = {track.name for track in tracking.tracks}
        frame = int(frames[t])
        ask(
            "detect_features",
            frame,
            placement="FRAME",
            margin=wide // 40,
            threshold=0.05,
            min_distance=wide // 11,
        )
        clear, sown_here = background(int(t)), []
        for track in tracking.tracks:
            marker = track.markers.find_frame(frame)
            if track.name not in before and marker is not None and _clear(clear, marker):
                sown_here.append(track)
            elif track.name not in before:
                wrong.add(track.name)
        for end in (frames[-1], frames[0]):
            _follow(clip, sown_here, frame, int(end), ask)
    for i, frame in enumerate(frames):  # what the subject walked over
        clear = background(i)
        for track in tracking.tracks:
            marker = track.markers.find_frame(int(frame))
            if marker is not None and not _clear(clear, marker):
                marker.mute = True
    for track in tracking.tracks:
        track.select = track.name in wrong or sum(not m.mute for m in track.markers) < FEWEST
    if any(track.select for track in tracking.tracks):
        ask("delete_track")


def _follow(clip: bpy.types.MovieClip, tracks: list[Any], at: int, end: int, ask: Callable[..., bool]) -> None:
    """Follow tracks from clip frame `at` towards `end`, until all are lost.

    Once somebody pressed Esc, Blender stops after one frame, whenever it is asked: then it is asked for every frame.
    """
    way = 1 if end > at else -1
    while tracks and at != end:
        for track in clip.tracking.tracks:
            track.select = False
        for track in tracks:
            track.select = True
        ask("track_markers", at, backwards=way < 0, sequence=True)
        began, seen = at, {track: _seen(track) for track in tracks}
        at = way * max(way * frame for frames in seen.values() for frame in frames)
        if at == began:
            return
        tracks = [track for track in tracks if at in seen[track]]


def _seen(track: Any) -> list[int]:
    """Clip frames in which a track was found."""
    return [marker.frame for marker in track.markers if not marker.mute]


def _clear(background: np.ndarray, marker: Any) -> bool:
    """Whether a marker lies on the background (h, w); its place counts from the lower left corner, 0…1."""
    height, width = background.shape
    x, y = int(marker.co[0] * width), int((1 - marker.co[1]) * height)
    return 0 <= x < width and 0 <= y < height and bool(background[y, x])


def _solve(
    clip: bpy.types.MovieClip, motion: Motion, tripod: bool, ask: Callable[..., bool], step: Any, share: float
) -> SolvedCamera | None:
    """Solve, leave out the tracks that fit worst, and solve again; None when Blender finds nothing."""
    settings, tracks = clip.tracking.settings, clip.tracking.tracks
    settings.use_tripod_solver, settings.use_keyframe_selection = tripod, True
    for track in tracks:
        track.weight = 1.0
    for turn in range(3):
        step(share, "Solving the camera")
        if not ask("solve_camera"):
            return None
        errors = np.array([t.average_error for t in tracks])
        worst = max(3.0 * float(np.median(errors)), 0.5)
        if turn == 2 or not np.any(errors > worst):
            break
        for track, error in zip(tracks, errors, strict=True):
            if error > worst:
                track.weight = 0.0
    try:
        solved = read_solved(clip, motion)
    except CameraSolveError:
        return None
    return solved if np.isfinite(solved.error) else None  # travelling, of a camera that only turned
