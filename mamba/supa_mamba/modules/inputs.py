"""Checks of the inputs of modules, and conversion of padded into packed rows."""

import torch
from torch import Tensor

from supa.checks import counted
from supa_mamba.ops.checks import check_device
from supa_mamba.ops.packing import normalize_offsets


def packed_rows(x: Tensor, offset: Tensor | None, d_model: int) -> tuple[Tensor, Tensor]:
    """Return packed rows and their offsets.

    Args:
        x: (T, d_model) packed rows if ``offset`` is given, otherwise a (B, L, d_model) padded batch.
        offset: (S + 1,) int64, or None.
        d_model: Number of features per row.

    Returns:
        (T, d_model) rows, a view if possible, and (S + 1,) int64 offsets.

    Raises:
        ValueError: If shapes or dtypes do not match.
    """
    begins = normalize_offsets("x", x, offset)
    _check_features(x, d_model)
    return x.reshape(-1, d_model), begins


def check_fits(x: Tensor, weight: Tensor) -> None:
    """Check that device and dtype of the input match those of the parameters.

    Args:
        x: The input.
        weight: A parameter.

    Raises:
        ValueError: If the devices differ, or if the dtypes differ and autocast does not convert them.
    """
    if x.device != weight.device:
        raise ValueError(f"x: it is on {x.device}, but the parameters are on {weight.device}; move one of them.")
    # Autocast does not convert float64.
    cast = torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, weight.dtype)
    if x.dtype != weight.dtype and not cast:
        raise ValueError(
            f"x: {x.dtype} was given, but the parameters are {weight.dtype}; convert one of them, or use "
            "autocast, which supports all dtypes except float64."
        )


def check_step_rows(x: Tensor, d_model: int) -> None:
    """Check the input of a single step.

    Args:
        x: (M, d_model) rows.
        d_model: Number of features per row.

    Raises:
        ValueError: If the shape is wrong, or the dtype is not a floating-point dtype.
    """
    if x.ndim != 2:
        raise ValueError(
            f"x: shape {tuple(x.shape)} was given to a step, but it must be (M, d_model), one row per sequence."
        )
    _check_features(x, d_model)


def _check_features(x: Tensor, d_model: int) -> None:
    check_device("x", x)
    if x.shape[-1] != d_model:
        raise ValueError(f"x: rows of {counted(x.shape[-1], 'feature')} were given, but this module expects {d_model}.")
    if not x.is_floating_point():
        raise ValueError(f"x: {x.dtype} was given, but it must hold floating-point numbers.")
