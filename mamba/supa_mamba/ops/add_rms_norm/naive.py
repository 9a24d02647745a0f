"""Reference of the sum and its norm, for tests."""

import torch
from torch import Tensor


def naive_add_rms_norm(
    residual: Tensor, update: Tensor | None, weight: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Apply the formulas. Arguments and results are those of `add_rms_norm`, of one dtype."""
    total = residual if update is None else residual + update
    return total / torch.sqrt((total * total).mean(-1, keepdim=True) + eps) * weight, total
