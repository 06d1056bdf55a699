# SPDX-License-Identifier: GPL-3.0-or-later
"""How a motion is bent onto the picture."""

from __future__ import annotations

from dataclasses import dataclass

QUALITIES = ("draft", "standard", "best")
JOLT_RATE = 24.0


@dataclass(frozen=True)
class FitConfig:
    """Weights and sizes of the fit. Lengths in the picture are in crop sides, angles in radians.

    A source of evidence is worth so many independent measurements a frame, however many points it is
    sampled at: neighbouring points of an outline are wrong together.
    """

    vertices: int = 900
    """vertices of the coarse body that is bent"""
    silhouette: int = 80
    """side of the silhouette that tells an outline from an inner edge, pixels"""
    rims: int = 96
    """pieces of the body's outline a frame"""
    edges: int = 96
    """points of the mask's outline a frame"""
    coarse_start: bool = True
    """half as many of both while outlines are still looked for from afar; `best` takes all from the start"""
    surface_points: int = 64
    """cells of the surface map a frame"""
    flow_points: int = 32
    """vertices followed by flow a frame"""

    outline_noise: float = 0.012
    """usual error of an outline that was found"""
    given_noise: float = 0.008
    """and of one that was given with the clip or by a person"""
    outline_reach: tuple[float, float] = (0.3, 0.06)
    """distance at which outlines stop to pull, at the first step and from the fifth on"""
    outline_turn: float = 0.12
    """distance that a rim facing the opposite way is taken to be farther off"""
    along: float = 0.35
    """pull along the mask's outline, as a share of the pull across it"""
    rim_evidence: float = 20.0
    """body's rim to mask's outline"""
    edge_evidence: float = 20.0
    """mask's outline to body's rim"""
    surface_noise: float = 0.045
    """usual error of the surface map"""
    surface_evidence: float = 12.0
    surface_lead: float = 3.0
    """how much more it counts at the first step: it knows which leg is which, outlines only that there is one"""
    surface_least: float = 0.15
    """confidence below which a cell says nothing"""
    flow_size: int = 128
    """largest side of the crops that flow is measured on, pixels"""
    flow_noise: float = 0.012
    """usual error of flow from frame to frame"""
    flow_evidence: float = 10.0

    root_turn: float = 0.2
    """usual error of the tracked root's rotation"""
    root_shift: float = 0.05
    root_depth: float = 0.07
    """and of its place across and along the view, the latter in log depth"""
    joint_turn: float = 1.2
    """usual error of a predicted joint, as a share of what the network expects of itself"""
    morphology: float = 0.3
    """usual error of predicted proportions, in standard deviations of the category"""
    morphology_alike: float = 24.0
    """frames whose outlines are wrong together as far as proportions are concerned"""
    relief: int = 160
    """shapes that a clip's surface may be raised or sunk by beside its proportions; 0 for none"""
    relief_height: float = 0.1
    """how far they usually do, as a share of the body's nominal size"""
    focal: float = 0.25
    """usual error of an assumed log focal length"""
    rest: float = 1.2
    """how far joints go from rest, as a share of the half-width of their limits"""
    limit: float = 0.04
    """radians beyond a limit that cost one"""

    turn_rate: float = 0.45
    """change of the correction of a rotation, radians a root second, that costs one"""
    shift_rate: float = 0.12
    """and of a place, crop sides or log depth a root second"""
    jolt: float = 0.06
    """radians of a joint's, `jolt_root` of the root's and `jolt_shift` crop sides of its place's second difference
    that cost one, each a correction's, at `JOLT_RATE` frames a second: speeds are random walks"""
    jolt_root: float = 0.03
    jolt_shift: float = 0.006
    depth_speed: float = 0.47
    """change of the speed at which the body comes or goes, log depth a second a root second, that costs one"""
    contact_noise: float = 0.005
    """usual distance of a standing foot from where it stands, as a share of the body's nominal size"""
    contact_reach: tuple[float, float] = (0.06, 0.16)
    """distance, as such a share, at which it is no longer believed to stand there: where the feet of a pair are apart
    in the picture, and where they cross each other"""

    passing: bool = True
    """look at where limbs cross each other in the picture, and exchange left and right where they were confused"""
    limb_evidence: float = 400.0
    """what the whole mask is worth where limbs are tried in other poses; 0 tries none"""
    limb_vertices: int = 300
    """vertices of the body that is tried"""
    limb_silhouette: int = 48
    """side of their silhouettes, pixels"""
    spread: float = 0.25
    """power of the solved system's uncertainty, over the clip's usual one, in a joint's expected error"""
    steps: tuple[int, int] = (6, 40)
    """most steps for `standard` and `best`: of poses and proportions"""
    limb_steps: tuple[int, int] = (5, 40)
    """after limbs were tried in other poses"""
    last_steps: tuple[int, int] = (8, 40)
    """with the relief, and feet that stand"""
    settle: float = 0.004
    """relative fall of the cost under which `standard` stops; a hundredth of it for `best`"""
    damping: float = 1e-3
    """first damping, as a share of the diagonal"""
    momentum: float = 0.3
    """share of a step that the next one adds to itself"""
    longest_turn: float = 0.35
    """longest step of a rotation"""
    window: int = 192
    """frames that are solved together; longer clips are solved in windows"""
    overlap: int = 16
    """frames that neighbouring windows share"""
    proportions: int = 96
    """frames of a long clip from which its proportions are solved first"""


DEFAULT_FIT = FitConfig()
