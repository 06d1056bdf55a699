# SPDX-License-Identifier: GPL-3.0-or-later
"""The mean of several networks' weights, as a checkpoint (model soups: Wortsman et al., ICML 2022).

A network that was trained further on other subjects and the one it began from lie in one basin: their mean keeps what
the first knew and most of what the second learnt, and costs no training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.category import PREDICTOR
from ..core.files import written_atomically
from .errors import TrainingError
from .student.checkpoint import read_any, sizes_of_checkpoint


@dataclass(frozen=True)
class AverageConfig:
    """Write the mean of several networks' weights as a checkpoint, for `export` or `train --start`."""

    networks: tuple[Path, ...]
    """Two or more: checkpoints (student.pt), bundles' folders or their predictor.onnx; at least one checkpoint, whose
    record of training the result keeps (the last one's)."""
    out: Path
    """The checkpoint to write."""
    weights: tuple[float, ...] = ()
    """Share of each, in the same order; equal without. They are divided by their sum."""


def average(networks: Sequence[Path], weights: Sequence[float] = ()) -> dict[str, Any]:
    """The mean of networks as a checkpoint's content.

    networks: as in `AverageConfig`.  weights: share of each, equal without.
    Arrays are those of the last checkpoint; one that an exported network lacks is the mean of those that have it, and
    the frame stage's expected errors and colours, which it lacks too, count as its clip stage's. The result cannot be
    resumed, only exported and started from.
    Raises OSError, and TrainingError for a damaged file, fewer than two networks, none of them a checkpoint, networks
    of different sizes, one whose training of clips has not begun, or weights that do not fit.
    """
    if len(networks) < 2:
        raise TrainingError("A mean takes two networks or more; name another one")
    shares = np.asarray(weights if len(weights) else np.ones(len(networks)), np.float64)
    if len(shares) != len(networks) or not np.isfinite(shares).all() or (shares < 0).any() or not shares.sum():
        raise TrainingError(
            f"There are {len(networks)} networks but the weights are {[float(s) for s in shares]}; give each "
            "one a share, none below 0 and not all 0"
        )
    found = [read_any(source) for source in networks]
    sizes = [sizes_of_checkpoint(source, content) for source, content in zip(networks, found, strict=True)]
    for source, content, size in zip(networks, found, sizes, strict=True):
        if content.get("stage") == "frames":
            raise TrainingError(f"{source}: its training on clips has not begun; train it to the end")
        if size != sizes[0]:
            raise TrainingError(f"{source} is a network of another make than {networks[0]}; their mean is none")
    checkpoints = [content for content in found if "stage" in content]
    if not checkpoints:
        raise TrainingError("All of these are exported networks; one of them has to be a checkpoint (student.pt)")
    last = checkpoints[-1]
    mean = _mean(last["student"], [content["student"] for content in found], shares)
    # without the optimiser's state: that is of one network's last step, not of this one's
    return {name: value for name, value in last.items() if name != "optimiser"} | {"student": mean}


def _mean(own: dict[str, Tensor], states: list[dict[str, Tensor]], shares: np.ndarray) -> dict[str, Tensor]:
    """Each array of `own` as the mean of those who have it; counters as they are."""
    out: dict[str, Tensor] = {}
    for name, value in own.items():
        having = [i for i, state in enumerate(states) if name in state]
        weights = torch.from_numpy(shares[having])
        if not value.is_floating_point() or weights.sum() == 0:
            out[name] = value
            continue
        arrays = torch.stack([states[i][name].double() for i in having])
        out[name] = torch.tensordot(weights / weights.sum(), arrays, 1).to(value.dtype)
    return out


def main(argv: list[str] | None = None) -> int:
    """`average`: the mean of several networks' weights."""
    import tyro

    config = tyro.cli(AverageConfig, args=argv, prog="average")
    if config.out.resolve() in [(n / PREDICTOR if n.is_dir() else n).resolve() for n in config.networks]:
        raise TrainingError(f"{config.out} is one of the networks; write their mean to another file")
    content = average(config.networks, config.weights)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(config.out) as temporary:
        torch.save(content, temporary)
    print(config.out)
    return 0
