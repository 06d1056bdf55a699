# SPDX-License-Identifier: GPL-3.0-or-later
"""The student: a clip of crops in, an animal's pose out. Reads from top to bottom.

    crops (T,4,S,S), crop_info (T,3)
      -> Backbone        EfficientNet-Lite0, ImageNet weights, one extra input channel for the mask
      -> features (T,D)  pooled + coarse layout of the feature map + where the crop was in the picture
      -> SurfaceMap      which point of the body each cell of the crop shows, from all levels of the backbone
      -> JointMaps       where each joint lies; what is seen there, and what the joints say about each other,
                         corrects the features
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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.category import Category
from ...core.pose_errors import CONFIDENCE_ANGLE
from .backbone import LEVELS, POOLED, Backbone
from .body import TorchBody, crop_pixels
from .config import StudentConfig
from .joints import JointMaps
from .rotation import rotvec_to_sixd, sixd_to_matrix, yaw_sixd
from .temporal import temporal_encoder


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
        with torch.autocast(fine.device.type, enabled=False):  # half a number is half a pixel
            at = self._where(answer, crop_info)
        picture = torch.cat([self.reduce(fine).float(), surface[:, :3], torch.sigmoid(surface[:, 4:])], 1)
        found = F.grid_sample(picture, (2 * at)[:, None], align_corners=False)[:, :, 0].transpose(1, 2)
        here, point, shown = found[..., :24], found[..., 24:27], found[..., 27:]
        # how far the surface seen there is from the point that should be there
        apart = (point - self.points * shown) * 2.0
        return self.correct(self.merge(torch.cat([here, apart, shown, at], -1).flatten(1)))

    def _where(self, answer: dict[str, Tensor], crop_info: Tensor) -> Tensor:
        """Where the likeliest body's joints and surface points lie in the crop: (B,P,2) sides from its centre."""
        likeliest = answer["root_logprob"].argmax(1)[:, None, None]
        rotation = answer["root_rotation"].gather(1, likeliest.expand(-1, 1, 6))[:, 0]
        translation = answer["root_translation"].gather(1, likeliest.expand(-1, 1, 3))[:, 0]
        beta = answer["morphology"] * self.body.std
        vertices, joints = self.body(sixd_to_matrix(answer["joint_rotations"]), beta)
        points = torch.cat([joints, vertices], 1)
        return crop_pixels(points, sixd_to_matrix(rotation), translation, crop_info).clamp(-0.75, 0.75)


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
        root = self.root(features).float().reshape(*lead, self.config.hypotheses, 10)
        body = self.body(features)
        raw = self.joints(body).float().reshape(*lead, self.config.joints, 3)
        spread = self.spread(body.detach()).float()
        expected = torch.exp(spread.clamp(-6.0, 3.0))
        return {
            "root_rotation": root[..., :6],  # (…, M, 6)
            "root_translation": root[..., 6:9],  # (…, M, 3)
            "root_logprob": F.log_softmax(root[..., 9], -1),  # (…, M)
            "joint_rotations": self.limited(raw),  # (…, J, 6)
            "morphology": self.morphology(body).float(),  # (…, K) in units of standard deviations
            "appearance": self.appearance(body).float(),  # (…, A)
            "joint_spread": spread,  # (…, J) log radians
            "joint_confidence": torch.exp(-expected / CONFIDENCE_ANGLE),  # (…, J), 1 = certain
        }

    def limited(self, raw: Tensor) -> Tensor:
        """Any numbers (…,J,3) → rotations (…,J,6) inside the limits.

        Rotation vectors by a sigmoid between the limits, shifted so that 0 answers the rest pose wherever the limits
        contain it.
        """
        span = self.upper - self.lower
        rest = (-self.lower / span.clamp_min(1e-6)).clamp(0.02, 0.98)
        return rotvec_to_sixd(self.lower + span * torch.sigmoid(raw + torch.log(rest / (1 - rest))))


