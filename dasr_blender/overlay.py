# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstruction drawn over the clip: input | overlay | the body seen from another side | confidence.

The third panel is there because a silhouette alone proves little: a body can cover the mask and be bent
wrong. Left limbs are orange and right limbs blue, so that a mirrored pose shows at a glance. The fourth says
which joints to trust, from red to green, and how sure each frame of the clip is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .core import Category, DasrError, Motion, find_feet, find_floor
from .core.camera import project, transform
from .core.errors import counted
from .core.ground import foot_joints
from .core.mesh import vertex_normals
from .core.raster import rasterize
from .core.workers import made_ahead

if TYPE_CHECKING:
    from .clip import Clip

PANEL_SIDE = 640  # longest side of one panel of the video, pixels
PANELS = 4
SIDE_ANGLE = np.radians(75.0)  # how far the second view is turned about the picture's vertical
OPACITY = 0.78
_COLOURS = {
    "left": (236, 138, 54),
    "right": (66, 128, 230),
    "head": (240, 206, 84),
    "tail": (116, 190, 96),
    "trunk": (206, 200, 194),
}


_DOUBTFUL, _SURE = np.array([214.0, 68.0, 56.0]), np.array([92.0, 190.0, 108.0])


def part_colours(category: Category) -> np.ndarray:
    """Colour of every vertex by the part it hangs on, (V, 3) 0…255: limbs by side, head, tail, trunk."""
    skeleton = category.skeleton
    palette = np.zeros((len(skeleton.names), 3))
    for j, (name, role) in enumerate(zip(skeleton.names, skeleton.roles, strict=True)):
        part = "trunk"
        if role == "limb":
            part = "left" if name.endswith(".L") else "right"
        elif role in ("head", "tail"):
            part = role
        palette[j] = _COLOURS[part]
    body = category.body
    return np.einsum("vk,vkc->vc", body.skin_weight, palette[body.skin_index])


