"""Steps of the causal convolution on a processor, all rows together."""

import torch
from torch import Tensor
from torch.nn.functional import silu

from supa_mamba.rows import live_accepted, live_rows


def step(
    state: Tensor,
    cache: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    accepted: Tensor | None,
    rows: Tensor,
    use_silu: bool,
) -> Tensor:
    """Take steps in place; otherwise as ``launch.step``.

    Raises:
        ValueError: there is no such row, or no such number of cached inputs.
    """
    width, inputs = weight.shape[1], x.shape[1]
    live, places = live_rows(rows, state)
    with torch.autocast("cpu", enabled=False):
        new = x.index_select(0, live)
        window = state.index_select(0, places)
        if cache is not None and accepted is not None:
            taken = live_accepted(accepted, live, inputs)
            earlier = torch.cat([window, cache.index_select(0, places).to(state.dtype).transpose(1, 2)], 2)
            last = taken[:, None] + torch.arange(width - 1)
            window = earlier.gather(2, last[:, None].expand(window.shape))
            cache.index_copy_(0, places, new.to(cache.dtype))
        seen = torch.cat([window, new.to(state.dtype).transpose(1, 2)], 2)
        state.index_copy_(0, places, window if cache is not None else seen[:, :, inputs:])
        y = seen.new_zeros(()) if bias is None else bias[:, None]
        for tap in range(width):
            y = torch.addcmul(y, seen[:, :, tap : tap + inputs], weight[:, tap, None])
        y = silu(y) if use_silu else y
        return x.new_zeros(x.shape).index_copy_(0, live, y.transpose(1, 2).to(x.dtype))
