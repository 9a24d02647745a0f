"""Selective scan on a CPU. All sequences advance together, and autograd computes the gradients.

The rows are sorted by step, the longest sequence first, and divided by ``split``, whose gradient is one concatenation.
Indexing single rows would allocate a full-size gradient of zeros for each step.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from supa_mamba.ops.packing import check_offsets, inverse, time_major
from supa_mamba.ops.selective_scan.inputs import ScanInputs, ScanOptions


def forward(inputs: ScanInputs, options: ScanOptions, return_final_states: bool) -> tuple[Tensor, Tensor]:
    """Scan packed sequences; see ``operators.sequence_operator``.

    Raises:
        ValueError: If the offset does not match the rows.
    """
    u, delta, A, B, C, D, z, delta_bias, offset, initial_states = inputs
    A = A.t()
    check_offsets(offset, u.shape[0])
    order = time_major(offset, reverse=options.reverse)
    with torch.autocast("cpu", enabled=False):
        rows = order.rows
        x, step, enter, leave = (v.to(A.dtype).index_select(0, rows) for v in (u, delta, B, C))
        step = step if delta_bias is None else step + delta_bias
        step = softplus(step) if options.delta_softplus else step
        decay = torch.exp(step[:, :, None] * A)
        change = (step * x)[:, :, None] * enter[:, None, :]
        if initial_states is None:
            state = A.new_zeros(offset.shape[0] - 1, *A.shape)
        else:
            state = initial_states.index_select(0, order.longest_first).transpose(1, 2)
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
        y = torch.matmul(walked, leave[:, :, None])[:, :, 0]
        y = y if D is None else y + D * x
        y = y.index_select(0, inverse(rows))
        y = y if z is None else y * silu(z.to(A.dtype))
        if not return_final_states:
            return y.to(u.dtype), inputs.new_final_states(0)
        final_states = torch.cat(finished[::-1]).index_select(0, inverse(order.longest_first))
    return y.to(u.dtype), final_states.transpose(1, 2)
