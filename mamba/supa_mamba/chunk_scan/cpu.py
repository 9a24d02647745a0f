"""Mamba-2's recurrence on a processor: all chunks at once by matrix products, and autograd gives the gradients.

The sequences are cut into chunks, which lie in order of time: all first chunks, all second chunks, and so on, those of
the longest sequence first. Within a chunk the steps are mixed by products; between chunks the states are handed on by
all sequences together. What a last chunk lacks is filled with its sequence's last step, taken with a step of zero.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from supa_mamba.chunk_scan.blocks import operands
from supa_mamba.packing import check_offset, inverse, time_major
from supa_mamba.recompute import gradients

CHUNK = 32


def walk(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Walk over packed sequences; shapes as in ``ssd``, parameters and states in the states' precision.

    Returns:
        y (T, H, P) in the precision of x, and the final states (S, H, P, N).

    Raises:
        ValueError: the offset does not fit the rows.
    """
    check_offset(offset, len(x))
    (heads, width), (groups, states), sequences = x.shape[1:], B.shape[1:], len(offset) - 1
    lengths = offset.diff()
    chunks = pad(((lengths + CHUNK - 1) // CHUNK).cumsum(0), (1, 0))
    order = time_major(chunks, reverse=False)
    sequence = torch.arange(sequences).repeat_interleave(chunks.diff()).index_select(0, order.rows)
    local = (order.steps * CHUNK)[:, None] + torch.arange(CHUNK)
    live = local < lengths[sequence][:, None]
    local = local.minimum(lengths[sequence][:, None] - 1)
    taken = (offset[1:][sequence][:, None] - 1 - local if reverse else offset[:-1][sequence][:, None] + local).flatten()

    count, grouped = len(order.rows), (groups, heads // groups)

    def cut(v: Tensor) -> Tensor:
        return v.to(A.dtype).index_select(0, taken).view(count, CHUNK, *v.shape[1:])

    with torch.autocast("cpu", enabled=False):
        step = cut(delta)
        step = step if delta_bias is None else step + delta_bias
        step = (softplus(step) if delta_softplus else step).masked_fill(~live[:, :, None], 0.0)
        elapsed = (step * A).cumsum(1).transpose(1, 2).reshape(count, *grouped, CHUNK)
        step = step.transpose(1, 2).reshape(count, *grouped, CHUNK)
        # From here on: chunk, group, head of the group, step, value or state.
        inputs = cut(x).view(count, CHUNK, *grouped, width).permute(0, 2, 3, 1, 4)
        enter, leave = (cut(v).transpose(1, 2).unsqueeze(2) for v in (B, C))
        later = torch.ones(CHUNK, CHUNK, dtype=torch.bool).triu(1)
        decay = (elapsed[..., :, None] - elapsed[..., None, :]).masked_fill(later, -torch.inf).exp()
        changes = step[..., None] * inputs
        y = ((leave @ enter.mT) * decay) @ changes
        whole = elapsed[..., -1]
        entered = ((whole[..., None] - elapsed).exp()[..., None] * changes).mT @ enter

        if initial_state is None:
            state = A.new_zeros(sequences, *entered.shape[1:])
        else:
            state = initial_state.index_select(0, order.longest_first).view(sequences, *grouped, width, states)
        before, finished = [], []
        kept = torch.split(whole.exp()[..., None, None], order.counts)
        for a, b in zip(kept, torch.split(entered, order.counts), strict=True):
            if len(a) < len(state):
                state, done = torch.split(state, [len(a), len(state) - len(a)])
                finished.append(done)
            before.append(state)
            state = torch.addcmul(b, a, state)
        finished.append(state)
        start = torch.cat(before) if before else entered
        y = y + elapsed.exp()[..., None] * (leave @ start.mT)
        y = y if D is None else y + D.view(groups, -1, 1, 1) * inputs
        y = y.permute(0, 3, 1, 2, 4).reshape(count * CHUNK, heads, width)
        cell = torch.arange(len(taken))[live.flatten()]
        y = y.index_select(0, cell.index_select(0, inverse(taken.index_select(0, cell))))
        final_state = torch.cat(finished[::-1]).index_select(0, inverse(order.longest_first)).flatten(1, 2)
    return y.to(x.dtype), final_state


def forward(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    reverse: bool,
    delta_softplus: bool,
    finish: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Walk as ``launch.forward``; nothing is stored for the gradients."""
    y, final_state = walk(x, delta, A, B, C, D, delta_bias, offset, initial_state, reverse, delta_softplus)
    operand, _ = operands(x, A, B, C)
    of_none = (0, *final_state.shape[1:])
    final_state = final_state.contiguous() if finish else A.new_empty(of_none)
    return y, final_state, x.new_empty(of_none, dtype=operand)


def backward(
    y_grad: Tensor,
    final_grad: Tensor | None,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_state: Tensor | None,
    checkpoints: Tensor,
    reverse: bool,
    delta_softplus: bool,
) -> tuple[Tensor, ...]:
    """Give the gradients as ``launch.backward``: walk once more, and let autograd record it."""

    def again(
        x: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        start: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        return walk(x, delta, A, B, C, D, delta_bias, offset, start, reverse, delta_softplus)

    return gradients(again, (x, delta, A, B, C, D, delta_bias, initial_state), (y_grad, final_grad))
