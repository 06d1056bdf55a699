# SPDX-License-Identifier: GPL-3.0-or-later
"""A shard of crops and targets → augmented batches.

A *shard* is a folder that only ever grows, so training can start while clips are still being made:

    crops.u8     (N, 4, P, P) uint8, masked RGB + mask, a little wider than the network's crop
    surface.u16  (N, G, G) uint16, which vertex of the body each cell shows (see `surface`)
    targets.bin  N records of `record_type`
    index.json   sizes, and the clips with their rows and origins; written last, so that what it lists is whole

Shards packed before frames had a quality lack that field: every frame then counts in full.

Augmentation happens on whole batches in torch. Moving or scaling the crop changes what it shows *and* what the
right answer is; `move_crop` and `mirror` keep the two exactly in step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.category import BODY, Category
from ..errors import TrainingError
from .rotation import ray_rotation
from .surface import CELL, NOTHING

MARGIN = 1.125
"""side of a stored crop over that of the network's crop: room to move it"""

WHOLE = 32
"""what the side of a crop is a multiple of: the backbone halves it five times"""

Batch = dict[str, Tensor]


def stored_side(crop: int) -> int:
    """Side of the stored crop for a network's crop, pixels; whole cells of the surface map. Raises TrainingError."""
    if crop < WHOLE or crop % WHOLE:
        raise TrainingError(f"a crop of {crop} pixels does not fit the network; use a multiple of {WHOLE}")
    return round(crop * MARGIN)


def record_type(joints: int, morphology: int, quality: bool = True) -> np.dtype[Any]:
    """Targets of one frame; the root pose is relative to the crop (core.camera.encode_root).

    quality: with how far a frame's labels are to be trusted, 0…1; without in shards of earlier versions.
    """
    return np.dtype(
        [
            ("root_rotation", "f4", (3, 3)),
            ("root_translation", "f4", (3,)),
            ("crop_info", "f4", (3,)),
            ("joints", "f4", (joints, 4)),
            ("joints_mirrored", "f4", (joints, 4)),
            ("joint_weight", "f4", (joints,)),
            ("morphology", "f4", (morphology,)),
            ("clip", "i4"),
            ("frame", "i4"),
            *([("quality", "f4")] if quality else []),
        ]
    )


# -- reading -------------------------------------------------------------------------------------------------


