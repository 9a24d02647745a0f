"""First values of parameters, and which of them weight decay leaves alone."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from supa_mamba.ops.dtypes import state_dtype

Device = torch.device | str | int | None


def state_factory(device: Device, dtype: torch.dtype | None) -> dict[str, Any]:
    """Choose how rates, skips and step biases are stored: in the precision of states, as mamba_ssm stores rates.

    Args:
        device: of the module, None for PyTorch's default device.
        dtype: of the module, None for PyTorch's default dtype.

    Returns:
        ``device`` and ``dtype`` for PyTorch's functions; the dtype is float32, or float64 where the module's is.
    """
    double = (dtype or torch.get_default_dtype()) == torch.float64
    return {"device": device, "dtype": torch.float64 if double else torch.float32}


def init_dt_bias(
    count: int,
    dt_min: float,
    dt_max: float,
    dt_init_floor: float,
    *,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draw biases whose softplus is log-uniform: the steps that a mixer takes before it is trained.

    Args:
        count: how many.
        dt_min: the shortest step.
        dt_max: the longest step.
        dt_init_floor: shorter steps are lengthened to this.
        device: of the biases.
        dtype: of the biases.

    Returns:
        (count,).

    Raises:
        ValueError: The bounds are not positive and ascending.

    Source: Mamba (arXiv 2312.00752), section 3.6.
    """
    if not 0 < dt_min <= dt_max or dt_init_floor <= 0:
        raise ValueError(
            f"dt_min, dt_max, dt_init_floor: {dt_min}, {dt_max}, {dt_init_floor} were given, but steps must be "
            "positive, and dt_max not below dt_min."
        )
    step = torch.empty(count, device=device, dtype=dtype).uniform_(math.log(dt_min), math.log(dt_max))
    step = step.exp().clamp(min=dt_init_floor)
    return step + torch.log(-torch.expm1(-step))


def rates(A_log: Tensor) -> Tensor:
    """Return the rates that a mixer's parameter stands for, in the precision of states.

    Args:
        A_log: their logarithms, any shape.

    Returns:
        -exp(A_log).
    """
    return -torch.exp(A_log.to(state_dtype(A_log)))


def mark_no_weight_decay(module: nn.Module, names: Iterable[str]) -> None:
    """Mark parameters that weight decay must not pull to zero, as mamba_ssm marks them.

    Args:
        module: their owner.
        names: their names in it.
    """
    for name in names:
        parameter: Any = getattr(module, name)
        parameter._no_weight_decay = True


def optimizer_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Sort parameters for an optimiser: weight decay is for matrices and the weights of convolutions only.

    Norms, biases, rates (``A_log``), steps (``dt_bias``) and skips (``D``) are not decayed.

    Args:
        module: any module; parameters marked ``_no_weight_decay``, or named in their owner's ``no_weight_decay``, are
            not decayed.
        weight_decay: for those that are.

    Returns:
        Two groups, to be given to an optimiser such as ``torch.optim.AdamW``.

    Raises:
        ValueError: The weight decay is negative.
    """
    if weight_decay < 0:
        raise ValueError(f"weight_decay: {weight_decay} was given, but it must not be negative.")
    # Loading and moving may replace parameters, and new ones are not marked.
    for owner in module.modules():
        mark_no_weight_decay(owner, getattr(owner, "no_weight_decay", ()))
    decayed: list[nn.Parameter] = []
    no_weight_decay: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim >= 2 and not getattr(parameter, "_no_weight_decay", False)
            (decayed if matrix else no_weight_decay).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": no_weight_decay, "weight_decay": 0.0}]
