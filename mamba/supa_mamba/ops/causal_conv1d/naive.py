"""Step-by-step reference of the causal convolution, for tests."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import silu

from supa_mamba.ops.packing import int_list


def naive_causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor,
    initial_states: Tensor | None,
    *,
    reverse: bool = False,
    activation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve each sequence row by row. Arguments and results are those of `causal_conv1d`, packed, of one dtype."""
    channels, width = weight.shape
    y, states = list(x), []
    for s, (start, end) in enumerate(pairwise(int_list(offset))):
        window = x.new_zeros(channels, width - 1) if initial_states is None else initial_states[s]
        for t in range(end - 1, start - 1, -1) if reverse else range(start, end):
            window = torch.cat([window, x[t][:, None]], 1)
            y[t] = (window * weight).sum(1) if bias is None else (window * weight).sum(1) + bias
            y[t] = silu(y[t]) if activation is not None else y[t]
            window = window[:, 1:]
        states.append(window)
    return torch.stack(y) if y else x, torch.stack(states) if states else x.new_zeros(0, channels, width - 1)
