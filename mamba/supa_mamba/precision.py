"""In which precision states are kept and sums are made."""

import torch
from torch import Tensor


def state_dtype(*inputs: Tensor | None) -> torch.dtype:
    """Give the precision of states: float32, also for half precision, or float64 where an input is float64.

    Args:
        inputs: the inputs of an operation.

    Returns:
        torch.float32 or torch.float64.
    """
    double = any(x is not None and x.dtype == torch.float64 for x in inputs)
    return torch.float64 if double else torch.float32


def cast(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Change the precision of a tensor that may be missing.

    Args:
        x: any shape, or None.
        dtype: the precision.

    Returns:
        The tensor, or None.
    """
    return None if x is None else x.to(dtype)
