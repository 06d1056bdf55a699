# SPDX-License-Identifier: GPL-3.0-or-later
"""DASR's configuration as published (Tan, Yang, Ramanan, CVPR 2023): the baseline that ours is compared with.

Two encoders (ResNet-18 with Swish, a 3×3 convolution and a maximum over the picture), one for root poses and
articulation, one for appearance; M hypotheses of 30 numbers each, softmax-weighted in the loss; a 16-number pose
code decoded to joint angles; temporal convolutions over a window of 13 frames; one shape for the whole category.

What had to differ, none of it to its harm: it sees RGB and mask instead of RGB and 16 channels of DensePose-CSE; its
decoders are learnt with it, as there is no teacher to take them from; its translation is really predicted, where the
published one takes the teacher's even in evaluation; ResNet-18 begins from noise, as ImageNet weights for it cannot
be had offline. So that the comparison does not hang on that last point, `backbone = "lite0"` gives it two of our
pretrained backbones instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.category import Category
from .backbone import Backbone
from .body import TorchBody
from .config import DASR_WINDOW, StudentConfig
from .data import Batch
from .losses import BodySurface, cells, colour_error, counted
from .model import Seen
from .rotation import geodesic, quat_to_matrix, rotvec_to_sixd, sixd_to_matrix, yaw_sixd
from .temporal import Temporal

HYPOTHESIS, POSE, APPEARANCE = 30, 16, 64
"""numbers to a hypothesis (20 for its pose, its score, the rest for the temporal encoder alone) and to the codes"""


class Norm(nn.BatchNorm2d):
    """Batch normalisation whose running statistics only the leading part of a batch moves."""

    def forward(self, input: Tensor, leads: bool = True) -> Tensor:
        if self.training and not leads:
            return F.batch_norm(input, None, None, self.weight, self.bias, training=True, eps=self.eps)
        return super().forward(input)


class Residual(nn.Module):
    """ResNet's basic block (He et al., CVPR 2016) with Swish."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = Norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = Norm(outputs)
        same = stride == 1 and inputs == outputs
        self.across = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.across_norm = None if same else Norm(outputs)

    def forward(self, x: Tensor, leads: bool = True) -> Tensor:
        y = F.silu(self.first_norm(self.first(x), leads))
        y = self.second_norm(self.second(y), leads)
        if self.across is not None and self.across_norm is not None:
            x = self.across_norm(self.across(x), leads)
        return F.silu(x + y)


class ResNet18(nn.Module):
    """(B,4,S,S) in 0…1 → (B,512,S/32,S/32)."""

    channels = 512

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 64, 7, 2, 3, bias=False)
        self.stem_norm = Norm(64)
        sizes = [64, 64, 64, 128, 128, 256, 256, 512, 512]
        self.blocks = nn.ModuleList(
            Residual(a, b, 1 if a == b else 2) for a, b in zip(sizes, sizes[1:], strict=False)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, crops: Tensor, leads: bool = True) -> Tensor:
        x = F.silu(self.stem_norm(self.stem((crops - 0.45) / 0.225), leads))
        x = F.max_pool2d(x, 3, 2, 1)
        for block in self.blocks:
            x = block(x, leads)
        return x


class Lite0(Backbone):
    """Our pretrained backbone in the place of ResNet-18: (B,4,S,S) → (B,320,S/32,S/32)."""

    channels = 320

    def forward(self, crops: Tensor, leads: bool = True) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(crops)[0][-1]


class Encoder(nn.Module):
    """A picture to numbers: backbone, 3×3 convolution, maximum over the picture."""

    def __init__(self, backbone: str, outputs: int) -> None:
        super().__init__()
        self.backbone = ResNet18() if backbone == "resnet18" else Lite0()
        self.head = nn.Conv2d(self.backbone.channels, outputs, 3, padding=1)

    def forward(self, crops: Tensor, leads: bool = True) -> Tensor:
        return self.head(self.backbone(crops, leads)).float().amax((2, 3))


class Decoders(nn.Module):
    """What the codes (…,D) of a frame mean."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.root = nn.Linear(20, 9)
        self.joints = nn.Sequential(
            nn.Linear(POSE, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, config.joints * 3)
        )
        self.colour = nn.Sequential(nn.Linear(APPEARANCE, 128), nn.SiLU(), nn.Linear(128, config.appearance))
        yaws = torch.arange(config.hypotheses) * (2 * math.pi / config.hypotheses)
        self.heading = nn.Parameter(yaw_sixd(yaws))  # (M, 6) hypotheses begin with headings of their own
        with torch.no_grad():
            for layer in (self.root, self.joints[-1]):
                layer.get_parameter("weight").mul_(0.1)
                layer.get_parameter("bias").zero_()

    def forward(self, codes: Tensor) -> dict[str, Tensor]:
        m, lead = self.config.hypotheses, codes.shape[:-1]
        hypotheses = codes[..., : m * HYPOTHESIS].reshape(*lead, m, HYPOTHESIS)
        root = self.root(hypotheses[..., :20]).float()
        pose = codes[..., m * HYPOTHESIS : m * HYPOTHESIS + POSE]
        turns = self.joints(pose).float().reshape(*lead, self.config.joints, 3)
        nothing = pose[..., :1].float() * 0.0
        return {
            "root_rotation": root[..., :6] + self.heading,  # (…, M, 6)
            "root_translation": root[..., 6:],  # (…, M, 3)
            "root_logprob": F.log_softmax(hypotheses[..., 20].float(), -1),  # (…, M)
            "joint_rotations": rotvec_to_sixd(turns),  # (…, J, 6), without limits
            "morphology": nothing.expand(*lead, self.config.morphology),  # one shape for all
            "appearance": self.colour(codes[..., -APPEARANCE:]).float(),  # (…, A)
            "joint_confidence": nothing.expand(*lead, self.config.joints) + 0.5,  # it has no opinion
        }


class Window(nn.Module):
    """Temporal convolutions that see DASR_WINDOW frames: dense in training, one window to each frame in use."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.encoder = Temporal(replace(config, temporal_blocks=3, temporal_kernel=7))
        self.reach = DASR_WINDOW // 2

    def forward(self, codes: Tensor) -> Tensor:
        """(B,T,D) → (B,T,D)."""
        if self.training:
            return self.encoder(codes)
        padded = F.pad(codes.transpose(1, 2), (self.reach, self.reach), mode="replicate").transpose(1, 2)
        shifts = [padded[:, i : padded.shape[1] - 2 * self.reach + i] for i in range(DASR_WINDOW)]
        windows = torch.stack(shifts, 2).flatten(0, 1)  # (B·T, 13, D)
        return self.encoder(windows)[:, self.reach].reshape(codes.shape)


