"""Rotary position embeddings of attention."""

import torch
from torch import Tensor

from supa_mamba.modules.initialisation import Device
from supa_mamba.ops.dtypes import state_dtype

_BASE = 10_000.0


def rotary_rates(dim: int, *, device: Device = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the angles by position of the pairs of features.

    Args:
        dim: Number of rotated features, an even number.
        device: Device of the result.
        dtype: Dtype of the result.

    Returns:
        (dim / 2,) angles.
    """
    return _BASE ** (torch.arange(0, dim, 2, device=device, dtype=dtype) / -max(dim, 1))


def rotated(qkv: Tensor, position: Tensor, dim: int) -> Tensor:
    """Rotate queries and keys by angles that are proportional to their positions.

    The scalar product of a query and a key then depends on the distance of their positions. Features k and
    k + ``dim`` / 2 form a pair, whose angle is position * 10000^(-2 k / dim).

    Args:
        qkv: (T, 3, heads, head_dim) queries, keys and values.
        position: (T,) integers, positions in the sequences.
        dim: Number of rotated features, an even number. The others, and the values, do not change. 0: rotate nothing.

    Returns:
        (T, 3, heads, head_dim) rotated queries and keys, and values.

    Source:
        RoFormer (arXiv 2104.09864), equation 34, with the pairs of mamba_ssm's ``MHA``.
    """
    if not dim:
        return qkv
    precise = state_dtype(qkv)
    rates = rotary_rates(dim, device=qkv.device, dtype=precise)
    angle = (position.to(precise)[:, None] * rates)[:, None, None]
    cos, sin = angle.cos(), angle.sin()
    first, second = qkv[:, :2, :, :dim].chunk(2, dim=-1)
    pairs = torch.cat([first * cos - second * sin, first * sin + second * cos], -1).to(qkv.dtype)
    return torch.cat([torch.cat([pairs, qkv[:, :2, :, dim:]], -1), qkv[:, 2:]], 1)
