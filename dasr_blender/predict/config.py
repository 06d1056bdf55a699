# SPDX-License-Identifier: GPL-3.0-or-later
"""How a path through the student's answers is chosen, placed and smoothed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackConfig:
    """How a path through the hypotheses is chosen and smoothed."""

    size: int = 48
    """side of the silhouettes that are compared, pixels"""
    iou_size: int = 64
    """side of the silhouettes whose overlap with the masks is reported, pixels"""
    vertices: int = 600
    """vertices of the coarse body whose silhouettes are drawn"""
    hypotheses: int = 4
    """distinct views a frame that are kept"""
    twin: float = 0.3
    """radians within which hypotheses are opinions of the same view and add up (standard deviation)"""
    reversed_view: float = 0.2
    """probability of the view from the other end, as a share of the likeliest view's"""
    silhouette: float = 6.0
    """cost of a silhouette that misses the mask completely"""
    alike: float = 0.25
    """seconds for which a student's mistakes stay the same: evidence counts by time, not by frame"""
    turn_rate: float = 2.5
    """radians a second that a root may turn at the cost of one"""
    turn_noise: float = 0.15
    """radians of error between neighbouring frames, whatever the frame rate"""
    shift_noise: float = 0.15
    """crop sides, and log depth, between neighbouring frames at the cost of one"""
    largest_jump: float = 40.0
    """cost of any jump: cuts happen, so no jump is impossible"""
    passes: int = 2
    """times the translation is solved from the silhouette"""
    prior: float = 0.5
    """weight of the predicted translation against each of the silhouette's edges"""
    root_sigma: float = 0.1
    """seconds of smoothing of the root's rotation and place in the picture"""
    depth_sigma: float = 0.2
    """and of its distance, also after the second look: it is told by the subject's size alone"""
    joint_sigma: float = 0.07
    """seconds of smoothing of the joints"""
    refined_sigma: float = 0.06
    """seconds of smoothing of root and joints after the second look"""
    surface: float = 12.0
    """cost of a view that a map which is quite sure contradicts completely"""
    landmarks: float = 12.0
    """cost of a view that landmarks which are quite sure contradict completely"""
    exchange: float = 4.0
    """cost of exchanging left and right limbs from one frame to the next, in bones that point the opposite way twice"""
    exchange_doubt: float = 1.0
    """and of a frame in which they are"""
    surface_view: float = 0.2
    """probability of the view that the surface map alone tells, as a share of the likeliest view's"""
    surface_alike: float = 0.25
    """as `alike`, for the surface map"""
    surface_points: int = 160
    """cells of the surface map that are used"""
    surface_least: float = 0.15
    """confidence below which a cell says nothing"""
    surface_depth: float = 0.8
    """trust in a point, for each joint between its own and the root"""
    surface_noise: float = 0.05
    """crop sides by which the map is usually wrong; much more is a mistake, and counts as one"""
    surface_hidden: float = 0.7
    """how badly a point that would face away is explained, 0…1"""
    surface_evidence: float = 12.0
    """how many independent points a map is worth beside the prediction"""
    surface_turn: float = 0.25
    """radians of usual error of a predicted root rotation"""
    surface_shift: float = 0.05
    """crop sides, and half of log depth, of usual error of a predicted root translation"""
    surface_ridge: float = 0.03
    """how flat the seen side of a body may be before its thickness is not believed"""
    surface_steps: int = 3
    """steps of refining a root pose; 0 leaves it as it is"""


DEFAULTS = TrackConfig()
