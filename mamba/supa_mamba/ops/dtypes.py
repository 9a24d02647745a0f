"""Precision of states and sums."""

import torch
from torch import Tensor


def state_dtype(*inputs: Tensor | None) -> torch.dtype:
    """Return the dtype of states: float64 if an input is float64, otherwise float32.

    Args:
        inputs: Inputs of an operation.

    Returns:
        ``torch.float32`` or ``torch.float64``.
    """
    double = any(x is not None and x.dtype == torch.float64 for x in inputs)
    return torch.float64 if double else torch.float32


def cast(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Cast a tensor that may be None.

    Args:
        x: Tensor of any shape, or None.
        dtype: The new dtype.

    Returns:
        The cast tensor, or None.
    """
    return None if x is None else x.to(dtype)
