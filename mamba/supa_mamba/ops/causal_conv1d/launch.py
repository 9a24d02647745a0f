"""Start the Triton kernels of the causal convolution. Nothing here waits for the device or looks at a length."""

import torch
from torch import Tensor

from supa_mamba.ops.causal_conv1d import kernels
from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride

ROWS = 4
"""Steps whose inputs are asked for at once."""


def _channels(width: int, channels: int) -> int:
    # A program's: four for each lane of its warp, which one load brings, or one where a step sees much.
    return min(128 if width <= 8 else 32, power_of_two(channels))


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    use_silu: bool,
    finish: bool,
) -> tuple[Tensor, Tensor]:
    """Convolve packed sequences.

    Args:
        x: (T, D), as all others as in ``causal_conv1d``.
        weight: (D, W), as all that follow in the precision of states.
        bias: (D,).
        offset: (S + 1,) int64.
        initial_state: (S, D, W - 1).
        reverse: whether to walk from the ends.
        use_silu: whether silu follows.
        finish: whether to return the final states.

    Returns:
        y (T, D), and the final states (S or 0, D, W - 1).
    """
    (rows, channels), width, sequences = x.shape, weight.shape[1], offset.shape[0] - 1
    x = with_unit_stride(x)
    y = torch.empty(rows, channels, dtype=x.dtype, device=x.device)
    final_state = weight.new_empty(sequences if finish else 0, channels, width - 1)
    block = _channels(width, channels)
    programs = sequences * -(-channels // block)
    if programs:
        kernels.forward_kernel[(programs,)](
            x, weight.contiguous(), contiguous(bias), offset, contiguous(initial_state),
            y, final_state if finish else None, x.stride(0), channels,
            WIDTH=width, REVERSE=reverse, SILU=use_silu, ROWS=ROWS, BLOCK=block,
            DTYPE=triton_dtype(weight), num_warps=1,
        )  # fmt: skip
    return y, final_state


def backward(
    y_grad: Tensor,
    final_grad: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    use_silu: bool,
) -> tuple[Tensor, ...]:
    """Give the gradients of everything; arguments as in ``forward``, with the gradients of what it gave.

    Returns:
        Gradients of x, weight, bias and initial_state; of one that is missing an empty tensor.
    """
    (rows, channels), width, sequences = x.shape, weight.shape[1], offset.shape[0] - 1
    x, y_grad = with_unit_stride(x), with_unit_stride(y_grad)
    x_grad = torch.empty(rows, channels, dtype=x.dtype, device=x.device)
    weight_partial = weight.new_empty(sequences, channels, width)
    bias_partial = weight.new_empty(sequences, channels)
    initial_grad = None if initial_state is None else weight.new_empty(sequences, channels, width - 1)
    block = _channels(width, channels)
    programs = sequences * -(-channels // block)
    if programs:
        kernels.backward_kernel[(programs,)](
            x, weight.contiguous(), contiguous(bias), offset, contiguous(initial_state),
            y_grad, contiguous(final_grad),
            x_grad, weight_partial, bias_partial, initial_grad,
            x.stride(0), y_grad.stride(0), channels,
            WIDTH=width, REVERSE=reverse, SILU=use_silu, ROWS=ROWS, BLOCK=block,
            DTYPE=triton_dtype(weight), num_warps=1,
        )  # fmt: skip
    return (
        x_grad,
        weight_partial.sum(0),
        weight.new_empty(0) if bias is None else bias_partial.sum(0),
        weight.new_empty(0) if initial_grad is None else initial_grad,
    )
