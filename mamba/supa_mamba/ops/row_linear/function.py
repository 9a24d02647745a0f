"""Linear layers whose result for a row does not depend on the other rows."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from supa_mamba.ops import backend
from supa_mamba.ops.compiled import array_of, run_rows
from supa_mamba.ops.operators import run_backend
from supa_mamba.ops.row_linear import compiled_kernels
from supa_mamba.ops.transforms import needs_plain_code


def row_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, use_silu: bool = False) -> Tensor:
    """Multiply rows by a matrix in a step of a generation, without gradients.

    On a CPU, and in float32 on a GPU, the bits of a row do not depend on the number of rows or on their order, so a
    sequence does not depend on the sequences that are generated beside it. PyTorch's product of matrices does not have
    this property. On a CPU it is faster for hundreds of rows and slower for a few. In other dtypes on a GPU, in half
    precision, on other devices, under autocast, and while a program is recorded, this function calls PyTorch's.

    Args:
        x: (M, K) rows.
        weight: (N, K) matrix.
        bias: (N,) bias, or None.
        use_silu: Whether to apply SiLU to the result.

    Returns:
        (M, N) results.

    Raises:
        ImportError: If Triton is required but not installed.
    """
    if torch.is_autocast_enabled(x.device.type) or not _runs_row_by_row(x, weight, bias):
        y = functional.linear(x, weight, bias)
        return functional.silu(y) if use_silu else y
    result: Tensor = run_backend(__package__, "multiply", x, x, weight, bias, use_silu)
    return result


def row_perceptron(x: Tensor, layers: nn.Sequential) -> Tensor:
    """Apply a perceptron with one hidden layer and SiLU in a step of a generation; see `row_linear`.

    Args:
        x: (M, K) rows.
        layers: A linear layer, SiLU and a linear layer.

    Returns:
        (M, N) results.
    """
    first, last = (layer for layer in layers if isinstance(layer, nn.Linear))
    return row_linear(row_linear(x, first.weight, first.bias, use_silu=True), last.weight, last.bias)


def gated_rows(x: Tensor) -> Tensor:
    """Multiply the first half of each row by SiLU of the second half, in a step of a generation.

    Args:
        x: (M, 2 N) rows.

    Returns:
        (M, N) results, whose bits do not depend on other rows under the conditions of `row_linear`.
    """
    if backend.is_cuda(x) or not _runs_row_by_row(x):
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


def _runs_row_by_row(x: Tensor, *others: Tensor | None) -> bool:
    """Return whether the kernel or the compiled loop supports the tensors."""
    if torch.compiler.is_compiling() or needs_plain_code(x, *others):
        return False
    if backend.is_cuda(x):
        dtypes: tuple[torch.dtype, ...] = (torch.float32,)
    else:
        dtypes = (torch.float32, torch.float64) if x.device.type == "cpu" else ()
    return all(v is None or (v.device == x.device and v.dtype in dtypes) for v in (x, *others))
