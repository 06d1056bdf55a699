# SPDX-License-Identifier: GPL-3.0-or-later
"""Reconstruct and Cancel. One operator serves the window (modal) and background mode (blocking)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import DasrError
from ..core.results import reported_files
from ..scene.request import JobRequest, beside_others, category_problem, finish_job, settings_problem
from ..scene.solve import CameraSolveError
from ..worker import Worker
from .preferences import category_folders, network_settings, user_folder
from .retarget import follow
from .telling import failed, tell
from .waiting import waiting


@dataclass(frozen=True)
class _Job:
    """A reconstruction that runs. `scene`: session_uid of the scene to build in."""

    worker: Worker
    request: JobRequest
    scene: int


_running: list[_Job] = []  # one at most
_timers: list[bpy.types.Timer] = []  # that of the window that follows it


def stop_running() -> None:
    """End a job that still runs, for unregister and file loading."""
    for job in _running:
        job.worker.cancel()
        for _ in job.worker.wait():
            pass
    _release()


def _release() -> None:
    """Nothing runs any more, and the panel says so."""
    _running.clear()
    _stop_timers()
    manager = bpy.context.window_manager
    manager.dasr.running = False
    _redraw(manager)


def _stop_timers() -> None:
    while _timers:
        bpy.context.window_manager.event_timer_remove(_timers.pop())


def _follow_elsewhere() -> None:
    """Go on in a window that is left with the job of one that was closed."""
    windows = bpy.context.window_manager.windows
    if _running and windows:
        with bpy.context.temp_override(window=windows[0]):
            bpy.ops.dasr.reconstruct("INVOKE_DEFAULT")


def job_request(context) -> JobRequest:
    """What the panel asks for."""
    settings = context.scene.dasr
    clip = settings.movie_clip if settings.source == "MOVIECLIP" else None
    provider, threads = network_settings()
    return JobRequest.from_settings(
        settings,
        clip=clip,
        start_frame=context.scene.frame_start,
        category_folders=category_folders(),
        fallback_directory=user_folder("results") or Path(bpy.app.tempdir),
        provider=provider,
        threads=threads,
    )


def _last_request(context) -> JobRequest:
    """What the panel asks for, in the folder of the clip's last reconstruction, wherever the .blend was saved since."""
    settings, request = context.scene.dasr, job_request(context)
    if settings.result_clip != request.clip:
        return request
    return replace(request, directory=Path(settings.result_directory))


def _background(result: Mapping[str, Any]):
    """Where the subject is not, by frame, from the masks a job left; None without them."""
    from ..clip import MaskError, Masks, background  # OpenCV, which only a solve needs in this process

    try:
        masks = Masks.load(str(result.get("masks")))
    except MaskError:
        return None
    return lambda i: background(masks, i) > 0


