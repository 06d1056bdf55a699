# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about each rigged animal: which bones play the part of which joint of the quadruped.

Chosen by anatomy from where the bones lie and which way they bend, not by their names alone: the "lower leg" of
one artist's dogs starts at the elbow, that of his horses at the wrist.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import TrainingError


@dataclass(frozen=True)
class Link:
    """How one joint is read from a rig."""

    bones: tuple[str, ...]
    """Bones whose mean rotation is the joint's."""
    point: str | None = None
    """Bone whose head is the joint's place; None where the rig has no such place."""


@dataclass(frozen=True)
class Chain:
    """Joints spread along a chain of bones by arc length."""

    joints: tuple[str, ...]
    bones: tuple[str, ...]
    to_tip: bool
    """Whether the chain ends at the far end of the last bone's surface (a tail) or at the last bone's head."""


@dataclass(frozen=True)
class RigSpec:
    """One rig: `links` by joint name, `chains` for neck and tail; bone names may be given by a unique prefix."""

    links: dict[str, Link]
    chains: tuple[Chain, ...] = ()
    bind_pose: bool = True
    """Take the bind pose as rest; False: the file's own node pose (where the inverse binds are unusable)."""
    skip_clips: tuple[str, ...] = ()
    """Clips not used for training."""
    mesh_scale: dict[str, float] = field(default_factory=dict)
    """Factors, by the beginning of a mesh's name, for meshes the file stores at another size than their bones;
    0 drops the mesh."""
    pairs: tuple[str, str] = ("front_upper", "hind_upper")
    """Joints, without their side, that stand for shoulders and hips."""
    forward: bool = True
    """Whether the shoulders lie before the hips, as in an animal on four legs; else above them."""

    def mesh_factor(self, mesh: str) -> float:
        return next((factor for start, factor in self.mesh_scale.items() if mesh.startswith(start)), 1.0)

    @property
    def sides(self) -> tuple[tuple[str, str], ...]:
        """(left, right) bone pairs that lie on opposite sides."""
        pairs = []
        for joint in self.pairs:
            pairs.append((self._point(joint + ".L"), self._point(joint + ".R")))
        return tuple(pairs)

    @property
    def torso(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Bones whose heads are the two shoulders and the two hips."""
        front, hind = self.sides
        return front, hind

    def _point(self, joint: str) -> str:
        point = self.links[joint].point
        if point is None:
            raise ValueError(f"A rig must place {joint}.")
        return point


def find_bone(names: list[str], key: str) -> int:
    """Index of the bone called `key`, or of the only one beginning with it. TrainingError if there is none."""
    if key in names:
        return names.index(key)
    hits = [i for i, name in enumerate(names) if name.startswith(key)]
    if len(hits) != 1:
        raise TrainingError(f"{len(hits)} bones are called {key!r}.")
    return hits[0]


def _both(
    table: dict[str, Link], left: str, right: str, swap: tuple[tuple[str, str], ...]
) -> dict[str, Link]:
    """A table written for the left side, for both sides: joint names .L/.R, bone names by the swaps."""

    def other(name: str) -> str:
        for a, b in swap:
            if a in name:
                return name.replace(a, b)
        return name

    out = {}
    for joint, link in table.items():
        out[joint + left] = link
        out[joint + right] = Link(tuple(other(b) for b in link.bones), link.point and other(link.point))
    return out


def _link(*bones: str, at: str | None = None) -> Link:
    return Link(bones, at)


def _quaternius(tail: int, ears: bool, elbow: bool) -> RigSpec:
    """`elbow`: in the dogs the front leg's inner joint lies behind the leg and is an elbow, in the hoofed animals
    it lies in front, and is a wrist. Each kind lacks the other."""
    folds_at_elbow = {
        "front_lower": _link("FrontLowerLeg.L", at="FrontLowerLeg.L"),
        "front_foot": _link("FrontLowerLeg.L"),
    }
    folds_at_wrist = {
        "front_lower": _link("FrontUpperLeg.L"),
        "front_foot": _link("FrontLowerLeg.L", at="FrontLowerLeg.L"),
    }
    limbs = (folds_at_elbow if elbow else folds_at_wrist) | {
        "front_upper": _link("FrontUpperLeg.L", at="FrontUpperLeg.L"),
        "front_toe": _link("FF.L", at="IKFrontLeg.L"),
        "hind_upper": _link("BackLeg.L", at="BackLeg.L"),
        "hind_lower": _link("BackUpperLeg.L", at="BackUpperLeg.L"),
        "hind_foot": _link("BackLowerLeg.L", at="BackLowerLeg.L"),
        "hind_toe": _link("FFB.L", at="IKBackLeg.L"),
    }
    if ears:
        limbs["ear"] = _link("Ear1.L", "Ear2.L", at="Ear1.L")
    return RigSpec(
        links={
            "pelvis": _link("Back"),
            "spine": _link("Torso", "Torso2"),
            "chest": _link("Torso2"),
            "head": _link("Head", at="Head"),
        }
        | _both(limbs, ".L", ".R", ((".L", ".R"),)),
        chains=(
            Chain(("neck_1", "neck_2"), ("Neck1", "Neck2", "Neck3", "Head"), to_tip=False),
            Chain(("tail_1", "tail_2", "tail_3", "tail_4"), tuple(f"Tail{i + 1}" for i in range(tail)), True),
        ),
    )


_RAT = RigSpec(
    links={
        "pelvis": _link("Hips"),
        "spine": _link("Body"),
        "chest": _link("Shoulders"),
        "head": _link("Head", at="Head"),
    }
    | _both(
        {
            "front_upper": _link("FrontUpLeg.L", at="FrontUpLeg.L"),
            "front_lower": _link("FrontLowLeg.L", at="FrontLowLeg.L"),
            "front_foot": _link("FrontLowLeg.L"),
            "front_toe": _link("FrontFoot.L", at="FrontFoot.L"),
            "hind_upper": _link("BackUpLeg.L", at="BackUpLeg.L"),
            "hind_lower": _link("BackLowLeg.L"),
            "hind_foot": _link("BackFoot.L", at="BackFoot.L"),
            "hind_toe": _link("BackFoot.L"),
        },
        ".L",
        ".R",
        ((".L", ".R"),),
    ),
    chains=(
        Chain(("neck_1", "neck_2"), ("Neck", "Head"), to_tip=False),
        Chain(("tail_1", "tail_2", "tail_3", "tail_4"), tuple(f"Tail{i + 1}" for i in range(7)), True),
    ),
)

_KHRONOS_FOX = RigSpec(
    links={
        "pelvis": _link("b_Hip"),
        "spine": _link("b_Spine01", "b_Spine02"),
        "chest": _link("b_Spine02"),
        "head": _link("b_Head", at="b_Head"),
    }
    | _both(
        {
            "front_upper": _link("b_LeftUpperArm", at="b_LeftUpperArm"),
            "front_lower": _link("b_LeftForeArm", at="b_LeftForeArm"),
            "front_foot": _link("b_LeftForeArm"),
            "front_toe": _link("b_LeftHand", at="b_LeftHand"),
            "hind_upper": _link("b_LeftLeg01", at="b_LeftLeg01"),
            "hind_lower": _link("b_LeftLeg02", at="b_LeftLeg02"),
            "hind_foot": _link("b_LeftFoot01", at="b_LeftFoot01"),
            "hind_toe": _link("b_LeftFoot02", at="b_LeftFoot02"),
        },
        ".L",
        ".R",
        (("Left", "Right"),),
    ),
    chains=(
        Chain(("neck_1", "neck_2"), ("b_Neck", "b_Head"), to_tip=False),
        Chain(("tail_1", "tail_2", "tail_3", "tail_4"), ("b_Tail01", "b_Tail02", "b_Tail03"), True),
    ),
)

_CAT = RigSpec(
    links={
        "pelvis": _link("spine.005"),
        "spine": _link("spine.008"),
        "chest": _link("spine.009"),
        "head": _link("Head", at="Head"),
    }
    | _both(
        {
            "ear": _link("Ear.L"),  # its head lies half way up the ear
            "front_upper": _link("front_thigh.L", at="front_thigh.L"),
            "front_lower": _link("front_shin.L", at="front_shin.L"),
            "front_foot": _link("front_foot.L", at="front_foot.L"),
            "front_toe": _link("front_toe.L", at="front_toe.L"),
            "hind_upper": _link("thigh.L", at="thigh.L"),
            "hind_lower": _link("shin.L", at="shin.L"),
            "hind_foot": _link("foot.L", at="foot.L"),
            "hind_toe": _link("toe.L", at="toe.L"),
        },
        ".L",
        ".R",
        ((".L", ".R"),),
    ),
    chains=(
        Chain(("neck_1", "neck_2"), ("spine.010", "Head"), to_tip=False),
        Chain(("tail_1", "tail_2", "tail_3", "tail_4"), ("TailBase", "Tail2", "Tail3", "TailTip"), True),
    ),
    bind_pose=False,
    # The exporter skipped the scale of the node above the coat's meshes. The eyes stand out of the face: dropped.
    mesh_scale={"Cat_": 0.4922, "Eye": 0.0},
)

_RABBIT = RigSpec(
    links={
        "pelvis": _link("Root_M"),
        "spine": _link("Spine1_M"),
        "chest": _link("Chest_M"),
        "head": _link("Head_M", at="Head_M"),
    }
    | _both(
        {
            "ear": _link("Ear_L", "Ear1_L", at="Ear_L"),
            "front_upper": _link("frontHip_L", at="frontHip_L"),
            "front_lower": _link("frontKnee_L", at="frontKnee_L"),
            "front_foot": _link("frontAnkle_L", at="frontAnkle_L"),
            "front_toe": _link("frontToes_L", at="frontToes_L"),
            "hind_upper": _link("backHip_L", at="backHip_L"),
            "hind_lower": _link("backKnee_L", at="backKnee_L"),
            "hind_foot": _link("backAnkle_L", at="backAnkle_L"),
            "hind_toe": _link("backToes_L", at="backToes_L"),
        },
        ".L",
        ".R",
        (("_L", "_R"),),
    ),
    chains=(
        Chain(("neck_1", "neck_2"), ("Neck_M", "Head_M"), to_tip=False),
        Chain(("tail_1", "tail_2", "tail_3", "tail_4"), ("Tail0_M", "Tail1_M"), True),
    ),
    bind_pose=False,
)

# hintern rump, bauch belly, brust breast, hals neck, kopf head, ohr ear, bein leg, po buttock, schweif tail,
# knöchel fetlock (only its ASCII beginning is used), v/h fore/hind, l/r left/right.
_HORSE = RigSpec(
    links={
        "pelvis": _link("hintern"),
        "spine": _link("bauch _"),
        "chest": _link("bauch vorne"),
        "head": _link("kopf", at="hinter ohren"),
    }
    | _both(
        {
            "ear": _link("l ohr_0", at="l ohr_0"),
            "front_upper": _link("v l bein oben", at="v l bein oben"),
            "front_lower": _link("v l oberschenkel", at="v l oberschenkel"),
            "front_foot": _link("v l unterschenkel", at="v l unterschenkel"),
            "front_toe": _link("v l huf_0", at="v l  kn"),
        },
        ".L",
        ".R",
        (("v l  kn", "v r kn"), ("v l huf_0", "v r huf _0"), ("v l", "v r"), ("l ohr", "r ohr")),
    )
    | _both(
        {
            "hind_upper": _link("l po", at="l po"),
            "hind_lower": _link("h l bein oben", "h l oberschenkel", at="h l bein oben"),
            "hind_foot": _link("h l unterschenkel", at="h l unterschenkel"),
            "hind_toe": _link("h l huf_0", at="h l kn"),
        },
        ".L",
        ".R",
        (("h l", "h r"), ("l po", "r po")),
    ),
    chains=(
        Chain(
            ("neck_1", "neck_2"),
            ("halsansatz", "hals unten", "hals mitte", "hals oben", "hinter ohren"),
            False,
        ),
        Chain(
            ("tail_1", "tail_2", "tail_3", "tail_4"),
            ("schweif oben", "schweif 1", "schweif 2", "schweif 3", "schweif unten_0"),
            True,
        ),
    ),
    bind_pose=False,
)

RIGS: dict[str, RigSpec] = {
    "Alpaca": _quaternius(3, True, elbow=False),
    "Cow": _quaternius(7, False, elbow=False),
    "Fox": _quaternius(8, True, elbow=True),
    "Horse": _quaternius(7, True, elbow=False),
    "Husky": _quaternius(6, True, elbow=True),
    "ShibaInu": _quaternius(3, True, elbow=True),
    "Stag": _quaternius(3, False, elbow=False),
    "Rat": _RAT,
    "KhronosFox_textured": _KHRONOS_FOX,
    "sketchfab_cat": _CAT,
    "sketchfab_horse": _HORSE,
    "sketchfab_rabbit": _RABBIT,
}


def rig_file(folder: Path, name: str) -> Path | None:
    """The rig's glTF under `folder`, None if it is not there."""
    for candidate in (folder / f"{name}.glb", folder / name / "scene.gltf"):
        if candidate.exists():
            return candidate
    return None
