# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bone of somebody else's rig plays which joint."""

from __future__ import annotations

import numpy as np
import pytest
from toy import artist_name

from dasr_blender.core import Category, DasrError, load_category
from dasr_blender.core.bone_map import guess_bones, match_bones, read_bones, write_bones


def rig(category: Category, rename=lambda name: name):
    """The toy skeleton as somebody's rig: names, parents and heads."""
    skeleton = category.skeleton
    return [rename(name) for name in skeleton.names], skeleton.parents.copy(), category.body.joints.astype(float)


def test_bones_are_recognised_by_their_words_and_their_tree(toy_category: Category) -> None:
    names, parents, heads = rig(toy_category, artist_name)
    found = match_bones(toy_category, names, parents, heads)
    assert list(found) == list(toy_category.skeleton.names)
    for joint in toy_category.skeleton.names:
        if joint not in ("root", "spine"):
            assert found[joint] == artist_name(joint), joint
    assert found["root"] is None


def test_sides_are_told_by_place_where_names_do_not_say(toy_category: Category) -> None:
    names, parents, heads = rig(toy_category, lambda joint: artist_name(joint, "a_", "b_"))
    found = match_bones(toy_category, names, parents, heads)
    for joint in ("front_upper.L", "front_lower.R", "hind_foot.L"):
        assert found[joint] == names[toy_category.skeleton.index(joint)]


def test_people_are_recognised_too() -> None:
    chain = ["Hips", "Spine", "Spine1", "Spine2", "Neck", "Head"]
    bones = [(n, k - 1) for k, n in enumerate(chain)]
    for side in ("Left", "Right"):
        start = len(bones)
        bones += [(f"{side}{n}", p) for n, p in (
            ("Shoulder", 3), ("Arm", start), ("ForeArm", start + 1), ("Hand", start + 2), ("HandThumb1", start + 3),
            ("UpLeg", 0), ("Leg", start + 5), ("Foot", start + 6), ("ToeBase", start + 7),
        )]  # fmt: skip
    heads = np.array([[0.3 * (1 if "Left" in n else -1 if "Right" in n else 0), 0, 1.0] for n, _ in bones])
    joints = ["root", "spine_1", "spine_2", "chest", "neck", "head"]
    parts = ("shoulder", "upper_arm", "forearm", "hand", "thigh", "shin", "foot", "toe")
    joints += [f"{part}.{side}" for side in "LR" for part in parts]
    found = guess_bones(joints, [n for n, _ in bones], np.array([p for _, p in bones]), heads)
    assert [found[j] for j in joints[:6]] == chain
    expected = ("Shoulder", "Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase")
    for part, bone in zip(parts, expected, strict=True):
        assert found[f"{part}.R"] == f"Right{bone}", part


def test_the_side_at_a_name_s_end_counts_and_a_head_bears_ears(toy_category: Category) -> None:
    """Rigify's cat: `r_toe.L` is of the left rear paw, and its head is the last bone of the spine."""
    others = {"head": "spine.006", "hind_toe.L": "r_toe.L", "hind_toe.R": "r_toe.R"}
    names, parents, heads = rig(toy_category, lambda joint: others.get(joint, artist_name(joint)))
    found = match_bones(toy_category, names, parents, heads)
    assert {joint: found[joint] for joint in others} == others and found["neck_2"] == "Neck2"


PERSON = ("shoulder", "upper_arm", "forearm", "hand", "thigh", "shin", "foot", "toe")
ELBOWS = ("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")  # bones named after joints
UNREAL = ("clavicle", "upperarm", "lowerarm", "hand", "thigh", "calf", "foot", "ball")


def person(trunk, limbs, *, spine="{}_{}", cut=(), arms_on=None, beside=None):
    """Joint names, and a person's rig: names, parents and heads. trunk: from the root up to the head, whose last but
    two is the chest. limbs: names of `PERSON`. cut: those that are two bones. arms_on: what the collar bones hang on.
    beside: a pelvis, which the legs hang on next to the spine."""
    bones = [(name, k - 1, (0.0, 0.0, 1 + 0.1 * k)) for k, name in enumerate(trunk)]
    index = {name: k for k, name in enumerate(trunk)}
    if beside:
        bones.append((beside, 0, (0.0, 0.0, 0.95)))
    for side, x in (("l", 1), ("r", -1)):
        for first, heights in ((0, (1.4, 1.4, 1.2, 1.0)), (4, (0.9, 0.5, 0.1, 0.0))):
            parent = index[arms_on or trunk[-3]] if first == 0 else len(trunk) if beside else 0
            for name, z in zip(limbs[first : first + 4], heights, strict=True):
                for part in ("01", "02") if name in cut else ("",):
                    bones.append((spine.format(side, name + part), parent, (0.2 * x, 0.0, z)))
                    parent = len(bones) - 1
    joints = ["root", "spine_1", "spine_2", "chest", "neck", "head"] + [f"{p}.{s}" for p in PERSON for s in "LR"]
    names, parents, heads = zip(*bones, strict=True)
    return joints, list(names), np.array(parents), np.array(heads, float)


