"""Checks of the inputs of modules, and conversion of padded rows to packed ones."""

import torch
from torch import Tensor

from supa_mamba.ops.checks import check_device
from supa_mamba.ops.packing import normalize_offsets


def packed_rows(x: Tensor, offset: Tensor | None, d_model: int) -> tuple[Tensor, Tensor]:
    """Return packed rows and their offset.

    Args:
        x: (T, d_model) packed with an offset, or (B, L, d_model) padded without.
        offset: (S + 1,) int64, or None.
        d_model: features of a row.

    Returns:
        (T, d_model), a view where that is possible, and (S + 1,) int64.

    Raises:
        ValueError: Shapes or dtypes do not fit.
    """
    begins = normalize_offsets("x", x, offset)
    _check_features(x, d_model)
    return x.reshape(-1, d_model), begins


def check_fits(x: Tensor, weight: Tensor) -> None:
    """Check that rows can be multiplied by weights.

    Args:
        x: rows.
        weight: a parameter.

    Raises:
        ValueError: They lie on different devices, or differ in a precision that autocast does not change.
    """
    if x.device != weight.device:
        raise ValueError(f"x: it lies on {x.device}, but the parameters on {weight.device}; move one of them.")
    # Autocast leaves double precision as it is.
    cast = torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, weight.dtype)
    if x.dtype != weight.dtype and not cast:
        raise ValueError(
            f"x: {x.dtype} was given, but the parameters are {weight.dtype}; convert one of them, or use "
            "autocast, which takes all but float64."
        )


def check_step_rows(x: Tensor, d_model: int) -> None:
    """Check the input of one step.

    Args:
        x: (M, d_model).
        d_model: features of a row.

    Raises:
        ValueError: It has another shape or holds no real numbers.
    """
    if x.ndim != 2:
        raise ValueError(
            f"x: shape {tuple(x.shape)} was given to a step, but it must be (M, d_model), one row a sequence."
        )
    _check_features(x, d_model)


def _check_features(x: Tensor, d_model: int) -> None:
    check_device("x", x)
    if x.shape[-1] != d_model:
        raise ValueError(f"x: rows of {x.shape[-1]} features were given, but this module takes {d_model}.")
    if not x.is_floating_point():
        raise ValueError(f"x: {x.dtype} was given, but it must hold floating-point numbers.")
