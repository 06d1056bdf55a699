# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstructed motion on another armature: an animator's own character."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Quaternion, Vector

from ..core import Category, DasrError, Skeleton, load_category
from ..core.bone_map import match_bones
from ..core.errors import counted
from ..core.retarget import carried, fitting, moved
from ..core.rotation import make_continuous
from . import compat
from .action import RIG_SLOT, write_keys
from .build import is_evaluated, unstretched
from .constraints import Overruling, driven_paths, overruling
from .control_rig import control_keys, is_control_rig, match_controls, turn_by_bones
from .plan import CATEGORY, RIG_SUFFIX, SOURCE

BONES = "dasr_bones"  # what a character remembers of its bones


class RetargetError(DasrError):
    """The motion cannot be brought onto that armature."""


@dataclass(frozen=True)
class Retargeted:
    """What came of it.  action: its name.  frames: first and last.  bones: how many are keyed.  scale: the character's
    legs beside the body's, in their armatures' own lengths.  warnings: for the user."""

    action: str
    frames: tuple[int, int]
    bones: int
    scale: float
    warnings: tuple[str, ...]


def is_reconstruction(thing: Any) -> bool:
    """Whether an object is the rig of a reconstruction."""
    return thing is not None and thing.type == "ARMATURE" and SOURCE in thing


def is_gone(thing: bpy.types.Object | None) -> bool:
    """Whether an object was deleted, or is in no scene: a property that points at it keeps it in the file."""
    return thing is None or not thing.users_scene


def reconstruction_category(source: bpy.types.Object | None, folders: Iterable[Path] = ()) -> Category:
    """The category of a reconstruction's rig. folders: where else than usual categories may lie.

    Raises RetargetError, CategoryError.
    """
    if source is None or not is_reconstruction(source):
        name = "Nothing" if source is None else f"'{source.name}'"
        raise RetargetError(f"{name} is not the rig of a reconstruction: choose one as the source")
    return load_category(str(source[CATEGORY]), folders)


def matched(category: Category, target: bpy.types.Object) -> dict[str, str]:
    """Joint → bone of an armature, "" where it has none: as it was used last, else told from its names and its tree."""
    bones = target.data.bones
    used = _remembered(target).get(category.name, {})
    if any(used.values()) and set(used) == set(category.skeleton.names) and all(b in bones for b in used.values() if b):
        return used
    if is_control_rig(target):
        return {joint: bone or "" for joint, bone in match_controls(category, target).items()}
    names = [bone.name for bone in bones]
    parents = np.array([bones.find(bone.parent.name) if bone.parent else -1 for bone in bones], np.int64)
    heads = np.array([bone.head_local for bone in bones], np.float64).reshape(-1, 3)
    bpy.context.view_layer.update()  # an object that is new stands at the origin until then
    guessed = match_bones(category, names, parents, heads @ _upright(target))
    return {joint: bone or "" for joint, bone in guessed.items()}


def _upright(target: bpy.types.Object) -> np.ndarray:
    """Axes (3, 3), for row vectors, that stand an armature up whose bones lie on their backs, as importers leave them:
    the world's, where its object is turned by whole quarter turns."""
    turn = np.array(target.matrix_world.to_3x3().normalized(), np.float64)
    square = np.round(turn)
    return square.T if abs(abs(np.linalg.det(square)) - 1) < 1e-6 else np.eye(3)


