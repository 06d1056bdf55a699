# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion carried over to another skeleton, with other bones in other places.

Both skeletons stand at rest in spaces of their own. A joint's turn since rest is a rotation in space, so the bone that
plays it makes the same one, seen in its own skeleton's axes; how its axes lie at rest does not matter. What does is
where its limbs point there: a character may rest in a T-pose where the motion's body has its arms down, so limbs, necks
and tails are first laid as those of the body lie. Lengths are the character's own; places are scaled by how long its
legs are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .bone_map import axes_between, foot_height
from .rotation import shortest_rotation
from .skeleton import Skeleton

Array = np.ndarray

_UPRIGHT = np.cos(np.radians(30))
_GIRDLE = "shoulder"


@dataclass(frozen=True, eq=False)
class Fitting:
    """How a body's space becomes a character's: ``x → scale · turn · x + shift``.

    turn ``(3, 3)``.  shift ``(3,)``: the middle of the joints that bones play goes to that of those bones, laid.
    laid ``(J, 3, 3)``: turns of the character's bones, in the body's axes, that lay its limbs as the body's lie.
    aim ``(J,)``: the joint that a limb's, tail's or neck's bone reaches to, −1 for others.
    """

    turn: Array
    scale: float
    shift: Array
    laid: Array
    aim: Array

    @property
    def matrix(self) -> Array:
        """``(4, 4)``: character space from body space."""
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = self.scale * self.turn, self.shift
        return out


def fitting(skeleton: Skeleton, joints: Array, heads: Mapping[int, Array]) -> Fitting:
    """Lay a character beside a body.

    joints: the body's at rest, ``(J, 3)``, Z up, looking along −Y, its feet about z = 0.  heads: joint → place of the
    bone that plays it, ``(3,)``, in the character's axes and lengths.

    Raises ValueError where no joint is played.
    """
    if not heads:
        raise ValueError("no joint is played by a bone")
    played = sorted(heads)
    turn = axes_between(joints[played], np.stack([heads[j] for j in played]))
    scale = _scale(skeleton, joints, heads)
    laid, aims = np.tile(np.eye(3), (len(skeleton), 1, 1)), np.full(len(skeleton), -1)
    low = foot_height(joints)
    for j in range(len(skeleton)):
        aim, parent = _played_next(skeleton, j, heads), int(skeleton.parents[j])
        if joints[j, 2] < low or not _points(skeleton, joints, j):  # soles lie on the ground in every rest pose
            continue
        if j in heads and aim is not None:
            aims[j] = aim
            laid[j] = shortest_rotation(turn.T @ (heads[aim] - heads[j]), joints[aim] - joints[j])
        elif skeleton.main_child(j) is None and _points(skeleton, joints, parent):
            laid[j] = laid[parent]  # hands, and a tail's end, are as what they hang on
    middle = _laid_heads(skeleton, turn, laid, heads).mean(0) - scale * turn @ joints[played].mean(0)
    return Fitting(turn, scale, middle, laid, aims)


def carried(
    skeleton: Skeleton, fit: Fitting, joints: Array, turns: Array, places: Array, axes: Mapping[int, Array]
) -> dict[int, Array]:
    """Where the bones' axes point in every frame: joint → ``(T, 3, 3)``, in the character's axes.

    joints ``(J, 3)``: the body's at rest.  turns ``(T, J, 3, 3)``: each joint's rotation since rest, in the body's
    axes.  places ``(T, J, 3)``: of the joints.  axes: joint → its bone's axes at rest, ``(3, 3)``, columns in the
    character's axes.

    A bone that stands for several joints in a row reaches from the first to beyond the last, however they bend.
    """
    found = {}
    for j, rest in axes.items():
        turn, aim = turns[:, j], int(fit.aim[j])
        if aim >= 0 and aim != skeleton.main_child(j):
            reach = zip(turn @ (joints[aim] - joints[j]), places[:, aim] - places[:, j], strict=True)
            turn = np.stack([shortest_rotation(one, two) for one, two in reach]) @ turn
        found[j] = fit.turn @ turn @ fit.laid[j] @ fit.turn.T @ rest
    return found


def moved(fit: Fitting, joints: Array, turns: Array, places: Array, heads: Mapping[int, Array]) -> dict[int, Array]:
    """Where bones go that hang on nothing which moves: joint → ``(T, 3)``, in the character's space.

    joints, turns and places: as in `carried`.  heads: joint → the bone's place at rest. What lies between it and the
    joint turns with the joint.
    """
    found = {}
    for j, head in heads.items():
        between = fit.turn.T @ (head - fit.shift) - fit.scale * joints[j]
        found[j] = (fit.scale * places[:, j] + turns[:, j] @ between) @ fit.turn.T + fit.shift
    return found


def _laid_heads(skeleton: Skeleton, turn: Array, laid: Array, heads: Mapping[int, Array]) -> Array:
    """Where bones begin (N, 3) when the character's limbs are laid as the body's."""
    places: dict[int, Array] = {}
    for j in sorted(heads):
        above = next((a for a in reversed(skeleton.chain(j)[:-1]) if a in places), None)
        if above is None:
            places[j] = heads[j]
        else:
            places[j] = places[above] + turn @ laid[above] @ turn.T @ (heads[j] - heads[above])
    return np.stack(list(places.values()))


def _played_next(skeleton: Skeleton, joint: int, heads: Mapping[int, Array]) -> int | None:
    """The next joint along the body that a bone plays; None where there is none."""
    while (following := skeleton.main_child(joint)) is not None and following not in heads:
        joint = following
    return following


def _points(skeleton: Skeleton, joints: Array, joint: int) -> bool:
    """Whether it matters where a joint's bone points at rest: limbs, tails, and necks that are not upright.

    Trunks, heads and upright necks rest alike everywhere, though joints are put here and there in them; so do girdles.
    """
    if joint < 0 or skeleton.names[joint].startswith(_GIRDLE):
        return False
    if skeleton.roles[joint] in ("limb", "tail"):
        return True
    behind = [j for j in range(len(skeleton)) if joint in skeleton.chain(j) and j != joint]
    aim = skeleton.main_child(joint)
    if aim is None or skeleton.roles[joint] != "spine" or any(
        skeleton.roles[j] in ("limb", "tail") for j in behind
    ):
        return False
    along = joints[aim] - joints[joint]
    return bool(along[2] < _UPRIGHT * np.linalg.norm(along))


def _scale(skeleton: Skeleton, joints: Array, heads: Mapping[int, Array]) -> float:
    """How long the character's legs are, beside the body's; without legs, how wide its joints lie."""
    low = foot_height(joints)
    body, character = 0.0, 0.0
    for j in range(len(skeleton)):
        aim = _played_next(skeleton, j, heads)
        on_foot = any(joints[k, 2] < low for k in range(len(skeleton)) if j in skeleton.chain(k))
        if skeleton.roles[j] == "limb" and on_foot and j in heads and aim is not None:
            body += float(np.linalg.norm(joints[aim] - joints[j]))
            character += float(np.linalg.norm(heads[aim] - heads[j]))
    if not body or not character:
        played = sorted(heads)
        body, character = (
            float(np.linalg.norm(x - x.mean(0))) for x in (joints[played], np.stack([heads[j] for j in played]))
        )
    return character / body if body and character else 1.0
