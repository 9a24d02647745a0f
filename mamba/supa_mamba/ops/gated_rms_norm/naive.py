"""Reference of the norm with a gate, for tests."""

import torch
from torch import Tensor


def naive_gated_rms_norm(
    x: Tensor, gate: Tensor, weight: Tensor, groups: int = 1, eps: float = 1e-5, *, norm_before_gate: bool = False
) -> Tensor:
    """Apply the formulas. Arguments and result are those of `gated_rms_norm`, of one dtype."""
    factor = gate / (1 + torch.exp(-gate))
    given = x if norm_before_gate else x * factor
    parts = [part / torch.sqrt((part * part).mean(-1, keepdim=True) + eps) for part in given.chunk(groups, -1)]
    y = torch.cat(parts, -1) * weight
    return y * factor if norm_before_gate else y
