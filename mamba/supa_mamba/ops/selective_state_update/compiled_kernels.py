"""Compiled loops of steps on a CPU. One row is processed after another, with its states in the cache.

The inner loops run over the states of a channel or over the channels, and the compiler vectorises them. Entries of
parameters and step sizes are those of single channels, or of heads, which are as many neighbouring channels. An input
that is missing has no rows.
"""

from typing import Any

import numpy as np

from supa.compiler import fast_kernel, fast_stage
from supa_mamba.ops.compiled_math import exponential, sigmoid, softplus


@fast_stage
def _spread(entries: Any, channels: Any) -> None:
    """Copy the entry of each head to its channels."""
    per_entry = len(channels) // len(entries)
    for e in range(len(entries)):
        for d in range(e * per_entry, (e + 1) * per_entry):
            channels[d] = entries[e]


@fast_stage
def _prepare(x: Any, dt: Any, bias: Any, use_softplus: bool, step: Any, change: Any) -> None:
    """Compute the step sizes of an input, and their products with it."""
    _spread(dt, step)
    for d in range(len(x)):
        step[d] += bias[d]
    if use_softplus:
        for d in range(len(x)):
            step[d] = softplus(step[d])
    for d in range(len(x)):
        change[d] = step[d] * x[d]


@fast_stage
def _advance(step: Any, change: Any, A: Any, decay: Any, B: Any, C: Any, h: Any, read: bool, y: Any) -> None:
    """Advance the states of all channels by one input, and compute the outputs if they are read."""
    channels, states = h.shape
    per_decay, per_group = channels // len(A), channels // len(B)
    one_decay = A.shape[1] < states
    if one_decay:
        _spread(A[:, 0], decay)
        for d in range(channels):
            decay[d] = exponential(step[d] * decay[d])
    for d in range(channels):
        h_d, b, s, c = h[d], B[d // per_group], step[d], change[d]
        if one_decay:
            factor = decay[d]
            for n in range(states):
                h_d[n] = factor * h_d[n] + c * b[n]
        else:
            A_d = A[d // per_decay]
            for n in range(states):
                h_d[n] = exponential(s * A_d[n]) * h_d[n] + c * b[n]
        if read:
            leave, total = C[d // per_group], decay.dtype.type(0)
            for n in range(states):
                total += h_d[n] * leave[n]
            y[d] = total


@fast_kernel
def take_steps(
    state: Any, cache_x: Any, cache_dt: Any, cache_B: Any, x: Any, dt: Any, A: Any, B: Any, C: Any, D: Any, z: Any,
    bias: Any, accepted: Any, slots: Any, use_softplus: bool, first: int, last: int, y: Any,
) -> None:  # fmt: skip
    """Take the steps of some sequences. E is the number of channels, or of heads.

    Args:
        state: (R, D, N) states, which are overwritten: past the accepted cached inputs, or without caches past all K
            inputs.
        cache_x: (R, K, D) cached inputs, or (0, K, D).
        cache_dt: (R, K, E) cached step sizes.
        cache_B: (R, K, G, N) cached input matrix.
        x: (M, K, D) input.
        dt: (M, K, E) step sizes before bias and softplus.
        A: (E, N) decay rates, or (E, 1) if all states of a channel have the same one.
        B: (M, K, G, N) input matrix.
        C: (M, K, G, N) output matrix.
        D: (E,) skip weights, or (0,).
        z: (M, K, D) gate, or (0, K, D).
        bias: (E,) bias of the step sizes, or (0,).
        accepted: (M,) int64 numbers of accepted cached inputs, or (0,).
        slots: (M,) int64 slots of the sequences. Those of finished sequences are negative.
        use_softplus: Whether to apply softplus.
        first: First sequence.
        last: Sequence after the last one.
        y: (M, K, D) output, which is written.
    """
    _, inputs, channels = x.shape
    skip, shift = np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)
    if len(D) > 0:
        _spread(D, skip)
    if len(bias) > 0:
        _spread(bias, shift)
    step, change, decay = np.empty(channels, x.dtype), np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    ahead = np.empty(state.shape[1:], x.dtype)
    for m in range(first, last):
        slot = slots[m]
        if slot < 0:
            y[m] = 0.0
            continue
        h = state[slot]
        if len(cache_x) > 0:
            for i in range(accepted[m]):
                _prepare(cache_x[slot, i], cache_dt[slot, i], shift, use_softplus, step, change)
                _advance(step, change, A, decay, cache_B[slot, i], C[m, i], h, False, y[m, 0])
            ahead[:, :] = h
            h = ahead
        for i in range(inputs):
            x_i, y_i = x[m, i], y[m, i]
            _prepare(x_i, dt[m, i], shift, use_softplus, step, change)
            _advance(step, change, A, decay, B[m, i], C[m, i], h, True, y_i)
            for d in range(channels):
                y_i[d] += skip[d] * x_i[d]
            if len(z) > 0:
                z_i = z[m, i]
                for d in range(channels):
                    y_i[d] *= z_i[d] * sigmoid(z_i[d])
