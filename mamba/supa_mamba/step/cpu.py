"""Steps on a processor, all rows together."""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from supa_mamba.rows import live_accepted, live_rows


def step(
    state: Tensor,
    cache_x: Tensor | None,
    cache_delta: Tensor | None,
    cache_B: Tensor | None,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    accepted: Tensor | None,
    rows: Tensor,
    delta_softplus: bool,
) -> Tensor:
    """Take steps in place; otherwise as ``launch.step``.

    Raises:
        ValueError: there is no such row, or no such number of cached inputs.
    """
    (_, channels, states), inputs, heads = state.shape, x.shape[1], len(A)
    groups = B.shape[2] // states
    of_heads = (-1, groups, heads // groups, channels // heads)
    live, places = live_rows(rows, state)
    decay = A.view(1, groups, -1, 1, A.shape[1])

    def advance(h: Tensor, x: Tensor, delta: Tensor, B: Tensor) -> Tensor:
        step = delta if delta_bias is None else delta + delta_bias
        step = (softplus(step) if delta_softplus else step).view(-1, groups, heads // groups, 1, 1)
        h = torch.exp(step * decay) * h
        return torch.addcmul(h, step * x.view(*of_heads, 1), B.view(-1, groups, 1, 1, states))

    with torch.autocast("cpu", enabled=False):
        h = state.index_select(0, places).view(*of_heads, states)
        new = [v.index_select(0, live) for v in (x, delta, B)]
        if cache_x is not None and cache_delta is not None and cache_B is not None and accepted is not None:
            taken = live_accepted(accepted, live, inputs)
            caches = (cache_x, cache_delta, cache_B)
            for i in range(inputs):
                going = (taken > i).nonzero()[:, 0]
                cached = (v[places[going], i].to(state.dtype) for v in caches)
                h = h.index_copy(0, going, advance(h.index_select(0, going), *cached))
            state.index_copy_(0, places, h.view(-1, channels, states))
            for cache, v in zip(caches, new, strict=True):
                cache.index_copy_(0, places, v.to(cache.dtype))
        y = x.new_zeros(x.shape)
        for i in range(inputs):
            given = [v[:, i].to(state.dtype) for v in new]
            h = advance(h, *given)
            leave = C[live, i].to(state.dtype).view(-1, groups, states, 1)
            found = torch.matmul(h.view(-1, groups, channels // groups, states), leave).view(-1, channels)
            if D is not None:
                found = found + (D[:, None] * given[0].view(-1, heads, channels // heads)).view(-1, channels)
            found = found if z is None else found * silu(z[live, i].to(state.dtype))
            y[live, i] = found.to(x.dtype)
        if cache_x is None:
            state.index_copy_(0, places, h.view(-1, channels, states))
        return y
