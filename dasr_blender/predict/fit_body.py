# SPDX-License-Identifier: GPL-3.0-or-later
"""The body as the fit bends it: where its points are drawn, and how they move with every unknown.

Unknowns of a frame (n = 6 + 3 (J − 1)): a turn of the root about the camera's axes, its place (u, v, w) relative to
the crop (`core.camera.decode_root`), and a turn of every other joint about its parent's axes; turns are rotation
vectors by which the given rotations are left-multiplied. Shared unknowns, g = K + S + 1: proportions in standard
deviations from the given ones and the heights of the relief (`fit_relief`), then the logarithm of the focal length
over the given.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..core.camera import decode_root
from ..core.category import Category
from ..core.mesh import mesh_edges
from ..core.pose_errors import PoseErrors
from ..core.rotation import quat_multiply, quat_to_matrix, rotvec_to_matrix, rotvec_to_quat
from ..core.skinning import dense_weights
from .coarse import CoarseBody

Array = np.ndarray

_CELLS = 36  # along a crop's side: in which the nearest vertex hides the others
_FACING = 0.2  # cosine with the way to the camera under which a vertex is turned away


@dataclass(frozen=True, eq=False)
class Start:
    """What the unknowns are counted from, and the crops.

    rotation ``(T, 3, 3)`` camera from root; place ``(T, 3)``; joints ``(T, J, 4)``; morphology ``(K,)``;
    center ``(T, 2)``, side ``(T,)``, focal ``(T,)``, pp ``(2,)``: pixels.
    """

    rotation: Array
    place: Array
    joints: Array
    morphology: Array
    center: Array
    side: Array
    focal: Array
    pp: Array

    def __len__(self) -> int:
        return len(self.side)

    def part(self, frames: slice | Array) -> Start:
        """Some of the frames."""
        per_frame = (self.rotation, self.place, self.joints, self.center, self.side, self.focal)
        rotation, place, joints, center, side, focal = (a[frames] for a in per_frame)
        return Start(rotation, place, joints, self.morphology, center, side, focal, self.pp)


def left_jacobian(vector: Array) -> Array:
    """How exp turns when its rotation vector ``(..., 3)`` changes: exp(v + dv) ≈ exp(J dv) exp(v), ``(..., 3, 3)``.

    I + (1 − cos a)/a² [v] + (a − sin a)/a³ [v]²; Chirikjian, "Stochastic Models, Information Theory, and Lie
    Groups", vol. 2, 2011.
    """
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    small = angle < 1e-3
    safe = np.where(small, 1.0, angle)
    one = np.where(small, 0.5 - angle**2 / 24, (1 - np.cos(safe)) / safe**2)
    two = np.where(small, 1 / 6 - angle**2 / 120, (safe - np.sin(safe)) / safe**3)
    cross = skew(vector)
    return np.eye(3) + one * cross + two * (cross @ cross)


def inverse_left_jacobian(vector: Array) -> Array:
    """The inverse of :func:`left_jacobian`, ``(..., 3, 3)``, for angles under 2π.

    I − [v]/2 + (1 − a/2 cot a/2)/a² [v]²; Chirikjian, as above.
    """
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    small = angle < 1e-3
    half = np.where(small, 1.0, 0.5 * angle)
    two = np.where(small, 1 / 12 + angle**2 / 720, (1 - half / np.tan(half)) / (4 * half**2))
    cross = skew(vector)
    return np.eye(3) - 0.5 * cross + two * (cross @ cross)


def skew(vector: Array) -> Array:
    """The matrix ``(..., 3, 3)`` of the cross product with ``(..., 3)``."""
    x, y, z = np.moveaxis(np.asarray(vector, np.float64), -1, 0)
    zero = np.zeros_like(x)
    return np.stack(
        [np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2
    )


class BodyModel:
    """A category's coarse body, laid out for the fit.

    pose_errors: how the category's network errs; precision ``(n, n)``: inverse of how those errors go together, for a
    frame's unknowns in units of their usual error.
    relief ``(S, V)`` metres: shapes that the surface may be raised by along its normals beside the proportions.
    raised ``(V,)`` metres, or nothing ``(0,)``: by how much it is raised to begin with.
    """

    def __init__(
        self,
        category: Category,
        coarse: CoarseBody,
        relief: Array | None = None,
        raised: Array | None = None,
    ) -> None:
        body, skeleton = category.body, category.skeleton
        self.category, self.coarse = category, coarse
        self.parents = skeleton.parents
        self.joints = len(skeleton)
        self.relief = np.zeros((0, len(body.vertices))) if relief is None else np.asarray(relief, np.float64)
        self.proportions = len(body.morphology_std)
        self.std = body.morphology_scale
        self.shared = self.proportions + len(self.relief) + 1
        self.size = 6 + 3 * (self.joints - 1)
        self.pose_errors = category.pose_errors or PoseErrors.unknown(self.joints)
        self.precision = np.eye(self.size)
        self.precision[6:, 6:] = np.linalg.inv(self.pose_errors.correlation)
        self.faces = coarse.faces
        rest = body.vertices[coarse.vertex] + coarse.swell
        if raised is not None and len(raised):
            rest = rest + body.raised(raised)[coarse.vertex]
        self.rest = rest.astype(np.float32)  # (V, 3)
        index, weight = body.skin_index[coarse.vertex], body.skin_weight[coarse.vertex]
        self.weights = dense_weights(index, weight, self.joints).astype(np.float32)  # (V, J)
        # bases in units of the unknowns
        grown = body.morphology_vertices[:, coarse.vertex] * self.std[:, None, None]
        self.basis = grown.astype(np.float32)  # (K, V, 3)
        self.basis_of = np.ascontiguousarray(self.basis.transpose(1, 2, 0))  # (V, 3, K)
        self.joint_basis = body.morphology_joints * self.std[:, None, None]  # (K, J, 3)
        self.normals = body.normals[coarse.vertex].astype(np.float32)  # (V, 3)
        skinned = self.weights[..., None] * self.normals[:, None]
        self.skinned_normals = skinned.reshape(len(rest), -1)  # (V, 3 J)
        self.heights = np.ascontiguousarray(self.relief[:, coarse.vertex].T, np.float32)  # (V, S)
        below = np.zeros((self.joints, self.joints), np.float32)  # [j, k]: k is j or above it
        for j in range(self.joints):
            k = j
            while k >= 0:
                below[j, k] = 1
                k = self.parents[k]
        self.below = below
        self.carried = self.weights @ below  # (V, J): weight of all that hangs on each joint
        self.edges, self.edge_faces = _edges(self.faces)
        # the corner that each of an edge's faces has beside it, (E, 2)
        self.across = self.faces[self.edge_faces].sum(2) - self.edges.sum(1, keepdims=True)

    def shaped(self, morphology: Array, shared: Array) -> tuple[Array, Array]:
        """Coarse rest vertices ``(V, 3)`` float32 and joints ``(J, 3)`` at the shared unknowns ``(g,)``,
        counted from proportions ``(K,)``."""
        share = np.asarray(morphology, np.float64) / self.std + shared[: self.proportions]
        vertices = self.rest + np.tensordot(share.astype(np.float32), self.basis, axes=1)
        raised = self.heights @ shared[self.proportions : -1].astype(np.float32)
        vertices += raised[:, None] * self.normals
        return vertices, self.category.body.joints + np.tensordot(share, self.joint_basis, axes=1)


def _edges(faces: Array) -> tuple[Array, Array]:
    """Edges between two faces ``(E, 2)`` and those faces ``(E, 2)``."""
    ends, owners, signs = mesh_edges(faces)
    shared = signs[:, 1] != 0
    ends, owners = ends[shared], owners[shared]
    # in a mesh that is no manifold an edge may be met more than twice: the first two stand for it
    first = np.append(True, (ends[1:] != ends[:-1]).any(1))[: len(ends)]
    return ends[first], owners[first]


@dataclass(eq=False)
class Posed:
    """The body at given unknowns.

    rotation ``(T, 3, 3)``, root ``(T, 3)``: camera from root.  turned ``(T, J, 3, 3)`` and placed ``(T, J, 3)``:
    joints in body space.  axes ``(T, J, 3, 3)``: body-space turn of each joint per unit of its unknown.
    camera ``(T, V, 3)`` float32: vertices in camera space.  seen ``(T, V, 2)`` float32: in crop sides from the
    crop's centre.  focal ``(T,)`` pixels.  locals ``(T, J, 4)``: the joints' rotations.
    """

    model: BodyModel
    start: Start
    rotation: Array
    root: Array
    place: Array
    locals: Array
    turned: Array
    placed: Array
    axes: Array
    vertices: Array
    transforms: Array
    camera: Array
    seen: Array
    focal: Array

    @property
    def camera_from_root(self) -> Array:
        """``(T, 4, 4)``."""
        out = np.tile(np.eye(4), (len(self.root), 1, 1))
        out[:, :3, :3], out[:, :3, 3] = self.rotation, self.root
        return out

    @cached_property
    def joint_motion(self) -> Array:
        """Per unit of each proportion, the motion of a joint's frame less its turned rest place, ``(T, J, 3 K)``."""
        model = self.model
        basis = model.joint_basis.transpose(1, 2, 0)  # (J, 3, K)
        moved = np.zeros((len(self.root), *basis.shape))
        for j in range(1, model.joints):
            p = model.parents[j]
            moved[:, j] = moved[:, p] + self.turned[:, p] @ (basis[j] - basis[p])
        return (moved - self.turned @ basis).astype(np.float32).reshape(len(moved), model.joints, -1)


