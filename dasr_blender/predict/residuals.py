# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fit wants to be small, each with its derivatives.

A function here gives :class:`Rows`: residuals in units of their usual error, how they move with a frame's unknowns
and with the shared ones, and weights. Which point belongs to which is settled before, so a residual is a smooth
function of the unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from ..core.rotation import quat_conjugate, quat_multiply, quat_to_rotvec
from .contour import Outlines, Rims, sample
from .fit_body import Points, Posed, in_crop, inverse_left_jacobian, left_jacobian, picture_direction, rows

Array = np.ndarray


@dataclass(eq=False)
class Rows:
    """value ``(T, N)``, own ``(T, N, n)``, shared ``(T, N, g)`` and weight ``(T, N)``, float32; loss ``(T,)``.

    The weight is that of reweighted least squares, the loss a frame's robust cost: ½ Σ share · ρ. following
    ``(T, N, n)``: where a row also depends on the next frame's unknowns (the last frame's rows then have weight 0).
    """

    value: Array
    own: Array
    shared: Array
    weight: Array
    loss: Array
    following: Array | None = None


def geman(square: Array, reach: float | Array) -> Array:
    """Weight of a residual by iteratively reweighted least squares, for ρ = r²/(1 + r²/reach²) (Geman & McClure)."""
    return 1 / (1 + square / reach**2) ** 2


def shares(weight: Array, evidence: float) -> Array:
    """Weights ``(T, N)`` that add up to `evidence` in every frame that has any."""
    total = weight.sum(1, keepdims=True)
    return (weight * (evidence / np.maximum(total, 1e-6))).astype(np.float32)


def picture_rows(
    posed: Posed, found: Points, picture: Array, value: Array, share: Array, robust: Array, noise: float
) -> Rows:
    """Rows whose residual moves as ``picture · seen``: A for each of N points, all along the first, then the next.

    picture ``(T, A, N, 2)``, value ``(T, A, N)`` in crop sides; share: evidence, and robust: see `geman`, both of
    A or of one.
    """
    scale = np.float32(1 / noise)
    picture = picture * scale
    own, shared = rows(posed, found, picture_direction(posed, found, picture), picture)
    return weighted(value * scale, own, shared, share, robust)


def weighted(value: Array, own: Array, shared: Array, share: Array, robust: Array) -> Rows:
    """Rows with the weights of reweighted least squares; value ``(T, A, N)``, share and robust of A or of one.

    With w = 1/(1 + q)², ρ = r²/(1 + q) = r² √w.
    """
    loss = 0.5 * (share * np.sqrt(robust) * value**2).sum((1, 2))
    weight = np.broadcast_to(share * robust, value.shape)
    value, weight = (v.reshape(len(v), -1).astype(np.float32) for v in (value, weight))
    return Rows(value, own, shared, weight, loss)


def rim_distance(middle: Array, rims: Rims, outlines: Outlines) -> tuple[Array, Array, Array]:
    """Signed distance ``(T, R)`` from each rim's middle ``(T, R, 2)`` to the mask's outline, the slope ``(T, R, 2)``,
    and which are to be trusted ``(T, R)``: those that are drawn inside the picture."""
    frame = np.arange(len(rims.ends))[:, None]
    value, slope = sample(outlines.distance, middle)
    size = outlines.size
    x, y = np.moveaxis(np.clip(np.floor((middle + 0.5) * size), 0, size - 1).astype(np.int64), -1, 0)
    return value, slope, (rims.length > 0) & outlines.inside[frame, y, x]


def body_to_mask(
    posed: Posed, found: Points, rims: Rims, outlines: Outlines, noise: float, reach: float, evidence: float
) -> Rows:
    """The body's rim lies on the mask's outline: the outline's signed distance at the middle of every rim.

    found: the rims' middles.
    """
    value, slope, known = rim_distance(in_crop(found.camera, posed.start, posed.focal), rims, outlines)
    share = shares(rims.length * known, evidence)
    picture, value = slope[:, None], value[:, None]
    return picture_rows(posed, found, picture, value, share[:, None], geman(value**2, reach), noise)


def mask_to_body(
    posed: Posed, found: Points, outlines: Outlines, noise: float, reach: float, evidence: float, along: float
) -> Rows:
    """The mask's outline lies on the body's rim: the offset to the nearest rim, across the outline and, with the
    weight `along`, along it. found: the rims' points, one for each of the outline's."""
    offset = in_crop(found.camera, posed.start, posed.focal) - outlines.point
    share, robust = shares(outlines.weight, evidence), geman((offset**2).sum(-1), reach)[:, None]
    across = outlines.normal
    picture = np.stack([across, np.stack([-across[..., 1], across[..., 0]], -1)], 1)
    value = (offset[:, None] * picture).sum(-1)
    return picture_rows(posed, found, picture, value, np.stack([share, share * along], 1), robust, noise)