def retarget(
    category: Category,
    source: bpy.types.Object,
    target: bpy.types.Object,
    bones: Mapping[str, str],
    scene: bpy.types.Scene,
    *,
    in_clip: bool = False,
    free: bool = True,
) -> Retargeted:
    """Key the source's motion onto the target, as a new action; what it had before is kept, unused.

    category: the source's.  source: the rig of a reconstruction, as it moves now: edits of its curves, constraints and
    layers count.  target: any armature; bones that nothing plays stay as they are posed.  bones: joint → bone of the
    target; "" for none.  in_clip: move and scale the target's object so that it stands in the clip where the subject
    does. Without, it moves about where it is, as far as its own legs carry it.  free: the action switches constraints
    off that would move those bones all the same; a control rig's stay.

    Raises RetargetError: nothing was changed.
    """
    chosen = _checked(category, source, target, bones, scene)
    first, last = _frame_range(source, scene)
    skeleton = category.skeleton
    turns, places, joints = _played(source, category, scene, range(first, last + 1))
    own = target.data.bones
    heads = {j: np.array(own[bone].head_local, np.float64) for j, bone in chosen.items()}
    fit = fitting(skeleton, joints, heads)
    axes = {j: np.array(own[bone].matrix_local.to_3x3(), np.float64) for j, bone in chosen.items()}
    controls = is_control_rig(target)
    loose = [j for j, bone in chosen.items() if not set(_above(own[bone])) & set(chosen.values())]
    if controls:  # hang on what follows others by constraints, but for the one that carries all
        loose = loose[:1] if min(chosen) in loose else []
    hung = {j: up for j in loose if (up := _carrier(skeleton, j, chosen)) is not None}
    gone = moved(fit, joints, turns, places, {j: heads[j] for j in loose if j not in hung})
    pointed = carried(skeleton, fit, joints, turns, places, axes)
    off: list[Overruling] = []
    if controls:
        _put_aside(target)  # it would play on top of what is tried
        switches = [(bone, path, 1.0) for bone, path in turn_by_bones(target).items()]
        keys, held = _by_controls(target, chosen, pointed, gone, skeleton)
    else:
        keys = _local(target, chosen, pointed, gone, hung)
        acting = overruling(target, {name for bone in chosen.values() for name in (bone, *_above(own[bone]))})
        off = [one for one in acting if free and not one.driven]
        held = list(dict.fromkeys(one.bone for one in acting if one not in off))
        switches = [(one.bone, one.path, 0.0) for one in off]
    used = {joint: chosen.get(j, "") for j, joint in enumerate(skeleton.names)}
    memory = json.dumps({**_remembered(target), category.name: used})
    action = _write(source, target, keys, switches, range(first, last + 1), _cuts(source, category, first, last))
    misplaced = _stand(target, source.matrix_world @ Matrix(fit.matrix).inverted(), scene) if in_clip else []
    target[BONES] = memory
    if target.override_library is not None:  # Blender does not save what was added to an override
        action[BONES] = memory
    scene.frame_set(scene.frame_current)
    doubts = [*_doubts(target, chosen, category, held, off), *_driven(target, chosen), *misplaced]
    return Retargeted(action.name, (first, last), len(chosen), fit.scale, tuple(doubts))


def _checked(
    category: Category,
    source: bpy.types.Object,
    target: bpy.types.Object | None,
    bones: Mapping[str, str],
    scene: bpy.types.Scene,
) -> dict[int, str]:
    """Joint number → bone, for those that have one. Raises RetargetError."""
    if target is None or target.type != "ARMATURE":
        raise RetargetError("Choose the armature of your character as the target")
    if target == source:
        raise RetargetError(f"'{target.name}' is the reconstruction itself: choose another armature as the target")
    if target.library is not None or (target.data.library is not None and target.override_library is None):
        raise RetargetError(
            f"'{target.name}' is linked from another file: make a library override of it first (Object › Library "
            "Override › Make)"
        )
    for rig in (source, target):
        if rig.data.is_editmode:
            raise RetargetError(f"'{rig.name}' is in Edit Mode, where nothing moves: leave that first (Tab)")
        if rig.data.pose_position == "REST":
            raise RetargetError(f"'{rig.name}' shows its Rest Position: choose Pose Position in its properties")
    if target.animation_data is not None and target.animation_data.use_tweak_mode:
        raise RetargetError(
            f"'{target.name}' is in the tweak mode of an NLA strip: leave that first (Tab in the NLA editor)"
        )
    if scene not in source.users_scene:
        raise RetargetError(f"'{source.name}' is not in scene '{scene.name}': choose a reconstruction that is")
    if not is_evaluated(source):
        raise RetargetError(
            f"'{source.name}' does not move while it is switched off: tick its collection in the Outliner, and switch "
            "on the monitor icons of both"
        )
    if is_control_rig(target) and not is_evaluated(target):
        raise RetargetError(f"'{target.name}' is not in the scene that is shown: its controls are told by moving it")
    chosen: dict[int, str] = {}
    for joint, bone in bones.items():
        if not bone:
            continue
        if joint not in category.skeleton.names:
            raise RetargetError(f"Category '{category.name}' has no joint '{joint}': take it out, or match bones again")
        if bone not in target.data.bones:
            raise RetargetError(f"'{target.name}' has no bone '{bone}' (for {joint}): choose another or none")
        if bone in chosen.values():
            other = category.skeleton.names[next(j for j, name in chosen.items() if name == bone)]
            raise RetargetError(f"Bone '{bone}' is chosen for {other} and for {joint}: leave one of them empty")
        chosen[category.skeleton.index(joint)] = bone
    if not chosen:
        raise RetargetError(f"No bone of '{target.name}' is chosen: match bones, or choose them in the list")
    missing = [joint for joint in category.skeleton.names if joint not in _joint_bones(source)]
    if missing:
        raise RetargetError(f"'{source.name}' lost its bone of {missing[0]}: undo that, or reconstruct the clip again")
    return chosen


