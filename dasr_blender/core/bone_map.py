# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bone of somebody else's rig plays which joint of a category."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from .bone_tree import ancestors, described
from .category import Category
from .errors import DasrError
from .files import write_refusal, written_atomically
from .rotation import geodesic

Array = np.ndarray

_LOW = 0.12  # of a body's height: joints below it are of feet
_SQUARE = np.radians(30)  # a skeleton that is turned by less than this from its axes is along them
_QUARTERS = [np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]) for c, s in ((1, 0), (-1, 0), (0, 1), (0, -1))]  # about Z
_UNPLAYED = np.radians(12)  # what it costs to leave a joint of a leg, or a bone between others, out

_SIDES = {"l": "L", "left": "L", "links": "L", "r": "R", "right": "R", "rechts": "R"}
_FRONT = {"front", "fore", "arm", "upperarm", "forearm", "lowerarm", "hand", "wrist", "elbow", "humerus", "radius", "v"}
_FRONT |= {"shldr", "oberarm", "unterarm"}
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
    | {"toes", "hock", "paw", "hoof", "ball", "femur", "tibia", "hip", "hips", "bein", "huf"}
    | {"oberschenkel", "unterschenkel", "schenkel", "fuß", "fuss", "zeh", "zehen"}
)
_GIRDLE = {"shoulder", "clavicle", "collar", "scapula", "pelvis", "schulter"}
_NECK = {"neck", "hals"}
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


# Japanese, as models for MikuMikuDance have it; of two that begin alike the longer is first. What only follows other
# bones (`肩P`, `足D`) is a helper.
_JAPANESE = {
    "キャンセル": "helper", "肩P": "helper", "肩C": "helper", "ひざD": "helper", "足首D": "helper", "足D": "helper",
    "足先EX": "helper", "捩": "twist", "捻": "twist", "つま先": "toe", "爪先": "toe", "足先": "toe", "足首": "ankle",
    "手首": "wrist", "親指": "thumb", "指": "finger", "太もも": "thigh", "腿": "thigh", "ひざ": "knee", "膝": "knee",
    "ひじ": "elbow", "肘": "elbow", "肩": "shoulder", "腕": "arm",
    "前足首": "front ankle", "後ろ足首": "hind ankle", "後足首": "hind ankle", "前足": "front leg", "前脚": "front leg",
    "後ろ足": "hind leg", "後足": "hind leg", "後脚": "hind leg", "足": "leg", "脚": "leg", "手": "hand", "首": "neck",
    "頭": "head", "尻尾": "tail", "しっぽ": "tail", "耳": "ear", "目": "eye", "顎": "jaw", "あご": "jaw", "先": "end",
    "左": "left", "右": "right",
}  # fmt: skip


