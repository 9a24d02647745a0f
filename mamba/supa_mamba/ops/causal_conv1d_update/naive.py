"""Slot-by-slot reference for steps of the causal convolution, for tests."""

import torch
from torch import Tensor
from torch.nn.functional import silu


def naive_causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take the steps one by one in float64. The arguments are those of `causal_conv1d_update`.

    Returns:
        y in float64, and the new states in the dtype of the states, rounded once. The inputs are not modified.
    """
    states, y = conv_state.to(torch.float64, copy=True), torch.zeros_like(x, dtype=torch.float64)
    parameters = (weight, bias, activation)
    slots = range(x.shape[0]) if conv_state_indices is None else conv_state_indices.tolist()
    for m, slot in enumerate(slots):
        steps = (x[m, :, None] if x.ndim == 2 else x[m]).double()
        if slot >= 0:
            found = []
            for i in range(steps.shape[1]):
                before = None if cache_seqlens is None else int(cache_seqlens[m]) + i
                of_step, states[slot] = _one_step(states[slot], steps[:, i], before, *parameters)
                found.append(of_step)
            y[m] = found[0] if x.ndim == 2 else torch.stack(found, 1)
    return y, states.to(conv_state.dtype)


def _one_step(
    held: Tensor, x: Tensor, before: int | None, weight: Tensor, bias: Tensor | None, activation: str | None
) -> tuple[Tensor, Tensor]:
    """Take one step of one sequence: x (D,), held (D, L). In a circular buffer, ``before`` is the earlier steps."""
    columns, width = held.shape[1], weight.shape[1]
    if before is None:
        held = torch.cat([held, x[:, None]], 1)
        window, held = held[:, columns + 1 - width :], held[:, 1:]
    else:
        held = held.clone()
        earlier = [held[:, (before - k) % columns] for k in range(width - 1, 0, -1)]
        window = torch.stack([*earlier, x], 1)
        held[:, before % columns] = x
    y = (window * weight.double()).sum(1) + (0 if bias is None else bias.double())
    return y if activation is None else silu(y), held


def naive_causal_conv1d_replay(
    x: Tensor,
    conv_state: Tensor,
    cache: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    accepted: Tensor,
    conv_state_indices: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the accepted inputs and convolve the new ones in float64. Arguments are those of `causal_conv1d_replay`.

    Returns:
        y in float64, the new states in the dtype of the states, rounded once, and the new cache. The inputs are not
        modified.
    """
    kept, states, y = cache.clone(), conv_state.to(torch.float64, copy=True), torch.zeros_like(x, dtype=torch.float64)
    parameters = (weight, bias, activation)
    slots = range(x.shape[0]) if conv_state_indices is None else conv_state_indices.tolist()
    for m, slot in enumerate(slots):
        if slot >= 0:
            for i in range(int(accepted[m])):
                _, states[slot] = _one_step(states[slot], cache[slot, i].double(), None, *parameters)
            held = states[slot]
            for i in range(x.shape[1]):
                y[m, i], held = _one_step(held, x[m, i].double(), None, *parameters)
            kept[slot] = x[m]
    return y, states.to(conv_state.dtype), kept
