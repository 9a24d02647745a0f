"""Steps of the selective scan, row by row: what every other path is held against."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from supa_mamba.step.cache import ReplayCache


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
            if state.ndim == 3:
                state[row] = torch.exp(step[:, None] * A) * state[row] + (step * x[m])[:, None] * B[m]
                y[m] = state[row] @ C[m] if D is None else state[row] @ C[m] + D * x[m]
            else:
                for h in range(len(A)):
                    group = h // (len(A) // B.shape[1])
                    entering = step[h] * torch.outer(x[m, h], B[m, group])
                    state[row, h] = torch.exp(step[h] * A[h]) * state[row, h] + entering
                    y[m, h] = state[row, h] @ C[m, group] + (0 if D is None else D[h] * x[m, h])
            y[m] = y[m] if z is None else y[m] * silu(z[m])
    return y, state


def naive_selective_state_replay(
    state: Tensor,
    cache: ReplayCache,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    accepted: Tensor,
    rows: Tensor,
    *,
    delta_softplus: bool = True,
) -> tuple[Tensor, Tensor, ReplayCache]:
    """Take the accepted inputs and score new ones; arguments as in ``selective_state_replay``.

    Returns:
        y, the new states and the new cache; nothing is changed.
    """
    kept = replace(cache, x=cache.x.clone(), delta=cache.delta.clone(), B=cache.B.clone())
    y = torch.zeros_like(x)
    for m, row in enumerate(rows.tolist()):
        if row >= 0:
            place = rows[m : m + 1]
            for i in range(int(accepted[m])):
                old_x, old_delta, old_B = (v[row, i : i + 1] for v in (cache.x, cache.delta, cache.B))
                _, state = naive_selective_state_update(
                    state, old_x, old_delta, A, old_B, C[m, :1], D, None, delta_bias, place,
                    delta_softplus=delta_softplus,
                )  # fmt: skip
            scored = state
            for i in range(x.shape[1]):
                gate = None if z is None else z[m, i : i + 1]
                new_x, new_delta, new_B, new_C = (v[m, i : i + 1] for v in (x, delta, B, C))
                y[m, i : i + 1], scored = naive_selective_state_update(
                    scored, new_x, new_delta, A, new_B, new_C, D, gate, delta_bias, place,
                    delta_softplus=delta_softplus,
                )  # fmt: skip
            kept.x[row], kept.delta[row], kept.B[row] = x[m], delta[m], B[m]
    return y, state, kept
