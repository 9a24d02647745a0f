"""Launch of the Triton kernels of the selective scan, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride
from supa_mamba.ops.selective_scan import block_sizes
from supa_mamba.ops.selective_scan.inputs import ScanInputs, ScanOptions
from supa_mamba.ops.selective_scan.kernels.backward import scan_backward_kernel
from supa_mamba.ops.selective_scan.kernels.forward import scan_forward_kernel

SORTED_FROM = 4096
"""Number of programs above which the longest sequences start first. Fewer programs all start at once."""


def _order(offset: Tensor, programs: int) -> Tensor:
    # The kernel always takes an order, so that new lengths cause no recompilation.
    if programs >= SORTED_FROM:
        return offset.diff().argsort(descending=True)
    return torch.arange(offset.shape[0] - 1, device=offset.device)


def forward(
    inputs: ScanInputs, options: ScanOptions, return_final_states: bool, save_checkpoints: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan packed sequences; see ``operators.sequence_operator``."""
    u, delta, A, B, C, D, z, delta_bias, offset, initial_states = inputs
    (rows, channels), states, sequences = u.shape, A.shape[0], offset.shape[0] - 1
    u, delta, B, C = (with_unit_stride(x) for x in (u, delta, B, C))
    z = None if z is None else with_unit_stride(z)
    y = torch.empty(rows, channels, dtype=u.dtype, device=u.device)
    final_states = inputs.new_final_states(sequences if return_final_states else 0)
    checkpoints = inputs.new_checkpoints(save=save_checkpoints)
    padded, tile = power_of_two(states), block_sizes.TILE
    block = block_sizes.forward_block(states, double=A.dtype == torch.float64)
    programs = sequences * -(-channels // block.channels)
    if programs:
        scan_forward_kernel[(programs,)](
            u, delta, A.contiguous(), B, C, contiguous(D), z, contiguous(delta_bias), offset,
            _order(offset, programs), contiguous(initial_states),
            y, final_states if return_final_states else None, checkpoints if save_checkpoints else None,
            u.stride(0), delta.stride(0), B.stride(0), C.stride(0), 0 if z is None else z.stride(0),
            channels, states,
            REVERSE=options.reverse, SOFTPLUS=options.delta_softplus, TILE=tile, BLOCK=block.channels, STATES=padded,
            WHOLE_D=channels % block.channels == 0, WHOLE_N=states == padded, DTYPE=triton_dtype(A), num_warps=1,
            maxnreg=block.registers,
        )  # fmt: skip
    return y, final_states, checkpoints


def backward(
    y_grad: Tensor, final_grad: Tensor | None, inputs: ScanInputs, checkpoints: Tensor, options: ScanOptions
) -> tuple[Tensor | None, ...]:
    """Compute the gradients; see ``operators.sequence_operator``."""
    u, delta, A, B, C, D, z, delta_bias, offset, initial_states = inputs
    (rows, channels), states, sequences = u.shape, A.shape[0], offset.shape[0] - 1
    u, delta, B, C, y_grad = (with_unit_stride(x) for x in (u, delta, B, C, y_grad))
    z = None if z is None else with_unit_stride(z)
    padded, tile, block = power_of_two(states), block_sizes.TILE, block_sizes.backward_block(channels, states)
    u_grad, delta_grad = (torch.empty(rows, channels, dtype=x.dtype, device=x.device) for x in (u, delta))
    z_grad = None if z is None else torch.empty(rows, channels, dtype=z.dtype, device=z.device)
    B_partial, C_partial = (A.new_empty(block.groups, rows, states) for _ in range(2))
    A_partial = A.new_empty(sequences, states, channels)
    D_partial, bias_partial = (A.new_empty(sequences, channels) for _ in range(2))
    initial_grad = None if initial_states is None else A.new_empty(sequences, states, channels)
    programs = sequences * block.groups
    if programs:
        scan_backward_kernel[(programs,)](
            u, delta, A.contiguous(), B, C, contiguous(D), z, contiguous(delta_bias), offset,
            _order(offset, programs), contiguous(initial_states), checkpoints, y_grad, contiguous(final_grad),
            A.new_empty(programs, 5, tile, block.channels),
            u_grad, delta_grad, A_partial, B_partial, C_partial, D_partial, z_grad, bias_partial, initial_grad,
            u.stride(0), delta.stride(0), B.stride(0), C.stride(0), 0 if z is None else z.stride(0), y_grad.stride(0),
            rows, channels, states, block.groups,
            REVERSE=options.reverse, SOFTPLUS=options.delta_softplus, TILE=tile, ROWS=min(tile, block.rows),
            BLOCK=block.channels, STATES=padded, STATE_LANES=block.state_lanes, OUTER_STATES=block.outer_states,
            WHOLE_N=states == padded, ONE_BLOCK=block.groups * block.channels >= channels, DTYPE=triton_dtype(A),
            num_warps=1, maxnreg=block.registers,
        )  # fmt: skip
    return (
        u_grad,
        delta_grad,
        A_partial.sum(0),
        B_partial.sum(0).to(B.dtype),
        C_partial.sum(0).to(C.dtype),
        None if D is None else D_partial.sum(0),
        z_grad,
        None if delta_bias is None else bias_partial.sum(0),
        initial_grad,
    )