def tokens(name: str) -> list[str]:
    """`b_LeftUpperArm_09` → b, left, upper, arm; digits are dropped, and glued words of limbs stay whole. `左ひじ` →
    left, elbow."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
        name = re.sub("|".join(_JAPANESE), lambda found: f" {_JAPANESE[found[0]]} ", name)
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [t.lower() for t in re.split(r"[^A-Za-zÀ-ÿ]+", spaced) if t]


def _side(name: str, place: Array, width: float) -> str:
    """L, R or '' from the name, else from where the bone lies (left is +X)."""
    last = re.search(r"[._-]([LRlr])(\.\d+)?$", name)
    for word in [last[1].lower()] if last else tokens(name):  # `r_toe.L` is the left rear's
        if word in _SIDES:
            return _SIDES[word]
    return "" if abs(place[0]) < 0.03 * width else "L" if place[0] > 0 else "R"


def guess_bones(
    joint_names: Sequence[str], names: Sequence[str], parents: Array, heads: Array
) -> dict[str, str | None]:
    """Joint → bone for as many joints as can be told; None for the others.

    Limbs are the longest chains of bones with a limb's words on each side, named from the body outwards; spine, neck
    and tail are spread over the chains between.

    joint_names: of the category.  names, parents ``(N,)`` (−1 for none) and heads ``(N, 3)``: the rig's bones at rest;
    it looks along −Y, its left is +X.
    """
    names = list(names)
    words = [set(tokens(n)) for n in names]
    width = float(np.ptp(heads[:, 0]))
    side = [_side(n, heads[i], width) for i, n in enumerate(names)]
    found: dict[str, str | None] = dict.fromkeys(joint_names)
    human = "upper_arm.L" in found
    above_elbows = _shoulders_above_elbows(words, parents)
    limbs = [
        i
        for i in range(len(names))
        if side[i]
        and (i in above_elbows or words[i] & _LIMB and not words[i] & _GIRDLE)
        and not words[i] & _HELPERS
    ]
    middle = float(np.median(heads[limbs][:, 1])) if limbs else 0.0

    def is_front(i: int) -> bool:
        if words[i] & _FRONT or i in above_elbows:
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
            chain = _longest_chain(members, parents)
            chains[s, front] = _without_repeats(chain, words) if human else chain
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
                hits = [i for i in hits if i not in above_elbows]
                found[f"{joint}.{s}"] = names[hits[0]] if hits else None
    chest = _common(chains["L", True], chains["R", True], parents)
    while chest is not None and words[chest] & _NECK and parents[chest] >= 0:  # collar bones may hang on the neck
        chest = int(parents[chest])
    hips = _common(chains["L", False], chains["R", False], parents)
    if human and hips is not None and chest is not None:  # the trunk may hang beside the pelvis, on what holds both
        below = next((b for b in ancestors(hips, parents) if b in ancestors(chest, parents)), None)
        hips = hips if below is None or np.allclose(heads[below, 2], heads[:, 2].min()) else below
    head = next(
        (i for i in range(len(names)) if words[i] & {"head", "kopf"} and not words[i] & {"end"}), None
    )
    if head is None and chest is not None:
        head = _what_bears_ears(words, side, parents, chest)
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
        necks = [i for i in between if words[i] & _NECK] or between
        _fill(found, ("neck",) if human else ("neck_1", "neck_2"), necks, names)
    if human and chest is not None and hips is not None:
        _fill(found, ("spine_1", "spine_2"), _between(hips, chest, parents), names)
    tail = _longest_chain([i for i in range(len(names)) if _is_tail(words[i])], parents)
    _fill(found, ("tail_1", "tail_2", "tail_3", "tail_4"), tail, names)
    return {joint: bone for joint, bone in found.items() if joint in joint_names}


_PARTS = ("upper", "lower", "foot", "toe")
_TRUNK = ("root", "spine_1", "spine_2", "chest")  # of a person


def _what_bears_ears(words: Sequence[set[str]], side: Sequence[str], parents: Array, chest: int) -> int | None:
    """The head of a rig that calls it something else: what both ears, else both eyes, hang on."""
    for part in ("ear", "eye"):
        left, right = ([i for i, said in enumerate(words) if part in said and side[i] == s][:1] for s in "LR")
        head = _common(left, right, parents)
        while head is not None and "face" in words[head]:  # Rigify's, which bends nothing
            head = int(parents[head]) if parents[head] >= 0 else None
        if head is not None and chest in ancestors(head, parents)[1:]:
            return head
    return None


def _shoulders_above_elbows(words: Sequence[set[str]], parents: Array) -> set[int]:
    """Bones called a shoulder that are upper arms, since bones are named after joints: an elbow comes next."""
    found = set()
    for elbow in (i for i, said in enumerate(words) if "elbow" in said and not said & _HELPERS):
        above = (b for b in ancestors(int(parents[elbow]), parents) if words[b] & (_FRONT | _GIRDLE))
        upper = next(above, None)
        if upper is not None and "shoulder" in words[upper] and not words[upper] & _FRONT:
            found.add(upper)
    return found


def _without_repeats(chain: list[int], words: Sequence[set[str]]) -> list[int]:
    """A limb whose bones are cut in two, as `upperarm01` and `upperarm02`: the first of each. Names that only count
    their bones stay."""
    first = [i for k, i in enumerate(chain) if k == 0 or words[i] != words[chain[k - 1]]]
    return first if len(first) >= 3 else chain


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


def _common(left: list[int], right: list[int], parents: Array) -> int | None:
    """The nearest bone above both chains, None where one is missing or they have none in common."""
    if not left or not right:
        return None
    above = set(ancestors(int(parents[right[0]]), parents))
    return next((b for b in ancestors(int(parents[left[0]]), parents) if b in above), None)


def _between(upper: int, lower: int, parents: Array) -> list[int]:
    """Bones strictly between an ancestor and a descendant; empty when they are not."""
    chain = ancestors(int(parents[lower]), parents)
    return chain[: chain.index(upper)][::-1] if upper in chain else []


def _fill(found: dict[str, str | None], joints: tuple[str, ...], chain: list[int], names: list[str]) -> None:
    """Spread joints evenly over a chain; a short chain names its first joints only."""
    if not chain or joints[0] not in found:
        return
    count = min(len(joints), len(chain))
    for joint, k in zip(joints, np.linspace(0, len(chain) - 1, count).round().astype(int), strict=False):
        found[joint] = names[chain[k]]


def match_bones(
    category: Category, names: Sequence[str], parents: Array, heads: Array
) -> dict[str, str | None]:
    """Joint → bone of a rig: by one of the category's sets of names where the rig has nearly all of them, else guessed.

    A namespace before the names, capitals and punctuation do not matter: `hero:mixamorig_LeftArm` is Mixamo's.
    names, parents and heads: as in `guess_bones`.
    """
    joints = category.skeleton.names
    if not len(names):
        return dict.fromkeys(joints)
    known = max((_by_profile(profile, names) for profile in category.profiles.values()), key=len)
    found = guess_bones(joints, names, parents, heads)
    if len(known) >= 0.8 * len(joints):
        trunk = [joint for joint in _TRUNK if joint in found]
        if len(trunk) == len(_TRUNK) and found["chest"] not in (None, known.get("chest")):
            known = known | {joint: found[joint] for joint in trunk}  # more or fewer bones than usual: told by the tree
        return {joint: known.get(joint) for joint in joints}
    told, limbs = _limbs_of(category, found)
    if told < limbs:  # in words that are not known
        best, seen = (told, np.inf), heads
        for turn in _QUARTERS:  # and perhaps looking elsewhere
            turned = heads @ turn
            said = described(parents, turned, human="upper_arm.L" in found)
            guessed = guess_bones(joints, said, parents, turned)
            score = _limbs_of(category, guessed)[0], _looks_ahead(guessed, said, turned)
            if score > best:
                found = {joint: None if name is None else names[said.index(name)] for joint, name in guessed.items()}
                best, seen = score, turned
        heads = seen
    bones = _Bones(names, parents, heads)
    _add_trunk(found, bones)
    _add_free_feet(category, found, bones)
    if "upper_arm.L" not in found:  # people's legs and arms have names that say which joint is meant
        _settle_legs(category, found, bones)
    return found


def _looks_ahead(found: Mapping[str, str | None], names: Sequence[str], heads: Array) -> int:
    """What says that a rig looks ahead and not back: a head with ears is worth two points, one that is carried above
    the tail is worth one, and so are toes ahead of a person's feet, or without toes knees ahead of hips and feet."""
    place = {joint: heads[list(names).index(bone)] for joint, bone in found.items() if bone is not None}
    legs = [[place.get(f"{part}.{s}") for part in ("thigh", "shin", "foot", "toe")] for s in "LR"]
    legs = [(hip, knee, foot, toe) for hip, knee, foot, toe in legs if hip is not None and foot is not None]
    steps = [toe - foot for *_, foot, toe in legs if toe is not None]
    steps = steps or [knee - 0.5 * (hip + foot) for hip, knee, foot, _ in legs if knee is not None]
    tail = [at for joint, at in place.items() if joint.startswith("tail_")]
    high = "head" in place and bool(tail) and place["head"][2] > tail[-1][2]
    return 2 * ("ear.L" in place) + high + (bool(steps) and float(np.mean(steps, 0)[1]) < 0)


