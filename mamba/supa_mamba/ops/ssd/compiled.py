"""Recurrence of Mamba-2 on a CPU in compiled loops."""

from typing import Any

from torch import Tensor

from supa_mamba.ops.compiled import PARTS, array_of, run_parts
from supa_mamba.ops.packing import check_offsets
from supa_mamba.ops.ssd.compiled_kernels import ssd_backward, ssd_forward
from supa_mamba.ops.ssd.inputs import SsdInputs, SsdOptions


def forward(
    inputs: SsdInputs, options: SsdOptions, return_final_states: bool, save_checkpoints: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the recurrence to packed sequences; see ``operators.sequence_operator``.

    Raises:
        ValueError: If the offset does not match the rows.
    """
    x, A, offset = inputs.x, inputs.A, inputs.offset
    check_offsets(offset, x.shape[0])
    step, decay, y = A.new_empty(inputs.dt.shape), A.new_empty(inputs.dt.shape), A.new_empty(x.shape)
    final_states = inputs.new_final_states(offset.shape[0] - 1 if return_final_states else 0)
    checkpoints = inputs.new_checkpoints(save=save_checkpoints)
    results = [v.numpy() for v in (step, decay, y.flatten(1), final_states.flatten(1, 2), checkpoints)]
    given: list[Any] = [*_arrays(inputs), *options]

    def run(_part: int, first: int, last: int) -> None:
        arguments: list[Any] = [*given, first, last, *results]
        ssd_forward(*arguments)

    run_parts(run, offset.numpy(), x.shape[1] * x.shape[2] * inputs.B.shape[2])
    return y.to(x.dtype), final_states, checkpoints


def backward(
    y_grad: Tensor, final_grad: Tensor | None, inputs: SsdInputs, checkpoints: Tensor, options: SsdOptions
) -> tuple[Tensor | None, ...]:
    """Compute the gradients; see ``operators.sequence_operator``."""
    x, dt, A, B, C, D, dt_bias, offset, initial_states = inputs
    step, decay, dt_grad, x_grad = (A.new_empty(v.shape) for v in (dt, dt, dt, x))
    size_grad, log_grad, B_grad, C_grad = (A.new_zeros(v.shape) for v in (dt, dt, B, C))
    A_parts, D_parts, bias_parts = (A.new_zeros(PARTS, *A.shape) for _ in range(3))
    initial_grad = inputs.new_final_states(0 if initial_states is None else offset.shape[0] - 1)
    rows: list[Any] = [v.numpy() for v in (step, decay, size_grad, log_grad, x_grad.flatten(1), dt_grad)]
    sums: list[Any] = [v.numpy() for v in (A_parts, D_parts, bias_parts)]
    others: list[Any] = [v.numpy() for v in (B_grad, C_grad, initial_grad.flatten(1, 2))]
    grads = array_of(y_grad.flatten(1), A, ()), _states(final_grad, inputs), array_of(checkpoints, A, ())
    given: list[Any] = [*grads, *_arrays(inputs), *options]

    def run(part: int, first: int, last: int) -> None:
        of_A, of_D, of_bias = (v[part] for v in sums)
        of_B, of_C, of_initial = others
        arguments: list[Any] = [*given, first, last, *rows, of_A, of_B, of_C, of_D, of_bias, of_initial]
        ssd_backward(*arguments)

    run_parts(run, offset.numpy(), x.shape[1] * x.shape[2] * B.shape[2])
    return (
        x_grad.to(x.dtype),
        dt_grad.to(dt.dtype),
        A_parts.sum(0),
        B_grad.to(B.dtype),
        C_grad.to(C.dtype),
        None if D is None else D_parts.sum(0),
        None if dt_bias is None else bias_parts.sum(0),
        None if initial_states is None else initial_grad,
    )


def _states(states: Tensor | None, inputs: SsdInputs) -> Any:
    channels = inputs.x.shape[1] * inputs.x.shape[2]
    return array_of(None if states is None else states.flatten(1, 2), inputs.A, (0, channels, inputs.B.shape[2]))


def _arrays(inputs: SsdInputs) -> list[Any]:
    x, dt, A, B, C, D, dt_bias, offset, initial_states = inputs
    return [
        array_of(x.flatten(1), A, ()),
        array_of(dt, A, ()),
        array_of(A, A, ()),
        array_of(B, A, ()),
        array_of(C, A, ()),
        array_of(D, A, (0,)),
        array_of(dt_bias, A, (0,)),
        array_of(offset, offset, ()),
        _states(initial_states, inputs),
    ]
