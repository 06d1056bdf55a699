# SPDX-License-Identifier: GPL-3.0-or-later
"""What the bones of a rig are, told from its tree and from where they lie, whatever they are called."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

Array = np.ndarray

_DOWN = 0.2  # of the deepest pair's: how far a pair of legs reaches down
_ALIKE = 0.03  # of a body's size: how near a bone lies to its partner's mirror image
_MIDDLE = 0.03  # of a body's width: how far from its middle a bone is still of the trunk


def described(parents: Array, heads: Array, human: bool) -> list[str]:
    """A name for every bone, in the words that `bone_map.guess_bones` knows: `7 hind leg.L`, `12 head`, `31 tail`;
    its number alone where nothing can be told.

    Legs are the pairs of chains that reach furthest down, arms those that reach furthest from a person's trunk. What
    leads from their shoulders forwards or upwards is neck and head, what leads backwards from an animal's hips its
    tail, and a head's highest pair its ears.

    parents ``(N,)`` (−1 for none) and heads ``(N, 3)``: bones at rest, looking along −Y, left is +X, up +Z.
    """
    tree = _Tree(parents, heads)
    words = [""] * len(parents)
    legs = sorted(tree.pairs, key=lambda pair: -tree.drop(pair[0]))[: 1 if human else 2]
    deepest = tree.drop(legs[0][0]) if legs else 0.0
    if deepest <= 0 or len(legs) < (1 if human else 2) or tree.drop(legs[-1][0]) < _DOWN * deepest:
        return [str(i) for i in range(len(words))]
    if human:
        hind = legs[0]
        above = [pair for pair in tree.pairs if pair != hind and tree.reach(pair[0]) > 0.5 * tree.reach(hind[0])]
        front = max(above, key=lambda pair: tree.reach(pair[0]), default=None)
    else:
        front, hind = sorted(legs, key=lambda pair: heads[pair[0], 1])
    for pair, name in ((front, "front arm" if human else "front leg"), (hind, "hind leg")):
        for root, side in zip(pair or (), "LR", strict=False):
            chain = tree.limb(root, human and name == "front arm")
            if human:
                first = _two_longest(heads[chain])
                if first and name == "front arm":
                    words[chain[first - 1]] = f"shoulder.{side}"
                chain = chain[first : first + (3 if name == "front arm" else 4)]
            elif len(chain) > 3 and tree.ends_above_feet(chain):
                chain = chain[1:]
            for bone in chain[-4:]:
                words[bone] = f"{name}.{side}"
    if front is None:
        return _numbered(words)
    chest, hips = (int(parents[pair[0]]) for pair in (front, hind))
    head, ears = tree.head(chest, set(ancestors(hips, parents)), human)
    if head is not None:
        words[head] = "head"
        highest = max(ears, key=lambda pair: heads[pair[0], 2], default=None)
        if highest is not None and (len(ears) > 1 or len(tree.under(highest[0])) > 1):
            for root, side in zip(highest, "LR", strict=True):
                words[root] = f"ear.{side}"
    if not human:
        for bone in tree.tail(hips, chest):
            words[bone] = "tail"
    return _numbered(words)


def ancestors(bone: int, parents: Array) -> list[int]:
    """A bone and those that it hangs on, upwards; none for −1."""
    out = []
    while bone >= 0:
        out.append(bone)
        bone = int(parents[bone])
    return out


def _numbered(words: list[str]) -> list[str]:
    return [f"{i} {word}".rstrip() for i, word in enumerate(words)]


def _two_longest(places: Array) -> int:
    """Where the upper of a person's limb begins: the shorter of two stretches that follow each other is longest."""
    lengths = np.linalg.norm(np.diff(places, axis=0), axis=1)
    return int(np.argmax([min(pair) for pair in pairwise(lengths)])) if len(lengths) > 1 else 0


