"""Linear layers whose result for a row does not depend on the other rows."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.ops.compiled import array_of, run_rows
from supa_mamba.ops.row_linear import compiled_kernels
from supa_mamba.ops.transforms import needs_plain_code


def row_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply rows by a matrix in a step of a generation, without gradients.

    On a CPU, the bits of a row do not depend on the number of rows or on their order, so a sequence does not depend on
    the sequences that are generated beside it. PyTorch's product of matrices, which does not have this property,
    is faster for hundreds of rows and slower for a few. On other devices, in half precision, under autocast, and while
    a program is recorded, this function calls PyTorch's.

    Args:
        x: (M, K) rows.
        weight: (N, K) matrix.
        bias: (N,) bias, or None.

    Returns:
        (M, N) results.
    """
    if torch.is_autocast_enabled(x.device.type) or not _runs_compiled(x, weight, bias):
        return functional.linear(x, weight, bias)
    y = weight.new_empty(x.shape[0], weight.shape[0])
    shift = weight.new_zeros(weight.shape[0]) if bias is None else bias
    given: list[Any] = [array_of(tensor, weight, ()) for tensor in (x, weight, shift)]
    of_y = y.numpy()

    def run(first: int, last: int) -> None:
        arguments: list[Any] = [*given, False, first, last, of_y]
        compiled_kernels.multiply_rows(*arguments)

    run_rows(run, x.shape[0], weight.numel())
    return y


def gated_rows(x: Tensor) -> Tensor:
    """Multiply the first half of each row by SiLU of the second half, in a step of a generation.

    Args:
        x: (M, 2 N) rows.

    Returns:
        (M, N) results, whose bits do not depend on other rows under the conditions of `row_linear`.
    """
    if not _runs_compiled(x):
        a, b = x.chunk(2, dim=-1)
        return a * functional.silu(b)
    y = x.new_empty(x.shape[0], x.shape[1] // 2)
    given: Any = array_of(x, x, ())
    of_y: Any = y.numpy()
    run_rows(lambda first, last: compiled_kernels.gate_rows(given, first, last, of_y), *x.shape)
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


def _runs_compiled(*given: Tensor | None) -> bool:
    if torch.compiler.is_compiling() or needs_plain_code(*given):
        return False
    return all(x is None or (x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)) for x in given)
