"""The precision of states and sums."""

import torch
from torch import Tensor


def state_dtype(*inputs: Tensor | None) -> torch.dtype:
    """Return the precision of states: float64 if an input is float64, otherwise float32, also for half precision.

    Args:
        inputs: The inputs of an operation.

    Returns:
        torch.float32 or torch.float64.
    """
    double = any(x is not None and x.dtype == torch.float64 for x in inputs)
    return torch.float64 if double else torch.float32


def cast(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Cast a tensor that may be None.

    Args:
        x: Any shape, or None.
        dtype: The new precision.

    Returns:
        The tensor, or None.
    """
    return None if x is None else x.to(dtype)
