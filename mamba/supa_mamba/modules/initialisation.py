"""Initialisation of parameters, and their exclusion from weight decay."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from supa_mamba.ops.dtypes import state_dtype

Device = torch.device | str | int | None


def state_factory(device: Device, dtype: torch.dtype | None) -> dict[str, Any]:
    """Return device and dtype of decay rates, skip weights and step biases, which have the precision of states.

    Args:
        device: Device of the module; None for PyTorch's default device.
        dtype: Dtype of the module; None for PyTorch's default dtype.

    Returns:
        Keyword arguments ``device`` and ``dtype``. The dtype is float32, or float64 if that of the module is float64.
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
    """Draw biases such that softplus(bias), the step size at initialisation, is log-uniform.

    Args:
        count: Number of biases.
        dt_min: Smallest step size.
        dt_max: Largest step size.
        dt_init_floor: Lower limit to which smaller step sizes are raised.
        device: Device of the biases.
        dtype: Dtype of the biases.

    Returns:
        (count,) biases.

    Raises:
        ValueError: If the bounds are not positive and ascending.

    Source:
        Mamba (arXiv 2312.00752), section 3.6.
    """
    if not 0 < dt_min <= dt_max or dt_init_floor <= 0:
        raise ValueError(
            f"dt_min, dt_max, dt_init_floor: {dt_min}, {dt_max}, {dt_init_floor} were given, but step sizes must be "
            "positive, and dt_max not below dt_min."
        )
    step = torch.empty(count, device=device, dtype=dtype).uniform_(math.log(dt_min), math.log(dt_max))
    step = step.exp().clamp(min=dt_init_floor)
    return step + torch.log(-torch.expm1(-step))


def rates(A_log: Tensor) -> Tensor:
    """Return the decay rates of a mixer in the precision of states.

    Args:
        A_log: Logarithms of the negative rates, of any shape.

    Returns:
        -exp(A_log).
    """
    return -torch.exp(A_log.to(state_dtype(A_log)))


def mark_no_weight_decay(module: nn.Module, names: Iterable[str]) -> None:
    """Mark parameters that are excluded from weight decay, with the attribute that mamba_ssm uses.

    Args:
        module: Module that owns the parameters.
        names: Names of the parameters.
    """
    for name in names:
        parameter: Any = getattr(module, name)
        parameter._no_weight_decay = True


def optimizer_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups for an optimiser, with weight decay for matrices and convolution weights only.

    Norms, biases, decay rates (``A_log``), step biases (``dt_bias``) and skip weights (``D``) are not decayed.
    mamba_ssm excludes the same parameters.

    Args:
        module: Any module. Parameters with the attribute ``_no_weight_decay``, and those named in the
            ``no_weight_decay`` of their owner, are not decayed.
        weight_decay: Weight decay of the first group.

    Returns:
        Two parameter groups, with and without weight decay, for an optimiser such as ``torch.optim.AdamW``.

    Raises:
        ValueError: If ``weight_decay`` is negative.

    Example:
        >>> import torch
        >>> from supa_mamba import Mamba, optimizer_groups
        >>> groups = optimizer_groups(Mamba(16), weight_decay=0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(5, 0.1), (4, 0.0)]
        >>> optimizer = torch.optim.AdamW(groups, lr=1e-3)
    """
    if weight_decay < 0:
        raise ValueError(f"weight_decay: {weight_decay} was given, but it must not be negative.")
    # Loading and moving a module may replace its parameters by unmarked ones.
    for owner in module.modules():
        mark_no_weight_decay(owner, getattr(owner, "no_weight_decay", ()))
    decayed: list[nn.Parameter] = []
    no_weight_decay: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim >= 2 and not getattr(parameter, "_no_weight_decay", False)
            (decayed if matrix else no_weight_decay).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": no_weight_decay, "weight_decay": 0.0}]