def _limbs_of(category: Category, found: Mapping[str, str | None]) -> tuple[int, int]:
    """Of how many limbs at least two joints have a bone, and how many there are."""
    skeleton = category.skeleton
    counts: dict[int, int] = {}
    for j, joint in enumerate(skeleton.names):
        limb = [k for k in skeleton.chain(j) if skeleton.roles[k] == "limb"]
        if j in limb:
            counts[limb[0]] = counts.get(limb[0], 0) + (found[joint] is not None)
    return sum(count >= 2 for count in counts.values()), len(counts)


@dataclass(frozen=True, eq=False)
class _Bones:
    """A rig's bones at rest, as `guess_bones` takes them."""

    names: Sequence[str]
    parents: Array
    heads: Array

    @cached_property
    def place(self) -> dict[str, int]:
        """Name → number."""
        return {name: i for i, name in enumerate(self.names)}


def foot_height(joints: Array) -> float:
    """The height below which joints ``(J, 3)`` of a body at rest are of feet."""
    return float(joints[:, 2].min() + _LOW * np.ptp(joints[:, 2]))


def axes_between(body: Array, character: Array) -> Array:
    """Rotation ``(3, 3)`` from the axes of some joints ``(N, 3)`` to those of the bones that play them ``(N, 3)``.

    The one that brings them nearest (Kabsch 1976), made square where it nearly is: rigs are built along their axes,
    but a neck carried higher tilts the best rotation.
    """
    one, two = body - body.mean(0), character - character.mean(0)
    u, _, vt = np.linalg.svd(two.T @ one)
    best = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    square, left = np.zeros((3, 3)), np.abs(best)
    for _ in range(3):  # the largest entry of what is left takes its row and column
        i, k = np.unravel_index(int(left.argmax()), left.shape)
        square[i, k] = np.sign(best[i, k])
        left[i], left[:, k] = -1, -1
    return square if np.linalg.det(square) > 0 and geodesic(square, best) < _SQUARE else best