@dataclass
class Seen:
    """What the network made of single frames: features (B,D), its answers, and those of its first look.

    answer and first: dicts of `Heads`; surface: dict of surface_map (B,n,n,3) metres, surface_spread (B,n,n)
    log metres and surface_visible (B,n,n) logits, and of what `JointMaps` answers, joint_turn as rotations
    (B,J,6); empty for a network without them.
    """

    features: Tensor
    answer: dict[str, Tensor]
    first: dict[str, Tensor] | None
    surface: dict[str, Tensor]


def cells_across(crop: int) -> int:
    """Cells along a side of the coarse layout of a crop of so many pixels."""
    return math.ceil(crop / 32)


class Student(nn.Module):
    """The whole network. See the module's docstring for the way through it."""

    anywhere: Tensor  # (3,) crop_info for a network that is not told

    def __init__(self, config: StudentConfig, category: Category) -> None:
        super().__init__()
        self.config = config
        limits = torch.as_tensor(category.skeleton.limits, dtype=torch.float32)
        self.backbone = Backbone()
        self.layout = nn.Conv2d(320, config.layout, 1)
        self.place = nn.Sequential(nn.Linear(3, 64), nn.SiLU())
        inputs = POOLED + config.layout * cells_across(config.crop) ** 2 + 64
        # Live statistics where they cost nothing: what the frozen ones below let drift is levelled here.
        self.level = nn.BatchNorm1d(inputs)
        self.register_buffer("anywhere", torch.tensor([0.0, 0.0, 0.35]), persistent=False)
        self.merge = nn.Linear(inputs, config.width)
        self.surface = SurfaceMap() if config.surface else None
        self.joint_maps = JointMaps(config, self.surface.width) if config.joint_maps and self.surface else None
        self.frame_heads = Heads(config, limits)
        self.look = (
            LookBack(config, category, self.surface.width) if config.look_back and self.surface else None
        )
        self.temporal = temporal_encoder(config)
        self.heads = Heads(config, limits)

    def see(self, crops: Tensor, crop_info: Tensor, keep: Tensor | None = None, leads: bool = True) -> Seen:
        """crops (B,4,S,S) in 0…1, crop_info (B,3) of core.camera.crop_info → what single frames show.

        keep: dropout's mask (B, self.dropped), drawn by whoever trains.  leads: whether this batch moves the
        running statistics; one of several that are computed side by side does.
        """
        levels, pooled = self.backbone(crops.contiguous(memory_format=torch.channels_last))
        layout = F.silu(self.layout(levels[-1])).flatten(1)
        if not self.config.place:
            crop_info = crop_info * 0.0 + self.anywhere
        place = self.place(crop_info * 2.0)
        merged = torch.cat([pooled, layout, place], 1)
        if self.training and not leads:
            merged = F.batch_norm(merged, None, None, self.level.weight, self.level.bias, training=True)
        else:
            merged = self.level(merged)
        features = F.silu(self.merge(merged if keep is None else merged * keep))
        if self.surface is None:
            return Seen(features.float(), self.frame_heads(features), None, {})
        fine, raw = self.surface(levels)
        raw = raw.float()
        surface = {
            "surface_map": raw[:, :3].permute(0, 2, 3, 1),
            "surface_spread": raw[:, 3] - 2.0,
            "surface_visible": raw[:, 4],
        }
        if self.joint_maps is not None:
            correction, joints = self.joint_maps(features, fine, raw)
            features = features + correction
            surface |= joints | {"joint_turn": self.frame_heads.limited(joints["joint_turn"])}
        answer, first = self.frame_heads(features), None
        if self.look is not None:
            features = features + self.look(answer, crop_info, fine, raw)
            first, answer = answer, self.frame_heads(features)
        return Seen(features.float(), answer, first, surface)

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

    # -- what training asks of a network -----------------------------------------------------------------------

    @property
    def dropped(self) -> int:
        """Length of dropout's mask, 0 for none."""
        return self.level.num_features

    def load_imagenet(self) -> None:
        """Begin with ImageNet weights, where there are any."""
        self.backbone.load_imagenet()

    def frame_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the first stage: those that can come from ImageNet, and the rest."""
        rest = [self.layout, self.place, self.level, self.merge, self.frame_heads]
        rest += [part for part in (self.surface, self.joint_maps, self.look) if part is not None]
        return list(self.backbone.parameters()), [p for module in rest for p in module.parameters()]
