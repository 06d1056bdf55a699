# SPDX-License-Identifier: GPL-3.0-or-later
"""Joint maps: a small JSON file that says which bone of a rig plays which joint of the category.

    {"front_upper.L": "FrontUpperLeg.L", "front_lower.L": null, …}

A joint lies at its bone's head; null where the rig has no such place. `joint-map` guesses one from the bones' names,
their tree and where they lie, for a person to mend.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.category import load_category
from ...core.files import written_atomically
from ..errors import TrainingError
from ..synth.rig import Rig
from .bake_any import bake_any

Array = np.ndarray

SUFFIX = ".joints.json"

_SIDES = {"l": "L", "left": "L", "links": "L", "r": "R", "right": "R", "rechts": "R"}
_FRONT = {"front", "fore", "arm", "upperarm", "forearm", "hand", "wrist", "elbow", "humerus", "radius", "v"}
_HIND = {"back", "hind", "rear", "h"}
_LIMB = (
    _FRONT
    | {
        "leg",
        "upleg",
        "upperleg",
        "lowerleg",
        "thigh",
        "shin",
        "calf",
        "knee",
        "ankle",
        "foot",
        "feet",
        "toe",
    }
    | {"toes", "hock", "paw", "hoof", "ball", "femur", "tibia", "hip", "hips", "bein", "huf", "lowerarm"}
    | {"oberschenkel", "unterschenkel", "schenkel"}
)
_GIRDLE = {"shoulder", "clavicle", "collar", "scapula", "pelvis"}
_HELPERS = {
    "ik",
    "fk",
    "pole",
    "target",
    "ctrl",
    "control",
    "end",
    "nub",
    "twist",
    "roll",
    "helper",
    "poletarget",
}
_HELPERS |= {"finger", "thumb", "index", "middle", "ring", "pinky", "eye", "eyelid", "ear", "tongue", "jaw"}


def tokens(name: str) -> list[str]:
    """`b_LeftUpperArm_09` → b, left, upper, arm; digits are dropped, and glued words of limbs stay whole."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [t.lower() for t in re.split(r"[^A-Za-zÀ-ÿ]+", spaced) if t]


def _side(name: str, place: Array, width: float) -> str:
    """L, R or '' from the name, else from where the bone lies (left is +X)."""
    for word in tokens(name):
        if word in _SIDES:
            return _SIDES[word]
    return "" if abs(place[0]) < 0.03 * width else "L" if place[0] > 0 else "R"


def guess_joint_map(rig: Rig, joint_names: Sequence[str]) -> dict[str, str | None]:
    """Joint → bone for as many joints as can be told; None for the others.

    Limbs are the longest chains of bones with a limb's words on each side, named from the body outwards; spine, neck
    and tail are spread over the chains between.
    """
    names, heads, parents = list(rig.bone_names), rig.bone_heads, rig.bone_parents
    words = [set(tokens(n)) for n in names]
    width = float(np.ptp(rig.vertices[:, 0]))
    side = [_side(n, heads[i], width) for i, n in enumerate(names)]
    found: dict[str, str | None] = dict.fromkeys(joint_names)
    human = "upper_arm.L" in found
    limbs = [
        i for i in range(len(names)) if words[i] & _LIMB and side[i] and not words[i] & (_HELPERS | _GIRDLE)
    ]
    middle = float(np.median(heads[limbs][:, 1])) if limbs else 0.0

    def is_front(i: int) -> bool:
        if words[i] & _FRONT:
            return True
        return not (human or words[i] & _HIND) and bool(_whole_limb_front(i))

    def _whole_limb_front(i: int) -> bool:
        j = i
        while j >= 0:  # a toe may not say whose it is; its ancestors may
            if words[j] & _FRONT:
                return True
            if words[j] & _HIND:
                return False
            j = int(parents[j]) if side[j] else -1
        top = i
        while parents[top] >= 0 and side[parents[top]]:
            top = int(parents[top])
        return not (words[top] & {"thigh", "pelvis", "hip", "upleg"}) and heads[top][1] < middle

    chains: dict[tuple[str, bool], list[int]] = {}
    for s in "LR":
        for front in (True, False):
            members = [i for i in limbs if side[i] == s and is_front(i) == front]
            chains[s, front] = _longest_chain(members, parents)
    arms = ("upper_arm", "forearm", "hand") if human else tuple(f"front_{p}" for p in _PARTS)
    legs = ("thigh", "shin", "foot", "toe") if human else tuple(f"hind_{p}" for p in _PARTS)
    for (s, front), chain in chains.items():
        for joint, bone in zip(arms if front else legs, chain, strict=False):
            found[f"{joint}.{s}"] = names[bone]
    for s in "LR":
        for joint, wanted in (("shoulder", _GIRDLE - {"pelvis"}), ("ear", {"ear", "ohr"})):
            if f"{joint}.{s}" in found:
                hits = [i for i in range(len(names)) if words[i] & wanted and side[i] == s]
                hits = [i for i in hits if not words[i] & {"ik", "pole", "target", "back", "hind"}]
                found[f"{joint}.{s}"] = names[hits[0]] if hits else None
    chest = _common(chains["L", True], chains["R", True], parents)
    hips = _common(chains["L", False], chains["R", False], parents)
    head = next(
        (i for i in range(len(names)) if words[i] & {"head", "kopf"} and not words[i] & {"end"}), None
    )
    if chest is not None and chest != hips:
        found["chest"] = names[chest]
    if hips is not None and hips != chest:
        found["root" if human else "pelvis"] = names[hips]
    if head is not None:
        found["head"] = names[head]
    jaw = next((i for i in range(len(names)) if "jaw" in words[i]), None)
    if "jaw" in found and jaw is not None:
        found["jaw"] = names[jaw]
    if chest is not None and head is not None:
        between = _between(chest, head, parents)
        necks = [i for i in between if words[i] & {"neck", "hals"}] or between
        _fill(found, ("neck",) if human else ("neck_1", "neck_2"), necks, names)
    if human and chest is not None and hips is not None:
        _fill(found, ("spine_1", "spine_2"), _between(hips, chest, parents), names)
    tail = _longest_chain([i for i in range(len(names)) if _is_tail(words[i])], parents)
    _fill(found, ("tail_1", "tail_2", "tail_3", "tail_4"), tail, names)
    return {joint: bone for joint, bone in found.items() if joint in joint_names}