def draw_body(
    points_cam: np.ndarray,
    faces: np.ndarray,
    colours: np.ndarray,
    focal: float,
    principal: np.ndarray,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Shaded picture (H, W, C) uint8 and mask (H, W) bool of one posed body.

    points_cam (V, 3) metres; colours (V, C) 0…255, of one picture or of several side by side; focal and principal (2,)
    in pixels of `size` (w, h).
    """
    normals = vertex_normals(points_cam, faces)
    light = np.array([-0.35, -0.65, -0.67])  # over the viewer's left shoulder; the camera looks along +z
    shade = 0.5 + 0.5 * np.clip(normals @ light, 0.0, 1.0)
    pixels = np.concatenate([project(points_cam, focal, principal), points_cam[:, 2:]], axis=1)
    raster = rasterize(pixels[None].astype(np.float32), faces, size)
    picture = raster.interpolate((colours * shade[:, None]).astype(np.float32))[0]
    return np.clip(picture, 0, 255, out=picture).astype(np.uint8), raster.face[0] >= 0


class OverlayPainter:
    """Draws any frame of a reconstruction.

    panel_side is the longest side of one panel in pixels.
    """

    def __init__(self, clip: Clip, category: Category, motion: Motion, panel_side: int = PANEL_SIDE) -> None:
        """Raises DasrError when the motion is not of this category (MotionError) or has other frames than the clip."""
        motion.validate(category)
        if len(motion) != len(clip):
            raise DasrError(
                f"The motion has {counted(len(motion), 'frame')} but the clip {len(clip)}: read the frames that the "
                "motion was made from"
            )
        self._clip, self._motion, self._category = clip, motion, category
        scale = min(1.0, panel_side / max(clip.size))
        width, height = (
            max(2, int(round(side * scale / 2)) * 2) for side in clip.size
        )  # video needs even sides
        self.panel_size = (width, height)
        self._to_panel = width / float(motion.image_size[0])  # from pixels of the original picture
        self._colours = part_colours(category)
        self._vertices = category.posed_vertices(motion)  # (T, V, 3)
        self._up, self._floor = find_floor(motion, find_feet(category, motion), category.nominal_size)
        self._stands = bool(foot_joints(category))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a drawn frame."""
        return PANELS * self.panel_size[0], self.panel_size[1]

    def __len__(self) -> int:
        return len(self._motion.frame_index)

    def frame(self, i: int) -> np.ndarray:
        """Input | overlay | second view | confidence of frame i, (H, 4 W, 3) uint8 RGB."""
        picture = cv2.resize(self._clip.frame(i), self.panel_size, interpolation=cv2.INTER_AREA)
        focal = float(self._motion.focal_px[i]) * self._to_panel
        principal = np.asarray(self._motion.principal_point, np.float64) * self._to_panel
        points = self._camera_points(i)
        colours = np.concatenate([self._colours, self._sureness(i)], 1)
        body, mask = draw_body(points, self._category.body.faces, colours, focal, principal, self.panel_size)
        drawn = _overlay(picture, body[..., :3], mask)
        number = f"{int(self._motion.frame_index[i])}  conf {float(self._motion.confidence[i]):.2f}"
        place = (8, self.panel_size[1] - 10)
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(drawn, number, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
        sure = self._confidence_view(i, body[..., 3:], mask)
        return np.concatenate([picture, drawn, self._second_view(i, points), sure], axis=1)

    def _camera_points(self, i: int) -> np.ndarray:
        return transform(
            self._motion.camera_from_root[i].astype(np.float64), self._vertices[i].astype(np.float64)
        )

    def _sureness(self, i: int) -> np.ndarray:
        """Colour of every vertex by how sure its joints are, (V, 3)."""
        body = self._category.body
        sure = np.clip(np.nan_to_num(self._motion.joint_confidence[i].astype(np.float64)), 0, 1)
        share = (body.skin_weight * sure[body.skin_index]).sum(1)[:, None]  # (V, 1)
        return (1 - share) * _DOUBTFUL + share * _SURE

    def _confidence_view(self, i: int, drawn: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The body coloured by how sure its joints are, over a curve of how sure every frame is."""
        motion = self._motion
        width, height = self.panel_size
        out = np.where(mask[..., None], drawn, np.uint8(52))
        # the clip's confidence from left to right, its scale from 0 at the bottom to 1
        tall = max(8, height // 6)
        base = height - 4
        cv2.line(out, (0, base - tall), (width - 1, base - tall), (84, 84, 84), 1)
        x = np.linspace(2, width - 3, len(self))
        y = base - tall * np.clip(np.nan_to_num(motion.confidence.astype(np.float64)), 0, 1)
        curve = np.stack([x, y], 1).round().astype(np.int32)
        cv2.polylines(out, [curve.reshape(-1, 1, 2)], False, (214, 214, 214), 1, cv2.LINE_AA)
        cv2.circle(out, (int(curve[i, 0]), int(curve[i, 1])), 3, (255, 255, 255), -1, cv2.LINE_AA)
        return out

    def _second_view(self, i: int, points: np.ndarray) -> np.ndarray:
        """The body from the side, level and framed alike in all frames, over a line where the floor is."""
        motion = self._motion
        world = np.asarray(motion.world_from_camera[i], np.float64)
        root = world[:3, :3] @ motion.camera_from_root[i, :3, 3] + world[:3, 3]
        across = np.cross(world[:3, 2], self._up)  # the camera's right, made level
        across = across / max(float(np.linalg.norm(across)), 1e-6)
        level = np.stack([across, -self._up, np.cross(self._up, across)])  # right, down, ahead
        cos, sin = np.cos(SIDE_ANGLE), np.sin(SIDE_ANGLE)
        side = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]]) @ level
        turned = (transform(world, points) - root) @ side.T
        reach = float(np.abs(self._vertices[0]).max()) * 1.15
        width, height = self.panel_size
        distance = 6.0 * reach
        turned[:, 2] += distance
        focal = 0.5 * min(self.panel_size) / reach * distance
        middle = np.array([width / 2, height / 2])
        body, mask = draw_body(
            turned, self._category.body.faces, self._colours, focal, middle, self.panel_size
        )
        out = np.full((height, width, 3), 52, np.uint8)
        if self._stands:
            below = int(middle[1] + focal * (self._up @ root - self._floor) / distance)
            cv2.line(out, (0, below), (width - 1, below), (84, 84, 84), 1)
        return np.where(mask[..., None], body, out)


def _overlay(picture: np.ndarray, body: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A body drawn over a picture, both (H, W, 3) uint8, with a line round it."""
    out = np.where(mask[..., None], cv2.addWeighted(body, OPACITY, picture, 1 - OPACITY, 0), picture)
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(out, outline, -1, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def write_overlay(
    path: Path, clip: Clip, category: Category, motion: Motion, progress: Callable[..., None] | None = None
) -> None:
    """Write the overlay of a whole clip as mp4, as long as the clip whatever a step left out, and read it back.

    progress(fraction, text) is called for each frame and may raise to stop.
    Raises what OverlayPainter raises, and DasrError when the video cannot be written or does not hold all frames.
    """
    painter = OverlayPainter(clip, category, motion)
    with closing(made_ahead(painter.frame, range(len(painter)))) as frames:
        write_video(path, frames, painter.size, motion.rate, len(painter), progress)


def write_video(
    path: Path,
    frames: Iterator[np.ndarray],
    size: tuple[int, int],
    fps: float,
    count: int,
    progress: Callable[..., None] | None = None,
) -> None:
    """Write `count` RGB frames of `size` (w, h) as MPEG-4, which every OpenCV build can encode, and read it back."""
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"mp4v"), float(min(max(fps, 0.01), 240.0)), size
    )
    if not writer.isOpened():
        raise DasrError(
            f"Cannot write the video {path}: this OpenCV has no MPEG-4 encoder, or the folder refuses it"
        )
    try:
        for i, frame in enumerate(frames):
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            if progress is not None:
                progress((i + 1) / count, f"drawing frame {i + 1} of {count}")
    finally:
        writer.release()
    reader = cv2.VideoCapture(str(path))
    whole = reader.isOpened() and int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == count and reader.read()[0]
    reader.release()
    if not whole:
        raise DasrError(
            f"The video {path} does not hold all {count} frames: is there space left on the disk?"
        )


def contact_sheet(painter: OverlayPainter, columns: int = 2, count: int = 8) -> np.ndarray:
    """`count` frames spread over the clip in a grid, (H, W, 3) uint8 RGB."""
    chosen = np.unique(np.linspace(0, len(painter) - 1, min(count, len(painter))).round().astype(int))
    tiles = [painter.frame(int(i)) for i in chosen]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows, axis=0)
