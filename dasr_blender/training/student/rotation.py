# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations in torch: the differentiable twins of what training needs from `core.rotation`."""

from __future__ import annotations

import torch
from torch import Tensor


def sixd_to_matrix(x: Tensor) -> Tensor:
    """(…,6) → (…,3,3); Gram–Schmidt of two columns (Zhou et al., CVPR 2019)."""
    a, b = x[..., :3], x[..., 3:]
    a = a / a.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    b = b - (a * b).sum(-1, keepdim=True) * a
    b = b / b.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return torch.stack([a, b, torch.linalg.cross(a, b)], -1)


def rotvec_to_sixd(r: Tensor) -> Tensor:
    """Rotation vectors (…,3) radians → (…,6), the first two columns of Rodrigues' formula."""
    square = (r * r).sum(-1) + 1e-12
    angle = torch.sqrt(square)
    s = torch.sin(angle) / angle
    c = (1.0 - torch.cos(angle)) / square
    x, y, z = r[..., 0], r[..., 1], r[..., 2]
    return torch.stack(
        [
            1.0 - c * (y * y + z * z),
            c * x * y + s * z,
            c * x * z - s * y,
            c * x * y - s * z,
            1.0 - c * (x * x + z * z),
            c * y * z + s * x,
        ],
        -1,
    )


def rotvec_to_matrix(r: Tensor) -> Tensor:
    """Rotation vectors (…,3) radians → (…,3,3)."""
    return sixd_to_matrix(rotvec_to_sixd(r))


def quat_to_matrix(q: Tensor) -> Tensor:
    """wxyz (…,4), unit → (…,3,3)."""
    w, x, y, z = q.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).reshape(*q.shape[:-1], 3, 3)


def geodesic(a: Tensor, b: Tensor) -> Tensor:
    """Angle in radians between rotation matrices (…,3,3).

    2·asin(‖a−b‖/√8) rather than acos of the trace: well-behaved at zero, where training wants to end up.
    """
    chord = torch.sqrt(((a - b) ** 2).sum((-1, -2)) + 1e-12) / 8.0**0.5
    return 2.0 * torch.asin(chord.clamp(max=0.9995))


def yaw_sixd(yaw: Tensor) -> Tensor:
    """(N,) radians → (N,6): an upright body (Z up) seen by a level camera (y down), turned by `yaw` about Z."""
    c, s, zero = torch.cos(yaw), torch.sin(yaw), torch.zeros_like(yaw)
    # camera_from_body · Rz(yaw), camera_from_body = [[1,0,0],[0,0,-1],[0,1,0]]; columns one and two
    return torch.stack([c, zero, s, -s, zero, c], -1)


def ray_rotation(crop_info: Tensor) -> Tensor:
    """crop_info (…,3) → (…,3,3), the least rotation taking +z to the ray through the crop's centre."""
    x, y = crop_info[..., 0], crop_info[..., 1]
    n = torch.rsqrt(1.0 + x * x + y * y)
    x, y, z = x * n, y * n, n
    k = 1.0 / (1.0 + z)
    rows = [1 - x * x * k, -x * y * k, x, -x * y * k, 1 - y * y * k, y, -x, -y, z]
    return torch.stack(rows, -1).reshape(*crop_info.shape[:-1], 3, 3)
