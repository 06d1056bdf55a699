# SPDX-License-Identifier: GPL-3.0-or-later
"""Fast renders of posed meshes with moderngl on EGL (hardware or software GL), many views in one draw target.

Every view is one tile of an atlas framebuffer, so a whole clip costs one read-back. Vertices arrive already
posed and in camera space (skinning is a sparse product on the CPU, which software GL could not beat). The coat's
pattern is a number a vertex, thresholded a pixel, and its grain comes from rest coordinates, so both stick to the
skin; in software GL the pixels are what costs, so no sine is left to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from ..errors import TrainingError
from .coat import Coat

_VERTEX = """
#version 430
layout(std430, binding = 0) readonly buffer Positions { float position[]; };   // (N, V, 3) camera space
layout(std430, binding = 1) readonly buffer Normals { float normal[]; };       // (N, V, 3) camera space
in vec3 in_lock;              // rest place, warped a little so that the grain shows no grid
in float in_pattern;
in float in_hair;             // length of the hair, metres
in vec3 in_light_colour;
in vec3 in_dark_colour;
uniform int first;            // first vertex of this view in the buffers
uniform vec4 camera;          // focal / width * 2, focal / height * 2, principal point in clip space
uniform vec2 near_far;
uniform float shell;          // how far out along the hair this layer lies, 0 (skin) … 1 (tips)
uniform vec3 hang;            // where hair is drawn to, camera space
out vec3 v_position;
out vec3 v_normal;
out vec3 v_lock;
out float v_pattern;
out vec3 v_light_colour;
out vec3 v_dark_colour;
void main() {
    int k = 3 * (first + gl_VertexID);
    vec3 p = vec3(position[k], position[k + 1], position[k + 2]);
    v_normal = vec3(normal[k], normal[k + 1], normal[k + 2]);
    p += in_hair * shell * (v_normal + shell * hang);
    v_position = p;
    v_lock = in_lock;
    v_pattern = in_pattern;
    v_light_colour = in_light_colour;
    v_dark_colour = in_dark_colour;
    float n = near_far.x, f = near_far.y;
    // OpenCV camera: image row 0 is the framebuffer's row 0, so that no read-back has to be flipped.
    gl_Position = vec4(p.x * camera.x + p.z * camera.z, p.y * camera.y + p.z * camera.w,
                       p.z * (f + n) / (f - n) - 2.0 * f * n / (f - n), p.z);
}
"""

_FRAGMENT = """
#version 430
in vec3 v_position;
in vec3 v_normal;
in vec3 v_lock;
in float v_pattern;
in vec3 v_light_colour;
in vec3 v_dark_colour;
uniform vec2 edge;                // threshold, softness
uniform vec2 fur;                 // amount, frequency
uniform float streak;             // how much longer than wide the grain is
uniform vec2 hair;                // frequency of tufts, of strands
uniform float layer;              // `shell` of this layer, below zero for the coat that hides the skin
uniform vec3 light_direction;     // towards the light, camera space
uniform vec3 light_colour;
uniform vec3 ambient;
uniform vec3 up;                  // camera space
uniform vec3 sky;                 // extra light from above
uniform vec2 gloss;               // amount, exponent
uniform float wrap;
out vec4 colour;
float hash(vec3 p) {
    p = fract(p * 0.3183099 + 0.1) * 17.0;
    return fract(p.x * p.y * p.z * (p.x + p.y + p.z));
}
float lattice(vec3 p) {
    vec3 i = floor(p), f = fract(p);
    f = f * f * (3.0 - 2.0 * f);
    vec4 a = vec4(hash(i), hash(i + vec3(1, 0, 0)), hash(i + vec3(0, 1, 0)), hash(i + vec3(1, 1, 0)));
    vec4 b = vec4(hash(i + vec3(0, 0, 1)), hash(i + vec3(1, 0, 1)), hash(i + vec3(0, 1, 1)), hash(i + vec3(1)));
    vec4 c = mix(a, b, f.z);
    return mix(mix(c.x, c.y, f.x), mix(c.z, c.w, f.x), f.y);
}
void main() {
    if (layer > 0.0) {  // a hair ends somewhere along its length, near its neighbours' ends
        float tuft = lattice(v_lock * vec3(1.0, 1.0, 0.35) * hair.x);
        float strand = hash(floor(v_lock * vec3(1.0, 1.0, 0.3) * hair.y) + 7.0);
        if (0.15 + 0.95 * tuft * tuft + 0.5 * (strand - 0.3) < layer) discard;
    }
    float m = smoothstep(edge.x - edge.y, edge.x + edge.y, v_pattern);
    vec3 albedo = mix(v_light_colour, v_dark_colour, m);
    albedo *= 1.0 + fur.x * (hash(floor(v_lock * fur.y / vec3(1.0, streak, sqrt(streak)))) - 0.5);
    albedo *= 0.92 + 0.16 * abs(layer);
    vec3 d = normalize(v_normal);
    vec3 view = normalize(-v_position);
    if (dot(d, view) < 0.0) d = -d;
    float diffuse = max(0.0, (dot(d, light_direction) + wrap) / (1.0 + wrap));
    float hemisphere = 0.5 + 0.5 * dot(d, up);
    float shine = 0.0;
    if (gloss.x > 0.0)
        shine = gloss.x * pow(max(0.0, dot(d, normalize(light_direction + view))), gloss.y);
    colour = vec4(albedo * (ambient + sky * hemisphere + light_colour * diffuse) + shine * light_colour, 1.0);
}
"""


_SKIN = ((0.0, -0.5),)
_SHELLS = ((0.25, -0.25), (0.55, 0.5), (0.9, 0.85))  # how far out; the first is dense


class RenderUnavailable(TrainingError):
    """No OpenGL 4.3 context can be made on this machine."""


@dataclass(frozen=True)
class Light:
    """Light of one clip in world space (Z up): linear RGB strengths, `direction` towards the light (3,)."""

    direction: np.ndarray
    colour: np.ndarray
    ambient: np.ndarray
    sky: np.ndarray
    wrap: float = 0.2
    gloss: float = 0.0
    exponent: float = 20.0


def random_light(rng: np.random.Generator) -> Light:
    """A random sun, sky and ambient; the sum stays near one so that most coats are neither black nor burnt."""
    azimuth, height = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(5, 85))
    direction = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    tint = 1 + rng.normal(0, 0.06, (3, 3))
    parts = rng.uniform([0.1, 0.2, 0.05], [1.0, 0.6, 0.5])
    sun, flat, sky = parts * rng.uniform(0.8, 1.25) / (parts @ [0.5, 1.0, 0.6])  # as a camera would expose
    return Light(
        direction,
        sun * tint[0],
        flat * tint[1],
        sky * tint[2],
        wrap=rng.uniform(0, 0.5),
        gloss=rng.uniform(0, 0.3) if rng.random() < 0.4 else 0.0,
        exponent=rng.uniform(6, 40),
    )


class NormalSolver:
    """Smooth vertex normals for many poses of one mesh; vertices at one rest position share a normal.

    faces (F, 3); rest (V, 3). Calling it with vertices (N, V, 3) gives area-weighted unit normals (N, V, 3).
    """

    def __init__(self, rest: np.ndarray, faces: np.ndarray):
        self.faces = np.asarray(faces)
        span = float(np.ptp(rest, axis=0).max()) or 1.0
        _, self.group = np.unique(np.round(rest / span * 1e5).astype(np.int64), axis=0, return_inverse=True)
        self.group = self.group.reshape(-1)
        corner = self.group[self.faces.reshape(-1)]
        face = np.repeat(np.arange(len(self.faces)), 3)
        shape = (int(self.group.max()) + 1, len(self.faces))
        self.sum = csr_matrix((np.ones(len(face), np.float32), (corner, face)), shape=shape)

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        corner = vertices[:, self.faces]  # (N, F, 3, 3)
        normal = np.cross(corner[:, :, 1] - corner[:, :, 0], corner[:, :, 2] - corner[:, :, 0])
        count = len(vertices)
        flat = np.ascontiguousarray(normal.transpose(1, 0, 2)).reshape(len(self.faces), -1)
        total = (self.sum @ flat).reshape(-1, count, 3)[self.group].transpose(1, 0, 2)
        length = np.linalg.norm(total, axis=-1, keepdims=True)
        return (total / np.maximum(length, 1e-12)).astype(np.float32)


class Renderer:
    """One GL context and one atlas that grows as needed.

    gl: 'auto' (EGL, which needs no display and takes a GPU's driver where there is one, else what the platform
    has), 'egl', 'egl:N' for the N-th device, 'platform' (GLX, WGL or CGL; wants a display). Raises
    `RenderUnavailable` without OpenGL 4.3, TrainingError for any other word. `.name` is the driver's own.
    """

    def __init__(self, gl: str = "auto") -> None:
        kind, _, device = gl.partition(":")
        if kind not in ("auto", "egl", "platform") or (device and (kind != "egl" or not device.isdigit())):
            raise TrainingError(f"gl must be 'auto', 'egl', 'egl:N' or 'platform', not '{gl}'")
        egl: dict[str, Any] = {"backend": "egl"} | ({"device_index": int(device)} if device else {})
        ways: dict[str, list[dict[str, Any]]] = {"auto": [egl, {}], "egl": [egl], "platform": [{}]}
        why = []
        for way in ways[kind]:
            try:
                import moderngl

                self.gl = moderngl.create_context(require=430, standalone=True, **way)
                break
            except Exception as error:  # moderngl raises bare Exception for a missing driver
                why.append(f"{way.get('backend', 'the platform')}: {error}")
        else:
            raise RenderUnavailable(
                f"no OpenGL 4.3 ({'; '.join(why)}); install libegl1 and libgl1-mesa-dri, or a graphics driver"
            )
        self.name = str(self.gl.info["GL_RENDERER"])
        self.gl.enable(moderngl.DEPTH_TEST)
        self.gl.front_face = "cw"  # counter-clockwise in a picture whose rows go down
        self.cull = moderngl.CULL_FACE
        self.program: Any = self.gl.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self.atlas: Any = None

    def close(self) -> None:
        """Free the GL context."""
        self.gl.release()

    def _target(self, size: tuple[int, int]):
        if self.atlas is None or self.atlas.size != size:
            if self.atlas is not None:
                for attachment in (*self.atlas.color_attachments, self.atlas.depth_attachment):
                    attachment.release()
                self.atlas.release()
            self.atlas = self.gl.framebuffer(
                [self.gl.renderbuffer(size, 4)], self.gl.depth_renderbuffer(size)
            )
        return self.atlas

    def render(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        focal: np.ndarray,
        principal: np.ndarray,
        size: tuple[int, int],
        coat: Coat,
        light: Light,
        camera_from_world: np.ndarray,
        normals: np.ndarray,
        closed: bool = False,
    ) -> np.ndarray:
        """Render N views of one mesh.

        vertices, normals (N, V, 3) in OpenCV camera space; faces (F, 3); focal (N,) px; principal (2,) px;
        size (width, height); camera_from_world (N, 4, 4) turns the light; closed: the surface has no holes and
        faces out, so that what faces away need not be drawn. Returns (N, H, W, 4) uint8 RGBA, alpha 255 on
        the subject.
        """
        count, points = vertices.shape[:2]
        width, height = size
        columns = math.ceil(math.sqrt(count * height / width))
        rows = math.ceil(count / columns)
        target = self._target((columns * width, rows * height))
        target.use()
        target.clear(0, 0, 0, 0)
        buffers = [self.gl.buffer(np.ascontiguousarray(a, np.float32).tobytes()) for a in (vertices, normals)]
        for slot, buffer in enumerate(buffers):
            buffer.bind_to_storage_buffer(slot)
        hair = np.zeros(points) if coat.hair is None else coat.hair
        lock = coat.rest + 0.02 * np.sin(31.0 * coat.rest[:, [2, 0, 1]])
        pattern = np.sin(coat.rest @ coat.wave[:, :3].T + coat.wave[:, 3]) @ coat.amplitude
        packed = np.concatenate([lock, pattern[:, None], hair[:, None], coat.light, coat.dark], axis=1)
        packed = packed.astype(np.float32)
        vbo = self.gl.buffer(np.ascontiguousarray(packed).tobytes())
        ibo = self.gl.buffer(np.ascontiguousarray(faces, np.int32).tobytes())
        attributes = ("in_lock", "in_pattern", "in_hair", "in_light_colour", "in_dark_colour")
        vao = self.gl.vertex_array(self.program, [(vbo, "3f 1f 1f 3f 3f", *attributes)], ibo)
        tips: Any = None
        fringe: Any = None
        rim, turned = faces, np.zeros((0, 0), bool)
        if coat.hair is not None:
            tips = self.gl.buffer(reserve=4 * faces.size)
            fringe = self.gl.vertex_array(self.program, [(vbo, "3f 1f 1f 3f 3f", *attributes)], tips)
            facing = np.einsum("nvi,nvi->nv", vertices, normals)
            turned = np.abs(facing) < 0.65 * np.linalg.norm(vertices, axis=-1)
        self._uniforms(coat, light)
        (self.gl.enable if closed else self.gl.disable)(self.cull)
        depth = vertices[..., 2]
        self.program["near_far"].value = (0.02, float(max(depth.max() * 1.5, 1.0)))
        for i in range(count):
            column, row = i % columns, i // columns
            box = (column * width, row * height, width, height)
            target.viewport = box
            target.scissor = box
            rotation = camera_from_world[i, :3, :3]
            self.program["first"].value = i * points
            self.program["camera"].value = (
                2 * focal[i] / width,
                2 * focal[i] / height,
                2 * principal[0] / width - 1,
                2 * principal[1] / height - 1,
            )
            self.program["light_direction"].value = tuple(rotation @ light.direction)
            self.program["up"].value = tuple(rotation[:, 2])
            self.program["hang"].value = tuple(-coat.droop * rotation[:, 2])
            for number, (shell, layer) in enumerate(_SHELLS if coat.hair is not None else _SKIN):
                self.program["shell"].value, self.program["layer"].value = shell, layer
                if number == 0:
                    vao.render()
                    continue
                if number == 1:  # hair tips only show where the surface turns away
                    rim = faces[turned[i][faces].any(1)]
                    tips.write(np.ascontiguousarray(rim, np.int32).tobytes())
                if len(rim):
                    fringe.render(vertices=rim.size)
        target.scissor = None
        pixels = np.frombuffer(target.read(components=4), np.uint8)
        for item in (vao, fringe, vbo, ibo, tips, *buffers):
            if item is not None:
                item.release()
        tiles = pixels.reshape(rows, height, columns, width, 4).transpose(0, 2, 1, 3, 4)
        return tiles.reshape(rows * columns, height, width, 4)[:count]

    def _uniforms(self, coat: Coat, light: Light) -> None:
        program = self.program
        program["edge"].value = coat.edge
        program["fur"].value = coat.fur
        program["streak"].value = coat.streak
        program["hair"].value = (coat.tufts, coat.strands)
        program["light_colour"].value = tuple(light.colour)
        program["ambient"].value = tuple(light.ambient)
        program["sky"].value = tuple(light.sky)
        program["gloss"].value = (light.gloss, light.exponent)
        program["wrap"].value = light.wrap
