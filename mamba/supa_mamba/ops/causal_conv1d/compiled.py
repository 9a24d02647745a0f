"""Causal convolution on a CPU in compiled loops."""

from typing import Any

from torch import Tensor

from supa_mamba.ops.causal_conv1d.compiled_kernels import conv_backward, conv_forward
from supa_mamba.ops.causal_conv1d.inputs import ConvInputs, ConvOptions
from supa_mamba.ops.compiled import PARTS, array_of, run_parts
from supa_mamba.ops.packing import check_offsets


def forward(
    inputs: ConvInputs, options: ConvOptions, return_final_states: bool, save_checkpoints: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve packed sequences; see ``operators.sequence_operator``. The gradients need no checkpoints.

    Raises:
        ValueError: If the offset does not match the rows.
    """
    x, weight, offset = inputs.x, inputs.weight, inputs.offset
    check_offsets(offset, x.shape[0])
    y = weight.new_empty(x.shape)
    final_states = inputs.new_final_states(offset.shape[0] - 1 if return_final_states else 0)
    given, results = _arrays(inputs), (y.numpy(), final_states.numpy())

    def run(_part: int, first: int, last: int) -> None:
        arguments: list[Any] = [*given, *options, first, last, *results]
        conv_forward(*arguments)

    run_parts(run, offset.numpy(), weight.numel())
    return y.to(x.dtype), final_states, inputs.new_checkpoints(save=save_checkpoints)


def backward(
    y_grad: Tensor, final_grad: Tensor | None, inputs: ConvInputs, checkpoints: Tensor, options: ConvOptions
) -> tuple[Tensor | None, ...]:
    """Compute the gradients; see ``operators.sequence_operator``."""
    x, weight, bias, offset, initial_states = inputs
    channels, width = weight.shape
    grads = array_of(y_grad, weight, x.shape), array_of(final_grad, weight, (0, channels, width - 1))
    x_grad = weight.new_zeros(x.shape)
    initial_grad = inputs.new_final_states(0 if initial_states is None else offset.shape[0] - 1).zero_()
    weight_parts, bias_parts = weight.new_zeros(PARTS, width, channels), weight.new_zeros(PARTS, channels)
    given, rows, sums = _arrays(inputs), x_grad.numpy(), (weight_parts.numpy(), bias_parts.numpy())
    of_initial = initial_grad.numpy()

    def run(part: int, first: int, last: int) -> None:
        results = rows, sums[0][part], sums[1][part], of_initial
        arguments: list[Any] = [*grads, *given, *options, first, last, *results]
        conv_backward(*arguments)

    run_parts(run, offset.numpy(), weight.numel())
    return (
        x_grad.to(x.dtype),
        weight_parts.sum(0).t().contiguous(),
        None if bias is None else bias_parts.sum(0),
        None if initial_states is None else initial_grad,
    )


def _arrays(inputs: ConvInputs) -> list[Any]:
    x, weight, bias, offset, initial_states = inputs
    channels, width = weight.shape
    return [
        array_of(x, weight, x.shape),
        array_of(weight.t(), weight, weight.shape),
        array_of(bias, weight, (0,)),
        array_of(offset, offset, offset.shape),
        array_of(initial_states, weight, (0, channels, width - 1)),
    ]
