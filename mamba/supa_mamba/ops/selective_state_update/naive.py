"""Slot-by-slot reference for steps of Mamba-1 and Mamba-2, for tests."""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from supa_mamba.ops.selective_state_update.cache import ReplayCache


def naive_selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take one step in float64. The arguments are those of `selective_state_update`.

    Returns:
        y in float64, and the new states in the dtype of the states, rounded once. The inputs are not modified.
    """
    states, y = state.to(torch.float64, copy=True), torch.zeros_like(x, dtype=torch.float64)
    slots = range(x.shape[0]) if state_batch_indices is None else state_batch_indices.tolist()
    for m, slot in enumerate(slots):
        if slot >= 0:
            gate = None if z is None else z[m]
            y[m], states[slot] = one_step(states[slot], x[m], dt[m], A, B[m], C[m], D, gate, dt_bias, dt_softplus)
    return y, states.to(state.dtype)


def one_step(
    h: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Take one step of one sequence: x, dt, z (D,) or (H, P), B and C (N,) or (G, N), h (D, N) or (H, P, N)."""
    # An entry per head, (H,) or (H, 1, 1), applies to all of its channels and states.
    x, dt = x.double(), _wide(dt, x)
    bias = 0 if dt_bias is None else _wide(dt_bias, x)
    step = softplus(dt + bias) if dt_softplus else dt + bias
    decay = A.double() if A.ndim == h.ndim else A.double()[:, None, None]
    B, C = (v.double().view(-1, h.shape[-1]) for v in (B, C))
    # Each group of channels (Mamba-1) or heads (Mamba-2) has its own B and C.
    B, C = (v.repeat_interleave(h.shape[0] // len(v), 0) for v in (B, C))
    B, C = (v if h.ndim == 2 else v[:, None] for v in (B, C))
    h = torch.exp(step[..., None] * decay) * h + (step * x)[..., None] * B
    y = (h * C).sum(-1)
    y = y if D is None else y + _wide(D, x) * x
    return y if z is None else y * silu(z.double()), h


def _wide(v: Tensor, x: Tensor) -> Tensor:
    return (v if v.ndim == x.ndim else v[:, None]).double().expand(x.shape)


def naive_selective_state_replay(
    state: Tensor,
    cache: ReplayCache,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    *,
    accepted: Tensor,
    state_batch_indices: Tensor | None = None,
) -> tuple[Tensor, Tensor, ReplayCache]:
    """Apply the accepted inputs and score the new ones in float64. Arguments are those of `selective_state_replay`.

    Returns:
        y in float64, the new states in the dtype of the states, rounded once, and the new cache. The inputs are not
        modified.
    """
    kept = ReplayCache(cache.x.clone(), cache.dt.clone(), cache.B.clone())
    states, y = state.to(torch.float64, copy=True), torch.zeros_like(x, dtype=torch.float64)
    slots = range(x.shape[0]) if state_batch_indices is None else state_batch_indices.tolist()
    for m, slot in enumerate(slots):
        if slot >= 0:
            for i in range(int(accepted[m])):
                cached = (cache.x[slot, i], cache.dt[slot, i], A, cache.B[slot, i])
                _, states[slot] = one_step(states[slot], *cached, C[m, 0], D, None, dt_bias, dt_softplus)
            h = states[slot]
            for i in range(x.shape[1]):
                new, gate = (x[m, i], dt[m, i], A, B[m, i], C[m, i]), None if z is None else z[m, i]
                y[m, i], h = one_step(h, *new, D, gate, dt_bias, dt_softplus)
            kept.x[slot], kept.dt[slot], kept.B[slot] = x[m], dt[m], B[m]
    return y, states.to(state.dtype), kept