class DASR_OT_reconstruct(bpy.types.Operator):
    """Turn the clip into a rigged, animated mesh behind a matching camera"""

    bl_idname = "dasr.reconstruct"
    bl_label = "Reconstruct"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context) -> bool:
        settings = context.scene.dasr
        if _running and not _timers:  # nobody follows it: see `cancel`
            return True
        if context.window_manager.dasr.running:
            cls.poll_message_set("A reconstruction is running")
            return False
        if settings.source == "MOVIECLIP" and settings.movie_clip is None:
            cls.poll_message_set("Choose a movie clip first")
            return False
        if settings.source == "FILE" and not settings.filepath:
            cls.poll_message_set("Choose a video or a folder of frames first")
            return False
        if context.mode != "OBJECT":
            cls.poll_message_set("Go to Object Mode first")
            return False
        if problem := category_problem(settings) or settings_problem(settings):
            cls.poll_message_set(problem)
            return False
        return True

    def execute(self, context):
        """Background mode and scripts: block until the scene is built."""
        try:
            job = self._start(context)
            for fraction, text in job.worker.wait():
                print(f"DASR {100 * fraction:3.0f} %  {text}")
            return self._end(context, job)
        except OSError as error:  # the worker cannot be started
            return failed(self, context, error)
        finally:
            _release()

    def invoke(self, context, _event):
        """In a window: run beside the interface, with a progress bar and Esc."""
        if bpy.app.background:
            return self.execute(context)
        try:
            if not _running:
                self._start(context)
        except (DasrError, OSError) as error:
            _release()
            return failed(self, context, error)
        _timers.append(context.window_manager.event_timer_add(0.05, window=context.window))
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        if not _running:
            _release()
            return {"CANCELLED"}
        job = _running[0]
        worker = job.worker
        if event.type == "ESC" and event.value == "PRESS" and not _playing(context.window_manager):
            worker.cancel()
            return {"RUNNING_MODAL"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        running = worker.poll()
        status = context.window_manager.dasr
        status.fraction, status.text = worker.fraction, worker.text
        _redraw(context.window_manager)
        if running:
            return {"RUNNING_MODAL"}
        try:
            return self._end(context, job)
        finally:
            _release()

    def cancel(self, context) -> None:
        """Blender loads another file or quits; or it closes the window, and another one follows the job."""
        manager = context.window_manager
        if context.window in manager.windows[:]:
            stop_running()
        elif _running:
            _stop_timers()
            bpy.app.timers.register(_follow_elsewhere)

    def _start(self, context) -> _Job:
        request = job_request(context)
        if not context.scene.dasr.directory:
            request = beside_others(request)
        worker = Worker(request.arguments(), request.environment())
        worker.start()
        job = _Job(worker, request, context.scene.session_uid)
        _running.append(job)
        status = context.window_manager.dasr
        status.running, status.fraction, status.text = True, 0.0, "Starting"
        status.message, status.failed, status.told = "", False, ""
        return job

    def _end(self, context, job: _Job):
        status, worker, request = context.window_manager.dasr, job.worker, job.request
        if worker.cancelled:
            status.message = "Cancelled"
            self.report({"WARNING"}, "Reconstruction cancelled")
            return {"CANCELLED"}
        try:
            if worker.error or worker.result is None:
                raise DasrError(worker.error or "the worker gave no result")
            background = _background(worker.result) if request.camera == "solve" else None
            started_in = (scene for scene in bpy.data.scenes if scene.session_uid == job.scene)
            scene = next(started_in, context.scene)
            summary = finish_job(request, worker.result, scene, background)
            scene.dasr.result_clip, scene.dasr.result_directory = request.clip, str(request.directory)
            follow(scene, summary.rig)
        except DasrError as error:
            return failed(self, context, error)
        tell(self, context, summary)
        return {"FINISHED"}


class DASR_OT_solve_camera(bpy.types.Operator):
    """Solve the camera of the last reconstruction with Blender's motion tracker, and build the scene again with it"""

    bl_idname = "dasr.solve_camera"
    bl_label = "Solve Camera"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context) -> bool:
        settings = context.scene.dasr
        if context.window_manager.dasr.running:
            cls.poll_message_set("A reconstruction is running")
            return False
        chosen = settings.movie_clip if settings.source == "MOVIECLIP" else settings.filepath
        if not chosen or not (_last_request(context).directory / "motion.npz").is_file():
            cls.poll_message_set("Reconstruct the clip first: the tracker has to know where the subject is")
            return False
        return True

    def execute(self, context):
        request = replace(_last_request(context), camera="solve", solved_clip="")
        hidden = request.directory / ".dasr"
        kept = sorted(hidden.glob("masks-*.npz"), key=lambda path: path.stat().st_mtime)
        texture = reported_files(request.directory).get("texture") if request.texture else None
        result = {
            "motion": request.directory / "motion.npz",
            "masks": kept[-1] if kept else None,
            "files": {"texture": texture},
        }
        try:
            with waiting(context):
                summary = finish_job(request, result, context.scene, _background(result), solve_only=True)
            follow(context.scene, summary.rig)
        except CameraSolveError as error:
            return failed(self, context, f"{error} The movement found before is kept.")
        except DasrError as error:
            return failed(self, context, error)
        tell(self, context, summary)
        return {"FINISHED"}


class DASR_OT_cancel(bpy.types.Operator):
    """Stop the running reconstruction; the scene stays as it is"""

    bl_idname = "dasr.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context) -> bool:
        return bool(_running)

    def execute(self, _context):
        for job in _running:
            job.worker.cancel()
        return {"FINISHED"}


def _playing(manager: bpy.types.WindowManager) -> bool:
    """Whether Esc is pressed to end playback."""
    return any(window.screen.is_animation_playing for window in manager.windows)


def _redraw(manager: bpy.types.WindowManager) -> None:
    for window in manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "CLIP_EDITOR"}:
                area.tag_redraw()


CLASSES = (DASR_OT_reconstruct, DASR_OT_solve_camera, DASR_OT_cancel)