def _joint_bones(source: bpy.types.Object) -> dict[str, str]:
    """Joint → bone of a reconstruction, whatever its bones are called."""
    return {str(bone["joint"]): bone.name for bone in source.pose.bones if "joint" in bone}


def _frame_range(source: bpy.types.Object, scene: bpy.types.Scene) -> tuple[int, int]:
    """First and last frame of the source's motion: of its keys, wherever they were moved; of its layers, where it plays
    no action by itself; else the scene's."""
    animation, ends = source.animation_data, []
    if animation is not None and animation.action is not None and not animation.use_tweak_mode:
        own = (c for c in compat.played_curves(animation) if not c.data_path.startswith('["'))  # no contacts
        ends = [end for curve in own if len(curve.keyframe_points) for end in curve.range()]
    elif animation is not None and animation.use_nla:
        strips = (strip for track in animation.nla_tracks if not track.mute for strip in track.strips)
        ends = [end for strip in strips if not strip.mute for end in (strip.frame_start, strip.frame_end)]
    if not ends:
        return scene.frame_start, scene.frame_end
    return int(np.floor(min(ends) + 1e-3)), int(np.ceil(max(ends) - 1e-3))  # scaled keys are not quite whole


def _cuts(source: bpy.types.Object, category: Category, first: int, last: int) -> list[int]:
    """Which frames after the first the source leaps into: those that its root is keyed at after a key that holds."""
    animation = source.animation_data
    if animation is None or animation.action is None:
        return []
    root = bpy.utils.escape_identifier(_joint_bones(source)[category.skeleton.names[0]])
    path = f'pose.bones["{root}"].rotation_quaternion'
    curve = next((c for c in compat.action_curves(animation.action) if c.data_path == path), None)
    keys = [] if curve is None else list(curve.keyframe_points)
    leaps = [after.co.x for before, after in zip(keys, keys[1:], strict=False) if before.interpolation == "CONSTANT"]
    return [round(frame) - first for frame in leaps if first < frame <= last]


