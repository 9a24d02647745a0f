"""Step-by-step reference of the recurrence of Mamba-2, for tests."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import softplus

from supa_mamba.ops.packing import int_list


def naive_ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    offset: Tensor,
    initial_states: Tensor | None,
    *,
    reverse: bool = False,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
) -> tuple[Tensor, Tensor]:
    """Process each sequence row by row. Arguments and results are those of `ssd`, packed, of one dtype."""
    (heads, width), (groups, states) = x.shape[1:], B.shape[1:]
    dt = dt if dt_bias is None else dt + dt_bias
    dt = (softplus(dt) if dt_softplus else dt).clamp(*dt_limit)
    enter, leave = (v.repeat_interleave(heads // groups, 1) for v in (B, C))
    y, finals = list(x), []
    for s, (start, end) in enumerate(pairwise(int_list(offset))):
        h = x.new_zeros(heads, width, states) if initial_states is None else initial_states[s]
        for t in range(end - 1, start - 1, -1) if reverse else range(start, end):
            change = (dt[t, :, None] * x[t])[:, :, None] * enter[t, :, None, :]
            h = torch.exp(dt[t] * A)[:, None, None] * h + change
            y[t] = (h @ leave[t, :, :, None])[:, :, 0]
            y[t] = y[t] if D is None else y[t] + D[:, None] * x[t]
        finals.append(h)
    return torch.stack(y) if y else x, torch.stack(finals) if finals else x.new_zeros(0, heads, width, states)
