"""Linear layers whose result for a row does not depend on the other rows."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.ops.compiled import array_of, run_rows
from supa_mamba.ops.row_linear.compiled_kernels import multiply_rows
from supa_mamba.ops.transforms import needs_plain_code


def row_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, use_silu: bool = False) -> Tensor:
    """Multiply rows by a matrix in a step of a generation, without gradients.

    On a CPU, the bits of a row do not depend on the number of rows or on their order, so a sequence does not depend on
    the sequences that are generated beside it. PyTorch's product of matrices does not have this property. It is faster
    for hundreds of rows, and slower for a few. On other devices, in half precision, under autocast, and while a
    program is recorded, this function calls PyTorch's.

    Args:
        x: (M, K) rows.
        weight: (N, K) matrix.
        bias: (N,) bias, or None.
        use_silu: Whether to apply SiLU to the results.

    Returns:
        (M, N) results.
    """
    plain = x.is_cuda or weight.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(x.device.type)
    if plain or torch.compiler.is_compiling() or needs_plain_code(x, weight, bias):
        y = functional.linear(x, weight, bias)
        return functional.silu(y) if use_silu else y
    y = weight.new_empty(x.shape[0], weight.shape[0])
    shift = weight.new_zeros(weight.shape[0]) if bias is None else bias
    given: list[Any] = [array_of(tensor, weight, ()) for tensor in (x, weight, shift)]
    of_y = y.numpy()

    def run(first: int, last: int) -> None:
        arguments: list[Any] = [*given, use_silu, first, last, of_y]
        multiply_rows(*arguments)

    run_rows(run, x.shape[0], weight.numel())
    return y


def step_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer in a step of a generation, without gradients.

    Args:
        layer: A layer of PyTorch, for which `row_linear` is used, or another module in its place.
        x: (M, K) rows.

    Returns:
        (M, N) results.
    """
    # A subclass, a hook or a parametrisation may do something else.
    if type(layer) is nn.Linear and not layer._forward_hooks and not layer._forward_pre_hooks:
        return row_linear(x, layer.weight, layer.bias)
    y: Tensor = layer(x)
    return y
