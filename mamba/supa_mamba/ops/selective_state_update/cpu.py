"""Steps on a CPU, for all slots at once."""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from supa_mamba.ops.selective_state_update.inputs import StateStepInputs
from supa_mamba.ops.state_slots import active_accepted, active_slots


def step(given: StateStepInputs) -> Tensor:
    """Update the states in place and return y, of the shape of ``x``.

    Raises:
        ValueError: If a slot does not exist, or a number of accepted inputs is out of range.
    """
    state, cache_x, cache_dt, cache_B, x, dt, A, B, C, D, z, dt_bias, accepted, slots, dt_softplus = given
    (_, heads, width, states), inputs, groups, dtype = state.shape, x.shape[1], B.shape[2], A.dtype
    # Dimensions after the slots: groups, heads per group, channels per head, states.
    grouped = (groups, heads // groups)
    decay = A.reshape(*grouped, *A.shape[1:])
    live, places = active_slots("state_batch_indices", slots, state)

    def of_groups(v: Tensor) -> Tensor:
        return v.reshape(v.shape[0], *grouped, v.shape[2], 1)

    def advance(h: Tensor, x: Tensor, dt: Tensor, B: Tensor) -> Tensor:
        step = dt if dt_bias is None else dt + dt_bias
        step = of_groups(softplus(step) if dt_softplus else step)
        return torch.addcmul(torch.exp(step * decay) * h, step * of_groups(x), B[:, :, None, None])

    with torch.autocast("cpu", enabled=False):
        h = state.index_select(0, places).to(dtype).view(-1, *grouped, width, states)
        new = [v.index_select(0, live) for v in (x, dt, B)]
        if cache_x is not None and cache_dt is not None and cache_B is not None and accepted is not None:
            taken = active_accepted(accepted, live, inputs)
            caches = (cache_x, cache_dt, cache_B)
            for i in range(inputs):
                going = (taken > i).nonzero()[:, 0]
                cached = (v[places[going], i].to(dtype) for v in caches)
                h = h.index_copy(0, going, advance(h.index_select(0, going), *cached))
            state.index_copy_(0, places, h.view(-1, heads, width, states).to(state.dtype))
            for cache, v in zip(caches, new, strict=True):
                cache.index_copy_(0, places, v.to(cache.dtype))
        y = x.new_zeros(x.shape)
        for i in range(inputs):
            latest = [v[:, i].to(dtype) for v in new]
            h = advance(h, *latest)
            leave = C[live, i].to(dtype)[..., None]
            found = torch.matmul(h.view(-1, groups, heads // groups * width, states), leave).view(-1, heads, width)
            found = found if D is None else found + D * latest[0]
            found = found if z is None else found * silu(z[live, i].to(dtype))
            y[live, i] = found.to(x.dtype)
        if cache_x is None:
            state.index_copy_(0, places, h.view(-1, heads, width, states).to(state.dtype))
        return y
