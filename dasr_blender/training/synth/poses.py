# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of people that no recording holds: drawn by kind (bend, kneel, lie, stand on the hands …), then joined.

Angles are degrees about the T-pose's axes (X left, −Y ahead, Z up): about +X the trunk bends forward, a thigh
swings back, a knee folds; left and right differ in the sign of Y and Z.
"""

from __future__ import annotations

import numpy as np

from ...core.rotation import make_continuous, matrix_to_quat, quat_to_matrix, rotvec_to_matrix, slerp
from .motions import INDEX, NAMES, T_POSE, HumanMotion, between, joint_places

KINDS: dict[str, float] = {
    "stand": 3.0,
    "step": 2.0,
    "bend": 2.2,
    "squat": 1.3,
    "kneel": 1.3,
    "one_knee": 1.3,
    "sit": 1.3,
    "sit_floor": 0.9,
    "all_fours": 0.9,
    "lie": 0.7,
    "kick": 0.7,
    "leap": 0.6,
    "handstand": 0.9,
    "freeze": 1.3,
    "anyhow": 1.0,
}
"""Kinds of pose and how often each is drawn."""
_RELATED = {
    "bend": ("stand", "squat", "step", "kneel"),
    "kneel": ("one_knee", "all_fours", "bend"),
    "one_knee": ("stand", "kneel", "squat"),
    "sit": ("stand", "bend"),
    "squat": ("stand", "leap", "kneel"),
    "handstand": ("freeze", "handstand", "anyhow"),
    "freeze": ("handstand", "freeze", "sit_floor", "all_fours"),
    "all_fours": ("lie", "freeze", "kneel"),
    "lie": ("sit_floor", "lie"),
    "sit_floor": ("lie", "squat", "all_fours"),
}
_UPPER, _LOWER = 0.28, 0.3  # upper arm; forearm to the palm, metres


def _turn(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    return rotvec_to_matrix(np.deg2rad(np.array([x, y, z])))


class _Pose:
    """Local rotations by joint name and the root's turn in the world, filled in part by part."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.local = np.tile(np.eye(3), (len(NAMES), 1, 1))
        self.root = np.eye(3)

    def about(self, mean: float, spread: float) -> float:
        return float(self.rng.normal(mean, spread))

    def set(self, joint: str, matrix: np.ndarray) -> None:
        self.local[INDEX[joint]] = matrix

    def lean(self, forward: float, side: float = 0.0, turn: float = 0.0) -> None:
        """The root's own turn: yaw, then tilt sideways and forward."""
        self.root = _turn(z=turn) @ _turn(y=side) @ _turn(x=forward)

    def spine(self, forward: float, side: float = 0.0, twist: float = 0.0) -> None:
        for joint, share in (("spine_1", 0.35), ("spine_2", 0.35), ("chest", 0.3)):
            self.set(joint, _turn(forward * share, side * share, twist * share))

    def look(self, down: float, side: float = 0.0, turn: float = 0.0) -> None:
        for joint in ("neck", "head"):
            self.set(joint, _turn(down / 2, side / 2, turn / 2))

    def leg(self, side: str, hip: float, knee: float, out: float = 6.0, roll: float = 0.0, foot: float = 0.0):
        """hip: thigh forward; knee: fold; out: thigh sideways; roll: toes outwards; foot: toes up."""
        sign = 1 if side == "L" else -1
        swing = _turn(y=-sign * out) @ _turn(x=-hip) @ _turn(z=sign * roll)
        self.set(f"thigh.{side}", swing)
        self.set(f"shin.{side}", _turn(x=max(knee, -3.0)))
        self.set(f"foot.{side}", _turn(x=-foot, y=self.about(0, 5), z=sign * self.about(5, 6)))
        self.set(f"toe.{side}", _turn(x=self.about(0, 8)))

    def legs(self, hip: float, knee: float, out: float = 6.0, foot: float = 0.0, differ: float = 8.0) -> None:
        for side in "LR":
            self.leg(
                side,
                self.about(hip, differ),
                self.about(knee, differ),
                self.about(out, 5),
                self.about(8, 8),
                self.about(foot, 6),
            )

    def chest_world(self) -> np.ndarray:
        turn = self.root
        for joint in ("spine_1", "spine_2", "chest"):
            turn = turn @ self.local[INDEX[joint]]
        return turn

    def arm(self, side: str, aim: np.ndarray, reach: float, swivel: float = 0.0, world: bool = False) -> None:
        """Hand towards `aim` (3,) seen from the shoulder, in the chest's frame or the world's; reach 0…1.

        swivel turns the elbow about the line from shoulder to hand; 0 lets it hang down or out.
        """
        sign = 1 if side == "L" else -1
        if world:
            aim = self.chest_world().T @ aim
        aim = aim / max(float(np.linalg.norm(aim)), 1e-9)
        length = np.clip(reach, 0.25, 0.995) * (_UPPER + _LOWER)
        cosine = (length**2 - _UPPER**2 - _LOWER**2) / (2 * _UPPER * _LOWER)
        fold = float(np.arccos(np.clip(cosine, -1, 1)))
        bend = rotvec_to_matrix(np.array([0, 0, -sign * fold]))
        start = np.array([sign, 0.0, 0.0])
        hand = _UPPER * start + _LOWER * (bend @ start)
        swing = between(hand, aim)
        # the elbow, seen off the line to the hand, goes down, out and a little back
        wish = np.array([0.6 * sign, 0.45, -1.0])
        wish -= (wish @ aim) * aim
        elbow = swing @ start
        elbow -= (elbow @ aim) * aim
        if np.linalg.norm(wish) > 1e-6 and np.linalg.norm(elbow) > 1e-6 and fold > 0.15:
            angle = np.arctan2(np.cross(elbow, wish) @ aim, elbow @ wish)
            swing = rotvec_to_matrix(aim * angle) @ swing
        swing = rotvec_to_matrix(aim * np.deg2rad(swivel)) @ swing
        if fold <= 0.15:
            swing = swing @ rotvec_to_matrix(start * np.deg2rad(self.about(0, 40)))
        clavicle = np.clip(aim[2], 0, 1) * 15.0
        shrug = _turn(y=-sign * clavicle, z=sign * np.clip(aim[1], -1, 1) * 8 + self.about(0, 4))
        self.set(f"shoulder.{side}", shrug)
        self.set(f"upper_arm.{side}", shrug.T @ swing)
        self.set(f"forearm.{side}", bend @ rotvec_to_matrix(start * np.deg2rad(self.about(0, 25))))
        self.set(f"hand.{side}", _turn(self.about(0, 15), self.about(0, 20), self.about(0, 12)))

    def arms(self) -> None:
        """Any of what people do with their arms, both alike or each on its own."""
        rng = self.rng
        alike = rng.random() < 0.55
        first = str(rng.choice(list(_ARMS), p=_ARM_SHARES))
        for side in "LR":
            kind = first if alike or side == "L" else str(rng.choice(list(_ARMS), p=_ARM_SHARES))
            sign = 1 if side == "L" else -1
            (x, y, z), spread, (low, high) = _ARMS[kind]
            aim = np.array([sign * x, y, z]) + rng.normal(0, spread, 3)
            self.arm(side, aim, float(rng.uniform(low, high)), self.about(0, 25))


