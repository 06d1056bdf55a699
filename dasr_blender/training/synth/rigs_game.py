# SPDX-License-Identifier: GPL-3.0-or-later
"""The animals and people of the game 0 A.D.: which file holds each, and which bones play the part of which joint.

Bones go by where they lie: of deer, `l_upperarm` begins at the elbow; of donkeys, with a skeleton of the same
names, at the shoulder. Left out are animals whose skeleton does not fit their mesh (pigs), has no hips apart from the
pelvis (rabbits), or that are no shape of this category (elephants, hippopotami, rhinos).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .rigs import Chain, Link, RigSpec
from .rigs_human import both_sides

LEGS = (
    "front_upper",
    "front_lower",
    "front_foot",
    "front_toe",
    "hind_upper",
    "hind_lower",
    "hind_foot",
    "hind_toe",
)
TAIL = ("tail_1", "tail_2", "tail_3", "tail_4")


@dataclass(frozen=True)
class GameRig:
    """Where the game's archive keeps one animal or person."""

    mesh: str
    """Name under `art/meshes/skeletal`."""
    skeleton: str
    """File under `art/skeletons`, which names the bones."""
    texture: str
    """Name under `art/textures/skins/skeletal`."""
    clips: tuple[str, ...]
    """What the names under `art/animation/<folder>` begin with."""
    spec: RigSpec
    folder: str = "quadraped"
    head: tuple[str, str] | None = None
    """Mesh under `art/meshes/props` and texture under `art/textures/skins/props/head`, of a head made apart."""


def animal_spec(
    trunk: tuple[str | tuple[str, ...], str | tuple[str, ...], str | tuple[str, ...]],
    neck: Sequence[str],
    front: Sequence[str],
    hind: Sequence[str],
    tail: Sequence[str] = (),
    ear: str | None = None,
    swaps: Sequence[tuple[str, str]] = (("_L", "_R"),),
    merged: tuple[str, ...] = (),
    central: tuple[str, ...] = (),
) -> RigSpec:
    """The table of one animal.

    trunk: bones of pelvis, spine and chest; neck: its bones and the head's; front, hind: the bones of four joints
    each, of the left side; swaps: what makes a left name a right one, the first that applies; merged: bones that turn
    the hind_upper with its own; central: joints whose bones of both sides begin in the middle, and so say nothing of
    their place.
    """

    def bones(given: str | tuple[str, ...]) -> tuple[str, ...]:
        return (given,) if isinstance(given, str) else given

    def other(name: str) -> str:
        for a, b in swaps:
            if name.endswith(a):
                return name.removesuffix(a) + b
            if a in name:
                return name.replace(a, b, 1)
        raise ValueError(f"{name} has no other side.")

    links = {j: Link(bones(b)) for j, b in zip(("pelvis", "spine", "chest"), trunk, strict=True)}
    links["head"] = Link((neck[-1],), neck[-1])
    limbs = dict(zip(LEGS, (*front, *hind), strict=True))
    if ear:
        limbs["ear"] = ear
    for joint, bone in limbs.items():
        own = (bone, *merged) if joint == "hind_upper" else (bone,)
        placed = joint not in central
        links[joint + ".L"] = Link(own, bone if placed else None)
        links[joint + ".R"] = Link(tuple(other(b) for b in own), other(bone) if placed else None)
    chains = [Chain(("neck_1", "neck_2"), tuple(neck), to_tip=False)]
    if tail:
        chains.append(Chain(TAIL, tuple(tail), to_tip=True))
    pairs = ("front_lower", "hind_lower") if central else ("front_upper", "hind_upper")
    return RigSpec(links=links, chains=tuple(chains), pairs=pairs)


