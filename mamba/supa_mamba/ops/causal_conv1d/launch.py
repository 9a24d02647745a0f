"""Launch of the Triton kernels of the causal convolution, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops.causal_conv1d import kernels
from supa_mamba.ops.causal_conv1d.inputs import ConvInputs, ConvOptions
from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride

ROWS = 4
"""Number of rows that are loaded at once."""


def _channels(width: int, channels: int) -> int:
    # Channels per program: four per lane, which one load fetches, or one per lane for wide kernels.
    return min(128 if width <= 8 else 32, power_of_two(channels))


def forward(
    inputs: ConvInputs, options: ConvOptions, return_final_states: bool, save_checkpoints: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve packed sequences; see ``operators.sequence_operator``. The gradients need no checkpoints."""
    x, weight, bias, offset, initial_states = inputs
    (rows, channels), width, sequences = x.shape, weight.shape[1], offset.shape[0] - 1
    x = with_unit_stride(x)
    y = torch.empty(rows, channels, dtype=x.dtype, device=x.device)
    final_states = inputs.new_final_states(sequences if return_final_states else 0)
    block = _channels(width, channels)
    programs = sequences * -(-channels // block)
    if programs:
        kernels.conv_forward_kernel[(programs,)](
            x, weight.contiguous(), contiguous(bias), offset, contiguous(initial_states),
            y, final_states if return_final_states else None, x.stride(0), channels,
            WIDTH=width, REVERSE=options.reverse, SILU=options.use_silu, ROWS=ROWS, BLOCK=block,
            DTYPE=triton_dtype(weight), num_warps=1,
        )  # fmt: skip
    return y, final_states, inputs.new_checkpoints(save=save_checkpoints)


def backward(
    y_grad: Tensor, final_grad: Tensor | None, inputs: ConvInputs, checkpoints: Tensor, options: ConvOptions
) -> tuple[Tensor | None, ...]:
    """Compute the gradients; see ``operators.sequence_operator``."""
    x, weight, bias, offset, initial_states = inputs
    (rows, channels), width, sequences = x.shape, weight.shape[1], offset.shape[0] - 1
    x, y_grad = with_unit_stride(x), with_unit_stride(y_grad)
    x_grad = torch.empty(rows, channels, dtype=x.dtype, device=x.device)
    weight_partial = weight.new_empty(sequences, channels, width)
    bias_partial = weight.new_empty(sequences, channels)
    initial_grad = None if initial_states is None else weight.new_empty(sequences, channels, width - 1)
    block = _channels(width, channels)
    programs = sequences * -(-channels // block)
    if programs:
        kernels.conv_backward_kernel[(programs,)](
            x, weight.contiguous(), contiguous(bias), offset, contiguous(initial_states),
            y_grad, contiguous(final_grad),
            x_grad, weight_partial, bias_partial, initial_grad,
            x.stride(0), y_grad.stride(0), channels,
            WIDTH=width, REVERSE=options.reverse, SILU=options.use_silu, ROWS=ROWS, BLOCK=block,
            DTYPE=triton_dtype(weight), num_warps=1,
        )  # fmt: skip
    return (
        x_grad,
        weight_partial.sum(0),
        None if bias is None else bias_partial.sum(0),
        initial_grad,
    )
