"""Launch of the Triton kernels of the causal convolution, without host-device synchronisation."""

from typing import NamedTuple

import torch
from torch import Tensor

from supa_mamba.ops.causal_conv1d import kernels
from supa_mamba.ops.causal_conv1d.inputs import ConvInputs, ConvOptions
from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride


class Block(NamedTuple):
    """Sizes of a program, which is one warp.

    Args:
        rows: Number of rows that are loaded at once.
        channels: Number of channels.
    """

    rows: int
    channels: int


def choose_block(x: Tensor, width: int) -> Block:
    """Choose the sizes of the programs.

    Args:
        x: (T, D) input.
        width: Width of the kernel.

    Returns:
        The fastest sizes among those tested on an H200 for kernels of width 4. Wide kernels have one channel per lane,
        because each lane holds the weights and the inputs in the window of its channels.
    """
    of_narrow = Block(8, 64) if x.element_size() == 2 else Block(4, 128)
    rows, channels = Block(4, 32) if width > 8 else of_narrow
    return Block(rows, min(channels, power_of_two(x.shape[1])))


def forward(
    inputs: ConvInputs, options: ConvOptions, return_final_states: bool, save_checkpoints: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve packed sequences; see ``operators.sequence_operator``. The gradients need no checkpoints."""
    x, weight, bias, offset, initial_states = inputs
    (rows, channels), width, sequences = x.shape, weight.shape[1], offset.shape[0] - 1
    x = with_unit_stride(x)
    y = torch.empty(rows, channels, dtype=x.dtype, device=x.device)
    final_states = inputs.new_final_states(sequences if return_final_states else 0)
    block = choose_block(x, width)
    programs = sequences * -(-channels // block.channels)
    if programs:
        kernels.conv_forward_kernel[(programs,)](
            x, weight.contiguous(), contiguous(bias), offset, contiguous(initial_states),
            y, final_states if return_final_states else None, channels,
            X_STRIDE=x.stride(0), WIDTH=width, REVERSE=options.reverse, SILU=options.use_silu,
            ROWS=block.rows, BLOCK=block.channels, DTYPE=triton_dtype(weight), num_warps=1,
        )  # fmt: skip
    return y, final_states, inputs.new_checkpoints(save=save_checkpoints)


def backward(
    y_grad: Tensor, final_grad: Tensor | None, inputs: ConvInputs, checkpoints: Tensor, options: ConvOptions
) -> tuple[Tensor | None, ...]:
    """Compute the gradients; see ``operators.sequence_operator``."""
    x_grad = torch.empty(inputs.x.shape, dtype=inputs.x.dtype, device=inputs.x.device)
    return (x_grad, *backward_into(x_grad, y_grad, final_grad, inputs, options))


def backward_into(
    x_grad: Tensor, y_grad: Tensor, final_grad: Tensor | None, inputs: ConvInputs, options: ConvOptions
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Compute the gradients, and write that of x into a given tensor.

    Args:
        x_grad: (T, D) tensor for the gradient of x, whose last dimension has stride 1.
        y_grad: (T, D) gradient of y, which may be the same tensor as ``x_grad``.
        final_grad: (S, D, W - 1) gradient of the final states, or None.
        inputs: Inputs of the convolution.
        options: Options of the convolution.

    Returns:
        Gradients of weight, bias and initial states; None for a missing input.
    """
    x, weight, bias, offset, initial_states = inputs
    channels, width, sequences = x.shape[1], weight.shape[1], offset.shape[0] - 1
    x, y_grad = with_unit_stride(x), with_unit_stride(y_grad)
    weight_partial = weight.new_empty(sequences, channels, width)
    bias_partial = weight.new_empty(sequences, channels)
    initial_grad = None if initial_states is None else weight.new_empty(sequences, channels, width - 1)
    block = choose_block(x, width)
    programs = sequences * -(-channels // block.channels)
    if programs:
        kernels.conv_backward_kernel[(programs,)](
            x, weight.contiguous(), contiguous(bias), offset, contiguous(initial_states),
            y_grad, contiguous(final_grad),
            x_grad, weight_partial, bias_partial, initial_grad, channels,
            X_STRIDE=x.stride(0), Y_GRAD_STRIDE=y_grad.stride(0), X_GRAD_STRIDE=x_grad.stride(0),
            WIDTH=width, REVERSE=options.reverse, SILU=options.use_silu,
            ROWS=block.rows, BLOCK=block.channels, DTYPE=triton_dtype(weight), num_warps=1,
        )  # fmt: skip
    return weight_partial.sum(0), None if bias is None else bias_partial.sum(0), initial_grad
