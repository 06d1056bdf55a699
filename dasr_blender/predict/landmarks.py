# SPDX-License-Identifier: GPL-3.0-or-later
"""Joints that another network finds in the picture, where a category has one: which way the trunk faces, and which of a
pair of limbs is which; and the mask that it finds with them.

A network that has only seen renders mistakes a person's back for the front where no face is seen; one that has seen
many photographs seldom does. People's is BlazePose GHUM (Grishchenko et al., "BlazePose GHUM Holistic", 2022). What it
finds is evidence among others: of the trunk for the tracker's choice of views, of limbs where left and right would
have to be exchanged to agree with it. Angles stay the student's. Automatic masks ask it first for the subject.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from ..core.category import Category
from ..core.motion import shots_of
from ..core.progress import between
from ..core.rotation import unit
from ..core.skeleton import forward_kinematics, mirror_rotations
from .config import DEFAULTS, TrackConfig
from .errors import PredictError
from .passing import limb_pairs, mirrored_answer
from .path import cheapest_path
from .pieces import run_in_pieces
from .providers import AUTO, open_session
from .student import Prediction

Array = np.ndarray

_TRUNK = 3  # joints at least, from which a trunk's turn can be told
_TURNED = 0.2  # presence by which a picture that was turned has to be the clearer one


def body_finder(
    category: Category, provider: str = AUTO, threads: int = 0
) -> Callable[[], Callable[[Array], tuple[Array, float, Array]]] | None:
    """Makes what finds the category's bodies for automatic masks (`Landmarks.seen`); None where it has no such
    network."""
    if category.landmarks_path is None:
        return None
    return lambda: Landmarks(category, provider, threads=threads).seen


class Landmarks:
    """A category's landmark network, loaded once and run on any number of clips."""

    def __init__(self, category: Category, provider: str = AUTO, batch: int = 64, threads: int = 0) -> None:
        """provider: one of `providers.CHOICES`.  batch: frames at a time.  threads: of the processor, 0 for one a core.

        Raises PredictError when the category has no such network or it is not one.
        """
        path = category.landmarks_path
        if path is None:
            raise PredictError(f"Category '{category.name}' has no landmarks.onnx; it is tracked without.")
        self.category, self.batch = category, max(1, int(batch))
        self.opened = open_session(path, provider, threads)
        self.session = self.opened.session
        skeleton = category.skeleton
        try:
            given, masked = self.session.get_inputs()
            if (given.name, given.shape[1], masked.name) != ("crops", 3, "masked"):
                raise KeyError
            if {o.name for o in self.session.get_outputs()} != {"places", "presence", "box", "mask"}:
                raise KeyError
            names = self.session.get_modelmeta().custom_metadata_map["joints"].split()
            self.size, self.joints = int(given.shape[2]), np.array([skeleton.index(name) for name in names])
        except (KeyError, ValueError, IndexError, TypeError):
            raise PredictError(
                f"{path}: not a landmark network of this version, or not of this category; install it again."
            ) from None
        found = set(self.joints.tolist())
        above = [found & (set(skeleton.chain(j)) - {j}) for j in self.joints.tolist()]
        self.trunk = self.joints[[not over for over in above]]
        # parents come before their children, so the nearest of those above is the last
        self.bones = [(max(over), j) for over, j in zip(above, self.joints.tolist(), strict=True) if over]
        if len(self.trunk) < _TRUNK:
            raise PredictError(
                f"{path}: a trunk's turn is told from {_TRUNK} joints, but it finds {len(self.trunk)}; install it "
                "again."
            )

    def run(
        self,
        prediction: Prediction,
        crops: Array,
        cuts: Sequence[int] | Array = (),
        config: TrackConfig = DEFAULTS,
        progress: Callable[[float, str], None] | None = None,
    ) -> Prediction:
        """What the student said, with what landmarks tell of the trunk, and with limbs on the side they say.

        prediction: of T frames.  crops ``(T, 4, S, S)`` uint8: masked colours, then the mask.  cuts: frames that begin
        another shot.  Raises PredictError when the arrays do not belong to one clip.
        """
        if len(prediction) != len(crops):
            raise PredictError(
                f"There are {len(prediction)} predicted frames but {len(crops)} crops; predict the clip again."
            )
        places, sure = self.places(crops, progress or (lambda share, text: None))
        _, joints = self.category.body.shaped(prediction.morphology)
        rotations = prediction.joint_rotations
        view, as_is = self._compared(joints, rotations, places)
        _, mirrored = self._compared(joints, mirror_rotations(self.category.skeleton, rotations), places)
        exchanged = self._exchanged(as_is, mirrored, sure, shots_of(len(prediction), cuts), config)
        prediction = replace(prediction, told_rotation=view, told_sure=sure)
        return mirrored_answer(self.category, prediction, exchanged) if exchanged.any() else prediction

    def seen(self, picture: Array) -> tuple[Array, float, Array]:
        """The subject in a picture ``(h, w, 3)`` uint8 that it fills: its mask ``(h', w')`` float32 in 0…1, stretched
        over the picture, how sure the network is that it sees one, 0…1, and the box ``(4,)`` x0, y0, x1, y1 of its
        joints, shares of width and height, beyond 0…1 where they are expected beyond the rim."""
        whole = np.array(picture.shape[1::-1], np.float64)  # width, height
        inner = np.maximum(np.round(whole * self.size / whole.max()), 1).astype(int)
        x, y = (self.size - inner) // 2
        given = np.zeros((self.size, self.size, 3), np.float32)
        shrinks = inner[0] < whole[0]
        small = cv2.resize(picture, inner.tolist(), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        given[y : y + inner[1], x : x + inner[0]] = small
        crop = np.ascontiguousarray(given.transpose(2, 0, 1)[None]) / np.float32(255)
        answers = self.session.run(["mask", "presence", "box"], {"crops": crop, "masked": np.array(True)})
        mask, sure, box = (np.asarray(answer)[0] for answer in answers)
        return (
            mask[y : y + inner[1], x : x + inner[0]], float(np.clip(sure[0], 0, 1)),
            (np.asarray(box, np.float64) * self.size - np.tile((x, y), 2)) / np.tile(inner, 2),
        )  # fmt: skip

    def places(self, crops: Array, progress: Callable[[float, str], None]) -> tuple[Array, Array]:
        """Joints ``(T, J, 3)`` in the crop's axes (x right, y down, z along its ray), metres from the hips, NaN for
        those without a landmark; and how sure the network is that it sees the subject at all ``(T,)``, 0…1.

        Where it is not, it looks again with the picture turned: it expects heads above hips.
        """
        found, sure = self._looked(crops, 0, between(progress, 0.0, 0.25))
        lost = np.flatnonzero(sure < 1 - _TURNED)
        upright = sure[lost]
        for quarter in (1, 2, 3) if len(lost) else ():
            other, seen = self._looked(crops[lost], quarter, between(progress, quarter / 4, (quarter + 1) / 4))
            better = seen > np.maximum(upright + _TURNED, sure[lost])
            found[lost[better]], sure[lost[better]] = other[better], seen[better]
        places = np.full((len(crops), len(self.category.skeleton), 3), np.nan)
        places[:, self.joints] = found
        return places, sure

    def _looked(
        self, crops: Array, quarter: int, progress: Callable[[float, str], None]
    ) -> tuple[Array, Array]:
        """Places ``(T, L, 3)`` and presence ``(T,)`` in crops that are turned by so many quarters for the look."""
        size = (self.size, self.size)

        def feed(first: int, last: int) -> dict[str, Array]:
            turned = np.rot90(crops[first:last, :3], quarter, axes=(2, 3)).transpose(0, 2, 3, 1)
            seen = np.stack([cv2.resize(np.ascontiguousarray(picture), size) for picture in turned])
            given = np.ascontiguousarray(seen.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
            return {"crops": given, "masked": np.array(False)}

        found = run_in_pieces(self.session, ["places", "presence"], feed, len(crops), self.batch, 0, progress)
        places, sure = found["places"].astype(np.float64), found["presence"].reshape(-1).astype(np.float64)
        if not (np.isfinite(places).all() and np.isfinite(sure).all()):
            raise PredictError(f"{self.category.landmarks_path}: its answer is not finite; report this clip.")
        cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter]
        places[..., :2] = places[..., :2] @ np.array([[cos, sin], [-sin, cos]])
        return places, np.clip(sure, 0, 1)

    def _compared(self, joints: Array, rotations: Array, places: Array) -> tuple[Array, Array]:
        """How a body with rest places ``(J, 3)`` is turned ``(T, 3, 3)`` with its trunk laid on the landmarks', and how
        far each bone between landmarks then points another way ``(T, B)``, 0…2."""
        said = forward_kinematics(self.category.skeleton, joints, rotations)[..., :3, 3]
        turn = _turn(said[:, self.trunk], places[:, self.trunk])
        start, end = np.array(self.bones, np.int64).reshape(-1, 2).T
        ours = unit(said[:, end] - said[:, start]) @ np.swapaxes(turn, 1, 2)
        return turn, 1 - (ours * unit(places[:, end] - places[:, start])).sum(-1)

    def _exchanged(
        self, as_is: Array, mirrored: Array, sure: Array, shots: list[slice], config: TrackConfig
    ) -> Array:
        """Which joints ``(T, J)`` would agree with the landmarks if left and right were exchanged, and do not now.

        as_is and mirrored ``(T, B)``: how far each bone between landmarks points another way.
        """
        skeleton = self.category.skeleton
        exchanged = np.zeros((len(sure), len(skeleton)), bool)
        for pair in map(np.concatenate, limb_pairs(skeleton)):
            own = [n for n, (_, j) in enumerate(self.bones) if j in pair]
            if not own:
                continue
            cost = np.stack([as_is[:, own].sum(1), mirrored[:, own].sum(1) + config.exchange_doubt], 1)
            cost *= sure[:, None]
            for shot in shots:
                chosen = cheapest_path(cost[shot], lambda t: config.exchange * (1 - np.eye(2))) == 1
                exchanged[shot, pair] |= chosen[:, None]
        return exchanged


def _turn(body: Array, seen: Array) -> Array:
    """The rotations ``(T, 3, 3)`` that lay points ``(T, N, 3)`` upon others, whatever their sizes (Kabsch 1976)."""
    body, seen = (points - points.mean(1, keepdims=True) for points in (body, seen))
    left, _, right = np.linalg.svd(np.swapaxes(seen, 1, 2) @ body)
    left[..., 2] *= np.linalg.det(left @ right)[:, None]
    return left @ right
