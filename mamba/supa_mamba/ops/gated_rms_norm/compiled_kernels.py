"""Compiled loops of the norm with a gate on a CPU, forward and backward. Each row is read once."""

from typing import Any

import numpy as np

from supa.compiler import fast_kernel, fast_stage
from supa_mamba.ops.compiled_kernels import gate as apply_gate
from supa_mamba.ops.compiled_math import sigmoid


@fast_stage
def _inverse_rms(v: Any, eps: float) -> Any:
    """Return 1 / sqrt(mean(v^2) + eps)."""
    total = v.dtype.type(0)
    for d in range(len(v)):
        total += v[d] * v[d]
    return v.dtype.type(1) / np.sqrt(total / v.dtype.type(len(v)) + v.dtype.type(eps))


@fast_stage
def _scale(v: Any, scale: Any, weight: Any, y: Any) -> None:
    for d in range(len(y)):
        y[d] = v[d] * scale * weight[d]


@fast_stage
def _open(z: Any, factor: Any, slope: Any) -> None:
    """Compute SiLU of the gate, and its derivative."""
    one = z.dtype.type(1)  # Numba would convert the result of a float32 and an integer to float64
    for d in range(len(z)):
        opened = sigmoid(z[d])
        factor[d] = z[d] * opened
        slope[d] = opened * (one + z[d] * (one - opened))


@fast_stage
def _gate_first(
    y_grad: Any, x: Any, weight: Any, eps: float, factor: Any, slope: Any, v: Any, x_grad: Any, z_grad: Any, w_grad: Any
) -> None:
    for d in range(len(x)):
        v[d] = x[d] * factor[d]
    scale, total = _inverse_rms(v, eps), v.dtype.type(0)
    for d in range(len(x)):
        total += y_grad[d] * weight[d] * v[d]
    for d in range(len(x)):
        w_grad[d] += y_grad[d] * v[d] * scale
    mean = total * scale * scale / v.dtype.type(len(x))
    for d in range(len(x)):
        grad = scale * (y_grad[d] * weight[d] - v[d] * mean)
        x_grad[d] = grad * factor[d]
        z_grad[d] = grad * x[d] * slope[d]


@fast_stage
def _norm_first(
    y_grad: Any, x: Any, weight: Any, eps: float, factor: Any, slope: Any, v: Any, x_grad: Any, z_grad: Any, w_grad: Any
) -> None:
    scale, total = _inverse_rms(x, eps), v.dtype.type(0)
    for d in range(len(x)):
        v[d] = y_grad[d] * factor[d]
        total += v[d] * weight[d] * x[d]
    for d in range(len(x)):
        w_grad[d] += v[d] * x[d] * scale
    mean = total * scale * scale / v.dtype.type(len(x))
    for d in range(len(x)):
        x_grad[d] = scale * (v[d] * weight[d] - x[d] * mean)
        z_grad[d] = y_grad[d] * slope[d]
    for d in range(len(x)):
        z_grad[d] *= weight[d] * x[d] * scale


@fast_kernel
def norm_forward(
    x: Any, gate: Any, weight: Any, groups: int, eps: float, norm_before_gate: bool, first: int, last: int, y: Any
) -> None:
    """Apply gate and norm to some rows.

    Args:
        x: (T, C) rows.
        gate: (T, C) gate before SiLU.
        weight: (C,) weight.
        groups: Number of groups of channels.
        eps: Value added to the mean square.
        norm_before_gate: Whether to apply the gate after the norm instead of before it.
        first: First row.
        last: Row after the last one.
        y: (T, C) output, which is written.
    """
    width = x.shape[1] // groups
    gated = np.empty(width, x.dtype)
    for t in range(first, last):
        for left in range(0, x.shape[1], width):
            x_t, z_t, y_t = x[t, left : left + width], gate[t, left : left + width], y[t, left : left + width]
            if norm_before_gate:
                _scale(x_t, _inverse_rms(x_t, eps), weight[left : left + width], y_t)
                apply_gate(z_t, y_t)
            else:
                gated[:] = x_t
                apply_gate(z_t, gated)
                _scale(gated, _inverse_rms(gated, eps), weight[left : left + width], y_t)


@fast_kernel
def norm_backward(
    y_grad: Any, x: Any, gate: Any, weight: Any, groups: int, eps: float, norm_before_gate: bool, first: int, last: int,
    x_grad: Any, gate_grad: Any, weight_grad: Any,
) -> None:  # fmt: skip
    """Compute the gradients of some rows.

    Args:
        y_grad: (T, C) gradient of the output.
        x: See `norm_forward`.
        gate: See `norm_forward`.
        weight: See `norm_forward`.
        groups: See `norm_forward`.
        eps: See `norm_forward`.
        norm_before_gate: See `norm_forward`.
        first: See `norm_forward`.
        last: See `norm_forward`.
        x_grad: (T, C) gradient, which is written.
        gate_grad: (T, C) gradient, which is written.
        weight_grad: (C,) gradient of the weight of these rows, zeros before the call.
    """
    width = x.shape[1] // groups
    factor, slope, v = np.empty(width, x.dtype), np.empty(width, x.dtype), np.empty(width, x.dtype)
    for t in range(first, last):
        for left in range(0, x.shape[1], width):
            right = left + width
            x_t, w, w_grad = x[t, left:right], weight[left:right], weight_grad[left:right]
            grad, x_grad_t, z_grad_t = y_grad[t, left:right], x_grad[t, left:right], gate_grad[t, left:right]
            _open(gate[t, left:right], factor, slope)
            if norm_before_gate:
                _norm_first(grad, x_t, w, eps, factor, slope, v, x_grad_t, z_grad_t, w_grad)
            else:
                _gate_first(grad, x_t, w, eps, factor, slope, v, x_grad_t, z_grad_t, w_grad)
