"""Launch of the Triton kernel for steps of the convolution, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops.causal_conv1d_update import kernels
from supa_mamba.ops.causal_conv1d_update.inputs import ConvStepInputs
from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype

BLOCK = 64
"""Channels per program, one per lane."""

MOST_COLUMNS = 8
"""Maximum number of columns that are shifted at once."""


def step(given: ConvStepInputs) -> Tensor:
    """Update the states in place and return y, of the shape of ``x``."""
    state, cache, x, weight, bias, accepted, begins, slots, use_silu = given
    (count, inputs, channels), width, columns = x.shape, weight.shape[1], state.shape[2]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    programs = count * -(-channels // BLOCK)
    if programs:
        kernels.step_kernel[(programs,)](
            state, cache, x, weight.contiguous(), contiguous(bias), contiguous(accepted), contiguous(begins), slots, y,
            *state.stride(), *x.stride(), inputs, channels, columns,
            SILU=use_silu, CIRCULAR=begins is not None, BLOCK=BLOCK, WIDTH=width,
            COLUMNS=min(power_of_two(max(columns, 1)), MOST_COLUMNS), AT_ONCE=columns <= MOST_COLUMNS,
            DTYPE=triton_dtype(weight), num_warps=BLOCK // 32,
        )  # fmt: skip
    return y
