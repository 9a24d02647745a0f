"""Precision of states and sums."""

from typing import TypeVar

import torch
from torch import Tensor

Given = TypeVar("Given", Tensor, Tensor | None)


def state_dtype(*inputs: Tensor | None) -> torch.dtype:
    """Return the dtype of states: float64 if an input is float64, otherwise float32.

    Args:
        inputs: Inputs of an operation.

    Returns:
        ``torch.float32`` or ``torch.float64``.
    """
    for x in inputs:  # a generator would take three times as long, in every call of an operation
        if x is not None and x.dtype == torch.float64:
            return torch.float64
    return torch.float32


def cast(x: Given, dtype: torch.dtype) -> Given:
    """Cast a tensor that may be None.

    Args:
        x: Tensor of any shape, or None.
        dtype: The new dtype.

    Returns:
        The cast tensor, or None.
    """
    return x if x is None or x.dtype == dtype else x.to(dtype)
