"""Compiled loop of a linear layer on a CPU."""

from typing import Any

from supa.compiler import fast_kernel, fast_stage
from supa_mamba.ops.compiled_kernels import gate
from supa_mamba.ops.compiled_math import sigmoid


@fast_stage
def _silu(y: Any) -> None:
    for j in range(len(y)):
        y[j] *= sigmoid(y[j])


@fast_kernel
def gate_rows(x: Any, first: int, last: int, y: Any) -> None:
    """Multiply the first half of each row by SiLU of the second half.

    Args:
        x: (M, 2 N) rows.
        first: First row.
        last: Row after the last one.
        y: (M, N) results, which are written.
    """
    width = y.shape[1]
    for m in range(first, last):
        y[m, :] = x[m, :width]
        gate(x[m, width:], y[m])


@fast_kernel
def multiply_rows(x: Any, weight: Any, bias: Any, use_silu: bool, first: int, last: int, y: Any) -> None:
    """Multiply some rows by a matrix, add a bias, and apply an activation.

    A tile has two rows and four outputs. All tiles execute the same instructions: at a border, the last row and the
    last output are computed repeatedly. The bits of a row therefore do not depend on its place.

    Args:
        x: (M, K) rows.
        weight: (N, K) matrix.
        bias: (N,) bias.
        use_silu: Whether to apply SiLU.
        first: First row.
        last: Row after the last one.
        y: (M, N) results, which are written.
    """
    outputs, features = weight.shape
    zero = x.dtype.type(0)
    for m in range(first, last, 2):
        n = min(m + 1, last - 1)
        x0, x1, y0, y1 = x[m], x[n], y[m], y[n]
        for j in range(0, outputs, 4):
            j1, j2, j3 = min(j + 1, outputs - 1), min(j + 2, outputs - 1), min(j + 3, outputs - 1)
            w0, w1, w2, w3 = weight[j], weight[j1], weight[j2], weight[j3]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero
            for k in range(features):
                a0 += x0[k] * w0[k]
                a1 += x0[k] * w1[k]
                a2 += x0[k] * w2[k]
                a3 += x0[k] * w3[k]
                b0 += x1[k] * w0[k]
                b1 += x1[k] * w1[k]
                b2 += x1[k] * w2[k]
                b3 += x1[k] * w3[k]
            y0[j], y0[j1], y0[j2], y0[j3] = a0 + bias[j], a1 + bias[j1], a2 + bias[j2], a3 + bias[j3]
            y1[j], y1[j1], y1[j2], y1[j3] = b0 + bias[j], b1 + bias[j1], b2 + bias[j2], b3 + bias[j3]
        if use_silu:
            _silu(y0)
            if n > m:
                _silu(y1)
