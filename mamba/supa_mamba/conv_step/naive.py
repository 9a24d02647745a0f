"""Steps of the causal convolution, row by row: what every other path is held against."""

import torch
from torch import Tensor
from torch.nn.functional import silu


def naive_causal_conv1d_update(
    state: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    *,
    activation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Take one step; arguments as in ``causal_conv1d_update``. Gives y and the new states, and changes nothing."""
    state, y = state.clone(), torch.zeros_like(x)
    for m, row in enumerate(rows.tolist()):
        if row >= 0:
            window = torch.cat([state[row], x[m][:, None]], 1)
            y[m] = (window * weight).sum(1) if bias is None else (window * weight).sum(1) + bias
            y[m] = silu(y[m]) if activation is not None else y[m]
            state[row] = window[:, 1:]
    return y, state


def naive_causal_conv1d_replay(
    state: Tensor,
    cache: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    accepted: Tensor,
    rows: Tensor,
    *,
    activation: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the accepted inputs and score new ones; arguments as in ``causal_conv1d_replay``.

    Returns:
        y, the new states and the new cache; nothing is changed.
    """
    cache, y = cache.clone(), torch.zeros_like(x)
    for m, row in enumerate(rows.tolist()):
        if row >= 0:
            place = rows[m : m + 1]
            for i in range(int(accepted[m])):
                _, state = naive_causal_conv1d_update(state, cache[row, i][None], weight, bias, place)
            scored = state
            for i in range(x.shape[1]):
                found, scored = naive_causal_conv1d_update(
                    scored, x[m, i][None], weight, bias, place, activation=activation
                )
                y[m, i] = found[0]
            cache[row] = x[m]
    return y, state, cache
