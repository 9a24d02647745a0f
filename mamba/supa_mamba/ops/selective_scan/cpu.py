"""The selective scan on a CPU: all sequences take a step together, and autograd computes the gradients.

The rows are sorted by step, the longest sequence first, and cut by ``split``, whose gradient is one concatenation;
indexing a row would make a zero gradient of full size for each step.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from supa_mamba.ops.packing import check_offset, inverse, time_major
from supa_mamba.ops.vjp import gradients


def scan(
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
) -> tuple[Tensor, Tensor]:
    """Scan packed sequences; shapes as in ``selective_scan``, parameters and states in the states' precision.

    Returns:
        y (T, D) in the precision of u, and the final states (S, D, N).

    Raises:
        ValueError: the offset does not fit the rows.
    """
    check_offset(offset, u.shape[0])
    order = time_major(offset, reverse=reverse)
    with torch.autocast("cpu", enabled=False):
        rows = order.rows
        x, step, inputs, outputs = (v.to(A.dtype).index_select(0, rows) for v in (u, delta, B, C))
        step = step if delta_bias is None else step + delta_bias
        step = softplus(step) if delta_softplus else step
        decay = torch.exp(step[:, :, None] * A)
        change = (step * x)[:, :, None] * inputs[:, None, :]
        if initial_state is None:
            state = A.new_zeros(offset.shape[0] - 1, *A.shape)
        else:
            state = initial_state.index_select(0, order.longest_first)
        states, finished = [], []
        for a, b in zip(torch.split(decay, order.counts), torch.split(change, order.counts), strict=True):
            if a.shape[0] < state.shape[0]:
                state, done = torch.split(state, [a.shape[0], state.shape[0] - a.shape[0]])
                finished.append(done)
            state = torch.addcmul(b, a, state)
            states.append(state)
        finished.append(state)
        # Where there is nothing to walk, A still has a gradient, of zeros, as on a GPU.
        walked = torch.cat(states) if states else decay * change
        y = torch.matmul(walked, outputs[:, :, None])[:, :, 0]
        y = y if D is None else y + D * x
        y = y.index_select(0, inverse(rows))
        y = y if z is None else y * silu(z.to(A.dtype))
        final_state = torch.cat(finished[::-1]).index_select(0, inverse(order.longest_first))
    return y.to(u.dtype), final_state


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
    """Scan as ``launch.forward``: A is (N, D) and states are (S, N, D); nothing is stored for the gradients."""
    start = None if initial_state is None else initial_state.transpose(1, 2)
    y, final_state = scan(u, delta, A.t(), B, C, D, z, delta_bias, offset, start, reverse, delta_softplus)
    final_state = final_state.transpose(1, 2).contiguous() if finish else A.new_empty(0, *A.shape)
    return y, final_state, A.new_empty(0, *A.shape)


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
    """Return the gradients as ``launch.backward``: scan again and let autograd record it."""

    def again(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        delta_bias: Tensor | None,
        start: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        given = (u, delta, A, B, C, D, z, delta_bias, offset, start)
        y, final_state, _ = forward(*given, reverse, delta_softplus, finish=True, save=False)
        return y, final_state

    given = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return gradients(again, given, (y_grad, final_grad))