def pose(model: BodyModel, start: Start, frames: Array, shared: Array) -> Posed:
    """The body at the frames' unknowns ``(T, n)`` and the shared ones ``(g,)``."""
    count, joints = len(frames), model.joints
    turn = np.zeros((count, joints, 3))
    turn[:, 0] = frames[:, :3]
    turn[:, 1:] = frames[:, 6:].reshape(count, joints - 1, 3)
    rotation = rotvec_to_matrix(turn[:, 0]) @ start.rotation
    place = start.place + frames[:, 3:6]
    focal = start.focal * np.exp(shared[-1])
    root = decode_root(
        np.broadcast_to(np.eye(3), (count, 3, 3)), place, start.center, start.side, focal, start.pp
    )
    root = root[:, :3, 3]
    rotations = quat_multiply(rotvec_to_quat(turn), start.joints)
    rotations[:, 0] = [1, 0, 0, 0]
    vertices, rest = model.shaped(start.morphology, shared)
    local = quat_to_matrix(rotations)
    turned, placed = np.empty((count, joints, 3, 3)), np.empty((count, joints, 3))
    turned[:, 0], placed[:, 0] = np.eye(3), rest[0]
    axes = left_jacobian(turn)
    axes[:, 0] = np.swapaxes(rotation, 1, 2) @ axes[:, 0]
    for j in range(1, joints):
        p = model.parents[j]
        turned[:, j] = turned[:, p] @ local[:, j]
        placed[:, j] = placed[:, p] + turned[:, p] @ (rest[j] - rest[p])
        axes[:, j] = turned[:, p] @ axes[:, j]
    transforms = np.concatenate([turned, (placed - (turned @ rest[..., None])[..., 0])[..., None]], -1)
    transforms = transforms.astype(np.float32)  # (T, J, 3, 4)
    homogeneous = np.concatenate([vertices, np.ones((len(vertices), 1), np.float32)], 1)
    weighted = (model.weights[:, :, None] * homogeneous[:, None, :]).reshape(len(vertices), joints * 4)
    stacked = transforms.transpose(0, 2, 1, 3).reshape(count * 3, joints * 4)
    body = (stacked @ weighted.T).reshape(count, 3, len(vertices)).transpose(0, 2, 1)
    camera = body @ np.swapaxes(rotation, 1, 2).astype(np.float32) + root[:, None].astype(np.float32)
    seen = in_crop(camera, start, focal)
    return Posed(
        model,
        start,
        rotation,
        root,
        place,
        rotations,
        turned,
        placed,
        axes,
        homogeneous,
        transforms,
        camera,
        seen,
        focal,
    )