def surface_map(
    posed: Posed,
    found: Points,
    seen: Array,
    target: Array,
    weight: Array,
    noise: float,
    reach: float,
    evidence: float,
) -> Rows:
    """Points of the body are drawn where the surface map shows them.

    seen and target ``(T, N, 2)``: where they are drawn and shown; weight ``(T, N)``: trust, 0…1.
    """
    error = seen - target
    strength = np.minimum(weight.sum(1, keepdims=True) / 12.0, 1.0)
    share, robust = shares(weight, evidence) * strength, geman((error**2).sum(-1), reach)
    value = np.moveaxis(error, -1, 1)
    return picture_rows(posed, found, _axes(error), value, share[:, None], robust[:, None], noise)


def flow_rows(
    posed: Posed,
    following: Posed,
    here: Points,
    there: Points,
    there_seen: Array,
    moved: Array,
    weight: Array,
    noise: float,
    evidence: float,
) -> Rows:
    """Points of the body move from a frame to the next as the picture does.

    following: `shifted` posed.  here and there: the same points in a frame and, at the frame's place, in the next;
    there_seen and moved ``(T, N, 2)``: where they are drawn there, and where flow takes them, in the next frame's
    crop sides.
    """
    error = there_seen - moved
    share = shares(weight, evidence) * np.minimum(weight.sum(1, keepdims=True) / 12.0, 1.0)
    robust = geman((error**2).sum(-1), 3 * noise)
    said = np.moveaxis(error, -1, 1), share[:, None], robust[:, None], noise
    now = picture_rows(posed, here, _axes(error), *said)
    after = picture_rows(following, there, _axes(error), *said)
    # flow is read where the point is now, so where it takes the point moves along with it
    return Rows(now.value, -now.own, after.shared - now.shared, now.weight, now.loss, after.own)


def _axes(places: Array) -> Array:
    """The axes' directions at places ``(T, N, k)``, ``(T, k, N, k)``."""
    count, number, kinds = places.shape
    return np.broadcast_to(np.eye(kinds, dtype=np.float32)[:, None], (count, kinds, number, kinds))


def shifted(posed: Posed) -> Posed:
    """Every frame's place taken by the next one's; the last stays."""
    index = np.minimum(np.arange(len(posed.root)) + 1, len(posed.root) - 1)
    start = posed.start
    moved = {
        f.name: getattr(posed, f.name)[index]
        for f in fields(Posed)
        if f.name not in ("model", "start", "vertices")
    }
    parts = {
        name: getattr(start, name)[index]
        for name in ("rotation", "place", "joints", "center", "side", "focal")
    }
    return replace(posed, start=replace(start, **parts), **moved)


# ---- residuals of the joints' rotations alone


def excess(posed: Posed, limits: Array, noise: float) -> tuple[Array, Array]:
    """How far joints are beyond their limits, and how that moves with their unknowns.

    limits: ``(J, 3, 2)``, bounds of the rotation vector's components, radians. Returns value ``(T, J − 1, 3)`` in
    units of `noise` and derivatives ``(T, J − 1, 3, 3)``, zero within the limits.
    """
    vector, motion = rotation_vectors(posed)
    low, high = limits[1:, :, 0], limits[1:, :, 1]
    over = np.maximum(vector - high, 0) + np.minimum(vector - low, 0)
    beyond = (over != 0)[..., None]
    return over / noise, np.where(beyond, motion, 0.0) / noise


def rotation_vectors(posed: Posed) -> tuple[Array, Array]:
    """Joints' rotation vectors ``(T, J − 1, 3)`` and their derivatives ``(T, J − 1, 3, 3)`` by the unknowns."""
    vector = quat_to_rotvec(posed.locals[:, 1:])
    # exp(x) q₀ = exp(v): a change of x is, by the left Jacobians at x and at v, one of v
    turn = quat_to_rotvec(quat_multiply(posed.locals[:, 1:], quat_conjugate(posed.start.joints[:, 1:])))
    return vector, inverse_left_jacobian(vector) @ left_jacobian(turn)


def planted_feet(
    posed: Posed, found: Points, target: Array, standing: Array, noise: float, reach: Array
) -> Rows:
    """Feet that stand are where they stand.

    found: their points ``(T, F)``.  target ``(T, F, 3)``: where they stand, camera space.  standing ``(T, F)``: how
    surely.  noise: their usual distance, metres; reach ``(T, F)``: where a foot is no longer believed to stand
    there.
    """
    offset = found.camera - target.astype(np.float32)
    robust = geman((offset.astype(np.float64) ** 2).sum(-1), reach)
    scale = np.float32(1 / noise)
    own, shared = rows(posed, found, _axes(offset) * scale, None)
    value = np.moveaxis(offset, -1, 1) * scale
    return weighted(value, own, shared, standing[:, None], robust[:, None])
