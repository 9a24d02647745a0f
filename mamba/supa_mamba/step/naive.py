"""One step of the selective scan, row by row: what every other path is held against."""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus


def naive_selective_state_update(
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
    *,
    delta_softplus: bool = True,
) -> tuple[Tensor, Tensor]:
    """Take one step; arguments as in ``selective_state_update``. Gives y and the new states, and changes nothing."""
    state, y = state.clone(), torch.zeros_like(x)
    for m, row in enumerate(rows.tolist()):
        if row >= 0:
            step = delta[m] if delta_bias is None else delta[m] + delta_bias
            step = softplus(step) if delta_softplus else step
            state[row] = torch.exp(step[:, None] * A) * state[row] + (step * x[m])[:, None] * B[m]
            y[m] = state[row] @ C[m] if D is None else state[row] @ C[m] + D * x[m]
            y[m] = y[m] if z is None else y[m] * silu(z[m])
    return y, state