_CAMEL = animal_spec(
    ("Camelus_Pelvis", "Camelus_Spine", "Camelus_Spine1"),
    ("Camelus_Neck_01", "Camelus_Neck_02", "Camelus_Neck_03", "Camelus_Neck_04", "Camelus_Head"),
    ("Camelus_upperarm_L", "Camelus_Arm_L", "Camelus_Forearm_L", "Camelus_Hand_L"),
    ("Camelus_Thigh_L", "Camelus_Foreleg_L", "Camelus_Shin_L", "Camelus_Foot_L"),
    ("Camelus_Tail", "Camelus_Tail_01", "Camelus_Tail_02", "Camelus_Tail_03"),
    merged=("Camelus_Leg_L",),
)
_GOAT = animal_spec(
    ("back", ("spine", "back"), "spine"),
    ("neck", "head"),
    ("thigh_front_l", "calf_front_l", "foot_front_l", "foot_front_tip_l"),
    ("thigh_back_l", "calf_back_l", "foot_back_l", "foot_back_tip_l"),
    ("tail",),
    swaps=(("_l", "_r"),),
)
_FRONT = ("FrontLeg1_L", "FrontLeg2_L", "FrontLeg3_L", "FrontToe_L")
_BACK = ("BackLeg1_L", "BackLeg2_L", "BackLeg3_L", "BackToe_L")
_NECK = ("Neck1", "Neck2", "Neck3", "Head")
_MASTIFF = animal_spec(
    ("mastiff", "spine1", "spine2"),
    _NECK,
    _FRONT,
    _BACK,
    ("Tail1", "Tail2", "Tail2_001", "Tail3", "Tail4"),
    "ear_L",
)
_WOLFHOUND = animal_spec(
    ("wolfhound", "spine1", "spine2"),
    _NECK,
    _FRONT,
    _BACK,
    ("Tail1", "Tail2", "Tail3", "Tail4", "Tail5"),
    "ear1_L",
)
_WOLF = animal_spec(
    ("Bone", "Bone_005", "Bone_001"),
    _NECK,
    _FRONT,
    _BACK,
    ("Tail1", "Tail2", "Tail3", "Tail4"),
)
_FOX = animal_spec(
    ("Fox_pelvis", "Fox_spine1", "Fox_spine2"),
    ("Fox_Neck1", "Fox_Neck2", "Fox_head"),
    tuple("Fox_" + b for b in _FRONT),
    tuple("Fox_" + b for b in _BACK),
    ("Fox_Tail1", "Fox_Tail2", "Fox_Tail3", "Fox_Tail4"),
    "Fox_ear_L",
    swaps=(("Fox_BackLeg1_L", "Fox_Fox_BackLeg1_R"), ("_L", "_R")),
)
_TIGER = animal_spec(
    ("pelvis", "spine_1", "chest"),
    ("neck_1", "neck_2", "head"),
    ("leg_front_top_L", "leg_front_mid_L", "leg_front_bot_L", "leg_front_foot_L"),
    ("leg_back_top_L", "leg_back_mid_L", "leg_back_bot_L", "leg_back_foot_L"),
    tuple(f"tail_{i + 1}" for i in range(7)),
    "ear_L",
)


def _older(front: Sequence[str], ear: str | None = None, central: tuple[str, ...] = ()) -> RigSpec:
    """The game's older skeleton: horses at first, then lions, donkeys and deer."""
    return animal_spec(
        ("pelvis", "spine", "spine1"),
        ("neck", "neck1", "head"),
        front,
        ("l_thigh", "l_calf", "l_foot", "l_toe"),
        ("tail", "tail1"),
        ear,
        swaps=(("l_", "r_"),),
        central=central,
    )


_ARM = ("l_upperarm", "l_forearm", "l_hand", "l_finger")
_LION = _older(_ARM, central=("hind_upper",))
_DONKEY = _older(_ARM)
_DEER = _older(("l_clavicle", "l_upperarm", "l_forearm", "l_hand"), "l_ear")
_BEAR = animal_spec(
    ("Ursidae_Pelvis", ("Ursidae_Spine", "Ursidae_Spine_1"), "Ursidae_Spine_2"),
    ("Ursidae_Spine_3", "Ursidae_Neck", "Ursidae_Head"),
    ("Ursidae_Arm_L", "Ursidae_Forearm_L", "Ursidae_Paw_L", "Ursidae_Claw_L"),
    ("Ursidae_Leg_L", "Ursidae_Shin_L", "Ursidae_Ankle_L", "Ursidae_Toe_L"),
    ear="Ursidae_ear_L",
    merged=("Ursidae_Foreleg_L",),
)