@pytest.mark.parametrize(
    ("limbs", "trunk", "more"),
    [
        (ELBOWS, ["pelvis", "spine1", "spine2", "spine3", "neck", "head"], {"spine": "{}_{}"}),
        (UNREAL, ["pelvis", "spine_01", "spine_02", "chest", "neck_01", "head"], {"arms_on": "neck_01"}),
        (("lCollar", "lShldrBend", "lForearmBend", "lHand", "lThigh", "lShin", "lFoot", "lToe"),
         ["hip", "abdomenLower", "abdomenUpper", "chestUpper", "neckLower", "head"],
         {"beside": "pelvis", "spine": "{0}{1}"}),
        (("clavicle", "upperarm", "lowerarm", "wrist", "upperleg", "lowerleg", "foot", "toe"),
         ["root", "spine03", "spine02", "spine01", "neck01", "head"], {"cut": ("upperarm", "lowerarm", "upperleg")}),
    ],
)  # fmt: skip
def test_people_of_other_programs(limbs, trunk, more) -> None:
    limbs = tuple(name.removeprefix("l") if name[1:2].isupper() else name for name in limbs)
    joints, names, parents, heads = person(trunk, limbs, **more)
    found = guess_bones(joints, names, parents, heads)
    assert [found[j] for j in joints[:6]] == trunk
    for side in "LR":
        for part, limb in zip(PERSON, limbs, strict=True):
            bone = more.get("spine", "{}_{}").format(side.lower(), limb + ("01" if limb in more.get("cut", ()) else ""))
            assert found[f"{part}.{side}"] == bone, part


@pytest.mark.parametrize("side", ["{0}{1}", "{1}.{2}"])  # as its makers write it, and as importers turn it
def test_people_named_in_japanese(side) -> None:
    """A model for MikuMikuDance: feet that legs reach for, and bones that only follow others."""
    bones: list[tuple[str, int, tuple[float, float, float]]] = []

    def add(name, parent, x, z):
        bones.append((name, [b for b, *_ in bones].index(parent) if parent else -1, (x, 0.0, z)))
        return name

    top, trunk = None, ("全ての親", "センター", "腰", "上半身", "上半身2", "首", "頭")
    for name, z in zip(trunk, (0.0, 0.9, 1.0, 1.1, 1.25, 1.5, 1.6), strict=True):
        top = add(name, top, 0, z)
    add("下半身", "腰", 0, 1.0)
    for kanji, letter, x in (("左", "L", 1), ("右", "R", -1)):
        def named(bone, kanji=kanji, letter=letter):
            return side.format(kanji, bone, letter)

        above = "上半身2"
        for bone, far in (("肩P", 0.05), ("肩", 0.05), ("肩C", 0.2), ("腕", 0.2), ("腕捩", 0.3), ("ひじ", 0.45),
                          ("手捩", 0.5), ("手首", 0.7), ("人指１", 0.8), ("人指２", 0.85)):  # fmt: skip
            above = add(named(bone), above, far * x, 1.4)
        for first, tail in (("下半身", ""), (add(named("腰キャンセル"), "下半身", 0.1 * x, 0.95), "D")):
            above = first
            for bone, z in (("足", 0.95), ("ひざ", 0.5), ("足首", 0.1)):
                above = add(named(bone + tail), above, 0.1 * x, z)
            add(named("足先EX" if tail else "つま先"), above, 0.1 * x, 0.02)
        add(named("つま先ＩＫ"), add(named("足ＩＫ"), "全ての親", 0.1 * x, 0.1), 0.1 * x, 0.02)
        add(named("目"), "頭", 0.03 * x, 1.7)
    names, parents, heads = zip(*bones, strict=True)
    found = match_bones(load_category("human"), list(names), np.array(parents), np.array(heads))
    wanted = {"root": "腰", "spine_1": "上半身", "spine_2": None, "chest": "上半身2", "neck": "首", "head": "頭"}
    limbs = dict(zip(PERSON, ("肩", "腕", "ひじ", "手首", "足", "ひざ", "足首", "つま先"), strict=True))
    for kanji, letter in (("左", "L"), ("右", "R")):
        wanted |= {f"{part}.{letter}": side.format(kanji, bone, letter) for part, bone in limbs.items()}
    assert {joint: found[joint] for joint in wanted} == wanted


