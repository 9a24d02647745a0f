"""Compiled loops of the causal convolution on a CPU, forward and backward.

The inner loops run over the channels, and the compiler vectorises them. An input that is missing has no rows.
"""

from typing import Any

import numpy as np

from supa.compiler import fast_kernel, fast_stage
from supa_mamba.ops.compiled_kernels import add, add_product, differentiate_silu
from supa_mamba.ops.compiled_math import sigmoid


@fast_stage
def _add_tap_of_state(w: Any, states: Any, column: int, y: Any) -> None:
    for d in range(len(y)):
        y[d] += w[d] * states[d, column]


@fast_stage
def _apply_silu(y: Any) -> None:
    for d in range(len(y)):
        y[d] *= sigmoid(y[d])


@fast_stage
def _go_back_to_state(grad: Any, w: Any, states: Any, column: int, w_grad: Any, state_grads: Any) -> None:
    for d in range(len(grad)):
        w_grad[d] += grad[d] * states[d, column]
        state_grads[d, column] += grad[d] * w[d]


@fast_stage
def _convolve(x: Any, weight: Any, bias: Any, initial: Any, begin: int, way: int, i: int, s: int, y: Any) -> None:
    """Compute the output of a row before SiLU. Row i of a sequence is ``begin + way * i``."""
    width = len(weight)
    y[:] = 0.0
    if len(bias) > 0:
        add(bias, y)
    for k in range(width):
        if i >= k:
            add_product(weight[width - 1 - k], x[begin + way * (i - k)], y)
        elif len(initial) > 0:
            _add_tap_of_state(weight[width - 1 - k], initial[s], width - 1 + i - k, y)


@fast_kernel
def conv_forward(
    x: Any, weight: Any, bias: Any, offset: Any, initial: Any, reverse: bool, use_silu: bool, first: int, last: int,
    y: Any, final: Any,
) -> None:  # fmt: skip
    """Convolve some sequences.

    Args:
        x: (T, D) input.
        weight: (W, D) kernel.
        bias: (D,) bias, or (0,).
        offset: (S + 1,) int64 offsets.
        initial: (S, D, W - 1) inputs before the first rows, or (0, D, W - 1) for zeros.
        reverse: Whether to process each sequence from its last row to its first.
        use_silu: Whether to apply SiLU.
        first: First sequence.
        last: Sequence after the last one.
        y: (T, D) output, which is written.
        final: (S, D, W - 1) last inputs, which are written, or (0, D, W - 1).
    """
    width, channels = weight.shape
    for s in range(first, last):
        start, end = offset[s], offset[s + 1]
        begin, way = (end - 1, -1) if reverse else (start, 1)
        for i in range(end - start):
            y_t = y[begin + way * i]
            _convolve(x, weight, bias, initial, begin, way, i, s, y_t)
            if use_silu:
                _apply_silu(y_t)
        if len(final) > 0:
            for column in range(width - 1):
                i = end - start - (width - 1) + column
                for d in range(channels):
                    if i >= 0:
                        final[s, d, column] = x[begin + way * i, d]
                    else:
                        final[s, d, column] = initial[s, d, width - 1 + i] if len(initial) > 0 else 0.0


@fast_kernel
def conv_backward(
    y_grad: Any, final_grad: Any, x: Any, weight: Any, bias: Any, offset: Any, initial: Any,
    reverse: bool, use_silu: bool, first: int, last: int,
    x_grad: Any, weight_grad: Any, bias_grad: Any, initial_grad: Any,
) -> None:  # fmt: skip
    """Compute the gradients of some sequences.

    Args:
        y_grad: (T, D) gradient of the output.
        final_grad: (S, D, W - 1) gradient of the last inputs, or (0, D, W - 1) for zeros.
        x: See `conv_forward`.
        weight: See `conv_forward`.
        bias: See `conv_forward`.
        offset: See `conv_forward`.
        initial: See `conv_forward`.
        reverse: See `conv_forward`.
        use_silu: See `conv_forward`.
        first: First sequence.
        last: Sequence after the last one.
        x_grad: (T, D) gradient, zeros before the call.
        weight_grad: (W, D) gradient of the kernel of these sequences, zeros before the call.
        bias_grad: (D,) gradient of the bias of these sequences, zeros before the call.
        initial_grad: (S, D, W - 1) gradient, zeros before the call, or (0, D, W - 1).
    """
    width, channels = weight.shape
    y, grad = np.empty(channels, weight.dtype), np.empty(channels, weight.dtype)
    for s in range(first, last):
        start, end = offset[s], offset[s + 1]
        begin, way = (end - 1, -1) if reverse else (start, 1)
        for i in range(end - start):
            grad[:] = y_grad[begin + way * i]
            if use_silu:
                _convolve(x, weight, bias, initial, begin, way, i, s, y)
                differentiate_silu(y, grad)
            add(grad, bias_grad)
            for k in range(width):
                w, w_grad = weight[width - 1 - k], weight_grad[width - 1 - k]
                if i >= k:
                    t = begin + way * (i - k)
                    add_product(grad, x[t], w_grad)
                    add_product(grad, w, x_grad[t])
                elif len(initial) > 0:
                    _go_back_to_state(grad, w, initial[s], width - 1 + i - k, w_grad, initial_grad[s])
        if len(final_grad) > 0:
            for column in range(width - 1):
                i = end - start - (width - 1) + column
                for d in range(channels):
                    if i >= 0:
                        x_grad[begin + way * i, d] += final_grad[s, d, column]
                    elif len(initial_grad) > 0:
                        initial_grad[s, d, width - 1 + i] += final_grad[s, d, column]
