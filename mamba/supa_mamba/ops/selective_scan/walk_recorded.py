"""The recurrence of the selective scan on a CPU in operations of PyTorch, which have derivatives of every order.

All sequences advance together. The rows are sorted by step, the longest sequence first, and divided by ``split``, whose
gradient is one concatenation. Indexing single rows would allocate a full-size gradient of zeros for each step.
"""

import torch
from torch import Tensor

from supa_mamba.ops.packing import inverse, time_major
from supa_mamba.ops.selective_scan.walk import Walk


def walk(given: Walk, *, reverse: bool) -> tuple[Tensor, Tensor]:
    """Compute the recurrence of packed sequences.

    Args:
        given: The inputs.
        reverse: Whether to process each sequence from its last row to its first.

    Returns:
        (T, D) outputs, and the (S, N, D) states after the last rows.
    """
    A = given.A.t()
    order = time_major(given.offset, reverse=reverse)
    rows = order.rows
    x, step, enter, leave = (v.index_select(0, rows) for v in (given.x, given.step, given.B, given.C))
    decay = torch.exp(step[:, :, None] * A)
    change = (step * x)[:, :, None] * enter[:, None, :]
    if given.initial_states is None:
        state = A.new_zeros(given.offset.shape[0] - 1, *A.shape)
    else:
        state = given.initial_states.index_select(0, order.longest_first).transpose(1, 2)
    states, finished = [], []
    for a, b in zip(torch.split(decay, order.counts), torch.split(change, order.counts), strict=True):
        if a.shape[0] < state.shape[0]:
            state, done = torch.split(state, [a.shape[0], state.shape[0] - a.shape[0]])
            finished.append(done)
        state = torch.addcmul(b, a, state)
        states.append(state)
    finished.append(state)
    # Without rows, A still has a gradient of zeros, as on a GPU.
    walked = torch.cat(states) if states else decay * change
    y = torch.matmul(walked, leave[:, :, None])[:, :, 0].index_select(0, inverse(rows))
    return y, torch.cat(finished[::-1]).index_select(0, inverse(order.longest_first)).transpose(1, 2)
