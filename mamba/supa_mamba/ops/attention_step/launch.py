"""Launch of the Triton kernels for steps of attention, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops.attention_step import kernels
from supa_mamba.ops.kernel_inputs import power_of_two

NUMBERS = 1024
"""Numbers of the keys that a program loads at once, 32 per lane, and as many of the values."""

LANES = 128
"""Sequences per program of the kernel that increases the lengths."""


def step(qkv: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, slots: Tensor, rates: Tensor) -> Tensor:
    """Store keys and values in place, increase the lengths, and return y."""
    count, _, heads, width = qkv.shape
    y = torch.empty(count, heads, width, dtype=qkv.dtype, device=qkv.device)
    if not count:
        return y
    table, places = keys.shape[:2]
    block = power_of_two(width)
    kernels.attention_kernel[(count * heads,)](
        qkv.contiguous(), keys, values, lengths, rates, slots, y, table, places,
        HEADS=heads, WIDTH=width, HALF=len(rates), ROWS=max(1, NUMBERS // block), BLOCK=block, num_warps=1,
    )  # fmt: skip
    kernels.lengthen_kernel[(-(-count // LANES),)](
        lengths, slots, count, table, places, BLOCK=LANES, num_warps=LANES // 32
    )
    return y
