"""Start the Triton kernels of the selective scan. Nothing here waits for the device or looks at a length."""

import torch
from torch import Tensor

from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride
from supa_mamba.ops.selective_scan import kernels
from supa_mamba.ops.selective_scan.block_sizes import TILE, backward_block, forward_block

SORTED_FROM = 4096
"""Programs from which on the longest sequences go first. Fewer programs all start at once, whatever their order."""


def _order(offset: Tensor, programs: int) -> Tensor:
    # An order there always is: kernels with and without one would be two, and new lengths could compile the other.
    if programs >= SORTED_FROM:
        return offset.diff().argsort(descending=True)
    return torch.arange(offset.shape[0] - 1, device=offset.device)


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    delta_softplus: bool,
    finish: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan packed sequences.

    Args:
        u: (T, D), as delta, B, C (T, N), D (D,), z and delta_bias: as in ``selective_scan``.
        delta: (T, D).
        A: (N, D), in the precision of states.
        B: (T, N).
        C: (T, N).
        D: (D,), in the precision of states.
        z: (T, D).
        delta_bias: (D,), in the precision of states.
        offset: (S + 1,) int64.
        initial_state: (S, N, D), in the precision of states.
        reverse: whether to walk from the ends.
        delta_softplus: whether steps are softplus of what was given.
        finish: whether to return the final states.
        save: whether to store states for the backward kernel.

    Returns:
        y (T, D), final state (S or 0, N, D), and checkpoints (T // TILE or 0, N, D).
    """
    (rows, channels), states, sequences = u.shape, A.shape[0], offset.shape[0] - 1
    u, delta, B, C = (with_unit_stride(x) for x in (u, delta, B, C))
    z = None if z is None else with_unit_stride(z)
    y = torch.empty(rows, channels, dtype=u.dtype, device=u.device)
    final_state = A.new_empty(sequences if finish else 0, states, channels)
    checkpoints = A.new_empty(rows // TILE if save else 0, states, channels)
    padded = power_of_two(states)
    block = forward_block(states, double=A.dtype == torch.float64)
    programs = sequences * -(-channels // block.channels)
    if programs:
        kernels.forward_kernel[(programs,)](
            u, delta, A.contiguous(), B, C, contiguous(D), z, contiguous(delta_bias), offset,
            _order(offset, programs), contiguous(initial_state),
            y, final_state if finish else None, checkpoints if save else None,
            u.stride(0), delta.stride(0), B.stride(0), C.stride(0), 0 if z is None else z.stride(0),
            channels, states,
            REVERSE=reverse, SOFTPLUS=delta_softplus, TILE=TILE, BLOCK=block.channels, STATES=padded,
            WHOLE_D=channels % block.channels == 0, WHOLE_N=states == padded, DTYPE=triton_dtype(A), num_warps=1,
            maxnreg=block.registers,
        )  # fmt: skip
    return y, final_state, checkpoints


def backward(
    y_grad: Tensor,
    final_grad: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    checkpoints: Tensor,
    reverse: bool,
    delta_softplus: bool,
) -> tuple[Tensor, ...]:
    """Give the gradients of everything; arguments as in ``forward``, with the gradients of what it gave.

    Returns:
        Gradients of u, delta, A, B, C, D, z, delta_bias and initial_state; of one that is missing an empty tensor.
    """
    (rows, channels), states, sequences = u.shape, A.shape[0], offset.shape[0] - 1
    u, delta, B, C, y_grad = (with_unit_stride(x) for x in (u, delta, B, C, y_grad))
    z = None if z is None else with_unit_stride(z)
    padded, block = power_of_two(states), backward_block(channels, states)
    u_grad, delta_grad = (torch.empty(rows, channels, dtype=x.dtype, device=x.device) for x in (u, delta))
    z_grad = None if z is None else torch.empty(rows, channels, dtype=z.dtype, device=z.device)
    B_partial, C_partial = (A.new_empty(block.groups, rows, states) for _ in range(2))
    A_partial = A.new_empty(sequences, states, channels)
    D_partial, bias_partial = (A.new_empty(sequences, channels) for _ in range(2))
    initial_grad = None if initial_state is None else A.new_empty(sequences, states, channels)
    programs = sequences * block.groups
    if programs:
        kernels.backward_kernel[(programs,)](
            u, delta, A.contiguous(), B, C, contiguous(D), z, contiguous(delta_bias), offset,
            _order(offset, programs), contiguous(initial_state), checkpoints, y_grad, contiguous(final_grad),
            A.new_empty(programs, 5, TILE, block.channels),
            u_grad, delta_grad, A_partial, B_partial, C_partial, D_partial, z_grad, bias_partial, initial_grad,
            u.stride(0), delta.stride(0), B.stride(0), C.stride(0), 0 if z is None else z.stride(0), y_grad.stride(0),
            rows, channels, states, block.groups,
            REVERSE=reverse, SOFTPLUS=delta_softplus, TILE=TILE, ROWS=min(TILE, block.rows), BLOCK=block.channels,
            STATES=padded, STATE_LANES=block.state_lanes, OUTER_STATES=block.outer_states, WHOLE_N=states == padded,
            ONE_BLOCK=block.groups * block.channels >= channels, DTYPE=triton_dtype(A), num_warps=1,
            maxnreg=block.registers,
        )  # fmt: skip
    return (
        u_grad,
        delta_grad,
        A_partial.sum(0),
        B_partial.sum(0).to(B.dtype),
        C_partial.sum(0).to(C.dtype),
        A.new_empty(0) if D is None else D_partial.sum(0),
        A.new_empty(0) if z_grad is None else z_grad,
        A.new_empty(0) if delta_bias is None else bias_partial.sum(0),
        A.new_empty(0) if initial_grad is None else initial_grad,
    )
