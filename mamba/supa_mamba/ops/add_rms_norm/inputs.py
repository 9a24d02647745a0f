"""Inputs of the backends of the sum and its norm."""

from typing import NamedTuple

import torch
from torch import Tensor


class AddNormInputs(NamedTuple):
    """Tensors of `add_rms_norm`.

    Args:
        residual: (T, D) residual in the precision of sums.
        update: (T, D) rows to add, or None.
        weight: (D,) weight in the precision of sums.
    """

    residual: Tensor
    update: Tensor | None
    weight: Tensor

    def new_sum(self) -> Tensor:
        """Return an uninitialised tensor for the sum, empty without an update."""
        return self.residual.new_empty(0 if self.update is None else self.residual.shape)


class AddNormOptions(NamedTuple):
    """Options of `add_rms_norm`.

    Args:
        eps: Value added to the mean square.
        dtype: Dtype of the normalised rows.
    """

    eps: float
    dtype: torch.dtype


class AddNormGradients(NamedTuple):
    """Tensors from which the gradients of `add_rms_norm` are computed.

    Args:
        y_grad: (T, D) gradient of the normalised rows.
        sum_grad: (T, D) gradient of the sum, or None for zeros.
        sum: (T, D) sum of residual and update.
        weight: (D,) weight.
    """

    y_grad: Tensor
    sum_grad: Tensor | None
    sum: Tensor
    weight: Tensor


class AddNormGradientOptions(NamedTuple):
    """Options of the gradients of `add_rms_norm`.

    Args:
        eps: Value added to the mean square.
        update_dtype: Dtype of the update. The gradients of residual and update have the same values; the second is
            computed only if its dtype differs.
    """

    eps: float
    update_dtype: torch.dtype

    def new_update_grad(self, sum_: Tensor) -> Tensor:
        """Return an uninitialised tensor for the gradient of the update, empty if it is that of the residual."""
        shape = 0 if self.update_dtype == sum_.dtype else sum_.shape
        return sum_.new_empty(shape, dtype=self.update_dtype)
