"""Step-by-step reference of the selective scan, for tests."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from supa_mamba.ops.packing import int_list


def naive_selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    offset: Tensor,
    initial_states: Tensor | None,
    *,
    reverse: bool = False,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scan each sequence row by row. Arguments and results are those of `selective_scan`, packed, of one dtype."""
    delta = delta if delta_bias is None else delta + delta_bias
    delta = softplus(delta) if delta_softplus else delta
    channels = u.shape[1]
    B, C = (x.repeat_interleave(channels // x.shape[1], 1) if x.ndim == 3 else x[:, None] for x in (B, C))
    y, states = list(u), []
    for s, (start, end) in enumerate(pairwise(int_list(offset))):
        h = torch.zeros_like(A) if initial_states is None else initial_states[s]
        for t in range(end - 1, start - 1, -1) if reverse else range(start, end):
            h = torch.exp(delta[t][:, None] * A) * h + (delta[t] * u[t])[:, None] * B[t]
            y[t] = (h * C[t]).sum(1)
            y[t] = y[t] if D is None else y[t] + D * u[t]
            y[t] = y[t] if z is None else y[t] * silu(z[t])
        states.append(h)
    return torch.stack(y) if y else u, torch.stack(states) if states else A.new_zeros(0, *A.shape)