def in_crop(camera: Array, start: Start, focal: Array) -> Array:
    """Camera-space points ``(T, N, 3)`` as ``(T, N, 2)`` float32, crop sides from the crop's centre."""
    depth = np.maximum(camera[..., 2:], 1e-2)
    gain = (focal / start.side).astype(np.float32)[:, None, None]
    middle = ((start.center - start.pp) / start.side[:, None]).astype(np.float32)[:, None]
    return camera[..., :2] / depth * gain - middle


@dataclass(eq=False)
class Points:
    """Points of the surface with all that their motion is made of.

    camera ``(T, N, 3)``; lever ``(T, N, 3, J)``: what each joint carries of the point, from the joint, body space;
    shape ``(T, N, 3, K)``: body-space motion per unit of each proportion; raised ``(T, N, P, 3)``: body-space motion
    per metre that the surface is raised at each of the vertices ``(T, N, P)`` it lies between.  All but the last
    float32.
    """

    camera: Array
    lever: Array
    shape: Array
    raised: Array
    vertex: Array

    def mixed(self, slots: Array, share: Array) -> Points:
        """Points between two others: slots ``(T, M, 2)`` of these, share ``(T, M)`` of the second."""
        rows = np.arange(len(slots))[:, None]
        second = share[..., None].astype(np.float32)

        def mix(values: Array) -> Array:
            part = second.reshape(second.shape + (1,) * (values.ndim - 3))
            first = values[rows, slots[..., 0]]
            return first + part * (values[rows, slots[..., 1]] - first)

        def both(values: Array) -> list[Array]:
            return [values[rows, slots[..., k]] for k in range(2)]

        one, two = both(self.raised)
        raised = np.concatenate([(1 - second[..., None]) * one, second[..., None] * two], 2)
        vertex = np.concatenate(both(self.vertex), 2)
        return Points(mix(self.camera), mix(self.lever), mix(self.shape), raised, vertex)


