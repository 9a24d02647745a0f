"""Selective scan on a CPU in compiled loops."""

from typing import Any

from torch import Tensor

from supa_mamba.ops.compiled import PARTS, array_of, run_parts
from supa_mamba.ops.packing import check_offsets
from supa_mamba.ops.selective_scan.compiled_kernels import scan_backward, scan_forward
from supa_mamba.ops.selective_scan.inputs import ScanInputs, ScanOptions


def forward(
    inputs: ScanInputs, options: ScanOptions, return_final_states: bool, save_checkpoints: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan packed sequences; see ``operators.sequence_operator``.

    Raises:
        ValueError: If the offset does not match the rows.
    """
    u, A, offset = inputs.u, inputs.A, inputs.offset
    check_offsets(offset, u.shape[0])
    y = A.new_empty(u.shape)
    final_states = inputs.new_final_states(offset.shape[0] - 1 if return_final_states else 0)
    checkpoints = inputs.new_checkpoints(save=save_checkpoints)
    given, results = _arrays(inputs), (y.numpy(), final_states.numpy(), checkpoints.numpy())

    def run(_part: int, first: int, last: int) -> None:
        arguments: list[Any] = [*given, *options, first, last, *results]
        scan_forward(*arguments)

    run_parts(run, offset.numpy(), A.numel())
    return y.to(u.dtype), final_states, checkpoints


def backward(
    y_grad: Tensor, final_grad: Tensor | None, inputs: ScanInputs, checkpoints: Tensor, options: ScanOptions
) -> tuple[Tensor | None, ...]:
    """Compute the gradients; see ``operators.sequence_operator``."""
    u, delta, A, B, C, D, z, delta_bias, offset, initial_states = inputs
    grads = array_of(y_grad, A, u.shape), array_of(final_grad, A, (0, *A.shape))
    u_grad, delta_grad = A.new_empty(u.shape), A.new_empty(u.shape)
    z_grad = A.new_empty((0, u.shape[1]) if z is None else u.shape)
    B_grad, C_grad = A.new_zeros(B.shape), A.new_zeros(C.shape)
    initial_grad = inputs.new_final_states(0 if initial_states is None else offset.shape[0] - 1)
    A_parts, D_parts, bias_parts = (A.new_zeros(PARTS, *shape) for shape in (A.shape, A.shape[1:], A.shape[1:]))
    given, kept = _arrays(inputs), array_of(checkpoints, A, checkpoints.shape)
    rows: list[Any] = [x.numpy() for x in (u_grad, delta_grad, B_grad, C_grad, z_grad, initial_grad)]
    sums: list[Any] = [x.numpy() for x in (A_parts, D_parts, bias_parts)]

    def run(part: int, first: int, last: int) -> None:
        of_A, of_D, of_bias = (x[part] for x in sums)
        of_u, of_delta, of_B, of_C, of_z, of_initial = rows
        results = of_u, of_delta, of_A, of_B, of_C, of_D, of_z, of_bias, of_initial
        arguments: list[Any] = [*grads, *given, kept, *options, first, last, *results]
        scan_backward(*arguments)

    run_parts(run, offset.numpy(), A.numel())
    return (
        u_grad.to(u.dtype),
        delta_grad.to(delta.dtype),
        A_parts.sum(0),
        B_grad.to(B.dtype),
        C_grad.to(C.dtype),
        None if D is None else D_parts.sum(0),
        None if z is None else z_grad.to(z.dtype),
        None if delta_bias is None else bias_parts.sum(0),
        None if initial_states is None else initial_grad,
    )


def _arrays(inputs: ScanInputs) -> list[Any]:
    u, delta, A, B, C, D, z, delta_bias, offset, initial_states = inputs
    channels = u.shape[1]
    return [
        array_of(u, A, u.shape),
        array_of(delta, A, u.shape),
        array_of(A, A, A.shape),
        array_of(B, A, B.shape),
        array_of(C, A, C.shape),
        array_of(D, A, (0,)),
        array_of(z, A, (0, channels)),
        array_of(delta_bias, A, (0,)),
        array_of(offset, offset, offset.shape),
        array_of(initial_states, A, (0, *A.shape)),
    ]