def test_known_names_with_a_longer_or_shorter_trunk() -> None:
    """Unreal's newer mannequin has five bones in its spine; others of Mixamo's kind have two."""
    human = load_category("human")
    for count in (5, 2):
        trunk = ["pelvis", *(f"spine_{k:02d}" for k in range(1, count + 1)), "neck_01", "head"]
        _, names, parents, heads = person(trunk, UNREAL, spine="{1}_{0}")
        found = match_bones(human, names, parents, heads)
        assert (found["root"], found["chest"]) == ("pelvis", f"spine_{count:02d}") and found["spine_1"] == "spine_01"
        assert found["spine_2"] == {5: "spine_04", 2: None}[count] and found["forearm.R"] == "lowerarm_r"


def test_known_names_are_known_behind_a_namespace(toy_category: Category) -> None:
    profile = toy_category.profiles["neutral"]
    names, parents, heads = rig(toy_category, lambda name: f"hero:{profile[name].upper().replace('.', '_')}")
    found = match_bones(toy_category, names, parents, heads)
    assert found == dict(zip(toy_category.skeleton.names, names, strict=True))


def test_legs_are_settled_by_where_their_bones_point(toy_category: Category) -> None:
    """A shoulder blade above the leg is none of its joints, and a leg with one joint has a wrist, not an elbow."""
    skeleton = toy_category.skeleton
    words = {"front_upper": "FrontUpLeg", "front_foot": "FrontLowLeg", "front_toe": "FrontHoof"}
    words |= {"hind_upper": "Thigh", "hind_lower": "Shin", "hind_foot": "BackFoot", "hind_toe": "BackToe"}
    names, parents, heads = [], [], []
    for j, joint in enumerate(skeleton.names):
        stem, _, side = joint.partition(".")
        if stem in ("front_lower", "ear", "jaw"):
            continue
        if stem == "front_upper":
            names.append(f"FrontLegBlade.{side}")
            parents.append(names.index("chest"))
            heads.append(toy_category.body.joints[j] + [0, 0.14, 0.12])
        above = len(names) - 1 if stem == "front_upper" else None
        if stem == "front_foot":
            above = names.index(f"FrontUpLeg.{side}")
        names.append(f"{words[stem]}.{side}" if stem in words else joint)
        parent = skeleton.names[skeleton.parents[j]] if skeleton.parents[j] >= 0 else None
        if above is None and parent is not None:
            up, _, _ = parent.partition(".")
            above = names.index(f"{words[up]}.{side}" if up in words else parent)
        parents.append(-1 if above is None else above)
        heads.append(toy_category.body.joints[j])
    found = match_bones(toy_category, names, np.array(parents), np.array(heads, float))
    for side in "LR":
        leg = [found[f"front_{part}.{side}"] for part in ("upper", "lower", "foot", "toe")]
        assert leg == [f"FrontUpLeg.{side}", None, f"FrontLowLeg.{side}", f"FrontHoof.{side}"]
        assert found[f"hind_lower.{side}"] == f"Shin.{side}"
    assert found["chest"] == "chest" and found["tail_4"] == "tail_4"


def test_feet_that_hang_on_no_leg_are_found_beneath_it(toy_category: Category) -> None:
    words = {"hind_upper": "thigh", "hind_lower": "shin", "front_toe": "FF", "hind_toe": "FB"}
    names, parents, heads = rig(toy_category)
    for i, name in enumerate(toy_category.skeleton.names):
        stem, _, side = name.partition(".")
        names[i] = f"{words[stem]}.{side}" if stem in words else f"my {name}"
        if stem.endswith("toe"):  # whose name does not tell what it is
            parents[i] = -1
    names += ["Pole.L", "Pole.R"]
    parents = np.append(parents, [-1, -1])
    heads = np.concatenate([heads, heads[[names.index("FF.L"), names.index("FF.R")]] + [0, 0.02, 0]])
    found = match_bones(toy_category, names, parents, heads)
    assert [found[f"{limb}_toe.{side}"] for limb in ("front", "hind") for side in "LR"] == [
        "FF.L", "FF.R", "FB.L", "FB.R",
    ]  # fmt: skip


def test_files_of_bones(toy_category: Category, tmp_path) -> None:
    joints = toy_category.skeleton.names
    path = write_bones(tmp_path / "new" / "my.bones.json", {"head": "Kopf", "jaw": ""})
    assert read_bones(path, joints) == {**dict.fromkeys(joints, ""), "head": "Kopf"}
    for text, words in (("{", "not a readable"), ('["head"]', "joint → bone"), ('{"head": 3}', "joint → bone")):
        path.write_text(text)
        with pytest.raises(DasrError, match=words):
            read_bones(path, joints)
    path.write_text('{"fin": "x"}')
    with pytest.raises(DasrError, match="no joint 'fin'"):
        read_bones(path, joints)
    with pytest.raises(DasrError, match=r"no file of bones .*nowhere\.json: check the path"):
        read_bones(tmp_path / "nowhere.json", joints)
