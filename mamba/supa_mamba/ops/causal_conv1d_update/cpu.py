"""Steps of the causal convolution on a CPU, for all slots at once."""

import torch
from torch import Tensor
from torch.nn.functional import silu

from supa_mamba.ops.causal_conv1d_update.inputs import ConvStepInputs
from supa_mamba.ops.state_slots import active_accepted, active_slots


def step(given: ConvStepInputs) -> Tensor:
    """Update the states in place and return y, of the shape of ``x``.

    Raises:
        ValueError: If a slot does not exist, or a number of accepted inputs or of earlier steps is out of range.
    """
    state, cache, x, weight, bias, accepted, begins, slots, use_silu = given
    width, inputs, columns, dtype = weight.shape[1], x.shape[1], state.shape[2], weight.dtype
    live, places = active_slots("conv_state_indices", slots, state)
    with torch.autocast("cpu", enabled=False):
        new = x.index_select(0, live)
        latest = new.to(dtype).transpose(1, 2)
        held = state.index_select(0, places).to(dtype)
        if begins is not None:
            column = _live_begins(begins, live) % columns
            window = _columns(held, (column[:, None] + torch.arange(1 - width, 0)) % columns)
            # If there are more inputs than columns, only the latest inputs are stored.
            last = torch.arange(max(0, inputs - columns), inputs)
            written = (column[:, None] + last) % columns
            held = held.scatter(2, written[:, None].expand(-1, held.shape[1], -1), latest[:, :, last])
        else:
            if cache is not None and accepted is not None:
                taken = active_accepted(accepted, live, inputs)
                earlier = torch.cat([held, cache.index_select(0, places).to(dtype).transpose(1, 2)], 2)
                held = _columns(earlier, taken[:, None] + torch.arange(columns))
                cache.index_copy_(0, places, new.to(cache.dtype))
            window = held[:, :, columns - (width - 1) :]
            held = held if cache is not None else torch.cat([held, latest], 2)[:, :, inputs:]
        state.index_copy_(0, places, held.to(state.dtype))
        seen = torch.cat([window, latest], 2)
        y = seen.new_zeros(()) if bias is None else bias[:, None]
        for tap in range(width):
            y = torch.addcmul(y, seen[:, :, tap : tap + inputs], weight[:, tap, None])
        y = silu(y) if use_silu else y
        return x.new_zeros(x.shape).index_copy_(0, live, y.transpose(1, 2).to(x.dtype))


def _columns(x: Tensor, at: Tensor) -> Tensor:
    return x.gather(2, at[:, None].expand(-1, x.shape[1], -1))


def _live_begins(begins: Tensor, live: Tensor) -> Tensor:
    before = begins[live]
    if len(before) and before.min() < 0:
        raise ValueError(
            f"cache_seqlens: {int(before.min())} was given, but it must be at least 0, the number of earlier steps."
        )
    return before