class DasrStudent(nn.Module):
    """The whole baseline; answers what `Student` answers, without a surface map."""

    dropped = 0
    surface = look = None

    def __init__(self, config: StudentConfig, category: Category) -> None:
        super().__init__()
        codes = config.hypotheses * HYPOTHESIS + POSE
        config = replace(config, surface=False, look_back=False, place=False, width=codes + APPEARANCE)
        self.config = config
        self.pose, self.look_of = Encoder(config.backbone, codes), Encoder(config.backbone, APPEARANCE)
        self.frame_heads = Decoders(config)
        self.temporal = Window(config)
        self.heads = Decoders(config)

    def see(self, crops: Tensor, crop_info: Tensor, keep: Tensor | None = None, leads: bool = True) -> Seen:
        """crops (B,4,S,S) → codes and answers of single frames; where the crop was is not looked at."""
        crops = crops.contiguous(memory_format=torch.channels_last)
        codes = torch.cat([self.pose(crops, leads), self.look_of(crops, leads)], 1) + crop_info[:, :1] * 0.0
        return Seen(codes, self.frame_heads(codes), None, {})

    def forward(self, crops: Tensor, crop_info: Tensor) -> dict[str, Tensor]:
        """One clip: crops (T,4,S,S), crop_info (T,3) → dict of (T,…)."""
        codes = self.see(crops, crop_info).features
        return self.heads(self.temporal(codes[None])[0])

    def start_temporal(self) -> None:
        """Second stage: the clip's decoders begin as the frame's."""
        self.heads.load_state_dict(self.frame_heads.state_dict())

    def load_imagenet(self) -> None:
        """ImageNet weights for the pretrained kind of backbone."""
        for encoder in (self.pose, self.look_of):
            if isinstance(encoder.backbone, Lite0):
                encoder.backbone.load_imagenet()

    def frame_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the first stage: those that come from ImageNet, and the rest."""
        trunks = [p for e in (self.pose, self.look_of) for p in e.backbone.parameters()]
        rest = [p for m in (self.pose.head, self.look_of.head, self.frame_heads) for p in m.parameters()]
        return (trunks, rest) if self.config.backbone == "lite0" else ([], trunks + rest)


@dataclass(frozen=True)
class DasrWeights:
    """The published weights, and one for the translation that is predicted here."""

    vertices: float = 1000.0
    """metres² between posed and turned vertices, every hypothesis by its probability"""
    joints: float = 1.0
    """radians"""
    appearance: float = 0.1
    translation: float = 20.0
    """crop sides (u, v) and half of log depth (w), every hypothesis by its probability"""


def dasr_loss(
    out: dict[str, Tensor],
    batch: Batch,
    body: TorchBody,
    weights: DasrWeights,
    surface: BodySurface | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of answers (B,…) for targets (B,…), as `losses.student_loss`; returns the sum and its parts."""
    probability = out["root_logprob"].exp()  # (B, M)
    turned, true_turn = sixd_to_matrix(out["root_rotation"]), batch["root_rotation"]
    local, target = sixd_to_matrix(out["joint_rotations"]), quat_to_matrix(batch["joints"])
    posed, _ = body(local, out["morphology"])
    with torch.no_grad():
        true, _ = body(target, batch["morphology"])
        true = true @ true_turn.transpose(-1, -2)
    each = posed[:, None] @ turned.transpose(-1, -2)  # (B, M, V, 3)
    apart = (each - true[:, None]).square().sum(-1).mean(-1)  # (B, M)
    shift = (out["root_translation"] - batch["root_translation"][:, None]).abs()
    shift = shift[..., 0] + shift[..., 1] + 0.5 * shift[..., 2]
    error, weight = geodesic(local, target)[:, 1:], batch["joint_weight"][:, 1:]
    quality = batch["quality"]
    parts = {
        "vertices": counted((probability * apart).sum(1), quality),
        "translation": counted((probability * shift).sum(1), quality),
        "joints": (error * weight * quality[:, None]).sum() / weight.sum().clamp_min(1.0),
    }
    if surface is not None:
        shown, cover = cells(batch)
        if bool(shown.any()):
            parts["appearance"] = colour_error(out, batch, surface, shown, cover)
    elif "appearance_target" in batch:
        parts["appearance"] = counted((out["appearance"] - batch["appearance_target"]).abs(), quality)
    total = torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()
    with torch.no_grad():
        parts["root"] = counted((probability * geodesic(turned, true_turn[:, None])).sum(1), quality)
    return total, {name: float(value.detach()) for name, value in parts.items()}