# hand seen from the shoulder (outwards, back, up), spread, reach
_ARMS: dict[str, tuple[tuple[float, float, float], float, tuple[float, float]]] = {
    "hang": ((0.15, -0.05, -1.0), 0.08, (0.93, 0.995)),
    "loose": ((0.25, -0.2, -1.0), 0.2, (0.8, 0.99)),
    "hips": ((0.05, -0.05, -1.0), 0.06, (0.62, 0.8)),
    "folded": ((-0.5, -0.7, -0.5), 0.12, (0.4, 0.6)),
    "ahead": ((0.0, -1.0, -0.1), 0.35, (0.55, 0.99)),
    "aside": ((1.0, -0.15, 0.0), 0.35, (0.6, 0.995)),
    "up": ((0.25, -0.15, 1.0), 0.3, (0.6, 0.995)),
    "face": ((-0.2, -0.6, 0.45), 0.2, (0.3, 0.5)),
    "back": ((0.2, 0.7, -0.9), 0.2, (0.7, 0.98)),
    "level": ((1.0, -0.05, 0.0), 0.12, (0.93, 0.995)),
    "high": ((0.45, -0.1, 1.0), 0.2, (0.9, 0.995)),
    "any": ((0.1, -0.35, -0.1), 0.9, (0.35, 0.99)),
}
_ARM_SHARES = np.array([0.15, 0.14, 0.06, 0.06, 0.11, 0.08, 0.07, 0.06, 0.04, 0.07, 0.06, 0.1])
_DOWN = np.array([0.0, 0.0, -1.0])


