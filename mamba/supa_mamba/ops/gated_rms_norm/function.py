"""Public function of the norm with a gate."""

from torch import Tensor

from supa.checks import counted
from supa_mamba.ops import backend
from supa_mamba.ops.checks import check_device, check_shape
from supa_mamba.ops.dtypes import cast, state_dtype
from supa_mamba.ops.gated_rms_norm import cpu
from supa_mamba.ops.gated_rms_norm.inputs import GatedNormInputs, GatedNormOptions
from supa_mamba.ops.gated_rms_norm.operator import run_compiled, run_gated_rms_norm
from supa_mamba.ops.transforms import needs_plain_code


def gated_rms_norm(
    x: Tensor, gate: Tensor, weight: Tensor, groups: int = 1, eps: float = 1e-5, *, norm_before_gate: bool = False
) -> Tensor:
    """Normalise groups of channels by their root mean square, with a SiLU gate before or after the norm.

    For each row, with norm(v) = v / sqrt(mean(v^2) + eps) over each group::

        y = norm(x silu(gate)) weight          (by default)
        y = norm(x) weight silu(gate)          (with norm_before_gate)

    Sums are float32, or float64 if an input is float64. On a GPU one kernel computes the result, and another one all
    gradients, which are bitwise reproducible. The gate may be a view of a projection; it is not copied. Forward-mode
    and second derivatives are supported on a CPU; on a GPU they raise an error.

    Args:
        x: (T, C) rows; float16, bfloat16, float32 or float64, like all other tensors.
        gate: (T, C) gate before SiLU.
        weight: (C,) weight.
        groups: Number of groups of equal size.
        eps: Value added to the mean square.
        norm_before_gate: Whether to apply the gate after the norm instead of before it.

    Returns:
        y, of the shape and the dtype of ``x``.

    Raises:
        ValueError: If shapes, dtypes or devices do not match, or ``groups`` does not divide the number of channels.

    Example:
        >>> import torch
        >>> from supa_mamba import gated_rms_norm
        >>> x, gate = torch.tensor([[3.0, 4.0, 0.5, 0.5]]), torch.full((1, 4), 50.0)
        >>> gated_rms_norm(x, gate, torch.ones(4), groups=2).round(decimals=3)
        tensor([[0.8490, 1.1310, 1.0000, 1.0000]])

    Source:
        Mamba-2 (arXiv 2405.21060), section 7; groups as in mamba_ssm's ``RMSNormGated``.
    """
    check_device("x", x)
    if weight.ndim != 1 or not weight.shape[0]:
        raise ValueError(f"weight: shape {tuple(weight.shape)} was given, but it must be (C,), C at least 1.")
    channels = weight.shape[0]
    if not isinstance(groups, int) or groups < 1 or channels % groups:
        raise ValueError(
            f"groups: {groups!r} was given, but it must be a whole number that divides {counted(channels, 'channel')}."
        )
    check_shape("x", x, (*x.shape[:1], channels), x, "(T, C)")
    check_shape("gate", gate, tuple(x.shape), x, "the shape of x")
    check_shape("weight", weight, (channels,), x, "(C,)")
    given = GatedNormInputs(x, gate, cast(weight, state_dtype(x, gate, weight)))
    options = GatedNormOptions(groups, float(eps), norm_before_gate)
    if backend.use_custom_op(x):
        y: Tensor = run_gated_rms_norm(*given, *options)
    elif needs_plain_code(*given):
        y = cpu.forward(given, options)
    else:
        y = run_compiled(*given, *options)
    return y