def _add_trunk(found: dict[str, str | None], bones: _Bones) -> None:
    """Which bone bends in the middle of an animal's trunk; or, where the trunk is one bone, that it is the root's."""
    names, parents, place = bones.names, bones.parents, bones.place
    if not {"pelvis", "spine", "chest"} <= found.keys():
        return
    pelvis, chest = found["pelvis"], found["chest"]
    if pelvis is not None and chest is not None:
        between = _between(place[pelvis], place[chest], parents)
        if between:
            found["spine"] = names[between[len(between) // 2]]
    elif pelvis is None and chest is None:
        limbs = [place[bone] for joint, bone in found.items() if bone is not None and "_upper." in joint]
        shared = [set(ancestors(int(parents[bone]), parents)) for bone in limbs]
        common: set[int] = set.intersection(*shared) if shared else set()
        if common:
            found["root"] = names[max(common, key=lambda bone: len(ancestors(bone, parents)))]


def _add_free_feet(category: Category, found: dict[str, str | None], bones: _Bones) -> None:
    """Feet that hang on no leg, as rigs have them whose legs reach for their feet (IK): low, beneath the leg's end."""
    names, parents, heads, place = bones.names, bones.parents, bones.heads, bones.place
    skeleton, rest = category.skeleton, category.body.joints
    ground, top = heads[:, 2].min(), heads[:, 2].max()
    low = foot_height(rest)
    used = {place[bone] for bone in found.values() if bone is not None}
    held = {i for i in range(len(names)) if used & set(ancestors(i, parents))}
    holding = {bone for i in used for bone in ancestors(i, parents)}
    for j, joint in enumerate(skeleton.names):
        chain = [k for k in skeleton.chain(j) if skeleton.roles[k] == "limb"]
        if j not in chain or rest[j, 2] > low or any(rest[k, 2] <= low for k in chain[:-1]) or found[joint]:
            continue
        leg = [place[bone] for k in chain[:-1] if (bone := found[skeleton.names[k]]) is not None]
        if len(leg) < 2:
            continue
        length = float(np.linalg.norm(np.diff(heads[leg], axis=0), axis=1).sum())
        near = [
            i
            for i in range(len(names))
            if i not in held | holding
            and not {"pole", "poletarget"} & set(tokens(names[i]))
            and heads[i, 2] < ground + 0.2 * (top - ground)
            and np.linalg.norm(heads[i, :2] - heads[leg[-1], :2]) < 0.5 * length
            and np.sign(heads[i, 0]) == np.sign(heads[leg[-1], 0])
        ]
        if near:
            foot = min(near, key=lambda i: (len(ancestors(i, parents)), np.linalg.norm(heads[i] - heads[leg[-1]])))
            found[joint] = names[foot]
            held.add(foot)


def _settle_legs(category: Category, found: dict[str, str | None], rig: _Bones) -> None:
    """Which of a leg's bones play which of its joints, by where they point.

    Names do not tell a shoulder blade from an upper leg, nor whether the one joint of a leg is an elbow or a wrist.
    """
    names, parents, place = rig.names, rig.parents, rig.place
    skeleton, rest = category.skeleton, category.body.joints
    played = [j for j, joint in enumerate(skeleton.names) if found[joint] is not None]
    if len(played) < 3:
        return
    turn = axes_between(rest[played], rig.heads[[place[str(found[skeleton.names[j]])] for j in played]])
    heads = rig.heads @ turn
    taken = {place[bone] for bone in found.values() if bone is not None}
    for top in (j for j in range(len(skeleton)) if skeleton.roles[j] == "limb"):
        if skeleton.roles[int(skeleton.parents[top])] == "limb":
            continue
        leg: list[int] = [top]
        while (following := skeleton.main_child(leg[-1])) is not None:
            leg.append(following)
        bones = [place[bone] for j in leg if (bone := found[skeleton.names[j]]) is not None]
        if len(bones) < 3:  # two point somewhere in many ways
            continue
        above = []
        for bone in ancestors(int(parents[bones[0]]), parents):
            if bone in taken or abs(heads[bone, 0]) < 0.3 * abs(heads[bones[0], 0]):
                break
            above.insert(0, bone)
        candidates: list[int] = [*above, *bones]
        best = _settled(rest[leg], heads[candidates])
        for j in leg:
            found[skeleton.names[j]] = None
        for k, i in best:
            found[skeleton.names[leg[k]]] = names[candidates[i]]


def _settled(joints: Array, heads: Array) -> list[tuple[int, int]]:
    """Pairs of a leg's joints (J, 3) and bones (N, 3), both in order, whose stretches point most alike."""
    best, least = [(k, k) for k in range(3)], np.inf
    for count in range(3, min(len(joints), len(heads)) + 1):
        for some in combinations(range(len(joints)), count):
            for bones in combinations(range(len(heads)), count):
                if bones[-1] != len(heads) - 1:  # the foot is a foot
                    continue
                one, two = np.diff(joints[list(some)], axis=0), np.diff(heads[list(bones)], axis=0)
                lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
                off = np.arccos(np.clip((one * two).sum(1) / np.maximum(lengths, 1e-12), -1, 1))
                passed = (len(joints) - count) + (bones[-1] - bones[0] + 1 - count) + (some[0] > 0)
                cost = float(off.mean()) + _UNPLAYED * passed
                if cost < least:
                    best, least = list(zip(some, bones, strict=True)), cost
    return best


def _by_profile(profile: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Joint → bone, for the joints of a profile whose names the rig has, each once."""
    plain: dict[str, str | None] = {}
    for name in names:
        key = _plain(name)
        plain[key] = None if key in plain else name
    found = {joint: plain.get(_plain(name)) for joint, name in profile.items()}
    return {joint: bone for joint, bone in found.items() if bone is not None}


def _plain(name: str) -> str:
    """What is left of a bone's name that other programs keep."""
    last = re.sub(r"[^a-z0-9]", "", name.lower().rpartition(":")[2])
    return re.sub(r"^mixamorig\d*", "", last)


def write_bones(path: Path, bones: Mapping[str, str | None]) -> Path:
    """Write which bone plays which joint, null for none, for a person to mend; returns the path."""
    try:
        with written_atomically(path) as temporary:
            text = json.dumps({joint: bone or None for joint, bone in bones.items()}, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DasrError(write_refusal(path, error)) from error
    return path


def read_bones(path: Path, joint_names: Sequence[str]) -> dict[str, str]:
    """Joint → bone, "" for none, from a file that `write_bones` wrote. Raises DasrError that names it and the joint."""
    do = "have one written by the command that reads it, or by joint-map, and mend that"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DasrError(f"There is no file of bones {path}: check the path") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DasrError(f"{path}: not a readable file of bones ({reason}); {do}") from error
    if not isinstance(data, dict) or not all(bone is None or isinstance(bone, str) for bone in data.values()):
        raise DasrError(f"{path}: must say joint → bone or null; {do}")
    for joint in data:
        if joint not in joint_names:
            raise DasrError(f"{path}: the category has no joint '{joint}': take it out or mend its name")
    return {joint: data.get(joint) or "" for joint in joint_names}