def points(posed: Posed, vertex: Array) -> Points:
    """The coarse vertices `vertex` ``(T, N)`` of every frame."""
    model = posed.model
    count, number = vertex.shape
    joints, kinds = model.joints, model.proportions
    rows = np.arange(count)[:, None]
    weight = model.weights[vertex]  # (T, N, J)
    # every joint's idea of where the point is: (T, N, 4) @ (T, 4, 3 J)
    ideas = posed.vertices[vertex] @ posed.transforms.transpose(0, 3, 2, 1).reshape(count, 4, 3 * joints)
    ideas = ideas.reshape(count, number, 3, joints) * weight[:, :, None]
    lever = (ideas.reshape(count * number * 3, joints) @ model.below).reshape(count, number, 3, joints)
    placed = np.ascontiguousarray(posed.placed.transpose(0, 2, 1), np.float32)  # (T, 3, J)
    lever -= model.carried[vertex][:, :, None] * placed[:, None]
    # proportions: the skin's turn of the vertex's own basis, and what the joints' places add
    blend = _skin_turns(posed, weight)
    shape = blend @ model.basis_of[vertex]
    shape += (weight @ posed.joint_motion).reshape(count, number, 3, kinds)
    raised = (blend @ model.normals[vertex][..., None])[:, :, None, :, 0]
    return Points(posed.camera[rows, vertex], lever, shape, raised, vertex[..., None])


def visible_vertices(posed: Posed, number: int) -> tuple[Array, Array]:
    """The first `number` vertices that face the camera and that nothing hides: ``(T, N)``, and whether there were as
    many ``(T, N)``.

    A vertex is hidden by a nearer one in its cell of a grid.
    """
    count = len(posed.root)
    model = posed.model
    turned = (posed.rotation[:, None] @ posed.turned).astype(np.float32)  # (T, J, 3, 3), camera from a joint's rest
    stacked = turned.transpose(0, 2, 1, 3).reshape(count * 3, model.joints * 3)
    normal = (stacked @ model.skinned_normals.T).reshape(count, 3, -1).transpose(0, 2, 1)
    facing = -(normal * posed.camera).sum(-1)
    cell = np.clip(np.floor((posed.seen + 0.5) * _CELLS), 0, _CELLS - 1).astype(np.int64)
    index = (np.arange(count)[:, None] * _CELLS + cell[..., 1]) * _CELLS + cell[..., 0]
    depth = posed.camera[..., 2]
    nearest = np.full(count * _CELLS * _CELLS, np.inf, np.float32)
    np.minimum.at(nearest, index.ravel(), depth.ravel())
    frame = np.arange(count)[:, None]
    shown = (depth <= nearest[index] + 0.03) & (np.abs(posed.seen) < 0.5).all(-1)
    shown &= facing > _FACING * np.linalg.norm(posed.camera, axis=-1)
    chosen = np.argsort(~shown, axis=1, kind="stable")[:, :number]
    return chosen, shown[frame, chosen]