def draw_pose(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """One pose of a kind in `KINDS`: local rotations (22, 4) about the T-pose, and the root's turn (3, 3)."""
    pose = _Pose(rng)
    n, u = pose.about, rng.uniform
    pose.look(n(5, 12), n(0, 6), n(0, 22))
    pose.spine(n(4, 7), n(0, 5), n(0, 9))
    pose.lean(n(0, 4), n(0, 3))
    flip = bool(rng.random() < 0.5)
    one, two = ("L", "R") if flip else ("R", "L")
    if kind == "stand":
        pose.legs(n(2, 4), abs(n(3, 5)), u(2, 14))
        if rng.random() < 0.3:  # weight on one leg
            pose.leg(one, u(5, 25), u(10, 50), u(0, 15), u(0, 25))
        pose.arms()
    elif kind == "step":
        swing = u(10, 40)
        pose.leg(one, swing, u(0, 45), n(3, 3), n(3, 5), n(5, 10))
        pose.leg(two, -swing * u(0.3, 0.8), u(0, 60), n(3, 3), n(3, 5), n(-10, 12))
        pose.lean(u(-5, 25), n(0, 4))
        pose.arms()
    elif kind == "bend":
        forward, knees = u(15, 100), max(0.0, u(-30, 70))
        share = u(0.35, 0.8)
        pose.lean(forward * share, n(0, 6))
        pose.spine(forward * (1 - share) * 1.3, n(0, 10), n(0, 15))
        pose.legs(forward * share + knees * 0.5, knees, u(3, 20), knees * 0.4)
        pose.look(n(10, 25), n(0, 8), n(0, 20))
        if rng.random() < 0.65:
            for side in "LR":
                if rng.random() < 0.85:
                    aim = _DOWN + rng.normal(0, [0.25, 0.3, 0.1])
                    pose.arm(side, aim, u(0.7, 0.99), n(0, 20), world=True)
                else:
                    pose.arm(side, np.array([0, -0.6, -0.8]), u(0.4, 0.8), n(0, 30))
        else:
            pose.arms()
    elif kind == "squat":
        knee = u(60, 145)
        hip = knee * u(0.6, 0.9)
        pose.legs(hip, knee, u(8, 35), u(0, 30), 5)
        pose.lean(u(-5, 45), n(0, 4))
        pose.spine(u(0, 45), n(0, 6), n(0, 10))
        pose.arms()
    elif kind == "kneel":
        low = u(0, 1)
        pose.legs(low * u(50, 80) - 5, 95 + low * u(20, 50), u(3, 20), u(-60, -10), 4)
        pose.lean(u(-8, 20) + low * u(0, 30), n(0, 4))
        pose.spine(u(-5, 45), n(0, 7), n(0, 12))
        pose.arms()
    elif kind == "one_knee":
        pose.leg(one, u(70, 110), u(75, 130), n(8, 8), n(8, 10), n(5, 10))
        pose.leg(two, u(-15, 35), u(80, 130), n(5, 6), n(0, 8), u(-55, 15))
        pose.lean(u(-8, 40), n(0, 5))
        pose.spine(u(-5, 50), n(0, 8), n(0, 12))
        pose.look(n(10, 18), n(0, 8), n(0, 20))
        pose.arms()
    elif kind == "sit":
        pose.legs(u(75, 105), u(50, 110), u(3, 25), n(0, 8))
        if rng.random() < 0.25:  # one leg over the other
            pose.leg(one, u(90, 110), u(60, 110), u(-15, 0), n(10, 10))
        pose.lean(u(-25, 20), n(0, 3))
        pose.spine(u(-5, 45), n(0, 6), n(0, 10))
        pose.arms()
    elif kind == "sit_floor":
        if rng.random() < 0.4:  # cross-legged
            for side in "LR":
                pose.leg(side, u(70, 100), u(110, 145), u(20, 40), u(40, 70))
        else:
            for side in "LR":
                knee = u(0, 130)
                pose.leg(side, 80 + knee * 0.3, knee, u(3, 25), n(8, 10), n(-10, 12))
        pose.lean(u(-40, 20), n(0, 8))
        pose.spine(u(-5, 45), n(0, 8), n(0, 12))
        pose.arms()
        if rng.random() < 0.3:
            pose.arm(one, np.array([0.0, 0.5, -0.9]), u(0.85, 0.99), 0, world=True)
    elif kind == "all_fours":
        forward = u(60, 105)
        pose.lean(forward, n(0, 8))
        pose.spine(n(0, 15), n(0, 8), n(0, 10))
        straight = rng.random() < 0.3  # hands and feet
        for side in "LR":
            if straight:
                pose.leg(side, forward - u(0, 60), u(0, 30), u(3, 15), n(5, 6), n(10, 10))
            else:
                pose.leg(side, forward + n(0, 15), u(70, 110), u(3, 18), n(5, 6), n(-40, 15))
            pose.arm(side, _DOWN + rng.normal(0, [0.15, 0.2, 0.05]), u(0.8, 0.99), n(0, 20), world=True)
        pose.look(n(-20, 25), n(0, 8), n(0, 20))
    elif kind == "lie":
        for side in "LR":
            knee = max(0.0, u(-60, 110))
            pose.leg(side, knee * u(0.3, 0.8) + n(0, 6), knee, n(10, 8), n(15, 15), n(-25, 12))
        pose.spine(n(5, 12), n(0, 12), n(0, 15))
        pose.lean(-90 if rng.random() < 0.6 else 90, u(-180, 180) if rng.random() < 0.4 else n(0, 20))
        if rng.random() < 0.3:  # on the side
            pose.root = _turn(y=90 if flip else -90) @ _turn(z=n(0, 20))
        pose.arms()
    elif kind == "kick":
        pose.leg(one, u(30, 125), max(0.0, u(-40, 110)), u(0, 60), u(-10, 40), n(-15, 15))
        pose.leg(two, n(-5, 12), u(0, 35), n(5, 5), n(5, 8))
        pose.lean(n(-8, 18), n(0, 18), n(0, 20))
        pose.spine(n(5, 14), n(0, 10), n(0, 20))
        pose.arms()
    elif kind == "leap":
        for side in "LR":
            pose.leg(side, u(-35, 90), u(0, 110), u(0, 45), n(5, 10), n(-25, 12))
        pose.lean(n(5, 20), n(0, 15))
        pose.spine(n(0, 18), n(0, 10), n(0, 15))
        pose.arms()
    elif kind in ("handstand", "freeze"):
        wide = kind == "freeze"
        for side in "LR":
            knee = max(0.0, u(-60, 120))
            pose.leg(side, u(-45, 110) if wide else n(0, 30), knee, u(-5, 70), n(10, 20), n(-20, 15))
        pose.spine(n(0, 20), n(0, 16), n(0, 18))
        pose.look(n(-15, 25), n(0, 12), n(0, 20))
        pose.lean(0)
        upset = rotvec_to_matrix(np.array([np.pi, 0, 0]) if not flip else np.array([0, np.pi, 0]))
        pose.root = _any_turn(rng, 75 if wide else 30) @ upset
        for side in "LR":
            if not wide or rng.random() < 0.7:  # hands hold the ground
                aim = _DOWN + rng.normal(0, 0.3, 3)
                pose.arm(side, aim, u(0.35 if wide else 0.75, 0.99), n(0, 25), world=True)
            else:
                pose.arm(side, rng.normal(0, 1, 3), u(0.4, 0.99), n(0, 40))
    else:
        for side in "LR":
            pose.leg(side, u(-30, 120), max(0.0, u(-40, 140)), u(-10, 60), n(8, 20), n(-5, 20))
        pose.spine(u(-25, 60), n(0, 18), n(0, 22))
        pose.look(n(0, 25), n(0, 15), n(0, 35))
        pose.root = _any_turn(rng, 180 if rng.random() < 0.5 else 40)
        pose.arms()
    return matrix_to_quat(pose.local), pose.root


def _any_turn(rng: np.random.Generator, most: float) -> np.ndarray:
    """A rotation about a random axis by up to `most` degrees, (3, 3)."""
    axis = rng.normal(size=3)
    return rotvec_to_matrix(axis / np.linalg.norm(axis) * np.deg2rad(rng.uniform(0, most)))


def pose_motion(
    rng: np.random.Generator, frames: int, fps: float, kinds: dict[str, float] | None = None
) -> HumanMotion:
    """From pose to pose: two to four key poses, mostly of one kind, joined smoothly and held for a while."""
    kinds = kinds or KINDS
    share = np.array(list(kinds.values()))
    kind = str(rng.choice(list(kinds), p=share / share.sum()))
    first = kind
    keys, names = [draw_pose(rng, kind)], [kind]
    seconds = frames / fps
    marks = [0.0]
    raw = keys[0][1]
    heading, restless = 0.0, rng.random() < 0.4  # turning round between the poses
    while marks[-1] < seconds:
        following = [k for k in _RELATED.get(kind, (kind,)) if k in kinds] or [kind]
        if rng.random() < 0.3:
            kind = str(rng.choice(following))
        rotation, root = draw_pose(rng, kind)
        before = keys[-1]
        if kind == names[-1]:  # a variation rather than a wholly new pose
            part = rng.uniform(0.15, 0.9)
            rotation = slerp(before[0], rotation, np.full(len(NAMES), part))
            root = _slerp_matrix(raw, root, part)
        raw = root
        names.append(kind)
        if restless:
            heading += rng.normal(0, 0.9)
        root = rotvec_to_matrix(np.array([0, 0, heading])) @ root
        keys.append((rotation, root))
        moved = np.abs(joint_places(before[0][None]) - joint_places(rotation[None])).max()
        marks.append(marks[-1] + max(float(rng.uniform(0.25, 1.3)), moved / rng.uniform(1.5, 5.0)))
    start = rng.uniform(0, marks[-1] - seconds)
    times = start + np.arange(frames) / fps
    at = np.clip(np.searchsorted(marks, times, side="right") - 1, 0, len(marks) - 2)
    part = (times - np.array(marks)[at]) / np.diff(marks)[at]
    part = np.clip(part * rng.uniform(1.0, 1.4), 0, 1)  # reach the pose early and hold it
    part = part**3 * (10 - 15 * part + 6 * part**2)
    table = np.stack([k[0] for k in keys])
    roots = matrix_to_quat(np.stack([k[1] for k in keys]))
    rotations = slerp(table[at], table[at + 1], part[:, None])
    world = np.tile(np.eye(4), (frames, 1, 1))
    world[:, :3, :3] = quat_to_matrix(slerp(roots[at], roots[at + 1], part))
    joints = np.einsum("tij,tkj->tki", world[:, :3, :3], joint_places(rotations, T_POSE))
    world[:, 2, 3] = 0.05 - joints[..., 2].min(1)  # the lowest joint on the ground
    return HumanMotion(f"pose:{first}", make_continuous(rotations), world, fps, False, "poses")


def _slerp_matrix(a: np.ndarray, b: np.ndarray, part: float) -> np.ndarray:
    return quat_to_matrix(slerp(matrix_to_quat(a), matrix_to_quat(b), np.array(part)))
