# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the picture has to say about a posed body, residual by residual."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .contour import find_rims, nearest_rim
from .evidence import Evidence, follow
from .fit_body import Posed, in_crop, points, visible_vertices
from .fit_config import FitConfig
from .residuals import Rows, body_to_mask, flow_rows, mask_to_body, planted_feet, shifted, surface_map

Array = np.ndarray

ANNEALED = 5  # steps until evidence counts as it does from then on


def residual_rows(
    posed: Posed, evidence: Evidence, linked: Array, step: int, config: FitConfig
) -> Iterator[tuple[str, Rows]]:
    """Name and rows of each residual of some frames.

    linked ``(T,)`` bool: the next frame follows this one. step: of the solver; at first outlines are looked for from
    afar, and the surface map leads.
    """
    early = max(0.0, 1 - step / ANNEALED)
    far, near = config.outline_reach
    reach = near + (far - near) * early
    yield from outline_rows(posed, evidence, reach, config, coarse=config.coarse_start and step < ANNEALED)
    if evidence.surface_weight.any():
        vertex = evidence.surface_vertex
        yield (
            "surface map",
            surface_map(
                posed,
                points(posed, vertex),
                posed.seen[np.arange(len(vertex))[:, None], vertex],
                evidence.surface_target,
                evidence.surface_weight,
                config.surface_noise,
                max(reach, 2.5 * config.surface_noise),
                config.surface_evidence * (1 + config.surface_lead * early),
            ),
        )
    if evidence.flow is not None and len(linked) > 1 and linked[:-1].any():
        yield "flow", _flow(posed, evidence, evidence.flow, linked, config)
    if evidence.standing.any():
        noise = config.contact_noise * posed.model.category.nominal_size
        held = planted_feet(
            posed, points(posed, evidence.foot), evidence.planted, evidence.standing, noise, evidence.leash
        )
        held.shared[:] = 0  # where feet stand says nothing about the body's shape
        yield "feet", held


def outline_rows(
    posed: Posed, evidence: Evidence, reach: float, config: FitConfig, coarse: bool = False
) -> Iterator[tuple[str, Rows]]:
    """The body's rim and the mask's outline, both ways; coarse: at half as many places, worth as much together."""
    outlines = evidence.outlines.thinned() if coarse else evidence.outlines
    number = config.rims // 2 if coarse else config.rims
    rims = find_rims(posed, min(outlines.size, config.silhouette), number)
    count, number = rims.ends.shape[:2]
    ends = points(posed, rims.ends.reshape(count, -1))
    pair = np.arange(2 * number).reshape(1, -1, 2).repeat(count, 0)
    middle = ends.mixed(pair, np.full(pair.shape[:2], 0.5, np.float32))
    rows = body_to_mask(posed, middle, rims, outlines, config.outline_noise, reach, config.rim_evidence)
    yield "body to mask", _trusted(rows, evidence.trust)
    slot, share = nearest_rim(outlines, rims, posed, config.outline_turn)
    touched = ends.mixed(np.stack([2 * slot, 2 * slot + 1], -1), share)
    rows = mask_to_body(
        posed, touched, outlines, config.outline_noise, reach, config.edge_evidence, config.along
    )
    yield "mask to body", _trusted(rows, evidence.trust)


def _flow(posed: Posed, evidence: Evidence, flow: Array, linked: Array, config: FitConfig) -> Rows:
    """What ties a frame to the next. The last frame has none."""
    following = shifted(posed)
    vertex, shown = visible_vertices(posed, config.flow_points)
    seen = posed.seen[np.arange(len(vertex))[:, None], vertex]
    moved, trusted = follow(evidence.outlines, flow, seen)
    trusted = trusted * shown * linked[:, None]
    trusted[-1] = 0
    here, there = points(posed, vertex), points(following, vertex)
    landed = in_crop(there.camera, following.start, following.focal)
    noise, much = config.flow_noise, config.flow_evidence
    return flow_rows(posed, following, here, there, landed, moved, trusted, noise, much)


def _trusted(rows: Rows, trust: Array) -> Rows:
    rows.weight = rows.weight * trust[:, None].astype(np.float32)
    rows.loss = rows.loss * trust
    return rows