def read_index(folder: Path) -> dict[str, Any]:
    """What a shard's index.json says.

    Raises FileNotFoundError where there is no shard, TrainingError naming a file that is damaged or too short.
    """
    path = folder / "index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        joints, morphology, rows, _ = (int(index[name]) for name in ("joints", "morphology", "rows", "crop"))
        stored, frame = int(index["stored"]), record_type(joints, morphology, index.get("quality", False))
        if sum(int(clip["rows"]) for clip in index["clips"]) != rows:
            raise ValueError("its clips have other rows than it says")
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder}: there is no shard (no index.json); make one with pack") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path}: the shard's index is damaged ({error}); pack the clips again") from error
    sizes = {
        "crops.u8": 4 * stored**2,
        "surface.u16": 2 * (stored // CELL) ** 2,
        "targets.bin": frame.itemsize,
    }
    for name, size in sizes.items():
        held = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if held < rows * size:
            raise TrainingError(
                f"{folder / name}: is damaged, it holds {held // size} of the {rows} frames that index.json lists; "
                "pack the clips again"
            )
    return index


def is_of_body(index: dict[str, Any], category: Category) -> bool:
    """Whether a shard, of which index.json says this, was packed for a category's body, as far as both say. Targets
    name its vertices."""
    packed, own = index.get("body"), category.hashes.get(BODY)
    return packed is None or own is None or packed == own


class Shard:
    """A packed dataset: rows of crops and targets, split into training and validation clips."""

    def __init__(self, folder: Path, validation_every: int = 25) -> None:
        """validation_every: each n-th clip is for validation, 0 for none. Raises what `read_index` raises, and
        TrainingError for a shard without clips.
        """
        self.folder, self.validation_every = Path(folder), validation_every
        if not self.refresh():
            raise TrainingError(f"{self.folder}: holds no clip; pack some into it")

    def refresh(self) -> bool:
        """See clips that were appended since; True when there are any."""
        index = read_index(self.folder)
        if index["rows"] == getattr(self, "rows", 0):
            return False
        self.rows, self.clips, self.crop, self.stored = (
            index["rows"],
            index["clips"],
            index["crop"],
            index["stored"],
        )
        self.index = index
        self.category, self.sizes = index.get("category"), (index["joints"], index["morphology"], index["crop"])
        dtype = record_type(index["joints"], index["morphology"], index.get("quality", False))
        shape = (self.rows, 4, self.stored, self.stored)
        self.crops = np.memmap(self.folder / "crops.u8", np.uint8, "r", shape=shape)
        cells = self.stored // CELL
        self.surface = np.memmap(self.folder / "surface.u16", np.uint16, "r", shape=(self.rows, cells, cells))
        self.records = np.fromfile(self.folder / "targets.bin", dtype, count=self.rows)
        known = "quality" in (dtype.names or ())
        self.quality = self.records["quality"] if known else np.ones(self.rows, np.float32)
        every = self.validation_every
        held = np.zeros(len(self.clips), bool)
        if every:
            held[every - 1 :: every] = True
        self.validation_clips, self.training_clips = np.flatnonzero(held), np.flatnonzero(~held)
        apart, counts = held[self.records["clip"]], self.quality > 0
        self.training_rows, self.validation_rows = (
            np.flatnonzero(~apart & counts),
            np.flatnonzero(apart & counts),
        )
        return True

    def check(self, category: Category) -> None:
        """Raise TrainingError unless the shard was packed for a category."""
        known, own = self.category or category.name, (len(category.skeleton), len(category.morphology))
        if known != category.name:
            raise TrainingError(
                f"{self.folder}: was packed for '{known}', not for '{category.name}'; name the former with --category"
            )
        if self.sizes[:2] != own:
            raise TrainingError(
                f"{self.folder}: was packed for another body of '{known}', of {self.sizes[0]} joints and "
                f"{self.sizes[1]} proportions, not {own[0]} and {own[1]}; pack the clips again"
            )
        if not is_of_body(self.index, category):
            raise TrainingError(
                f"{self.folder}: was packed for another body.npz than that of '{known}' now; pack the clips again"
            )

    def clip_rows(self, clip: int) -> np.ndarray:
        """Rows of one clip, in time order."""
        start = self.clips[clip]["start"]
        return np.arange(start, start + self.clips[clip]["rows"])

    def batch(self, rows: np.ndarray) -> Batch:
        """Rows (B,) → crops (B,4,P,P) uint8, surface (B,G,G) int64, quality (B,) and targets, as stored."""
        order = np.argsort(rows)  # the memmap likes to be read forwards
        crops = np.empty((len(rows), 4, self.stored, self.stored), np.uint8)
        crops[order] = self.crops[rows[order]]
        surface = np.empty((len(rows), *self.surface.shape[1:]), np.int64)
        surface[order] = self.surface[rows[order]]
        records = self.records[rows]
        names = (
            "root_rotation",
            "root_translation",
            "crop_info",
            "joints",
            "joints_mirrored",
            "joint_weight",
            "morphology",
        )
        return {
            "crops": torch.from_numpy(crops),
            "surface": torch.from_numpy(surface),
            "quality": torch.from_numpy(self.quality[rows]),
            **{n: torch.from_numpy(np.ascontiguousarray(records[n])) for n in names},
        }


# -- augmentation --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AugmentConfig:
    """How far a batch is changed; zero everything for validation."""

    shift: float = 0.05
    """largest move of the crop, as a share of its side"""
    scale: float = 0.09
    """largest change of the crop's side (log)"""
    mirror: float = 0.5
    gain: float = 0.35
    """spread of the log of the brightness and of each colour's gain"""
    gray: float = 0.15
    erase: float = 0.35
    """share of crops with a rectangle cut out of picture and mask, as something in front of the subject does"""


NO_AUGMENT = AugmentConfig(shift=0.0, scale=0.0, mirror=0.0, gain=0.0, gray=0.0, erase=0.0)


def move_crop(batch: Batch, dx: Tensor, dy: Tensor, scale: Tensor) -> Batch:
    """Targets (B, …) for crops moved by (dx, dy) sides and then `scale` times as large."""
    info, translation = batch["crop_info"], batch["root_translation"]
    moved = torch.stack([info[:, 0] + info[:, 2] * dx, info[:, 1] + info[:, 2] * dy, info[:, 2] * scale], 1)
    turn = ray_rotation(moved).transpose(-1, -2) @ ray_rotation(info)
    u, v = (translation[:, 0] - dx) / scale, (translation[:, 1] - dy) / scale
    return {
        **batch,
        "crop_info": moved,
        "root_rotation": turn @ batch["root_rotation"],
        "root_translation": torch.stack([u, v, translation[:, 2] + torch.log(scale)], 1),
    }


def mirror(batch: Batch, which: Tensor) -> Batch:
    """Targets of crops seen in a mirror where `which` (B,) is true: left and right change places."""
    flip = torch.where(which, -1.0, 1.0)
    one = torch.ones_like(flip)
    sign = torch.stack([flip, one, one], 1)
    return {
        **batch,
        "crop_info": batch["crop_info"] * sign,
        "root_translation": batch["root_translation"] * sign,
        "root_rotation": sign[:, :, None] * batch["root_rotation"] * sign[:, None, :],
        "joints": torch.where(which[:, None, None], batch["joints_mirrored"], batch["joints"]),
        "joints_mirrored": torch.where(which[:, None, None], batch["joints"], batch["joints_mirrored"]),
    }


def sample_crops(stored: Tensor, size: int, dx: Tensor, dy: Tensor, scale: Tensor, which: Tensor) -> Tensor:
    """Crops (B,4,size,size) float in 0…1 out of the wider stored ones (B,4,P,P) uint8; see `move_crop`."""
    margin = stored.shape[-1] / size
    zero = torch.zeros_like(dx)
    flip = torch.where(which, -scale, scale)
    theta = (
        torch.stack([torch.stack([flip, zero, 2 * dx], 1), torch.stack([zero, scale, 2 * dy], 1)], 1) / margin
    )
    grid = F.affine_grid(theta, [len(dx), 4, size, size], align_corners=False)
    return F.grid_sample(stored.float().div_(255.0), grid, align_corners=False)


def sample_surface(
    stored: Tensor, size: int, dx: Tensor, dy: Tensor, scale: Tensor, which: Tensor, twin: Tensor
) -> Tensor:
    """Vertex numbers (B,n,n) of the network's crop out of the wider stored ones (B,G,G), as `sample_crops` does.

    twin: (V,) the vertex on the other side of each one. Cells that show nothing hold NOTHING.
    """
    cells = size // CELL
    wide = stored.shape[-1]
    at = ((torch.arange(cells, device=dx.device) + 0.5) / cells - 0.5)[None]  # crop sides from the centre
    flip = torch.where(which, -scale, scale)
    x, y = (
        torch.floor((at * s[:, None] + d[:, None]) * cells + wide / 2).long()
        for s, d in ((flip, dx), (scale, dy))
    )
    inside = ((y >= 0) & (y < wide))[:, :, None] & ((x >= 0) & (x < wide))[:, None, :]
    x, y = x.clamp(0, wide - 1), y.clamp(0, wide - 1)
    rows = torch.arange(len(stored), device=dx.device)
    found = stored[rows[:, None, None], y[:, :, None], x[:, None, :]]
    shown = inside & (found != NOTHING)
    other = twin[torch.where(shown, found, torch.zeros_like(found))]
    found = torch.where(which[:, None, None], other, found)
    return torch.where(shown, found, torch.full_like(found, NOTHING))


def augment(
    batch: Batch,
    size: int,
    config: AugmentConfig,
    generator: torch.Generator,
    twin: Tensor,
    together: int = 1,
) -> Batch:
    """A stored batch → what the network sees: crops (B,4,size,size) float in 0…1 and the targets to match.

    twin: (V,) the body's vertex on the other side of each one.
    together: consecutive rows that share one draw, the length of a clip when clips must stay consistent.
    """
    count, device = len(batch["crops"]) // together, batch["crops"].device

    def draw(*shape: int) -> Tensor:
        values = torch.rand(count, *shape, generator=generator)  # on the CPU: the same on every device
        return values.repeat_interleave(together, 0).to(device)

    dx, dy = ((draw() * 2 - 1) * config.shift for _ in range(2))
    scale = torch.exp((draw() * 2 - 1) * config.scale)
    which = draw() < config.mirror
    crops = sample_crops(batch["crops"], size, dx, dy, scale, which)
    out = mirror(move_crop(batch, dx, dy, scale), which)
    out["surface"] = sample_surface(batch["surface"], size, dx, dy, scale, which, twin)
    rgb, mask = crops[:, :3], crops[:, 3:]
    if config.gain:
        gain = torch.exp((draw(1, 1, 1) * 2 - 1) * config.gain + (draw(3, 1, 1) * 2 - 1) * config.gain * 0.4)
        lift = (draw(1, 1, 1) * 2 - 1) * config.gain * 0.3
        rgb = torch.clamp(rgb * gain + lift * mask, 0.0, 1.0)
    if config.gray:
        gray = (draw() < config.gray)[:, None, None, None]
        rgb = torch.where(gray, rgb.mean(1, keepdim=True), rgb)
    crops = torch.cat([rgb, mask], 1)
    if config.erase:
        where, extent, used = draw(2), draw(2) * 0.35 + 0.05, draw() < config.erase
        low = where * (1 - extent)
        at = (torch.arange(size, device=device) + 0.5) / size
        inside_x = (at >= low[:, :1]) & (at < (low + extent)[:, :1])
        inside_y = (at >= low[:, 1:]) & (at < (low + extent)[:, 1:])
        hole = inside_y[:, :, None] & inside_x[:, None, :] & used[:, None, None]
        crops = crops * (~hole)[:, None]
        covered = hole[:, CELL // 2 :: CELL, CELL // 2 :: CELL]  # what the hole hides at a cell's centre
        out["surface"] = torch.where(covered, torch.full_like(out["surface"], NOTHING), out["surface"])
    out["crops"] = crops
    return out
