"""Launch of the Triton kernels of steps, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops.buffered_state_update.buffer import MOST_INPUTS
from supa_mamba.ops.buffered_state_update.inputs import BufferedInputs
from supa_mamba.ops.buffered_state_update.launch import advance, append, flat
from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype
from supa_mamba.ops.selective_state_update import kernels
from supa_mamba.ops.selective_state_update.inputs import StateStepInputs


def step(given: StateStepInputs) -> Tensor:
    """Update the states in place and return y, of the shape of ``x``."""
    state, cache_x, cache_dt, cache_B, x, dt, A, B, C, D, z, dt_bias, accepted, slots, dt_softplus = given
    buffered = _as_buffered(given)
    if buffered is not None:
        return advance(buffered, replay=True)
    count, inputs, heads, width = x.shape
    groups, states = B.shape[2:]
    of_group = heads // groups * width
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return y
    x, dt, B, C = (flat(v) for v in (x, dt, B, C))
    z = None if z is None else flat(z)
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
    if cache_dt is not None and cache_B is not None:
        append(cache_dt, cache_B, None, dt, B, slots, inputs)
    return y


def _as_buffered(given: StateStepInputs) -> BufferedInputs | None:
    """Return the inputs of a replay of Mamba-2 for the kernel with one decay rate per head, if they have that form."""
    state, cache_x, cache_dt, cache_B, x, dt, A, B, C, D, z, dt_bias, accepted, slots, dt_softplus = given
    if cache_x is None or cache_dt is None or cache_B is None or accepted is None:
        return None
    of_heads = A.shape[1:].numel() == 1 and all(v is None or v.shape[-1] == 1 for v in (dt, D, dt_bias))
    if not of_heads or x.shape[3] == 1 or x.shape[1] > MOST_INPUTS:
        return None
    D, dt_bias = (None if v is None else v[:, 0] for v in (D, dt_bias))
    return BufferedInputs(
        state, cache_x, cache_dt[..., 0], cache_B, accepted, x, dt[..., 0], A[:, 0, 0], B, C, D, z, dt_bias, slots,
        dt_softplus,
    )  # fmt: skip


def _block(states: int, *, one_decay: bool) -> int:
    # The states take 16 registers per lane, or 32 without a matrix of decays. On compute capability 9.0 a lane then
    # takes 64 to 130 registers in total, and only 256 states in double precision spill.
    return max(8, min(128, (1024 if one_decay else 512) // states))
