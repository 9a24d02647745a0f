"""Start the Triton kernel of one step. Nothing here waits for the device."""

import torch
from torch import Tensor

from supa_mamba.kernel_inputs import power_of_two, triton_dtype, with_unit_stride
from supa_mamba.step import kernels


def update(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    rows: Tensor,
    delta_softplus: bool,
) -> Tensor:
    """Take one step in place, all parameters in the state's precision; otherwise as ``selective_state_update``."""
    (count, channels), states = x.shape, A.shape[1]
    x, delta, B, C = (with_unit_stride(v) for v in (x, delta, B, C))
    z = None if z is None else with_unit_stride(z)
    y = torch.empty(count, channels, dtype=x.dtype, device=x.device)
    padded = power_of_two(states)
    block = max(8, 512 // padded)
    programs = count * -(-channels // block)
    if programs:
        kernels.step_kernel[(programs,)](
            state, x, delta, A.contiguous(), B, C, D, z, delta_bias, rows, y,
            x.stride(0), delta.stride(0), B.stride(0), C.stride(0), 0 if z is None else z.stride(0), channels, states,
            SOFTPLUS=delta_softplus, BLOCK=block, STATES=padded, DTYPE=triton_dtype(state), num_warps=1,
        )  # fmt: skip
    return y
