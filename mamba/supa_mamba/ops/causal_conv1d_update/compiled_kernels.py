"""Compiled loops for steps of the convolution on a CPU.

Each row copies its window and its inputs into rows of channels, over which the inner loops run. A missing input has no
rows.
"""

from typing import Any

import numpy as np

from supa.compiler import fast_kernel
from supa_mamba.ops.compiled_math import sigmoid


@fast_kernel
def take_steps(
    state: Any, cache: Any, x: Any, weight: Any, bias: Any, accepted: Any, begins: Any, slots: Any, use_silu: bool,
    first: int, last: int, y: Any,
) -> None:  # fmt: skip
    """Take the steps of some sequences.

    Args:
        state: (R, D, L) last inputs, which are overwritten.
        cache: (R, K, D) cached inputs, or (0, K, D).
        x: (M, K, D) input.
        weight: (W, D) kernel.
        bias: (D,) bias.
        accepted: (M,) int64 numbers of accepted cached inputs, or (0,).
        begins: (M,) int64 numbers of earlier steps if the states are circular buffers, or (0,).
        slots: (M,) int64 slots of the sequences. Those of finished sequences are negative.
        use_silu: Whether to apply SiLU.
        first: First sequence.
        last: Sequence after the last one.
        y: (M, K, D) output, which is written.
    """
    _, inputs, channels = x.shape
    width, columns = len(weight), state.shape[2]
    # The columns of the state, then the accepted cached inputs, then the new inputs.
    seen = np.empty((columns + 2 * inputs, channels), x.dtype)
    for m in range(first, last):
        slot = slots[m]
        if slot < 0:
            y[m] = 0.0
            continue
        held, circular = state[slot], len(begins) > 0
        begin = begins[m] % columns if circular else 0
        for k in range(columns):
            column = (begin + k) % columns
            for d in range(channels):
                seen[k, d] = held[d, column]
        new = columns
        if len(cache) > 0:
            for i in range(accepted[m]):
                seen[new, :] = cache[slot, i]
                new += 1
        for i in range(inputs):
            seen[new + i, :] = x[m, i]
        for i in range(inputs):
            y_i = y[m, i]
            for d in range(channels):
                y_i[d] = bias[d]
            for tap in range(width):
                w, row = weight[tap], seen[new + i - (width - 1) + tap]
                for d in range(channels):
                    y_i[d] += w[d] * row[d]
            if use_silu:
                for d in range(channels):
                    y_i[d] *= sigmoid(y_i[d])
        # With a cache the state advances past the accepted inputs only.
        end = new if len(cache) > 0 else new + inputs
        for k in range(columns):
            row = seen[end - columns + k]
            column = (begin + end + k) % columns if circular else k
            for d in range(channels):
                held[d, column] = row[d]
