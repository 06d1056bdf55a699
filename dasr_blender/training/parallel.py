# SPDX-License-Identifier: GPL-3.0-or-later
"""Where training runs: which device, which processes beside this one, in which precision.

`torchrun --nproc-per-node N -m dasr_blender.training train …` starts N processes that share every batch: gloo
between processors, nccl between GPUs. Without it there is one process, and nothing here has anything to do.
"""

from __future__ import annotations

import importlib
import os
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .errors import TrainingError

Value = TypeVar("Value")

HOPELESS = 30
"""steps in a row without a finite gradient that no smaller scale will mend"""


@dataclass(frozen=True)
class Team:
    """The processes that train together, seen from one of them."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the log and the checkpoint."""
        return self.rank == 0

    def agree(self, *values: float) -> list[float]:
        """The leader's values: what depends on a clock must be decided by one of them."""
        if self.world == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(told, 0)
        return told.tolist()

    def add_up(self, found: list[Tensor | None], of: list[nn.Parameter]) -> list[Tensor | None]:
        """Gradients of parameters, summed over all processes; None where none of them has one."""
        if self.world == 1:
            return found
        shapes = [parameter.shape for parameter in of]
        present = torch.tensor([float(g is not None) for g in found], device=self.device)
        flat = [
            (torch.zeros(shape, device=self.device) if g is None else g).reshape(-1)
            for g, shape in zip(found, shapes, strict=True)
        ]
        together = torch.cat([present, *flat])
        dist.all_reduce(together)
        sums = together[len(found) :].split([shape.numel() for shape in shapes])
        return [
            s.view(shape) if there else None
            for s, shape, there in zip(sums, shapes, (together[: len(found)] > 0).tolist(), strict=True)
        ]

    def alike(self, module: nn.Module) -> None:
        """Give every process the leader's weights and running statistics."""
        if self.world == 1:
            return
        with torch.no_grad():
            for value in (*module.parameters(), *module.buffers()):
                dist.broadcast(value, 0)

    def union(self, found: dict[int, Value]) -> dict[int, Value]:
        """Everything that any process found, by number."""
        if self.world == 1:
            return found
        everyone: list[Any] = [None] * self.world
        dist.all_gather_object(everyone, found)
        return {k: v for one in everyone for k, v in one.items()}


def join(device: str = "auto") -> Team:
    """The team that torchrun made, or this process alone. device: auto, cpu, cuda or cuda:N.

    Raises TrainingError for a device that is not there.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(f"there is no device '{device}' that torch can use; choose cpu")
    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    if not re.fullmatch(r"cpu|cuda:\d+", device) or (
        device != "cpu" and int(device.removeprefix("cuda:")) >= torch.cuda.device_count()
    ):
        raise TrainingError(f"there is no device '{device}' that torch can use; choose auto, cpu, cuda or cuda:N")
    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if world > 1 and not dist.is_initialized():
        # Functions of this module take the group of their import as a default; made later, they would keep it, and with
        # it gloo's threads, until the interpreter ends, where a thread that still lives may abort the process.
        importlib.import_module("torch.distributed.nn")
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    return Team(place, rank, world)


def leave(team: Team) -> None:
    """Take leave of the others."""
    if team.world > 1 and dist.is_initialized():
        dist.destroy_process_group()


class Precision:
    """Numbers of half the length where they do, and a scale that keeps small fp16 gradients from vanishing.

    After a step whose gradients are not finite the scale halves; after many that are, it doubles
    (Micikevicius et al., ICLR 2018).
    """

    def __init__(self, kind: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> None:
        if kind == "auto":
            kind = "fp32" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        self.kind, self.device = kind, device
        self.scale, self.good, self.lost = 2.0**14 if kind == "fp16" else 1.0, 0, 0

    def autocast(self) -> AbstractContextManager[Any]:
        """The context that the network runs in; losses stay in fp32."""
        if self.kind == "fp32":
            return nullcontext()
        half = torch.bfloat16 if self.kind == "bf16" else torch.float16
        return torch.autocast(self.device.type, half)

    def stepped(self, finite: bool) -> None:
        """Take note of how the last step went. Raises TrainingError when `HOPELESS` in a row had no finite gradient."""
        self.lost = 0 if finite else self.lost + 1
        if self.lost >= HOPELESS:
            raise TrainingError(
                f"{self.lost} steps in a row had no finite gradient; lower the rate, or look at what the clips hold"
            )
        if self.kind != "fp16":
            return
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.scale = max(1.0, self.scale / 2)
        elif self.good % 1000 == 0:
            self.scale = min(2.0**20, self.scale * 2)
