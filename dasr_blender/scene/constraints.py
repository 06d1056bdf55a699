# SPDX-License-Identifier: GPL-3.0-or-later
"""Constraints that act on top of a character's keys, and switching them off in an action."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import bpy

from . import compat

_CHAINS = ("IK", "SPLINE_IK")  # constraints that turn the bones above their own, too


@dataclass(frozen=True)
class Overruling:
    """A constraint that moves bones whatever their keys say.

    bone and constraint: their names.  path: of its influence, for a curve.  driven: a driver says how much it acts, so
    that keys cannot.
    """

    bone: str
    constraint: str
    path: str
    driven: bool


def overruling(target: bpy.types.Object, bones: Iterable[str]) -> list[Overruling]:
    """The constraints that act on any of some bones of an armature, IK that reaches up to them included.

    One whose influence is 0 counts where the action that the armature plays says so: it acts again without that.
    """
    wanted, found = set(bones), []
    action = target.animation_data.action if target.animation_data is not None else None
    keyed = {curve.data_path for curve in compat.action_curves(action)} if action is not None else set()
    driven = driven_paths(target)
    for bone in target.pose.bones:
        for constraint in bone.constraints:
            if not constraint.enabled or not wanted.intersection(_moved(bone, constraint)):
                continue
            path = constraint.path_from_id("influence")
            if constraint.influence > 0 or path in driven or path in keyed:
                found.append(Overruling(bone.name, constraint.name, path, path in driven))
    return found


def driven_paths(target: bpy.types.Object) -> set[str]:
    """Paths of the properties of an object that drivers set."""
    drivers = target.animation_data.drivers if target.animation_data is not None else ()
    return {driver.data_path for driver in drivers if not driver.mute}


def _moved(bone: bpy.types.PoseBone, constraint: bpy.types.Constraint) -> Iterator[str]:
    """Names of the bones that a bone's constraint moves."""
    chain = [bone, *bone.parent_recursive]
    if constraint.type not in _CHAINS:
        chain = chain[:1]
    else:
        if constraint.type == "IK" and not constraint.use_tail:
            chain = chain[1:]
        chain = chain[: constraint.chain_count or None]
    return (one.name for one in chain)
