"""Public function of the sum and its norm."""

import torch
from torch import Tensor

from supa_mamba.ops import backend
from supa_mamba.ops.add_rms_norm import cpu
from supa_mamba.ops.add_rms_norm.inputs import AddNormInputs, AddNormOptions
from supa_mamba.ops.add_rms_norm.operator import run_add_rms_norm
from supa_mamba.ops.checks import check_device, check_shape
from supa_mamba.ops.dtypes import cast, state_dtype


def add_rms_norm(
    residual: Tensor,
    update: Tensor | None,
    weight: Tensor,
    eps: float = 1e-5,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Add an update to a residual, and normalise the rows of the sum by their root mean square.

    For each row::

        s = residual + update
        y = s / sqrt(mean(s^2) + eps) * weight

    On a GPU one kernel computes both results, and another one all gradients. Results and gradients are bitwise
    reproducible. The sum is float32, or float64 if an input is float64, in whichever dtype ``y`` is requested.
    Forward-mode and second derivatives are supported on a CPU; on a GPU they raise an error.

    Args:
        residual: (..., D) residual; half precision is converted to float32.
        update: Update of the shape of ``residual``; float16, bfloat16, float32 or float64. None adds nothing.
        weight: (D,) weight.
        eps: Value added to the mean square.
        dtype: Dtype of y, by default that of ``weight``.

    Returns:
        y, in ``dtype``, and the sum, both of the shape of ``residual``. Without an update the sum is ``residual``.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, or ``dtype`` is not a floating-point dtype.

    Example:
        >>> import torch
        >>> from supa_mamba import add_rms_norm
        >>> residual, update = torch.tensor([[1.0, 7.0]]), torch.tensor([[2.0, -3.0]])
        >>> y, residual = add_rms_norm(residual, update, torch.ones(2))
        >>> residual
        tensor([[3., 4.]])
        >>> y.square().mean().round(decimals=3)
        tensor(1.)

    Source:
        Root mean square layer normalization (arXiv 1910.07467), equation 4.
    """
    check_device("residual", residual)
    if weight.ndim != 1 or not weight.shape[0]:
        raise ValueError(f"weight: shape {tuple(weight.shape)} was given, but it must be (D,), D at least 1.")
    check_shape("residual", residual, (*residual.shape[:-1], *weight.shape), residual, "(..., D)")
    check_shape("update", update, tuple(residual.shape), residual, "the shape of residual")
    check_shape("weight", weight, tuple(weight.shape), residual, "(D,)")
    dtype = weight.dtype if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype: {dtype!r} was given, but it must be a floating-point dtype, such as torch.bfloat16.")
    options = AddNormOptions(float(eps), dtype)
    precision = state_dtype(residual, update, weight)
    given = AddNormInputs(cast(residual, precision), update, cast(weight, precision))
    if not backend.is_cuda(residual):  # compilers fuse the plain code, and every derivative is supported
        y, total = cpu.forward(given, options)
        return y, given.residual if update is None else total
    rows, shape = (-1, weight.shape[0]), residual.shape
    update = None if update is None else update.reshape(rows)
    y, total = run_add_rms_norm(given.residual.reshape(rows), update, given.weight, *options)
    return y.reshape(shape), given.residual if update is None else total.reshape(shape)
