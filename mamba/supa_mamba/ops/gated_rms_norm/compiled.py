"""Norm with a gate on a CPU in compiled loops."""

from typing import Any

import numpy as np
from torch import Tensor

from supa_mamba.ops.compiled import PARTS, array_of, run_parts, run_rows
from supa_mamba.ops.gated_rms_norm.compiled_kernels import norm_backward, norm_forward
from supa_mamba.ops.gated_rms_norm.inputs import GatedNormInputs, GatedNormOptions


def forward(inputs: GatedNormInputs, options: GatedNormOptions) -> Tensor:
    """Apply gate and norm."""
    x, weight = inputs.x, inputs.weight
    y = weight.new_empty(x.shape)
    given: list[Any] = [*(array_of(v, weight, ()) for v in inputs), *options]
    of_y = y.numpy()

    def run(first: int, last: int) -> None:
        arguments: list[Any] = [*given, first, last, of_y]
        norm_forward(*arguments)

    run_rows(run, *x.shape)
    return y.to(x.dtype)


def backward(y_grad: Tensor, inputs: GatedNormInputs, options: GatedNormOptions) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of x, gate and weight."""
    x, gate, weight = inputs
    x_grad, gate_grad = weight.new_empty(x.shape), weight.new_empty(x.shape)
    weight_parts = weight.new_zeros(PARTS, *weight.shape)
    given: list[Any] = [*(array_of(v, weight, ()) for v in (y_grad, *inputs)), *options]
    of_x, of_gate, of_weight = x_grad.numpy(), gate_grad.numpy(), weight_parts.numpy()

    def run(part: int, first: int, last: int) -> None:
        arguments: list[Any] = [*given, first, last, of_x, of_gate, of_weight[part]]
        norm_backward(*arguments)

    run_parts(run, np.arange(len(x) + 1), x.shape[1])
    return x_grad.to(x.dtype), gate_grad.to(gate.dtype), weight_parts.sum(0)