def _skin_turns(posed: Posed, weight: Array) -> Array:
    """How the skin turns ``(T, N, 3, 3)`` where joints weigh ``([T,] N, J)``, in body space."""
    flat = posed.turned.astype(np.float32).reshape(len(posed.root), posed.model.joints, 9)
    turns = weight @ flat
    return turns.reshape(*turns.shape[:2], 3, 3)


def rows(posed: Posed, found: Points, direction: Array, picture: Array | None) -> tuple[Array, Array]:
    """Derivatives of ``direction · point`` in camera space, ``(T, A N, n)`` and ``(T, A N, g)`` float32: of all points
    along the first of A directions, then along the next.

    direction: ``(T, A, N, 3)``. picture: ``(T, A, N, 2)`` where the directions are those of picture coordinates (see
    :func:`picture_direction`), the weights of x and y in them; None for directions in space.
    """
    model, start = posed.model, posed.start
    count, ways, number = direction.shape[:3]
    body = direction @ posed.rotation.astype(np.float32)[:, None]  # camera to body: mᵀ R
    lx, ly, lz = (found.lever[:, None, :, k] for k in range(3))  # (T, 1, N, J)
    mx, my, mz = (body[..., k, None] for k in range(3))
    cross = (ly * mz - lz * my, lz * mx - lx * mz, lx * my - ly * mx)
    axes = np.ascontiguousarray(posed.axes.transpose(0, 3, 2, 1), np.float32)  # (T, unknown, axis, J)
    own = np.empty((count, ways, number, model.size), np.float32)
    turns = own[..., 6:].reshape(count, ways, number, -1, 3)  # of all joints but the root
    for b in range(3):
        x, y, z = (axes[:, None, None, b, c] for c in range(3))  # (T, 1, 1, J)
        turn = cross[0] * x
        turn += cross[1] * y
        turn += cross[2] * z
        own[..., b], turns[..., b] = turn[..., 0], turn[..., 1:]
    depth = posed.root[:, 2].astype(np.float32)[:, None, None]
    across = (start.side / posed.focal).astype(np.float32)[:, None, None] * depth
    own[..., 3], own[..., 4] = direction[..., 0] * across, direction[..., 1] * across
    own[..., 5] = (direction @ posed.root.astype(np.float32)[:, None, :, None])[..., 0]
    shared = np.empty((count, ways, number, model.shared), np.float32)
    known = model.proportions
    shared[..., :known] = (body[..., None, :] @ found.shape[:, None])[..., 0, :]
    if len(model.relief):
        gain = (found.raised[:, None] @ body[..., None])[..., 0]  # (T, A, N, P)
        shared[..., known:-1] = sum(
            gain[..., p, None] * model.heights[found.vertex[..., p]][:, None] for p in range(gain.shape[-1])
        )
    # a longer focal length with (u, v, w) as they are: the root's depth grows with it, its offset does not
    shared[..., -1] = direction[..., 2] * depth
    if picture is not None:
        scale = (posed.focal / start.side).astype(np.float32)[:, None, None]
        z = np.maximum(found.camera[:, None, :, 2], 1e-2)
        shared[..., -1] += ((picture * found.camera[:, None, :, :2]).sum(-1) / z) * scale
    return own.reshape(count, ways * number, -1), shared.reshape(count, ways * number, -1)


def picture_direction(posed: Posed, found: Points, picture: Array) -> Array:
    """Camera-space directions ``(T, A, N, 3)`` whose product with a point's motion is the motion of ``picture · seen``.

    picture ``(T, A, N, 2)``: weights of x and y, which are in crop sides.
    """
    z = np.maximum(found.camera[:, None, :, 2], 1e-2)
    gain = (posed.focal / posed.start.side).astype(np.float32)[:, None, None] / z
    ahead = -(picture * found.camera[:, None, :, :2]).sum(-1) / z
    return np.concatenate([picture, ahead[..., None]], -1).astype(np.float32) * gain[..., None]
