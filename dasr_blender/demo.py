# SPDX-License-Identifier: GPL-3.0-or-later
"""A small clip that the project renders itself: the category's body walking through a plain field.

It needs no footage of anybody's and comes with the truth (masks and motion), so it serves `make demo` and the
tests. A procedural walk, a painted coat, numpy's rasteriser: no Blender and no OpenGL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .core import Category, Motion, clamp_rotations, written_atomically
from .core.camera import project, transform
from .core.mesh import vertex_normals
from .core.raster import rasterize
from .core.rotation import rotvec_to_matrix, rotvec_to_quat
from .overlay import write_video

Array = np.ndarray

# When in the cycle each foot touches down: the lateral sequence of a walk (hind left, front left, hind right,
# front right, a quarter apart).
TOUCH_DOWN = {"hind.L": 0.0, "front.L": 0.25, "hind.R": 0.5, "front.R": 0.75}
DUTY = 0.64  # share of the cycle a foot is on the ground
SWING = 0.34  # radians the upper limb swings either way


@dataclass(frozen=True)
class DemoOptions:
    """What the clip shows.

    Attributes:
        frames, fps, size: length, frame rate, (width, height) in pixels.
        cycle: frames of one walk cycle.
        yaw: way of walking in radians, 0 to the right across the picture, positive towards the camera.
        pitch: how far the camera looks down, radians.
        distance: metres from the camera to the middle of the walk.
        focal: focal length over the picture's width.
        morphology: named proportions that differ from the mean.
        seed: of the coat.
    """

    frames: int = 48
    fps: float = 24.0
    size: tuple[int, int] = (480, 270)
    cycle: int = 24
    yaw: float = 0.35
    pitch: float = 0.16
    distance: float = 3.6
    focal: float = 1.2
    morphology: tuple[tuple[str, float], ...] = ()
    seed: int = 7


def walk(category: Category, options: DemoOptions) -> Array:
    """Joint rotations (T, J, 4) of a walk on all fours, or on two legs where the skeleton has thighs; joints the
    category lacks are left out.

    Turning about +X (the subject's left) by a positive angle takes a hanging limb backwards.
    """
    if "thigh.L" in category.skeleton.names:
        return stroll(category, options)
    skeleton = category.skeleton
    turns = np.zeros((options.frames, len(skeleton), 3))
    phase = np.arange(options.frames) / options.cycle

    def add(joint: str, angle: Array, axis: int = 0) -> None:
        if joint in skeleton.names:
            turns[:, skeleton.index(joint), axis] += angle

    for limb, start in TOUCH_DOWN.items():
        end, side = limb.split(".")
        t = (phase - start) % 1.0
        stance = t < DUTY
        lift = np.where(stance, 0.0, np.sin(np.pi * np.clip((t - DUTY) / (1 - DUTY), 0, 1)))
        forward = np.where(stance, 1 - 2 * t / DUTY, -np.cos(np.pi * (t - DUTY) / (1 - DUTY)))
        add(f"{end}_upper.{side}", -SWING * forward)
        if end == "front":
            add(f"front_lower.{side}", -0.55 * lift)
            add(f"front_foot.{side}", 0.9 * lift)
            add(f"front_toe.{side}", 0.35 * lift)
        else:
            add(f"hind_lower.{side}", 0.6 * lift + 0.08 * forward)
            add(f"hind_foot.{side}", -0.6 * lift)
            add(f"hind_toe.{side}", 0.4 * lift)
    beat = 2 * np.pi * phase
    add("spine", 0.04 * np.sin(beat), 2)
    add("chest", -0.04 * np.sin(beat), 2)
    add("neck_1", 0.07 * np.sin(2 * beat))
    add("head", -0.05 * np.sin(2 * beat))
    for number in range(1, 5):
        add(f"tail_{number}", 0.14 * np.sin(beat - 0.5 * number), 2)
    return clamp_rotations(skeleton, rotvec_to_quat(turns))


def stroll(category: Category, options: DemoOptions) -> Array:
    """Joint rotations (T, J, 4) of a person's walk: legs half a cycle apart, each arm with the other leg."""
    skeleton = category.skeleton
    turns = np.zeros((options.frames, len(skeleton), 3))
    beat = 2 * np.pi * np.arange(options.frames) / options.cycle
    for side, sign, start in (("L", 1.0, 0.0), ("R", -1.0, np.pi)):
        swing = np.cos(beat + start)  # 1: this leg is farthest ahead
        lift = np.clip(-np.sin(beat + start - 0.35), 0, None) ** 1.5  # while it comes forward
        x, y, z = 0, 1, 2
        for joint, axis, angle in (
            ("thigh", x, -SWING * swing - 0.25 * lift),
            ("thigh", y, np.full_like(beat, 0.09 * sign)),  # the rest pose stands with its feet apart
            ("shin", x, 0.12 + 0.85 * lift),
            ("foot", x, -0.05 - 0.15 * np.clip(swing, 0, 1) + 0.35 * np.clip(-swing, 0, 1)),
            ("toe", x, -0.35 * np.clip(-swing, 0, 1)),
            ("upper_arm", y, np.full_like(beat, 0.62 * sign)),  # from 45° down to the side
            ("upper_arm", x, 0.1 + 0.4 * swing),
            ("forearm", x, -0.2 + 0.1 * swing),
            ("forearm", z, (-0.2 + 0.1 * swing) * sign),
        ):
            turns[:, skeleton.index(f"{joint}.{side}"), axis] += angle
    turns[:, skeleton.index("spine_1"), 2] += 0.06 * np.cos(beat)
    turns[:, skeleton.index("chest"), 2] -= 0.12 * np.cos(beat)
    return clamp_rotations(skeleton, rotvec_to_quat(turns))


def demo_motion(category: Category, options: DemoOptions) -> Motion:
    """The true motion: the subject crosses the picture, its feet on the ground of a camera that looks down a bit."""
    rotations = walk(category, options)
    beta = np.zeros(len(category.morphology))
    for name, value in options.morphology:
        beta[category.morphology_names.index(name)] = value
    cycle = category.posed_vertices(
        beta, rotations[: options.cycle]
    )  # (≤ cycle, V, 3); all others repeat them
    height = -cycle[:, :, 2].min(axis=1)  # the lowest foot stands on the ground
    height = height[np.arange(options.frames) % options.cycle]
    leg = float(height.mean())
    stride = 2 * leg * np.sin(SWING) / DUTY  # metres a cycle, so that standing feet stay
    travelled = stride * (np.arange(options.frames) - 0.55 * (options.frames - 1)) / options.cycle
    travelled *= min(1.0, DemoOptions.frames / options.frames)  # in longer clips the camera goes along
    # World: x right, y away from the camera, z up. The body looks along its -Y.
    heading = np.array([np.cos(options.yaw), -np.sin(options.yaw), 0.0])
    world = np.tile(np.eye(4), (options.frames, 1, 1))
    world[:, :3, :3] = rotvec_to_matrix(np.array([0.0, 0.0, 0.5 * np.pi - options.yaw]))
    world[:, :3, 3] = travelled[:, None] * heading
    world[:, 2, 3] = height
    tall = float(np.ptp(cycle[0, :, 2]))
    pose = camera_from_world(options, leg, tall) @ world
    width, high = options.size
    count = options.frames
    return Motion(
        fps=options.fps,
        frame_index=np.arange(count),
        image_size=np.array([width, high]),
        focal_px=np.full(count, options.focal * width),
        principal_point=np.array([width / 2, high / 2]),
        camera_from_root=pose,
        joint_rotations=rotations,
        morphology=beta,
        appearance=np.zeros(len(category.body.appearance_basis)),
        confidence=np.ones(count),
        joint_confidence=np.ones((count, len(category.skeleton))),
        mask_iou=np.ones(count),
        category=category.name,
        category_version=category.version,
        source="walk.mp4",
    )


def camera_from_world(options: DemoOptions, target_height: float, tall: float = 0.0) -> Array:
    """The still camera (4, 4): looks along +y, down by `pitch`, at the point `target_height` above the origin.

    tall: metres of the subject, which may not fill more than two thirds of the picture's height.
    """
    distance = max(options.distance, tall / 0.66 * options.focal * options.size[0] / options.size[1])
    axes = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # world z up → camera y down
    out = np.eye(4)
    out[:3, :3] = rotvec_to_matrix(np.array([-options.pitch, 0.0, 0.0])).T @ axes
    out[:3, 3] = -out[:3, :3] @ np.array([0.0, 0.0, target_height]) + np.array([0.0, 0.0, distance])
    return out


def coat(category: Category, seed: int) -> Array:
    """Vertex colours (V, 3) 0…255: clothes; or brown blotches (sines in rest coordinates), a lighter belly."""
    rng = np.random.default_rng(seed)
    if "thigh.L" in category.skeleton.names:  # a person: in clothes
        return 255 * category.body.colours(rng.normal(0, 0.6, len(category.body.appearance_basis)))
    vertices = np.asarray(category.body.vertices, np.float64)
    waves = rng.normal(size=(8, 3)) * 7.0
    blotch = np.sin(vertices @ waves.T + rng.uniform(0, 2 * np.pi, 8)).sum(axis=1) / 3.0
    share = (1 / (1 + np.exp(-4 * blotch)))[:, None]
    colours = share * np.array([172.0, 104.0, 52.0]) + (1 - share) * np.array([92.0, 52.0, 30.0])
    low, high = np.percentile(vertices[:, 2], [5, 95])
    belly = np.clip((0.5 * (low + high) - vertices[:, 2]) / (high - low + 1e-9), 0, 0.5)[:, None]
    return colours * (1 - belly) + 215.0 * belly


def render(category: Category, motion: Motion, options: DemoOptions) -> Iterator[tuple[Array, Array]]:
    """Picture (H, W, 3) uint8 and true mask (H, W) float32 of each frame of a motion; twice oversampled."""
    size = (options.size[0] * 2, options.size[1] * 2)
    light = np.array([-0.4, -0.75, -0.53])
    colours, faces, back = coat(category, options.seed), category.body.faces, _background(options)
    for t in range(len(motion)):
        posed = category.posed_vertices(motion.morphology, motion.joint_rotations[t : t + 1])[0]
        vertices = transform(motion.camera_from_root[t], posed)  # (V, 3)
        places = project(vertices, float(motion.focal_px[t]), motion.principal_point)
        shaded = colours * (0.42 + 0.62 * np.clip(vertex_normals(vertices, faces) @ light, 0, 1))[:, None]
        raster = rasterize(np.column_stack([places * 2, vertices[:, 2]])[None], faces, size)
        mask = raster.mask[0].astype(np.float32)
        body = np.clip(raster.interpolate(shaded.astype(np.float32))[0], 0, 255)
        small = cv2.resize(body, options.size, interpolation=cv2.INTER_AREA)
        cover = cv2.resize(mask, options.size, interpolation=cv2.INTER_AREA)
        picture = small + _shadow(back, places) * (1 - cover[..., None])
        yield picture.clip(0, 255).astype(np.uint8), cover


def _background(options: DemoOptions) -> Array:
    """Pale sky over a pale field, (H, W, 3) float32."""
    width, height = options.size
    rows = np.linspace(0, 1, height)[:, None]
    sky = np.array([206.0, 222.0, 236.0]) + rows[..., None] * np.array([24.0, 14.0, 4.0])
    field = np.array([186.0, 198.0, 158.0]) - (rows[..., None] - 0.5) * np.array([44.0, 36.0, 40.0])
    horizon = 0.5 - options.focal * width * np.tan(options.pitch) / height
    mix = np.clip((rows - horizon) * height / 3, 0, 1)[..., None]
    grain = np.random.default_rng(options.seed).normal(0, 2.0, (height, width, 1))
    return ((1 - mix) * sky + mix * field + grain).astype(np.float32)


def _shadow(back: Array, pixels: Array) -> Array:
    """The background with a soft dark ellipse under the feet; pixels (V, 2) of the drawn body."""
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    veil = np.zeros(back.shape[:2], np.float32)
    center = (int(0.5 * (low[0] + high[0])), int(high[1] - 0.02 * (high[1] - low[1])))
    axes = (max(int(0.42 * (high[0] - low[0])), 1), max(int(0.06 * (high[1] - low[1])), 1))
    cv2.ellipse(veil, center, axes, 0, 0, 360, (1.0,), -1)
    veil = cv2.GaussianBlur(veil, (0, 0), 4)
    return back * (1 - 0.3 * veil[..., None])


def write_demo_clip(
    folder: Path,
    category: Category,
    options: DemoOptions | None = None,
    progress: Callable[..., None] | None = None,
) -> Path:
    """Write `walk.mp4`, `masks/00000.png` … and the true `motion.npz` into `folder`; returns the video's path.

    Raises DasrError when the video cannot be written, OSError when the folder cannot.
    """
    options = options or DemoOptions()
    motion = demo_motion(category, options)
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    for stale in (folder / "masks").glob("*.png"):
        stale.unlink()

    def pictures() -> Iterator[Array]:
        for t, (picture, mask) in enumerate(render(category, motion, options)):
            _, png = cv2.imencode(".png", (mask * 255).round().astype(np.uint8))
            (folder / "masks" / f"{t:05d}.png").write_bytes(png.tobytes())
            yield picture

    path = folder / "walk.mp4"
    with written_atomically(path) as temporary:
        write_video(temporary, pictures(), options.size, options.fps, len(motion), progress)
    motion.save(folder / "motion.npz")
    return path
