# SPDX-License-Identifier: GPL-3.0-or-later
"""Depthwise convolution whose gradient is fast on processors.

The same numbers as `torch.nn.functional.conv2d` with one group a channel. On processors the library's own gradient
takes slow general paths in three cases, and each has an equal that does not:

- in the input, without stride: the convolution of the gradient with the kernel turned round;
- in the input, with a stride, in half precision: the same in single precision (5 to 50 times as fast);
- in a 5 × 5 kernel: four overlapping 3 × 3 ones (2 to 9 times as fast).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, size = ctx.stride, weight.shape[-1]
        grad = gradients[0].contiguous(memory_format=torch.channels_last)
        into_x = into_weight = None
        if ctx.needs_input_grad[0]:
            if stride == 1:
                into_x = F.conv2d(grad, weight.flip(2, 3), None, 1, size // 2, 1, len(weight))
            else:
                single = torch.promote_types(x.dtype, torch.float32)
                into_x = _gradient(grad.to(single), x.to(single), weight.to(single), stride, size // 2, 0)
                into_x = into_x.to(x.dtype)
        if ctx.needs_input_grad[1]:
            if size == 5:
                into_weight, corner = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
                for i in (0, 2):
                    for j in (0, 2):
                        moved = F.pad(x, (2 - j, j, 2 - i, i)).contiguous(memory_format=torch.channels_last)
                        into_weight[:, :, i : i + 3, j : j + 3] = _gradient(grad, moved, corner, stride, 0, 1)
            else:
                into_weight = _gradient(grad, x, weight, stride, size // 2, 1)
        return into_x, into_weight, grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None, None


def _gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, which: int) -> Tensor:
    """The library's own gradient in the input (which = 0) or the weight (1)."""
    step, border, mask = [stride, stride], [padding, padding], [which == 0, which == 1, False]
    found = torch.ops.aten.convolution_backward(
        grad, x, weight, None, step, border, [1, 1], False, [0, 0], len(weight), mask
    )
    return found[which]


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """x (B,C,H,W), weight (C,1,k,k) with k odd, bias (C,) → (B,C,H/stride,W/stride), padded by k // 2.

    In the precision of x. H and W are even where there is a stride.
    """
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    if x.device.type == "cpu" and torch.is_grad_enabled():
        return _Depthwise.apply(x, weight, bias, stride)  # pyright: ignore[reportReturnType]
    return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, 1, weight.shape[0])