class _Tree:
    """A rig's bones, and what hangs on what."""

    def __init__(self, parents: Array, heads: Array) -> None:
        self.parents, self.heads = parents, heads
        self.children: list[list[int]] = [[] for _ in parents]
        for i, parent in enumerate(parents):
            if parent >= 0:
                self.children[parent].append(i)
        self.size = float(np.ptp(heads, axis=0).max())
        self.middle = np.abs(heads[:, 0]) < _MIDDLE * max(float(np.ptp(heads[:, 0])), 1e-9)
        self.pairs = self._pairs()

    def _pairs(self) -> list[tuple[int, int]]:
        """Left and right bones that begin a limb: each other's mirror image, on the same bone of the trunk."""
        found = []
        for left in np.flatnonzero((self.heads[:, 0] > 0) & ~self.middle):
            trunk = int(self.parents[left])
            if trunk < 0 or not self.middle[trunk]:
                continue
            image = self.heads[left] * [-1, 1, 1]
            others = [i for i in self.children[trunk] if self.heads[i, 0] < 0 and not self.middle[i]]
            near = min(others, key=lambda i: float(np.linalg.norm(self.heads[i] - image)), default=None)
            if near is not None and np.linalg.norm(self.heads[near] - image) < _ALIKE * self.size:
                found.append((int(left), near))
        return found

    def under(self, bone: int) -> list[int]:
        """A bone and all that hangs on it, on its own side of the body if it has one."""
        out, waiting = [], [bone]
        while waiting:
            one = waiting.pop()
            out.append(one)
            waiting += [i for i in self.children[one] if self.middle[bone] or not self.middle[i]]
        return out

    def lowest(self, bone: int) -> float:
        """Height of the lowest bone of those that hang on one."""
        return float(self.heads[self.under(bone), 2].min())

    def drop(self, root: int) -> float:
        """How far down a limb reaches from where it begins."""
        return float(self.heads[root, 2]) - self.lowest(root)

    def reach(self, root: int) -> float:
        """How far a limb reaches from where it begins."""
        return float(np.linalg.norm(self.heads[self.under(root)] - self.heads[root], axis=1).max())

    def limb(self, root: int, hand: bool) -> list[int]:
        """A limb's bones from the body outwards, to its lowest or, of an arm, up to where the fingers begin."""
        out = [root]
        while following := [i for i in self.children[out[-1]] if not self.middle[i]]:
            if hand and len(following) > 2:
                break
            out.append(max(following, key=lambda i: self.reach(i) if hand else -self.lowest(i)))
        return out

    def ends_above_feet(self, limb: list[int]) -> bool:
        """Whether the foot beneath a limb hangs elsewhere, as where legs reach for their feet."""
        end, drop = self.heads[limb[-1]], self.drop(limb[0])
        beneath = (self.heads[:, 2] < end[2] - 0.1 * drop) & ~self.middle & (self.heads[:, 0] * end[0] > 0)
        near = np.linalg.norm(self.heads[:, :2] - end[:2], axis=1) < 0.5 * drop
        return bool((beneath & near).any())

    def head(self, chest: int, trunk: set[int], human: bool) -> tuple[int | None, list[tuple[int, int]]]:
        """The head, and pairs of bones beside it: along the middle from the chest, upwards or, of an animal, ahead, to
        where it branches, or to the end; which bone there, the nearest to its eyes or ears tells."""
        ahead = self.heads @ (np.array([0, 0, 1]) if human else np.array([0, -1, 0]))

        def furthest(bone: int) -> float:
            placed = [i for i in self.under(bone) if self.heads[i].any()]  # exporters leave some at the origin
            return float(ahead[placed or [bone]].max())

        def onwards(bone: int) -> list[int]:
            return [i for i in self.children[bone] if self.middle[i] and i not in trunk and furthest(i) > ahead[bone]]

        at = chest
        while ways := onwards(at):
            at = max(ways, key=furthest)
            if len(self.children[at]) > 1:
                break
        if at == chest:
            return None, []
        beside = [pair for pair in self.pairs if self.parents[pair[0]] in (at, *onwards(at))]
        if beside:
            between = np.mean([self.heads[list(pair)].mean(0) for pair in beside], 0)
            at = min((at, *onwards(at)), key=lambda i: float(np.linalg.norm(self.heads[i] - between)))
        return at, beside

    def tail(self, hips: int, chest: int) -> list[int]:
        """The longest chain along the middle that leads backwards from the hips."""
        trunk = ancestors(chest, self.parents)
        ways = [i for i in self.children[hips] if self.middle[i] and i not in trunk]
        ways = [i for i in ways if self.heads[self.under(i), 1].max() > self.heads[hips, 1]]
        chains = (ancestors(i, self.parents) for way in ways for i in self.under(way))
        longest = max(chains, key=len, default=[hips])
        return longest[: longest.index(hips)][::-1]
