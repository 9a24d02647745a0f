"""Launch of the Triton kernels of steps with buffered inputs, without host-device synchronisation."""

import torch
from torch import Tensor

from supa_mamba.ops.buffered_state_update import kernels
from supa_mamba.ops.buffered_state_update.inputs import BufferedInputs
from supa_mamba.ops.kernel_inputs import contiguous, power_of_two, triton_dtype, with_unit_stride

NUMBERS = 32
"""Numbers of the state of a head, and of the buffered inputs, per lane."""

PARTS = 4
"""Heads, or blocks of channels of heads, per program, which share the products of C and B."""

FEW_PARTS = 4096
"""Up to this number of parts of all sequences, each has its own program, so that more processors of the GPU work."""

MOST_WARPS = 4
"""Maximum number of warps per program."""


def step(given: BufferedInputs) -> Tensor:
    """Update states and buffers in place and return y, of the shape of ``x``."""
    return advance(given, replay=False)


def advance(given: BufferedInputs, *, replay: bool) -> Tensor:
    """Take steps with buffered inputs, or replay the accepted ones.

    Args:
        given: The inputs. For a replay, ``lengths`` are the (M,) numbers of accepted inputs of the sequences.
        replay: Whether all states advance past the accepted inputs, and the new inputs replace the buffered ones.

    Returns:
        y, of the shape of ``x``.
    """
    state, buffer_x, buffer_dt, buffer_B, lengths, x, dt, A, B, C, D, z, dt_bias, slots, dt_softplus = given
    count, inputs, heads, width = x.shape
    groups, states = B.shape[2:]
    length = buffer_x.shape[1]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return y
    x, dt, B, C = (flat(v) for v in (x, dt, B, C))
    z = None if z is None else flat(z)
    padded = power_of_two(states)
    block = min(power_of_two(width), max(1, 32 * MOST_WARPS * NUMBERS // padded))
    parts = -(-width // block)
    few = count * heads * parts <= FEW_PARTS
    at_once = 1 if few else next(n for n in (PARTS, 2, 1) if heads // groups * parts % n == 0)
    held = power_of_two(length)
    warps = power_of_two((block * padded + held * (block + padded)) // (32 * NUMBERS) + 1) // 2
    kernels.step_kernel[(count * heads * parts // at_once,)](
        state, buffer_x, buffer_dt, buffer_B, lengths, x, dt, A.contiguous(), B, C, contiguous(D), z,
        contiguous(dt_bias), slots, y,
        *state.stride(), x.stride(0), dt.stride(0), B.stride(0), C.stride(0), 0 if z is None else z.stride(0),
        heads, heads // groups, width, states,
        SOFTPLUS=dt_softplus, SLOTS_CONTIGUOUS=state[:1].is_contiguous(), REPLAY=replay, INPUTS=inputs, LENGTH=length,
        NEW=power_of_two(inputs), HELD=held, PARTS=at_once, BLOCK=block, STATES=padded, DTYPE=triton_dtype(A),
        num_warps=min(MOST_WARPS, max(1, warps)),
    )  # fmt: skip
    append(buffer_dt, buffer_B, None if replay else lengths, dt, B, slots, inputs)
    return y


def append(
    buffer_dt: Tensor, buffer_B: Tensor, lengths: Tensor | None, dt: Tensor, B: Tensor, slots: Tensor, inputs: int
) -> None:
    """Store step sizes and input matrices in a buffer, after the steps.

    Args:
        buffer_dt: (R, L, ...) buffered step sizes.
        buffer_B: (R, L, G, N) buffered input matrix.
        lengths: (R,) number of buffered inputs of each slot, which is updated; without it, the new inputs replace all
            buffered ones.
        dt: (M * K, ...) step sizes.
        B: (M * K, G * N) input matrix.
        slots: (M,) slots of the sequences.
        inputs: Number of inputs per sequence, K.
    """
    values = max(dt.shape[1], B.shape[1])
    kernels.append_kernel[(slots.shape[0],)](
        buffer_dt, buffer_B, lengths, dt, B, slots, dt.stride(0), B.stride(0), inputs, dt.shape[1], B.shape[1],
        buffer_B.shape[1], BLOCK=min(1024, power_of_two(inputs * values)), num_warps=1,
    )  # fmt: skip


def flat(x: Tensor) -> Tensor:
    """Return the values of each step in a row.

    Args:
        x: (M, K, ...) tensor.

    Returns:
        (M * K, values) tensor, whose last dimension has stride 1.
    """
    return with_unit_stride(x.reshape(x.shape[0] * x.shape[1], -1))
