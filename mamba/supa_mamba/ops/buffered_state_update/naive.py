"""Slot-by-slot reference for steps with a buffer of inputs, for tests."""

import torch
from torch import Tensor

from supa_mamba.ops.buffered_state_update.buffer import InputBuffer
from supa_mamba.ops.selective_state_update.naive import one_step


def naive_buffered_state_update(
    state: Tensor,
    buffer: InputBuffer,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    *,
    state_batch_indices: Tensor | None = None,
) -> tuple[Tensor, Tensor, InputBuffer]:
    """Take the steps in float64. The arguments are those of `buffered_state_update`, with x (M, K, H, P).

    Returns:
        y in float64, the new states in the dtype of the states, rounded once, and the new buffer. The inputs are not
        modified.
    """
    kept = InputBuffer(*(v.clone() for v in vars(buffer).values()))
    states, y = state.to(torch.float64, copy=True), torch.zeros_like(x, dtype=torch.float64)
    slots = range(x.shape[0]) if state_batch_indices is None else state_batch_indices.tolist()
    inputs, most = x.shape[1], buffer.x.shape[1]
    for m, slot in enumerate(slots):
        if slot < 0:
            continue
        h, begin = states[slot].clone(), int(buffer.lengths[slot])
        for i in range(begin):
            cached = (buffer.x[slot, i], buffer.dt[slot, i], A, buffer.B[slot, i])
            _, h = one_step(h, *cached, C[m, 0], D, None, dt_bias, dt_softplus)
        if begin + inputs > most:
            states[slot], begin = h, 0
        for i in range(inputs):
            new, gate = (x[m, i], dt[m, i], A, B[m, i], C[m, i]), None if z is None else z[m, i]
            y[m, i], h = one_step(h, *new, D, gate, dt_bias, dt_softplus)
            kept.x[slot, begin + i], kept.dt[slot, begin + i], kept.B[slot, begin + i] = x[m, i], dt[m, i], B[m, i]
        kept.lengths[slot] = begin + inputs
    return y, states.to(state.dtype), kept