def _played(
    source: bpy.types.Object, category: Category, scene: bpy.types.Scene, frames: range
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How the source moves, in its armature's axes: turns since rest ``(T, J, 3, 3)``, places of the joints
    ``(T, J, 3)``, and those at rest ``(J, 3)``."""
    names = _joint_bones(source)
    order = [names[joint] for joint in category.skeleton.names]
    rest = np.array([source.data.bones[name].matrix_local for name in order], np.float64)
    pose = np.empty((len(frames), len(order), 4, 4))
    was = scene.frame_current, scene.frame_subframe
    try:
        with unstretched(scene):
            for t, frame in enumerate(frames):
                scene.frame_set(frame)
                seen = source.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
                pose[t] = [seen[name].matrix for name in order]
    finally:
        scene.frame_set(was[0], subframe=was[1])
    axes = pose[..., :3, :3] / np.linalg.norm(pose[..., :3, :3], axis=-2, keepdims=True)
    return axes @ np.swapaxes(rest[:, :3, :3], -1, -2), pose[..., :3, 3], rest[:, :3, 3]


def _carrier(skeleton: Skeleton, joint: int, chosen: Mapping[int, str]) -> int | None:
    """The joint that a limb's joint hangs on, of those that a bone plays; feet are bones of their own in some rigs."""
    if skeleton.roles[joint] != "limb":
        return None
    above = [j for j in skeleton.chain(joint)[:-1] if j in chosen and skeleton.roles[j] == "limb"]
    return above[-1] if above else None


def _above(bone: bpy.types.Bone) -> list[str]:
    """Names of the bones that a bone hangs on."""
    return [parent.name for parent in bone.parent_recursive]


@dataclass(frozen=True, eq=False)
class _Keys:
    """Of one bone, by frame, in its own axes at rest.  rotation: ``(T, 4)`` wxyz, None for a bone that is only moved.
    location: ``(T, 3)``, None for one that is not."""

    rotation: np.ndarray | None
    location: np.ndarray | None


def _local(
    target: bpy.types.Object,
    chosen: Mapping[int, str],
    pointed: Mapping[int, np.ndarray],
    gone: Mapping[int, np.ndarray],
    hung: Mapping[int, int],
) -> dict[str, _Keys]:
    """Keys that make bones point as told, and go where told, in armature space; others stay as they are posed.

    hung: joint → the joint whose bone its own goes with, though it is not parented to it.

    A bone that is connected to its parent cannot be moved: the one at the top of what is connected is.
    """
    own, pose = target.data.bones, target.pose.bones
    joint_of = {bone: j for j, bone in chosen.items()}
    movers = {_top(own[chosen[j]]).name: j for j in reversed([*gone, *hung])}
    order = _in_order(target, chosen, hung)
    rest = {bone.name: bone.matrix_local.copy() for bone in order}
    kept = {bone.name: pose[bone.name].matrix_basis.copy() for bone in order}
    count = len(next(iter(pointed.values())))
    rotation = {bone: np.empty((count, 4)) for bone in joint_of}
    location = {bone: np.empty((count, 3)) for bone in movers}
    for t in range(count):
        posed: dict[str, Matrix] = {}
        for bone in order:
            name, joint, above = bone.name, joint_of.get(bone.name), {}
            if bone.parent is not None:
                parent = bone.parent.name
                above = {"parent_matrix": posed[parent], "parent_matrix_local": rest[parent]}
            basis = kept[name] if joint is None else Matrix.Identity(4)
            free = bone.convert_local_to_pose(basis, rest[name], **above)
            place = free.translation
            if name in movers:
                j = movers[name]
                begin = own[chosen[j]].head_local
                if j in hung:
                    carrier = chosen[hung[j]]
                    goal = posed[carrier] @ rest[carrier].inverted() @ begin
                else:
                    goal = Vector(gone[j][t])
                place = (begin if j == joint else place) + (goal - begin)
            posed[name] = Matrix.LocRotScale(
                place, free.to_quaternion() if joint is None else Matrix(pointed[joint][t]), free.to_scale()
            )
            if joint is not None or name in movers:
                basis = bone.convert_local_to_pose(posed[name], rest[name], invert=True, **above)
            if joint is not None:
                rotation[name][t] = basis.to_quaternion()
            if name in movers:
                location[name][t] = basis.translation
    return {
        bone.name: _Keys(rotation.get(bone.name), location.get(bone.name))
        for bone in order
        if bone.name in rotation or bone.name in location
    }


def _by_controls(
    target: bpy.types.Object,
    chosen: Mapping[int, str],
    pointed: Mapping[int, np.ndarray],
    gone: Mapping[int, np.ndarray],
    skeleton: Skeleton,
) -> tuple[dict[str, _Keys], list[str]]:
    """Keys for a generated control rig, whose limbs turn (FK), and controls that do not obey."""
    depth = {j: len(skeleton.chain(j)) for j in chosen}
    rotation, location, held = control_keys(target, chosen, pointed, gone, depth)
    return {name: _Keys(turns, location.get(name)) for name, turns in rotation.items()}, held


def _in_order(
    target: bpy.types.Object, chosen: Mapping[int, str], hung: Mapping[int, int]
) -> list[bpy.types.Bone]:
    """The bones that play a joint and those that they hang on, each after what it follows."""
    own, order = target.data.bones, []
    carrier = {_top(own[chosen[j]]).name: own[chosen[up]] for j, up in hung.items()}

    def add(bone: bpy.types.Bone | None) -> None:
        if bone is not None and bone not in order:
            add(bone.parent)
            add(carrier.get(bone.name))
            order.append(bone)

    for name in chosen.values():
        add(own[name])
    return order


def _top(bone: bpy.types.Bone) -> bpy.types.Bone:
    while bone.use_connect and bone.parent is not None:
        bone = bone.parent
    return bone


def _write(
    source: bpy.types.Object,
    target: bpy.types.Object,
    keys: Mapping[str, _Keys],
    switches: Iterable[tuple[str, str, float]],
    frames: range,
    cuts: Sequence[int],
) -> bpy.types.Action:
    """The keys as a new action, which the target plays; the one before stays in the file. switches: bone, path and
    value of what stays as it is throughout.  cuts: which of the frames begin another shot."""
    clip = source.name.removesuffix(RIG_SUFFIX)
    action, slots, bags = compat.new_action(f"{clip} on {target.name}", {RIG_SLOT: "OBJECT"})
    slot, bag = slots[RIG_SLOT], bags[RIG_SLOT]
    when = np.array(frames)
    for name, key in keys.items():
        bone = target.pose.bones[name]
        path = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
        bone.location, bone.scale = (0, 0, 0), (1, 1, 1)
        if key.location is not None:
            write_keys(bag, f"{path}.location", name, when, key.location, "LINEAR", cuts)
        if key.rotation is not None:
            field, values = _in_mode(bone.rotation_mode, make_continuous(key.rotation))
            write_keys(bag, f"{path}.{field}", name, when, values, "LINEAR", cuts)
    for name, path, value in switches:
        write_keys(bag, path, name, when[:1], np.full((1, 1), value), "CONSTANT")
    action.use_frame_range = True
    action.frame_start, action.frame_end = float(when[0]), float(when[-1])
    animation = source.animation_data
    if animation is not None and animation.action is not None:
        for marker in animation.action.pose_markers:
            action.pose_markers.new(marker.name).frame = marker.frame
    _put_aside(target)
    compat.assign_action(target, action, slot)
    return action


def _put_aside(target: bpy.types.Object) -> None:
    """What the target plays stays in the file, unused."""
    animation = target.animation_data
    if animation is not None and animation.action is not None:
        animation.action.use_fake_user = True
        animation.action = None


def _in_mode(mode: str, quaternions: np.ndarray) -> tuple[str, np.ndarray]:
    """The property that a bone of a rotation mode is turned by, and its values, from ``(T, 4)`` wxyz."""
    if mode == "QUATERNION":
        return "rotation_quaternion", quaternions
    turns = [Quaternion(q) for q in quaternions]
    if mode == "AXIS_ANGLE":
        pairs = [turn.to_axis_angle() for turn in turns]
        return "rotation_axis_angle", np.array([(angle, *axis) for axis, angle in pairs])
    found = [turns[0].to_euler(mode)]
    for turn in turns[1:]:
        found.append(turn.to_euler(mode, found[-1]))  # the nearest to the one before
    return "rotation_euler", np.array(found)


def _keepers(target: bpy.types.Object) -> list[bpy.types.ID]:
    """What may hold a target's memory of its bones."""
    action = target.animation_data.action if target.animation_data is not None else None
    return [target] if action is None else [target, action]


def forget_bones(target: bpy.types.Object) -> None:
    """The target remembers nothing of its bones."""
    for owner in _keepers(target):
        owner.pop(BONES, None)


def _remembered(target: bpy.types.Object) -> dict[str, dict[str, str]]:
    """Category → joint → bone, as used before."""
    kept = [owner[BONES] for owner in _keepers(target) if BONES in owner]
    try:
        found = json.loads(kept[0]) if kept else {}
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _doubts(
    target: bpy.types.Object, chosen: Mapping[int, str], category: Category, held: list[str], off: list[Overruling]
) -> Iterator[str]:
    """What the user should know. held: bones that do not turn as they should. off: constraints that were switched
    off."""
    names = category.skeleton.names
    lost = [name for j, name in enumerate(names) if j not in chosen and not _may_lack(category.skeleton, j, chosen)]
    if lost:
        yield f"{counted(len(lost), 'joint')} had no bone in '{target.name}': {_listed(lost)}."
    if off:
        yield (
            f"{counted(len(off), 'constraint')} of '{target.name}' "
            f"({_listed([f'{one.constraint} of {one.bone}' for one in off])}) would move the bones all the same: the "
            "action keys their influence at 0. Set it back where another action wants them."
        )
    if held:
        yield (
            f"{counted(len(held), 'bone')} of '{target.name}' ({_listed(held)}) also follow constraints, which act on "
            "top of the keys: mute those, or choose bones that have none."
        )
    tracks = target.animation_data.nla_tracks if target.animation_data is not None else ()
    if any(not track.mute and track.strips for track in tracks):
        yield f"'{target.name}' has NLA tracks, which play along with the new action: mute those that should not."


def _driven(target: bpy.types.Object, chosen: Mapping[int, str]) -> Iterator[str]:
    """Bones whose keys count for nothing."""
    paths = driven_paths(target)
    starts = {bone: f'pose.bones["{bpy.utils.escape_identifier(bone)}"].' for bone in chosen.values()}
    fields = ("location", "rotation_")
    driven = [b for b, start in starts.items() if any(p.startswith(tuple(start + f for f in fields)) for p in paths)]
    if driven:
        yield (
            f"{counted(len(driven), 'bone')} of '{target.name}' ({_listed(driven)}) have drivers, which overrule the "
            "keys: mute those, or choose other bones."
        )


def bends(armature: bpy.types.Object, item: bpy.types.Object) -> bool:
    """Whether an armature bends a mesh."""
    return any(modifier.type == "ARMATURE" and modifier.object == armature for modifier in item.modifiers)


def _stand(target: bpy.types.Object, place: Matrix, scene: bpy.types.Scene) -> list[str]:
    """Put the target where told, and with it the meshes that it bends and that do not hang on it; returns what to say
    of those that did not go there."""
    bpy.context.view_layer.update()
    before = target.matrix_world.copy()
    bent = {item: item.matrix_world.copy() for item in bpy.data.objects if bends(target, item)}
    target.matrix_world = place
    scene.frame_set(scene.frame_current)  # layers and drivers have their say
    told = []
    if not _stands(target, place):
        told.append(
            f"'{target.name}' does not stand in the clip: constraints, drivers or NLA tracks of its object, or a "
            "parent with an uneven scale, hold it elsewhere."
        )
    moved_by = _seen(target) @ before.inverted_safe()
    goals = {item: moved_by @ stood for item, stood in bent.items()}
    for item in sorted(goals, key=_depth):  # a mesh may carry others
        if not _stands(item, goals[item]):
            item.matrix_world = goals[item]
            bpy.context.view_layer.update()
    scene.frame_set(scene.frame_current)
    left = [item.name for item, goal in goals.items() if not _stands(item, goal)]
    if left:
        told.append(
            f"{_listed(left)} did not go with '{target.name}', which bends {'it' if len(left) == 1 else 'them'}: undo, "
            f"and parent {'it' if len(left) == 1 else 'them'} to the armature first."
        )
    return told


def _depth(item: bpy.types.Object) -> int:
    return 0 if item.parent is None else 1 + _depth(item.parent)


def _seen(item: bpy.types.Object) -> Matrix:
    """Where an object stands, whatever holds it there."""
    return item.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world


def _stands(item: bpy.types.Object, place: Matrix) -> bool:
    return np.allclose(np.array(_seen(item)), np.array(place), atol=1e-3 * max(map(abs, place.to_scale())))


def _may_lack(skeleton: Skeleton, joint: int, chosen: Mapping[int, str]) -> bool:
    """Joints that many rigs have no bone for: the body's middle, ends such as toes, ears and a jaw, and those that a
    limb's bone above reaches beyond."""
    above = int(skeleton.parents[joint])
    within = skeleton.roles[joint] == "limb" and above in chosen and skeleton.roles[above] == "limb"
    return joint == 0 or not skeleton.children(joint) or within and skeleton.main_child(joint) in chosen


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
