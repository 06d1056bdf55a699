# SPDX-License-Identifier: GPL-3.0-or-later
"""The dog of dm_control: where its wheel keeps it, and which bones play the part of which joint.

Its rat is left out: the category's body comes no nearer to it than 5.6 % of its length.
"""

from __future__ import annotations

from dataclasses import dataclass

from .rigs import RigSpec
from .rigs_game import animal_spec


@dataclass(frozen=True)
class MujocoRig:
    """One animal of the package dm_control."""

    model: str
    """MuJoCo's description, a path in the wheel; what it includes and refers to lies in `folder`."""
    folder: str
    spec: RigSpec


_FRONT = ("upper_arm_L", "lower_arm_L", "hand_L", "finger_L")
_HIND = ("upper_leg_L", "lower_leg_L", "foot_L", "toe_L")
_DOG = animal_spec(
    ("pelvis", ("L_2", "torso"), "torso"),
    (*(f"C_{7 - i}" for i in range(7)), "skull"),
    _FRONT,
    _HIND,
    tuple(f"Ca_{i + 1}" for i in range(21)),
)

MUJOCO_RIGS: dict[str, MujocoRig] = {
    "dm_dog": MujocoRig("dm_control/suite/dog.xml", "dm_control/suite/", _DOG),
}