def _cattle(ear: str | None) -> RigSpec:
    """Cattle: the artist's left is the animal's right."""
    return animal_spec(
        ("Bovidae_pelvis", "Bovidae_spine", "Bovidae_spine1"),
        ("Bovidae_Neck", "Bovidae_Head"),
        (
            "Bovidae_FrontLegTop_R",
            "Bovidae_FrontThigh_R",
            "Bovidae_FrontCalf_right",
            "Bovidae_FrontFoot_right",
        ),
        ("Bovidae_ReartLegTop_R", "Bovidae_RearThigh_R", "Bovidae_RearCalf_right", "Bovidae_RearFoot_right"),
        ("Bovidae_Tail", "Bovidae_TailMid", "Bovidae_TailTip"),
        ear,
        swaps=(("_right", "_left"), ("_R", "_L")),
        central=("hind_upper",),
    )


_CATTLE = _cattle("Bovidae_ear_R")
_WILDEBEEST = _cattle(None)  # its ears are part of the head
_ZEBRA = animal_spec(
    ("rear_body", ("ZebraArmature", "rear_body"), "ZebraArmature"),
    ("neck1", "neck2", "head"),
    ("left_shoulder", "left_leg", "left_shin", "left_foot"),
    ("left_pelvis", "rear_left_leg", "rear_left_shin", "rear_left_foot"),
    ("tail_start", "tail_middle", "tail_tip"),
    "left_ear",
    swaps=(("left", "right"),),
    central=("front_upper", "hind_upper"),
)
_SHEEP = animal_spec(
    ("Body_Rear", ("Body_Rear", "Body_Front"), "Body_Front"),
    ("Neck", "Head"),
    ("Shoulder_Left", "Arm_Left", "Forearm_Left", "Hand_Left"),
    ("Pelvis_Left", "Leg_Left", "Shin_Left", "Foot_Left"),
    ("Tail",),
    swaps=(("_Left", "_Right"),),
    central=("front_upper", "hind_upper"),
)

GAME_RIGS: dict[str, GameRig] = {
    f"0ad_{name}": rig
    for name, rig in {
        "camel": GameRig("camel", "camelus", "animal_camel_b", ("camel_",), _CAMEL),
        "goat": GameRig("goat", "goat", "animal_goat_grey", ("goat_",), _GOAT),
        "billy_goat": GameRig("goat_male", "goat", "animal_goat", ("goat_",), _GOAT),
        "mastiff": GameRig("mastiff_no_spikes", "mastiff", "brit/mastiff_b_01", ("mastiff_",), _MASTIFF),
        "wolfhound": GameRig("wolfhound", "wolfhound", "animal_wolf_grey", ("wolfhound_",), _WOLFHOUND),
        "wolf": GameRig("wolf", "wolf", "animal_wolf", ("wolf_",), _WOLF),
        "fox": GameRig("fox", "fox_armature", "animal_fox_red", ("fox_",), _FOX),
        "tiger": GameRig("tiger", "feline_blender", "animal_tiger", ("feline_",), _TIGER),
        "lion": GameRig("animal_lion", "horse_old", "animal_lion", ("lion_",), _LION),
        "lioness": GameRig("animal_lioness", "horse_old", "animal_lioness", ("lion_",), _LION),
        "donkey": GameRig("donkey", "horse_old", "animal_donkey", ("donkey_",), _DONKEY),
        "deer": GameRig("deer_mesh", "deer", "animal_deer_01", ("deer_",), _DEER),
        "bear": GameRig("bear", "ursidae_armature", "animal_bear_brown", ("bear_",), _BEAR),
        "cow": GameRig(
            "cattle_female_a", "bovidae_skeleton", "animal_cattle_black_and_white", ("bovidae_",), _CATTLE
        ),
        "zebu": GameRig("zebu", "bovidae_skeleton", "animal_zebu", ("bovidae_",), _CATTLE),
        "wildebeest": GameRig(
            "wildebeest_adult", "bovidae_skeleton", "animal_wildebeest", ("bovidae_",), _WILDEBEEST
        ),
        "zebra": GameRig("zebra", "zebra", "animal_zebra", ("zebra_",), _ZEBRA),
        "sheep": GameRig("sheep", "sheep", "animal_sheep_no_player_color_a", ("sheep_",), _SHEEP),
    }.items()
}

