"""Launch of the Triton kernels of steps, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride
from supa_mamba.ops.selective_state_update import kernels
from supa_mamba.ops.selective_state_update.inputs import StateStepInputs


def step(given: StateStepInputs) -> Tensor:
    """Update the states in place and return y, of the shape of ``x``."""
    state, cache_x, cache_dt, cache_B, x, dt, A, B, C, D, z, dt_bias, accepted, slots, dt_softplus = given
    count, inputs, heads, width = x.shape
    groups, states = B.shape[2:]
    of_group = heads // groups * width
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not count:
        return y
    x, dt, B, C = (_flat(v) for v in (x, dt, B, C))
    z = None if z is None else _flat(z)
    padded = power_of_two(states)
    one_decay = A.shape[2] < states
    block = _block(padded, one_decay=one_decay)
    kernels.step_kernel[(count * groups * -(-of_group // block),)](
        state, cache_x, cache_dt, cache_B, x, dt, A.contiguous(), B, C, contiguous(D), z,
        contiguous(dt_bias), contiguous(accepted), slots, y,
        *state.stride(), x.stride(0), dt.stride(0), B.stride(0), C.stride(0), 0 if z is None else z.stride(0),
        inputs, groups, of_group, width, states,
        SOFTPLUS=dt_softplus, SLOTS_CONTIGUOUS=state[:1].is_contiguous(), ONE_DECAY=one_decay,
        DT_OF_HEAD=dt.shape[1] == heads, A_OF_HEAD=A.shape[1] == 1, D_OF_HEAD=D is None or D.shape[1] == 1,
        BIAS_OF_HEAD=dt_bias is None or dt_bias.shape[1] == 1,
        BLOCK=block, STATES=padded, DTYPE=triton_dtype(A), num_warps=1,
    )  # fmt: skip
    for cache, new in ((cache_dt, dt), (cache_B, B)):
        if cache is not None:
            values = new.shape[1]
            block = min(1024, power_of_two(values))
            kernels.cache_kernel[(len(new) * -(-values // block),)](
                cache, new, slots, new.stride(0), inputs, values, BLOCK=block, num_warps=1
            )
    return y


def _flat(x: Tensor) -> Tensor:
    count, inputs, *values = x.shape
    return with_unit_stride(x.reshape(count * inputs, values[0] * values[1]))


def _block(states: int, *, one_decay: bool) -> int:
    # The states take 16 registers per lane, or 32 without a matrix of decays. On compute capability 9.0 a lane then
    # takes 64 to 130 registers in total, and only 256 states in double precision spill.
    return max(8, min(128, (1024 if one_decay else 512) // states))
