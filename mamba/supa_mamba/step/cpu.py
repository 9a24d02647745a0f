"""One step on a processor, all rows together."""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus


def update(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    rows: Tensor,
    delta_softplus: bool,
) -> Tensor:
    """Take one step in place, all parameters in the state's precision; otherwise as ``selective_state_update``.

    Raises:
        ValueError: there is no such row.
    """
    if len(rows) and rows.max() >= len(state):
        raise ValueError(f"rows: {int(rows.max())} was given, but the state has rows 0 to {len(state) - 1}.")
    with torch.autocast("cpu", enabled=False):
        live = (rows >= 0).nonzero()[:, 0]
        places = rows[live]
        inputs, step, enter, leave = (v.index_select(0, live).to(state.dtype) for v in (x, delta, B, C))
        step = step if delta_bias is None else step + delta_bias
        step = softplus(step) if delta_softplus else step
        h = torch.exp(step[:, :, None] * A) * state.index_select(0, places)
        h = torch.addcmul(h, (step * inputs)[:, :, None], enter[:, None, :])
        state.index_copy_(0, places, h)
        found = torch.matmul(h, leave[:, :, None])[:, :, 0]
        found = found if D is None else found + D * inputs
        found = found if z is None else found * silu(z.index_select(0, live).to(state.dtype))
        return x.new_zeros(x.shape).index_copy_(0, live, found.to(x.dtype))