_PERSON = both_sides(
    {
        "root": "hip",
        "spine_1": "spine",
        "spine_2": "spine1",
        "chest": "chest",
        "neck": "neck",
        "head": "head",
    },
    {
        "shoulder": "shoulder_*",
        "upper_arm": "arm_*",
        "forearm": "forearm_*",
        "hand": "hand_*",
        "thigh": "thigh_*",
        "shin": "leg_*",
        "foot": "foot_*",
    },
    "L",
    "R",
)
_TRADES = "archer axe crossbowman hoplite javelinist knife pikeman slinger spearman swordsman".split()


def _person(mesh: str, texture: str, head: str, face: str, clips: tuple[str, ...] = ()) -> GameRig:
    return GameRig(f"new/{mesh}", "biped", texture, clips, _PERSON, "biped", (head, face))


GAME_MOTIONS = "0ad_motions"
"""The one of `GAME_PEOPLE` that has the game's clips, and lends them to all."""

GAME_PEOPLE: dict[str, GameRig] = {
    GAME_MOTIONS: _person(
        "m_naked",
        "gaul/naked_01",
        "new/dude_head",
        "celt_verc",
        ("citizen/", "gatherer/", "fisher/", "infantry/death_", *(f"infantry/{t}/" for t in _TRADES)),
    ),
    **{
        f"0ad_{name}": rig
        for name, rig in {
            "tunic": _person("m_tunic_short", "hele/tunic_01_01", "new/dude_head", "hele_a"),
            "kilt": _person("m_tunic_short", "kush/tunic_basic_02_01", "new/dude_head", "african_01"),
            "long_tunic": _person("m_tunic_long", "jude/tunic_01_01", "new/head_beard", "hele_healer_a"),
            "trousers": _person("m_pants", "gaul/pants_basic_01", "new/head_longhair", "celt_a"),
            "sleeveless": _person("m_pants", "gaul/tunic_sleeveless_01_01", "new/head_beard_small", "celt_c"),
            "jacket": _person("m_pants_tunic_long", "han/tunic_01_01", "new/head_beard_small", "han_old_b"),
            "scales": _person(
                "m_pants_tunic_short", "pers/scale_kardakes_01_01", "new/head_beard_wide", "kart_hannibal"
            ),
            "mail": _person("m_armor_pants", "brit/chainmail_04_01", "new/head_lime", "celt_e"),
            "soldier": _person("m_armor_tunic_short", "rome/chainmail_01_01", "head_hero_a", "alexander"),
            "noble": _person(
                "m_armor_pants_tunic_short", "gaul/tunic_noble_01_01", "new/head_longhair", "celt_d"
            ),
            "lamellar": _person(
                "m_armor_tunic_long", "han/lamellar_02_lacquered_01", "new/dude_head", "generic_a"
            ),
            "bare": _person("m_naked", "gaul/naked_02", "new/head_beard_small", "celt_b"),
            "woman_tunic": _person(
                "f_tunic_short", "maur/female_02_01", "new/head_female_shorthair", "han_fem_a"
            ),
            "woman_dress": _person("f_dress", "celt/dress_female_01_01", "dudette_head", "celt_fem_a"),
            "woman_tight": _person(
                "f_naked", "ninja_female", "new/head_female_shorthair", "african_fem_a_dark"
            ),
        }.items()
    },
}