_PARTS = ("upper", "lower", "foot", "toe")


def _is_tail(words: set[str]) -> bool:
    return any(w.startswith(("tail", "schweif")) for w in words) and not words & _HELPERS


def _longest_chain(members: list[int], parents: Array) -> list[int]:
    """The longest run of `members` from ancestor to descendant; others may lie between them."""
    inside, best = set(members), []
    for i in members:
        chain, j = [], i
        while j >= 0:
            if j in inside:
                chain.append(j)
            j = int(parents[j])
        if len(chain) > len(best):
            best = chain[::-1]
    return best


def _ancestors(bone: int, parents: Array) -> list[int]:
    out = []
    while bone >= 0:
        out.append(bone)
        bone = int(parents[bone])
    return out


def _common(left: list[int], right: list[int], parents: Array) -> int | None:
    """The nearest bone above both chains, None where one is missing or they have none in common."""
    if not left or not right:
        return None
    above = set(_ancestors(int(parents[right[0]]), parents))
    return next((b for b in _ancestors(int(parents[left[0]]), parents) if b in above), None)


def _between(upper: int, lower: int, parents: Array) -> list[int]:
    """Bones strictly between an ancestor and a descendant; empty when they are not."""
    chain = _ancestors(int(parents[lower]), parents)
    return chain[: chain.index(upper)][::-1] if upper in chain else []


def _fill(found: dict[str, str | None], joints: tuple[str, ...], chain: list[int], names: list[str]) -> None:
    """Spread joints evenly over a chain; a short chain names its first joints only."""
    if not chain or joints[0] not in found:
        return
    count = min(len(joints), len(chain))
    for joint, k in zip(joints, np.linspace(0, len(chain) - 1, count).round().astype(int), strict=False):
        found[joint] = names[chain[k]]


def read_joint_map(path: Path, rig: Rig, joint_names: Sequence[str]) -> dict[str, int]:
    """Joint → number of its bone, for the joints that the file maps.

    Raises TrainingError that names the file and the joint or bone that does not exist.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no JSON, or no UTF-8
        raise TrainingError(
            f"{path}: not a readable joint map ({error}); write it again with joint-map"
        ) from error
    if not isinstance(data, dict):
        raise TrainingError(f"{path}: must be an object of joint → bone; write it again with joint-map")
    out: dict[str, int] = {}
    for joint, bone in data.items():
        if joint not in joint_names:
            raise TrainingError(f"{path}: the category has no joint '{joint}'; take it out or mend its name")
        if bone is None:
            continue
        if bone not in rig.bone_names:
            raise TrainingError(
                f"{path}: the rig has no bone '{bone}' (for '{joint}'); mend its name or put null"
            )
        out[joint] = rig.bone_names.index(bone)
    return out


def main(argv: list[str] | None = None) -> int:
    """`joint-map RIG.glb --category quadruped`: guess a joint map and write it beside the rig.

    Raises TrainingError for a file that is there already, which may have been mended by hand.
    """
    parser = argparse.ArgumentParser(
        prog="joint-map", description=__doc__.split("\n")[0] if __doc__ else None
    )
    parser.add_argument("rig", type=Path, help="rigged model, .glb or .gltf")
    parser.add_argument("--category", default="quadruped", help="name or folder (default: quadruped)")
    parser.add_argument("--out", type=Path, help=f"file to write (default: <rig>{SUFFIX} beside the rig)")
    options = parser.parse_args(argv)
    out = options.out or options.rig.with_name(options.rig.stem + SUFFIX)
    if out.exists():
        raise TrainingError(f"{out} is there already, and may be mended: move it, or write another file with --out")
    category = load_category(options.category)
    with tempfile.TemporaryDirectory() as folder:
        rig = bake_any(options.rig, Path(folder))
    found = guess_joint_map(rig, category.skeleton.names)
    with written_atomically(out) as path:
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    known = sum(bone is not None for bone in found.values())
    print(f"{known} of {len(found)} joints guessed; look through {out} and mend what is wrong")
    return 0
